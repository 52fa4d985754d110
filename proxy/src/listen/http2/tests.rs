//! A connection of HTTP/2 against a client that does what the test says.

use super::*;
use crate::{body::ResponseBody, http1::Spelling, listen::http::Answering, reply, takeover};
use h2::client::{self, SendRequest};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::BodyExt as _;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// Answers by the path: `/echo` with the request's body, `/hints` after an interim response, `/long` with more than any
/// window takes, `CONNECT` with what comes.
#[derive(Clone, Default)]
struct Pages {
    asked: Arc<AtomicUsize>,
}

impl Answer for Pages {
    fn answer(&self, mut request: Request<Incoming>, _: Option<Spelling>) -> Answering<'_> {
        self.asked.fetch_add(1, Relaxed);
        Box::pin(async move {
            if *request.method() == Method::CONNECT {
                let stream = takeover::Takeover::of(&mut request);
                tokio::spawn(async move {
                    let (mut from, mut to) = tokio::io::split(stream.taken().await.unwrap());
                    tokio::io::copy(&mut from, &mut to).await.unwrap();
                    to.shutdown().await.unwrap();
                });
                return reply::status(StatusCode::OK);
            }
            match request.uri().path() {
                "/echo" => Response::new(ResponseBody::incoming(request.into_body())),
                "/hints" => {
                    let client = request.body().interim().unwrap();
                    let mut headers = HeaderMap::new();
                    headers.insert("link", HeaderValue::from_static("</a>"));
                    headers.insert("connection", HeaderValue::from_static("close"));
                    client.send(StatusCode::EARLY_HINTS, &headers, None);
                    client.send(StatusCode::CONTINUE, &HeaderMap::new(), None);
                    client.send(StatusCode::CONTINUE, &HeaderMap::new(), None);
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    Response::new(ResponseBody::full(body))
                }
                "/long" => Response::new(ResponseBody::full(vec![b'x'; 1 << 20])),
                _ => reply::status(StatusCode::NO_CONTENT),
            }
        })
    }

    fn refuse(&self, error: &crate::error::Error) -> Response {
        reply::error(error, false)
    }
}

/// The server's side of a connection, and the client's socket.
async fn serving(pages: &Pages, drain: drain::Watch) -> (JoinHandle<()>, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (tcp, _) = listener.accept().await.unwrap();
    let pages = pages.clone();
    (tokio::spawn(async move { serve(Io::plain(tcp), vec![], pages, drain).await }), client)
}

async fn client(tcp: TcpStream, window: u32) -> SendRequest<Bytes> {
    let (client, connection) =
        client::Builder::new().initial_window_size(window).handshake::<_, Bytes>(tcp).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    client.ready().await.unwrap()
}

fn get(path: &str) -> Request<()> {
    Request::get(format!("http://a{path}")).body(()).unwrap()
}

#[tokio::test]
async fn bodies_and_trailers_go_both_ways() {
    let (trigger, watch) = drain::channel();
    let (_server, tcp) = serving(&Pages::default(), watch).await;
    let mut client = client(tcp, 65_535).await;
    let (answer, mut body) = client.send_request(get("/echo"), false).unwrap();
    body.send_data(Bytes::from_static(b"hello"), false).unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from_static("5"));
    body.send_trailers(trailers.clone()).unwrap();
    let mut answer = answer.await.unwrap().into_body();
    assert_eq!(answer.data().await.unwrap().unwrap(), "hello");
    assert!(answer.data().await.is_none());
    assert_eq!(answer.trailers().await.unwrap(), Some(trailers));

    let (answer, _) = client.send_request(get("/"), true).unwrap();
    let answer = answer.await.unwrap();
    assert_eq!(
        (answer.status(), answer.headers().len(), answer.body().is_end_stream()),
        (StatusCode::NO_CONTENT, 0, true)
    );
    let (answer, _) = client.send_request(get("/long"), true).unwrap();
    assert_eq!(answer.await.unwrap().headers()["content-length"], "1048576");
    drop(trigger);
}

#[tokio::test]
async fn interim_responses_are_passed_on_and_continue_said_once() {
    let (_trigger, watch) = drain::channel();
    let (_server, tcp) = serving(&Pages::default(), watch).await;
    let mut client = client(tcp, 65_535).await;
    for expects in [true, false] {
        let mut request = get("/hints");
        if expects {
            request.headers_mut().insert(EXPECT, HeaderValue::from_static("100-Continue"));
        }
        let (mut answer, mut body) = client.send_request(request, false).unwrap();
        let interim = poll_fn(|cx| answer.poll_informational(cx)).await.unwrap().unwrap();
        assert_eq!((interim.status(), interim.headers().len()), (StatusCode::EARLY_HINTS, 1));
        assert_eq!(interim.headers()["link"], "</a>");
        if expects {
            let interim = poll_fn(|cx| answer.poll_informational(cx)).await.unwrap().unwrap();
            assert_eq!(interim.status(), StatusCode::CONTINUE);
        }
        body.send_data(Bytes::from_static(b"hello"), true).unwrap();
        assert!(poll_fn(|cx| answer.poll_informational(cx)).await.is_none(), "no other");
        assert_eq!(answer.await.unwrap().into_body().data().await.unwrap().unwrap(), "hello");
    }
}

