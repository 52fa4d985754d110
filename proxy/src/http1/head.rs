//! The head of a message: its first line and its header fields (RFC 9112 §2–5), read strictly.
//!
//! A head is parsed once, when its end has come, so that one that comes byte by byte costs no more than one that comes
//! whole. Values share the bytes that came.

use super::{
    MAX_HEAD_BYTES, MAX_HEADERS,
    framing::{Length, Seen},
    spelling::Spelling,
};
use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version, request, response};
use httparse::Header;
use std::mem::MaybeUninit;

/// Why a head is no head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It breaks the rules.
    Malformed(&'static str),
    /// Too many bytes, or too many fields.
    TooLarge,
}

impl From<&'static str> for Fault {
    fn from(why: &'static str) -> Self {
        Self::Malformed(why)
    }
}

/// A request's head.
#[derive(Debug)]
pub struct RequestHead {
    /// Method, target, version, fields.
    pub parts: request::Parts,
    /// Its body.
    pub length: Length,
    /// Whether the client wants to go on with this connection.
    pub persists: bool,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    /// As it was written.
    pub spelling: Spelling,
}

/// A response's head.
#[derive(Debug)]
pub struct ResponseHead {
    /// Status, version, fields.
    pub parts: response::Parts,
    /// Its body.
    pub length: Length,
    /// Whether the connection lives on after it.
    pub persists: bool,
    /// As it was written.
    pub spelling: Spelling,
}

/// Where the head (or the trailers) at the start of `buf` ends; `None`: more must come. `scanned` remembers how far it
/// has been looked through. Each line ends with CR LF: a bare LF, which RFC 9112 §2.2 lets us take for one, is what
/// others do not take for one.
pub fn end(buf: &[u8], scanned: &mut usize) -> Result<Option<usize>, &'static str> {
    for at in memchr::memchr_iter(b'\n', buf.get(*scanned..).unwrap_or_default()).map(|n| n + *scanned) {
        if at == 0 || buf[at - 1] != b'\r' {
            return Err("a line that does not end with CR LF");
        }
        if at >= 3 && buf[at - 2] == b'\n' {
            *scanned = 0;
            return Ok(Some(at + 1));
        }
    }
    *scanned = buf.len();
    Ok(None)
}

/// Takes a head off the start of `buf`, if it has come.
fn take(buf: &mut BytesMut, scanned: &mut usize) -> Result<Option<Bytes>, Fault> {
    if buf.first().is_some_and(|b| !(b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b))) {
        return Err(Fault::Malformed("it does not begin like HTTP"));
    }
    match end(buf, scanned)? {
        Some(end) if end <= MAX_HEAD_BYTES => Ok(Some(buf.split_to(end).freeze())),
        None if buf.len() <= MAX_HEAD_BYTES => Ok(None),
        _ => Err(Fault::TooLarge),
    }
}

/// The request at the start of `buf`; `None`: more must come.
pub fn request(buf: &mut BytesMut, scanned: &mut usize) -> Result<Option<RequestHead>, Fault> {
    // RFC 9112 §2.2: an empty line or two before a request is forgiven.
    while buf.starts_with(b"\r\n") {
        buf.advance(2);
        *scanned = 0;
    }
    if &buf[..] == b"\r" {
        return Ok(None);
    }
    let Some(raw) = take(buf, scanned)? else { return Ok(None) };
    let mut fields = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut []);
    match parsed.parse_with_uninit_headers(&raw, &mut fields) {
        Ok(httparse::Status::Complete(n)) if n == raw.len() => {}
        Ok(_) => return Err(Fault::Malformed("its first line or a field is no HTTP")),
        Err(error) => return Err(fault(error)),
    }
    let (Some(method), Some(path), Some(version)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(Fault::Malformed("its first line is no HTTP"));
    };
    let (mut parts, ()) = http::Request::new(()).into_parts();
    parts.method = Method::from_bytes(method.as_bytes()).map_err(|_| "an invalid method")?;
    parts.uri = target(&parts.method, raw.slice_ref(path.as_bytes()))?;
    parts.version = of_minor(version);
    let (headers, seen) = headers(&raw, parsed.headers)?;
    parts.headers = headers;
    let length = seen.of_request(parts.version)?;
    let persists = seen.persists(parts.version);
    let expects_continue = seen.expects_continue && parts.version == Version::HTTP_11 && !length.is_empty();
    Ok(Some(RequestHead { parts, length, persists, expects_continue, spelling: Spelling::new(raw) }))
}

