//! Services that are another name of a Service that is another name of them: a name that leads nowhere.

use super::{
    Document, Issue, Kind, Mesh,
    check::{Name, issue},
};
use std::collections::HashMap;

/// More names than this, one leading to the next, are not followed.
pub const MOST_NAMES: usize = 8;

/// The Service of the mesh that a full name means: namespace and name. It need not exist.
pub fn service_of<'n>(name: &'n str, cluster_domain: &str) -> Option<(&'n str, &'n str)> {
    let (service, namespace) = within(name, cluster_domain)?.split_once('.')?;
    (!namespace.contains('.')).then_some((namespace, service))
}

/// What a full name of the cluster has before `.svc.<cluster-domain>`.
fn within<'n>(name: &'n str, cluster_domain: &str) -> Option<&'n str> {
    name.strip_suffix(cluster_domain)?.strip_suffix(".svc.")
}

/// Whether a full name is the cluster's to answer for.
pub fn is_within(name: &str, cluster_domain: &str) -> bool {
    within(name, cluster_domain).is_some()
}

/// An issue for each Service whose name leads back to itself.
pub(super) fn circles(documents: &[&Document], known: &HashMap<Name<'_>, &Document>) -> Vec<Issue> {
    let domain = documents.iter().find_map(|d| match d {
        Document::Mesh(mesh) => Some(mesh.spec.cluster_domain.clone()),
        _ => None,
    });
    let domain = domain.unwrap_or_else(|| Mesh::default().cluster_domain);
    let next = |document: &Document| -> Option<&Document> {
        let Document::Service(service) = document else { return None };
        let (namespace, name) = service_of(service.spec.external_name.as_deref()?, domain.as_str())?;
        known.get(&(Kind::Service, namespace, name)).copied()
    };
    let of = |first: &&Document| -> Option<Issue> {
        let mut at = next(first)?;
        for _ in 0..MOST_NAMES {
            if at.namespace() == first.namespace() && at.name() == first.name() {
                let origin = first.origin();
                let message = "this name leads back to itself, and nowhere".to_owned();
                let remedy = "name a host outside, or the Service that is meant".to_owned();
                return Some(issue(first, "spec.externalName", (origin.line, origin.column), message, Some(remedy)));
            }
            at = next(at)?;
        }
        None
    };
    documents.iter().filter_map(of).collect()
}
