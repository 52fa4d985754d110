//! A connection has an age, and says so.

use super::*;
use crate::{body::ResponseBody, reply};
use http::{Response as HttpResponse, StatusCode};
use std::sync::Arc;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

/// Answers each request for which there is leave; its connections may become so old.
#[derive(Clone)]
struct Aged(Duration, Arc<Semaphore>);

impl Answer for Aged {
    fn answer(&self, _: Request<Incoming>, _: Option<Spelling>) -> Answering<'_> {
        Box::pin(async move {
            self.1.acquire().await.unwrap().forget();
            HttpResponse::new(ResponseBody::full("whole"))
        })
    }

    fn refuse(&self, error: &Error) -> Response {
        reply::error(error, false)
    }

    fn max_age(&self) -> Option<Duration> {
        Some(self.0)
    }
}

async fn served(speaks: Speaks, first: &[u8], answer: Aged) -> (TcpStream, drain::Trigger) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    let (trigger, watch) = drain::channel();
    tokio::spawn(serve(Io::plain(accepted.unwrap().0), first.to_vec(), speaks, answer, watch));
    (client.unwrap(), trigger)
}

#[tokio::test]
async fn over_http_2_an_old_connection_takes_nothing_new_and_finishes_what_it_has() {
    let leave = Arc::new(Semaphore::new(0));
    let (client, _trigger) = served(Speaks::Http2, &[], Aged(Duration::from_millis(50), leave.clone())).await;
    let (mut sender, connection) = h2::client::handshake(client).await.unwrap();
    let connection = tokio::spawn(connection);
    let (answer, _) = sender.send_request(Request::get("http://a/").body(()).unwrap(), true).unwrap();
    let told = async {
        while sender.clone().ready().await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), told).await.expect("it is told to make another connection");
    leave.add_permits(1);
    let answer = answer.await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.into_body().data().await.unwrap().unwrap(), "whole");
    drop(sender);
    connection.await.unwrap().expect("it ends in good order");
}

#[tokio::test]
async fn over_http_1_an_old_connection_ends_with_its_next_response() {
    for (age, closes) in [(Duration::ZERO, true), (Duration::from_secs(3600), false)] {
        let (mut client, _trigger) = served(Speaks::Http1, &[], Aged(age, Arc::new(Semaphore::new(1)))).await;
        client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"whole") {
            assert!(client.read_buf(&mut answer).await.unwrap() > 0);
        }
        assert_eq!(String::from_utf8_lossy(&answer).contains("connection: close"), closes, "{age:?}");
    }
}
