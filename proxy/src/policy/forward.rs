//! To the endpoint and back: the message is given the form that its next hop speaks, and the response is cleaned of what
//! belongs to the hop it came over.

use crate::{
    body::Body,
    error::{Kind, Result},
    logic::grpc_timeout,
    request::{Attempt, AttemptFailed, Fields, Placed, remove_hop_by_hop},
    stage::{Response, Stage},
};
use http::{
    HeaderName, HeaderValue, Request, StatusCode, Uri, Version,
    header::{self, HOST},
    uri::{Authority, PathAndQuery, Scheme},
};
use std::time::Duration;
use tokio::time::Instant;
use weir_config::model::Protocol;

/// Sends one try to its endpoint.
pub struct Forward;

impl Stage<Placed> for Forward {
    type Failure = AttemptFailed;

    async fn call(&self, placed: Placed) -> Result<Response, AttemptFailed> {
        let Placed { attempt, endpoint, begun } = placed;
        let Attempt { mut message, cluster, client, grpc, spoken, deadline, record, fresh, .. } = *attempt;
        let upgrade = message.request.headers().contains_key(header::UPGRADE);
        let version = match cluster.config.protocol {
            _ if upgrade => Version::HTTP_11,
            Protocol::Http2 => Version::HTTP_2,
            Protocol::UseDownstream if grpc || spoken == Version::HTTP_2 => Version::HTTP_2,
            Protocol::Http1 | Protocol::UseDownstream | Protocol::Tcp => Version::HTTP_11,
        };
        if let Err(error) = address(&mut message.request, version) {
            return Err(AttemptFailed { error, message: Some(message), slot: None });
        }
        if let Some(deadline) = deadline.filter(|_| grpc) {
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            message.request.headers_mut().insert(GRPC_TIMEOUT.clone(), grpc_timeout::format(left));
        }
        if grpc {
            // It has no interim responses: nobody need look for them.
            message.interim = None;
        }
        match endpoint.pool.send(client, &cluster.dialer, message, fresh, begun).await {
            Ok(exchange) => {
                record.with(|r| {
                    if let Some(last) = r.told.attempts.last_mut() {
                        last.connection_reused = exchange.reused;
                    }
                });
                Ok(back(exchange.response))
            }
            Err(unsent) => Err(AttemptFailed { error: unsent.error, message: unsent.message, slot: None }),
        }
    }
}

static GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Gives the target the form of the version: a path and `Host` (RFC 9112 §3.2.1), or scheme and authority
/// (RFC 9113 §8.3.1).
fn address(message: &mut Request<Body>, version: Version) -> Result<()> {
    *message.version_mut() = version;
    let path = message.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    if version != Version::HTTP_2 {
        if message.uri().authority().is_some() || message.uri().path_and_query().is_none() {
            if let Some(authority) = message.uri().authority() {
                let host = HeaderValue::try_from(authority.as_str()).map_err(|e| Kind::BadRequest.because(e))?;
                message.headers_mut().insert(HOST, host);
            }
            *message.uri_mut() = Uri::from(path);
        }
        return Ok(());
    }
    let authority = match message.headers_mut().remove(HOST) {
        Some(host) => Authority::try_from(host.as_bytes()).map_err(|e| Kind::BadRequest.because(e))?,
        None => match message.uri().authority() {
            Some(authority) => authority.clone(),
            None => return Err(Kind::BadRequest.detail("a request without authority")),
        },
    };
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(authority);
    parts.path_and_query = Some(path);
    *message.uri_mut() = Uri::from_parts(parts).map_err(|e| Kind::BadRequest.because(e))?;
    Ok(())
}

fn back(mut response: Response) -> Response {
    let switching = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    let protocol = switching.then(|| headers.get(header::UPGRADE).cloned()).flatten();
    let fields = Fields::of(headers);
    remove_hop_by_hop(headers, fields);
    if let Some(protocol) = protocol {
        headers.insert(header::UPGRADE, protocol);
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    }
    *response.version_mut() = Version::HTTP_11;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(uri: &str, host: Option<&'static str>) -> Request<Body> {
        let mut request = Request::builder().uri(uri).body(Body::Empty).unwrap();
        if let Some(host) = host {
            request.headers_mut().insert(HOST, HeaderValue::from_static(host));
        }
        request
    }

    #[test]
    fn targets_take_the_form_of_their_version() {
        let mut absolute = message("http://a:8080/x?y", None);
        address(&mut absolute, Version::HTTP_11).unwrap();
        assert_eq!(absolute.uri(), "/x?y");
        assert_eq!(absolute.headers()[HOST], "a:8080");
        // The same message once more, to another hop.
        address(&mut absolute, Version::HTTP_2).unwrap();
        assert_eq!(absolute.uri(), "http://a:8080/x?y");
        assert!(!absolute.headers().contains_key(HOST));
        let mut origin = message("/x", Some("b"));
        address(&mut origin, Version::HTTP_11).unwrap();
        assert_eq!((origin.uri().to_string(), &origin.headers()[HOST]), ("/x".into(), &HeaderValue::from_static("b")));
    }
}
