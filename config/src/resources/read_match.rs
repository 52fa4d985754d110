//! Reads what a route rule matches: paths, headers, query parameters, methods; gRPC services and methods.

use super::{
    node::Node,
    read::{Reader, nearest, shorten},
};
use crate::model::{HeaderMatch, HeaderPredicate, PathMatch, QueryMatch, RouteMatch, SafeRegex, StringMatch};
use http::Method;

#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Exact,
    Prefix,
    Regex,
}

const TEXTS: [(&str, How); 2] = [("Exact", How::Exact), ("RegularExpression", How::Regex)];
const PATHS: [(&str, How); 3] = [("Exact", How::Exact), ("PathPrefix", How::Prefix), ("RegularExpression", How::Regex)];
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"];

/// A match of an HTTPRoute.
pub(super) fn http(r: &mut Reader, node: &Node) -> Option<RouteMatch> {
    let mut f = r.fields(node)?;
    let path = f.optional(r, "path", path);
    let method = f.optional(r, "method", method);
    let headers = f.optional(r, "headers", headers).unwrap_or_default();
    let query = f.optional(r, "queryParams", query).unwrap_or_default();
    f.close(r);
    let path = path.unwrap_or_else(|| PathMatch::Prefix("/".into()));
    Some(RouteMatch { path, method, headers, query, grpc: false })
}

/// A match of a GRPCRoute.
pub(super) fn grpc(r: &mut Reader, node: &Node) -> Option<RouteMatch> {
    let mut f = r.fields(node)?;
    let path = f.optional(r, "method", grpc_method);
    let headers = f.optional(r, "headers", headers).unwrap_or_default();
    f.close(r);
    let path = path.unwrap_or_else(|| PathMatch::Prefix("/".into()));
    Some(RouteMatch { path, method: None, headers, query: vec![], grpc: true })
}

fn path(r: &mut Reader, node: &Node) -> Option<PathMatch> {
    let mut f = r.fields(node)?;
    let how = f.optional(r, "type", |r, n| r.word(n, &PATHS)).unwrap_or(How::Prefix);
    let value = f.optional(r, "value", |r, n| match how {
        How::Exact => plain_path(r, n).map(PathMatch::Exact),
        How::Prefix => plain_path(r, n).map(segments),
        How::Regex => r.pattern(n).map(PathMatch::Regex),
    });
    if how != How::Prefix && f.find("value").is_none() {
        r.within("value", |r| r.issue(node, "this field is required", Some("add `value:`".into())));
    }
    f.close(r);
    Some(value.unwrap_or_else(|| PathMatch::Prefix("/".into())))
}

fn segments(path: String) -> PathMatch {
    match path.trim_end_matches('/') {
        "" => PathMatch::Prefix("/".into()),
        path => PathMatch::Segments(path.into()),
    }
}

/// A path as the Gateway API takes it: absolute, without anything that a server might take for another path.
pub(super) fn plain_path(r: &mut Reader, node: &Node) -> Option<String> {
    let text = r.words(node, 1024)?;
    let lower = text.to_ascii_lowercase();
    let has = |part: &&&str| lower.contains(**part);
    let ends = |part: &&&str| lower.ends_with(**part);
    let wrong = ["//", "/./", "/../", "%2f", "#", "?"].iter().find(has).or(["/..", "/."].iter().find(ends));
    let issue = if !text.starts_with('/') {
        Some(("a path starts with `/`".to_owned(), format!("write `/{}`", shorten(&text))))
    } else if let Some(part) = wrong {
        Some((format!("a path here may not have `{part}`"), "write it without; a query has its own matches".into()))
    } else if http::uri::PathAndQuery::try_from(text.as_str()).is_err() {
        Some(("this is not a path".into(), "escape other than visible ASCII characters with `%`".into()))
    } else {
        None
    };
    let Some((message, remedy)) = issue else { return Some(text) };
    r.issue(node, message, Some(remedy));
    None
}

