//! What is a state, and not an event: endpoints, connections, limits and budgets of each destination, told at a scrape.

use super::{Cluster, State};
use crate::telemetry::Exposition;
use std::time::Instant;
use weir_config::model::Health;

/// A number of a cluster, with the value of its second label.
type Numbers = fn(&Cluster) -> Vec<(&'static str, f64)>;

impl State {
    /// Tells the state of every destination, by name.
    pub fn tell(&self, out: &mut Exposition) {
        let snapshot = self.load();
        let mut clusters: Vec<_> = snapshot.clusters.values().collect();
        clusters.sort_by(|a, b| a.config.name.cmp(&b.config.name));
        let families: [(&str, &str, &str, Numbers); 4] = [
            ("weir_endpoints", "state", "Endpoints of a destination, by what may be done with them.", endpoints),
            ("weir_upstream_connections", "state", "Connections to a destination.", connections),
            ("weir_limit_used", "limit", "What is under way of what a destination's limits count.", used),
            ("weir_limit_max", "limit", "The limits of a destination, where it has them.", limits),
        ];
        for (family, label, help, numbers) in families {
            out.family(family, "gauge", help);
            for cluster in &clusters {
                for (value, number) in numbers(cluster) {
                    out.sample([("destination", &*cluster.config.name), (label, value)], number);
                }
            }
        }
        out.family(
            "weir_endpoints_used",
            "gauge",
            "Endpoints that requests go to: of many, as many as the load asks for.",
        );
        for cluster in &clusters {
            out.sample([("destination", &*cluster.config.name)], cluster.used());
        }
        let now = Instant::now();
        out.family("weir_retry_budget_remaining_ratio", "gauge", "How much of a destination's retry budget is left.");
        for cluster in &clusters {
            out.sample([("destination", &*cluster.config.name)], cluster.budget.remaining_ratio(now));
        }
        out.family("weir_config_hosts", "gauge", "Authorities that are configured or known not to exist.");
        out.sample([], snapshot.hosts.len());
        out.family("weir_config_hosts_waiting", "gauge", "Authorities that applications wait for.");
        out.sample([], self.demand.waiting());
    }
}

fn endpoints(cluster: &Cluster) -> Vec<(&'static str, f64)> {
    let said = cluster.source.localities.iter().flat_map(|l| &l.endpoints);
    let (mut ready, mut ejected, mut draining, mut unhealthy) = (0, 0, 0, 0);
    for (endpoint, said) in cluster.endpoints.iter().zip(said) {
        match said.health {
            Health::Healthy if endpoint.health.is_ejected() => ejected += 1,
            Health::Healthy => ready += 1,
            Health::Draining => draining += 1,
            Health::Unhealthy => unhealthy += 1,
        }
    }
    vec![
        ("ready", f64::from(ready)),
        ("ejected", f64::from(ejected)),
        ("draining", f64::from(draining)),
        ("unhealthy", f64::from(unhealthy)),
    ]
}

fn connections(cluster: &Cluster) -> Vec<(&'static str, f64)> {
    let open: usize = cluster.endpoints.iter().map(|e| e.pool.open()).sum();
    let idle: usize = cluster.endpoints.iter().map(|e| e.pool.idle()).sum();
    vec![("open", open as f64), ("idle", idle as f64)]
}

fn used(cluster: &Cluster) -> Vec<(&'static str, f64)> {
    let limits = &cluster.limits;
    vec![
        ("connections", f64::from(limits.connections.used())),
        ("requests", f64::from(limits.requests.used())),
        ("retries", f64::from(limits.retries.used())),
    ]
}

fn limits(cluster: &Cluster) -> Vec<(&'static str, f64)> {
    let limits = &cluster.limits;
    let all = [
        ("connections", limits.connections.max()),
        ("requests", limits.requests.max()),
        ("retries", limits.retries.max()),
    ];
    all.into_iter().filter_map(|(name, max)| max.map(|max| (name, f64::from(max)))).collect()
}
