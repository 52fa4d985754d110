//! The store on real members of etcd: what every store must do, and what members that die, hang, forget and lose answers
//! do to it.

use super::{
    Etcd, EtcdOptions,
    testing::Cluster,
    wire::{self, CompactionRequest, Ignored, RangeRequest},
};
use crate::{
    leader::{Holder, Lease},
    metrics::Metrics,
    store::{
        Batch, Change, Error, Expect, MetaExpect, Store,
        conformance::{self, service},
    },
};
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use weir_config::resources::{Document, Key, Kind};

pub(super) fn open(options: &EtcdOptions) -> Etcd {
    Etcd::open(options, Metrics::default()).unwrap_or_else(|e| panic!("{e}"))
}

fn conforms(cluster: &Cluster, round: &str) {
    for (name, case) in conformance::CASES {
        eprintln!("{round}: {name}");
        case(&open(&cluster.options(&format!("{round}-{name}"))));
    }
}

fn eventually(what: &str, check: impl Fn() -> bool) {
    let limit = Instant::now() + Duration::from_secs(30);
    while !check() {
        assert!(Instant::now() < limit, "not within 30 s: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn same(a: &Etcd, b: &Etcd) -> bool {
    let (a, b) = (a.snapshot(), b.snapshot());
    a.version() == b.version() && a.iter().eq(b.iter())
}

pub(super) fn fresh(document: Document) -> Batch {
    Change::Put { document: Arc::new(document), expect: Expect::Absent }.into()
}

fn many(count: usize, port: u16) -> Batch {
    Batch::put_all((0..count).map(|n| service(&format!("s{n}"), port)))
}

#[test]
fn one_member_does_what_every_store_must() {
    let Some(cluster) = Cluster::start(1) else { return };
    conforms(&cluster, "one");
}

#[test]
fn three_members_do_with_one_killed_and_with_one_that_hangs() {
    let Some(mut cluster) = Cluster::start(3) else { return };
    let early = open(&cluster.options("early"));
    early.apply(&fresh(service("web", 80))).unwrap();
    cluster.kill(0);
    conforms(&cluster, "killed");
    cluster.start_member(0);
    early.apply(&fresh(service("api", 80))).unwrap();
    for n in 0..3 {
        cluster.pause(n);
        early.apply(&fresh(service(&format!("paused-{n}"), 80))).unwrap();
        if n == 0 {
            conforms(&cluster, "paused");
        }
        cluster.resume(n);
    }
    let late = open(&cluster.options("early"));
    assert_eq!(late.snapshot().version(), 5);
    eventually("both are the same", || same(&early, &late));
}

#[test]
fn writers_on_two_replicas_lose_nothing_and_see_the_same() {
    let Some(cluster) = Cluster::start(1) else { return };
    let options = cluster.options("two");
    let (a, b) = (open(&options), open(&options));
    let mut seen = b.watch();
    let watching = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut last = 0;
            while last < 81 && seen.changed().await.is_ok() {
                let now = seen.borrow_and_update().version();
                assert!(now > last, "{now} after {last}");
                last = now;
            }
        });
    });
    thread::scope(|scope| {
        for (name, store) in [("a", &a), ("b", &b)] {
            scope.spawn(move || {
                for n in 0..40 {
                    store.apply(&fresh(service(&format!("{name}{n}"), 80))).unwrap();
                    assert!(store.get(&Key::new(Kind::Service, "demo", format!("{name}{n}").as_str())).is_some());
                }
            });
        }
    });
    // What one replica has just written, the other one knows when it is asked to change it.
    a.apply(&Batch::put_all([service("a0", 81)])).unwrap();
    watching.join().unwrap();
    let key = Key::new(Kind::Service, "demo", "a0");
    let stale = Change::Delete { key: key.clone(), expect: Expect::Version(1) };
    assert!(matches!(b.apply(&stale.into()), Err(Error::Conflict { .. })));
    b.apply(&Change::Delete { key: key.clone(), expect: Expect::Version(81) }.into()).unwrap();
    assert!(matches!(a.apply(&Change::Delete { key, expect: Expect::Any }.into()), Err(Error::NotFound { .. })));
    eventually("both are the same", || same(&a, &b));
    assert_eq!((a.snapshot().version(), a.snapshot().len()), (82, 79));
}

