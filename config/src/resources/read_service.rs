//! Reads the `spec` of a Service. What Kubernetes writes into it and what means nothing between sidecars is passed over;
//! what would mean something else than here is refused.

use super::{
    AppProtocol, Distribution, Service, ServicePort, TargetPort,
    node::{Node, Tree},
    read::{Fields, Reader, shorten},
    scalars::is_name,
};
use std::{collections::BTreeMap, net::IpAddr};

/// The words of `appProtocol`.
pub(super) const PROTOCOLS: [(&str, AppProtocol); 9] = [
    ("http", AppProtocol::Http),
    ("kubernetes.io/h2c", AppProtocol::H2c),
    ("grpc", AppProtocol::Grpc),
    ("tcp", AppProtocol::Tcp),
    // Other spellings in use: Istio's and Kubernetes'.
    ("http2", AppProtocol::H2c),
    ("h2c", AppProtocol::H2c),
    ("kubernetes.io/ws", AppProtocol::Http),
    ("https", AppProtocol::Tcp),
    ("tls", AppProtocol::Tcp),
];

/// The words of `trafficDistribution`.
const DISTRIBUTIONS: [(&str, Distribution); 3] = [
    ("PreferSameZone", Distribution::SameZone),
    ("PreferSameNode", Distribution::SameNode),
    ("PreferClose", Distribution::SameZone),
];
/// The words of `type`: whether it is another name of something.
const TYPES: [(&str, bool); 4] =
    [("ClusterIP", false), ("NodePort", false), ("LoadBalancer", false), ("ExternalName", true)];

pub(super) fn spec(r: &mut Reader, node: &Node) -> Option<Service> {
    let mut f = r.fields(node)?;
    if f.optional(r, "type", |r, n| r.word(n, &TYPES)) == Some(true) {
        return alias(r, f);
    }
    let selector = f.optional(r, "selector", Reader::labels).unwrap_or_default();
    let ports = f.required(r, "ports", ports);
    let distribution = f.optional(r, "trafficDistribution", |r, n| r.word(n, &DISTRIBUTIONS));
    f.optional(r, "sessionAffinity", |r, n| match r.text(n)? {
        "None" => Some(()),
        _ => {
            r.issue(n, "session affinity is not supported", Some("`None`, or leave it out".into()));
            None
        }
    });
    let one = f.optional(r, "clusterIP", |r, n| Some(cluster_ip(r, n)?.into_iter().collect::<Vec<_>>()));
    let all = f.optional(r, "clusterIPs", cluster_ips);
    if let (Some(one), Some(all)) = (&one, &all)
        && one.first() != all.first()
    {
        let remedy =
            "Kubernetes writes the first of `clusterIPs` into `clusterIP`; leave one of the two out".to_owned();
        r.issue(node, "`clusterIP` is not the first of `clusterIPs`", Some(remedy));
    }
    f.unsupported(r, "externalName", "add `type: ExternalName`, and leave the selector out");
    f.ignore(&IGNORED);
    f.close(r);
    let says_none = |n: &Node| matches!(&n.tree, Tree::Text(text) if text == "None");
    let headless = node.field("clusterIP").is_some_and(says_none)
        || matches!(node.field("clusterIPs").map(|n| &n.tree), Some(Tree::List(all)) if all.iter().any(says_none));
    let addresses = all.or(one).unwrap_or_default();
    Some(Service { selector, ports: ports?, addresses, headless, external_name: None, distribution })
}

/// What Kubernetes writes and what means nothing between sidecars.
const IGNORED: [&str; 6] = [
    "ipFamilies",
    "ipFamilyPolicy",
    "internalTrafficPolicy",
    "externalTrafficPolicy",
    "allocateLoadBalancerNodePorts",
    "publishNotReadyAddresses",
];

/// A Service that is another name of something. What would say who stands behind it means nothing then.
fn alias(r: &mut Reader, mut f: Fields<'_>) -> Option<Service> {
    let name = f.required(r, "externalName", external_name);
    let ports = if f.find("ports").is_some() { f.optional(r, "ports", ports) } else { Some(vec![]) };
    f.ignore(&IGNORED);
    f.ignore(&["selector", "clusterIP", "clusterIPs", "sessionAffinity", "trafficDistribution"]);
    f.close(r);
    Some(Service {
        selector: BTreeMap::new(),
        ports: ports?,
        addresses: vec![],
        headless: false,
        external_name: Some(name?),
        distribution: None,
    })
}

