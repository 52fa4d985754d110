//! A request as the stages see it: checked against HTTP's rules once, when it comes in, and cleaned of what belongs to
//! one hop only.

mod fields;
mod kept;
pub mod rewrite;
mod routed;

pub use crate::connection::{Captured, Connection, is_grpc};
pub use fields::Fields;
pub use kept::Kept;
pub use routed::{Attempt, AttemptFailed, Deadline, Placed, Routed};

use crate::{
    body::{Body, Incoming, Interim},
    error::{Error, Kind, Result},
    http1::Spelling,
    record::Record,
    state::Snapshot,
    takeover::Takeover,
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Version,
    header::{CONNECTION, CONTENT_LENGTH, COOKIE, HOST, TE, TRANSFER_ENCODING, UPGRADE},
    request::Parts,
};
use std::sync::Arc;
use tokio::time::Instant;

pub use crate::http1::MAX_HEADERS;

/// A request on its way in, not yet routed.
pub struct Request {
    /// Method, target, version, headers: without hop-by-hop headers.
    pub parts: Parts,
    /// What follows.
    pub body: Body,
    /// The authority it asks for, as it wrote it.
    pub authority: Arc<str>,
    /// Which header fields it has had since it came.
    pub fields: Fields,
    /// The version of HTTP that the client speaks.
    pub spoken: Version,
    /// Its head as the client wrote it, where that is HTTP/1.
    pub spelling: Option<Spelling>,
    /// The way back for interim responses, where the client can get them.
    pub interim: Option<Interim>,
    /// The upgrade it asks for.
    pub upgrade: Option<Upgrade>,
    /// Whether an upgrade is being carried out: such a request is sent once.
    pub upgrading: bool,
    /// Whence it came.
    pub connection: Arc<Connection>,
    /// The configuration it is served by, to its end.
    pub snapshot: Arc<Snapshot>,
    /// When its headers had come.
    pub received: Instant,
    /// What is told about it.
    pub record: Record,
}

/// A request to go over to another protocol on the same connection (RFC 9110 §7.8).
pub struct Upgrade {
    /// The `Upgrade` header.
    pub protocol: HeaderValue,
    /// The client's side, once the response has been sent.
    pub client: Takeover,
}

impl Request {
    /// Checks a request and takes away what belongs to the hop it came over.
    ///
    /// # Errors
    /// `bad_request`, `request_headers_too_large`: what was wrong stands in the detail.
    pub fn admit(
        mut incoming: http::Request<Incoming>,
        spelling: Option<Spelling>,
        fields: Fields,
        connection: Arc<Connection>,
        snapshot: Arc<Snapshot>,
        record: Record,
    ) -> Result<Box<Self>> {
        check(&incoming, &fields)?;
        // Made before what goes into it, which is written there at once instead of being put together elsewhere.
        let place = Box::new_uninit();
        let upgrade = fields.upgrade.then(|| upgrade_offer(&mut incoming)).flatten();
        let (mut parts, body) = incoming.into_parts();
        let authority = authority(&parts)?;
        let interim = body.interim();
        let fields = remove_hop_by_hop(&mut parts.headers, fields);
        join_cookies(&mut parts, &fields);
        let request = Self {
            authority,
            fields,
            spoken: parts.version,
            spelling,
            interim,
            parts,
            body: Body::incoming(body),
            upgrade,
            upgrading: false,
            connection,
            snapshot,
            received: record.begun(),
            record,
        };
        Ok(Box::write(place, request))
    }
}

fn check<B>(request: &http::Request<B>, fields: &Fields) -> Result<()> {
    if request.headers().len() > MAX_HEADERS {
        return Err(Kind::RequestHeadersTooLarge.detail(format!("more than {MAX_HEADERS} header fields")));
    }
    if fields.hosts > 1 {
        // RFC 9112 §3.2
        return Err(bad("more than one Host header"));
    }
    if request.version() == Version::HTTP_11 && fields.hosts == 0 {
        return Err(bad("an HTTP/1.1 request without Host"));
    }
    if fields.content_length {
        let mut lengths = request.headers().get_all(CONTENT_LENGTH).iter();
        let digits = |v: &HeaderValue| !v.is_empty() && v.as_bytes().iter().all(u8::is_ascii_digit);
        if !lengths.next().is_some_and(digits) || lengths.next().is_some() {
            // RFC 9110 §8.6: what another hop could read otherwise.
            return Err(bad("a Content-Length that is not one number"));
        }
    }
    if fields.transfer_encoding && fields.content_length {
        // RFC 9112 §6.1: the mark of request smuggling.
        return Err(bad("both Transfer-Encoding and Content-Length"));
    }
    if request.version() < Version::HTTP_11 && fields.transfer_encoding {
        return Err(bad("Transfer-Encoding in HTTP/1.0"));
    }
    if request.version() == Version::HTTP_2 {
        check_http2(request, fields)?;
    }
    Ok(())
}

