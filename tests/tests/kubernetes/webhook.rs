//! The webhook of three control planes behind one Service: all show certificates of one authority, which `caBundle` names; any
//! of them may die, and its roots may be exchanged, while pods are made.

use crate::installed::{Installed, command};
use serde_json::Value;
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};
use weir_tests::{client, free_port, process::Process};

/// A Service, as a node makes one of it: each connection goes to the next of those that are there.
async fn service(at: SocketAddr, behind: Vec<SocketAddr>) {
    let listener = TcpListener::bind(at).await.expect("a port");
    let next = Arc::new(AtomicUsize::new(0));
    tokio::spawn(async move {
        while let Ok((mut caller, _)) = listener.accept().await {
            let (behind, next) = (behind.clone(), next.clone());
            tokio::spawn(async move {
                for _ in 0..behind.len() {
                    let one = behind[next.fetch_add(1, Relaxed) % behind.len()];
                    if let Ok(mut replica) = TcpStream::connect(one).await {
                        // Whoever breaks it off, both sides learn it.
                        let _ = copy_bidirectional(&mut caller, &mut replica).await;
                        return;
                    }
                }
            });
        }
    });
}

/// A replica, and where it listens.
struct Replica {
    name: String,
    addresses: [(&'static str, SocketAddr); 4],
    process: Option<Process>,
}

impl Replica {
    fn new(n: usize) -> Self {
        let addresses = ["api", "xds", "metrics", "webhook"].map(|what| (what, ([127, 0, 0, 1], free_port()).into()));
        Self { name: format!("control-plane-{n}"), addresses, process: None }
    }

    fn at(&self, what: &str) -> SocketAddr {
        self.addresses.iter().find(|(name, _)| *name == what).expect("an address").1
    }

    async fn start(&mut self, installed: &Installed) {
        let mut process = installed.replica(&self.name, &self.addresses).await;
        process.ready(self.at("metrics"), Duration::from_secs(90)).await;
        self.process = Some(process);
    }

    /// Pods that it was asked about, since it was started.
    async fn asked(&self) -> u64 {
        if self.process.is_none() {
            return 0;
        }
        let text = client::text(self.at("metrics"), "metrics", "/metrics").await;
        let lines = text.lines().filter(|line| line.starts_with("weir_cp_injections_total{"));
        lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
    }

    /// The roots that it goes by.
    async fn roots(&self) -> String {
        let text = client::text(self.at("api"), "localhost", "/api/v1/trust").await;
        let trust: Value = serde_json::from_str(&text).expect("JSON");
        trust["roots"].as_str().expect("roots").to_owned()
    }
}

/// Makes a pod, which must come out with a sidecar. Whether it was refused first: the answer was under way when the replica died,
/// and who makes pods in a cluster asks again then.
async fn make(installed: &Installed, name: &str) -> bool {
    let text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: demo}}\nspec: {{containers: [{{name: web, image: 'web:1'}}]}}\n"
    );
    let first = installed.cluster.try_apply(&text).await;
    if let Err(why) = &first {
        assert!(why.contains("failed calling webhook"), "{why}");
        installed.cluster.apply(&text).await;
    }
    let pod = installed.cluster.get(&["-n", "demo", "pod", name]).await;
    assert_eq!(pod["spec"]["initContainers"][1]["name"], "weir-proxy", "{pod:#}");
    first.is_err()
}

/// `caBundle` of all webhooks, which are one, and how often it was written.
async fn bundle(installed: &Installed) -> (String, i64) {
    use base64::Engine;
    let (mut all, mut written) = (vec![], 0);
    for kind in ["mutatingwebhookconfiguration", "validatingwebhookconfiguration"] {
        let configuration = installed.cluster.get(&[kind, "weir-webhook"]).await;
        written += configuration["metadata"]["generation"].as_i64().expect("a generation");
        let webhooks = configuration["webhooks"].as_array().expect("webhooks");
        all.extend(webhooks.iter().map(|w| w["clientConfig"]["caBundle"].as_str().unwrap_or_default().to_owned()));
    }
    all.dedup();
    assert_eq!(all.len(), 1, "webhooks have different bundles");
    let pem = base64::prelude::BASE64_STANDARD.decode(&all[0]).expect("base64");
    (String::from_utf8(pem).expect("PEM"), written)
}

