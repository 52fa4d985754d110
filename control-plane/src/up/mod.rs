//! The mesh of a folder on this machine: `weir up`, and the same for programs, as the demonstration does.
//!
//! A control plane (in this process, or as a child), and for each Workload that has a `command` its application and its
//! sidecar as children. Everything is done over the REST API as anybody would do it by hand: apply the documents, make a
//! join token per sidecar, write its bootstrap file, start it. Nothing outlives [`Running::stop`], and if this process
//! is killed, the guardian clears up.

mod bootstrap;
mod documents;
mod guardian;
mod launch;
pub mod logs;
mod plan;
mod ports;
mod process;
mod ready;

pub use plan::{Placed, SidecarPorts};
pub use ports::Ports;
pub use process::{Restart, Role, State, View};

use crate::{app, client::Client, failure::Failure};
use guardian::Guardian;
use logs::Logs;
use process::Process;
use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};
use tempfile::TempDir;
use weir_config::{bootstrap as bootstrap_file, resources::Document};

/// The name of the control plane as a child.
pub const CONTROL_PLANE: &str = "control-plane";

/// How the mesh is run.
#[derive(Debug, Clone)]
pub struct Options {
    /// What it consists of.
    pub documents: Vec<Document>,
    /// Where commands run and what relative programs are relative to.
    pub folder: PathBuf,
    /// The control plane; `data: None` is a temporary folder that ends with the mesh.
    pub control_plane: app::Options,
    /// Whether the control plane is a child process of this program (it can then be killed and started like any other),
    /// or, with `None`, runs in this process.
    pub control_plane_program: Option<PathBuf>,
    /// The sidecar's program; `None`: `weir-proxy` beside this program.
    pub proxy_program: Option<PathBuf>,
    /// What the sidecars' start-up files say besides what is each one's own: workers, access log, ….
    pub sidecar: bootstrap_file::Proxy,
    /// Without: only the applications, as they would be without a mesh.
    pub sidecars: bool,
    /// Where the children's lines go.
    pub logs: logs::Options,
    /// Whether children that fail are started again.
    pub restart: Restart,
    /// How long a child may take to end after SIGTERM.
    pub grace: Duration,
    /// How long everything may take to become ready.
    pub ready_timeout: Duration,
}

impl Options {
    /// These documents, with everything else as `weir up` has it, on free ports.
    pub fn new(documents: Vec<Document>) -> Self {
        Self {
            documents,
            folder: ".".into(),
            control_plane: app::Options::ephemeral(),
            control_plane_program: None,
            proxy_program: None,
            // Many sidecars share this machine.
            sidecar: bootstrap_file::Proxy { workers: Some(1), ..bootstrap_file::Proxy::default() },
            sidecars: true,
            logs: logs::Options::default(),
            restart: Restart::OnFailure,
            grace: Duration::from_secs(10),
            ready_timeout: Duration::from_secs(60),
        }
    }
}

/// Why a mesh cannot be started. Says what to do.
pub type Error = Failure;

/// The mesh of a folder; see the module.
pub struct Mesh;

impl Mesh {
    /// Starts everything and waits until it is ready. If it fails, nothing is left running.
    ///
    /// # Errors
    /// Says what could not be started, or did not become ready, and what to do.
    pub async fn start(options: Options) -> Result<Running, Error> {
        launch::start(options).await
    }
}

/// A mesh that runs. Dropping it kills everything; [`Self::stop`] ends it in order.
pub struct Running {
    children: Vec<Process>,
    placed: Vec<Placed>,
    control_plane: Option<app::Running>,
    client: Client,
    api: SocketAddr,
    logs: Logs,
    guardian: Arc<Guardian>,
    /// Bootstrap files, keys and caches of the sidecars, and the store if it is not kept.
    folder: Option<TempDir>,
}

impl Running {
    /// The REST API's address.
    pub fn api_address(&self) -> SocketAddr {
        self.api
    }

    /// The REST API's client.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The workloads that were started here, with their addresses.
    pub fn workloads(&self) -> &[Placed] {
        &self.placed
    }

    /// All children now: `<workload>`, `<workload>/sidecar`, and `control-plane` if it is one.
    pub fn children(&self) -> Vec<View> {
        self.children.iter().map(Process::view).collect()
    }

    /// SIGKILL to a child; it stays down until [`Self::start`]. Returns when it is gone.
    ///
    /// # Errors
    /// There is no such child.
    pub async fn kill(&self, name: &str) -> Result<(), Error> {
        self.child(name)?.kill().await;
        Ok(())
    }

    /// SIGTERM to a child (SIGKILL after the grace); it stays down until [`Self::start`]. Returns when it is gone.
    ///
    /// # Errors
    /// There is no such child.
    pub async fn terminate(&self, name: &str) -> Result<(), Error> {
        self.child(name)?.terminate().await;
        Ok(())
    }

    /// Starts a child again that was killed or terminated. Does not wait until it is ready: see [`Self::ready`].
    ///
    /// # Errors
    /// There is no such child, or it cannot be started.
    pub async fn start(&self, name: &str) -> Result<(), Error> {
        let started = self.child(name)?.resume().await;
        started.map_err(|e| Failure::failed(format!("cannot start {name}: {e}"), "is its program still there?"))
    }

    /// Waits until a child answers: a sidecar by `/readyz`, an application by taking connections.
    ///
    /// # Errors
    /// There is no such child, or it did not become ready in time.
    pub async fn ready(&self, name: &str, limit: Duration) -> Result<(), Error> {
        let child = self.child(name)?;
        let probes = launch::probes(&self.placed, self.api);
        let probe = probes.into_iter().find(|p| *p.child == *name);
        match probe {
            Some(probe) => ready::wait(&[probe], std::slice::from_ref(child), limit).await,
            None => Ok(()),
        }
    }

    /// Ends everything in order: applications and sidecars at once, the control plane last. Nothing is left behind.
    pub async fn stop(mut self) {
        let (last, first): (Vec<_>, Vec<_>) = self.children.drain(..).partition(|c| c.name() == CONTROL_PLANE);
        for group in [first, last] {
            group.iter().for_each(Process::finish);
            for child in &group {
                child.gone().await;
            }
        }
        if let Some(control_plane) = self.control_plane.take() {
            control_plane.shutdown().await;
        }
        self.logs.close().await;
        if let Some(Err(error)) = self.folder.take().map(TempDir::close) {
            tracing::warn!(%error, "the temporary folder was not removed");
        }
        self.guardian.close();
    }

    fn child(&self, name: &str) -> Result<&Process, Error> {
        self.children.iter().find(|c| c.name() == name).ok_or_else(|| {
            let names: Vec<_> = self.children.iter().map(Process::name).collect();
            Failure::usage(format!("there is no child `{name}`"), format!("there are {}", names.join(", ")))
        })
    }
}

/// The program `name` beside this one; the test programs of Cargo are one folder deeper.
pub fn beside(name: &str) -> io::Result<Option<PathBuf>> {
    let here = std::env::current_exe()?;
    let folders = here.ancestors().skip(1).take(2);
    Ok(folders.map(|f| f.join(name)).find(|p| p.is_file()))
}
