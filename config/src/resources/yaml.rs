//! YAML text to trees, document by document: a broken one does not hide what is wrong in the next.
//!
//! YAML 1.2 core schema. Bounded against hostile text: the size, depth and number of nodes of a document (aliases
//! counted as often as they are used), the number of documents and of issues.

use super::{
    Issue,
    node::{Entry, Node, Tree},
};
use serde_saphyr::granit_parser::{Event, Options, Parser, ScalarStyle, Span, StrInput, Tag};
use std::{collections::HashMap, sync::Arc};

const MAX_TEXT: usize = 64 << 20;
const MAX_DOCUMENT: usize = 1 << 20;
const MAX_DOCUMENTS: usize = 10_000;
/// Of one map; each name is compared with those before it.
const MAX_FIELDS: usize = 5000;
const MAX_NODES: usize = 100_000;
const MAX_DEPTH: usize = 64;
const MAX_ISSUES: usize = 200;
const TOO_DEEP: &str = "it is nested deeper than 64 levels";

/// The documents of a text (empty ones left out), and what kept others from being read.
pub(super) fn documents(file: &Arc<str>, text: &str) -> (Vec<Node>, Vec<Issue>) {
    let mut load = Load::new(Arc::clone(file));
    if text.len() > MAX_TEXT {
        load.fail((0, 0), "the text is larger than 64 MiB".into(), Some("split it into several files"));
        return (load.documents, load.issues);
    }
    let mut options = Options::default();
    options.emit_comments = false;
    let mut parser = Parser::new_from_str_with_options(text, options);
    while load.issues.len() < MAX_ISSUES {
        let keep = match parser.next_event() {
            None => break,
            Some(Ok((event, span))) => load.take(event, span),
            Some(Err(e)) => {
                let at = (number(e.marker().line()), number(e.marker().col() + 1));
                load.broken(at, &e.info());
                false
            }
        };
        if !keep && !skip(&mut parser, &mut load) {
            break;
        }
    }
    (load.documents, load.issues)
}

fn skip<'t>(parser: &mut Parser<'t, StrInput<'t>>, load: &mut Load) -> bool {
    load.reset();
    load.documents.len() < MAX_DOCUMENTS && matches!(parser.proceed_next_document(), Ok(true))
}

