//! One function a parser: what must hold whatever the bytes are. Run on stable by `main.rs` beside this, and by cargo-fuzz
//! from `proxy/fuzz`.

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use std::time::Duration;
use weir_config::{
    model::{Kind, PathMatch, PathRewrite},
    xds::{Class, decode, encode},
};
use weir_proxy::{
    http1::{Fault, MAX_HEAD_BYTES, MAX_HEADERS, chunked, head},
    listen::{Hello, server_name},
    logic::grpc_timeout,
    request::rewrite::new_path,
    telemetry::trace::TraceContext,
};

/// What came of reading a head: what is left, and the parts in words.
type Read = Result<Option<(Vec<u8>, String)>, Fault>;

/// Feeds `data` in pieces of `size` bytes until `read` knows.
fn in_pieces(data: &[u8], size: usize, mut read: impl FnMut(&mut BytesMut, &mut usize) -> Read) -> Read {
    let (mut buf, mut scanned) = (BytesMut::new(), 0);
    let mut pieces = data.chunks(size.max(1));
    while let Some(piece) = pieces.next() {
        buf.extend_from_slice(piece);
        match read(&mut buf, &mut scanned) {
            Ok(None) => {}
            Ok(Some((mut rest, told))) => {
                pieces.for_each(|p| rest.extend_from_slice(p));
                return Ok(Some((rest, told)));
            }
            Err(fault) => return Err(fault),
        }
    }
    Ok(None)
}

fn sane(headers: &HeaderMap) {
    assert!(headers.len() <= MAX_HEADERS);
    for (_, value) in headers {
        assert!(value.as_bytes().iter().all(|b| !matches!(b, b'\r' | b'\n' | 0)));
    }
}

/// What TLS's first message says is told once: whatever comes after it changes nothing. A name is text in lower case.
pub fn client_hello(data: &[u8]) {
    let data = data.get(..1024).unwrap_or(data);
    let told = server_name(data);
    let first =
        (0..data.len()).map(|n| server_name(data.get(..n).unwrap_or_default())).find(|told| *told != Hello::More);
    assert!(first.is_none_or(|first| first == told), "{told:?}");
    if let Hello::Name(Some(name)) = told {
        assert!(name.bytes().all(|b| b.is_ascii_graphic() && !b.is_ascii_uppercase()), "{name:?}");
    }
}

/// A head means the same however it comes; a request that is read has no control character where it could be written on.
pub fn request_head(data: &[u8]) {
    let read = |buf: &mut BytesMut, scanned: &mut usize| {
        let head = head::request(buf, scanned)?;
        Ok(head.map(|h| {
            sane(&h.parts.headers);
            let target = h.parts.uri.to_string();
            assert!(target.bytes().all(|b| b > b' ' && b != 0x7f), "{target:?}");
            (buf.to_vec(), format!("{:?} {:?} {:?} {}", h.parts, h.length, h.persists, h.expects_continue))
        }))
    };
    agree(data, read);
}

/// The same for responses; to `HEAD` or not changes nothing but the length.
pub fn response_head(data: &[u8]) {
    for to_head in [false, true] {
        agree(data, |buf, scanned| {
            let head = head::response(buf, scanned, to_head)?;
            Ok(head.map(|h| {
                sane(&h.parts.headers);
                (buf.to_vec(), format!("{:?} {:?} {:?}", h.parts, h.length, h.persists))
            }))
        });
    }
}

fn agree(data: &[u8], read: impl Fn(&mut BytesMut, &mut usize) -> Read) {
    let whole = in_pieces(data, data.len(), &read);
    for size in [1, 7] {
        let pieces = in_pieces(data, size, &read);
        match (&whole, &pieces) {
            // One that is refused may be refused for what comes first.
            (Err(_), Err(_)) => {}
            // Of two faults in one head, the earlier one is seen first when it comes slowly; what is complete is the same.
            (whole, pieces) => assert_eq!(whole, pieces, "in pieces of {size}"),
        }
    }
}

/// What a chunked body is: its data, its trailers, what follows it.
type Body = (Vec<u8>, Option<String>, Vec<u8>);

