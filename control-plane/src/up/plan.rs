//! Which processes a set of documents asks for on this machine, and on which ports: decided before anything starts.

use super::ports::Ports;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};
use weir_config::resources::{Document, Issue, Workload};

/// A workload that is started here.
#[derive(Debug, Clone)]
pub struct Placed {
    /// Its child's name: the workload's, with its namespace in front where two have the same.
    pub child: Arc<str>,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub workload: String,
    /// Its service account.
    pub service_account: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// `spec.env`
    pub env: BTreeMap<String, String>,
    /// Where the application listens, its first port first.
    pub application: Vec<SocketAddr>,
    /// Where it runs, for its locality.
    pub region: String,
    /// See `region`.
    pub zone: String,
    /// Its sidecar's ports; `None`: it has none.
    pub sidecar: Option<SidecarPorts>,
}

impl Placed {
    /// The sidecar's child name.
    pub fn sidecar_child(&self) -> String {
        format!("{}/sidecar", self.child)
    }
}

/// The addresses of one sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct SidecarPorts {
    /// Mutual TLS for the application.
    pub inbound: SocketAddr,
    /// The application's way out.
    pub outbound: SocketAddr,
    /// Admin.
    pub admin: SocketAddr,
    /// `/metrics`
    pub metrics: SocketAddr,
    /// `/readyz`
    pub health: SocketAddr,
}

