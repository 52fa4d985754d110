//! What `kill -9` in the middle of a change does: another process finds all of it, or nothing.

use super::{House, OURS, eventually};
use crate::{
    metrics::Metrics,
    store::{Batch, Kubernetes, KubernetesOptions, Store, conformance::service},
};
use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::Instant,
};
use weir_config::resources::{Key, Kind};

const KUBECONFIG: &str = "WEIR_TEST_KUBECONFIG";
const ROUNDS: u32 = 16;
const SERVICES: usize = 5;

/// The other process: writes until it is killed, and says what is written. Does nothing in an ordinary run.
#[test]
fn writer_process() {
    let Ok(kubeconfig) = std::env::var(KUBECONFIG) else { return };
    let options = KubernetesOptions { kubeconfig: Some(kubeconfig.into()), namespace: OURS.into() };
    let store = Kubernetes::open(&options, Metrics::default()).unwrap();
    let from = port(&store, 0).unwrap_or(1000) + 1;
    for port in from.. {
        store.apply(&batch(port)).unwrap();
        println!("written {port}");
    }
}

fn batch(port: u16) -> Batch {
    Batch::put_all((0..SERVICES).map(|n| service(&format!("s{n}"), port)))
}

fn port(store: &Kubernetes, n: usize) -> Option<u16> {
    let found = store.get(&Key::new(Kind::Service, "demo", &format!("s{n}")))?;
    found.document.written().pointer("/ports/0/port")?.as_u64()?.try_into().ok()
}

fn start(house: &House) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["store::kubernetes::tests::crash::writer_process", "--exact", "--nocapture"])
        .env(KUBECONFIG, &house.cluster.kubeconfig)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap()
}

#[test]
fn a_change_that_is_interrupted_is_done_whole_or_not_at_all() {
    let Some(house) = House::new() else { return };
    let store = house.open();
    let (mut committed, mut partial) = (0, 0);
    for round in 0..ROUNDS {
        let mut writer = start(&house);
        let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines();
        let mut written =
            lines.by_ref().map_while(Result::ok).filter_map(|line| line.strip_prefix("written ")?.parse::<u16>().ok());
        written.next().expect("it writes");
        let begun = Instant::now();
        let mut last = written.nth(1).expect("it writes");
        // At another moment of a change each time.
        std::thread::sleep(begun.elapsed() / 2 * round / ROUNDS);
        writer.kill().unwrap();
        writer.wait().unwrap();
        last = written.last().unwrap_or(last);
        let left = house.kubectl(&["get", "secrets", "-n", OURS, "-o", "jsonpath={.items[*].metadata.annotations}"]);
        committed += u16::from(left.contains("weir.dev/committed"));
        let now = || (0..SERVICES).map(|n| port(&store, n)).collect::<Vec<_>>();
        partial += u16::from(now().iter().any(|p| *p != now()[0]));
        eventually("all or nothing, and nothing under way", || {
            let all = now();
            let journal = house.kubectl(&["get", "secrets", "-n", OURS, "-o", "name"]).contains("weir-journal");
            !journal && all.iter().all(|p| *p == all[0] && p.is_some_and(|p| p == last || p == last + 1))
        });
    }
    eprintln!("of {ROUNDS}, {committed} were committed and not done, {partial} of them in part");
    assert!(committed > 0, "no kill came in the middle");
    // And it goes on.
    let next = port(&store, 0).unwrap() + 1;
    store.apply(&batch(next)).unwrap();
    assert_eq!(port(&store, SERVICES - 1), Some(next));
}
