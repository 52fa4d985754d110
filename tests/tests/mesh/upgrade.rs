//! Hot upgrade: a new process takes over from a running sidecar under load, with hundreds of WebSockets and gRPC streams
//! open. None is cut and no request fails; a new process that does not become ready, or dies, changes nothing.

use crate::{Pair, pair};
use http::{Method, StatusCode};
use nix::sys::signal::Signal;
use std::{
    net::SocketAddr,
    path::Path,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    task::JoinSet,
};
use weir_tests::{
    client::get,
    eventually, free_port,
    load::Load,
    mesh::{Mesh, Sidecar, service, workload},
    peers,
    process::Process,
};

/// Open WebSockets.
const SOCKETS: usize = 500;
/// Requests a second, GET and POST each.
const RATE: u32 = 150;

/// A WebSocket (RFC 6455 §4.1) that has been opened through a sidecar.
async fn websocket(outbound: SocketAddr) -> TcpStream {
    let mut tcp = TcpStream::connect(outbound).await.expect("the sidecar");
    let asked = "GET /upgrade/0 HTTP/1.1\r\nhost: server:8080\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                 sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    tcp.write_all(asked.as_bytes()).await.expect("a request");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(tcp.read_u8().await.expect("an answer"));
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
    tcp
}

/// A text frame of a client, masked with zeroes so that its echo can be compared.
fn frame(number: u64) -> [u8; 14] {
    let mut frame = [0; 14];
    frame[..2].copy_from_slice(&[0x81, 0x88]);
    frame[6..].copy_from_slice(&number.to_be_bytes());
    frame
}

/// WebSockets that talk until they are told to end.
struct Talking {
    over: Arc<AtomicBool>,
    messages: Arc<AtomicU64>,
    sockets: JoinSet<Result<(), String>>,
}

impl Talking {
    async fn start(outbound: SocketAddr, count: usize) -> Self {
        let (over, messages) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut sockets = JoinSet::new();
        for n in 0..count {
            let tcp = websocket(outbound).await;
            sockets.spawn(talk(tcp, n as u64, over.clone(), messages.clone()));
        }
        Self { over, messages, sockets }
    }

    /// Ends them; each must have lived and end in order.
    async fn end(mut self) -> u64 {
        self.over.store(true, Ordering::Relaxed);
        while let Some(ended) = self.sockets.join_next().await {
            ended.expect("a task").expect("a WebSocket that lives");
        }
        self.messages.load(Ordering::Relaxed)
    }
}

