//! Reads the `spec` of a Workload.

use super::{
    Hint, Sidecar, Workload, WorkloadPort,
    node::Node,
    read::{Fields, Reader},
    read_service::PROTOCOLS,
};
use crate::model::Health;
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const HEALTH: [(&str, Health); 3] =
    [("Healthy", Health::Healthy), ("Draining", Health::Draining), ("Unhealthy", Health::Unhealthy)];

pub(super) fn spec(r: &mut Reader, node: &Node) -> Option<Workload> {
    let mut f = r.fields(node)?;
    let command = f.optional(r, "command", command).unwrap_or_default();
    // An instance that is started here is reached here; any other must say where it is.
    let address = if command.is_empty() && f.find("command").is_none() {
        f.required(r, "address", Reader::address)
    } else {
        f.optional(r, "address", Reader::address).or(Some(LOOPBACK))
    };
    let workload = Workload {
        address: address.unwrap_or(LOOPBACK),
        app_address: f.optional(r, "appAddress", Reader::address).unwrap_or(LOOPBACK),
        ports: f.optional(r, "ports", ports).unwrap_or_default(),
        service_account: f.optional(r, "serviceAccount", Reader::name).unwrap_or_else(|| "default".into()),
        region: f.optional(r, "region", |r, n| r.words(n, 63)).unwrap_or_default(),
        zone: f.optional(r, "zone", |r, n| r.words(n, 63)).unwrap_or_default(),
        node: f.optional(r, "node", Reader::name).unwrap_or_default().into(),
        hints: f.optional(r, "hints", hints).unwrap_or_default(),
        weight: f.optional(r, "weight", |r, n| r.small(n, 1, 1_000_000)).unwrap_or(1),
        sidecar: sidecar(r, &mut f, !command.is_empty()),
        env: f.optional(r, "env", env).unwrap_or_default(),
        health: f.optional(r, "health", |r, n| r.word(n, &HEALTH)).unwrap_or(Health::Healthy),
        command,
    };
    f.unsupported(r, "labels", "labels stand in `metadata.labels`");
    f.close(r);
    Some(workload)
}

fn command(r: &mut Reader, node: &Node) -> Option<Vec<String>> {
    let words = r.list(node, |r, n, _| r.text(n).map(ToOwned::to_owned))?;
    if words.first().is_none_or(String::is_empty) {
        r.issue(node, "a command begins with a program", Some("`[program, argument, …]`, or leave it out".into()));
    }
    Some(words)
}

fn env(r: &mut Reader, node: &Node) -> Option<BTreeMap<String, String>> {
    let map = r.texts(node)?;
    for name in map.keys().filter(|n| n.is_empty() || n.contains(['=', '\0'])) {
        r.issue(node, format!("`{name}` is not a name of an environment variable"), None);
    }
    for name in map.iter().filter(|(_, v)| v.contains('\0')).map(|(n, _)| n) {
        r.issue(node, format!("the value of `{name}` has a NUL byte"), None);
    }
    Some(map)
}

fn hints(r: &mut Reader, node: &Node) -> Option<Vec<Hint>> {
    let mut seen: Vec<String> = vec![];
    r.list(node, |r, n, _| {
        let mut f = r.fields(n)?;
        let service = f.required(r, "service", Reader::label);
        let zones = f.optional(r, "zones", |r, n| r.list(n, |r, n, _| r.words(n, 63)));
        let nodes = f.optional(r, "nodes", |r, n| r.list(n, |r, n, _| r.name(n)));
        f.close(r);
        let service = service?;
        if seen.contains(&service) {
            r.within("service", |r| r.issue(n, format!("two hints are of the service `{service}`"), None));
        }
        seen.push(service.clone());
        Some(Hint { service, zones: zones.unwrap_or_default(), nodes: nodes.unwrap_or_default() })
    })
}

fn ports(r: &mut Reader, node: &Node) -> Option<Vec<WorkloadPort>> {
    let mut seen: Vec<(String, u16)> = vec![];
    r.list(node, |r, n, _| {
        let mut f = r.fields(n)?;
        let name = f.required(r, "name", Reader::label);
        let port = f.required(r, "port", Reader::port);
        let protocol = f.optional(r, "appProtocol", |r, n| r.word(n, &PROTOCOLS));
        f.close(r);
        let (name, port) = (name?, port?);
        if seen.iter().any(|(other, _)| *other == name) {
            r.within("name", |r| r.issue(n, format!("two ports have the name `{name}`"), None));
        }
        if seen.iter().any(|(_, other)| *other == port) {
            r.within("port", |r| r.issue(n, format!("port {port} stands here twice"), None));
        }
        seen.push((name.clone(), port));
        Some(WorkloadPort { name, port, protocol })
    })
}

fn sidecar(r: &mut Reader, f: &mut Fields<'_>, started_here: bool) -> Option<Sidecar> {
    let read = |r: &mut Reader, n: &Node| {
        let mut f = r.fields(n)?;
        let disabled = f.optional(r, "disabled", Reader::truth).unwrap_or(false);
        let usual = Sidecar::default();
        let least = i64::from(!started_here);
        let inbound = f.optional(r, "inboundPort", |r, n| r.whole(n, least, 65_535));
        let inbound = inbound.and_then(|p| u16::try_from(p).ok()).filter(|p| *p != 0);
        let sidecar = Sidecar {
            inbound_port: inbound.unwrap_or(usual.inbound_port),
            outbound_port: f.optional(r, "outboundPort", Reader::any_port).unwrap_or(usual.outbound_port),
            admin_port: f.optional(r, "adminPort", Reader::any_port).unwrap_or(usual.admin_port),
            metrics_port: f.optional(r, "metricsPort", Reader::any_port).unwrap_or(usual.metrics_port),
            health_port: f.optional(r, "healthPort", Reader::any_port).unwrap_or(usual.health_port),
        };
        f.close(r);
        distinct(r, n, &sidecar);
        Some((!disabled).then_some(sidecar))
    };
    f.optional(r, "sidecar", read).unwrap_or_else(|| Some(Sidecar::default()))
}

fn distinct(r: &mut Reader, node: &Node, s: &Sidecar) {
    let mut ports = [s.inbound_port, s.outbound_port, s.admin_port, s.metrics_port, s.health_port];
    ports.sort_unstable();
    if let Some(pair) = ports.windows(2).find(|p| p[0] == p[1] && p[0] != 0) {
        let remedy = "give each its own, or 0 for any free port";
        r.issue(node, format!("two of the sidecar's ports are {}", pair[0]), Some(remedy.into()));
    }
}
