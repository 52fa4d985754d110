//! `weir version`: of this program, and of the control plane if it answers.

use super::{Context, failure::Failure};
use crate::api::types;
use clap::Args;
use serde::Serialize;
use std::time::Duration;

/// See the module.
#[derive(Debug, Args)]
pub(super) struct Version {
    /// Do not ask the control plane.
    #[arg(long)]
    client: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Versions {
    client: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    control_plane: Option<types::Version>,
}

impl Version {
    pub(super) async fn run(self, context: &mut Context<'_>) -> Result<(), Failure> {
        let control_plane = if self.client {
            None
        } else {
            // Not there is no failure of this question.
            context.client()?.with_timeout(Duration::from_secs(2)).get("/api/v1/version").await.ok()
        };
        let versions = Versions { client: env!("CARGO_PKG_VERSION"), control_plane };
        context.print(&versions, |v| {
            let there = v.control_plane.as_ref().map_or("not reached", |c| c.version.as_str());
            format!("weir           {}\ncontrol plane  {there}", v.client)
        })
    }
}
