//! A document as a tree whose every node knows where it stands, before anyone knows what it means.

use serde_json::{Map, Number, Value};

/// A value and where it begins (line and column from 1; 0 where it did not come from text).
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) line: u32,
    pub(super) column: u32,
    pub(super) tree: Tree,
}

/// What a node is.
#[derive(Debug, Clone)]
pub(super) enum Tree {
    Null,
    Bool(bool),
    Whole(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A field of a map; names in one map differ.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) line: u32,
    pub(super) column: u32,
    pub(super) value: Node,
}

impl Node {
    /// From JSON, which has no lines. Depth is bounded by serde_json (128).
    pub(super) fn from_json(value: &Value) -> Self {
        let tree = match value {
            Value::Null => Tree::Null,
            Value::Bool(b) => Tree::Bool(*b),
            Value::Number(n) => match n.as_i64() {
                Some(whole) => Tree::Whole(whole),
                None => Tree::Float(n.as_f64().unwrap_or(f64::MAX)),
            },
            Value::String(s) => Tree::Text(s.clone()),
            Value::Array(items) => Tree::List(items.iter().map(Self::from_json).collect()),
            Value::Object(fields) => Tree::Map(
                fields
                    .iter()
                    .map(|(k, v)| Entry { key: k.clone(), line: 0, column: 0, value: Self::from_json(v) })
                    .collect(),
            ),
        };
        Self { line: 0, column: 0, tree }
    }

    /// As JSON, as it was written.
    pub(super) fn to_json(&self) -> Value {
        match &self.tree {
            Tree::Null => Value::Null,
            Tree::Bool(b) => Value::Bool(*b),
            Tree::Whole(n) => Value::Number((*n).into()),
            Tree::Float(f) => Number::from_f64(*f).map_or(Value::Null, Value::Number),
            Tree::Text(s) => Value::String(s.clone()),
            Tree::List(items) => Value::Array(items.iter().map(Self::to_json).collect()),
            Tree::Map(fields) => {
                Value::Object(fields.iter().map(|e| (e.key.clone(), e.value.to_json())).collect::<Map<_, _>>())
            }
        }
    }

    /// What it is, in words.
    pub(super) fn describe(&self) -> &'static str {
        match self.tree {
            Tree::Null => "nothing",
            Tree::Bool(_) => "true or false",
            Tree::Whole(_) | Tree::Float(_) => "a number",
            Tree::Text(_) => "text",
            Tree::List(_) => "a list",
            Tree::Map(_) => "an object",
        }
    }

    /// The field of this name.
    pub(super) fn field(&self, name: &str) -> Option<&Self> {
        match &self.tree {
            Tree::Map(entries) => entries.iter().find(|e| e.key == name).map(|e| &e.value),
            _ => None,
        }
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(self.tree, Tree::Null)
    }
}
