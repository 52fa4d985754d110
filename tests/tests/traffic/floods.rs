//! Hostile clients and stalling applications: the sidecar's memory stays bounded, and others are served as before.
//!
//! Each flood runs against the same pair of sidecars while one well-behaved client asks; its p99 is compared with its p99
//! in calm, in the same run.

use crate::{Path, attacks::naming, path, request};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use weir_tests::{
    frames::{END_HEADERS, END_STREAM, Frames, block, frame, kind, pseudo},
    humble,
    process::Process,
    raw::Raw,
    upstream::{Step, Upstream},
};

/// How long each flood lasts.
const FLOOD: Duration = Duration::from_secs(2);
/// Connections that flood at once.
const ATTACKERS: usize = 8;
/// Between two pieces of a flood: attackers and attacked share one machine, and it is not the attackers' own work that is
/// looked at.
const PAUSE: Duration = Duration::from_millis(10);
/// How often a well-behaved client asks.
const EVERY: Duration = Duration::from_millis(5);
/// What a sidecar may take, at most, more than before the flood. In the documentation.
const MOST_KIB: u64 = 64 * 1024;
/// How many times its calm p99 a well-behaved client may wait.
const RATIO: u32 = 5;
/// A p99 below this is as good as any: a machine with other work (other tests run beside these) has such pauses in calm too.
const FLOOR: Duration = Duration::from_millis(if cfg!(debug_assertions) { 75 } else { 15 });
/// Above this once is too often.
const CEILING: Duration = Duration::from_millis(if cfg!(debug_assertions) { 500 } else { 25 });
/// What the machine's other work did to a p99 in a development build is not seen so often in a row.
const ATTEMPTS: usize = if cfg!(debug_assertions) { 3 } else { 1 };

type Flood = fn(SocketAddr, Arc<Counted>) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// What the attackers did.
#[derive(Default)]
struct Counted {
    stop: AtomicBool,
    sent: AtomicU64,
}

impl Counted {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn sent(&self, n: usize) {
        self.sent.fetch_add(n as u64, Ordering::Relaxed);
    }
}

