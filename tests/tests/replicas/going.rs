//! A sidecar that goes down is known to all replicas, and to those that start later.

use crate::HERE;
use nix::sys::signal::Signal;
use weir_tests::{
    application::Application,
    client::get,
    etcd::Etcd,
    eventually, free_port,
    mesh::{Mesh, Sidecar, service, workload},
};

/// Two replicas, servers that are with the first one only, and a caller that is with the second one only.
struct Apart {
    _etcd: Etcd,
    planes: [Mesh; 2],
    applications: [Application; 2],
    servers: Vec<Sidecar>,
    client: Sidecar,
}

impl Apart {
    async fn start(delay: u64) -> Option<Self> {
        let etcd = Etcd::start(1)?;
        let mut planes = [Mesh::stopped(HERE), Mesh::stopped(HERE)];
        for plane in &mut planes {
            plane.extra = ["--store", "etcd", "--etcd-endpoints", &etcd.endpoints()].map(str::to_owned).to_vec();
            plane.start_control_plane().await;
        }
        let applications = [Application::start("one").await, Application::start("two").await];
        let ports: Vec<u16> = (0..5).map(|_| free_port()).collect();
        let mut documents = service("server", 8080, "http");
        for (n, application) in applications.iter().enumerate() {
            documents += &workload(&format!("server-{n}"), "server", application.address.port(), ports[n]);
        }
        for n in 1..3 {
            documents += &workload(&format!("client-{n}"), "client", 9, ports[1 + n]);
        }
        planes[0].apply(&documents).await;
        let delay = ["--drain-delay-seconds", &delay.to_string()].map(str::to_owned);
        let delay = delay.each_ref().map(String::as_str);
        let mut servers = Vec::new();
        for (n, port) in ports.iter().take(2).enumerate() {
            servers.push(planes[0].sidecar_with(&format!("server-{n}"), "server", *port, &delay).await);
        }
        eventually("the other replica knows the documents", 10, || async {
            let page = crate::page(planes[1].api, "/api/v1/workloads").await?;
            (page["items"].as_array()?.len() == 4).then_some(())
        })
        .await;
        let client = planes[1].sidecar("client-1", "client", ports[2]).await;
        let apart = Self { _etcd: etcd, planes, applications, servers, client };
        apart.both_answer().await;
        Some(apart)
    }

    /// Both instances get requests.
    async fn both_answer(&self) {
        let before = self.applications.each_ref().map(Application::requests);
        eventually("both instances answer", 20, || async {
            get(self.client.outbound, "server:8080", "/").await.ok()?;
            let now = self.applications.each_ref().map(Application::requests);
            (now[0] > before[0] && now[1] > before[1]).then_some(())
        })
        .await;
    }

    /// A caller knows that one of the two goes, and gives it nothing more.
    async fn spares(&self, client: &Sidecar) {
        let going = r#"weir_endpoints{destination="server.default.svc.cluster.local:8080",state="draining"} 1"#;
        eventually("its caller at the other replica knows", 10, || async {
            get(client.outbound, "server:8080", "/").await.ok()?;
            client.metrics().await.contains(going).then_some(())
        })
        .await;
        let before = self.applications[0].requests();
        for _ in 0..40 {
            assert_eq!(get(client.outbound, "server:8080", "/").await.unwrap().status(), 200);
        }
        assert_eq!(self.applications[0].requests(), before, "who goes gets nothing new");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_that_goes_is_known_to_callers_of_other_replicas_until_it_comes_back() {
    let Some(mut apart) = Apart::start(6).await else { return };
    let told = std::time::Instant::now();
    apart.servers[0].process().signal(Signal::SIGTERM);
    apart.spares(&apart.client).await;
    eprintln!("its caller at the other replica knew after at most {:?}", told.elapsed());
    assert!(apart.servers[0].process().is_running(), "it knew while it still served");
    apart.servers[0].process().ended(std::time::Duration::from_secs(30)).await;
    apart.spares(&apart.client).await;
    // It comes back, to the replica where the caller is not.
    let token = apart.planes[0].token("server").await;
    let Apart { planes, servers, .. } = &mut apart;
    servers[0].start(&planes[0], &token).await;
    apart.both_answer().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn control_planes_that_restart_know_who_goes_and_who_has_gone() {
    let Some(mut apart) = Apart::start(25).await else { return };
    apart.servers[0].process().signal(Signal::SIGTERM);
    apart.spares(&apart.client).await;
    // All replicas at once, in the middle of it.
    for plane in &mut apart.planes {
        plane.control_plane().kill();
    }
    for plane in &mut apart.planes {
        plane.start_control_plane().await;
    }
    assert!(apart.servers[0].process().is_running(), "it is still there");
    let port = free_port();
    let fresh = apart.planes[1].sidecar("client-2", "client", port).await;
    apart.spares(&fresh).await;
    apart.spares(&apart.client).await;
    // And when it can say nothing any more.
    apart.servers[0].process().kill();
    for plane in &mut apart.planes {
        plane.control_plane().kill();
    }
    for plane in &mut apart.planes {
        plane.start_control_plane().await;
    }
    drop(fresh);
    let fresh = apart.planes[1].sidecar("client-2", "client", port).await;
    apart.spares(&fresh).await;
}
