//! `weir token create`: a join token, with which a sidecar outside Kubernetes proves who its workload is.

use super::{Context, failure::Failure};
use crate::api::types::{self, TokenRequest};
use crate::client::Body;
use clap::{Args, Subcommand};
use http::Method;
use std::time::Duration;

/// See the module.
#[derive(Debug, Args)]
pub(super) struct Token {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a join token. It is shown this once.
    Create(Create),
}

#[derive(Debug, Args)]
struct Create {
    /// The namespace of the identity.
    #[arg(short, long, env = "WEIR_NAMESPACE", default_value = "default")]
    namespace: String,
    /// The service account of the identity.
    #[arg(long)]
    service_account: String,
    /// Only for the workload of this name.
    #[arg(long)]
    workload: Option<String>,
    /// How long it can be used.
    #[arg(long, value_parser = crate::duration::parse, default_value = "1h")]
    ttl: Duration,
}

impl Token {
    pub(super) async fn run(self, context: &mut Context<'_>) -> Result<(), Failure> {
        let Verb::Create(asked) = self.verb;
        let request = TokenRequest {
            namespace: asked.namespace,
            service_account: asked.service_account,
            workload: asked.workload,
            ttl_seconds: Some(asked.ttl.as_secs()),
        };
        let bytes = serde_json::to_vec(&request).map_err(|e| Failure::failed(e.to_string(), ""))?.into();
        let body = Body { media_type: "application/json", bytes };
        let token: types::Token = context.client()?.send(Method::POST, "/api/v1/tokens", &[], Some(body)).await?;
        // Alone on standard output, so that it can be taken by a script.
        eprintln!("{} until {}", token.identity, token.expires);
        context.print(&token, |t| t.token.clone())
    }
}