pub(super) fn method(r: &mut Reader, node: &Node) -> Option<Method> {
    let text = r.text(node)?;
    if let Some(method) = METHODS.iter().find(|m| **m == text) {
        return Method::from_bytes(method.as_bytes()).ok();
    }
    let remedy = match nearest(text, &METHODS) {
        Some(method) => format!("did you mean `{method}`?"),
        None => format!("one of {}", METHODS.join(", ")),
    };
    r.issue(node, format!("`{}` is not a method", shorten(text)), Some(remedy));
    None
}

fn headers(r: &mut Reader, node: &Node) -> Option<Vec<HeaderMatch>> {
    let mut seen = vec![];
    r.list(node, |r, n, _| {
        let mut f = r.fields(n)?;
        let name = f.required(r, "name", Reader::header_name);
        let how = f.optional(r, "type", |r, n| r.word(n, &TEXTS)).unwrap_or(How::Exact);
        let value = f.required(r, "value", |r, n| text_match(r, n, how));
        f.close(r);
        let (name, value) = (name?, value?);
        if seen.contains(&name) {
            r.issue(n, format!("the header `{name}` stands here twice"), Some("write one match for it".into()));
        }
        seen.push(name.clone());
        Some(HeaderMatch { name, predicate: HeaderPredicate::Value(value), invert: false })
    })
}

fn query(r: &mut Reader, node: &Node) -> Option<Vec<QueryMatch>> {
    let mut seen: Vec<String> = vec![];
    r.list(node, |r, n, _| {
        let mut f = r.fields(n)?;
        let name = f.required(r, "name", |r, n| r.words(n, 256));
        let how = f.optional(r, "type", |r, n| r.word(n, &TEXTS)).unwrap_or(How::Exact);
        let value = f.required(r, "value", |r, n| text_match(r, n, how));
        f.close(r);
        let (name, value) = (name?, value?);
        if seen.contains(&name) {
            let message = format!("the parameter `{}` stands here twice", shorten(&name));
            r.issue(n, message, Some("write one match for it".into()));
        }
        seen.push(name.clone());
        Some(QueryMatch { name, value })
    })
}

fn text_match(r: &mut Reader, node: &Node, how: How) -> Option<StringMatch> {
    if how == How::Regex {
        r.pattern(node).map(StringMatch::Regex)
    } else {
        r.words(node, 4096).map(StringMatch::Exact)
    }
}

fn grpc_method(r: &mut Reader, node: &Node) -> Option<PathMatch> {
    let mut f = r.fields(node)?;
    let how = f.optional(r, "type", |r, n| r.word(n, &TEXTS)).unwrap_or(How::Exact);
    let part = |r: &mut Reader, n: &Node| match how {
        How::Regex => r.pattern(n).map(|p| p.pattern().to_owned()),
        _ => grpc_name(r, n),
    };
    let service = f.optional(r, "service", part);
    let method = f.optional(r, "method", part);
    if f.find("service").is_none() && f.find("method").is_none() {
        r.issue(node, "this names neither a service nor a method", Some("add `service:`, `method:` or both".into()));
    }
    f.close(r);
    let quote = |text: String| if how == How::Regex { format!("(?:{text})") } else { regex::escape(&text) };
    let pattern = match (service, method) {
        (Some(s), Some(m)) if how == How::Exact => return Some(PathMatch::Exact(format!("/{s}/{m}"))),
        (Some(s), None) if how == How::Exact => return Some(PathMatch::Prefix(format!("/{s}/"))),
        (Some(s), m) => format!("/{}/{}", quote(s), m.map_or_else(|| "[^/]+".into(), quote)),
        (None, Some(m)) => format!("/[^/]+/{}", quote(m)),
        (None, None) => return None,
    };
    match SafeRegex::new(pattern) {
        Ok(regex) => Some(PathMatch::Regex(regex)),
        Err(e) => {
            r.issue(node, e.to_string(), Some("write a simpler pattern".into()));
            None
        }
    }
}

/// The full name of a gRPC service, or the name of a method.
fn grpc_name(r: &mut Reader, node: &Node) -> Option<String> {
    let text = r.words(node, 1024)?;
    if text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._".contains(&b)) {
        return Some(text);
    }
    let remedy = "letters, digits, `_` and `.`, as in `media.v1.Catalog`; no `/`";
    r.issue(node, format!("`{}` is not a gRPC name", shorten(&text)), Some(remedy.into()));
    None
}
