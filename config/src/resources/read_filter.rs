//! Reads the filters of a route rule or of one of its backends.

use super::{
    Filters,
    node::Node,
    read::{Fields, Reader, nearest, shorten},
    read_match::plain_path,
};
use crate::model::{HeaderMutation, HeaderMutations, HostRewrite, PathRewrite, Redirect};
use http::{HeaderName, HeaderValue, StatusCode, uri::Scheme};

/// Where filters stand: not every filter may stand everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    HttpRule,
    GrpcRule,
    Backend,
}

const HEADERS: [&str; 2] = ["RequestHeaderModifier", "ResponseHeaderModifier"];
const ALL: [&str; 4] = ["RequestHeaderModifier", "ResponseHeaderModifier", "RequestRedirect", "URLRewrite"];
/// Of the Gateway API, and not (yet) of Weir, with what to do instead.
const ABSENT: [(&str, &str); 4] = [
    ("RequestMirror", "remove it; to try a new version with real requests, give its backend a small weight"),
    ("CORS", "let the application answer preflight requests"),
    ("ExternalAuth", "use an AuthorizationPolicy"),
    ("ExtensionRef", "use a TrafficPolicy or an AuthorizationPolicy"),
];
/// What frames or routes a message, and what belongs to one connection alone (RFC 9110 §7.6.1).
const FORBIDDEN: [&str; 10] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "upgrade",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "proxy-authenticate",
];

pub(super) fn filters(r: &mut Reader, node: &Node, place: Place) -> Option<Filters> {
    let mut filters = Filters::default();
    let mut seen: Vec<&str> = vec![];
    r.list(node, |r, n, _| {
        let mut f = r.fields(n)?;
        let kind = f.required(r, "type", |r, n| known(r, n, place))?;
        if seen.contains(&kind) {
            r.issue(n, format!("{kind} stands here twice"), Some("merge the two".into()));
        }
        seen.push(kind);
        one(r, &mut f, kind, &mut filters);
        f.close(r);
        Some(())
    })?;
    if filters.redirect.is_some() && (filters.host.is_some() || filters.path.is_some()) {
        let remedy = Some("rewrite inside the redirect".into());
        r.issue(node, "RequestRedirect and URLRewrite do not go together", remedy);
    }
    Some(filters)
}

fn known(r: &mut Reader, node: &Node, place: Place) -> Option<&'static str> {
    let text = r.text(node)?;
    let here: &[&'static str] = if place == Place::HttpRule { &ALL } else { &HEADERS };
    if let Some(kind) = here.iter().find(|k| **k == text) {
        return Some(kind);
    }
    let (message, remedy) = if let Some((_, remedy)) = ABSENT.iter().find(|(name, _)| *name == text) {
        (format!("the filter `{text}` is not supported"), (*remedy).to_owned())
    } else if ALL.contains(&text) {
        let what = if place == Place::Backend { "a backend" } else { "a GRPCRoute" };
        (format!("the filter `{text}` has no place in {what}"), format!("one of {}", here.join(", ")))
    } else {
        let remedy =
            nearest(text, here).map_or(format!("one of {}", here.join(", ")), |k| format!("did you mean `{k}`?"));
        (format!("`{}` is not a filter", shorten(text)), remedy)
    };
    r.issue(node, message, Some(remedy));
    None
}

fn one(r: &mut Reader, f: &mut Fields<'_>, kind: &str, filters: &mut Filters) {
    match kind {
        "RequestHeaderModifier" => {
            if let Some(m) = f.required(r, "requestHeaderModifier", modifier) {
                filters.request_headers = m;
            }
        }
        "ResponseHeaderModifier" => {
            if let Some(m) = f.required(r, "responseHeaderModifier", modifier) {
                filters.response_headers = m;
            }
        }
        "RequestRedirect" => filters.redirect = f.required(r, "requestRedirect", redirect),
        _ => {
            f.required(r, "urlRewrite", |r, n| rewrite(r, n, filters));
        }
    }
}

