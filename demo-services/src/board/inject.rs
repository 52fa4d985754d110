//! What the buttons do. With the mesh, slowness and errors are a TrafficPolicy for the Workload, put through the control
//! plane's API like any operator's change; without, the application is told to fail. Dead is dead either way.

use crate::{
    fault::Fault,
    platform,
    services::Flood,
    stage::{Error, Stage},
};
use bytes::Bytes;
use http::Method;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use weir_control_plane::{api::types::Applied, client::Body, up};

/// What can be done to an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Harm {
    /// Every request takes 5 s longer.
    Slow,
    /// Every request fails.
    Erroring,
    /// `kill -9`.
    Dead,
    /// `web` pours events into `analytics` for half a minute.
    Flood,
    /// None any more.
    Healed,
}

const SLOW_MS: u64 = 5000;

/// What is being done, by instance.
#[derive(Debug, Default)]
pub struct Injections {
    present: Mutex<BTreeMap<String, Harm>>,
    /// One button at a time.
    turn: tokio::sync::Mutex<()>,
}

impl Injections {
    /// What an instance suffers.
    pub fn of(&self, instance: &str) -> Option<Harm> {
        self.present.lock().get(instance).copied()
    }

    /// Does it to an instance, or to all of a service.
    pub async fn inject(&self, stage: &Stage, target: &str, harm: Harm) -> Result<(), Error> {
        let _turn = self.turn.lock().await;
        if harm == Harm::Flood {
            return stage.flood(Flood { per_second: 500, seconds: 30 }).await;
        }
        let all = stage.instances().iter().filter(|i| i.name == target || i.service.name == target || target == "all");
        let names: Vec<String> = all.map(|i| i.name.clone()).collect();
        if names.is_empty() {
            return Err(Error::Unknown(target.to_owned()));
        }
        if stage.mesh() {
            write_policies(stage, &names, harm).await?;
        }
        for name in &names {
            self.inject_one(stage, name, harm).await?;
        }
        Ok(())
    }

    async fn inject_one(&self, stage: &Stage, name: &str, harm: Harm) -> Result<(), Error> {
        if harm == Harm::Dead {
            stage.kill(name).await?;
        } else {
            stage.revive(name).await?;
            if !stage.mesh() {
                stage.fault(name, application_fault(harm)).await?;
            }
        }
        let mut present = self.present.lock();
        match harm {
            Harm::Healed => present.remove(name),
            _ => present.insert(name.to_owned(), harm),
        };
        Ok(())
    }
}

fn application_fault(harm: Harm) -> Fault {
    match harm {
        Harm::Slow => Fault { delay_ms: SLOW_MS, ..Fault::default() },
        Harm::Erroring => Fault { error_percent: 100.0, ..Fault::default() },
        Harm::Dead | Harm::Flood | Harm::Healed => Fault::default(),
    }
}

fn policy_name(instance: &str) -> String {
    format!("harm-{instance}")
}

/// The policy for one instance; `None`: there is to be none.
fn policy(instance: &str, harm: Harm) -> Option<Value> {
    let grpc = platform::service_of(instance).is_some_and(|s| s.protocol == platform::Protocol::Grpc);
    let fault = match harm {
        Harm::Slow => json!({ "delay": { "fixed": format!("{SLOW_MS}ms") } }),
        Harm::Erroring if grpc => json!({ "abort": { "httpStatus": 503, "grpcStatus": "UNAVAILABLE" } }),
        Harm::Erroring => json!({ "abort": { "httpStatus": 503 } }),
        Harm::Dead | Harm::Flood | Harm::Healed => return None,
    };
    Some(json!({
        "apiVersion": "weir.dev/v1alpha1",
        "kind": "TrafficPolicy",
        "metadata": { "name": policy_name(instance), "namespace": "demo" },
        "spec": { "targetRefs": [{ "kind": "Workload", "name": instance }], "fault": fault },
    }))
}

async fn write_policies(stage: &Stage, instances: &[String], harm: Harm) -> Result<(), Error> {
    let policies: Vec<Value> = instances.iter().filter_map(|i| policy(i, harm)).collect();
    if !policies.is_empty() {
        let bytes = Bytes::from(Value::from(policies).to_string());
        let body = Body { media_type: "application/json", bytes };
        stage.api().send::<Applied>(Method::POST, "/api/v1/apply", &[], Some(body)).await?;
        return Ok(());
    }
    for instance in instances {
        let path = format!("/api/v1/namespaces/demo/trafficpolicies/{}", policy_name(instance));
        match stage.api().send::<Applied>(Method::DELETE, &path, &[], None).await {
            Err(failure) if !up::Error::is_not_found(&failure) => return Err(failure.into()),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_config::resources::Document;

    #[test]
    fn the_policies_of_the_buttons_are_valid() {
        for harm in [Harm::Slow, Harm::Erroring] {
            for instance in ["video-1", "recommendations-2"] {
                let value = policy(instance, harm).unwrap();
                assert!(Document::from_json(&value).is_ok(), "{value}");
            }
        }
        assert!(policy("video-1", Harm::Healed).is_none());
    }
}
