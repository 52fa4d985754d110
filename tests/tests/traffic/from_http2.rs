//! Request smuggling from HTTP/2 to HTTP/1: what HTTP/2 can say and HTTP/1 cannot reaches the application with the
//! boundaries that HTTP/2 gave it, or not at all (RFC 9113 §8.1.1, §8.2, §10.3; Kettle 2021, `HTTP/2: The Sequel`).

use crate::{Path, attacks::naming, path, request};
use std::time::Duration;
use weir_tests::{
    frames::{END_HEADERS, END_STREAM, Frames, block, frame, kind, pseudo, status},
    message::Message,
};

type Fields = Vec<(&'static [u8], &'static [u8])>;

/// What may become of it.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    /// Reset, GOAWAY, or 400; the application gets nothing whole.
    Refused,
    /// The application gets one request with a body of so many bytes.
    Carried(usize),
    /// One or the other.
    Either(usize),
}
use Fate::{Carried, Either, Refused};

struct Attack {
    name: &'static str,
    fields: Fields,
    data: Option<&'static [u8]>,
    trailers: Option<Fields>,
    fate: Fate,
}

const MARKER: &[u8] = b"GET /smuggled HTTP/1.1\r\nHost: server:8080\r\n\r\n";
const CHUNKED: &[u8] = b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: server:8080\r\n\r\n";

/// A `POST` with one more field, and a body that would be a request.
fn with(name: &'static str, field: (&'static [u8], &'static [u8]), fate: Fate) -> Attack {
    let fields = [pseudo("POST", "/a"), vec![field]].concat();
    Attack { name, fields, data: Some(CHUNKED), trailers: None, fate }
}

/// A `POST` with one pseudo-header replaced.
fn pseudo_is(name: &'static str, which: usize, value: &'static [u8], fate: Fate) -> Attack {
    let mut fields = pseudo("POST", "/a");
    fields[which].1 = value;
    Attack { name, fields, data: Some(CHUNKED), trailers: None, fate }
}

fn raw(name: &'static str, fields: Fields, data: Option<&'static [u8]>, fate: Fate) -> Attack {
    Attack { name, fields, data, trailers: None, fate }
}

fn trailing(name: &'static str, field: (&'static [u8], &'static [u8]), fate: Fate) -> Attack {
    Attack { name, fields: pseudo("POST", "/a"), data: Some(MARKER), trailers: Some(vec![field]), fate }
}

fn fields_in_the_way() -> Vec<Attack> {
    let all = CHUNKED.len();
    vec![
        with("transfer-encoding", (b"transfer-encoding", b"chunked"), Refused),
        with("transfer-encoding: identity", (b"transfer-encoding", b"identity"), Refused),
        with("transfer-encoding: trailers", (b"transfer-encoding", b"trailers"), Refused),
        with("an upper-case name", (b"Transfer-Encoding", b"chunked"), Refused),
        with("connection", (b"connection", b"close"), Refused),
        with("connection: transfer-encoding", (b"connection", b"transfer-encoding"), Refused),
        with("keep-alive", (b"keep-alive", b"timeout=5"), Either(all)),
        with("proxy-connection", (b"proxy-connection", b"keep-alive"), Either(all)),
        with("upgrade", (b"upgrade", b"h2c"), Refused),
        with("te other than trailers", (b"te", b"gzip"), Refused),
        with("CRLF in a value", (b"x", b"y\r\nTransfer-Encoding: chunked"), Refused),
        with("LF in a value", (b"x", b"y\nTransfer-Encoding: chunked"), Refused),
        with("CR in a value", (b"x", b"y\rTransfer-Encoding: chunked"), Refused),
        with("NUL in a value", (b"x", b"y\0z"), Refused),
        with("CRLF at a value's end", (b"x", b"y\r\n"), Refused),
        with("CRLF at a value's beginning", (b"x", b"\r\n\r\nGET /smuggled HTTP/1.1"), Refused),
        with("CRLF in a name", (b"x\r\ntransfer-encoding: chunked\r\ny", b"z"), Refused),
        with("a colon in a name", (b"transfer-encoding: chunked\r\nx", b"y"), Refused),
        with("a colon at a name's end", (b"transfer-encoding:", b"chunked"), Refused),
        with("a space at a name's end", (b"transfer-encoding ", b"chunked"), Refused),
        with("a space at a name's beginning", (b" transfer-encoding", b"chunked"), Refused),
        with("a tab in a name", (b"transfer-encoding\t", b"chunked"), Refused),
        with("NUL in a name", (b"transfer-encoding\0", b"chunked"), Refused),
        with("a high byte in a name", (b"x\xff", b"y"), Refused),
        with("an empty name", (b"", b"chunked"), Refused),
        with("a name in quotes", (b"\"x\"", b"y"), Refused),
        with("spaces around a value", (b"x", b" y "), Either(all)),
        with("a control character in a value", (b"x", b"y\x01z"), Refused),
        with("DEL in a value", (b"x", b"y\x7fz"), Refused),
        with("a length that is less", (b"content-length", b"5"), Refused),
        with("a length that is more", (b"content-length", b"500"), Refused),
        with("a length of nothing", (b"content-length", b"0"), Refused),
        with("a length with a sign", (b"content-length", b"+50"), Refused),
        with("a length in a list", (b"content-length", b"50, 50"), Refused),
        with("a length with letters", (b"content-length", b"50a"), Refused),
        with("a length of 2^64 and 50", (b"content-length", b"18446744073709551666"), Refused),
        with("the right length", (b"content-length", b"50"), Carried(all)),
        with("another host", (b"host", b"other:1"), Refused),
        with("a host with CRLF", (b"host", b"server:8080\r\nx: y"), Refused),
        with("expect", (b"expect", b"100-continue"), Either(all)),
    ]
}

