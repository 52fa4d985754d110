//! The rules of the house, each a function from source to what breaks it.

use super::source::File;
use std::collections::{BTreeMap, BTreeSet};

/// What breaks a rule, for people.
pub type Broken = Vec<String>;

/// Imports between the modules of a crate point down: `floors` from the roof to the ground. Modules of one floor do not
/// know each other. The roots (`lib.rs`, `main.rs`, `bin/`) stand above all.
pub fn point_down(files: &[File], floors: &[&[&str]]) -> Broken {
    let floor_of = |module: &str| floors.iter().position(|floor| floor.contains(&module));
    let mut broken = BTreeSet::new();
    for (from, to, file) in imports(files) {
        match (floor_of(&from), floor_of(&to)) {
            (None, _) => {
                broken.insert(format!("`{from}` has no floor: give it one in tests/tests/floors/main.rs"));
            }
            (Some(above), Some(below)) if above >= below => {
                broken.insert(format!("{file}: `{from}` imports `{to}`, which is not below it"));
            }
            _ => {}
        }
    }
    broken.into_iter().collect()
}

/// No module reaches itself through others.
pub fn no_circles(files: &[File]) -> Broken {
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (from, to, _) in imports(files) {
        graph.entry(from).or_default().insert(to);
    }
    let reachable = |from: &String| {
        let mut seen = BTreeSet::new();
        let mut next: Vec<&String> = graph.get(from).into_iter().flatten().collect();
        while let Some(module) = next.pop() {
            if seen.insert(module) {
                next.extend(graph.get(module).into_iter().flatten());
            }
        }
        seen
    };
    let circular = graph.keys().filter(|module| reachable(module).contains(module));
    circular.map(|module| format!("`{module}` imports itself through others")).collect()
}

/// The files inside `room` do not import each other.
pub fn strangers(files: &[File], room: &str) -> Broken {
    let siblings: BTreeSet<String> = files
        .iter()
        .map(File::module)
        .filter(|m| m.len() > 1 && m[0] == room)
        .filter_map(|m| m.into_iter().nth(1))
        .collect();
    let mut broken = BTreeSet::new();
    for file in files {
        let [first, own, ..] = &file.module()[..] else { continue };
        for path in file.paths() {
            if let [to, sibling, ..] = &path[..]
                && first == room
                && to == room
                && sibling != own
                && siblings.contains(sibling)
            {
                broken.insert(format!("{}: `{room}::{own}` imports `{room}::{sibling}`", file.path.display()));
            }
        }
    }
    broken.into_iter().collect()
}

/// Every file says at its top what it is for.
pub fn heads(files: &[File]) -> Broken {
    let headless = files.iter().filter(|f| !f.text.starts_with("//!"));
    headless.map(|f| format!("{} does not open with `//!`", f.path.display())).collect()
}

/// No function has more lines than this.
pub fn short_functions(files: &[File], most: usize) -> Broken {
    let all = files.iter().flat_map(|f| f.functions().into_iter().map(move |function| (f, function)));
    let long = all.filter(|(_, (_, _, lines))| *lines > most);
    long.map(|(f, (name, line, lines))| format!("{}:{line}: `{name}` has {lines} lines", f.path.display())).collect()
}

/// The files that say a word, save those that `may`.
pub fn says(files: &[File], word: &str, may: impl Fn(&File) -> bool) -> Broken {
    let saying = files.iter().filter(|f| f.says(word) && !may(f));
    saying.map(|f| format!("{} says `{word}`", f.path.display())).collect()
}

/// A crate does not depend on another one.
pub fn does_not_depend(manifest: &str, on: &str) -> Broken {
    let line = manifest.lines().find(|l| l.split(['.', ' ', '=']).next() == Some(on));
    line.map(|l| format!("`{l}` in a manifest that must not have it")).into_iter().collect()
}

/// `(module, imported module, file)`, first segments only, roots left out.
fn imports(files: &[File]) -> Vec<(String, String, String)> {
    let top: BTreeSet<String> = files.iter().filter_map(|f| f.module().into_iter().next()).collect();
    let mut found = Vec::new();
    for file in files.iter().filter(|f| f.path.starts_with("src") && !f.path.starts_with("src/bin")) {
        let Some(from) = file.module().into_iter().next() else { continue };
        for to in file.paths().into_iter().filter_map(|p| p.into_iter().next()) {
            if to != from && top.contains(&to) {
                found.push((from.clone(), to, file.path.display().to_string()));
            }
        }
        // A module that imports nothing has a floor all the same.
        found.push((from.clone(), String::new(), String::new()));
    }
    found
}