/// RFC 9113 §8.2.2 and §8.3.1.
fn check_http2<B>(request: &http::Request<B>, fields: &Fields) -> Result<()> {
    let headers = request.headers();
    if fields.connection || fields.transfer_encoding || fields.upgrade {
        return Err(bad("a connection header in HTTP/2"));
    }
    if fields.te && headers.get(TE).is_some_and(|te| !te.as_bytes().eq_ignore_ascii_case(b"trailers")) {
        return Err(bad("TE other than `trailers` in HTTP/2"));
    }
    if fields.hosts > 0
        && let (Some(host), Some(authority)) = (headers.get(HOST), request.uri().authority())
        && !host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes())
    {
        return Err(bad("Host and :authority differ"));
    }
    Ok(())
}

fn bad(why: &'static str) -> Error {
    Kind::BadRequest.detail(why)
}

/// The authority: of the target where it has one (RFC 9112 §3.2.2), else `Host`; lower case.
fn authority(parts: &Parts) -> Result<Arc<str>> {
    let text = match parts.uri.authority() {
        Some(authority) => authority.as_str(),
        None => parts
            .headers
            .get(HOST)
            .ok_or_else(|| bad("no Host"))?
            .to_str()
            .map_err(|_| bad("a Host that is no text"))?,
    };
    let valid = |b: u8| b.is_ascii_alphanumeric() || b"-._:[]%".contains(&b);
    if text.is_empty() || text.len() > 255 || !text.bytes().all(valid) {
        return Err(bad("an invalid Host"));
    }
    if text.bytes().any(|b| b.is_ascii_uppercase()) { Ok(text.to_ascii_lowercase().into()) } else { Ok(text.into()) }
}

/// What an upgrade asks for; an offer of h2c is not passed on (RFC 9113 §3.1 gave it up, and behind it hide requests
/// that no policy has seen).
fn upgrade_offer(request: &mut http::Request<Incoming>) -> Option<Upgrade> {
    let asked = request.version() == Version::HTTP_11
        && request.headers().get_all(CONNECTION).iter().any(|v| has_token(v, "upgrade"));
    let protocol = request.headers().get(UPGRADE).filter(|_| asked)?.clone();
    if has_token(&protocol, "h2c") {
        return None;
    }
    Some(Upgrade { protocol, client: Takeover::of(request) })
}

fn has_token(value: &HeaderValue, token: &str) -> bool {
    value.to_str().is_ok_and(|v| v.split(',').any(|t| t.trim().eq_ignore_ascii_case(token)))
}

static KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
static PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
static HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// Takes away what belongs to one hop (RFC 9110 §7.6.1), and says what is left. `TE: trailers` stays: gRPC asks for it.
pub fn remove_hop_by_hop(headers: &mut HeaderMap, fields: Fields) -> Fields {
    let hop_by_hop = fields.connection || fields.upgrade || fields.transfer_encoding || fields.other_hop_by_hop;
    if !hop_by_hop && !fields.te {
        return fields;
    }
    let named = fields.connection && remove_named(headers);
    for name in [&CONNECTION, &UPGRADE, &TRANSFER_ENCODING, &KEEP_ALIVE, &PROXY_CONNECTION, &HTTP2_SETTINGS] {
        headers.remove(name);
    }
    if headers.get(TE).is_some_and(|te| !has_token(te, "trailers")) {
        headers.remove(TE);
    } else if headers.get(TE).is_some_and(|te| te != "trailers") {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    if named {
        return Fields::of(headers);
    }
    let te = fields.te && headers.contains_key(TE);
    Fields { connection: false, upgrade: false, transfer_encoding: false, other_hop_by_hop: false, te, ..fields }
}

/// Whether `Connection` named any, which may be whatever it likes.
fn remove_named(headers: &mut HeaderMap) -> bool {
    // `keep-alive` and `close`, most of what is said, name nothing.
    let plain = |t: &str| {
        let t = t.trim();
        t.eq_ignore_ascii_case("keep-alive") || t.eq_ignore_ascii_case("close")
    };
    if headers.get_all(CONNECTION).iter().all(|v| v.to_str().is_ok_and(|v| v.split(',').all(plain))) {
        return false;
    }
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .filter_map(|t| t.trim().parse().ok())
        // What frames or routes a message is no option of a connection, whoever says so.
        .filter(|name| ![HOST, CONTENT_LENGTH, TE].contains(name))
        .collect();
    for name in named {
        headers.remove(name);
    }
    true
}

/// HTTP/2 may split cookies into several fields; HTTP/1.1 may not (RFC 9113 §8.2.3).
fn join_cookies(parts: &mut Parts, fields: &Fields) {
    if parts.version != Version::HTTP_2 || fields.cookies < 2 {
        return;
    }
    let crumbs: Vec<&[u8]> = parts.headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        parts.headers.insert(COOKIE, joined);
    }
}

