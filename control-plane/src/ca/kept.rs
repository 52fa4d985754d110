//! What is kept of our own certificate authority: the issuing key, the roots that are trusted, and how far a rotation is.
//! All of it is one entry of the store, so that one can never be there without the other, and any replica can go on.

use super::{Error, ErrorKind, rotation::Rotation};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Where it is kept.
pub const KEPT_AT: &str = "ca/root";
const FORMAT: u64 = 2;

/// The entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    format: u64,
    /// What signs.
    pub issuing: Material,
    /// What is trusted, the root of `issuing` first (PEM).
    pub roots: Vec<String>,
    /// The exchange that is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<Rotation>,
    /// What came of the last one, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub last: String,
}

/// A key, its certificate, and a certificate of the same key by the root before it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Material {
    /// PEM.
    pub certificate: String,
    /// PEM (PKCS#8).
    pub key: String,
    /// By this, whoever trusts only the root before trusts what this one signs. PEM; empty: there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub crossed: String,
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Material(…)")
    }
}

impl Kept {
    /// With one root.
    pub fn new(issuing: Material) -> Self {
        let roots = vec![issuing.certificate.clone()];
        Self { format: FORMAT, issuing, roots, rotation: None, last: String::new() }
    }

    /// From the store. Earlier versions kept a certificate and its key as one PEM text.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let bad = |why: String| Error::new(ErrorKind::Root, format!("what the store keeps of the roots: {why}"));
        let text = std::str::from_utf8(bytes).map_err(|_| bad("it is no text".into()))?;
        if text.starts_with("-----BEGIN") {
            let at = text.find("-----BEGIN PRIVATE KEY").ok_or_else(|| bad("there is no key in it".into()))?;
            let (certificate, key) = text.split_at(at);
            let material = Material { certificate: certificate.into(), key: key.into(), crossed: String::new() };
            return Ok(Self::new(material));
        }
        let kept: Self = serde_json::from_str(text).map_err(|e| bad(e.to_string()))?;
        if kept.format > FORMAT {
            return Err(bad(format!("it has format {}, and this version reads up to {FORMAT}", kept.format)));
        }
        Ok(kept)
    }

    /// For the store. What has only ever had one root is written as earlier versions read it.
    pub fn encode(&self) -> Vec<u8> {
        if self.rotation.is_none() && self.last.is_empty() && self.issuing.crossed.is_empty() {
            return format!("{}{}", self.issuing.certificate, self.issuing.key).into_bytes();
        }
        // Text and numbers: this cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }
}