#[test]
fn a_large_change_is_seen_whole_or_not_at_all() {
    let Some(cluster) = Cluster::start(1) else { return };
    let options = cluster.options("large");
    let (a, b) = (open(&options), open(&options));
    let mut seen = b.watch();
    for round in 1..=3 {
        let applied = a.apply(&many(700, 1000 + round)).unwrap();
        assert_eq!(applied.version, u64::from(round));
        eventually("the other one sees it", || b.snapshot().version() == u64::from(round));
        let snapshot = seen.borrow_and_update().clone();
        assert_eq!(snapshot.len(), 700);
        assert!(snapshot.iter().all(|(_, s)| s.resource_version == snapshot.version()), "in a part");
    }
    assert!(same(&a, &b));
    // What was laid down has been put in place and swept away.
    let again = open(&options);
    assert!(same(&a, &again));
    let parts = RangeRequest { count_only: true, ..RangeRequest::prefix(b"/large/part/") };
    let shared = again.shared.clone();
    let left = again.run(async move { shared.range(parts, Instant::now() + Duration::from_secs(5)).await });
    assert_eq!(left.unwrap().count, 0);
}

/// As many large documents as need several transactions by their size alone.
#[test]
fn a_change_of_many_bytes_goes_through() {
    let Some(cluster) = Cluster::start(1) else { return };
    let options = cluster.options("bytes");
    let (a, b) = (open(&options), open(&options));
    let note = "x".repeat(200_000);
    let large = |n: usize| {
        let yaml = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: l{n}, namespace: demo, annotations: {{note: {note}}}}}\n\
             spec: {{ports: [{{port: 80}}]}}\n"
        );
        conformance::documents(&yaml).remove(0)
    };
    a.apply(&Batch::put_all((0..20).map(large))).unwrap();
    eventually("the other one has it", || same(&a, &b));
    assert_eq!(b.snapshot().len(), 20);
}

const OPTIONS: &str = "WEIR_TEST_ETCD";

/// The other process: writes large and small changes until it is killed. Does nothing in an ordinary run.
#[test]
fn writer_process() {
    let Ok(endpoint) = std::env::var(OPTIONS) else { return };
    let store = open(&EtcdOptions { endpoints: vec![endpoint], prefix: "/crash".into(), ..EtcdOptions::default() });
    for n in store.snapshot().version() + 1.. {
        let port = u16::try_from(n % 60_000).unwrap() + 1;
        let count = if n % 2 == 0 { 2 } else { 260 };
        assert_eq!(store.apply(&many(count, port)).unwrap().version, n);
        println!("written {n}");
        std::io::stdout().flush().unwrap();
    }
}

