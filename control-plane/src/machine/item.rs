//! What a client holds of one name, and what is under way to it.

use super::{Encoded, Name, Version};
use std::sync::Arc;
use weir_config::model::Kind;

/// What a client holds of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Held {
    /// Nothing: it was told so, or never told anything.
    Nothing,
    /// A version from an earlier stream, whose content we no longer have.
    Known(Version),
    /// This.
    Resource(Arc<Encoded>),
}

impl Held {
    pub(super) fn of(want: Option<&Arc<Encoded>>) -> Self {
        want.map_or(Self::Nothing, |w| Self::Resource(w.clone()))
    }

    pub(super) fn version(&self) -> Option<&Version> {
        match self {
            Self::Nothing => None,
            Self::Known(version) => Some(version),
            Self::Resource(r) => Some(&r.version),
        }
    }

    pub(super) fn resource(&self) -> Option<&Arc<Encoded>> {
        match self {
            Self::Resource(r) => Some(r),
            _ => None,
        }
    }

    pub(super) fn refs(&self) -> &[(Kind, Name)] {
        self.resource().map_or(&[], |r| &r.refs)
    }

    /// Whether the client already has what it should have.
    pub(super) fn is(&self, want: Option<&Arc<Encoded>>) -> bool {
        match (self, want) {
            (Self::Resource(a), Some(b)) if Arc::ptr_eq(a, b) => true,
            _ => self.version() == want.map(|w| &w.version),
        }
    }
}

/// One name on one stream.
#[derive(Debug)]
pub(super) struct Item {
    /// What was sent last.
    pub(super) sent: Held,
    /// What the client last said it has.
    pub(super) applied: Held,
    /// Why it refused what was sent last.
    pub(super) refused: Option<Arc<str>>,
    /// The nonce with which this subscription's first response went; verdicts on older ones are not about it.
    pub(super) first: u64,
    /// The nonce of what was sent last.
    pub(super) sent_nonce: u64,
    /// The nonce of the last answer to a subscription or to a changed cluster.
    pub(super) answer_nonce: u64,
    /// The newest nonce the client has given its verdict on.
    pub(super) verdict_nonce: u64,
}

impl Item {
    /// As the client tells it on a reconnect.
    pub(super) fn known(version: &str) -> Self {
        let held = Held::Known(version.into());
        Self { sent: held.clone(), applied: held, ..Self::new(0) }
    }

    pub(super) fn new(first: u64) -> Self {
        Self {
            sent: Held::Nothing,
            applied: Held::Nothing,
            refused: None,
            first,
            sent_nonce: first,
            answer_nonce: 0,
            verdict_nonce: 0,
        }
    }

    /// The client has given its verdict on what was sent last.
    pub(super) fn settled(&self) -> bool {
        self.verdict_nonce >= self.sent_nonce
    }

    /// Takes over the newest encoding of the same version, so that the old one can be freed, and fills in the content
    /// of a version known only by name.
    pub(super) fn refresh(&mut self, want: &Arc<Encoded>) {
        for held in [&mut self.sent, &mut self.applied] {
            if held.version() == Some(&want.version) {
                *held = Held::Resource(want.clone());
            }
        }
    }
}

/// Something that is to be sent.
#[derive(Debug)]
pub(super) struct Due {
    /// What the client should hold.
    pub(super) want: Option<Arc<Encoded>>,
    /// It answers a subscription: never held back.
    pub(super) owed: bool,
    /// The first world in which it was different from what the client holds.
    pub(super) since: Option<u64>,
}

/// A response under way.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) nonce: u64,
    pub(super) items: Vec<(Name, Held)>,
    pub(super) since: Option<u64>,
    pub(super) world: u64,
}

/// Whether a client's message speaks of this name, and not only of a longer one.
pub(super) fn mentions(message: &str, name: &str) -> bool {
    let part = |c: char| c.is_ascii_alphanumeric() || "-_/.:*".contains(c);
    !name.is_empty()
        && message.match_indices(name).any(|(at, _)| {
            let before = message[..at].chars().next_back();
            let mut after = message[at + name.len()..].chars();
            let (next, second) = (after.next(), after.next());
            // Punctuation of the sentence, as in `web:80: bad`, may follow a name.
            let ends = match next {
                None => true,
                Some('.' | ':') => !second.is_some_and(part),
                Some(c) => !part(c),
            };
            ends && !before.is_some_and(part)
        })
}
