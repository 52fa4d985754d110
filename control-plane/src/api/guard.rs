//! Who may use the REST API, and for how long: the admin token, web pages kept out, a limit of time per request.

use super::{Api, fleet::MAX_WAIT, problem::ApiError};
use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode, header, uri::Authority};
use std::{net::IpAddr, time::Duration};

/// A request that takes longer is given up; a wait for a change has its own limit.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Lets through what may pass.
pub(super) async fn guard(State(api): State<Api>, request: Request, next: Next) -> Response {
    if let Err(refusal) = admit(api.admin_token.as_deref(), request.headers()) {
        return refusal.into_response();
    }
    let waits = request.uri().path().starts_with("/api/v1/changes/");
    let limit = if waits { MAX_WAIT + TIMEOUT } else { TIMEOUT };
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let status = StatusCode::SERVICE_UNAVAILABLE;
            ApiError::new(status, "timeout", "The control plane is too slow", "try it again in a moment")
                .into_response()
        }
    }
}

/// With a token, the token decides. Without one (loopback only) a web page in the operator's browser must not be able to
/// use the API: neither from its own origin, nor by pointing a name of its own at 127.0.0.1.
fn admit(token: Option<&str>, headers: &HeaderMap) -> Result<(), ApiError> {
    if let Some(token) = token {
        let given = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let given = given.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, t)| t);
        return match given {
            Some(given) if same(given.trim(), token) => Ok(()),
            _ => Err(ApiError::new(
                StatusCode::UNAUTHORIZED,
                "unauthorized",
                "The admin token is needed",
                "send `Authorization: Bearer <token>` with the token that the control plane was started with",
            )),
        };
    }
    let host = headers.get(header::HOST).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let foreign_origin = headers.get(header::ORIGIN).is_some_and(|o| {
        o.to_str().ok().and_then(|o| o.strip_prefix("http://")).is_none_or(|o| !o.eq_ignore_ascii_case(host))
    });
    if local(host) && !foreign_origin {
        return Ok(());
    }
    Err(ApiError::new(
        StatusCode::FORBIDDEN,
        "foreign-origin",
        "Not from a web page",
        "without an admin token the API answers only to this machine by its address or as localhost, and to no web page",
    ))
}

/// Whether a `Host` is `localhost` or an address (a name could be anybody's).
fn local(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

/// Compares in a time that does not depend on where they differ.
fn same(given: &str, token: &str) -> bool {
    blake3::hash(given.as_bytes()) == blake3::hash(token.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(token: Option<&str>, headers: &[(&'static str, &str)]) -> bool {
        let headers = headers.iter().map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap())).collect();
        admit(token, &headers).is_ok()
    }

    #[test]
    fn the_token_decides() {
        assert!(admitted(Some("t0ken"), &[("authorization", "Bearer t0ken"), ("host", "mesh.example")]));
        assert!(admitted(Some("t0ken"), &[("authorization", "bearer t0ken")]));
        assert!(!admitted(Some("t0ken"), &[("authorization", "Bearer other"), ("host", "127.0.0.1")]));
        assert!(!admitted(Some("t0ken"), &[("authorization", "Basic t0ken")]));
        assert!(!admitted(Some("t0ken"), &[("host", "127.0.0.1")]));
    }

    #[test]
    fn without_a_token_web_pages_stay_out() {
        for host in ["127.0.0.1:15015", "localhost:15015", "[::1]:15015"] {
            assert!(admitted(None, &[("host", host)]), "{host}");
        }
        assert!(!admitted(None, &[("host", "evil.example:15015")]), "a name pointed at loopback");
        assert!(!admitted(None, &[("host", "127.0.0.1:15015"), ("origin", "http://evil.example")]));
        assert!(!admitted(None, &[("host", "127.0.0.1:15015"), ("origin", "null")]));
        assert!(admitted(None, &[("host", "127.0.0.1:15015"), ("origin", "http://127.0.0.1:15015")]), "our own page");
        assert!(!admitted(None, &[]));
    }
}
