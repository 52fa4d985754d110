//! The start-up file of one sidecar, readable by its owner only: it holds a join token.

use super::Placed;
use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};
use weir_config::{bootstrap, model::TrustDomain};

/// What a sidecar joins with.
pub(super) struct ControlPlane<'a> {
    /// Where it connects, `host:port`.
    pub(super) address: &'a str,
    /// Who vouches for what it finds there, PEM.
    pub(super) roots: &'a str,
    /// Under which name identities are vouched for.
    pub(super) trust_domain: &'a TrustDomain,
    /// What proves who the workload is.
    pub(super) token: String,
}

/// Makes `folder` and writes `bootstrap.yaml` into it; what is not about this sidecar is as in `template`. The sidecar's
/// state is kept in `folder` too.
pub(super) fn write(
    folder: &Path,
    placed: &Placed,
    to: ControlPlane<'_>,
    template: &bootstrap::Proxy,
) -> io::Result<PathBuf> {
    let state = folder.join("state");
    DirBuilder::new().recursive(true).mode(0o700).create(&state)?;
    let text = file(placed, to, template, state).to_yaml().map_err(io::Error::other)?;
    let path = folder.join("bootstrap.yaml");
    // A file from before may be readable by others: it is made anew.
    match fs::remove_file(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    file.write_all(text.as_bytes())?;
    Ok(path)
}

fn file(placed: &Placed, to: ControlPlane<'_>, template: &bootstrap::Proxy, state: PathBuf) -> bootstrap::Proxy {
    let mut file = template.clone();
    file.node = bootstrap::Node {
        namespace: Some(placed.namespace.clone()),
        workload: Some(placed.workload.clone()),
        service_account: Some(placed.service_account.clone()),
        region: Some(placed.region.clone()).filter(|r| !r.is_empty()),
        zone: Some(placed.zone.clone()).filter(|z| !z.is_empty()),
    };
    file.control_plane.address = Some(to.address.into());
    file.control_plane.roots = Some(to.roots.into());
    file.identity.trust_domain = Some(to.trust_domain.clone());
    file.identity.token = Some(to.token);
    file.state_directory = Some(state);
    if let Some(ports) = placed.sidecar {
        file.listen.outbound = Some(ports.outbound);
        file.listen.inbound = Some(ports.inbound);
        file.listen.admin = Some(ports.admin);
        file.listen.metrics = Some(ports.metrics);
        file.listen.health = Some(ports.health);
    }
    file
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::up::SidecarPorts;
    use std::{net::SocketAddr, os::unix::fs::PermissionsExt};

    #[test]
    fn it_can_be_read_by_the_sidecar_and_by_nobody_else() {
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let placed = Placed {
            child: "web-1".into(),
            namespace: "demo".into(),
            workload: "web-1".into(),
            service_account: "web".into(),
            command: vec!["web".into()],
            env: std::collections::BTreeMap::new(),
            application: vec![at(1)],
            region: String::new(),
            zone: "a".into(),
            sidecar: Some(SidecarPorts {
                inbound: at(2),
                outbound: at(3),
                admin: at(4),
                metrics: at(5),
                health: at(6),
            }),
        };
        let folder = tempfile::tempdir().unwrap();
        let trust_domain = TrustDomain::default();
        let to = || ControlPlane {
            address: "127.0.0.1:7",
            roots: "-----BEGIN CERTIFICATE-----\n",
            trust_domain: &trust_domain,
            token: "t".into(),
        };
        let template = bootstrap::Proxy { workers: Some(1), ..bootstrap::Proxy::default() };
        write(folder.path(), &placed, to(), &template).unwrap();
        let path = write(folder.path(), &placed, to(), &template).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let read = bootstrap::Proxy::load(&path).unwrap();
        assert_eq!(read.listen.health, Some(at(6)));
        assert_eq!((read.node.zone.as_deref(), read.node.region, read.workers), (Some("a"), None, Some(1)));
        assert_eq!(read.identity.token.as_deref(), Some("t"));
    }
}
