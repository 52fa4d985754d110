//! What lies where in etcd, and how it is written.
//!
//! ```text
//! <prefix>/doc/<kind>/<namespace>/<name>   a document, as in the file of the embedded store
//! <prefix>/head                            the version, and what is under way; every transaction moves it
//! <prefix>/leader                          who leads, under a lease
//! <prefix>/meta/<name>                     the key-value space
//! <prefix>/part/<transaction>/<number>     a part of a batch that is too large for one transaction of etcd
//! ```
//! `doc` and `head` are one range without the others, so one watch follows all documents and nothing else.

use super::wire::{KeyValue, Op};
use crate::store::{record, snapshot::Write};
use prost::Message;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use weir_config::resources::{Key, Kind};

/// The layout above.
pub(super) const FORMAT: u64 = 1;
/// Operations of one transaction; etcd's default limit is 128, and head and parts need some.
pub(super) const MAX_OPS: usize = 100;
/// Bytes of one transaction; etcd's default limit is 1.5 MiB, and a document may have 1 MiB.
pub(super) const MAX_BYTES: usize = 1_250_000;
/// Transactions whose identity is remembered in the head, for those who did not hear what became of theirs.
const RECENT: usize = 32;

/// The keys of one mesh.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    prefix: String,
}

/// The value of `head`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) format: u64,
    pub(super) version: u64,
    /// The last transactions, the newest last: identity and version.
    pub(super) recent: Vec<(String, u64)>,
    /// The last transaction counts already, but its documents are still among the parts; how many those are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) pending: Option<usize>,
}

impl Head {
    /// Of a store in which nothing has been written.
    pub(super) fn new() -> Self {
        Self { format: FORMAT, version: 0, recent: Vec::new(), pending: None }
    }

    /// After one more transaction.
    pub(super) fn after(&self, transaction: &str, version: u64, pending: Option<usize>) -> Self {
        let mut recent = self.recent.clone();
        recent.push((transaction.to_owned(), version));
        if recent.len() > RECENT {
            recent.remove(0);
        }
        Self { format: FORMAT, version, recent, pending }
    }

    /// The last transaction has all its documents in place.
    pub(super) fn settled(&self) -> Self {
        Self { pending: None, ..self.clone() }
    }

    /// The last transaction.
    pub(super) fn transaction(&self) -> &str {
        self.recent.last().map_or("", |(transaction, _)| transaction)
    }

    /// Whether a transaction is among the last ones.
    pub(super) fn has(&self, transaction: &str) -> bool {
        self.recent.iter().any(|(t, _)| t == transaction)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        // Numbers and text: this cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(bytes).map_err(|e| format!("`head` cannot be read: {e}"))
    }
}

/// A part of a large batch.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Part {
    #[prost(message, repeated, tag = "1")]
    pub(super) lines: Vec<Line>,
}

/// One document of a batch, or (without a value) its end.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Line {
    /// `<kind>/<namespace>/<name>`
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(bytes = "vec", optional, tag = "2")]
    pub(super) value: Option<Vec<u8>>,
}

impl Line {
    pub(super) fn new(write: &Write) -> Result<Self, String> {
        let name = record::name(&write.key);
        let value = write.stored.as_ref().map(|stored| record::encode(stored)).transpose();
        Ok(Self { value: value.map_err(|e| format!("{name}: {e}"))?, name })
    }

    pub(super) fn size(&self) -> usize {
        self.name.len() + self.value.as_ref().map_or(0, Vec::len) + 64
    }

    /// As readers see it.
    pub(super) fn write(&self) -> Result<Write, String> {
        match &self.value {
            None => Ok(Write { key: Arc::new(key(&self.name)?), stored: None }),
            Some(bytes) => {
                let stored = record::decode(bytes).map_err(|why| format!("{}: {why}", self.name))?;
                Ok(Write { key: Arc::new(stored.document.key()), stored: Some(Arc::new(stored)) })
            }
        }
    }
}

/// `<kind>/<namespace>/<name>` taken apart.
fn key(name: &str) -> Result<Key, String> {
    let wrong = || format!("`{name}` is the key of no document");
    let mut parts = name.splitn(3, '/');
    let (Some(kind), Some(namespace), Some(last)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(wrong());
    };
    let kind = Kind::ALL.into_iter().find(|k| k.to_string() == kind).ok_or_else(wrong)?;
    Ok(Key::new(kind, namespace, last))
}

