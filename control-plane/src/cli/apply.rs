//! `weir apply -f file|folder|-`: all documents in one transaction, or none; `--wait` until the proxies have them.

use super::{
    Context,
    failure::Failure,
    input::{self, Joined},
    output::Table,
};
use crate::{
    api::types::{Applied, Change},
    client::{Body, Client},
};
use clap::Args;
use http::Method;
use serde::Serialize;
use std::{path::PathBuf, time::Duration};

/// See the module.
#[derive(Debug, Args)]
pub(super) struct Apply {
    /// A file, a folder of .yaml files, or - for standard input. Can be given several times.
    #[arg(short, long = "file", required = true, value_name = "FILE")]
    file: Vec<PathBuf>,
    /// Check everything on the control plane, and say what would happen, without doing it.
    #[arg(long)]
    dry_run: bool,
    /// Wait until every connected proxy has the change, at most for this time (30s unless told).
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "30s",
        value_parser = crate::duration::parse, conflicts_with = "dry_run")]
    wait: Option<Duration>,
}

/// What is printed.
#[derive(Serialize)]
struct Done {
    #[serde(flatten)]
    applied: Applied,
    #[serde(skip_serializing_if = "Option::is_none")]
    rollout: Option<Change>,
}

impl Apply {
    pub(super) async fn run(self, context: &mut Context<'_>) -> Result<(), Failure> {
        let client = context.client()?;
        let joined = Joined::new(&input::read(&self.file)?);
        let path = if self.dry_run { "/api/v1/apply?dryRun=true" } else { "/api/v1/apply" };
        let body = Body { media_type: "application/yaml", bytes: joined.text.clone().into() };
        let applied: Applied = client
            .send(Method::POST, path, &[], Some(body))
            .await
            .map_err(|failure| failure.relocated(|issue| joined.relocate(issue)))?;
        let rollout = match self.wait {
            Some(limit) => Some(rollout(&client, applied.version, limit).await?),
            None => None,
        };
        let failure = rollout.as_ref().and_then(|change| incomplete(change, self.wait.unwrap_or_default()));
        context.print(&Done { applied, rollout }, table)?;
        failure.map_or(Ok(()), Err)
    }
}

/// Waits for a change on all proxies.
pub(super) async fn rollout(client: &Client, version: u64, limit: Duration) -> Result<Change, Failure> {
    let wait = limit.as_millis();
    let client = client.clone().with_timeout(limit + Duration::from_secs(30));
    client.get(&format!("/api/v1/changes/{version}?wait={wait}ms")).await
}

fn incomplete(change: &Change, limit: Duration) -> Option<Failure> {
    let remedy = "see `weir status` for the proxies and their reasons";
    if change.refused > 0 {
        return Some(Failure::failed(format!("change {}: {}", change.version, change.words()), remedy));
    }
    (!change.complete).then(|| {
        let message = format!("change {} after {limit:?}: {}", change.version, change.words());
        Failure::failed(message, remedy)
    })
}

fn table(done: &Done) -> String {
    let mut table = Table::new(&["KIND", "NAMESPACE", "NAME", "ACTION"]);
    for d in &done.applied.documents {
        table.row([d.kind.clone(), d.namespace.clone(), d.name.clone(), d.action.clone()]);
    }
    let mut text = table.to_string();
    if done.applied.dry_run {
        text.push_str("dry run: nothing was changed\n");
    } else {
        let what = done.rollout.as_ref().map(|c| format!(": {}", c.words())).unwrap_or_default();
        text.push_str(&format!("change {}{what}\n", done.applied.version));
    }
    text
}

/// Prints what was done to documents, for other verbs too.
pub(super) fn print(context: &mut Context<'_>, applied: Applied) -> Result<(), Failure> {
    context.print(&Done { applied, rollout: None }, table)
}