/// What is to be started, and the documents as they are applied: with the ports that were chosen.
#[derive(Debug)]
pub struct Plan {
    /// All documents.
    pub documents: Vec<Document>,
    /// The workloads that are started here, in the documents' order.
    pub placed: Vec<Placed>,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// Documents cannot run together on one machine.
    #[error("{0}")]
    Wrong(String),
    /// A document is not valid with its ports.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Invalid(Vec<Issue>),
    /// No port could be had.
    #[error("no free port: {0}")]
    Ports(#[from] io::Error),
}

/// Plans. Sidecar ports that a document does not write (or writes as 0) are chosen here.
///
/// # Errors
/// Two applications listen on the same port, or there is no free port.
pub fn plan(documents: Vec<Document>, sidecars: bool, ports: &mut Ports) -> Result<Plan, PlanError> {
    for port in documents.iter().filter_map(workload).flat_map(|w| w.ports.iter().map(|p| p.port)) {
        ports.reserve(port);
    }
    for document in &documents {
        for field in PORT_FIELDS {
            written(document, field).into_iter().for_each(|port| ports.reserve(port));
        }
    }
    let names = child_names(&documents);
    let mut plan = Plan { documents: Vec::with_capacity(documents.len()), placed: Vec::new() };
    let mut listening: BTreeMap<SocketAddr, String> = BTreeMap::new();
    for document in documents {
        let Some(workload) = workload(&document).filter(|w| !w.command.is_empty()) else {
            plan.documents.push(document);
            continue;
        };
        let application: Vec<_> =
            workload.ports.iter().map(|p| SocketAddr::new(workload.app_address, p.port)).collect();
        for address in &application {
            if let Some(other) = listening.insert(*address, document.key().to_string()) {
                let what = format!("{other} and {} both listen on {address}; give one another port", document.key());
                return Err(PlanError::Wrong(what));
            }
        }
        let sidecar = match workload.sidecar.filter(|_| sidecars) {
            Some(_) => Some(choose(&document, workload.address, ports)?),
            None => None,
        };
        plan.placed.push(Placed {
            child: names.get(&(document.namespace().into(), document.name().into())).cloned().unwrap_or_default(),
            namespace: document.namespace().into(),
            workload: document.name().into(),
            service_account: workload.service_account.clone(),
            command: workload.command.clone(),
            env: workload.env.clone(),
            application,
            region: workload.region.clone(),
            zone: workload.zone.clone(),
            sidecar,
        });
        plan.documents.push(match sidecar {
            Some(sidecar) => with_ports(&document, sidecar)?,
            None => document,
        });
    }
    Ok(plan)
}

const PORT_FIELDS: [&str; 5] = ["inboundPort", "outboundPort", "adminPort", "metricsPort", "healthPort"];

fn workload(document: &Document) -> Option<&Workload> {
    match document {
        Document::Workload(object) => Some(&object.spec),
        _ => None,
    }
}

/// A sidecar port that the operator chose.
fn written(document: &Document, field: &str) -> Option<u16> {
    let port = document.written().get("sidecar")?.get(field)?.as_u64()?;
    u16::try_from(port).ok().filter(|p| *p != 0)
}

fn choose(document: &Document, address: IpAddr, ports: &mut Ports) -> Result<SidecarPorts, PlanError> {
    let mut at = |field: &str, ip: IpAddr| -> Result<SocketAddr, PlanError> {
        let port = match written(document, field) {
            Some(port) => port,
            None => ports.free(ip)?,
        };
        Ok(SocketAddr::new(ip, port))
    };
    let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
    Ok(SidecarPorts {
        inbound: at("inboundPort", address)?,
        outbound: at("outboundPort", here)?,
        admin: at("adminPort", here)?,
        metrics: at("metricsPort", here)?,
        health: at("healthPort", here)?,
    })
}

/// The document with these ports, so that callers find the sidecar.
fn with_ports(document: &Document, sidecar: SidecarPorts) -> Result<Document, PlanError> {
    let mut value = document.to_json();
    let fields = [sidecar.inbound, sidecar.outbound, sidecar.admin, sidecar.metrics, sidecar.health];
    if let Some(spec) = value.get_mut("spec").and_then(Value::as_object_mut) {
        let mut ports = spec.get("sidecar").cloned().filter(Value::is_object).unwrap_or_else(|| json!({}));
        for (field, address) in PORT_FIELDS.iter().zip(fields) {
            ports[*field] = address.port().into();
        }
        spec.insert("sidecar".into(), ports);
    }
    Document::from_json(&value).map_err(PlanError::Invalid)
}

/// Child names by namespace and workload: short where that is clear.
fn child_names(documents: &[Document]) -> BTreeMap<(String, String), Arc<str>> {
    let mut seen = BTreeSet::new();
    let mut twice = BTreeSet::new();
    for document in documents.iter().filter(|d| workload(d).is_some()) {
        if !seen.insert(document.name()) {
            twice.insert(document.name());
        }
    }
    let named = documents.iter().filter(|d| workload(d).is_some()).map(|d| {
        let (namespace, name) = (d.namespace(), d.name());
        let child = if twice.contains(name) { format!("{namespace}.{name}") } else { name.to_owned() };
        ((namespace.to_owned(), name.to_owned()), child.into())
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_config::resources::parse;

    fn workload_text(namespace: &str, name: &str, port: u16, rest: &str) -> String {
        format!(
            "apiVersion: weir.dev/v1alpha1\nkind: Workload\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  ports: [{{name: http, port: {port}}}]\n  command: [app, --flag]\n{rest}---\n"
        )
    }

    #[test]
    fn ports_are_chosen_and_written_back() {
        let text = workload_text("a", "web", 9001, "  sidecar: {outboundPort: 25080}\n")
            + &workload_text("b", "web", 9002, "");
        let documents = parse("x", &text).unwrap();
        let plan = plan(documents, true, &mut Ports::new([])).unwrap();
        let sidecars: Vec<_> = plan.placed.iter().map(|p| p.sidecar.unwrap()).collect();
        assert_eq!(sidecars[0].outbound.port(), 25_080, "what is written stays");
        let all: BTreeSet<_> =
            sidecars.iter().flat_map(|s| [s.inbound, s.outbound, s.admin, s.metrics, s.health]).collect();
        assert_eq!(all.len(), 10);
        for (document, sidecar) in plan.documents.iter().zip(&sidecars) {
            let Document::Workload(object) = document else { panic!("{document:?}") };
            let ports = object.spec.sidecar.unwrap();
            assert_eq!(ports.inbound_port, sidecar.inbound.port());
            assert_eq!(ports.health_port, sidecar.health.port());
        }
        let names: Vec<_> = plan.placed.iter().map(|p| &*p.child).collect();
        assert_eq!(names, ["a.web", "b.web"]);
    }

    #[test]
    fn two_applications_on_one_port_are_refused_by_name() {
        let text = workload_text("a", "web", 9001, "") + &workload_text("a", "api", 9001, "");
        let error = plan(parse("x", &text).unwrap(), true, &mut Ports::new([])).unwrap_err().to_string();
        assert!(error.contains("Workload/a/web") && error.contains("Workload/a/api"), "{error}");
    }

    #[test]
    fn without_sidecars_documents_stay_as_they_are() {
        let documents = parse("x", &workload_text("a", "web", 9001, "")).unwrap();
        let plan = plan(documents.clone(), false, &mut Ports::new([])).unwrap();
        assert_eq!(plan.documents, documents);
        assert!(plan.placed[0].sidecar.is_none());
    }
}
