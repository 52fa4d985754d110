//! What the replicas stand on.

use crate::page;
use serde_json::Value;
use std::time::{Duration, Instant};
use weir_tests::{cluster::Cluster, etcd::Etcd, eventually, mesh::Mesh};

/// A store for several replicas.
pub(crate) enum Backing {
    /// Three members of etcd; changes go to the replicas' API.
    Etcd(Etcd),
    /// A cluster; changes go to its API server, by `kubectl`.
    Cluster(Box<Cluster>),
}

impl Backing {
    /// Three members; `None`, said loudly, where etcd is not installed.
    pub(crate) fn etcd() -> Option<Self> {
        Etcd::start(3).map(Self::Etcd)
    }

    /// A cluster that knows our kinds; `None`, said loudly, where its programs are missing.
    pub(crate) async fn cluster() -> Option<Self> {
        let cluster = Cluster::start().await?;
        cluster.install_kinds().await;
        cluster.kubectl(&["create", "namespace", "weir-system"]).await;
        Some(Self::Cluster(Box::new(cluster)))
    }

    /// What a control plane is told of it.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let settle = ["--rotation-settle", "1s"].map(str::to_owned);
        let mut arguments = match self {
            Self::Etcd(etcd) => ["--store", "etcd", "--etcd-endpoints", &etcd.endpoints()].map(str::to_owned).to_vec(),
            Self::Cluster(cluster) => {
                ["--kubernetes", "--kubeconfig", &cluster.kubeconfig.display().to_string()].map(str::to_owned).to_vec()
            }
        };
        arguments.extend(settle);
        arguments
    }

    /// Whether all replicas come by the same versions.
    pub(crate) fn counts_alike(&self) -> bool {
        matches!(self, Self::Etcd(_))
    }

    /// Its members.
    pub(crate) fn members(&mut self) -> &mut Etcd {
        let Self::Etcd(etcd) = self else { panic!("this is a cluster") };
        etcd
    }

    /// The cluster.
    pub(crate) fn in_cluster(&mut self) -> &mut Cluster {
        let Self::Cluster(cluster) = self else { panic!("this is etcd") };
        cluster
    }

    /// Makes a change, which must come to be, whoever dies.
    pub(crate) async fn apply(&self, planes: &[Mesh], documents: &str) {
        if let Self::Cluster(cluster) = self {
            cluster.apply(documents).await;
            return;
        }
        eventually("a replica takes the change", 60, || async {
            for plane in planes {
                let tried = tokio::time::timeout(Duration::from_secs(20), plane.try_apply(documents)).await;
                if let Ok(Ok(answer)) = tried
                    && answer.status().is_success()
                {
                    let answer: Value = serde_json::from_slice(answer.body()).expect("JSON");
                    return answer["version"].as_u64();
                }
            }
            None
        })
        .await;
    }

    /// In a cluster, a Service without a selector, and the `n`th state of who is behind it: somebody who is not ready, so that
    /// nobody is called, at an address of documentation.
    pub(crate) fn slice(&self, n: u64) -> String {
        if self.counts_alike() {
            return String::new();
        }
        format!(
            "---
apiVersion: v1
kind: Service
metadata: {{name: byhand, namespace: default}}
spec: {{ports: [{{name: http, port: 80, appProtocol: http}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: byhand-1, namespace: default, labels: {{kubernetes.io/service-name: byhand}}}}
addressType: IPv4
ports: [{{name: http, port: 80, protocol: TCP}}]
endpoints: [{{addresses: ['{}'], conditions: {{ready: false, serving: false}}}}]
",
            self.behind(n).unwrap_or_default()
        )
    }

    /// Who is behind it then.
    pub(crate) fn behind(&self, n: u64) -> Option<String> {
        (!self.counts_alike()).then(|| format!("192.0.2.{}", n % 250 + 1))
    }

    /// Waits until every replica knows so many documents of a kind.
    pub(crate) async fn known(&self, planes: &[Mesh], kind: &str, count: usize) {
        let begun = Instant::now();
        eventually("all replicas know the documents", 30, || async {
            for plane in planes {
                let found = page(plane.api, kind).await?;
                found["items"].as_array().filter(|items| items.len() == count)?;
            }
            Some(())
        })
        .await;
        eprintln!("all replicas knew {count} of {kind} after {:?}", begun.elapsed());
    }
}