/// Whether the method may be repeated without harm (RFC 9110 §9.2.2).
pub fn is_idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    #[test]
    fn what_belongs_to_one_hop_is_removed_and_nothing_else() {
        let mut map = headers(&[
            ("connection", "close, x-mine, host"),
            ("keep-alive", "timeout=5"),
            ("x-mine", "1"),
            ("host", "a"),
            ("te", "gzip, trailers"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAAA"),
            ("x-other", "2"),
        ]);
        let fields = Fields::of(&map);
        assert_eq!(remove_hop_by_hop(&mut map, fields), Fields { te: true, hosts: 1, ..Fields::default() });
        assert_eq!(map.len(), 3, "{map:?}");
        assert_eq!(map["te"], "trailers");
        assert_eq!((&map["host"], &map["x-other"]), (&"a".parse().unwrap(), &"2".parse().unwrap()));
    }

    #[test]
    fn every_connection_header_may_name_others_also_those_that_we_would_keep() {
        let mut map = headers(&[("connection", "close"), ("connection", "x-request-id, x-mine"), ("x-mine", "1")]);
        map.append("x-request-id", HeaderValue::from_static("2"));
        let fields = Fields::of(&map);
        assert!(fields.request_id);
        assert_eq!(remove_hop_by_hop(&mut map, fields), Fields::default());
        assert!(map.is_empty(), "{map:?}");
    }

    #[test]
    fn conflicting_framing_and_hosts_are_refused() {
        let with = |version: Version, pairs: &[(&'static str, &'static str)]| {
            let mut request = http::Request::builder().version(version).uri("/").body(()).unwrap();
            *request.headers_mut() = headers(pairs);
            check(&request, &Fields::of(request.headers())).err().map(|e| e.kind())
        };
        assert_eq!(with(Version::HTTP_11, &[("host", "a")]), None);
        assert_eq!(with(Version::HTTP_11, &[]), Some(Kind::BadRequest));
        assert_eq!(with(Version::HTTP_11, &[("host", "a"), ("host", "b")]), Some(Kind::BadRequest));
        let both = [("host", "a"), ("content-length", "3"), ("transfer-encoding", "chunked")];
        assert_eq!(with(Version::HTTP_11, &both), Some(Kind::BadRequest));
        assert_eq!(with(Version::HTTP_2, &[("te", "gzip")]), Some(Kind::BadRequest));
        assert_eq!(with(Version::HTTP_2, &[("te", "trailers")]), None);
        assert_eq!(with(Version::HTTP_2, &[("connection", "x")]), Some(Kind::BadRequest));
    }

    #[test]
    fn cookie_crumbs_are_joined() {
        let mut request = http::Request::builder().version(Version::HTTP_2).uri("/").body(()).unwrap();
        *request.headers_mut() = headers(&[("cookie", "a=1"), ("cookie", "b=2")]);
        let (mut parts, ()) = request.into_parts();
        let fields = Fields::of(&parts.headers);
        join_cookies(&mut parts, &fields);
        assert_eq!(parts.headers["cookie"], "a=1; b=2");
        assert_eq!(parts.headers.get_all(COOKIE).iter().count(), 1);
    }

    #[test]
    fn grpc_is_told_by_its_content_type() {
        for (value, grpc) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc-web", false),
            ("text/x", false),
        ] {
            assert_eq!(is_grpc(&headers(&[("content-type", value)])), grpc, "{value}");
        }
    }
}