fn decoded(data: &[u8], size: usize) -> Result<Option<Body>, &'static str> {
    let (mut decoder, mut buf, mut body) = (chunked::Decoder::default(), BytesMut::new(), vec![]);
    let mut pieces = data.chunks(size.max(1));
    while let Some(piece) = pieces.next() {
        buf.extend_from_slice(piece);
        loop {
            match decoder.next(&mut buf) {
                Ok(None) => break,
                Ok(Some(chunked::Piece::Data(data))) => body.extend_from_slice(&data),
                Ok(Some(chunked::Piece::End(trailers))) => {
                    assert!(decoder.is_done());
                    if let Some(trailers) = &trailers {
                        sane(trailers);
                    }
                    let mut rest = buf.to_vec();
                    pieces.for_each(|p| rest.extend_from_slice(p));
                    return Ok(Some((body, trailers.map(|t| format!("{t:?}")), rest)));
                }
                Err(why) => {
                    // A body that broke the rules stays broken: what follows it is never taken for anything.
                    pieces.for_each(|p| buf.extend_from_slice(p));
                    for _ in 0..3 {
                        assert!(decoder.next(&mut buf).is_err() && !decoder.is_done(), "read on after: {why}");
                    }
                    return Err(why);
                }
            }
        }
    }
    Ok(None)
}

/// A chunked body is the same however it comes, and its trailers carry nothing that frames or routes.
pub fn chunked_body(data: &[u8]) {
    let whole = decoded(data, data.len());
    for size in [1, 5] {
        let pieces = decoded(data, size);
        // The limit on trailers depends on how many of their bytes have come before their end has.
        if data.len() <= MAX_HEAD_BYTES {
            assert_eq!(whole.is_err(), pieces.is_err(), "{whole:?} {pieces:?}");
            assert_eq!(whole.ok(), pieces.ok(), "in pieces of {size}");
            return chunked_body_again(data);
        }
    }
}

/// What was read and is written again in one chunk reads the same.
fn chunked_body_again(data: &[u8]) {
    let Ok(Some((body, _, _))) = decoded(data, data.len()) else { return };
    let mut again = if body.is_empty() { vec![] } else { format!("{:x}\r\n", body.len()).into_bytes() };
    if !body.is_empty() {
        again.extend_from_slice(&body);
        again.extend_from_slice(b"\r\n");
    }
    again.extend_from_slice(b"0\r\n\r\n");
    assert_eq!(decoded(&again, 3), Ok(Some((body, None, vec![]))));
}

/// A timeout that is read and written again is no longer than it was.
pub fn timeout(data: &[u8]) {
    if let Some(time) = grpc_timeout::parse(data) {
        let back = grpc_timeout::parse(grpc_timeout::format(time).as_bytes()).expect("what is written is read");
        assert!(back <= time && (time == Duration::ZERO || back > Duration::ZERO));
    }
}

/// A trace that is read is written as it was, but for what later versions add.
pub fn traceparent(data: &[u8]) {
    if let Some(context) = TraceContext::parse(data) {
        let header = context.header();
        assert_eq!(TraceContext::parse(header.as_bytes()), Some(context));
        assert_eq!(&header.as_bytes()[3..52], &data[3..52]);
    }
}

/// A rewritten path keeps its slash.
pub fn rewrite(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut words = text.split('\n');
    let [path, prefix, with] = [(); 3].map(|()| format!("/{}", words.next().unwrap_or_default()));
    let prefix = prefix.trim_end_matches('/');
    for matched in
        [PathMatch::Segments(prefix.into()), PathMatch::Prefix(prefix.into()), PathMatch::Exact(path.as_str().into())]
    {
        let new = new_path(&path, &matched, &PathRewrite::Prefix(with.as_str().into())).into_owned();
        assert!(new.starts_with('/'), "{path} {matched:?} {with}: {new}");
    }
}

/// Documents are read or refused; what is refused says why.
pub fn documents(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Err(issues) = weir_config::resources::parse("input", &text) {
        assert!(!issues.is_empty());
        drop(Bytes::from(issues[0].to_string()));
    }
}

/// A resource of the control plane is read or refused, and what is refused says why; what is read can be said again, and
/// means the same. The first byte says which kind it is.
pub fn resource(data: &[u8]) {
    let Some((kind, body)) = data.split_first() else { return };
    let Some(kind) = Kind::ALL.get(usize::from(*kind)).copied() else { return };
    match decode(kind, body) {
        Ok(read) => {
            let again = decode(kind, &encode(&read.resource, Class::Sidecar)).expect("what is written is read");
            assert_eq!(again.resource, read.resource);
        }
        Err(rejected) => assert!(!rejected.issues.is_empty()),
    }
}

/// What must hold of the bytes.
pub type Target = fn(&[u8]);

/// All of them, by the names of their corpora.
pub const ALL: [(&str, Target); 9] = [
    ("request_head", request_head),
    ("response_head", response_head),
    ("chunked_body", chunked_body),
    ("timeout", timeout),
    ("traceparent", traceparent),
    ("rewrite", rewrite),
    ("documents", documents),
    ("client_hello", client_hello),
    ("resource", resource),
];
