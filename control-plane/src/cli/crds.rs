//! `weir crds`: our kinds as CustomResourceDefinitions, for `kubectl apply -f -`.

use super::{Context, failure::Failure};
use crate::crd;
use clap::Args;
use std::{fs, path::PathBuf};

/// See the module.
#[derive(Debug, Args)]
pub(super) struct Crds {
    /// Write a file for each kind into this folder instead of printing them.
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

impl Crds {
    pub(super) fn run(self, context: &mut Context<'_>) -> Result<(), Failure> {
        let failed = |what: &str, e: &std::io::Error| {
            Failure::failed(format!("{what}: {e}"), "name a folder that you may write with --folder")
        };
        let Some(folder) = self.folder else {
            let text: String = crd::all().iter().map(|(_, text)| format!("---\n{text}")).collect();
            return context.out.write_all(text.as_bytes()).map_err(|e| failed("cannot print", &e));
        };
        fs::create_dir_all(&folder).map_err(|e| failed(&folder.display().to_string(), &e))?;
        for (name, text) in crd::all() {
            let path = folder.join(name);
            fs::write(&path, text).map_err(|e| failed(&path.display().to_string(), &e))?;
        }
        Ok(())
    }
}
