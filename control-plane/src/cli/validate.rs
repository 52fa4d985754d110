//! `weir validate -f`: documents checked without a control plane, each alone and all together.

use super::{
    Context,
    failure::Failure,
    input::{self, Source},
};
use crate::api::types::ProblemIssue;
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;
use weir_config::resources::{self, Document, Issue};

/// See the module.
#[derive(Debug, Args)]
pub(super) struct Validate {
    /// A file, a folder of .yaml files, or - for standard input. Can be given several times.
    #[arg(short, long = "file", required = true, value_name = "FILE")]
    file: Vec<PathBuf>,
}

#[derive(Serialize)]
struct Valid {
    valid: bool,
    documents: usize,
    files: usize,
}

impl Validate {
    pub(super) fn run(self, context: &mut Context<'_>) -> Result<(), Failure> {
        let sources = input::read(&self.file)?;
        let documents = parse(&sources)?;
        let issues = resources::check_all(&documents);
        if !issues.is_empty() {
            return Err(invalid(&issues));
        }
        let valid = Valid { valid: true, documents: documents.len(), files: sources.len() };
        context.print(&valid, |v| {
            let (s, be) = if v.documents == 1 { ("", "is") } else { ("s", "are") };
            let files = if v.files == 1 { "1 file".into() } else { format!("{} files", v.files) };
            format!("{} document{s} in {files} {be} valid", v.documents)
        })
    }
}

/// All documents of some texts, or everything that is wrong with them.
pub(super) fn parse(sources: &[Source]) -> Result<Vec<Document>, Failure> {
    let mut documents = Vec::new();
    let mut issues = Vec::new();
    for source in sources {
        match resources::parse(&source.name, &source.text) {
            Ok(more) => documents.extend(more),
            Err(more) => issues.extend(more),
        }
    }
    if issues.is_empty() { Ok(documents) } else { Err(invalid(&issues)) }
}

fn invalid(issues: &[Issue]) -> Failure {
    let things = if issues.len() == 1 { "1 thing is".into() } else { format!("{} things are", issues.len()) };
    Failure::invalid(format!("{things} wrong in the documents"), issues.iter().map(ProblemIssue::from).collect())
}
