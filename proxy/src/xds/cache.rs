//! The last good configuration on disk, so that a sidecar starts and serves while the control plane is away.
//!
//! One file, mode 0600, replaced whole: the resources as they came, behind a hash. What does not have its hash is not
//! used; what this version cannot decode any more is left out.

use super::machine::Raw;
use crate::disk;
use prost::Message;
use std::{io, path::PathBuf};
use weir_config::model::Kind;

const MAGIC: &[u8] = b"weir-config 1\n";
/// Above this nothing is kept: reading it would delay the start, and 4,096 services fit well.
const LIMIT: usize = 32 * 1024 * 1024;

/// The file.
#[derive(Debug, Clone)]
pub struct Cache {
    path: PathBuf,
    /// The node it is for: another's configuration must not be used.
    node: String,
}

#[derive(Clone, PartialEq, Message)]
struct Saved {
    #[prost(string, tag = "1")]
    node: String,
    #[prost(message, repeated, tag = "2")]
    resources: Vec<SavedResource>,
}

#[derive(Clone, PartialEq, Message)]
struct SavedResource {
    #[prost(string, tag = "1")]
    kind: String,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, tag = "3")]
    version: String,
    #[prost(bytes = "vec", tag = "4")]
    body: Vec<u8>,
}

impl Cache {
    /// At this path, for this node.
    pub fn new(path: PathBuf, node: impl Into<String>) -> Self {
        Self { path, node: node.into() }
    }

    /// Keeps a configuration.
    ///
    /// # Errors
    /// The system's, or `InvalidInput` if it is too large.
    pub fn save(&self, resources: impl IntoIterator<Item = Raw>) -> io::Result<()> {
        let resources = resources.into_iter().map(|raw| SavedResource {
            kind: raw.kind.as_str().to_owned(),
            name: raw.name.to_string(),
            version: raw.version,
            body: raw.body.to_vec(),
        });
        let body = Saved { node: self.node.clone(), resources: resources.collect() }.encode_to_vec();
        if body.len() > LIMIT {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("larger than {LIMIT} bytes")));
        }
        let mut content = Vec::with_capacity(MAGIC.len() + 32 + body.len());
        content.extend_from_slice(MAGIC);
        content.extend_from_slice(blake3::hash(&body).as_bytes());
        content.extend_from_slice(&body);
        disk::write_private(&self.path, &content)
    }

    /// What was kept; nothing if there is none, or if it is damaged or another node's.
    pub fn load(&self) -> Vec<Raw> {
        let limit = (MAGIC.len() + 32 + LIMIT) as u64;
        let content = match disk::read_private(&self.path, limit) {
            Ok(Some(content)) => content,
            Ok(None) => return Vec::new(),
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "the kept configuration cannot be read");
                return Vec::new();
            }
        };
        match parse(&content) {
            Some(saved) if saved.node == self.node => saved.resources.into_iter().filter_map(raw).collect(),
            Some(saved) => {
                tracing::warn!(path = %self.path.display(), node = saved.node, "the kept configuration is another node's");
                Vec::new()
            }
            None => {
                tracing::warn!(path = %self.path.display(), "the kept configuration is damaged and not used");
                Vec::new()
            }
        }
    }
}

fn parse(content: &[u8]) -> Option<Saved> {
    let rest = content.strip_prefix(MAGIC)?;
    let (hash, body) = rest.split_at_checked(32)?;
    if blake3::hash(body).as_bytes() != hash {
        return None;
    }
    Saved::decode(body).ok()
}

fn raw(saved: SavedResource) -> Option<Raw> {
    let kind = Kind::ALL.into_iter().find(|k| k.as_str() == saved.kind)?;
    Some(Raw { kind, name: saved.name.into(), version: saved.version, body: saved.body.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back_and_what_is_damaged_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        let cache = Cache::new(path.clone(), "demo/web-1");
        assert!(cache.load().is_empty());
        let raws: Vec<_> = Kind::ALL
            .map(|kind| Raw { kind, name: "a".into(), version: "1".into(), body: [1u8, 2].as_slice().into() })
            .into();
        cache.save(raws.clone()).unwrap();
        assert_eq!(cache.load(), raws);
        assert!(Cache::new(path.clone(), "demo/web-2").load().is_empty(), "another node's");
        let whole = std::fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            assert!(parse(&whole[..cut]).is_none());
        }
        for at in 0..whole.len() {
            let mut odd = whole.clone();
            odd[at] ^= 0x10;
            assert!(parse(&odd).is_none());
        }
    }
}