fn modifier(r: &mut Reader, node: &Node) -> Option<HeaderMutations> {
    let mut f = r.fields(node)?;
    let mut seen: Vec<HeaderName> = vec![];
    let remove = f.optional(r, "remove", |r, n| r.list(n, |r, n, _| name(r, n, &mut seen)));
    let set = f.optional(r, "set", |r, n| r.list(n, |r, n, _| pair(r, n, &mut seen)));
    let add = f.optional(r, "add", |r, n| r.list(n, |r, n, _| pair(r, n, &mut seen)));
    f.close(r);
    let remove = remove.into_iter().flatten().map(HeaderMutation::Remove);
    let set = set.into_iter().flatten().map(|(n, v)| HeaderMutation::Set(n, v));
    let add = add.into_iter().flatten().map(|(n, v)| HeaderMutation::Add(n, v));
    Some(HeaderMutations { mutations: remove.chain(set).chain(add).collect() })
}

fn pair(r: &mut Reader, node: &Node, seen: &mut Vec<HeaderName>) -> Option<(HeaderName, HeaderValue)> {
    let mut f = r.fields(node)?;
    let name = f.required(r, "name", |r, n| name(r, n, seen));
    let value = f.required(r, "value", Reader::header_value);
    f.close(r);
    Some((name?, value?))
}

fn name(r: &mut Reader, node: &Node, seen: &mut Vec<HeaderName>) -> Option<HeaderName> {
    let name = r.header_name(node)?;
    if FORBIDDEN.contains(&name.as_str()) {
        let remedy = if name == http::header::HOST {
            "use the filter URLRewrite with `hostname`"
        } else {
            "the proxy writes it, since it frames the message or belongs to one connection"
        };
        r.issue(node, format!("the header `{name}` may not be changed"), Some(remedy.into()));
        return None;
    }
    if seen.contains(&name) {
        r.issue(node, format!("the header `{name}` is changed twice"), Some("keep one of the changes".into()));
    }
    seen.push(name.clone());
    Some(name)
}

fn rewrite(r: &mut Reader, node: &Node, filters: &mut Filters) -> Option<()> {
    let mut f = r.fields(node)?;
    let host = f.optional(r, "hostname", Reader::name);
    filters.host = host.and_then(|h| HeaderValue::from_str(&h).ok()).map(HostRewrite::Literal);
    filters.path = f.optional(r, "path", new_path);
    if f.find("hostname").is_none() && f.find("path").is_none() {
        r.issue(node, "this rewrites nothing", Some("add `hostname:` or `path:`".into()));
    }
    f.close(r);
    Some(())
}

fn redirect(r: &mut Reader, node: &Node) -> Option<Redirect> {
    let schemes = [("http", "http"), ("https", "https")];
    let mut f = r.fields(node)?;
    let scheme = f.optional(r, "scheme", |r, n| r.word(n, &schemes));
    let redirect = Redirect {
        status: f.optional(r, "statusCode", status).unwrap_or(StatusCode::FOUND),
        scheme: scheme.map(|s| if s == "https" { Scheme::HTTPS } else { Scheme::HTTP }),
        host: f.optional(r, "hostname", Reader::name),
        port: f.optional(r, "port", Reader::port),
        path: f.optional(r, "path", new_path),
    };
    f.close(r);
    Some(redirect)
}

fn status(r: &mut Reader, node: &Node) -> Option<StatusCode> {
    let code = r.whole(node, 300, 399)?;
    if [301, 302, 303, 307, 308].contains(&code) {
        return u16::try_from(code).ok().and_then(|c| StatusCode::from_u16(c).ok());
    }
    r.issue(node, format!("{code} is not a redirect to another place"), Some("301, 302, 303, 307 or 308".into()));
    None
}

fn new_path(r: &mut Reader, node: &Node) -> Option<PathRewrite> {
    let words = [("ReplaceFullPath", true), ("ReplacePrefixMatch", false)];
    let mut f = r.fields(node)?;
    let full = f.required(r, "type", |r, n| r.word(n, &words))?;
    let path = if full {
        f.required(r, "replaceFullPath", plain_path).map(PathRewrite::Full)
    } else {
        f.required(r, "replacePrefixMatch", plain_path).map(PathRewrite::Prefix)
    };
    f.close(r);
    path
}
