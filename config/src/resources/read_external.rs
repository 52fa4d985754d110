//! Reads the `spec` of an ExternalService.

use super::{
    ExternalHost, ExternalPort, ExternalProtocol, ExternalService,
    node::{Node, Tree},
    read::{Reader, shorten},
    scalars::is_name,
};
use std::net::IpAddr;

/// The words of `protocol`: Istio's.
const PROTOCOLS: [(&str, ExternalProtocol); 6] = [
    ("HTTP", ExternalProtocol::Http),
    ("HTTP2", ExternalProtocol::Http2),
    ("GRPC", ExternalProtocol::Http2),
    ("TLS", ExternalProtocol::Tls),
    ("HTTPS", ExternalProtocol::Tls),
    ("TCP", ExternalProtocol::Tcp),
];

pub(super) fn spec(r: &mut Reader, node: &Node) -> Option<ExternalService> {
    let mut f = r.fields(node)?;
    let hosts = f.required(r, "hosts", hosts);
    let ports = f.required(r, "ports", ports);
    let addresses = f.optional(r, "addresses", addresses).unwrap_or_default();
    f.unsupported(r, "location", "what is of the mesh is a Service with Workloads");
    f.unsupported(r, "resolution", "with `addresses` they are used, without them names are resolved");
    f.unsupported(r, "endpoints", "write their `addresses`");
    f.unsupported(r, "exportTo", "it is known in all namespaces");
    f.close(r);
    let spec = ExternalService { hosts: hosts?, ports: ports?, addresses };
    let below = spec.hosts.iter().any(|h| matches!(h, ExternalHost::Below(_)));
    if below && spec.addresses.is_empty() && spec.has_nameless_ports() {
        let remedy = "list the hosts, or write their `addresses`, or say `TLS` or `HTTP` where that is spoken";
        let message = "of all hosts below a domain, those of a TCP or HTTP2 port cannot be told apart";
        let at = node.field("ports").unwrap_or(node);
        r.within("ports", |r| r.issue(at, message, Some(remedy.into())));
    }
    Some(spec)
}

fn hosts(r: &mut Reader, node: &Node) -> Option<Vec<ExternalHost>> {
    let mut seen = vec![];
    let hosts = r.list(node, |r, n, _| {
        let host = host(r, n)?;
        if seen.contains(&host) {
            r.issue(n, "stands here twice", Some("leave one out".into()));
        }
        seen.push(host.clone());
        Some(host)
    })?;
    if matches!(&node.tree, Tree::List(items) if items.is_empty()) {
        r.issue(node, "an ExternalService has at least one host", Some("add `- api.example.com`".into()));
    }
    Some(hosts)
}

fn host(r: &mut Reader, node: &Node) -> Option<ExternalHost> {
    let text = r.text(node)?;
    let (name, made): (_, fn(String) -> _) = match text.strip_prefix("*.") {
        Some(domain) => (domain, ExternalHost::Below),
        None => (text, ExternalHost::Exact),
    };
    // A name without a dot is a service's, and a number is no name.
    if is_name(name) && name.contains('.') && name.parse::<IpAddr>().is_err() {
        return Some(made(name.to_owned()));
    }
    let remedy = "a full name in lower case such as `api.example.com`, or `*.example.com`".to_owned();
    r.issue(node, format!("`{}` is not the name of a host", shorten(text)), Some(remedy));
    None
}

fn ports(r: &mut Reader, node: &Node) -> Option<Vec<ExternalPort>> {
    let mut seen = vec![];
    let ports = r.list(node, |r, n, _| {
        let mut f = r.fields(n)?;
        let port = f.required(r, "port", Reader::port);
        let protocol = f.required(r, "protocol", |r, n| r.word(n, &PROTOCOLS));
        f.optional(r, "name", Reader::label);
        f.unsupported(r, "number", "write `port`");
        f.unsupported(r, "targetPort", "callers use the host's own port");
        f.close(r);
        let port = ExternalPort { port: port?, protocol: protocol? };
        if seen.contains(&port.port) {
            r.within("port", |r| r.issue(n, format!("port {} stands here twice", port.port), None));
        }
        seen.push(port.port);
        Some(port)
    })?;
    if matches!(&node.tree, Tree::List(items) if items.is_empty()) {
        r.issue(node, "an ExternalService has at least one port", Some("add `- {port: 443, protocol: TLS}`".into()));
    }
    Some(ports)
}

fn addresses(r: &mut Reader, node: &Node) -> Option<Vec<IpAddr>> {
    let mut seen = vec![];
    r.list(node, |r, n, _| {
        let address = r.address(n)?;
        if address.is_unspecified() || address.is_multicast() || address.is_loopback() {
            r.issue(n, format!("nobody outside is reached under {address}"), None);
        } else if seen.contains(&address) {
            r.issue(n, "stands here twice", Some("leave one out".into()));
        }
        seen.push(address);
        Some(address)
    })
}