fn external_name(r: &mut Reader, node: &Node) -> Option<String> {
    let text = r.text(node)?;
    let name = text.strip_suffix('.').unwrap_or(text);
    if name.parse::<IpAddr>().is_ok() {
        let remedy = "DNS would look for a host of that name; write a Service without a selector, and an EndpointSlice";
        r.issue(node, format!("`{}` is an address, and no name", shorten(text)), Some(remedy.into()));
        return None;
    }
    // A name of one label is the caller's own (`localhost`), or nobody's.
    if is_name(name) && name.contains('.') {
        return Some(name.to_owned());
    }
    let remedy = "a full name in lower case: `db.example.com`, or `web.prod.svc.cluster.local` for a Service";
    r.issue(node, format!("`{}` is not the full name of a host", shorten(text)), Some(remedy.into()));
    None
}

/// An address; none for `None` (headless) and for what is not given yet.
fn cluster_ip(r: &mut Reader, node: &Node) -> Option<Option<IpAddr>> {
    if matches!(&node.tree, Tree::Text(text) if text == "None" || text.is_empty()) {
        return Some(None);
    }
    let address = r.address(node)?;
    if address.is_loopback() || address.is_unspecified() || address.is_multicast() {
        let remedy = "an address of the cluster's range for services, or `None`".to_owned();
        r.issue(node, format!("nobody reaches a service under {address}"), Some(remedy));
        return None;
    }
    Some(Some(address))
}

fn cluster_ips(r: &mut Reader, node: &Node) -> Option<Vec<IpAddr>> {
    let mut seen = vec![];
    let all = r.list(node, |r, n, _| {
        let address = cluster_ip(r, n)?;
        if address.is_some() && seen.contains(&address) {
            r.issue(n, "stands here twice", Some("leave one out".into()));
        }
        seen.push(address);
        Some(address)
    })?;
    Some(all.into_iter().flatten().collect())
}

fn ports(r: &mut Reader, node: &Node) -> Option<Vec<ServicePort>> {
    let mut seen: Vec<(Option<String>, u16)> = vec![];
    let several = matches!(&node.tree, Tree::List(items) if items.len() > 1);
    let ports = r.list(node, |r, n, _| {
        let mut f = r.fields(n)?;
        let port = port(r, &mut f)?;
        f.close(r);
        if several && port.name.is_none() {
            r.issue(n, "each of several ports needs a name", Some("add `name:`".into()));
        }
        for (name, number) in &seen {
            if *number == port.port {
                r.within("port", |r| r.issue(n, format!("port {number} stands here twice"), None));
            } else if name.is_some() && *name == port.name {
                r.within("name", |r| r.issue(n, "two ports have this name", None));
            }
        }
        seen.push((port.name.clone(), port.port));
        Some(port)
    })?;
    if ports.is_empty() {
        r.issue(node, "a Service has at least one port", Some("add `- port: 80`".into()));
    }
    Some(ports)
}

fn port(r: &mut Reader, f: &mut Fields<'_>) -> Option<ServicePort> {
    let name = f.optional(r, "name", Reader::label);
    let port = f.required(r, "port", Reader::port);
    let target = f.optional(r, "targetPort", target);
    let protocol = f.optional(r, "appProtocol", |r, n| r.word(n, &PROTOCOLS));
    f.optional(r, "protocol", |r, n| match r.text(n)? {
        "TCP" => Some(()),
        _ => {
            r.issue(n, "only TCP is carried", Some("`TCP`, or leave it out".into()));
            None
        }
    });
    f.ignore(&["nodePort"]);
    let port = port?;
    let protocol = protocol.or_else(|| by_name(name.as_deref()?)).unwrap_or(AppProtocol::Detect);
    Some(ServicePort { name, port, target: target.unwrap_or(TargetPort::Number(port)), protocol })
}

fn target(r: &mut Reader, node: &Node) -> Option<TargetPort> {
    match &node.tree {
        Tree::Text(text) if text.parse::<u16>().is_err() => r.label(node).map(TargetPort::Name),
        _ => r.port(node).map(TargetPort::Number),
    }
}

/// `grpc`, `grpc-web`, `tcp-7000`: what a port's name says is spoken on it.
fn by_name(name: &str) -> Option<AppProtocol> {
    match name.split('-').next()? {
        "http" => Some(AppProtocol::Http),
        "http2" | "h2c" => Some(AppProtocol::H2c),
        "grpc" => Some(AppProtocol::Grpc),
        "tcp" | "tls" | "https" | "mongo" | "mysql" | "redis" | "postgres" => Some(AppProtocol::Tcp),
        _ => None,
    }
}
