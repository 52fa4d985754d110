//! How heads are written: fields in their order, names as they were spelt, and the framing that the body needs.

use super::spelling::{Lines, Spelling, Spelt};
use bytes::{BufMut, BytesMut};
use http::{HeaderMap, Method, StatusCode, Uri, Version, header};
use http_body::Body;
use std::io::Write;

/// How a body is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sending {
    /// So many bytes are left; none at all is `Exact(0)`.
    Exact(u64),
    /// In chunks.
    Chunked,
    /// Until the connection ends.
    UntilClose,
}

/// What the head says of the connection's future.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closing {
    /// Nothing: it goes on.
    No,
    /// `Connection: close`
    Close,
    /// `Connection: keep-alive`, for a client of HTTP/1.0.
    KeepAlive,
    /// What the message says itself: it changes the protocol.
    AsItSays,
}

impl Sending {
    /// How a request's body is sent: as its `Content-Length` says, or in chunks.
    pub fn of_request(headers: &HeaderMap, body: &impl Body) -> Self {
        match length(headers) {
            _ if body.is_end_stream() => Self::Exact(0),
            Some(length) => Self::Exact(length),
            None => body.size_hint().exact().map_or(Self::Chunked, Self::Exact),
        }
    }

    /// How the body of a response to a request of this method and version is sent.
    pub fn of_response(
        status: StatusCode,
        headers: &HeaderMap,
        body: &impl Body,
        method: &Method,
        version: Version,
    ) -> Self {
        if is_bodiless(status, method) || body.is_end_stream() {
            return Self::Exact(0);
        }
        match length(headers).or_else(|| body.size_hint().exact()) {
            Some(length) => Self::Exact(length),
            None if version >= Version::HTTP_11 => Self::Chunked,
            None => Self::UntilClose,
        }
    }
}

