//! The documents of `demo-services/mesh`, fitted to this run: this program as each command, free ports, and, without the
//! mesh, a list of all instances for the callers.

use super::{Error, Options};
use crate::{
    peers::Peers,
    platform::{self, Service},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
};
use weir_config::resources::{self, Document, Kind};
use weir_control_plane::up::Ports;

/// The workload that the viewers are.
const VIEWERS: &str = "viewers";

/// The folder, as it was when this program was built.
const FILES: [(&str, &str); 5] = [
    ("mesh.yaml", include_str!("../../mesh/mesh.yaml")),
    ("services.yaml", include_str!("../../mesh/services.yaml")),
    ("workloads.yaml", include_str!("../../mesh/workloads.yaml")),
    ("policies.yaml", include_str!("../../mesh/policies.yaml")),
    ("authorization.yaml", include_str!("../../mesh/authorization.yaml")),
];

/// One instance of a service.
#[derive(Debug, Clone)]
pub struct Instance {
    /// `video-2`, as its Workload is named.
    pub name: String,
    /// What it is an instance of.
    pub service: &'static Service,
    /// Where it takes requests.
    pub address: SocketAddr,
    /// Where it takes faults and tells its numbers.
    pub admin: SocketAddr,
}

/// What is started.
pub(super) struct Plan {
    pub(super) documents: Vec<Document>,
    pub(super) instances: Vec<Instance>,
    pub(super) viewers: SocketAddr,
}

/// All documents as they are in the folder.
pub(super) fn written() -> Result<Vec<Document>, Error> {
    let mut all = Vec::new();
    let mut issues = Vec::new();
    for (name, text) in FILES {
        match resources::parse(name, text) {
            Ok(documents) => all.extend(documents),
            Err(found) => issues.extend(found),
        }
    }
    issues.extend(resources::check_all(&all));
    match issues.as_slice() {
        [] => Ok(all),
        issues => Err(invalid(issues)),
    }
}

fn invalid(issues: &[resources::Issue]) -> Error {
    Error::Documents(issues.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

pub(super) fn plan(options: &Options, program: &Path, data: &Path) -> Result<Plan, Error> {
    let mut ports = Ports::new([]);
    let mut free = || ports.free(Ipv4Addr::LOCALHOST.into()).map(|p| SocketAddr::from((Ipv4Addr::LOCALHOST, p)));
    let written = written()?;
    let mut instances = Vec::new();
    for document in written.iter().filter(|d| d.kind() == Kind::Workload) {
        if let Some(service) = platform::service_of(document.name()) {
            instances.push(Instance { name: document.name().into(), service, address: free()?, admin: free()? });
        }
    }
    let viewers = free()?;
    let program = program.to_string_lossy().into_owned();
    let mut commands: BTreeMap<&str, (SocketAddr, Vec<String>)> = BTreeMap::new();
    for i in &instances {
        let [listen, admin, data] = [i.address.to_string(), i.admin.to_string(), data.to_string_lossy().into_owned()];
        let words = [&program, "service", i.service.name, "--listen", &listen, "--admin", &admin, "--data", &data];
        commands.insert(&i.name, (i.address, words.map(str::to_owned).into()));
    }
    commands.insert(VIEWERS, (viewers, viewers_command(&program, viewers, options)));
    let env = if options.mesh { json!({}) } else { json!({ "DEMO_PEERS": peers(&instances) }) };
    let fitted = written.iter().map(|d| match commands.get(d.name()) {
        Some((address, command)) if d.kind() == Kind::Workload => fit(d, *address, command, &env),
        _ => Ok(d.clone()),
    });
    Ok(Plan { documents: fitted.collect::<Result<_, _>>()?, instances, viewers })
}

fn viewers_command(program: &str, listen: SocketAddr, options: &Options) -> Vec<String> {
    let v = &options.viewers;
    let flags = [
        ("--listen", listen.to_string()),
        ("--rate", v.rate.to_string()),
        ("--seed", v.seed.to_string()),
        ("--segments", v.segments.to_string()),
        ("--segment-bytes", v.segment_bytes.to_string()),
    ];
    let flags = flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]);
    [program.to_owned(), "viewers".to_owned()].into_iter().chain(flags).collect()
}

fn peers(instances: &[Instance]) -> String {
    let mut all: BTreeMap<String, Vec<SocketAddr>> = BTreeMap::new();
    for i in instances {
        all.entry(i.service.name.into()).or_default().push(i.address);
    }
    Peers::format_direct(&all)
}

fn fit(document: &Document, address: SocketAddr, command: &[String], env: &Value) -> Result<Document, Error> {
    let mut value = document.to_json();
    if let Some(spec) = value.get_mut("spec").and_then(Value::as_object_mut) {
        spec.insert("command".into(), json!(command));
        spec.insert("env".into(), env.clone());
        if let Some(port) = spec.get_mut("ports").and_then(|p| p.get_mut(0)) {
            port["port"] = address.port().into();
        }
    }
    Document::from_json(&value).map_err(|issues| invalid(&issues))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::SERVICES;
    use crate::viewers;

    fn options(mesh: bool) -> Options {
        Options { mesh, viewers: viewers::Options::default(), logs: None, proxy_program: None }
    }

    #[test]
    fn the_folder_has_every_instance_and_nobody_else() {
        let plan = plan(&options(true), Path::new("/bin/weir-demo"), Path::new("/data")).unwrap();
        let names: Vec<_> = plan.instances.iter().map(|i| i.name.clone()).collect();
        let expected: Vec<_> = SERVICES.iter().flat_map(Service::instances).collect();
        assert_eq!(names, expected);
        for s in &SERVICES {
            let found = plan.documents.iter().find_map(|d| match d {
                Document::Service(o) if d.name() == s.name => Some(&o.spec),
                _ => None,
            });
            assert!(found.is_some_and(|spec| spec.port(s.port).is_some()), "{}", s.name);
        }
    }

    #[test]
    fn without_the_mesh_callers_get_a_list() {
        let plan = plan(&options(false), Path::new("/bin/weir-demo"), Path::new("/data")).unwrap();
        let Some(Document::Workload(web)) = plan.documents.iter().find(|d| d.name() == "web-1") else {
            panic!("no web-1")
        };
        let Ok(Peers::Direct(all)) = Peers::parse_direct(&web.spec.env["DEMO_PEERS"]) else { panic!("no peers") };
        assert_eq!(all["video"].len(), 3);
        assert_eq!(web.spec.ports[0].port, plan.instances[0].address.port());
        assert!(web.spec.command[0].ends_with("weir-demo"));
    }
}
