//! Takes a tree apart field by field, and remembers everything that is wrong with it on the way.
//!
//! A reader gives `None` for a value that is wrong, after it has said so; reading goes on, so that all issues of a
//! document are found at once. A document with an issue is never given out.

use super::{
    Document, Issue, Key, Reference, envelope,
    node::{Entry, Node, Tree},
    yaml,
};
use serde_json::Value;
use std::{fmt::Display, sync::Arc};

/// More issues than that of one document, or one text, help nobody.
const MAX_ISSUES: usize = 100;
const MAX_ISSUES_OF_TEXT: usize = 1000;
/// The longest list or map of texts: reading may compare each item with each.
const MAX_ITEMS: usize = 1000;

/// Reads all documents of a text.
pub(super) fn text(file: &str, text: &str) -> (Vec<Document>, Vec<Issue>) {
    let file: Arc<str> = file.into();
    let (nodes, mut issues) = yaml::documents(&file, text);
    let mut documents = Vec::with_capacity(nodes.len());
    for node in nodes {
        if issues.len() > MAX_ISSUES_OF_TEXT {
            break;
        }
        match document(&file, &node) {
            Ok(d) => documents.push(d),
            Err(more) => issues.extend(more),
        }
    }
    (documents, issues)
}

/// Reads one document from JSON.
pub(super) fn json(file: &str, value: &Value) -> Result<Document, Vec<Issue>> {
    document(&file.into(), &Node::from_json(value))
}

fn document(file: &Arc<str>, node: &Node) -> Result<Document, Vec<Issue>> {
    let mut r = Reader {
        file: Arc::clone(file),
        label: String::new(),
        namespace: String::new(),
        path: String::new(),
        issues: vec![],
        references: vec![],
    };
    match (envelope::read(&mut r, node), r.issues.is_empty()) {
        (Some(document), true) => Ok(document),
        (_, false) => Err(r.issues),
        (None, true) => {
            r.issue(node, "the document could not be read", None);
            Err(r.issues)
        }
    }
}

/// Where reading stands in a document, and what was found wrong.
pub(super) struct Reader {
    pub(super) file: Arc<str>,
    /// `HTTPRoute demo/web`, as soon as that is known.
    pub(super) label: String,
    /// The document's own.
    pub(super) namespace: String,
    path: String,
    issues: Vec<Issue>,
    references: Vec<Reference>,
}

impl Reader {
    /// Notes that the value at the present field is wrong.
    pub(super) fn issue(&mut self, node: &Node, message: impl Into<String>, remedy: Option<String>) {
        self.issue_at((node.line, node.column), message, remedy);
    }

    fn issue_at(&mut self, at: (u32, u32), message: impl Into<String>, remedy: Option<String>) {
        if self.issues.len() >= MAX_ISSUES {
            return;
        }
        let space = if self.label.is_empty() || self.path.is_empty() { "" } else { " " };
        self.issues.push(Issue {
            file: Arc::clone(&self.file),
            line: at.0,
            column: at.1,
            field: format!("{}{space}{}", self.label, self.path),
            message: message.into(),
            remedy,
        });
    }

    /// Notes that the document needs another.
    pub(super) fn refer(&mut self, node: &Node, key: Key, port: Option<u16>) {
        let field = self.path.clone();
        self.references.push(Reference { key, port, field, line: node.line, column: node.column });
    }

    pub(super) fn take_references(&mut self) -> Vec<Reference> {
        std::mem::take(&mut self.references)
    }

    /// Reads something inside the field `step`.
    pub(super) fn within<T>(&mut self, step: impl Display, read: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.path.len();
        let step = step.to_string();
        if !(self.path.is_empty() || step.starts_with('[')) {
            self.path.push('.');
        }
        self.path.push_str(&step);
        let value = read(self);
        self.path.truncate(before);
        value
    }

    /// The fields of an object.
    pub(super) fn fields<'n>(&mut self, node: &'n Node) -> Option<Fields<'n>> {
        match &node.tree {
            Tree::Map(entries) => Some(Fields { node, entries, known: vec![], quiet: vec![] }),
            _ => self.wrong_type(node, "an object with fields"),
        }
    }

    /// All good items of a list.
    pub(super) fn list<T>(
        &mut self,
        node: &Node,
        mut read: impl FnMut(&mut Self, &Node, usize) -> Option<T>,
    ) -> Option<Vec<T>> {
        let Tree::List(items) = &node.tree else { return self.wrong_type(node, "a list") };
        self.few(node, items.len())?;
        let read = |(i, item)| self.within(format_args!("[{i}]"), |r| read(r, item, i));
        Some(items.iter().enumerate().filter_map(read).collect())
    }

    /// Refuses more items than anybody needs.
    pub(super) fn few(&mut self, node: &Node, items: usize) -> Option<()> {
        if items > MAX_ITEMS {
            self.issue(node, format!("{items} items are more than {MAX_ITEMS}"), Some("split the document".into()));
            return None;
        }
        Some(())
    }

    /// Text.
    pub(super) fn text<'n>(&mut self, node: &'n Node) -> Option<&'n str> {
        match &node.tree {
            Tree::Text(text) => Some(text),
            Tree::Whole(_) | Tree::Float(_) | Tree::Bool(_) => {
                let message = format!("this must be text, and is {}", node.describe());
                self.issue(node, message, Some("put it in quotes".into()));
                None
            }
            _ => self.wrong_type(node, "text"),
        }
    }

    /// A whole number in a range.
    pub(super) fn whole(&mut self, node: &Node, min: i64, max: i64) -> Option<i64> {
        match &node.tree {
            Tree::Whole(n) if (min..=max).contains(n) => Some(*n),
            Tree::Whole(n) => {
                self.issue(node, format!("{n} is out of range"), Some(format!("{min} to {max}")));
                None
            }
            Tree::Text(text) if text.parse::<i64>().is_ok() => {
                self.issue(node, "this must be a number, and is text", Some("remove the quotes".into()));
                None
            }
            _ => self.wrong_type(node, "a whole number"),
        }
    }

    /// A whole number in a range, as `u32`.
    pub(super) fn small(&mut self, node: &Node, min: u32, max: u32) -> Option<u32> {
        self.whole(node, min.into(), max.into()).and_then(|n| u32::try_from(n).ok())
    }

    /// `true` or `false`.
    pub(super) fn truth(&mut self, node: &Node) -> Option<bool> {
        match node.tree {
            Tree::Bool(b) => Some(b),
            _ => self.wrong_type(node, "`true` or `false`"),
        }
    }

    /// One of these words.
    pub(super) fn word<T: Copy>(&mut self, node: &Node, words: &[(&str, T)]) -> Option<T> {
        let text = self.text(node)?;
        if let Some((_, value)) = words.iter().find(|(w, _)| *w == text) {
            return Some(*value);
        }
        let names: Vec<_> = words.iter().map(|(w, _)| *w).collect();
        let remedy = match nearest(text, &names) {
            Some(name) => format!("did you mean `{name}`?"),
            None => format!("one of {}", names.join(", ")),
        };
        self.issue(node, format!("`{}` is not known here", shorten(text)), Some(remedy));
        None
    }

    pub(super) fn wrong_type<T>(&mut self, node: &Node, wanted: &str) -> Option<T> {
        self.issue(node, format!("this must be {wanted}, and is {}", node.describe()), None);
        None
    }
}

