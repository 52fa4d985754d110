//! What `-f` names: a file, a folder of YAML files, or standard input; and the way back from a line of the whole to the
//! file it came from.

use super::failure::Failure;
use crate::api::types::ProblemIssue;
use std::{
    io::Read,
    path::{Path, PathBuf},
};

/// More than this is not read.
const LONGEST_INPUT: u64 = 64 << 20;

/// A text and where it came from.
#[derive(Debug, Clone)]
pub struct Source {
    /// The file's path, or `<stdin>`.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// Reads all that is named, in order; folders by name, with their folders.
///
/// # Errors
/// Something named is not there, cannot be read, or is no text.
pub fn read(named: &[PathBuf]) -> Result<Vec<Source>, Failure> {
    let mut sources = Vec::new();
    for path in named {
        if path.as_os_str() == "-" {
            sources.push(Source { name: "<stdin>".into(), text: text_of("standard input", std::io::stdin().lock())? });
        } else if path.is_dir() {
            let before = sources.len();
            folder(path, &mut sources)?;
            if sources.len() == before {
                return Err(Failure::failed(
                    format!("the folder {} has no .yaml, .yml or .json file", path.display()),
                    "name another folder with -f",
                ));
            }
        } else {
            sources.push(file(path)?);
        }
    }
    Ok(sources)
}

fn folder(path: &Path, sources: &mut Vec<Source>) -> Result<(), Failure> {
    let cannot = |e| Failure::failed(format!("cannot read the folder {}: {e}", path.display()), "");
    let mut entries = std::fs::read_dir(path).and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(cannot)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        if path.is_dir() {
            folder(&path, sources)?;
        } else if path.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json") {
            sources.push(file(&path)?);
        }
    }
    Ok(())
}

fn file(path: &Path) -> Result<Source, Failure> {
    let name = path.display().to_string();
    let opened = std::fs::File::open(path)
        .map_err(|e| Failure::failed(format!("cannot read {name}: {e}"), "name a file, a folder, or - with -f"))?;
    Ok(Source { text: text_of(&name, opened)?, name })
}

fn text_of(name: &str, reader: impl Read) -> Result<String, Failure> {
    let mut text = String::new();
    reader
        .take(LONGEST_INPUT + 1)
        .read_to_string(&mut text)
        .map_err(|e| Failure::failed(format!("cannot read {name}: {e}"), ""))?;
    if text.len() as u64 > LONGEST_INPUT {
        return Err(Failure::failed(format!("{name} is larger than {LONGEST_INPUT} bytes"), "split it"));
    }
    Ok(text)
}

/// Several texts as one multi-document body.
#[derive(Debug, Default)]
pub struct Joined {
    /// The body.
    pub text: String,
    /// The first line (from 1) of each source in the body.
    starts: Vec<(u64, String)>,
}

impl Joined {
    /// Puts them one after the other.
    pub fn new(sources: &[Source]) -> Self {
        let mut joined = Self::default();
        for source in sources {
            if !joined.text.is_empty() {
                joined.text.push_str("---\n");
            }
            joined.starts.push((joined.text.lines().count() as u64 + 1, source.name.clone()));
            joined.text.push_str(&source.text);
            if !source.text.ends_with('\n') {
                joined.text.push('\n');
            }
        }
        joined
    }

    /// Makes an issue of the body one of the file that its line came from.
    pub fn relocate(&self, issue: &mut ProblemIssue) {
        if issue.file != "body" {
            return;
        }
        if let Some((start, name)) = self.starts.iter().rev().find(|(start, _)| *start <= issue.line) {
            issue.file.clone_from(name);
            issue.line -= start - 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_find_their_file() {
        let source = |name: &str, text: &str| Source { name: name.into(), text: text.into() };
        let joined = Joined::new(&[source("a", "1\n2\n3"), source("b", "1\n2\n"), source("c", "---\n2")]);
        assert_eq!(joined.text, "1\n2\n3\n---\n1\n2\n---\n---\n2\n");
        let at = |line| {
            let mut issue = ProblemIssue { file: "body".into(), line, ..ProblemIssue::default() };
            joined.relocate(&mut issue);
            (issue.file, issue.line)
        };
        assert_eq!(at(3), ("a".into(), 3));
        assert_eq!(at(5), ("b".into(), 1));
        assert_eq!(at(6), ("b".into(), 2));
        assert_eq!(at(9), ("c".into(), 2));
    }

    #[test]
    fn a_folder_is_read_in_order_with_its_folders() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("b")).unwrap();
        for name in ["c.yaml", "a.yml", "b/x.json", "note.txt", ".hidden.yaml"] {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        let texts: Vec<_> = read(&[folder.path().into()]).unwrap().into_iter().map(|s| s.text).collect();
        assert_eq!(texts, ["a.yml", "b/x.json", "c.yaml"]);
    }

    #[test]
    fn what_is_not_there_is_a_failure_with_a_remedy() {
        let failure = read(&["/not/there".into()]).unwrap_err();
        assert!(failure.to_string().contains("/not/there") && failure.to_string().contains("-f"), "{failure}");
    }
}