#[tokio::test(flavor = "multi_thread")]
async fn any_of_three_replicas_answers_the_api_server_and_any_may_die_or_the_roots_change() {
    let Some(installed) = Installed::stopped([127, 0, 0, 1].into()).await else { return };
    let mut replicas = [1, 2, 3].map(Replica::new);
    service(installed.webhook, replicas.iter().map(|replica| replica.at("webhook")).collect()).await;
    // All at once, as a Deployment starts them: one makes the roots, the others take them.
    let (one, two, three) = {
        let [a, b, c] = &mut replicas;
        (a.start(&installed), b.start(&installed), c.start(&installed))
    };
    futures::join!(one, two, three);
    installed.bundles_are_written().await;
    installed.namespace("demo", "weir.dev/inject: enabled").await;
    let (pem, written) = bundle(&installed).await;
    for replica in &replicas {
        assert_eq!(replica.roots().await, pem, "{} goes by other roots", replica.name);
    }
    // Whoever answers dies, with -9: the next one does. All three in turn.
    let mut died = vec![];
    let mut refused = 0;
    for round in 0..3 {
        refused += usize::from(make(&installed, &format!("before-{round}")).await);
        let mut asked = vec![];
        for replica in &replicas {
            asked.push(replica.asked().await);
        }
        let most = (0..3).filter(|n| !died.contains(n)).max_by_key(|n| asked[*n]).expect("one is left");
        assert!(asked[most] > 0, "nobody was asked: {asked:?}");
        died.push(most);
        if round == 2 {
            break;
        }
        replicas[most].process.take().expect("it runs").kill();
        for n in 0..5 {
            refused += usize::from(make(&installed, &format!("after-{round}-{n}")).await);
        }
    }
    assert!(refused <= 2, "{refused} pods were refused first");
    for replica in replicas.iter_mut().filter(|replica| replica.process.is_none()) {
        replica.start(&installed).await;
    }
    let (same, again) = bundle(&installed).await;
    assert_eq!((&same, again), (&pem, written), "replicas do not agree on caBundle, or write it for nothing");
    rotation(&installed, &mut replicas, &pem).await;
}

/// New roots, while pods are made: none is refused, all replicas and the bundle have the new ones, and the last replica that is
/// left answers with a certificate of these.
async fn rotation(installed: &Installed, replicas: &mut [Replica; 3], before: &str) {
    let (_, written) = bundle(installed).await;
    let done = AtomicBool::new(false);
    let load = async {
        let mut made = 0;
        while !done.load(Relaxed) || made < 10 {
            assert!(!make(installed, &format!("rotated-{made}")).await, "a pod is refused, though no replica has died");
            made += 1;
        }
        made
    };
    let rotation = async {
        let address = replicas[0].at("api").to_string();
        let said = command(&["--address", &address, "rotate-anchor", "--wait"]).await;
        done.store(true, Relaxed);
        said
    };
    let (made, said) = futures::join!(load, rotation);
    eprintln!("{made} pods were made meanwhile; {said}");
    let new = replicas[0].roots().await;
    assert!(!new.contains(before.trim()), "the old root is still trusted");
    installed.until("caBundle names the new roots", async || (bundle(installed).await.0 == new).then_some(())).await;
    for replica in &*replicas {
        installed.until("all have the new roots", async || (replica.roots().await == new).then_some(())).await;
    }
    let (_, again) = bundle(installed).await;
    eprintln!("caBundle of the two was written {} times", again - written);
    // Both, the new one first, the new one alone: not once for each replica that has not heard of it yet.
    assert!(again - written <= 2 * 4, "caBundle of the two configurations was written {} times", again - written);
    let map = ["-n", "demo", "configmap", "weir-roots"];
    installed
        .until("the roots of new sidecars", async || {
            (installed.cluster.get(&map).await["data"]["roots.pem"] == *new).then_some(())
        })
        .await;
    for (n, replica) in replicas.iter_mut().enumerate().skip(1) {
        replica.process.take().expect("it runs").kill();
        make(installed, &format!("left-{n}")).await;
    }
}
