//! Random requests and answers, byte for byte both ways: HTTP/1 and HTTP/2 clients, HTTP/1 and HTTP/2 applications.
//!
//! Both sides draw a message from its number, so each knows what it must get. `WEIR_RANDOM` is how many there are, 10,000
//! unless it says otherwise; `WEIR_SEED` is the seed.

use crate::{count, sidecars};
use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use rand::{Rng, RngCore, SeedableRng, rngs::SmallRng};
use std::{convert::Infallible, net::SocketAddr};
use tokio::{io::AsyncWriteExt, net::TcpListener};
use weir_tests::{
    message::{Message, framing_of_response},
    raw::Raw,
};

const METHODS: [&str; 10] = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "PROPFIND", "QUERY", "BREW"];
const STATUSES: [u16; 20] =
    [200, 200, 200, 201, 202, 203, 204, 206, 226, 301, 304, 307, 400, 404, 409, 418, 429, 500, 501, 507];

/// One message: fields, body in pieces, whether its length is said, and trailers where it is not.
#[derive(Debug)]
struct Half {
    fields: Vec<(String, String)>,
    pieces: Vec<Bytes>,
    length: bool,
    trailers: Vec<(String, String)>,
}

/// A request and its answer.
#[derive(Debug)]
struct Exchange {
    number: usize,
    method: &'static str,
    target: String,
    ask: Half,
    status: u16,
    answer: Half,
}

impl Exchange {
    fn draw(seed: u64, number: usize) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed ^ (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let method = METHODS[rng.random_range(0..METHODS.len())];
        let status = STATUSES[rng.random_range(0..STATUSES.len())];
        let target = format!("/{number}/{}?{}", word(&mut rng, 40), word(&mut rng, 40));
        let ask = Half::draw(&mut rng, false);
        let answer = Half::draw(&mut rng, method == "HEAD" || status == 204 || status == 304);
        Self { number, method, target, ask, status, answer }
    }
}

impl Half {
    fn draw(rng: &mut SmallRng, empty: bool) -> Self {
        let most = match rng.random_range(0..1000) {
            _ if empty => 0,
            0 => 8 << 20,
            1..=10 => 1 << 20,
            11..=100 => 64 << 10,
            101..=600 => 2000,
            _ => 0,
        };
        let mut body = vec![0; if most == 0 { 0 } else { rng.random_range(1..=most) }];
        rng.fill_bytes(&mut body);
        let (mut rest, mut pieces) = (Bytes::from(body), vec![]);
        while !rest.is_empty() {
            let most = if rng.random_bool(0.1) { 10 } else { 100_000 };
            pieces.push(rest.split_to(rng.random_range(1..=rest.len().min(most))));
        }
        let fields = (0..rng.random_range(0..6)).map(|n| (format!("x-{}", n % 4), word(rng, 200))).collect();
        let length = empty || rng.random_bool(0.5);
        let trailers = if length || rng.random_bool(0.5) { vec![] } else { vec![("x-trailer".into(), word(rng, 50))] };
        Self { fields, pieces, length, trailers }
    }

    fn size(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum()
    }

    /// Everything that is said before the body, besides its length.
    fn lines(&self) -> Vec<(String, String)> {
        let mut lines = self.fields.clone();
        if !self.trailers.is_empty() {
            lines.push(("trailer".into(), "x-trailer".into()));
        }
        lines
    }

    fn body(&self) -> BoxBody<Bytes, Infallible> {
        let mut frames: Vec<_> = self.pieces.iter().cloned().map(Frame::data).collect();
        if !self.trailers.is_empty() {
            frames.push(Frame::trailers(map(&self.trailers)));
        }
        BodyExt::boxed(StreamBody::new(futures::stream::iter(frames.into_iter().map(Ok))))
    }

    /// What of a message is not as it was drawn.
    fn differs(&self, fields: impl Fn(&str) -> Vec<String>, body: &[u8], trailers: Vec<String>) -> Option<String> {
        for (name, _) in &self.fields {
            let said: Vec<&String> = self.fields.iter().filter(|(n, _)| n == name).map(|(_, v)| v).collect();
            if fields(name).iter().collect::<Vec<_>>() != said {
                return Some(format!("{name}: {:?}, not {said:?}", fields(name)));
            }
        }
        if !self.pieces.iter().flatten().eq(body) {
            return Some(format!("a body of {} bytes, not {} (or others)", body.len(), self.size()));
        }
        let said: Vec<&String> = self.trailers.iter().map(|(_, v)| v).collect();
        (trailers.iter().collect::<Vec<_>>() != said).then(|| format!("trailers {trailers:?}, not {said:?}"))
    }
}

