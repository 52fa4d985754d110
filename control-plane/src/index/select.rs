//! From labels to workloads: which workloads of a namespace a selector means, without looking at all of them.

use super::Item;
use std::{collections::BTreeMap, sync::Arc};
use weir_config::resources::{Service, Workload};

/// The workloads of one namespace by each of their labels.
#[derive(Default)]
pub(super) struct Labels<'a> {
    by_label: BTreeMap<(&'a str, &'a str), Vec<&'a Arc<Item<Workload>>>>,
}

impl<'a> Labels<'a> {
    /// Takes a workload in. Called in the order of their names.
    pub(super) fn add(&mut self, workload: &'a Arc<Item<Workload>>) {
        for (key, value) in workload.labels() {
            self.by_label.entry((key, value)).or_default().push(workload);
        }
    }

    /// The workloads behind a service, by name: of the label that fewest have, those that have the others too.
    pub(super) fn behind(&self, service: &Service) -> Vec<Arc<Item<Workload>>> {
        let none: &[&Arc<Item<Workload>>] = &[];
        let candidates = service
            .selector
            .iter()
            .map(|(key, value)| self.by_label.get(&(key.as_str(), value.as_str())).map_or(none, Vec::as_slice))
            .min_by_key(|found| found.len())
            .unwrap_or(none);
        candidates.iter().filter(|w| service.selects(w.labels())).map(|w| Arc::clone(w)).collect()
    }
}