/// The response at the start of `buf`, to a request of method `HEAD` or another; `None`: more must come.
pub fn response(buf: &mut BytesMut, scanned: &mut usize, to_head: bool) -> Result<Option<ResponseHead>, Fault> {
    let Some(raw) = take(buf, scanned)? else { return Ok(None) };
    let mut fields = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    match config.parse_response_with_uninit_headers(&mut parsed, &raw, &mut fields) {
        Ok(httparse::Status::Complete(n)) if n == raw.len() => {}
        Ok(_) => return Err(Fault::Malformed("its first line or a field is no HTTP")),
        Err(error) => return Err(fault(error)),
    }
    let (Some(code), Some(version)) = (parsed.code, parsed.version) else {
        return Err(Fault::Malformed("its first line is no HTTP"));
    };
    let (mut parts, ()) = http::Response::new(()).into_parts();
    parts.status = StatusCode::from_u16(code).map_err(|_| "an invalid status")?;
    parts.version = of_minor(version);
    let (headers, seen) = headers(&raw, parsed.headers)?;
    parts.headers = headers;
    let length = seen.of_response(parts.status, to_head)?;
    let persists = seen.persists(parts.version) && length != Length::UntilClose;
    Ok(Some(ResponseHead { parts, length, persists, spelling: Spelling::new(raw) }))
}

