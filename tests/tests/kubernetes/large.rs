//! A large cluster: what the control plane takes of memory and time, and how soon an endpoint's change is used.
//!
//! A tenth of the promise's size, unless `WEIR_LONG=1`. With `WEIR_CONTROL_PLANE_BIN` and `WEIR_PROXY_BIN` naming programs of a
//! release, what it prints is what `docs/sizes.md` says.

use std::{
    net::SocketAddr,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use weir_tests::{
    application::Application,
    client::{self, Connection},
    cluster::{
        Cluster,
        large::{Instance, Size, Writer},
    },
    eventually, free_port,
    mesh::{Mesh, Sidecar},
    process::{Process, binary},
};

/// From the API server's answer to a change until a sidecar goes by it.
const BOUND: Duration = Duration::from_millis(500);
/// Changes one by one, and while everything else changes, too.
const CHANGES: usize = 60;
/// Changes of other instances a second, then.
const STORM: usize = 100;
/// Between two changes that are measured: each is one of its own.
const REST: Duration = Duration::from_millis(100);

fn size() -> Size {
    if std::env::var_os("WEIR_LONG").is_some_and(|v| v == "1") { Size::FULL } else { Size::TENTH }
}

/// A filled cluster, its control plane, and two sidecars: one that calls the service whose instance changes, and one that
/// calls nobody.
struct House {
    writer: Writer,
    mesh: Mesh,
    changing: Instance,
    caller: Sidecar,
    idle: Sidecar,
    _application: Application,
    // Last: the others need it.
    _cluster: Cluster,
}

impl House {
    async fn new(size: Size) -> Option<Self> {
        let cluster = Cluster::quiet().await?;
        cluster.install_kinds().await;
        cluster.kubectl(&["create", "namespace", "weir-system"]).await;
        let writer = Writer::connect(&cluster, size).await;
        let filled = writer.fill().await;
        let (services, instances) = (size.all_services(), size.all_instances());
        println!("{} namespaces, {services} services, {instances} endpoints, written in {filled:.1?}", size.namespaces);
        let application = Application::start("changing").await;
        let address = application.address;
        let changing = writer.single("default", "changing", address.ip(), address.port()).await;
        let host = (free_port() % 250) as u8;
        let inbound = [1, 2].map(|last| SocketAddr::from(([127, 78, host, last], 15_006)));
        for (name, address) in ["caller", "idle"].into_iter().zip(inbound) {
            writer.single("default", name, address.ip(), 9).await;
        }
        let mut mesh = Mesh::stopped([127, 0, 0, 1].into());
        mesh.control_plane = Some(control_plane(&cluster, &mesh).await);
        let mut sidecars = Vec::new();
        for (name, address) in ["caller", "idle"].into_iter().zip(inbound) {
            let mut sidecar = mesh.sidecar_stopped(&format!("{name}-0"), name, 0, &[]);
            sidecar.inbound = address;
            let pod = format!("{name}-0");
            let bound = ["--bound-object-kind", "Pod", "--bound-object-name", &pod, "--audience", "weir"];
            let token = cluster.kubectl(&[&["create", "token", name][..], &bound].concat()).await;
            sidecar.start(&mesh, token.trim()).await;
            sidecars.push(sidecar);
        }
        let (idle, caller) = (sidecars.pop()?, sidecars.pop()?);
        Some(Self { writer, mesh, changing, caller, idle, _application: application, _cluster: cluster })
    }

    fn cpu(&self) -> Duration {
        self.mesh.control_plane.as_ref().map(Process::cpu).unwrap_or_default()
    }

    /// Changes the instance so often, and measures each time how long it takes until a request goes by it.
    async fn changes(&self) -> Vec<Duration> {
        let mut connection = Connection::http1(self.caller.outbound).await.expect("the sidecar");
        let mut took = Vec::with_capacity(CHANGES);
        for n in 0..CHANGES {
            let ready = n % 2 == 1;
            self.writer.ready(&self.changing, ready).await;
            let begun = Instant::now();
            let wanted = if ready { 200 } else { 503 };
            while answer(&mut connection).await != wanted {
                assert!(begun.elapsed() < BOUND * 40, "the change is not used: {}", self.caller.log());
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            took.push(begun.elapsed());
            tokio::time::sleep(REST).await;
        }
        took.sort_unstable();
        took
    }

    /// What happens when so many other instances change every second, meanwhile; and how many did.
    async fn storm(&self) -> (Vec<Duration>, usize) {
        const WRITERS: usize = 10;
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let writers: Vec<_> = (0..WRITERS)
            .map(|w| {
                let (writer, stop, done) = (self.writer.clone(), stop.clone(), done.clone());
                tokio::spawn(async move {
                    let mut pace = tokio::time::interval(Duration::from_secs(1) * WRITERS as u32 / STORM as u32);
                    for n in 0.. {
                        pace.tick().await;
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                        // Far from each other, and each is well again in the end.
                        let (instance, ready) = (writer.instance((n / 2) * 7919 + w * 31), n % 2 == 1);
                        writer.ready(&instance, ready).await;
                        writer.ready_in_slice(&instance, ready).await;
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        let took = self.changes().await;
        stop.store(true, Ordering::Relaxed);
        for writer in writers {
            writer.await.expect("every change is written");
        }
        (took, done.load(Ordering::Relaxed))
    }
}

/// Starts it, and waits until it has read everything and answers.
async fn control_plane(cluster: &Cluster, mesh: &Mesh) -> Process {
    let mut command = Command::new(binary("weir-control-plane"));
    command.args(["--kubernetes", "--kubeconfig"]).arg(&cluster.kubeconfig);
    for (flag, address) in [("--api", mesh.api), ("--xds", mesh.xds), ("--metrics", mesh.metrics)] {
        command.args([flag, &address.to_string()]);
    }
    let begun = Instant::now();
    let process = Process::start("control-plane", mesh.folder.path(), &mut command);
    let api = mesh.api;
    eventually("the control plane answers", 240, || async move {
        client::get(api, "localhost", "/api/v1/version").await.ok().filter(|a| a.status() == 200)
    })
    .await;
    println!("control plane: ready after {:.1?}, {:.1?} of processor time", begun.elapsed(), process.cpu());
    process
}

async fn answer(connection: &mut Connection) -> u16 {
    let request = http::Request::get("/x").header("host", "changing").body(http_body_util::Full::default());
    let answer = connection.send(request.expect("a request")).await.expect("an answer, whatever it is");
    answer.status().as_u16()
}

/// `quantile` of what is sorted.
fn quantile(sorted: &[Duration], quantile: f64) -> Duration {
    let at = (sorted.len() as f64 * quantile).ceil() as usize;
    sorted[at.clamp(1, sorted.len()) - 1]
}

fn told(what: &str, took: &[Duration], cpu: Duration, changes: usize) {
    let [median, late, last] = [0.5, 0.99, 1.0].map(|q| quantile(took, q));
    let each = cpu / u32::try_from(changes).unwrap_or(u32::MAX).max(1);
    println!(
        "{what}: used after {median:.0?} (p50), {late:.0?} (p99), {last:.0?} (max); {changes} changes, {each:.1?} of \
         processor time each"
    );
}

fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_changes_in_a_large_cluster_is_used_within_half_a_second() {
    let Some(house) = House::new(size()).await else { return };
    let mut connection = Connection::http1(house.caller.outbound).await.expect("the sidecar");
    let limit = Instant::now() + BOUND * 40;
    while answer(&mut connection).await != 200 {
        assert!(Instant::now() < limit, "the instance is not called: {}", house.caller.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let begun = (Instant::now(), house.cpu());
    tokio::time::sleep(if size().namespaces > 100 { BOUND * 60 } else { BOUND * 4 }).await;
    let idle = (house.cpu() - begun.1).as_secs_f64() / begun.0.elapsed().as_secs_f64();
    let control_plane = house.mesh.control_plane.as_ref().expect("a control plane");
    let memory = || (mib(control_plane.rss_kib()), mib(control_plane.peak_kib()));
    println!(
        "control plane: {:.0} MiB, {:.0} MiB at most; idle: {:.2} % of a core",
        memory().0,
        memory().1,
        idle * 100.0
    );

    let before = house.cpu();
    let alone = house.changes().await;
    told("one change at a time", &alone, house.cpu() - before, alone.len());
    let before = house.cpu();
    let (stormy, others) = house.storm().await;
    told("with others", &stormy, house.cpu() - before, stormy.len() + others);
    println!("control plane: {:.0} MiB, {:.0} MiB at most, afterwards", memory().0, memory().1);
    for (what, sidecar) in [("that calls one service", &house.caller), ("that calls nobody", &house.idle)] {
        let kib = sidecar.process.as_ref().map_or(0, Process::rss_kib);
        println!("sidecar {what}: {:.1} MiB", mib(kib));
    }
    assert!(others > CHANGES, "the storm did not blow: {others} changes");
    for took in [&alone, &stormy] {
        assert!(quantile(took, 0.99) < BOUND, "{took:?}");
    }
}
