//! Bodies and their places on a connection.

use super::*;
use crate::http1::Incoming;
use std::future::poll_fn;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
};

async fn pair() -> (TcpStream, Conn) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (client, served) = tokio::join!(TcpStream::connect(address), listener.accept());
    (client.unwrap(), Conn::new(Io::plain(served.unwrap().0), b""))
}

async fn data(body: &mut Incoming) -> Option<io::Result<Bytes>> {
    poll_fn(|cx| body.poll_frame(cx)).await.map(|frame| frame.map(|f| f.into_data().unwrap_or_default()))
}

#[tokio::test]
async fn a_body_reads_its_own_message_and_nothing_of_the_next() {
    let (mut client, conn) = pair().await;
    let conn = conn.shared();
    let two =
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcPOST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nde";
    client.write_all(two).await.unwrap();
    let head = poll_fn(|cx| conn.lock().poll_request(cx)).await.unwrap();
    let mut first = Incoming::new(conn.clone(), head.length);
    assert_eq!(first.size_hint().exact(), Some(3));
    assert_eq!(data(&mut first).await.unwrap().unwrap(), "abc");
    assert!(first.is_end_stream() && data(&mut first).await.is_none());
    let head = poll_fn(|cx| conn.lock().poll_request(cx)).await.unwrap();
    let mut second = Incoming::new(conn.clone(), head.length);
    assert!(data(&mut first).await.unwrap().is_err());
    assert_eq!(data(&mut second).await.unwrap().unwrap(), "de");
}

#[tokio::test]
async fn a_body_that_is_cut_is_an_error_unless_the_end_of_the_connection_is_its_end() {
    let (mut client, mut conn) = pair().await;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\nab").await.unwrap();
    drop(client);
    let head = poll_fn(|cx| conn.poll_response(false, cx)).await.unwrap();
    assert_eq!((head.length, head.persists), (Length::UntilClose, false));
    let mut body = Incoming::new(conn.shared(), head.length);
    assert_eq!(data(&mut body).await.unwrap().unwrap(), "ab");
    assert!(data(&mut body).await.is_none());

    let (mut client, mut conn) = pair().await;
    client.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab").await.unwrap();
    drop(client);
    let head = poll_fn(|cx| conn.poll_response(false, cx)).await.unwrap();
    let mut body = Incoming::new(conn.shared(), head.length);
    assert_eq!(data(&mut body).await.unwrap().unwrap(), "ab");
    assert!(data(&mut body).await.unwrap().is_err());
}

#[tokio::test]
async fn a_peer_that_says_too_much_has_to_wait_and_one_that_is_gone_is_noticed() {
    let (mut client, mut conn) = pair().await;
    client.write_all(&vec![b'x'; 64 * 1024]).await.unwrap();
    while conn.read.len() < AHEAD {
        assert!(poll_fn(|cx| Poll::Ready(conn.poll_gone(cx))).await.is_pending());
        tokio::task::yield_now().await;
    }
    assert!(conn.read.len() <= AHEAD + SCRATCH && conn.has_more());
}

#[tokio::test]
async fn a_connection_that_goes_on_as_bytes_takes_what_had_come() {
    let (mut client, mut conn) = pair().await;
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nrest").await.unwrap();
    let head = poll_fn(|cx| conn.poll_request(cx)).await.unwrap();
    let conn = conn.shared();
    let waiting = Incoming::new(conn.clone(), head.length).takeover();
    conn.lock().hand_over();
    let mut taken = waiting.taken().await.unwrap();
    let mut got = [0; 4];
    taken.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"rest");
    assert!(poll_fn(|cx| conn.lock().poll_flush(cx)).await.is_err());
}
