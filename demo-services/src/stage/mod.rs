//! All processes of a run: every instance of every service, the viewers, and (with the mesh) a sidecar beside each and a
//! control plane. With and without the mesh they are started by the same hands and made to fail in the same way.

mod admin;
mod documents;

pub use documents::Instance;

use crate::{
    fault::Fault,
    platform::{self, SERVICES},
    services::{Flood, Ledger},
    stats::Window,
    viewers,
};
use admin::Admin;
use std::{net::SocketAddr, path::PathBuf, time::Duration};
use tempfile::TempDir;
use weir_control_plane::up::{self, logs};

/// How long a killed instance may take to be there again.
const REVIVAL: Duration = Duration::from_secs(20);

/// How a run is set up.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whether there are sidecars.
    pub mesh: bool,
    /// The traffic.
    pub viewers: viewers::Options,
    /// A file of each process's lines; `None`: they are not kept.
    pub logs: Option<PathBuf>,
    /// The sidecar's program; `None`: `weir-proxy` beside this program.
    pub proxy_program: Option<PathBuf>,
}

/// Why something on the stage could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The processes.
    #[error("{0}")]
    Up(#[from] up::Error),
    /// The documents of `demo-services/mesh` are wrong.
    #[error("the documents of the demo are not valid:\n{0}")]
    Documents(String),
    /// A file or a port.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// An instance did not do as it was told.
    #[error("{0}")]
    Admin(String),
    /// There is no such instance.
    #[error("there is no instance `{0}`")]
    Unknown(String),
}

/// The run. Ends with [`Stage::stop`]; when dropped, all processes are killed.
pub struct Stage {
    running: up::Running,
    instances: Vec<Instance>,
    viewers: SocketAddr,
    mesh: bool,
    admin: Admin,
    data: TempDir,
}

impl Stage {
    /// Starts everything and waits until it is ready.
    pub async fn start(options: Options) -> Result<Self, Error> {
        let data = tempfile::Builder::new().prefix("weir-demo-").tempdir()?;
        let plan = documents::plan(&options, &std::env::current_exe()?, data.path())?;
        let mut up = up::Options::new(plan.documents);
        up.sidecars = options.mesh;
        up.proxy_program = options.proxy_program;
        up.logs = logs::Options { quiet: true, folder: options.logs, ..logs::Options::default() };
        up.restart = up::Restart::OnFailure;
        up.grace = Duration::from_secs(3);
        let running = up::Mesh::start(up).await?;
        let stage = Self {
            running,
            instances: plan.instances,
            viewers: plan.viewers,
            mesh: options.mesh,
            admin: Admin::new(),
            data,
        };
        Ok(stage)
    }

    /// Whether there are sidecars.
    pub fn mesh(&self) -> bool {
        self.mesh
    }

    /// All instances of services.
    pub fn instances(&self) -> &[Instance] {
        &self.instances
    }

    /// The instances of one service.
    pub fn instances_of(&self, service: &str) -> impl Iterator<Item = &Instance> {
        self.instances.iter().filter(move |i| i.service.name == service)
    }

    /// The REST API of the control plane.
    pub fn api(&self) -> &weir_control_plane::client::Client {
        self.running.client()
    }

    /// Where the REST API is.
    pub fn api_address(&self) -> SocketAddr {
        self.running.api_address()
    }

    /// Whether the application of an instance (or another child, by its name) runs.
    pub fn is_alive(&self, child: &str) -> bool {
        let running = |v: &up::View| *v.name == *child && matches!(v.state, up::State::Running { .. });
        self.running.children().iter().any(running)
    }

    /// Makes the application of an instance fail, or no longer ([`Fault::default`]).
    pub async fn fault(&self, instance: &str, fault: Fault) -> Result<(), Error> {
        let instance = self.instance(instance)?;
        self.admin.post(instance.admin, "/__fault", &fault).await
    }

    /// Kills the application of an instance with -9. It stays dead until [`Self::revive`].
    pub async fn kill(&self, instance: &str) -> Result<(), Error> {
        Ok(self.running.kill(&self.instance(instance)?.name).await?)
    }

    /// Kills the application of an instance and the sidecar beside it, as when a machine is lost.
    pub async fn lose(&self, instance: &str) -> Result<(), Error> {
        let name = &self.instance(instance)?.name;
        if !self.mesh {
            return self.kill(name).await;
        }
        let sidecar = sidecar_of(name);
        let (application, sidecar) = futures::join!(self.running.kill(name), self.running.kill(&sidecar));
        Ok(application.and(sidecar)?)
    }

    /// Starts again what was killed of an instance, and waits until it answers. Nothing if all of it runs.
    pub async fn revive(&self, instance: &str) -> Result<(), Error> {
        let sidecar = self.mesh.then(|| sidecar_of(instance));
        // The sidecar first: what calls out as soon as it runs needs it.
        for child in sidecar.iter().map(String::as_str).chain([instance]) {
            if !self.is_alive(child) {
                self.running.start(child).await?;
                self.running.ready(child, REVIVAL).await?;
            }
        }
        Ok(())
    }

    /// Lets every instance of `web` flood `analytics`.
    pub async fn flood(&self, flood: Flood) -> Result<(), Error> {
        for web in self.instances_of("web") {
            self.admin.post(web.admin, "/__flood", &flood).await?;
        }
        Ok(())
    }

    /// What viewers felt in `from..to` (seconds since the epoch).
    pub async fn felt(&self, from: u64, to: u64) -> Result<Window, Error> {
        self.admin.get(self.viewers, &format!("/stats?from={from}&to={to}")).await
    }

    /// How calls to each service fared in `from..to`, as their callers saw it: series named `call:<service>`.
    pub async fn calls(&self, from: u64, to: u64) -> Window {
        let mut all = self.felt(from, to).await.unwrap_or_default();
        for web in self.instances_of("web") {
            // One that is dead has nothing to say.
            if let Ok(window) = self.admin.get::<Window>(web.admin, &format!("/stats?from={from}&to={to}")).await {
                all.merge(&window);
            }
        }
        all.series.retain(|name, _| name.starts_with("call:"));
        all
    }

    /// What one instance has recorded in `from..to`; series `served` is what reached it.
    pub async fn served(&self, instance: &str, from: u64, to: u64) -> Result<Window, Error> {
        self.admin.get(self.instance(instance)?.admin, &format!("/stats?from={from}&to={to}")).await
    }

    /// What `billing` has charged since the run began.
    pub async fn ledger(&self) -> Result<Ledger, Error> {
        let billing = self.instances_of("billing").next().ok_or_else(|| Error::Unknown("billing-1".into()))?;
        self.admin.get(billing.admin, "/ledger").await
    }

    /// Ends every process, in order, and removes what was written.
    pub async fn stop(self) {
        self.running.stop().await;
        if let Err(error) = self.data.close() {
            tracing::warn!(%error, "the data folder was not removed");
        }
    }

    fn instance(&self, name: &str) -> Result<&Instance, Error> {
        self.instances.iter().find(|i| i.name == name).ok_or_else(|| Error::Unknown(name.to_owned()))
    }
}

/// As `up` names it.
fn sidecar_of(instance: &str) -> String {
    format!("{instance}/sidecar")
}

/// How many processes a run has besides the sidecars: for the greeting.
pub fn processes() -> usize {
    SERVICES.iter().map(|s: &platform::Service| s.replicas).sum::<usize>() + 1
}