fn pseudo_headers() -> Vec<Attack> {
    let all = CHUNKED.len();
    let post = || pseudo("POST", "/a");
    vec![
        pseudo_is("CRLF in the path", 3, b"/a HTTP/1.1\r\nHost: server:8080\r\n\r\nGET /smuggled", Refused),
        pseudo_is("a space in the path", 3, b"/a HTTP/1.1", Refused),
        pseudo_is("a request in the path", 3, b"/smuggled HTTP/1.1 ", Refused),
        pseudo_is("a tab in the path", 3, b"/a\tb", Refused),
        pseudo_is("NUL in the path", 3, b"/a\0b", Refused),
        pseudo_is("an empty path", 3, b"", Refused),
        pseudo_is("a path without slash", 3, b"a", Refused),
        pseudo_is("an absolute path", 3, b"http://other/smuggled", Refused),
        pseudo_is("an authority for a path", 3, b"@other/smuggled", Refused),
        pseudo_is("CRLF in the method", 0, b"GET /smuggled HTTP/1.1\r\nHost: server:8080\r\n\r\nPOST", Refused),
        pseudo_is("a space in the method", 0, b"GET /smuggled", Refused),
        pseudo_is("an empty method", 0, b"", Refused),
        pseudo_is("CRLF in the authority", 2, b"server:8080\r\nx: y", Refused),
        pseudo_is("a space in the authority", 2, b"server:8080 x", Refused),
        pseudo_is("a path in the authority", 2, b"server:8080/smuggled", Refused),
        pseudo_is("userinfo in the authority", 2, b"x@server:8080", Refused),
        pseudo_is("an empty authority", 2, b"", Refused),
        pseudo_is("a request in the scheme", 1, b"http://server:8080/smuggled?", Refused),
        pseudo_is("CRLF in the scheme", 1, b"http\r\nx: y", Refused),
        raw("two methods", [post(), vec![(b":method", b"GET")]].concat(), None, Refused),
        raw("two paths", [post(), vec![(b":path", b"/smuggled")]].concat(), None, Refused),
        raw("two authorities", [post(), vec![(b":authority", b"other:1")]].concat(), None, Refused),
        raw("an unknown pseudo-header", [post(), vec![(b":x", b"y")]].concat(), None, Refused),
        raw("a status in a request", [post(), vec![(b":status", b"200")]].concat(), None, Refused),
        raw("a pseudo-header after others", [vec![(&b"x"[..], &b"y"[..])], post()].concat(), None, Refused),
        raw("no path", post()[..3].to_vec(), None, Refused),
        raw("no method", post()[1..].to_vec(), None, Refused),
        raw("no scheme", [&post()[..1], &post()[2..]].concat(), None, Refused),
        raw("no authority and no host", [&post()[..2], &post()[3..]].concat(), None, Refused),
        raw("two hosts", [post(), vec![(b"host", b"server:8080"), (b"host", b"other:1")]].concat(), None, Refused),
        raw(
            "two lengths",
            [post(), vec![(b"content-length", b"50"), (b"content-length", b"5")]].concat(),
            Some(CHUNKED),
            Refused,
        ),
        raw("a length and no body", [post(), vec![(b"content-length", b"5")]].concat(), None, Refused),
        raw("a protocol without CONNECT", [post(), vec![(b":protocol", b"websocket")]].concat(), None, Refused),
        raw("a body that is chunks and a request", post(), Some(CHUNKED), Carried(all)),
    ]
}

