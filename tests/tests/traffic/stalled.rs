//! Requests whose bodies stand still.

use crate::{path_of, request};
use bytes::Bytes;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use weir_tests::upstream::{Step, Upstream};

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