#[test]
fn a_writer_killed_at_any_moment_leaves_all_of_a_change_or_nothing() {
    let Some(cluster) = Cluster::start(1) else { return };
    let options = cluster.options("crash");
    let watcher = open(&options);
    let (mut before, mut half) = (0, 0);
    for round in 0..16 {
        let mut writer = Command::new(std::env::current_exe().unwrap())
            .args(["store::etcd::tests::writer_process", "--exact", "--nocapture", "--test-threads=1"])
            .env(OPTIONS, &options.endpoints[0])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let number = |line: String| line.rsplit_once("written ").and_then(|(_, n)| n.trim().parse::<u64>().ok());
        let mut out = BufReader::new(writer.stdout.take().unwrap()).lines().map_while(Result::ok).filter_map(number);
        let mut acknowledged = out.by_ref().nth(round % 3).unwrap();
        // Somewhere in its next change.
        thread::sleep(Duration::from_micros(rand::random_range(0..250_000)));
        writer.kill().unwrap();
        writer.wait().unwrap();
        acknowledged = out.last().unwrap_or(acknowledged);
        let store = open(&options);
        half += usize::from(store.shared.known.lock().head.pending.is_some());
        let snapshot = store.snapshot();
        let version = snapshot.version();
        assert!(acknowledged > before && (acknowledged..=acknowledged + 1).contains(&version), "{version}");
        let by_version = snapshot.iter().fold(BTreeMap::<u64, usize>::new(), |mut all, (_, s)| {
            *all.entry(s.resource_version).or_default() += 1;
            all
        });
        assert_eq!(by_version[&version], if version.is_multiple_of(2) { 2 } else { 260 }, "{by_version:?}");
        eventually("who only reads sees the same", || same(&store, &watcher));
        // The next one puts in place what is not, and goes on.
        before = store.apply(&many(2, 60_500)).unwrap().version;
        assert_eq!(before, version + 1);
        eventually("and the change after it", || same(&store, &watcher));
        assert!(same(&open(&options), &store));
    }
    eprintln!("{half} of 16 were killed with a change that counted and was not in place");
}

#[test]
fn a_change_that_counts_and_is_not_in_place_is_put_in_place_by_the_next_writer() {
    let Some(cluster) = Cluster::start(1) else { return };
    let options = cluster.options("half");
    let store = open(&options);
    store.apply(&many(10, 80)).unwrap();
    // The first half of what a writer does, as if it had been killed then.
    let known = store.shared.known.lock().clone();
    let plan = super::ledger::plan(&known.snapshot, &many(300, 81), time::OffsetDateTime::now_utc()).unwrap();
    let (shared, at) = (store.shared.clone(), known.revision);
    store
        .run(async move {
            let deadline = Instant::now() + Duration::from_secs(5);
            let lines: Vec<_> = plan.writes.iter().map(|w| super::layout::Line::new(w).unwrap()).collect();
            let parts = shared.stage("killed", &lines, deadline).await?;
            let head = known.head.after("killed", 2, Some(parts));
            let request = super::TxnRequest {
                compare: vec![super::Compare::written_at(&shared.layout.head(), at)],
                success: vec![super::Op::put(shared.layout.head(), head.encode())],
                failure: vec![],
            };
            assert!(shared.transact(request, deadline).await?.succeeded);
            Ok(())
        })
        .unwrap();
    eventually("it counts", || store.snapshot().version() == 2);
    let reader = open(&options);
    assert_eq!((reader.snapshot().version(), reader.snapshot().len()), (2, 300));
    assert!(reader.shared.known.lock().head.pending.is_some());
    assert_eq!(reader.apply(&fresh(service("next", 80))).unwrap().version, 3);
    assert!(reader.shared.known.lock().head.pending.is_none());
    assert_eq!(open(&options).snapshot().len(), 301);
    eventually("all see it", || same(&reader, &store));
}

#[test]
fn what_was_compacted_away_is_read_again() {
    let Some(mut cluster) = Cluster::start(3) else { return };
    let writer = open(&cluster.options("compacted"));
    // It knows one member only, so that it is away while that one is.
    let reader = open(&cluster.options_of(2, "compacted"));
    writer.apply(&many(5, 80)).unwrap();
    eventually("it follows", || same(&writer, &reader));
    cluster.kill(2);
    for n in 0..30 {
        writer.apply(&many(5, 100 + n)).unwrap();
    }
    let shared = writer.shared.clone();
    let revision = *shared.revision.borrow();
    writer
        .run(async move {
            let compacted = shared.client.call(wire::COMPACT, CompactionRequest { revision, physical: true }).await;
            compacted.map(|_: Ignored| ()).map_err(|status| shared.refused(&status))
        })
        .unwrap();
    assert_eq!(reader.snapshot().version(), 1);
    cluster.start_member(2);
    eventually("it has all that it missed", || same(&writer, &reader));
    writer.apply(&many(5, 7)).unwrap();
    eventually("and follows again", || same(&writer, &reader));
}