fn number(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// A collection whose end has not come yet.
struct Open {
    at: (u32, u32),
    anchor: usize,
    /// The deepest nesting of what it holds.
    depth: usize,
    /// Nodes it holds.
    size: usize,
    kind: Kind,
}

enum Kind {
    List(Vec<Node>),
    Map(Vec<Entry>, Option<(String, u32, u32)>),
}

/// What an anchor stands for, with its cost.
struct Anchored {
    node: Node,
    size: usize,
    depth: usize,
}

struct Load {
    file: Arc<str>,
    documents: Vec<Node>,
    issues: Vec<Issue>,
    started: usize,
    nodes: usize,
    open: Vec<Open>,
    root: Option<Node>,
    anchors: HashMap<usize, Anchored>,
}

impl Load {
    fn new(file: Arc<str>) -> Self {
        Self {
            file,
            documents: vec![],
            issues: vec![],
            started: 0,
            nodes: 0,
            open: vec![],
            root: None,
            anchors: HashMap::new(),
        }
    }

    fn reset(&mut self) {
        self.nodes = 0;
        self.open.clear();
        self.root = None;
        self.anchors.clear();
    }

    fn fail(&mut self, at: (u32, u32), message: String, remedy: Option<&str>) {
        self.issues.push(Issue {
            file: Arc::clone(&self.file),
            line: at.0,
            column: at.1,
            field: self.path(),
            message,
            remedy: remedy.map(Into::into),
        });
    }

    /// What the YAML parser refuses.
    fn broken(&mut self, at: (u32, u32), info: &str) {
        if info.contains("recursion") {
            return self.fail(at, TOO_DEEP.into(), None);
        }
        let remedy = info.contains("tab").then_some("indent with spaces, not tabs");
        self.fail(at, format!("this is not YAML: {info}"), remedy);
    }

    fn path(&self) -> String {
        let mut path = String::new();
        for open in &self.open {
            match &open.kind {
                Kind::List(items) => path.push_str(&format!("[{}]", items.len())),
                Kind::Map(_, Some((key, ..))) => {
                    let dot = if path.is_empty() { "" } else { "." };
                    path.push_str(&format!("{dot}{key}"));
                }
                Kind::Map(_, None) => {}
            }
        }
        path
    }

    /// Takes one event; `false`: the rest of this document is to be skipped.
    fn take(&mut self, event: Event<'_>, span: Span) -> bool {
        let at = (number(span.start.line()), number(span.start.col() + 1));
        let offset = span.start.byte_offset().unwrap_or_else(|| span.start.index());
        match event {
            Event::DocumentStart(..) => {
                self.reset();
                self.started = offset;
                true
            }
            Event::DocumentEnd => {
                let root = self.root.take();
                self.reset();
                self.documents.extend(root.filter(|n| !n.is_null()));
                if self.documents.len() > MAX_DOCUMENTS {
                    self.documents.pop();
                    self.fail(at, "there are more than 10,000 documents".into(), Some("split the file"));
                    return false;
                }
                true
            }
            Event::Scalar(..) | Event::SequenceStart(..) | Event::MappingStart(..) | Event::Alias(_)
                if offset.saturating_sub(self.started) > MAX_DOCUMENT =>
            {
                self.fail(at, "the document is larger than 1 MiB".into(), Some("split it"));
                false
            }
            Event::Scalar(text, style, anchor, tag) => match scalar(&text, style, tag.as_deref()) {
                // Long text weighs more: an alias copies it.
                Ok(tree) => self.add(Node { line: at.0, column: at.1, tree }, anchor, 1 + text.len() / 32, 0),
                Err(message) => {
                    self.fail(at, message, Some("remove the tag"));
                    false
                }
            },
            Event::SequenceStart(_, anchor, tag) => self.begin(at, anchor, Kind::List(vec![]), tag.is_some()),
            Event::MappingStart(_, anchor, tag) => self.begin(at, anchor, Kind::Map(vec![], None), tag.is_some()),
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(id) => match self.anchors.get(&id) {
                Some(a) => {
                    let (mut node, size, depth) = (a.node.clone(), a.size, a.depth);
                    (node.line, node.column) = at;
                    self.add(node, 0, size, depth)
                }
                None => {
                    self.fail(at, "an alias stands inside what it stands for".into(), Some("write it out"));
                    false
                }
            },
            _ => true,
        }
    }

    fn begin(&mut self, at: (u32, u32), anchor: usize, kind: Kind, tagged: bool) -> bool {
        if tagged {
            self.fail(at, "YAML tags have no meaning here".into(), Some("remove the tag"));
            return false;
        }
        if let Some(Open { kind: Kind::Map(_, None), .. }) = self.open.last() {
            self.fail(at, "a field's name must be text".into(), None);
            return false;
        }
        if self.open.len() >= MAX_DEPTH {
            self.fail(at, TOO_DEEP.into(), None);
            return false;
        }
        self.open.push(Open { at, anchor, depth: 0, size: 1, kind });
        true
    }

    fn end(&mut self) -> bool {
        let Some(open) = self.open.pop() else { return false };
        let tree = match open.kind {
            Kind::List(items) => Tree::List(items),
            Kind::Map(entries, _) => Tree::Map(entries),
        };
        let node = Node { line: open.at.0, column: open.at.1, tree };
        self.nodes = self.nodes.saturating_sub(open.size - 1);
        self.add(node, open.anchor, open.size, open.depth + 1)
    }

    /// Puts a finished node where it belongs.
    fn add(&mut self, node: Node, anchor: usize, size: usize, depth: usize) -> bool {
        let at = (node.line, node.column);
        self.nodes += size;
        if self.nodes > MAX_NODES {
            let text = "the document has more than 100,000 values, aliases counted as often as they are used";
            self.fail(at, text.into(), Some("split it, or use fewer aliases"));
            return false;
        }
        if self.open.len() + depth > MAX_DEPTH {
            self.fail(at, TOO_DEEP.into(), None);
            return false;
        }
        if anchor != 0 {
            // What is kept for aliases is a copy too.
            self.nodes += size;
            self.anchors.insert(anchor, Anchored { node: node.clone(), size, depth });
        }
        let Some(parent) = self.open.last_mut() else {
            self.root = Some(node);
            return true;
        };
        parent.size += size;
        parent.depth = parent.depth.max(depth);
        match &mut parent.kind {
            Kind::List(items) => items.push(node),
            Kind::Map(_, None) => return self.name(node, at),
            Kind::Map(entries, key) => {
                let Some((key, line, column)) = key.take() else { return true };
                if let Some(first) = entries.iter().find(|e| e.key == key) {
                    let message = format!("the field `{key}` stands here twice; first in line {}", first.line);
                    self.fail((line, column), message, Some("remove one of the two"));
                    return true;
                }
                if entries.len() >= MAX_FIELDS {
                    self.fail(
                        (line, column),
                        "there are more than 5,000 fields here".into(),
                        Some("split the document"),
                    );
                    return false;
                }
                entries.push(Entry { key, line, column, value: node });
            }
        }
        true
    }

    /// A scalar where a map's next name is expected.
    fn name(&mut self, node: Node, at: (u32, u32)) -> bool {
        let key = match node.tree {
            Tree::Text(text) => text,
            Tree::Whole(n) => n.to_string(),
            Tree::Bool(b) => b.to_string(),
            Tree::Null | Tree::Float(_) | Tree::List(_) | Tree::Map(_) => {
                self.fail(at, "a field's name must be text".into(), Some("put it in quotes"));
                return false;
            }
        };
        if key == "<<" {
            self.fail(at, "YAML merge keys are not supported".into(), Some("write the fields out"));
            return false;
        }
        if let Some(Open { kind: Kind::Map(_, slot), .. }) = self.open.last_mut() {
            *slot = Some((key, at.0, at.1));
        }
        true
    }
}

/// What a scalar is in YAML 1.2's core schema.
fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Tree, String> {
    if let Some(tag) = tag {
        // `!` and `!!str` say that it is text; that cannot be misunderstood.
        return match tag.core_suffix() {
            Some("str") => Ok(Tree::Text(text.to_owned())),
            _ => Err(format!("the YAML tag `{}` has no meaning here", tag.original())),
        };
    }
    Ok(if style == ScalarStyle::Plain { plain(text) } else { Tree::Text(text.to_owned()) })
}

fn plain(text: &str) -> Tree {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Tree::Null,
        "true" | "True" | "TRUE" => return Tree::Bool(true),
        "false" | "False" | "FALSE" => return Tree::Bool(false),
        _ => {}
    }
    let whole = match (text.strip_prefix("0x"), text.strip_prefix("0o")) {
        (Some(hex), _) if !hex.starts_with(['+', '-']) => i64::from_str_radix(hex, 16).ok(),
        (_, Some(octal)) if !octal.starts_with(['+', '-']) => i64::from_str_radix(octal, 8).ok(),
        _ => text.parse().ok(),
    };
    if let Some(n) = whole {
        return Tree::Whole(n);
    }
    let digits = text.trim_start_matches(['+', '-']);
    if digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && digits.bytes().any(|b| b.is_ascii_digit())
        && digits.bytes().all(|b| b.is_ascii_digit() || b".eE+-".contains(&b))
        && let Ok(f) = text.parse::<f64>()
        && f.is_finite()
    {
        return Tree::Float(f);
    }
    Tree::Text(text.to_owned())
}