fn headers(raw: &Bytes, fields: &[Header<'_>]) -> Result<(HeaderMap, Seen), &'static str> {
    // Room for what a sidecar adds.
    let mut map = HeaderMap::with_capacity(fields.len() + 3);
    let mut seen = Seen::default();
    for one in fields {
        seen.field(one.name.as_bytes(), one.value)?;
        let (name, value) = field(raw, one)?;
        map.append(name, value);
    }
    Ok((map, seen))
}

/// A field, its value sharing the bytes of the head.
pub fn field(raw: &Bytes, field: &Header<'_>) -> Result<(HeaderName, HeaderValue), &'static str> {
    let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| "an invalid header name")?;
    let value = if field.value.is_empty() {
        HeaderValue::from_static("")
    } else {
        HeaderValue::from_maybe_shared(raw.slice_ref(field.value)).map_err(|_| "an invalid header value")?
    };
    Ok((name, value))
}

/// The target in one of its four forms (RFC 9112 §3.2).
fn target(method: &Method, text: Bytes) -> Result<Uri, &'static str> {
    const WHY: &str = "an invalid target";
    if text.contains(&b'#') {
        return Err("a target with a fragment");
    }
    if text.starts_with(b"/") || &text[..] == b"*" && method == Method::OPTIONS {
        return Uri::from_maybe_shared(text).map_err(|_| WHY);
    }
    let uri = Uri::from_maybe_shared(text).map_err(|_| WHY)?;
    let fits = match (uri.scheme(), uri.authority()) {
        (Some(_), Some(_)) => method != Method::CONNECT,
        (None, Some(_)) => method == Method::CONNECT && uri.path_and_query().is_none(),
        _ => false,
    };
    if fits { Ok(uri) } else { Err(WHY) }
}

fn of_minor(version: u8) -> Version {
    if version == 0 { Version::HTTP_10 } else { Version::HTTP_11 }
}

fn fault(error: httparse::Error) -> Fault {
    match error {
        httparse::Error::TooManyHeaders => Fault::TooLarge,
        httparse::Error::HeaderName => Fault::Malformed("an invalid header name"),
        httparse::Error::HeaderValue => Fault::Malformed("an invalid header value"),
        httparse::Error::NewLine => Fault::Malformed("a line that does not end with CR LF"),
        httparse::Error::Status => Fault::Malformed("an invalid status"),
        httparse::Error::Token => Fault::Malformed("its first line is no HTTP"),
        httparse::Error::Version => Fault::Malformed("a version other than HTTP/1.0 and HTTP/1.1"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<RequestHead>, Fault> {
        request(&mut text.into(), &mut 0)
    }

    #[test]
    fn a_head_is_taken_when_its_end_has_come_and_nothing_more() {
        let text = b"\r\nPOST /x?y HTTP/1.1\r\nHost: a\r\nContent-LENGTH: 2\r\nX: \xff \r\nEmpty:\r\n\r\nab";
        let (mut buf, mut scanned) = (BytesMut::new(), 0);
        for (i, byte) in text.iter().enumerate() {
            buf.extend_from_slice(&[*byte]);
            let found = request(&mut buf, &mut scanned).unwrap();
            assert_eq!(found.is_some(), i == text.len() - 3, "{i}");
            let Some(head) = found else { continue };
            assert_eq!((head.parts.method, head.parts.uri), (Method::POST, Uri::from_static("/x?y")));
            assert_eq!((head.length, head.persists), (Length::Exact(2), true));
            assert_eq!(head.parts.headers["x"].as_bytes(), b"\xff");
            assert_eq!(head.parts.headers["empty"], "");
            assert!(buf.is_empty());
            break;
        }
    }

    #[test]
    fn what_others_might_read_otherwise_is_refused() {
        for bad in [
            "GET / HTTP/1.1\nHost: a\n\n",
            "GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
            "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHo st: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n",
            "GET / HTTP/1.2\r\nHost: a\r\n\r\n",
            "GET / HTTP/2.0\r\nHost: a\r\n\r\n",
            "GET /\r\n\r\n",
            "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /#x HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET a HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
            "CONNECT /a HTTP/1.1\r\nHost: a\r\n\r\n ",
            "G(T / HTTP/1.1\r\nHost: a\r\n\r\n",
            "\x16\x03\x01",
            " GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        ] {
            // (A `CONNECT` of a path is refused where its authority is looked for.)
            let refused = matches!(read(bad), Err(Fault::Malformed(_)));
            assert!(refused || bad.starts_with("CONNECT"), "{bad:?}");
        }
    }

    #[test]
    fn too_much_is_too_large() {
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(MAX_HEADERS + 1));
        assert_eq!(read(&many).unwrap_err(), Fault::TooLarge);
        let long = format!("GET / HTTP/1.1\r\na: {}", "b".repeat(MAX_HEAD_BYTES));
        assert_eq!(read(&long).unwrap_err(), Fault::TooLarge);
        assert_eq!(read(&format!("{long}\r\n\r\n")).unwrap_err(), Fault::TooLarge);
        assert!(read("GET / HTTP/1.1\r\na: b\r\n").unwrap().is_none());
    }

    #[test]
    fn targets_have_four_forms() {
        for (line, authority) in [
            ("GET http://a:80/x HTTP/1.1", Some("a:80")),
            ("OPTIONS * HTTP/1.1", None),
            ("CONNECT a:443 HTTP/1.1", Some("a:443")),
            ("PURGE /x HTTP/1.0", None),
        ] {
            let head = read(&format!("{line}\r\nHost: a\r\n\r\n")).unwrap().unwrap();
            assert_eq!(head.parts.uri.authority().map(http::uri::Authority::as_str), authority, "{line}");
        }
    }

    #[test]
    fn a_response_is_read_with_the_words_behind_its_status() {
        let text = "HTTP/1.0 404 Nothing Here\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\nabc";
        let (mut buf, mut scanned) = (BytesMut::from(text), 0);
        assert!(response(&mut "\r\nHTTP/1.1 200 OK\r\n\r\n".into(), &mut 0, false).is_err());
        let head = response(&mut buf, &mut scanned, false).unwrap().unwrap();
        assert_eq!((head.parts.status, head.length, head.persists), (StatusCode::NOT_FOUND, Length::Exact(3), true));
        assert_eq!(head.spelling.reason(404), Some(&b"Nothing Here"[..]));
        assert_eq!(&buf[..], b"abc");
    }

    proptest::proptest! {
        #[test]
        fn whatever_comes_is_a_head_or_an_error(bytes: Vec<u8>) {
            let _ = request(&mut BytesMut::from(&bytes[..]), &mut 0);
            let _ = response(&mut BytesMut::from(&bytes[..]), &mut 0, false);
        }

        #[test]
        fn almost_a_head_is_a_head_or_an_error(mut text in "(GET|POST) /[a-z]{0,4} HTTP/1.1\r\n([A-Za-z-]{1,8}: ?[ -~]{0,8}\r\n){0,6}\r\n",
                                               at: proptest::sample::Index, byte: u8) {
            let at = at.index(text.len());
            let mut bytes = std::mem::take(&mut text).into_bytes();
            bytes[at] = byte;
            let _ = request(&mut BytesMut::from(&bytes[..]), &mut 0);
        }
    }
}
