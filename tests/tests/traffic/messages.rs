//! Bodies and their ends: lengths, chunks, trailers, none at all; pipelining; answers that come early.

use crate::{path, request};
use std::time::Duration;
use weir_tests::{
    message::Message,
    raw::Raw,
    upstream::{OK, Step, Upstream},
};

fn answering(answer: &'static [u8]) -> impl Fn(&Message) -> Vec<Step> {
    move |_| vec![Step::ReadBody, Step::Send(answer.to_vec())]
}

/// It goes on on the same connection.
async fn goes_on(client: &mut Raw) {
    assert_eq!(client.ask("OPTIONS", request("OPTIONS /next", &[])).await.status(), 200, "the next request is served");
}

#[tokio::test(flavor = "multi_thread")]
async fn head_no_content_and_not_modified_have_no_body_whatever_they_declare() {
    let upstream = Upstream::start(|request| {
        let answer: &[u8] = match request.word().as_str() {
            "/head" => b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n",
            "/head-chunked" => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "/204" => b"HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n",
            "/304" => b"HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 99\r\n\r\n",
            _ => OK,
        };
        vec![Step::ReadBody, Step::Send(answer.to_vec())]
    })
    .await;
    let path = path(upstream).await;
    let mut client = path.connect().await;
    for _ in 0..2 {
        let head = client.ask("HEAD", request("HEAD /head", &[])).await;
        assert_eq!((head.status(), head.last.one("content-length").as_deref()), (200, Some("1234")));
        goes_on(&mut client).await;
        assert_eq!(client.ask("HEAD", request("HEAD /head-chunked", &[])).await.status(), 200);
        goes_on(&mut client).await;
        let empty = client.ask("DELETE", request("DELETE /204", &[])).await;
        assert_eq!((empty.status(), empty.last.one("x-a").as_deref()), (204, Some("b")));
        assert_eq!(empty.last.all("content-length").len() + empty.last.all("transfer-encoding").len(), 0);
        goes_on(&mut client).await;
        let same = client.ask("GET", request("GET /304", &[])).await;
        assert_eq!((same.status(), same.last.one("etag").as_deref()), (304, Some("\"x\"")));
        goes_on(&mut client).await;
    }
    assert_eq!(path.upstream.requests()[0].line(), "HEAD /head HTTP/1.1");
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_arrive_both_ways() {
    let answer =
        b"HTTP/1.1 200 OK\r\nTrailer: X-Back\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Back: 2\r\n\r\n";
    let path = path(Upstream::start(answering(answer)).await).await;
    let mut client = path.connect().await;
    let mut sent = request("POST /", &["Transfer-Encoding: chunked", "TE: trailers", "Trailer: X-Sum"]);
    sent.extend_from_slice(b"3\r\nabc\r\n2;ext=1\r\nde\r\n0\r\nX-Sum: 1\r\n\r\n");
    let answer = client.ask("POST", sent).await;
    let seen = path.upstream.whole(0).await;
    assert_eq!(seen.body, b"abcde");
    assert!(seen.trailers.eq_ignore_ascii_case(b"x-sum: 1\r\n"), "{:?}", seen.trailers.escape_ascii().to_string());
    assert_eq!(answer.last.body, b"ok");
    let back = &answer.last.trailers;
    assert!(back.eq_ignore_ascii_case(b"x-back: 2\r\n"), "{:?}", back.escape_ascii().to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_with_a_length_keep_it_and_chunks_stay_chunks() {
    let path = path(Upstream::ok().await).await;
    let mut client = path.connect().await;
    client.ask("POST", [&request("POST /", &["Content-Length: 3"])[..], b"abc"].concat()).await;
    client.ask("GET", [&request("GET /", &["Content-Length: 3"])[..], b"abc"].concat()).await;
    client.ask("POST", request("POST /", &["Content-Length: 0"])).await;
    client.ask("POST", request("POST /", &[])).await;
    let chunked = request("PUT /", &["Transfer-Encoding: chunked"]);
    client.ask("PUT", [&chunked[..], b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n"].concat()).await;
    client.ask("PUT", [&chunked[..], b"0\r\n\r\n"].concat()).await;
    let seen = path.upstream.requests();
    let told: Vec<(Option<String>, bool, &[u8])> =
        seen.iter().map(|m| (m.one("content-length"), m.chunked, &m.body[..])).collect();
    let length = |n: &str| Some(n.to_owned());
    assert_eq!(told[..3], [(length("3"), false, &b"abc"[..]), (length("3"), false, b"abc"), (length("0"), false, b"")]);
    assert!(told[3].0.as_deref().is_none_or(|l| l == "0") && !told[3].1, "{told:?}");
    assert_eq!(told[4..], [(None, true, &b"abc"[..]), (None, true, b"")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_requests_are_answered_in_their_order() {
    let upstream = Upstream::start(|request| {
        let body = request.word();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        vec![Step::ReadBody, Step::Send(answer.into_bytes())]
    })
    .await;
    let path = path(upstream).await;
    let mut client = path.connect().await;
    let mut all = vec![];
    for n in 0..20 {
        all.extend(request(&format!("POST /{n}"), &["Content-Length: 4"]));
        all.extend_from_slice(b"body");
    }
    client.send(all).await;
    for n in 0..20 {
        let answer = client.answer("POST").await.unwrap();
        assert_eq!((answer.status(), answer.last.body), (200, format!("/{n}").into_bytes()));
    }
    assert_eq!(path.upstream.requests().len(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_has_said_all_it_will_say_gets_its_answer() {
    let upstream = Upstream::start(|_| vec![Step::ReadBody, Step::Hold, Step::Send(OK.to_vec())]).await;
    let path = path(upstream).await;
    let mut client = path.connect().await;
    client.send([&request("POST /", &["Content-Length: 2"])[..], b"hi"].concat()).await.half_close().await;
    path.upstream.whole(0).await;
    path.upstream.release();
    let answer = client.answer("POST").await.unwrap();
    assert_eq!((answer.status(), &answer.last.body[..]), (200, &b"ok"[..]));
    assert_eq!(client.rest(Duration::from_secs(10)).await.as_deref(), Some(&b""[..]), "then the connection ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ends_its_answer_by_closing_is_heard_to_the_end() {
    let upstream = Upstream::start(|request| {
        let answer: &[u8] = match request.word().as_str() {
            "/close" => b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall of it",
            "/half" => b"HTTP/1.1 200 OK\r\n\r\nall of it",
            _ => b"HTTP/1.0 200 OK\r\n\r\nall of it",
        };
        let end = if request.word() == "/half" { vec![Step::HalfClose, Step::Mute] } else { vec![Step::Close] };
        [vec![Step::ReadBody, Step::Send(answer.to_vec())], end].concat()
    })
    .await;
    let path = path(upstream).await;
    for target in ["/close", "/half", "/1.0"] {
        let answer = path.connect().await.ask("GET", request(&format!("GET {target}"), &[])).await;
        assert_eq!((answer.status(), &answer.last.body[..]), (200, &b"all of it"[..]), "{target}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_is_seen_to_break_off() {
    let upstream = Upstream::start(|request| {
        let (answer, end): (&[u8], _) = match request.word().as_str() {
            "/length" => (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf of", Step::Close),
            "/chunked" => (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\nhalf of\r\n", Step::Close),
            _ => (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\nhalf of\r\n", Step::Reset),
        };
        vec![Step::ReadBody, Step::Send(answer.to_vec()), Step::Hold, end]
    })
    .await;
    let path = path(upstream).await;
    for target in ["/length", "/chunked", "/reset"] {
        let mut client = path.connect().await;
        client.send(request(&format!("GET {target}"), &[])).await;
        assert_eq!(client.head().await.unwrap().word(), "200", "{target}");
        let body = client.exactly(7).await.unwrap();
        path.upstream.release();
        let rest = client.rest(Duration::from_secs(10)).await.expect("the connection ends");
        let all = [body, rest].concat();
        assert!(all.windows(7).any(|w| w == b"half of"), "{target}: {}", all.escape_ascii());
        assert!(!all.ends_with(b"0\r\n\r\n"), "{target}: {}", all.escape_ascii());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_before_the_request_has_ended_arrives_and_nothing_is_confused() {
    let upstream = Upstream::start(|request| match request.word().as_str() {
        "/early" => vec![Step::Send(b"HTTP/1.1 413 Too Much\r\nContent-Length: 2\r\n\r\nno".to_vec()), Step::Mute],
        "/early-close" => {
            vec![
                Step::Send(b"HTTP/1.1 413 Too Much\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno".to_vec()),
                Step::Close,
            ]
        }
        "/late" => vec![Step::Send(OK.to_vec()), Step::ReadBody],
        _ => vec![Step::ReadBody, Step::Send(OK.to_vec())],
    })
    .await;
    let path = path(upstream).await;
    for (target, status) in [("/early", 413), ("/early-close", 413), ("/late", 200)] {
        let mut client = path.connect().await;
        let head = request(&format!("POST {target}"), &["Content-Length: 100000"]);
        client.send([&head[..], b"GET /smuggled HTTP/1.1\r\nHost: server:8080\r\n\r\n"].concat()).await;
        let answer = client.answer("POST").await.unwrap();
        assert_eq!(answer.status(), status, "{target}");
        // What follows is body, whatever it looks like: never a request.
        client.send(b"GET /smuggled HTTP/1.1\r\nHost: server:8080\r\n\r\n").await;
        drop(client);
        assert_eq!(path.connect().await.ask("GET", request("GET /after", &[])).await.status(), 200, "{target}");
        assert!(path.upstream.requests().iter().all(|r| r.word() != "/smuggled"), "{target}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_answered_early_and_sent_to_its_end_leaves_the_connection_usable_or_closed() {
    let upstream = Upstream::start(|request| match request.word().as_str() {
        "/late" => vec![Step::Send(OK.to_vec()), Step::ReadBody],
        _ => vec![Step::ReadBody, Step::Send(OK.to_vec())],
    })
    .await;
    let path = path(upstream).await;
    let mut client = path.connect().await;
    let head = request("POST /late", &["Content-Length: 300000"]);
    assert_eq!(client.ask("POST", [&head[..], &[b'x'; 1000]].concat()).await.status(), 200);
    client.send(vec![b'x'; 299_000]).await.send(request("GET /next", &[])).await;
    match client.answer("GET").await {
        Ok(answer) => assert_eq!(answer.status(), 200),
        Err(_) => assert!(path.upstream.requests().iter().all(|r| r.word() != "/next"), "closed, so not carried"),
    }
}
