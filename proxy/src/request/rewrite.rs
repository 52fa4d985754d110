//! What a route's words for paths and headers do to a message, and the answers that a route gives itself (redirects,
//! fixed responses).

use super::Request;
use crate::{
    body::ResponseBody,
    error::{Error, Kind},
    stage::Response,
    state::{Route, RouteAction},
};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use std::borrow::Cow;
use weir_config::model::{HeaderMutation, HeaderMutations, PathMatch, PathRewrite, Redirect};

/// The answer that a route gives itself; `None` where it forwards.
pub fn answer(request: &Request, route: &Route) -> Option<Result<Response, Error>> {
    let mut response = match &route.action {
        RouteAction::Forward(_) => return None,
        RouteAction::Redirect(redirect) => match redirected(request, route, redirect) {
            Ok(response) => response,
            Err(error) => return Some(Err(error)),
        },
        RouteAction::Respond(status, body) => {
            let mut response = Response::new(ResponseBody::full(body.clone()));
            *response.status_mut() = *status;
            response
        }
    };
    mutate(response.headers_mut(), &route.response_headers);
    Some(Ok(response))
}

/// Applies header changes, in their order.
pub fn mutate(headers: &mut HeaderMap, mutations: &HeaderMutations) {
    for mutation in &mutations.mutations {
        match mutation {
            HeaderMutation::Set(name, value) => {
                headers.insert(name.clone(), value.clone());
            }
            HeaderMutation::Add(name, value) => {
                headers.append(name.clone(), value.clone());
            }
            HeaderMutation::Remove(name) => {
                headers.remove(name);
            }
        }
    }
}

/// A path, rewritten.
pub fn new_path<'p>(path: &'p str, matched: &PathMatch, rewrite: &'p PathRewrite) -> Cow<'p, str> {
    match rewrite {
        PathRewrite::Full(text) => Cow::Borrowed(text),
        PathRewrite::Regex { pattern, substitution } => pattern.replace(path, substitution),
        PathRewrite::Prefix(with) => {
            let prefix = match matched {
                PathMatch::Exact(p) | PathMatch::Prefix(p) | PathMatch::Segments(p) => p.as_str(),
                PathMatch::Regex(_) => return Cow::Borrowed(path),
            };
            let rest = path.strip_prefix(prefix).unwrap_or(path);
            // Gateway API: `/foo` → `/` of `/foo/bar` gives `/bar`, of `/foo` gives `/`.
            let joined = match (with.ends_with('/'), rest.starts_with('/')) {
                (true, true) => format!("{with}{}", &rest[1..]),
                (false, false) if !rest.is_empty() && matches!(matched, PathMatch::Segments(_)) => {
                    format!("{with}/{rest}")
                }
                _ => format!("{with}{rest}"),
            };
            if joined.is_empty() { Cow::Borrowed("/") } else { Cow::Owned(joined) }
        }
    }
}

static LOCATION: HeaderName = header::LOCATION;

fn redirected(request: &Request, route: &Route, redirect: &Redirect) -> Result<Response, Error> {
    let scheme = redirect.scheme.as_ref().map_or("http", http::uri::Scheme::as_str);
    let (host, port) = match request.authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => (host, Some(port)),
        _ => (&*request.authority, None),
    };
    let host = redirect.host.as_deref().unwrap_or(host);
    // Another scheme has another default port: the old one is not kept (Gateway API, HTTPRequestRedirectFilter.port).
    let port = match redirect.port {
        Some(port) => Some(port.to_string()),
        None if redirect.scheme.is_some() => None,
        None => port.map(str::to_owned),
    };
    let port = port.filter(|p| !matches!((scheme, p.as_str()), ("http", "80") | ("https", "443")));
    let path = match &redirect.path {
        Some(rewrite) => new_path(request.parts.uri.path(), &route.matches.path, rewrite),
        None => Cow::Borrowed(request.parts.uri.path()),
    };
    let mut location = format!("{scheme}://{host}");
    if let Some(port) = port {
        location.push(':');
        location.push_str(&port);
    }
    location.push_str(&path);
    if let Some(query) = request.parts.uri.query() {
        location.push('?');
        location.push_str(query);
    }
    let mut response = Response::new(ResponseBody::empty());
    *response.status_mut() = redirect.status;
    let value = HeaderValue::try_from(location).map_err(|e| Kind::BadRequest.because(e))?;
    response.headers_mut().insert(LOCATION.clone(), value);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_replaced_as_the_gateway_api_says() {
        let segments = |s: &str| PathMatch::Segments(s.into());
        for (path, matched, with, expected) in [
            ("/foo/bar", segments("/foo"), "/xyz", "/xyz/bar"),
            ("/foo/bar", segments("/foo"), "/xyz/", "/xyz/bar"),
            ("/foo/bar", segments("/foo"), "/", "/bar"),
            ("/foo", segments("/foo"), "/xyz", "/xyz"),
            ("/foo", segments("/foo"), "/", "/"),
            ("/foo/", segments("/foo"), "/xyz", "/xyz/"),
            ("/foo/bar", PathMatch::Prefix("/".into()), "/xyz/", "/xyz/foo/bar"),
        ] {
            assert_eq!(new_path(path, &matched, &PathRewrite::Prefix(with.into())), expected, "{path} {with}");
        }
    }
}
