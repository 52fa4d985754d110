//! The order in which a mesh comes up: plan → control plane → documents → tokens and bootstrap files → children → ready.

use super::{
    CONTROL_PLANE, Error, Guardian, Logs, Options, Placed, Ports, Process, Running, beside, bootstrap, documents,
    plan::{self, PlanError},
    process::{Restart, Role, Spec},
    ready::{self, Probe},
};
use crate::{
    api::types::{ProblemIssue, Token, TokenRequest, Trust, Version},
    app,
    client::{Body, Client},
    failure::Failure,
};
use http::Method;
use std::{
    ffi::OsString,
    io,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};
use tempfile::TempDir;
use weir_config::model::TrustDomain;

/// A week, the longest: a sidecar that was down for longer than its certificate lives needs its token again.
const TOKEN_TTL: u64 = 7 * 24 * 3600;

/// See the module. What was started is dropped, and with that killed, if a later step fails.
pub(super) async fn start(mut options: Options) -> Result<Running, Error> {
    let mut ports = Ports::new([]);
    let plan = plan::plan(std::mem::take(&mut options.documents), options.sidecars, &mut ports).map_err(unplanned)?;
    let proxy = match options.sidecars && plan.placed.iter().any(|p| p.sidecar.is_some()) {
        true => Some(proxy_program(&options)?),
        false => None,
    };
    let folder = temporary().map_err(|e| cannot("make a temporary folder", &e))?;
    let guardian = Guardian::start(Some(folder.path())).map_err(|e| cannot("start /bin/sh as a guardian", &e))?;
    let logs = Logs::start(&options.logs).map_err(|e| cannot("open the logs", &e))?;
    let mut children = Children { guardian: Arc::new(guardian), logs, all: Vec::new() };

    let kept = options.control_plane.data.is_some();
    let (control_plane, api) = control_plane(&mut options, folder.path(), &mut ports, &mut children).await?;
    let client = Client::new(&api.to_string(), options.control_plane.admin_token.clone())?;
    documents::apply(&client, &plan.documents).await?;
    if kept {
        documents::prune(&client, &plan.documents).await?;
    }
    if let Some(proxy) = proxy {
        let join = Join::new(&client, folder.path(), &options.sidecar).await?;
        for placed in plan.placed.iter().filter(|p| p.sidecar.is_some()) {
            let bootstrap = join.prepare(placed).await?;
            children.start(sidecar(placed, &proxy, &bootstrap, &options))?;
        }
    }
    for placed in &plan.placed {
        children.start(application(placed, &options)?)?;
    }
    ready::wait(&probes(&plan.placed, api), &children.all, options.ready_timeout).await?;
    Ok(Running {
        children: children.all,
        placed: plan.placed,
        control_plane,
        client,
        api,
        logs: children.logs,
        guardian: children.guardian,
        folder: Some(folder),
    })
}

/// What tells that each child is ready.
pub(super) fn probes(placed: &[Placed], api: SocketAddr) -> Vec<Probe> {
    let mut probes = vec![Probe { child: CONTROL_PLANE.into(), address: api, page: Some("/api/v1/version") }];
    for p in placed {
        // The applications first: a sidecar's readiness may one day ask for them.
        if let Some(address) = p.application.first() {
            probes.push(Probe { child: p.child.clone(), address: *address, page: None });
        }
        if let Some(sidecar) = p.sidecar {
            let child = p.sidecar_child().into();
            probes.push(Probe { child, address: sidecar.health, page: Some("/readyz") });
        }
    }
    probes
}

struct Children {
    guardian: Arc<Guardian>,
    logs: Logs,
    all: Vec<Process>,
}

impl Children {
    fn start(&mut self, spec: Spec) -> Result<(), Error> {
        let (name, program) = (spec.name.clone(), spec.program.clone());
        let process = Process::start(spec, &self.logs, self.guardian.clone()).map_err(|e| {
            let message = format!("cannot start {name}: {}: {e}", program.display());
            Failure::failed(message, "is the program there, and may it be executed?")
        })?;
        self.all.push(process);
        Ok(())
    }
}