fn word(rng: &mut SmallRng, most: usize) -> String {
    const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~!$&'()*+,;=:@/%";
    let size = rng.random_range(1..=most);
    (0..size).map(|_| char::from(LETTERS[rng.random_range(0..LETTERS.len())])).collect()
}

fn map(fields: &[(String, String)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        let name: HeaderName = name.parse().expect("a name");
        map.append(name, HeaderValue::from_str(value).expect("a value"));
    }
    map
}

fn values(map: &HeaderMap, name: &str) -> Vec<String> {
    map.get_all(name).iter().map(|v| v.to_str().unwrap_or_default().to_owned()).collect()
}

/// The application: it checks what it gets, and says 599 and what is wrong, or the answer that was drawn.
async fn answer(seed: u64, request: Request<Incoming>) -> Response<BoxBody<Bytes, Infallible>> {
    let path = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    let number = path[1..].split('/').next().and_then(|n| n.parse().ok()).unwrap_or(0);
    let exchange = Exchange::draw(seed, number);
    let (parts, body) = request.into_parts();
    let collected = body.collect().await;
    let wrong = match collected {
        Err(error) => Some(error.to_string()),
        Ok(_) if parts.method != exchange.method || path != exchange.target => Some(format!("{} {path}", parts.method)),
        Ok(collected) => {
            let trailers = collected.trailers().map(|t| values(t, "x-trailer")).unwrap_or_default();
            let body = collected.to_bytes();
            exchange.ask.differs(|name| values(&parts.headers, name), &body, trailers)
        }
    };
    if let Some(wrong) = wrong {
        let text = format!("request {number}: {wrong}");
        eprintln!("{text}");
        let mut response = Response::new(http_body_util::Full::new(Bytes::from(text)).boxed());
        *response.status_mut() = http::StatusCode::from_u16(599).expect("a status");
        return response;
    }
    let half = &exchange.answer;
    let mut response = Response::new(half.body());
    *response.status_mut() = http::StatusCode::from_u16(exchange.status).expect("a status");
    *response.headers_mut() = map(&half.lines());
    if half.length && exchange.status != 204 {
        response.headers_mut().insert("content-length", half.size().into());
    }
    response
}

async fn application(seed: u64) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            tcp.set_nodelay(true).ok();
            let service = service_fn(move |r| async move { Ok::<_, Infallible>(answer(seed, r).await) });
            tokio::spawn(async move {
                let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(tcp), service).await;
            });
        }
    });
    address
}

/// All of them pipelined on one HTTP/1 connection.
async fn over_http1(outbound: SocketAddr, exchanges: Vec<Exchange>) {
    let (mut write, mut reader) = Raw::connect(outbound).await.into_parts();
    let exchanges = std::sync::Arc::new(exchanges);
    let asking = exchanges.clone();
    let writer = tokio::spawn(async move {
        for exchange in asking.iter() {
            if write.write_all(&http1(exchange)).await.is_err() {
                break;
            }
        }
        write
    });
    for exchange in exchanges.iter() {
        let number = exchange.number;
        let head = reader
            .head()
            .await
            .unwrap_or_else(|w| panic!("{number}: {w}"))
            .unwrap_or_else(|| panic!("{number}: closed"));
        let framing = framing_of_response(&head, exchange.method).unwrap_or_else(|w| panic!("{number}: {w}"));
        let mut message = Message { head, ..Message::default() };
        reader.body(framing, &mut message).await.unwrap_or_else(|w| panic!("{number}: {w}"));
        let told = format!(
            "{number} {} {}: {}",
            exchange.method,
            message.shown(),
            String::from_utf8_lossy(&message.body[..message.body.len().min(300)])
        );
        assert_eq!(message.word(), exchange.status.to_string(), "{told}");
        let trailers = message.trailers.split(|b| *b == b'\n').filter_map(|l| {
            let text = String::from_utf8_lossy(l).trim().to_owned();
            text.split_once(": ").map(|(_, value)| value.to_owned())
        });
        let wrong = exchange.answer.differs(|name| message.all(name), &message.body, trailers.collect());
        assert_eq!(wrong, None, "{told}");
    }
    drop(writer.await);
}

