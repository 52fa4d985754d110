//! Hosts outside the mesh by their names. Of several documents with one host the oldest holds.

use super::Item;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use weir_config::resources::{ExternalHost, ExternalService};

/// The hosts.
#[derive(Debug, Default)]
pub struct External {
    exact: BTreeMap<String, Arc<Item<ExternalService>>>,
    below: BTreeMap<String, Arc<Item<ExternalService>>>,
    named_ports: BTreeSet<u16>,
}

impl External {
    /// From documents, the oldest first.
    pub(super) fn new(documents: &[Arc<Item<ExternalService>>]) -> Self {
        let mut external = Self::default();
        for document in documents {
            for host in &document.hosts {
                let (map, name) = match host {
                    ExternalHost::Exact(name) => (&mut external.exact, name),
                    ExternalHost::Below(name) => (&mut external.below, name),
                };
                map.entry(name.clone()).or_insert_with(|| document.clone());
            }
            let named = document.ports.iter().filter(|p| p.protocol.carries_a_name());
            external.named_ports.extend(named.map(|p| p.port));
        }
        external
    }

    /// The document that has a host: one that names it, or else the one of the longest domain above it.
    pub fn host(&self, host: &str) -> Option<&Arc<Item<ExternalService>>> {
        if let Some(found) = self.exact.get(host) {
            return Some(found);
        }
        let mut rest = host;
        while let Some((_, above)) = rest.split_once('.') {
            if let Some(found) = self.below.get(above) {
                return Some(found);
            }
            rest = above;
        }
        None
    }

    /// The document that names a host, as it stands.
    pub fn exact(&self, host: &str) -> Option<&Arc<Item<ExternalService>>> {
        self.exact.get(host)
    }

    /// Whether some host is known by its name on this port.
    pub fn is_named(&self, port: u16) -> bool {
        self.named_ports.contains(&port)
    }

    /// Hosts that are named, with their documents.
    pub(super) fn hosts(&self) -> impl Iterator<Item = (&str, &Arc<Item<ExternalService>>)> {
        self.exact.iter().map(|(host, document)| (host.as_str(), document))
    }
}