/// The control plane, in this process or as a child, and the address of its API.
async fn control_plane(
    options: &mut Options,
    folder: &Path,
    ports: &mut Ports,
    children: &mut Children,
) -> Result<(Option<app::Running>, SocketAddr), Error> {
    let own = &mut options.control_plane;
    let Some(program) = options.control_plane_program.clone() else {
        let running = app::App::start(own.clone()).await.map_err(|e| Failure::failed(e.to_string(), ""))?;
        let api = running.addresses().api;
        return Ok((Some(running), api));
    };
    // A child must have the same ports after each start.
    for address in [&mut own.api, &mut own.xds, &mut own.metrics] {
        if address.port() == 0 {
            address.set_port(ports.free(address.ip()).map_err(|e| cannot("find a free port", &e))?);
        }
    }
    let data = own.data.get_or_insert_with(|| folder.join("control-plane")).clone();
    children.start(Spec {
        name: CONTROL_PLANE.into(),
        role: Role::ControlPlane,
        program,
        args: own.arguments(&data),
        env_remove: own_settings(),
        env: own.admin_token.iter().map(|t| ("WEIR_ADMIN_TOKEN".to_owned(), t.clone())).collect(),
        folder: None,
        leash: false,
        restart: Restart::Always,
        grace: options.grace,
    })?;
    let api = own.api;
    ready::wait(&probes(&[], api), &children.all, options.ready_timeout).await?;
    Ok((None, api))
}

/// What the sidecars join with.
struct Join<'a> {
    client: &'a Client,
    folder: &'a Path,
    template: &'a weir_config::bootstrap::Proxy,
    xds: String,
    roots: String,
    trust_domain: TrustDomain,
}

impl<'a> Join<'a> {
    async fn new(
        client: &'a Client,
        folder: &'a Path,
        template: &'a weir_config::bootstrap::Proxy,
    ) -> Result<Self, Error> {
        let xds = client.get::<Version>("/api/v1/version").await?.xds_address;
        let Trust { trust_domain, roots } = client.get("/api/v1/trust").await?;
        let wrong = |e| Failure::failed(format!("the control plane's trust domain `{trust_domain}`: {e}"), "");
        let trust_domain = trust_domain.parse().map_err(wrong)?;
        Ok(Self { client, folder, template, xds, roots, trust_domain })
    }

    /// A token and a bootstrap file for one sidecar; the file's path.
    async fn prepare(&self, placed: &Placed) -> Result<PathBuf, Error> {
        let request = TokenRequest {
            namespace: placed.namespace.clone(),
            service_account: placed.service_account.clone(),
            workload: Some(placed.workload.clone()),
            ttl_seconds: Some(TOKEN_TTL),
        };
        let body = Body { media_type: "application/json", bytes: encode(&request)? };
        let token: Token = self.client.send(Method::POST, "/api/v1/tokens", &[], Some(body)).await?;
        let state = self.folder.join(placed.child.as_ref());
        let to = bootstrap::ControlPlane {
            address: &self.xds,
            roots: &self.roots,
            trust_domain: &self.trust_domain,
            token: token.token,
        };
        bootstrap::write(&state, placed, to, self.template).map_err(|e| cannot("write a bootstrap file", &e))
    }
}

fn sidecar(placed: &Placed, program: &Path, bootstrap: &Path, options: &Options) -> Spec {
    Spec {
        name: placed.sidecar_child().into(),
        role: Role::Sidecar,
        program: program.into(),
        args: vec!["--bootstrap".into(), bootstrap.into(), "--exit-with-parent".into()],
        env: Vec::new(),
        env_remove: own_settings(),
        folder: None,
        leash: true,
        restart: match options.restart {
            Restart::Never => Restart::Never,
            // A sidecar has no work that it could have finished.
            Restart::Always | Restart::OnFailure => Restart::Always,
        },
        grace: options.grace,
    }
}