/// Whether a response has no body whatever its fields say (RFC 9112 §6.3).
fn is_bodiless(status: StatusCode, method: &Method) -> bool {
    *method == Method::HEAD
        || status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Writes a request's head, in origin form unless the target has none.
pub fn request_head(
    out: &mut BytesMut,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    spelling: Option<&Spelling>,
    sending: Sending,
) {
    out.reserve(256 + uri.path().len());
    out.put_slice(method.as_str().as_bytes());
    out.put_u8(b' ');
    out.put_slice(uri.path_and_query().map_or("/", |p| p.as_str()).as_bytes());
    out.put_slice(b" HTTP/1.1\r\n");
    // `Connection` was the client's and is gone, unless it is ours: to change the protocol.
    let says_length =
        fields(out, headers, spelling, headers.contains_key(header::UPGRADE), sending == Sending::Chunked);
    match sending {
        Sending::Chunked => out.put_slice(b"transfer-encoding: chunked\r\n"),
        // RFC 9110 §8.6: a method that usually has a body says that it has none.
        Sending::Exact(0) if !says_length && [Method::POST, Method::PUT, Method::PATCH].contains(method) => {
            out.put_slice(b"content-length: 0\r\n");
        }
        Sending::Exact(n) if !says_length && n > 0 => content_length(out, n),
        _ => {}
    }
    out.put_slice(b"\r\n");
}

/// Writes a response's head, to a request of this method and version.
pub fn response_head(
    out: &mut BytesMut,
    status: StatusCode,
    headers: &HeaderMap,
    spelling: Option<&Spelling>,
    to: (&Method, Version),
    sending: Sending,
    closing: Closing,
) {
    out.reserve(512);
    status_line(out, status, spelling, to.1);
    let as_it_says = closing == Closing::AsItSays;
    // A length that the body does not have is kept only where there never is a body: `HEAD` and 304.
    let misleads = match sending {
        Sending::Exact(0) if is_bodiless(status, to.0) => *to.0 != Method::HEAD && status != StatusCode::NOT_MODIFIED,
        Sending::Exact(n) => length(headers).is_some_and(|said| said != n),
        Sending::Chunked | Sending::UntilClose => true,
    };
    let says_length = fields(out, headers, spelling, as_it_says, misleads);
    match sending {
        Sending::Chunked => out.put_slice(b"transfer-encoding: chunked\r\n"),
        Sending::Exact(n) if !says_length && !is_bodiless(status, to.0) && !as_it_says => content_length(out, n),
        _ => {}
    }
    match closing {
        Closing::Close => out.put_slice(b"connection: close\r\n"),
        Closing::KeepAlive => out.put_slice(b"connection: keep-alive\r\n"),
        Closing::No | Closing::AsItSays => {}
    }
    out.put_slice(b"\r\n");
}

/// Writes an interim response (RFC 9110 §15.2).
pub fn interim(out: &mut BytesMut, status: StatusCode, headers: &HeaderMap, spelling: Option<&Spelling>) {
    status_line(out, status, spelling, Version::HTTP_11);
    fields(out, headers, spelling, false, true);
    out.put_slice(b"\r\n");
}

fn status_line(out: &mut BytesMut, status: StatusCode, spelling: Option<&Spelling>, version: Version) {
    out.put_slice(if version == Version::HTTP_10 { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
    out.put_slice(status.as_str().as_bytes());
    out.put_u8(b' ');
    match spelling.and_then(|s| s.reason(status.as_u16())) {
        Some(reason) => out.put_slice(reason),
        None => out.put_slice(status.canonical_reason().unwrap_or("").as_bytes()),
    }
    out.put_slice(b"\r\n");
}

/// Writes the fields, without those of the connection (unless told to); whether `Content-Length` was among them.
fn fields(
    out: &mut BytesMut,
    headers: &HeaderMap,
    spelling: Option<&Spelling>,
    connection: bool,
    no_length: bool,
) -> bool {
    let mut says_length = false;
    let mut lines = Lines::default();
    if let Some(spelling) = spelling {
        lines.read(spelling);
    }
    for (name, value) in headers {
        if *name == header::CONTENT_LENGTH {
            if no_length {
                continue;
            }
            says_length = true;
        } else if !connection && (*name == header::CONNECTION || *name == header::TRANSFER_ENCODING) {
            continue;
        }
        let (name, value) = (name.as_str().as_bytes(), value.as_bytes());
        match lines.spelt(name, value) {
            Spelt::Whole(line) => out.extend_from_slice(line),
            Spelt::Name(spelt) => field(out, spelt, value),
            Spelt::New => field(out, name, value),
        }
    }
    says_length
}

fn field(out: &mut BytesMut, name: &[u8], value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.put_slice(name);
    out.put_slice(b": ");
    out.put_slice(value);
    out.put_slice(b"\r\n");
}

fn content_length(out: &mut BytesMut, length: u64) {
    // Writing to memory cannot fail.
    let _ = write!(out.writer(), "content-length: {length}\r\n");
}

/// Writes what stands before a chunk's data.
pub fn chunk_start(out: &mut BytesMut, length: usize) {
    let _ = write!(out.writer(), "{length:x}\r\n");
}

/// Writes the end of a body in chunks.
pub fn chunk_end(out: &mut BytesMut, trailers: Option<&HeaderMap>) {
    out.put_slice(b"0\r\n");
    for (name, value) in trailers.into_iter().flatten().filter(|(name, _)| super::chunked::may_trail(name)) {
        field(out, name.as_str().as_bytes(), value.as_bytes());
    }
    out.put_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http::HeaderValue;
    use http_body_util::{Empty, Full};

    fn text(out: &BytesMut) -> &str {
        std::str::from_utf8(out).unwrap()
    }

    #[test]
    fn a_request_is_written_as_it_was_spelt() {
        let head = Bytes::from_static(b"POST /x HTTP/1.1\r\nHost: a\r\nX-UPPER: 1\r\nConnection: x\r\n\r\n");
        let mut headers = HeaderMap::new();
        for (name, value) in [("host", "a"), ("x-upper", "1"), ("connection", "x"), ("traceparent", "00")] {
            headers.append(name, HeaderValue::from_static(value));
        }
        let (mut out, spelling) = (BytesMut::new(), Spelling::new(head));
        let uri = Uri::from_static("http://a/x?y");
        request_head(&mut out, &Method::POST, &uri, &headers, Some(&spelling), Sending::Chunked);
        assert_eq!(
            text(&out),
            "POST /x?y HTTP/1.1\r\nHost: a\r\nX-UPPER: 1\r\ntraceparent: 00\r\ntransfer-encoding: chunked\r\n\r\n"
        );
        out.clear();
        request_head(&mut out, &Method::PUT, &uri, &HeaderMap::new(), None, Sending::Exact(0));
        assert_eq!(text(&out), "PUT /x?y HTTP/1.1\r\ncontent-length: 0\r\n\r\n");
        out.clear();
        let upgrade = HeaderMap::from_iter([
            (header::CONNECTION, HeaderValue::from_static("upgrade")),
            (header::UPGRADE, HeaderValue::from_static("websocket")),
        ]);
        request_head(&mut out, &Method::GET, &uri, &upgrade, None, Sending::Exact(0));
        assert_eq!(text(&out), "GET /x?y HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
    }

    #[test]
    fn responses_have_the_framing_that_their_client_can_read() {
        let mut announced = HeaderMap::new();
        announced.insert("content-length", HeaderValue::from_static("5"));
        let (get, none) = (Method::GET, HeaderMap::new());
        let of = |status, headers: &HeaderMap, method: &Method, version| {
            let body =
                http_body_util::StreamBody::new(futures::stream::pending::<Result<http_body::Frame<Bytes>, ()>>());
            Sending::of_response(status, headers, &body, method, version)
        };
        assert_eq!(of(StatusCode::OK, &announced, &get, Version::HTTP_10), Sending::Exact(5));
        assert_eq!(of(StatusCode::OK, &none, &get, Version::HTTP_11), Sending::Chunked);
        assert_eq!(of(StatusCode::OK, &none, &get, Version::HTTP_10), Sending::UntilClose);
        assert_eq!(of(StatusCode::OK, &announced, &Method::HEAD, Version::HTTP_11), Sending::Exact(0));
        let full = Full::new(Bytes::from_static(b"abc"));
        assert_eq!(Sending::of_request(&none, &full), Sending::Exact(3));
        assert_eq!(Sending::of_request(&none, &Empty::<Bytes>::new()), Sending::Exact(0));
    }

    #[test]
    fn a_head_says_the_length_of_its_body_once() {
        let mut announced = HeaderMap::new();
        announced.insert("content-length", HeaderValue::from_static("5"));
        let write = |status, headers: &HeaderMap, method, sending, closing| {
            let mut out = BytesMut::new();
            response_head(&mut out, status, headers, None, (&method, Version::HTTP_11), sending, closing);
            text(&out).to_owned()
        };
        let none = HeaderMap::new();
        let head = write(StatusCode::OK, &announced, Method::HEAD, Sending::Exact(0), Closing::No);
        assert_eq!(head, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n");
        let empty = write(StatusCode::OK, &none, Method::GET, Sending::Exact(0), Closing::Close);
        assert_eq!(empty, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        let nothing = write(StatusCode::NO_CONTENT, &none, Method::GET, Sending::Exact(0), Closing::No);
        assert_eq!(nothing, "HTTP/1.1 204 No Content\r\n\r\n");
        let chunked = write(StatusCode::OK, &none, Method::GET, Sending::Chunked, Closing::No);
        assert_eq!(chunked, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
    }

    #[test]
    fn trailers_that_would_frame_are_left_out() {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        trailers.insert("content-length", HeaderValue::from_static("7"));
        let mut out = BytesMut::new();
        chunk_start(&mut out, 26);
        chunk_end(&mut out, Some(&trailers));
        assert_eq!(text(&out), "1a\r\n0\r\ngrpc-status: 0\r\n\r\n");
    }
}