async fn talk(mut tcp: TcpStream, n: u64, over: Arc<AtomicBool>, messages: Arc<AtomicU64>) -> Result<(), String> {
    let mut number = n << 32;
    while !over.load(Ordering::Relaxed) {
        let (sent, mut echo) = (frame(number), [0; 14]);
        let exchange = async {
            tcp.write_all(&sent).await?;
            tcp.read_exact(&mut echo).await
        };
        let done = tokio::time::timeout(Duration::from_secs(20), exchange).await;
        done.map_err(|_| format!("socket {n} was silent"))?.map_err(|e| format!("socket {n}: {e}"))?;
        if echo != sent {
            return Err(format!("socket {n}: {sent:?} came back as {echo:?}"));
        }
        number += 1;
        messages.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    tcp.shutdown().await.map_err(|e| e.to_string())?;
    let left = tokio::time::timeout(Duration::from_secs(20), tcp.read(&mut [0; 16])).await;
    match left {
        Ok(Ok(0)) => Ok(()),
        other => Err(format!("socket {n} does not end in order: {other:?}")),
    }
}

/// The first lines of a log that tell of what went wrong.
fn troubles(log: &str) -> impl Iterator<Item = &str> {
    let bad = |line: &&str| line.contains("WARN") || line.contains("\"response_code\":5") || line.contains("refused");
    log.lines().filter(bad).take(8)
}

/// gRPC's own client with streams that talk; `None` where it is not installed.
struct Streams {
    client: tokio::process::Child,
    lines: tokio::io::Lines<BufReader<tokio::process::ChildStdout>>,
}

impl Streams {
    async fn start(python: &Path, outbound: SocketAddr, count: usize) -> Self {
        let mut client = tokio::process::Command::new(python)
            .arg(script())
            .args(["hold", &outbound.to_string(), &count.to_string(), "stream:8080"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("a client");
        let lines = BufReader::new(client.stdout.take().expect("its output")).lines();
        let mut streams = Self { client, lines };
        assert_eq!(streams.line().await, "all streams talk");
        streams
    }

    async fn line(&mut self) -> String {
        let line = tokio::time::timeout(Duration::from_secs(90), self.lines.next_line()).await;
        line.expect("in time").expect("readable").unwrap_or_else(|| "the client has ended: see above".into())
    }

    async fn end(mut self) -> String {
        drop(self.client.stdin.take());
        self.line().await
    }
}

fn script() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/peers/grpc_peer.py"))
}

/// A gRPC server with its sidecar, as the service `stream:8080`.
async fn stream_server(mesh: &Mesh, python: &Path) -> (Process, Sidecar) {
    let (application, inbound) = (free_port(), free_port());
    mesh.apply(&(service("stream", 8080, "grpc") + &workload("stream-1", "stream", application, inbound))).await;
    let mut command = std::process::Command::new(python);
    command.arg(script()).args(["server", &application.to_string()]);
    let server = Process::start("stream-application", mesh.folder.path(), &mut command);
    eventually("the Python server listens", 20, || async { TcpStream::connect(("127.0.0.1", application)).await.ok() })
        .await;
    (server, mesh.sidecar("stream-1", "stream", inbound).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_under_load_cuts_no_websocket_and_no_stream_and_fails_no_request() {
    let Pair { mesh, mut client, mut server, application } = pair("http", "").await;
    let python = peers::python();
    let mut streaming = match &python {
        Some(python) => {
            let (process, sidecar) = stream_server(&mesh, python).await;
            Some((process, sidecar, Streams::start(python, client.outbound, 12).await))
        }
        None => None,
    };
    let sockets = Talking::start(client.outbound, SOCKETS).await;
    let loads = [Method::GET, Method::POST].map(|m| Load::of(m, client.outbound, "server:8080", "/", RATE));
    let goes_on = async |more: u64| {
        let then = loads.each_ref().map(|load| load.so_far().total());
        eventually("load goes on", 60, || async {
            loads.iter().zip(then).all(|(l, then)| l.so_far().total() > then + more).then_some(())
        })
        .await;
    };
    goes_on(300).await;
    let before = application.requests();

    // The callee first, then the caller, then the one with streams.
    let mut old = vec![server.upgrade(&mesh).await];
    goes_on(300).await;
    old.push(client.upgrade(&mesh).await);
    goes_on(300).await;
    if let Some((_, sidecar, _)) = &mut streaming {
        old.push(sidecar.upgrade(&mesh).await);
        goes_on(100).await;
    }
    assert!(application.requests() > before + 600);
    for process in &mut old {
        assert!(process.is_running(), "it has connections to carry:\n{}", process.log());
    }
    let metrics = client.metrics().await;
    let served = metrics.lines().any(|l| l.starts_with("weir_requests_total{direction=\"outbound\""));
    assert!(served, "the new process serves:\n{metrics}");

    for load in loads {
        let report = load.stop().await;
        eprintln!("{} requests, the slowest took {:?}", report.good, report.slowest);
        if !report.bad.is_empty() {
            let logs = [("old", old[1].log()), ("new", client.log()), ("callee", server.log())];
            for (who, line) in logs.iter().flat_map(|(who, log)| troubles(log).map(move |line| (who, line))) {
                eprintln!("{who}: {line}");
            }
        }
        report.assert_all_good(900);
    }
    let messages = sockets.end().await;
    assert!(messages > SOCKETS as u64 * 2, "{messages} messages");
    eprintln!("{messages} messages on {SOCKETS} WebSockets");
    if let Some((_, _, streams)) = streaming.take() {
        let said = streams.end().await;
        eprintln!("{said}");
        assert!(said.starts_with("all streams lived"), "{said}");
    }
    // With nothing left to carry the old ones end, the callers' first.
    for mut process in [old.remove(1), old.remove(0)] {
        let status = process.ended(Duration::from_secs(200)).await;
        assert!(status.success(), "{status}\n{}", process.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_that_is_never_ready_or_dies_changes_nothing() {
    let Pair { mesh, mut client, server, application: _application } = pair("http", "").await;
    let load = Load::of(Method::POST, client.outbound, "server:8080", "/", RATE);
    let sockets = Talking::start(client.outbound, 20).await;
    let outbound = client.outbound;
    let goes_on = async || {
        let then = load.so_far().total();
        eventually("load goes on", 60, || async { (load.so_far().total() > then + 200).then_some(()) }).await;
        // Whoever accepts new connections serves them.
        for _ in 0..40 {
            let answer = get(outbound, "server:8080", "/").await.expect("an answer");
            assert_eq!(answer.status(), StatusCode::OK, "{answer:?}");
        }
    };
    goes_on().await;
    // It knows no control plane and has kept nothing.
    let mut never = client.lost_successor(&mesh, 2).await;
    let status = never.ended(Duration::from_secs(30)).await;
    assert_eq!(status.code(), Some(1), "{}", never.log());
    assert!(never.log().contains("not ready within 2s: no valid certificate"), "{}", never.log());
    goes_on().await;

    // It is killed while it gets ready, and once more while its predecessor believes in it.
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        let asked = client.log().matches("a new process asks").count();
        let mut killed = client.lost_successor(&mesh, 60).await;
        let asks = || async { (client.log().matches("a new process asks").count() > asked).then_some(()) };
        eventually("it asks for the sockets", 30, asks).await;
        goes_on().await;
        killed.signal(signal);
        killed.ended(Duration::from_secs(10)).await;
        goes_on().await;
    }
    let rolled_back = "weir_upgrades_total{outcome=\"rolled_back\"} 3";
    eventually("it knows", 10, || async { client.metrics().await.contains(rolled_back).then_some(()) }).await;
    assert!(client.process().is_running() && client.metrics().await.contains("weir_draining 0"));

    // And it can still be taken over from.
    let mut old = client.upgrade(&mesh).await;
    goes_on().await;
    load.stop().await.assert_all_good(1000);
    sockets.end().await;
    assert!(old.ended(Duration::from_secs(200)).await.success(), "{}", old.log());
    drop(server);
}
