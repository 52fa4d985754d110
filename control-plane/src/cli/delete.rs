//! `weir delete <kind> <name>`, or every document of `-f`.

use super::{Context, apply, failure::Failure, get, input, validate};
use crate::api::types::Applied;
use clap::Args;
use http::Method;
use std::path::PathBuf;

/// See the module.
#[derive(Debug, Args)]
pub(super) struct Delete {
    /// The kind (`service`, `svc`, `httproute`, …).
    #[arg(required_unless_present = "file", requires = "name")]
    kind: Option<String>,
    /// The document's name.
    name: Option<String>,
    /// Its namespace.
    #[arg(short, long, env = "WEIR_NAMESPACE")]
    namespace: Option<String>,
    /// All documents of a file, a folder, or - for standard input.
    #[arg(short, long = "file", value_name = "FILE", conflicts_with_all = ["kind", "name"])]
    file: Vec<PathBuf>,
    /// Only say what would happen.
    #[arg(long)]
    dry_run: bool,
    /// What is already gone is no failure.
    #[arg(long)]
    ignore_not_found: bool,
}

impl Delete {
    pub(super) async fn run(self, context: &mut Context<'_>) -> Result<(), Failure> {
        let client = context.client()?;
        let mut done = Applied { version: 0, dry_run: self.dry_run, documents: Vec::new() };
        for path in self.paths()? {
            let path = if self.dry_run { format!("{path}?dryRun=true") } else { path };
            match client.send::<Applied>(Method::DELETE, &path, &[], None).await {
                Ok(applied) => {
                    done.version = done.version.max(applied.version);
                    done.documents.extend(applied.documents);
                }
                Err(failure) if failure.is_not_found() && self.ignore_not_found => {}
                Err(failure) => return Err(failure),
            }
        }
        apply::print(context, done)
    }

    fn paths(&self) -> Result<Vec<String>, Failure> {
        if let (Some(kind), Some(name)) = (&self.kind, &self.name) {
            return Ok(vec![get::path(get::kind(kind)?, self.namespace.as_deref(), name)]);
        }
        let mut keys: Vec<_> =
            validate::parse(&input::read(&self.file)?)?.iter().map(weir_config::resources::Document::key).collect();
        // What refers to others goes first.
        keys.sort_by(|a, b| b.cmp(a));
        Ok(keys.iter().map(|k| get::path(k.kind, Some(&k.namespace), &k.name)).collect())
    }
}
