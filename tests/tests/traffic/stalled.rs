//! Requests whose bodies stand still, and clients that do not read.

use crate::{path_of, request};
use bytes::Bytes;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use weir_tests::{
    eventually,
    upstream::{Step, Upstream},
};

/// Half a second is all.
const IDLE: &str = "---\napiVersion: weir.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: idle}\n\
                    spec: {targetRefs: [{kind: Service, name: server}], timeouts: {idle: 500ms}}\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_stands_still_is_given_up_over_both_versions() {
    let path = path_of("http", Upstream::ok().await, IDLE).await;
    let began = Instant::now();
    let mut client = path.connect().await;
    client.send(request("POST /a", &["Content-Length: 10"])).await.send("half").await;
    let answer = client.answer("POST").await.unwrap();
    assert_eq!((answer.status(), answer.reason().as_deref()), (408, Some("client_timeout")));
    assert!(client.rest(Duration::from_secs(20)).await.is_some(), "what it may still say is no request");

    let tcp = TcpStream::connect(path.client.outbound).await.unwrap();
    let (mut h2, connection) = h2::client::handshake(tcp).await.unwrap();
    tokio::spawn(connection);
    let post = || http::Request::post("http://server:8080/b").body(()).unwrap();
    let (answer, mut body) = h2.send_request(post(), false).unwrap();
    body.send_data(Bytes::from("half"), false).unwrap();
    let answer = answer.await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["weir-reason"]), (408, &"client_timeout".parse().unwrap()));
    assert!(began.elapsed() >= Duration::from_secs(1), "each had its time");
    let metrics = path.client.metrics().await;
    assert!(metrics.contains("response_code=\"408\",grpc_status=\"\",reason=\"client_timeout\""), "{metrics}");

    // Slow is not still: each byte has half a second.
    let mut slow = path.connect().await;
    slow.send(request("POST /c", &["Content-Length: 8"])).await;
    for _ in 0..8 {
        assert!(slow.is_silent(Duration::from_millis(150)).await, "nothing is said yet");
        slow.send("x").await;
    }
    assert_eq!(slow.answer("POST").await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_whose_answer_has_begun_may_take_its_time() {
    let upstream = Upstream::start(|_| {
        let head = Step::Send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec());
        // Longer than the idle time in all, and never still for so long.
        let bytes = (0..5).flat_map(|_| [Step::Pause(Duration::from_millis(300)), Step::Send(b"1\r\nx\r\n".to_vec())]);
        let end = [Step::ReadBody, Step::Send(b"0\r\n\r\n".to_vec())];
        [head].into_iter().chain(bytes).chain(end).collect()
    });
    let path = path_of("http", upstream.await, IDLE).await;
    let mut client = path.connect().await;
    client.send(request("POST /a", &["Content-Length: 10"])).await.send("half").await;
    assert_eq!(client.head().await.unwrap().word(), "200");
    assert_eq!(client.exactly(30).await.unwrap(), "1\r\nx\r\n".repeat(5).as_bytes());
    client.send(" whole").await;
    assert_eq!(client.exactly(5).await.unwrap(), b"0\r\n\r\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_answer_has_its_idle_time() {
    let silent = |_: &_| {
        let head = Step::Send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n".to_vec());
        vec![head, Step::Pause(Duration::from_secs(2)), Step::Send(b"1\r\nx\r\n0\r\n\r\n".to_vec())]
    };
    let (written, unwritten) =
        tokio::join!(async { path_of("http", Upstream::start(silent).await, IDLE).await }, async {
            path_of("http", Upstream::start(silent).await, "").await
        },);
    for (path, whole) in [(written, false), (unwritten, true)] {
        let mut client = path.connect().await;
        client.send(request("GET /a", &[])).await;
        let answer = client.answer("GET").await;
        assert_eq!(answer.is_ok_and(|answer| answer.last.body == *b"xx"), whole);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn for_a_client_that_does_not_read_little_is_done() {
    // An application that sends without end, once it is asked.
    let upstream = Upstream::start(|_| vec![Step::Repeat(&[b'z'; 10_000], 100_000)]).await;
    let path = path_of("tcp", upstream, "").await;
    let mut client = path.connect().await;
    let connect = "CONNECT server:8080 HTTP/1.1\r\nHost: server:8080\r\n\r\n";
    assert_eq!(client.ask("CONNECT", connect).await.status(), 200);
    client.send("GET / HTTP/1.1\r\nHost: server\r\n\r\n").await;
    let (path, before) = (&path, &std::cell::Cell::new(0));
    let sent = eventually("it stands still", 30, || async move {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let metrics = path.client.metrics().await;
        let mut lines = metrics.lines();
        let count = lines.find_map(|l| l.strip_prefix(r#"weir_tcp_sent_bytes_total{direction="outbound"} "#));
        let sent = count.expect("it is counted").parse::<u64>().unwrap();
        (before.replace(sent) == sent && sent > 0).then_some(sent)
    })
    .await;
    assert!(sent < 1024 * 1024, "{sent} bytes were written for nobody");
    assert!(client.exactly(4_000_000).await.unwrap().iter().all(|b| *b == b'z'), "and when it reads, all is there");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_body_arrives_however_slowly_what_came_before_was_taken() {
    const LENGTH: usize = 12_000_000;
    // The application takes a pause in the middle of what it reads, and sends as fast as it can.
    let upstream = Upstream::start(|_| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n");
        let pause = Step::Pause(Duration::from_millis(300));
        vec![pause, Step::ReadBody, Step::Send(head.into_bytes()), Step::Repeat(&[b'z'; 10_000], LENGTH / 10_000)]
    });
    let path = path_of("http", upstream.await, "").await;
    let body = vec![b'y'; LENGTH];
    for _ in 0..8 {
        let mut client = path.connect().await;
        client.send(request("POST /", &[&format!("Content-Length: {LENGTH}")])).await.send(&body).await;
        assert_eq!(client.head().await.unwrap().word(), "200");
        // All that there is room for on the way waits.
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(client.exactly(LENGTH).await.unwrap().iter().all(|b| *b == b'z'));
    }
    assert!(path.upstream.requests().iter().all(|request| request.body == body), "what was sent has arrived");
}
