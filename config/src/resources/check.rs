//! What documents say about each other: every one once, at most one Mesh, nothing that is named and missing.

use super::{Document, Issue, Kind, Reference, Service, circle::circles, document::Origin, read::nearest};
use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

/// All issues between the documents of a mesh. Takes any collection of references, such as `&[Document]` or
/// `map.values().map(Arc::as_ref)`.
pub fn check_all<'a>(documents: impl IntoIterator<Item = &'a Document>) -> Vec<Issue> {
    let documents: Vec<_> = documents.into_iter().collect();
    let mut issues = vec![];
    let known = distinct(&documents, &mut issues);
    issues.extend(meshes(&documents));
    issues.extend(dangling(&documents, &known));
    issues.extend(circles(&documents, &known));
    issues.extend(addresses(&documents));
    issues.extend(cluster_ips(&documents));
    issues
}

/// What names a document, without a copy.
pub(super) type Name<'a> = (Kind, &'a str, &'a str);

fn name_of(document: &Document) -> Name<'_> {
    (document.kind(), document.namespace(), document.name())
}

/// Documents of the same key.
pub(super) fn duplicates(documents: &[&Document]) -> Vec<Issue> {
    let mut issues = vec![];
    distinct(documents, &mut issues);
    issues
}

fn distinct<'a>(documents: &[&'a Document], issues: &mut Vec<Issue>) -> HashMap<Name<'a>, &'a Document> {
    let mut known: HashMap<Name<'a>, &'a Document> = HashMap::with_capacity(documents.len());
    for document in documents {
        let Some(other) = known.get(&name_of(document)) else {
            known.insert(name_of(document), document);
            continue;
        };
        let (file, line) = (&other.origin().file, other.origin().line);
        issues.push(issue(
            document,
            "",
            (document.origin().line, document.origin().column),
            format!("{} stands here a second time; first in {file}:{line}", document.key()),
            Some("rename or remove one of the two".into()),
        ));
    }
    known
}

fn meshes(documents: &[&Document]) -> Vec<Issue> {
    let mut found: Vec<&&Document> = documents.iter().filter(|d| d.kind() == Kind::Mesh).collect();
    found.dedup_by_key(|d| d.key());
    let Some((first, more)) = found.split_first() else { return vec![] };
    let message = format!("there is one Mesh; `{}` is it", first.name());
    let remedy = format!("change `{}`, or remove it", first.name());
    let at = |o: &Origin| (o.line, o.column);
    let different = more.iter().filter(|d| d.key() != first.key());
    different.map(|d| issue(d, "", at(d.origin()), message.clone(), Some(remedy.clone()))).collect()
}

fn dangling<'a>(documents: &[&'a Document], known: &HashMap<Name<'a>, &'a Document>) -> Vec<Issue> {
    let mut issues = vec![];
    for document in documents {
        for reference in document.references() {
            if let Some((message, remedy)) = missing(reference, known) {
                let at = (reference.line, reference.column);
                issues.push(issue(document, &reference.field, at, message, Some(remedy)));
            }
        }
    }
    issues
}

fn missing(reference: &Reference, known: &HashMap<Name<'_>, &Document>) -> Option<(String, String)> {
    let key = &reference.key;
    match known.get(&(key.kind, &*key.namespace, &*key.name)) {
        None => {
            let of_kind = || known.keys().filter(|(kind, ..)| *kind == key.kind);
            let mut names: Vec<_> = of_kind().filter(|k| k.1 == &*key.namespace).map(|k| k.2).collect();
            names.sort_unstable();
            let elsewhere = of_kind().filter(|k| k.2 == &*key.name).map(|k| k.1).min();
            let remedy = match (nearest(&key.name, &names), elsewhere) {
                (Some(name), _) => format!("did you mean `{name}`?"),
                (None, Some(namespace)) => format!("there is one in the namespace `{namespace}`"),
                (None, None) => format!("apply the {} too, or correct the name", key.kind),
            };
            let message = format!("there is no {} `{}` in the namespace `{}`", key.kind, key.name, key.namespace);
            Some((message, remedy))
        }
        Some(Document::Service(found)) => match &found.spec.external_name {
            Some(name) => {
                let message = format!("the Service `{}` is another name of `{name}`, and nothing else", key.name);
                Some((message, "name what it leads to: a Service, or an ExternalService of that host".into()))
            }
            None => no_port(reference, &found.spec),
        },
        Some(_) => None,
    }
}

fn no_port(reference: &Reference, service: &Service) -> Option<(String, String)> {
    let port = reference.port.filter(|p| service.port(*p).is_none())?;
    let has: Vec<_> = service.ports.iter().map(|p| p.port.to_string()).collect();
    let message = format!("the Service `{}` has no port {port}", reference.key.name);
    Some((message, format!("it has {}", has.join(", "))))
}

/// Two workloads cannot both listen at one address. (Ports that `weir up` is yet to choose are no matter.)
fn addresses(documents: &[&Document]) -> Vec<Issue> {
    let mut taken: HashMap<SocketAddr, &Document> = HashMap::new();
    let mut issues = vec![];
    for document in documents {
        let Document::Workload(w) = document else { continue };
        let ports = match w.spec.sidecar {
            Some(_) if !w.spec.command.is_empty() && !chosen(&w.written) => continue,
            Some(sidecar) => vec![sidecar.inbound_port],
            None => w.spec.ports.iter().map(|p| p.port).collect(),
        };
        for port in ports {
            let address = SocketAddr::new(w.spec.address, port);
            let other = taken.insert(address, document).filter(|o| o.key() != document.key());
            let Some(other) = other else { continue };
            let field = if w.spec.sidecar.is_some() { "spec.sidecar.inboundPort" } else { "spec.ports" };
            let at = (document.origin().line, document.origin().column);
            let message = format!("{address} is where {} listens too", other.key());
            issues.push(issue(document, field, at, message, Some("give each its own port or address".into())));
        }
    }
    issues
}

/// An address means one service.
fn cluster_ips(documents: &[&Document]) -> Vec<Issue> {
    let mut taken: HashMap<IpAddr, &Document> = HashMap::new();
    let mut issues = vec![];
    for document in documents {
        let Document::Service(service) = document else { continue };
        for address in &service.spec.addresses {
            let other = taken.insert(*address, document).filter(|o| o.key() != document.key());
            let Some(other) = other else { continue };
            let at = (document.origin().line, document.origin().column);
            let message = format!("{address} is the address of {} too", other.key());
            issues.push(issue(document, "spec.clusterIPs", at, message, Some("give each its own".into())));
        }
    }
    issues
}

/// Whether a Workload's document says where its sidecar listens.
fn chosen(spec: &serde_json::Value) -> bool {
    spec.pointer("/sidecar/inboundPort").and_then(serde_json::Value::as_u64).is_some_and(|port| port != 0)
}

pub(super) fn issue(
    document: &Document,
    field: &str,
    at: (u32, u32),
    message: String,
    remedy: Option<String>,
) -> Issue {
    let namespace = document.namespace();
    let slash = if namespace.is_empty() { "" } else { "/" };
    let space = if field.is_empty() { "" } else { " " };
    Issue {
        file: Arc::clone(&document.origin().file),
        line: at.0,
        column: at.1,
        field: format!("{} {namespace}{slash}{}{space}{field}", document.kind(), document.name()),
        message,
        remedy,
    }
}