fn application(placed: &Placed, options: &Options) -> Result<Spec, Error> {
    let [program, arguments @ ..] = &placed.command[..] else {
        return Err(Failure::failed(format!("{} has an empty command", placed.child), "write spec.command"));
    };
    let mut env = vec![
        ("WEIR_WORKLOAD".to_owned(), placed.workload.clone()),
        ("WEIR_NAMESPACE".to_owned(), placed.namespace.clone()),
    ];
    if let Some(address) = placed.application.first() {
        env.push(("PORT".into(), address.port().to_string()));
    }
    if let Some(sidecar) = placed.sidecar {
        let proxy = format!("http://{}", sidecar.outbound);
        env.push(("HTTP_PROXY".into(), proxy.clone()));
        env.push(("http_proxy".into(), proxy));
        env.push(("WEIR_OUTBOUND".into(), sidecar.outbound.to_string()));
    }
    env.extend(placed.env.clone());
    Ok(Spec {
        name: placed.child.clone(),
        role: Role::Application,
        program: resolve(program, &options.folder),
        args: arguments.iter().map(OsString::from).collect(),
        env,
        env_remove: ["NO_PROXY", "no_proxy"].map(Into::into).into_iter().chain(own_settings()).collect(),
        folder: Some(options.folder.clone()),
        leash: false,
        restart: options.restart,
        grace: options.grace,
    })
}

/// What is set for this program (`WEIR_ADDRESS`, secrets, …) is not meant for its children; the log level is.
fn own_settings() -> Vec<String> {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    names.filter(|n| n.starts_with("WEIR_") && n != "WEIR_LOG").collect()
}

/// A program with a slash is relative to the folder; a bare name is looked for beside this program, then in `PATH`.
fn resolve(program: &str, folder: &Path) -> PathBuf {
    if program.contains('/') {
        let path = folder.join(program);
        return path.canonicalize().unwrap_or(path);
    }
    let in_path =
        std::env::var_os("PATH").is_some_and(|p| std::env::split_paths(&p).any(|d| d.join(program).is_file()));
    match beside(program) {
        Ok(Some(path)) if !in_path => path,
        _ => program.into(),
    }
}

fn proxy_program(options: &Options) -> Result<PathBuf, Error> {
    let remedy = "build it with `cargo build -p weir-proxy`, or name it with --proxy-bin or WEIR_PROXY_BIN";
    match &options.proxy_program {
        Some(path) if path.is_file() => Ok(path.clone()),
        Some(path) => Err(Failure::failed(format!("there is no sidecar program at {}", path.display()), remedy)),
        None => match beside("weir-proxy") {
            Ok(Some(path)) => Ok(path),
            _ => Err(Failure::failed("there is no weir-proxy beside this program", remedy)),
        },
    }
}

/// Keys and tokens lie in it: for the owner only.
fn temporary() -> io::Result<TempDir> {
    tempfile::Builder::new().prefix("weir-up-").permissions(std::fs::Permissions::from_mode(0o700)).tempdir()
}

fn encode(value: &impl serde::Serialize) -> Result<bytes::Bytes, Error> {
    serde_json::to_vec(value).map(Into::into).map_err(|e| Failure::failed(format!("cannot be written: {e}"), ""))
}

fn cannot(what: &str, error: &io::Error) -> Error {
    Failure::failed(
        format!("cannot {what}: {error}"),
        "see the system's limits, the temporary folder, and its free space",
    )
}

fn unplanned(error: PlanError) -> Error {
    match error {
        PlanError::Invalid(issues) => Failure::invalid(
            "the documents are not valid with the chosen ports",
            issues.iter().map(ProblemIssue::from).collect(),
        ),
        other => Failure::failed(other.to_string(), ""),
    }
}