/// Lines in groups that each fit into one transaction.
pub(super) fn groups(lines: Vec<Line>) -> Vec<Vec<Line>> {
    let mut groups: Vec<Vec<Line>> = Vec::new();
    let mut room = 0;
    for line in lines {
        let size = line.size();
        match groups.last_mut() {
            Some(group) if group.len() < MAX_OPS && size <= room => {
                room -= size;
                group.push(line);
            }
            _ => {
                room = MAX_BYTES.saturating_sub(size);
                groups.push(vec![line]);
            }
        }
    }
    groups
}

impl Layout {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.trim_end_matches('/').to_owned() }
    }

    pub(super) fn head(&self) -> Vec<u8> {
        format!("{}/head", self.prefix).into_bytes()
    }

    pub(super) fn leader(&self) -> Vec<u8> {
        format!("{}/leader", self.prefix).into_bytes()
    }

    pub(super) fn documents(&self) -> Vec<u8> {
        format!("{}/doc/", self.prefix).into_bytes()
    }

    /// The end of the range of `doc` and `head`.
    pub(super) fn after_head(&self) -> Vec<u8> {
        format!("{}/head\0", self.prefix).into_bytes()
    }

    pub(super) fn meta(&self, name: &str) -> Vec<u8> {
        format!("{}/meta/{name}", self.prefix).into_bytes()
    }

    pub(super) fn parts(&self) -> Vec<u8> {
        format!("{}/part/", self.prefix).into_bytes()
    }

    pub(super) fn part(&self, transaction: &str, number: usize) -> Vec<u8> {
        format!("{}/part/{transaction}/{number:08}", self.prefix).into_bytes()
    }

    /// What a line does.
    pub(super) fn op(&self, line: &Line) -> Op {
        let key = [&self.documents()[..], line.name.as_bytes()].concat();
        match &line.value {
            Some(value) => Op::put(key, value.clone()),
            None => Op::delete(key),
        }
    }

    /// The line that a key of a document stands for.
    pub(super) fn line(&self, kv: KeyValue, gone: bool) -> Option<Line> {
        let name = kv.key.strip_prefix(&self.documents()[..])?;
        let name = String::from_utf8_lossy(name).into_owned();
        Some(Line { name, value: (!gone).then_some(kv.value) })
    }

    /// The name of an entry of the key-value space.
    pub(super) fn meta_name(&self, key: &[u8]) -> Option<String> {
        let name = key.strip_prefix(&self.meta("")[..])?;
        String::from_utf8(name.to_vec()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watched_range_has_documents_and_head_and_nothing_else() {
        let layout = Layout::new("/weir/");
        let (from, to) = (layout.documents(), layout.after_head());
        let inside = |key: &[u8]| from.as_slice() <= key && key < to.as_slice();
        assert!(inside(&layout.head()) && inside(b"/weir/doc/Service/demo/web"));
        for other in [layout.meta("ca/root"), layout.part("t", 1), layout.leader()] {
            assert!(!inside(&other), "{}", String::from_utf8_lossy(&other));
        }
    }

    #[test]
    fn groups_keep_to_the_limits_and_to_the_order() {
        let line = |n: usize, size: usize| Line { name: format!("{n}"), value: Some(vec![0; size]) };
        let lines: Vec<_> = (0..250).map(|n| line(n, if n % 50 == 0 { 1_000_000 } else { 10 })).collect();
        let groups = groups(lines.clone());
        assert_eq!(groups.concat(), lines);
        for group in &groups {
            assert!(group.len() <= MAX_OPS);
            assert!(group.iter().map(Line::size).sum::<usize>() <= MAX_BYTES);
        }
        assert_eq!(groups.len(), 5);
    }

    #[test]
    fn the_head_remembers_the_last_transactions() {
        let mut head = Head::new();
        for n in 1..=40 {
            head = head.after(&format!("t{n}"), n, None);
        }
        assert!(head.has("t40") && head.has("t9") && !head.has("t8"));
        assert_eq!(Head::decode(&head.encode()).unwrap(), head);
    }
}
