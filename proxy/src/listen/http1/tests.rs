//! Connections rest, wake, and lose nothing.

use super::*;
use crate::{listen::detect::Speaks, reply, stage::Response};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

#[derive(Clone)]
struct Ok200;

impl Answer for Ok200 {
    async fn answer(&self, _: Request<Incoming>) -> Response {
        reply::status(http::StatusCode::OK)
    }
}

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";

async fn connection() -> (TcpStream, Io) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (client, served) = tokio::join!(TcpStream::connect(address), listener.accept());
    (client.unwrap(), Io::plain(served.unwrap().0))
}

async fn served() -> (TcpStream, drain::Trigger, JoinHandle<()>) {
    let (client, io) = connection().await;
    let (trigger, watch) = drain::channel();
    let serving = crate::listen::http::serve(io, Vec::new(), Speaks::Http1, Ok200, watch);
    (client, trigger, tokio::spawn(serving))
}

async fn answered(client: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        assert!(client.read_buf(&mut answer).await.unwrap() > 0, "closed after {answer:?}");
    }
    String::from_utf8(answer).unwrap()
}

/// Lets two ticks pass.
async fn silence() {
    tokio::time::pause();
    for _ in 0..2 {
        tokio::time::advance(TICK + Duration::from_millis(1)).await;
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
    }
    tokio::time::resume();
}

#[tokio::test]
async fn a_silent_connection_rests_and_serves_on() {
    let (mut client, _trigger, _) = served().await;
    for _ in 0..3 {
        client.write_all(REQUEST).await.unwrap();
        assert!(answered(&mut client).await.starts_with("HTTP/1.1 200"));
        assert_eq!(SERVED.get(), 1);
        silence().await;
        assert_eq!(SERVED.get(), 0);
    }
}

#[tokio::test]
async fn a_connection_at_rest_sees_its_clients_end() {
    let (mut client, _trigger, serving) = served().await;
    client.write_all(REQUEST).await.unwrap();
    answered(&mut client).await;
    silence().await;
    drop(client);
    serving.await.unwrap();
}

#[tokio::test]
async fn half_a_request_behind_another_is_not_lost() {
    let (mut client, _trigger, _) = served().await;
    let (half, rest) = REQUEST.split_at(10);
    client.write_all(&[REQUEST, half].concat()).await.unwrap();
    answered(&mut client).await;
    silence().await;
    client.write_all(rest).await.unwrap();
    assert!(answered(&mut client).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_drain_lets_a_connection_at_rest_send_one_more_request_and_then_closes_it() {
    let (mut client, trigger, serving) = served().await;
    client.write_all(REQUEST).await.unwrap();
    assert!(!answered(&mut client).await.contains("connection: close"));
    silence().await;
    trigger.begin();
    client.write_all(REQUEST).await.unwrap();
    assert!(answered(&mut client).await.contains("connection: close"));
    serving.await.unwrap();
}

#[tokio::test]
async fn a_drain_closes_a_connection_at_rest() {
    let (mut client, trigger, serving) = served().await;
    client.write_all(REQUEST).await.unwrap();
    answered(&mut client).await;
    silence().await;
    tokio::time::pause();
    assert!(trigger.drain(LINGER * 2).await);
    serving.await.unwrap();
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn beyond_a_number_silent_connections_rest_at_once() {
    let others: Vec<_> = (0..AWAKE).map(|_| Awake::begin()).collect();
    let (mut client, _trigger, _) = served().await;
    client.write_all(REQUEST).await.unwrap();
    answered(&mut client).await;
    while SERVED.get() > AWAKE {
        tokio::task::yield_now().await;
    }
    drop(others);
}

/// What a connection keeps while it rests; ten thousand of them are to fit into ten megabytes.
#[tokio::test]
async fn a_connection_at_rest_is_small() {
    let (_client, io) = connection().await;
    let (_trigger, watch) = drain::channel();
    let size = size_of_val(&crate::listen::http::serve(io, Vec::new(), Speaks::Http1, Ok200, watch));
    assert!(size <= 800, "{size} bytes");
}