fn http1(exchange: &Exchange) -> Vec<u8> {
    let mut text = format!("{} {} HTTP/1.1\r\nHost: server:8080\r\nTE: trailers\r\n", exchange.method, exchange.target);
    for (name, value) in exchange.ask.lines() {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    let half = &exchange.ask;
    let mut bytes = text.into_bytes();
    if half.length {
        bytes.extend(format!("Content-Length: {}\r\n\r\n", half.size()).into_bytes());
        half.pieces.iter().for_each(|p| bytes.extend_from_slice(p));
        return bytes;
    }
    bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
    for piece in &half.pieces {
        bytes.extend(format!("{:x}\r\n", piece.len()).into_bytes());
        bytes.extend_from_slice(piece);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n");
    for (name, value) in &half.trailers {
        bytes.extend(format!("{name}: {value}\r\n").into_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

/// Eight at a time on one HTTP/2 connection.
async fn over_http2(outbound: SocketAddr, exchanges: Vec<Exchange>) {
    let tcp = tokio::net::TcpStream::connect(outbound).await.expect("a connection");
    tcp.set_nodelay(true).ok();
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tcp)).await;
    let (sender, connection) = handshake.expect("HTTP/2");
    tokio::spawn(connection);
    let all = futures::stream::iter(exchanges).map(|exchange| {
        let mut sender = sender.clone();
        async move {
            let mut request = Request::new(exchange.ask.body());
            *request.method_mut() = exchange.method.parse().expect("a method");
            *request.uri_mut() = format!("http://server:8080{}", exchange.target).parse().expect("a target");
            *request.headers_mut() = map(&exchange.ask.lines());
            request.headers_mut().insert("te", HeaderValue::from_static("trailers"));
            if exchange.ask.length {
                request.headers_mut().insert("content-length", exchange.ask.size().into());
            }
            let number = exchange.number;
            let (parts, body) =
                sender.send_request(request).await.unwrap_or_else(|e| panic!("{number}: {e}")).into_parts();
            let collected = body.collect().await.unwrap_or_else(|e| panic!("{number}: {e}"));
            let trailers = collected.trailers().map(|t| values(t, "x-trailer")).unwrap_or_default();
            let body = collected.to_bytes();
            let told = format!("{number} {parts:?}: {}", String::from_utf8_lossy(&body[..body.len().min(300)]));
            assert_eq!(parts.status.as_u16(), exchange.status, "{told}");
            let wrong = exchange.answer.differs(|name| values(&parts.headers, name), &body, trailers);
            assert_eq!(wrong, None, "{told}");
        }
    });
    all.buffer_unordered(8).for_each(|()| std::future::ready(())).await;
}

/// No try is repeated and no instance is put aside, whatever the application answers.
const AS_IT_IS: &str = "---
apiVersion: weir.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: server}
spec:
  targetRefs: [{kind: Service, group: '', name: server}]
  circuitBreaker: {outlierDetection: {consecutive5xx: 10000, consecutiveGatewayFailure: 10000}}
";

async fn everything_arrives(protocol: &str) {
    let (all, seed) = (count("WEIR_RANDOM", 10_000), count("WEIR_SEED", 4) as u64);
    let application = application(seed).await;
    let (_mesh, client, _server) = sidecars(protocol, application.port(), AS_IT_IS).await;
    // Half of them to each kind of application, over four connections of each version.
    let mut running = tokio::task::JoinSet::new();
    for part in 0..8 {
        let numbers = (0..all / 2).filter(|n| n % 8 == part);
        let exchanges: Vec<Exchange> = numbers.map(|n| Exchange::draw(seed, n)).collect();
        let outbound = client.outbound;
        running.spawn(async move {
            if part % 2 == 0 { over_http1(outbound, exchanges).await } else { over_http2(outbound, exchanges).await }
        });
    }
    while let Some(done) = running.join_next().await {
        done.unwrap_or_else(|e| panic!("{e}\n{}", client.log().lines().rev().take(3).collect::<Vec<_>>().join("\n")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_arrives_at_an_application_of_http_1() {
    everything_arrives("http").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_arrives_at_an_application_of_http_2() {
    everything_arrives("kubernetes.io/h2c").await;
}
