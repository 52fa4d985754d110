//! `weir rotate-anchor`: exchanges the mesh's root for a new one, phase by phase, and shows how far it is.

use super::{Context, failure::Failure};
use crate::{
    api::types::{Rotation, RotationAction, RotationRequest},
    client::{Body, Client},
};
use clap::Args;
use http::Method;
use std::time::Duration;

/// How often `--wait` looks.
const LOOK: Duration = Duration::from_millis(500);
/// So long the control plane may be away meanwhile: one replica dies, another answers.
const AWAY: u32 = 60;

/// See the module.
#[derive(Debug, Args)]
pub(super) struct RotateAnchor {
    /// Only show how far it is.
    #[arg(long, conflicts_with_all = ["resume", "abort", "force", "hold"])]
    status: bool,
    /// Stay in each phase until told to go on with --resume. Together with a start, or for one that is under way.
    #[arg(long, conflicts_with_all = ["resume", "abort", "force"])]
    hold: bool,
    /// Go on with one that is held.
    #[arg(long, conflicts_with_all = ["abort", "force"])]
    resume: bool,
    /// Go back to the old root. Possible until the old root has been taken away.
    #[arg(long, conflicts_with = "force")]
    abort: bool,
    /// Go on to the next phase now, though not all proxies have reported: those may lose their connections.
    #[arg(long)]
    force: bool,
    /// Return when it is over.
    #[arg(long)]
    wait: bool,
}

impl RotateAnchor {
    pub(super) async fn run(self, context: &mut Context<'_>) -> Result<(), Failure> {
        let client = context.client()?;
        let mut found = match self.action(&client).await? {
            None => client.get("/api/v1/rotation").await?,
            Some(action) => {
                let request = RotationRequest { action, hold: self.hold };
                let bytes = serde_json::to_vec(&request).map_err(|e| Failure::failed(e.to_string(), ""))?.into();
                let body = Body { media_type: "application/json", bytes };
                client.send::<Rotation>(Method::POST, "/api/v1/rotation", &[], Some(body)).await?
            }
        };
        if self.wait {
            found = over(&client, found).await?;
        }
        context.print(&found, table)
    }

    /// What is asked for; `--hold` is for the one that is under way, if one is.
    async fn action(&self, client: &Client) -> Result<Option<RotationAction>, Failure> {
        Ok(match self {
            Self { status: true, .. } => None,
            Self { resume: true, .. } => Some(RotationAction::Resume),
            Self { abort: true, .. } => Some(RotationAction::Abort),
            Self { force: true, .. } => Some(RotationAction::Force),
            Self { hold: true, .. } if client.get::<Rotation>("/api/v1/rotation").await?.phase.is_some() => {
                Some(RotationAction::Hold)
            }
            _ => Some(RotationAction::Start),
        })
    }
}

/// Waits for the end, and says each phase on standard error.
async fn over(client: &Client, mut found: Rotation) -> Result<Rotation, Failure> {
    let (mut said, mut away) = (None, 0);
    while let Some(phase) = found.phase.clone() {
        if said.as_ref() != Some(&phase) {
            eprintln!("{phase}: waiting for {}", found.waits_for);
            said = Some(phase);
        }
        tokio::time::sleep(LOOK).await;
        match client.get("/api/v1/rotation").await {
            Ok(now) => (found, away) = (now, 0),
            Err(_) if away < AWAY => away += 1,
            Err(failure) => return Err(failure),
        }
    }
    Ok(found)
}

fn table(rotation: &Rotation) -> String {
    let mut text = format!("Issuer {}, until {}", rotation.issuer, rotation.expires);
    if rotation.expired {
        text += " (EXPIRED: no certificate can be issued; exchange it with `weir rotate-anchor`)";
    }
    text += &format!("\nTrusted roots: {}\n", rotation.roots);
    match &rotation.phase {
        None if rotation.last.is_empty() => text += "No rotation is under way\n",
        None => text += &format!("No rotation is under way; the last one: {}\n", rotation.last),
        Some(phase) => {
            let how = match (rotation.held, rotation.aborting) {
                (true, _) => " (held: go on with --resume, or back with --abort)",
                (false, true) => " (being taken back)",
                (false, false) => "",
            };
            text += &format!("Rotation: {phase}{how}, waiting for {}\n", rotation.waits_for);
            text += &format!(
                "  of {} proxies on {} replicas: {} without the roots of this phase, {} with a certificate of another issuer, {} replicas behind\n",
                rotation.proxies, rotation.replicas, rotation.unaware, rotation.stale, rotation.behind
            );
            if !rotation.names.is_empty() {
                text += &format!("  {}\n", rotation.names.join(", "));
            }
        }
    }
    text
}