/// Sends what `piece` makes over HTTP/2 until it is told to stop; connects again when it is thrown out.
async fn frames(outbound: SocketAddr, counted: &Counted, first: &[u8], mut piece: impl FnMut(u32) -> Vec<u8>) {
    while counted.goes_on() {
        let mut client = Frames::connect(outbound, &[]).await;
        if client.send(first).await.is_err() {
            continue;
        }
        for turn in 0..u32::MAX {
            let bytes = piece(turn);
            // A sidecar that reads no more is an answer too.
            let sent = tokio::time::timeout(Duration::from_millis(200), client.send(&bytes)).await;
            if !counted.goes_on() || !matches!(sent, Ok(Ok(()))) {
                break;
            }
            counted.sent(bytes.len());
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Streams that are opened and reset at once (CVE-2023-44487).
async fn rapid_reset(outbound: SocketAddr, counted: Arc<Counted>) {
    let headers = block(&pseudo("GET", "/reset"));
    frames(outbound, &counted, &[], |turn| {
        let mut bytes = vec![];
        for n in 0..20 {
            let stream = (turn * 20 + n) * 2 + 1;
            bytes.extend(frame(kind::HEADERS, END_HEADERS | END_STREAM, stream, &headers));
            bytes.extend(frame(kind::RST_STREAM, 0, stream, &8u32.to_be_bytes()));
        }
        bytes
    })
    .await;
}

/// Headers that never end (CVE-2024-27316).
async fn continuation(outbound: SocketAddr, counted: Arc<Counted>) {
    let begin = frame(kind::HEADERS, 0, 1, &block(&pseudo("GET", "/")));
    let more = frame(kind::CONTINUATION, 0, 1, &block(&[("x", "y".repeat(8000))]));
    frames(outbound, &counted, &begin, |_| more.clone()).await;
}

/// Headers that never end, with nothing in them.
async fn empty_continuation(outbound: SocketAddr, counted: Arc<Counted>) {
    let begin = frame(kind::HEADERS, 0, 1, &block(&pseudo("GET", "/")));
    let more = frame(kind::CONTINUATION, 0, 1, &[]).repeat(100);
    frames(outbound, &counted, &begin, |_| more.clone()).await;
}

/// Settings that want to be acknowledged (CVE-2019-9515), with nobody who reads the acknowledgements.
async fn settings(outbound: SocketAddr, counted: Arc<Counted>) {
    let many = frame(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 0xff, 0xff]).repeat(100);
    frames(outbound, &counted, &[], |_| many.clone()).await;
}

/// Pings that want to be answered (CVE-2019-9512).
async fn pings(outbound: SocketAddr, counted: Arc<Counted>) {
    let many = frame(kind::PING, 0, 0, &[7; 8]).repeat(100);
    frames(outbound, &counted, &[], |_| many.clone()).await;
}

/// Data frames with nothing in them (CVE-2019-9518).
async fn empty_data(outbound: SocketAddr, counted: Arc<Counted>) {
    let begin = frame(kind::HEADERS, END_HEADERS, 1, &block(&pseudo("POST", "/")));
    let many = frame(kind::DATA, 0, 1, &[]).repeat(100);
    frames(outbound, &counted, &begin, |_| many.clone()).await;
}

/// Answers that are asked for and not taken (CVE-2019-9511, 9517).
async fn window_stall(outbound: SocketAddr, counted: Arc<Counted>) {
    while counted.goes_on() {
        let mut client = Frames::connect(outbound, &[(4, 0)]).await;
        let mut bytes = vec![];
        for n in 0..32 {
            bytes.extend(frame(kind::HEADERS, END_HEADERS | END_STREAM, n * 2 + 1, &block(&pseudo("GET", "/large"))));
        }
        let _ = client.send(&bytes).await;
        counted.sent(bytes.len());
        while counted.goes_on() && !client.is_ended(Duration::from_millis(100)).await {}
    }
}

/// HTTP/1 connections that send what `piece` makes, and each again when it is thrown out.
async fn lines(outbound: SocketAddr, counted: &Counted, first: &[u8], piece: &[u8], pause: Duration) {
    while counted.goes_on() {
        let Ok(mut client) = Raw::try_connect(outbound).await else { continue };
        let mut good = client.try_send(first).await.is_ok();
        while good && counted.goes_on() {
            good = matches!(tokio::time::timeout(Duration::from_millis(200), client.try_send(piece)).await, Ok(Ok(())));
            counted.sent(piece.len());
            tokio::time::sleep(pause).await;
        }
    }
}

async fn huge_headers(outbound: SocketAddr, counted: Arc<Counted>) {
    lines(outbound, &counted, b"GET / HTTP/1.1\r\nHost: server:8080\r\nX: ", &[b'y'; 16_000], PAUSE).await;
}

async fn countless_headers(outbound: SocketAddr, counted: Arc<Counted>) {
    let piece = b"X: y\r\n".repeat(1000);
    lines(outbound, &counted, b"GET / HTTP/1.1\r\nHost: server:8080\r\n", &piece, PAUSE).await;
}

/// Many connections, each a byte at a time.
async fn many(outbound: SocketAddr, counted: Arc<Counted>, first: &'static [u8], piece: &'static [u8]) {
    let all = (0..16).map(|_| lines(outbound, &counted, first, piece, Duration::from_millis(50)));
    futures::future::join_all(all).await;
}

async fn slow_headers(outbound: SocketAddr, counted: Arc<Counted>) {
    many(outbound, counted, b"GET / HTTP/1.1\r\nHost: server:8080\r\nX: ", b"y").await;
}

async fn slow_bodies(outbound: SocketAddr, counted: Arc<Counted>) {
    many(outbound, counted, b"POST / HTTP/1.1\r\nHost: server:8080\r\nContent-Length: 100000\r\n\r\n", b"y").await;
}

/// Requests without end, and nobody who reads the answers.
async fn pipelined(outbound: SocketAddr, counted: Arc<Counted>) {
    let piece = request("GET /large", &[]).repeat(50);
    lines(outbound, &counted, b"", &piece, PAUSE).await;
}

/// Chunks of one byte with the longest extensions that may be.
async fn tiny_chunks(outbound: SocketAddr, counted: Arc<Counted>) {
    let first = request("POST /", &["Transfer-Encoding: chunked"]);
    lines(outbound, &counted, &first, &b"1;aaaaaaaaaaaaaaaa\r\nx\r\n".repeat(100), PAUSE).await;
}

/// Requests to an application that says nothing, a megabyte without end, or half an answer.
async fn stalling_application(outbound: SocketAddr, counted: Arc<Counted>) {
    while counted.goes_on() {
        let mut all = vec![];
        for target in ["/mute", "/half", "/endless", "/trickle"] {
            for _ in 0..2 {
                let mut client = Raw::connect(outbound).await;
                client.send(request(&format!("GET {target}"), &[])).await;
                counted.sent(100);
                all.push(client);
            }
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Answers by target: large, never, without end, in small pieces.
async fn application() -> Upstream {
    const PIECE: &[u8] = &[b'z'; 10_000];
    const CHUNK: &[u8] = b"a\r\n0123456789\r\n";
    const WITHOUT_END: &str = "Content-Length: 1000000000000";
    Upstream::start(|request| {
        let head = |length: &str| Step::Send(format!("HTTP/1.1 200 OK\r\n{length}\r\n\r\n").into_bytes());
        match request.word().as_str() {
            "/large" => vec![Step::ReadBody, head("Content-Length: 1000000"), Step::Humbly(PIECE, 100)],
            "/mute" => vec![Step::Mute],
            "/half" => vec![Step::Send(b"HTTP/1.1 200 OK\r\nContent-Le".to_vec()), Step::Mute],
            "/endless" => vec![head(WITHOUT_END), Step::Humbly(PIECE, 100_000_000)],
            "/trickle" => {
                let slowly = vec![Step::Repeat(CHUNK, 1), Step::Pause(Duration::from_millis(20))];
                [vec![head("Transfer-Encoding: chunked")], vec![slowly; 500].concat()].concat()
            }
            target => {
                vec![Step::ReadBody, head(&format!("Content-Length: {}", target.len())), Step::Send(target.into())]
            }
        }
    })
    .await
}

/// A well-behaved client, which is there before a flood comes. It has a thread of its own: the attackers' work in this
/// process is not what it should wait for.
struct WellBehaved {
    alone: tokio::runtime::Runtime,
    client: Raw,
}

impl WellBehaved {
    fn new(path: &Path) -> Self {
        tokio::task::block_in_place(|| {
            let alone = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let client = alone.block_on(path.connect());
            Self { alone, client }
        })
    }

    /// What it waits, over `time`: its p99.
    fn p99(&mut self, time: Duration) -> Duration {
        tokio::task::block_in_place(|| self.alone.block_on(ask(&mut self.client, time)))
    }

    fn goes(self) {
        self.alone.shutdown_background();
    }
}

async fn ask(client: &mut Raw, time: Duration) -> Duration {
    let begun = Instant::now();
    let mut all = vec![];
    // From when each was due: one that is held up holds up those behind it, and they count too.
    for due in (1..).map(|n| begun + EVERY * n).take_while(|due| *due < begun + time) {
        tokio::time::sleep_until(due.into()).await;
        let answer = client.ask("GET", request("GET /good", &[])).await;
        assert_eq!((answer.status(), &answer.last.body[..]), (200, &b"/good"[..]), "others are served");
        all.push(due.elapsed());
    }
    all.sort();
    all[all.len() * 99 / 100]
}

/// The memory of both sidecars, in KiB.
fn memory(path: &Path) -> u64 {
    [&path.client, &path.server].iter().map(|s| s.process.as_ref().map_or(0, Process::rss_kib)).max().unwrap_or(0)
}

/// The inner error is of a wait that other work of the machine may have caused.
async fn withstand(path: &Path, name: &str, flood: Flood) -> Result<Result<(), String>, String> {
    let mut client = WellBehaved::new(path);
    let (before, calm) = (memory(path), client.p99(FLOOD / 2));
    let counted = Arc::new(Counted::default());
    let hostile = humble::runtime();
    let attackers: Vec<_> =
        (0..ATTACKERS).map(|_| hostile.spawn(flood(path.client.outbound, counted.clone()))).collect();
    let watched = counted.clone();
    let pids: Vec<u32> =
        [&path.client, &path.server].iter().filter_map(|s| s.process.as_ref().map(Process::id)).collect();
    let peak = tokio::spawn(async move {
        let mut peak = 0;
        while watched.goes_on() {
            peak = pids.iter().map(|p| rss_kib(*p)).max().unwrap_or(0).max(peak);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        peak
    });
    let under = client.p99(FLOOD);
    client.goes();
    counted.stop.store(true, Ordering::Relaxed);
    for attacker in attackers {
        attacker.await.map_err(|e| format!("{name}: {e}"))?;
    }
    hostile.shutdown_background();
    let peak = peak.await.map_err(|e| e.to_string())?;
    let told = format!(
        "{name}: {} KiB sent; memory {before} -> at most {peak} KiB; p99 {calm:?} -> {under:?}",
        counted.sent.load(Ordering::Relaxed) / 1024
    );
    eprintln!("{told}");
    let within = |most: Duration| under <= (calm * RATIO).max(most);
    match counted.sent.load(Ordering::Relaxed) > 0 && peak <= before + MOST_KIB && within(CEILING) {
        true if within(FLOOR) => Ok(Ok(())),
        true => Ok(Err(told)),
        false => Err(told),
    }
}

fn rss_kib(pid: u32) -> u64 {
    status(pid, "VmRSS:")
}

/// A number of proc_pid_status(5).
fn status(pid: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with(name)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// Room for descriptors in both sidecars. The kernel holds up whoever needs more.
fn room(path: &Path) -> Vec<u64> {
    [&path.client, &path.server].iter().filter_map(|s| Some(status(s.process.as_ref()?.id(), "FDSize:"))).collect()
}

async fn all(floods: &[(&str, Flood)]) {
    // What holds up clients and application here is none of the sidecars' doing.
    rustix::io::fcntl_dupfd_cloexec(std::io::stderr(), 4095).unwrap();
    let path = path(application().await).await;
    // What the first requests bring with them is no growth.
    let mut first = WellBehaved::new(&path);
    first.p99(FLOOD / 2);
    first.goes();
    let room_before = room(&path);
    let mut failures = vec![];
    for (name, flood) in floods {
        for attempt in 1.. {
            match withstand(&path, name, *flood).await {
                Ok(Ok(())) => break,
                Ok(Err(_)) if attempt < ATTEMPTS => {}
                Ok(Err(why)) | Err(why) => {
                    failures.push(why);
                    break;
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert_eq!(room(&path), room_before, "nobody waited for room for descriptors");
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_http_2_harm_nobody_else() {
    all(&[
        ("rapid reset", |a, c| Box::pin(rapid_reset(a, c))),
        ("CONTINUATION", |a, c| Box::pin(continuation(a, c))),
        ("empty CONTINUATION", |a, c| Box::pin(empty_continuation(a, c))),
        ("SETTINGS", |a, c| Box::pin(settings(a, c))),
        ("PING", |a, c| Box::pin(pings(a, c))),
        ("empty DATA", |a, c| Box::pin(empty_data(a, c))),
        ("window stall", |a, c| Box::pin(window_stall(a, c))),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_http_1_and_stalling_applications_harm_nobody_else() {
    all(&[
        ("huge headers", |a, c| Box::pin(huge_headers(a, c))),
        ("countless headers", |a, c| Box::pin(countless_headers(a, c))),
        ("slow headers", |a, c| Box::pin(slow_headers(a, c))),
        ("slow bodies", |a, c| Box::pin(slow_bodies(a, c))),
        ("pipelined", |a, c| Box::pin(pipelined(a, c))),
        ("tiny chunks", |a, c| Box::pin(tiny_chunks(a, c))),
        ("stalling application", |a, c| Box::pin(stalling_application(a, c))),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_do_not_come_to_an_end_are_given_up() {
    // The limits themselves, seen from outside: of bytes and of fields, in both versions.
    let path = path(naming().await).await;
    for (what, bytes) in [
        ("bytes", [&b"GET / HTTP/1.1\r\nHost: server:8080\r\nX: "[..], &vec![b'y'; 300_000]].concat()),
        ("fields", request("GET /", &["X: y"; 5_000])),
    ] {
        let mut client = path.connect().await;
        let _ = client.try_send(&bytes).await;
        let answer = client.answer("GET").await.unwrap_or_else(|wrong| panic!("{what}: {wrong}"));
        assert_eq!((answer.status(), answer.reason().as_deref()), (431, Some("request_headers_too_large")), "{what}");
    }
    let mut client = Frames::connect(path.client.outbound, &[]).await;
    let fields: Vec<(String, String)> = (0..40).map(|n| (format!("x-{n}"), "y".repeat(400))).collect();
    let mut bytes = frame(kind::HEADERS, END_STREAM, 1, &block(&pseudo("GET", "/")));
    for _ in 0..20 {
        bytes.extend(frame(kind::CONTINUATION, 0, 1, &block(&fields)));
    }
    bytes.extend(frame(kind::CONTINUATION, END_HEADERS, 1, &[]));
    let _ = client.send(&bytes).await;
    let frames = client.stream(1).await;
    assert!(frames.iter().all(|f| weir_tests::frames::status(&f.payload) != Some(200)), "{frames:?}");
    assert!(path.upstream.requests().is_empty());
}
