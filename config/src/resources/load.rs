//! Documents from text and from folders.

use super::{Document, Issue, check, read};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

const MAX_FILE: u64 = 64 << 20;
const MAX_FILES: usize = 10_000;
const MAX_DEPTH: usize = 8;

/// Reads all documents of a YAML (or JSON) text; `source` is what issues call it. All that is wrong is reported, and
/// nothing is given out when something is.
pub fn parse(source: &str, yaml: &str) -> Result<Vec<Document>, Vec<Issue>> {
    let (documents, mut issues) = read::text(source, yaml);
    issues.extend(check::duplicates(&documents.iter().collect::<Vec<_>>()));
    if issues.is_empty() { Ok(documents) } else { Err(sorted(issues)) }
}

/// Reads all documents of the `.yaml`, `.yml` and `.json` files in a folder and its subfolders, in the order of their
/// paths, or of one file. What is hidden (a leading dot, as in Kubernetes' mounted volumes) is passed over. References
/// between documents are for [`super::check_all`].
pub fn load_dir(path: &Path) -> Result<Vec<Document>, Vec<Issue>> {
    let (mut documents, mut issues, mut files) = (vec![], vec![], vec![]);
    find(path, 0, &mut files, &mut issues);
    files.sort();
    for file in &files {
        let source = file.display().to_string();
        match content(file) {
            Ok(text) => {
                let (more, wrong) = read::text(&source, &text);
                documents.extend(more);
                issues.extend(wrong);
            }
            Err(e) => issues.push(Issue::of_source(&source, format!("cannot be read: {e}"), None)),
        }
    }
    issues.extend(check::duplicates(&documents.iter().collect::<Vec<_>>()));
    if issues.is_empty() { Ok(documents) } else { Err(sorted(issues)) }
}

fn sorted(mut issues: Vec<Issue>) -> Vec<Issue> {
    issues.sort();
    issues.dedup();
    issues
}

fn content(file: &Path) -> io::Result<String> {
    if fs::metadata(file)?.len() > MAX_FILE {
        return Err(io::Error::other("it is larger than 64 MiB"));
    }
    fs::read_to_string(file)
}

fn find(path: &Path, depth: usize, files: &mut Vec<PathBuf>, issues: &mut Vec<Issue>) {
    let fail = |issues: &mut Vec<Issue>, e: &dyn std::fmt::Display| {
        issues.push(Issue::of_source(&path.display().to_string(), format!("cannot be read: {e}"), None));
    };
    if depth == 0 && path.is_file() {
        files.push(path.to_owned());
        return;
    }
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(e) => return fail(issues, &e),
    };
    for entry in entries {
        let path = match entry {
            Ok(entry) => entry.path(),
            Err(e) => return fail(issues, &e),
        };
        if path.file_name().is_none_or(|n| n.as_encoded_bytes().starts_with(b".")) {
            continue;
        }
        if path.is_dir() {
            // Symbolic links may go round in circles.
            if depth >= MAX_DEPTH {
                return fail(issues, &"it is nested deeper than 8 folders");
            }
            find(&path, depth + 1, files, issues);
        } else if path.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json") {
            if files.len() >= MAX_FILES {
                return fail(issues, &"there are more than 10,000 files");
            }
            files.push(path);
        }
    }
}
