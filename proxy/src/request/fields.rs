//! Which of the header fields that matter to a proxy a message has, found in one pass: messages have few fields, and
//! looking for each name that might be there costs more than reading those that are.

use crate::connection::is_grpc;
use http::HeaderMap;

/// What is there.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Fields {
    /// `Connection`
    pub connection: bool,
    /// `Content-Length`
    pub content_length: bool,
    /// `Transfer-Encoding`
    pub transfer_encoding: bool,
    /// `TE`
    pub te: bool,
    /// `Upgrade`
    pub upgrade: bool,
    /// `Keep-Alive`, `Proxy-Connection` or `HTTP2-Settings`
    pub other_hop_by_hop: bool,
    /// How many `Host`
    pub hosts: usize,
    /// How many `Cookie`
    pub cookies: usize,
    /// `traceparent`
    pub traceparent: bool,
    /// `x-request-id`
    pub request_id: bool,
    /// A `Content-Type` of gRPC
    pub grpc: bool,
}

impl Fields {
    /// Looks through them.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut found = Self::default();
        for name in headers.iter().map(|(name, _)| name) {
            match name.as_str() {
                "connection" => found.connection = true,
                "content-length" => found.content_length = true,
                "transfer-encoding" => found.transfer_encoding = true,
                "te" => found.te = true,
                "upgrade" => found.upgrade = true,
                "keep-alive" | "proxy-connection" | "http2-settings" => found.other_hop_by_hop = true,
                "host" => found.hosts += 1,
                "cookie" => found.cookies += 1,
                "traceparent" => found.traceparent = true,
                "x-request-id" => found.request_id = true,
                "content-type" => found.grpc = is_grpc(headers),
                _ => {}
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn every_field_that_matters_is_found_and_counted() {
        let mut headers = HeaderMap::new();
        assert_eq!(Fields::of(&headers), Fields::default());
        for name in ["host", "cookie", "cookie", "te", "connection", "content-length", "transfer-encoding", "upgrade"] {
            headers.append(name, HeaderValue::from_static("x"));
        }
        headers.append("content-type", HeaderValue::from_static("application/grpc"));
        let found = Fields {
            connection: true,
            content_length: true,
            transfer_encoding: true,
            te: true,
            upgrade: true,
            hosts: 1,
            cookies: 2,
            grpc: true,
            ..Fields::default()
        };
        assert_eq!(Fields::of(&headers), found);
        for name in ["keep-alive", "proxy-connection", "http2-settings"] {
            let one = HeaderMap::from_iter([(http::HeaderName::from_static(name), HeaderValue::from_static("x"))]);
            assert_eq!(Fields::of(&one), Fields { other_hop_by_hop: true, ..Fields::default() }, "{name}");
        }
    }
}