/// Carries bytes to etcd, and cuts each connection after some of the answer.
fn cutting(target: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(server) = TcpStream::connect(("127.0.0.1", target)) else { return };
            let (mut up_from, mut up_to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || {
                let _ = std::io::copy(&mut up_from, &mut up_to);
            });
            thread::spawn(move || {
                let (mut from, mut to) = (server, client);
                // Every other one lives long enough for a page of documents.
                let mut left: usize =
                    rand::random_range(400..2_500) + if rand::random_range(0..4) == 0 { 24_000 } else { 0 };
                let mut buffer = [0; 256];
                while let Ok(n @ 1..) = from.read(&mut buffer) {
                    if n > left || to.write_all(&buffer[..n]).is_err() {
                        break;
                    }
                    left -= n;
                }
                let _ = (from.shutdown(std::net::Shutdown::Both), to.shutdown(std::net::Shutdown::Both));
            });
        }
    });
    port
}

#[test]
fn a_change_whose_answer_is_lost_is_made_once_and_known_to_be_made() {
    let Some(cluster) = Cluster::start(1) else { return };
    let straight = cluster.options("lost");
    let target: u16 = straight.endpoints[0].rsplit_once(':').unwrap().1.parse().unwrap();
    let cut = EtcdOptions { endpoints: vec![format!("http://127.0.0.1:{}", cutting(target))], ..straight.clone() };
    let (store, other) = (open(&cut), open(&straight));
    let mut made = 0;
    thread::scope(|scope| {
        // Another replica writes meanwhile, so that heads move on while answers are lost.
        let beside =
            scope.spawn(|| (0..30).for_each(|n| drop(other.apply(&fresh(service(&format!("o{n}"), 80))).unwrap())));
        // Where the cuts fall is chance: on, until some were in the middle of an answer.
        let lost = || store.shared.metrics.store_failures.get();
        while made < 60 || lost() < 3 {
            assert!(made < 3_000, "only {} answers were lost", lost());
            // `Absent`: a second try that does not know of the first would be refused.
            let applied = store.apply(&fresh(service(&format!("n{made}"), 80)));
            assert!(applied.unwrap_or_else(|e| panic!("{made}: {e}")).changed());
            store.set_meta(&format!("m{made}"), MetaExpect::Absent, Some(b"x")).unwrap();
            made += 1;
        }
        beside.join().unwrap();
    });
    let truth = open(&straight).snapshot();
    assert_eq!((truth.version(), truth.len() as u64), (made + 30, made + 30));
}

#[test]
fn one_replica_leads_and_another_one_when_it_is_gone() {
    let Some(cluster) = Cluster::start(1) else { return };
    let options = cluster.options("leader");
    let (a, b) = (open(&options), open(&options));
    let (first, second) = (a.lease(), b.lease());
    let life = Duration::from_secs(2);
    assert_eq!(first.hold("a", life), Ok(Holder::Us));
    assert_eq!(second.hold("b", life), Ok(Holder::Other("a".into())));
    assert_eq!(first.hold("a", life), Ok(Holder::Us));
    first.release("a").unwrap();
    assert_eq!(second.hold("b", life), Ok(Holder::Us), "at once after it was given up");
    // It dies without a word.
    drop((second, b));
    let begun = Instant::now();
    eventually("its time is over", || first.hold("a", life) == Ok(Holder::Us));
    assert!(begun.elapsed() > Duration::from_millis(500), "{:?}", begun.elapsed());
}

#[test]
fn an_etcd_that_is_not_there_is_an_error_that_says_where_and_what_to_do() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let endpoints = vec![format!("http://127.0.0.1:{port}")];
    let error =
        Etcd::open(&EtcdOptions { endpoints, prefix: "/x".into(), ..EtcdOptions::default() }, Metrics::default());
    let error = error.err().unwrap().to_string();
    assert!(error.contains(&format!("127.0.0.1:{port}")) && error.contains("reachable from here"), "{error}");
}