#[tokio::test]
async fn a_stream_that_connect_opened_carries_bytes_to_its_end() {
    let (_trigger, watch) = drain::channel();
    let (_server, tcp) = serving(&Pages::default(), watch).await;
    let mut client = client(tcp, 65_535).await;
    let request = Request::builder().method(Method::CONNECT).uri("a:80").body(()).unwrap();
    let (answer, mut send) = client.send_request(request, false).unwrap();
    let answer = answer.await.unwrap();
    assert_eq!((answer.status(), answer.headers().len()), (StatusCode::OK, 0));
    let mut receive = answer.into_body();
    // More than the windows hold: what is read is given back.
    let piece = Bytes::from(vec![b'z'; 50_000]);
    let mut received = 0;
    for _ in 0..10 {
        send.send_data(piece.clone(), false).unwrap();
        while received % piece.len() != 0 || received == 0 {
            let data = receive.data().await.unwrap().unwrap();
            received += data.len();
            receive.flow_control().release_capacity(data.len()).unwrap();
        }
        received = 0;
    }
    send.send_data(Bytes::new(), true).unwrap();
    let rest = http_body_util::BodyExt::collect(Incoming::from(http2::Incoming::new(receive, None))).await.unwrap();
    assert_eq!(rest.to_bytes().len(), 0, "and the end");
}

#[tokio::test]
async fn what_is_cancelled_in_the_same_breath_is_not_begun() {
    let pages = Pages::default();
    let (_trigger, watch) = drain::channel();
    let (_server, mut tcp) = serving(&pages, watch).await;
    let frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        let length = &(payload.len() as u32).to_be_bytes()[1..];
        [length, &[kind, flags], &stream.to_be_bytes(), payload].concat()
    };
    let mut bytes = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(4, 0, 0, &[])].concat();
    // GET, http, /, and an authority of one letter: entries of HPACK's static table.
    let head = [0x82, 0x86, 0x84, 0x41, 1, b'a'];
    for stream in 0..50 {
        bytes.extend(frame(1, 5, stream * 2 + 1, &head));
        bytes.extend(frame(3, 0, stream * 2 + 1, &8u32.to_be_bytes()));
    }
    bytes.extend(frame(1, 5, 101, &head));
    tcp.write_all(&bytes).await.unwrap();
    let mut read = vec![];
    // The answer to the last one: HEADERS that end the stream.
    while !read.windows(6).any(|w| w == [1, 5, 0, 0, 0, 101]) {
        assert_ne!(tcp.read_buf(&mut read).await.unwrap(), 0);
    }
    assert_eq!(pages.asked.load(Relaxed), 1);
}

#[tokio::test]
async fn a_drain_lets_what_was_asked_come_to_its_end() {
    let (trigger, watch) = drain::channel();
    let (server, tcp) = serving(&Pages::default(), watch).await;
    let mut client = client(tcp, 65_535).await;
    let (answer, mut body) = client.send_request(get("/echo"), false).unwrap();
    let answer = answer.await.unwrap();
    trigger.begin();
    body.send_data(Bytes::from_static(b"late"), true).unwrap();
    assert_eq!(answer.into_body().data().await.unwrap().unwrap(), "late");
    server.await.unwrap();
    assert!(client.clone().ready().await.is_err(), "nothing new");
}

#[tokio::test]
async fn a_client_that_does_not_answer_is_given_up() {
    let (_trigger, watch) = drain::channel();
    let (server, mut tcp) = serving(&Pages::default(), watch).await;
    tcp.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut first = [0; 9];
    tcp.read_exact(&mut first).await.unwrap();
    tokio::time::pause();
    let begun = tokio::time::Instant::now();
    server.await.unwrap();
    assert!((49..53).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
}

#[test]
fn what_a_request_under_way_holds_stays_small() {
    fn size<F>(_: impl FnOnce(Pages, Request<RecvStream>, server::SendResponse<Bytes>, resets::Stream) -> F) -> usize {
        size_of::<F>()
    }
    let bytes = size(exchange::<Pages>);
    assert!(bytes <= 1024, "{bytes} bytes");
}