/// The fields of one object; [`Fields::close`] reports those that nobody asked for.
pub(super) struct Fields<'n> {
    pub(super) node: &'n Node,
    entries: &'n [Entry],
    known: Vec<&'static str>,
    /// Known too, and not worth suggesting.
    quiet: Vec<&'static str>,
}

impl<'n> Fields<'n> {
    /// The value of a field; `None` where it is absent (or `null`) or wrong.
    pub(super) fn optional<T>(
        &mut self,
        r: &mut Reader,
        name: &'static str,
        read: impl FnOnce(&mut Reader, &'n Node) -> Option<T>,
    ) -> Option<T> {
        let node = self.find(name)?;
        r.within(name, |r| read(r, node))
    }

    /// As [`Fields::optional`]; absence is an issue.
    pub(super) fn required<T>(
        &mut self,
        r: &mut Reader,
        name: &'static str,
        read: impl FnOnce(&mut Reader, &'n Node) -> Option<T>,
    ) -> Option<T> {
        if self.find(name).is_none() {
            let (node, remedy) = (self.node, Some(format!("add `{name}:`")));
            r.within(name, |r| r.issue(node, "this field is required", remedy));
            return None;
        }
        self.optional(r, name, read)
    }

    /// The node of a field that is there and not `null`.
    pub(super) fn find(&mut self, name: &'static str) -> Option<&'n Node> {
        if !self.known.contains(&name) {
            self.known.push(name);
        }
        self.look(name)
    }

    fn look(&self, name: &str) -> Option<&'n Node> {
        self.entries.iter().find(|e| e.key == name).map(|e| &e.value).filter(|n| !n.is_null())
    }

    /// Fields that Kubernetes writes and that change nothing here.
    pub(super) fn ignore(&mut self, names: &[&'static str]) {
        self.quiet.extend(names);
    }

    /// A field that has a meaning elsewhere, and none here.
    pub(super) fn unsupported(&mut self, r: &mut Reader, name: &'static str, remedy: &str) {
        self.quiet.push(name);
        if let Some(node) = self.look(name) {
            r.within(name, |r| r.issue(node, format!("`{name}` is not supported"), Some(remedy.into())));
        }
    }

    /// Reports the fields that nobody asked for.
    pub(super) fn close(self, r: &mut Reader) {
        let asked = |e: &&Entry| self.known.contains(&e.key.as_str()) || self.quiet.contains(&e.key.as_str());
        for entry in self.entries.iter().filter(|e| !asked(e)) {
            let remedy = match nearest(&entry.key, &self.known) {
                Some(name) => format!("did you mean `{name}`?"),
                None => format!("known here: {}", self.known.join(", ")),
            };
            let message = format!("unknown field `{}`", shorten(&entry.key));
            let shown = shorten(&entry.key);
            r.within(shown, |r| r.issue_at((entry.line, entry.column), message, Some(remedy)));
        }
    }
}

/// At most 60 characters of a text that may come from anywhere.
pub(super) fn shorten(text: &str) -> String {
    if text.chars().count() <= 60 { text.to_owned() } else { text.chars().take(57).chain("...".chars()).collect() }
}

/// The word that a misspelt one was probably meant to be.
pub(super) fn nearest<'w>(text: &str, words: &[&'w str]) -> Option<&'w str> {
    if text.len() > 60 {
        return None;
    }
    let text = text.to_ascii_lowercase();
    let near = words.iter().map(|w| (distance(&text, &w.to_ascii_lowercase()), *w)).min_by_key(|(d, _)| *d);
    near.filter(|(d, word)| *d <= (word.len().min(text.len()) / 3).clamp(1, 3)).map(|(_, word)| word)
}

/// How many letters were left out, added, changed or swapped with the next (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            if i == 0 || j == 0 {
                rows[i][j] = i.max(j);
                continue;
            }
            let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = change.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}
