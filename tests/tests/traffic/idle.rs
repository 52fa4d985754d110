//! An application that closes connections which were silent for a while, and clients that ask again at just that moment:
//! no request may be lost that may be sent again, and hardly any other.
//!
//! A `POST` that meets the close itself is lost: nobody knows whether it was carried out. What a sidecar can do is not to
//! send it in the last moments of a connection; on a machine that is late itself, it may fail at that.
//!
//! `WEIR_IDLE` is how many requests are made in all (6,000 unless it says otherwise; the long form is 100,000).

use crate::{count, request, sidecars};
use rand::Rng;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{io::AsyncWriteExt, net::TcpListener, sync::Barrier, time::timeout};
use weir_tests::{
    message::{Message, Reader, framing_of_request},
    raw::Raw,
    upstream::OK,
};

/// An application with this keep-alive timeout, and how often it closed for it.
async fn closing(keep_alive: Duration) -> (SocketAddr, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let closed = Arc::new(AtomicU64::new(0));
    let counted = closed.clone();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            tcp.set_nodelay(true).ok();
            let closed = counted.clone();
            tokio::spawn(async move {
                let (read, mut write) = tcp.into_split();
                let mut reader = Reader::new(read);
                // Keep-alive begins with the first answer; until then servers wait longer.
                let mut patience = Duration::from_secs(30);
                loop {
                    let next = timeout(patience, reader.head()).await;
                    patience = keep_alive;
                    let Ok(head) = next else {
                        closed.fetch_add(1, Ordering::Relaxed);
                        return;
                    };
                    let Ok(Some(head)) = head else { return };
                    let Ok(framing) = framing_of_request(&head) else { return };
                    if reader.body(framing, &mut Message::default()).await.is_err()
                        || write.write_all(OK).await.is_err()
                    {
                        return;
                    }
                }
            });
        }
    });
    (address, closed)
}

/// `clients` ask all at once, each again after a time around `keep_alive`, `rounds` times. What was no `200`, and how often.
async fn ask_around(keep_alive: Duration, clients: usize, rounds: usize) -> (BTreeMap<String, u64>, u64) {
    let (application, closed) = closing(keep_alive).await;
    let (_mesh, client, server) = sidecars("http", application.port(), "").await;
    let together = Arc::new(Barrier::new(clients));
    let mut running = tokio::task::JoinSet::new();
    for number in 0..clients {
        let (outbound, together) = (client.outbound, together.clone());
        running.spawn(async move {
            let mut bad: BTreeMap<String, u64> = BTreeMap::new();
            let mut connection = Raw::connect(outbound).await;
            let post = [request("POST /", &["Content-Length: 2"]), b"hi".to_vec()].concat();
            let (method, ask) = if number % 2 == 0 { ("GET", request("GET /", &[])) } else { ("POST", post) };
            for _ in 0..rounds {
                // Many connections are busy at once, so that many are silent for the same time.
                together.wait().await;
                connection.send(&ask).await;
                match connection.answer(method).await {
                    Ok(answer) if answer.status() == 200 => {}
                    Ok(answer) => {
                        *bad.entry(format!("{method} {} {:?}", answer.status(), answer.reason())).or_default() += 1;
                    }
                    Err(wrong) => {
                        *bad.entry(wrong).or_default() += 1;
                        connection = Raw::connect(outbound).await;
                    }
                }
                let pause = keep_alive.mul_f64(rand::rng().random_range(0.9..1.1));
                tokio::time::sleep(pause).await;
            }
            bad
        });
    }
    let mut all: BTreeMap<String, u64> = BTreeMap::new();
    while let Some(bad) = running.join_next().await {
        for (what, n) in bad.expect("a client") {
            *all.entry(what).or_default() += n;
        }
    }
    for (side, log) in [("client", client.log()), ("server", server.log())] {
        let failed = log.lines().filter(|l| l.contains("\"response_code\":503"));
        failed.take(3).for_each(|line| eprintln!("{side}: {line}"));
    }
    (all, closed.load(Ordering::Relaxed))
}

/// None fails.
fn judge(requests: usize, bad: &BTreeMap<String, u64>, closed: u64) {
    let told = format!("of {requests} requests: {bad:?} ({closed} connections were closed by the application)");
    eprintln!("{told}");
    assert!(bad.is_empty(), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_closes_after_200_ms_and_clients_every_180_to_220_ms() {
    let (requests, clients) = (count("WEIR_IDLE", 6_000), 120);
    let (bad, closed) = ask_around(Duration::from_millis(200), clients, requests / clients).await;
    judge(requests, &bad, closed);
    assert!(closed as usize > clients / 2, "only {closed} connections were closed: this was no test");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_closes_after_a_second_and_clients_every_0_9_to_1_1_seconds() {
    let (clients, rounds) = (100, 5);
    let (bad, closed) = ask_around(Duration::from_secs(1), clients, rounds).await;
    judge(clients * rounds, &bad, closed);
    assert!(closed > 0, "nothing was closed: this was no test");
}