fn trailers() -> Vec<Attack> {
    let all = MARKER.len();
    vec![
        trailing("a trailer", (b"x-sum", b"1"), Carried(all)),
        trailing("a length for a trailer", (b"content-length", b"5"), Either(all)),
        trailing("a coding for a trailer", (b"transfer-encoding", b"chunked"), Either(all)),
        trailing("a host for a trailer", (b"host", b"other"), Either(all)),
        trailing("a pseudo-header for a trailer", (b":path", b"/smuggled"), Either(all)),
        trailing("CRLF in a trailer", (b"x", b"y\r\n\r\nGET /smuggled HTTP/1.1"), Refused),
        trailing("CRLF in a trailer's name", (b"x: y\r\n\r\nGET /smuggled HTTP/1.1\r\nz", b"y"), Refused),
    ]
}

/// Whether it was answered, other than with a refusal.
async fn send(path: &Path, attack: &Attack) -> bool {
    let mut client = Frames::connect(path.client.outbound, &[]).await;
    let last = |is: bool| if is { END_STREAM } else { 0 };
    let mut bytes = frame(kind::HEADERS, END_HEADERS | last(attack.data.is_none()), 1, &block(&attack.fields));
    if let Some(data) = attack.data {
        bytes.extend(frame(kind::DATA, last(attack.trailers.is_none()), 1, data));
    }
    if let Some(trailers) = &attack.trailers {
        bytes.extend(frame(kind::HEADERS, END_HEADERS | END_STREAM, 1, &block(trailers)));
    }
    let _ = client.send(&bytes).await;
    let frames = client.stream(1).await;
    frames.iter().any(|f| f.kind == kind::HEADERS && status(&f.payload) == Some(200))
}

async fn outcome(path: &Path, attack: &Attack) -> Result<(), String> {
    path.upstream.forget();
    let answered = send(path, attack).await;
    let innocent = path.connect().await.ask("GET", request("GET /innocent", &[])).await;
    if innocent.last.body != b"/innocent" {
        return Err(format!("an innocent client got {}", innocent.last.shown()));
    }
    let limit = std::time::Instant::now() + Duration::from_secs(10);
    let all = loop {
        let all = path.upstream.conversations();
        if all.iter().all(|c| c.wrong.is_some() || c.requests.iter().all(|r| r.complete)) {
            break all;
        }
        if std::time::Instant::now() > limit {
            return Err("the application waits for the rest of a request for ever".into());
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    };
    let wrong = |w: &&String| !w.starts_with("ended") && !w.starts_with("the connection broke");
    if let Some(wrong) = all.iter().filter_map(|c| c.wrong.as_ref()).find(wrong) {
        return Err(format!("the application got {wrong}"));
    }
    let whole: Vec<Message> =
        all.into_iter().flat_map(|c| c.requests).filter(|r| r.complete && r.word() != "/innocent").collect();
    let told: Vec<String> = whole.iter().map(|r| format!("{} {}", r.word(), r.body.len())).collect();
    let carried = |n: &usize| told == [format!("/a {n}")] && answered;
    let refused = told.is_empty() && !answered;
    let fine = match &attack.fate {
        Refused => refused,
        Carried(n) => carried(n),
        Either(n) => refused || carried(n),
    };
    if fine { Ok(()) } else { Err(format!("expected {:?}, got {told:?}, answered: {answered}", attack.fate)) }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_arrives_as_it_was_framed_or_not_at_all() {
    let path = path(naming().await).await;
    let attacks: Vec<Attack> = [fields_in_the_way(), pseudo_headers(), trailers()].into_iter().flatten().collect();
    assert!(attacks.len() >= 80, "only {} attacks", attacks.len());
    let mut failures = vec![];
    for attack in attacks {
        if let Err(why) = outcome(&path, &attack).await {
            failures.push(format!("{}: {why}", attack.name));
        }
    }
    assert!(failures.is_empty(), "{} attacks:\n{}", failures.len(), failures.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn methods_that_seldom_have_a_body_keep_theirs() {
    let path = path(naming().await).await;
    for (method, data) in [("GET", MARKER), ("HEAD", MARKER), ("DELETE", CHUNKED), ("OPTIONS", CHUNKED)] {
        let fields = pseudo(method, "/a");
        let attack = Attack { name: method, fields, data: Some(data), trailers: None, fate: Carried(data.len()) };
        outcome(&path, &attack).await.unwrap_or_else(|why| panic!("{method}: {why}"));
    }
}
