//! What one xDS stream is owed: a machine without I/O, clock or tasks that serves both protocols, delta and
//! state-of-the-world.
//!
//! `request` takes what the client says, `poll` says what to send, given the newest view of the world. It keeps three
//! promises that real clients punish when broken:
//! 1. *answers to subscriptions are never held back*: Envoy acknowledges clusters only once their endpoints are
//!    answered, so holding them back would lock both sides up;
//! 2. *make before break*: a pushed listener or route waits until the clusters and endpoints that it names are
//!    acknowledged, and nothing is taken away while the client may still hold something that names it;
//! 3. *a changed cluster is followed by its endpoints*, changed or not, since Envoy keeps it warming until they come.
//!
//! The protocol: <https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol>.

mod gate;
mod item;
mod plan;
mod subscription;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use std::{collections::BTreeMap, collections::BTreeSet, sync::Arc};
use subscription::Subscription;
use weir_config::model::Kind;

/// A resource's name.
pub type Name = Arc<str>;
/// A resource's version: a hash of its content, equal on all replicas of the control plane.
pub type Version = Arc<str>;

/// A resource, ready for the wire; made once and shared by all streams that need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// Its name.
    pub name: Name,
    /// A hash of its bytes.
    pub version: Version,
    /// What the bytes are: `type.googleapis.com/…`.
    pub type_url: &'static str,
    /// The protobuf message.
    pub bytes: Bytes,
    /// The resources it names: a cluster its endpoints, a route its clusters, a listener its route and clusters.
    pub refs: Vec<(Kind, Name)>,
}

/// What one node should have, in one version of the world.
pub trait View {
    /// The resource of this name, if there is one for this node.
    fn resource(&self, kind: Kind, name: &str) -> Option<Arc<Encoded>>;
    /// What a wildcard subscription covers.
    fn names(&self, kind: Kind) -> Vec<Name>;
}

/// Which of the two protocols a stream speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Incremental: each response carries what changed.
    Delta,
    /// State of the world: each response for listeners and clusters carries all of them.
    Sotw,
}

/// What a client may ask of one stream.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Names over all kinds.
    pub names: usize,
    /// Bytes of one name.
    pub name_bytes: usize,
    /// Bytes of resources in one delta response; one larger resource travels alone.
    pub response_bytes: usize,
}

impl Default for Limits {
    /// 20,000 names of at most 1,024 bytes; responses of about 1 MiB (gRPC clients take 4 MiB by default).
    fn default() -> Self {
        Self { names: 20_000, name_bytes: 1024, response_bytes: 1 << 20 }
    }
}

/// What a client says in one message.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The response it answers; empty: none.
    pub nonce: String,
    /// Set: it refuses that response, and why. Never told by comparing versions.
    pub error: Option<String>,
    /// What it asks for.
    pub names: Names,
}

/// The names in a request.
#[derive(Debug, Clone)]
pub enum Names {
    /// Delta: what is added and what is taken away, and, on a reconnect, what the client already holds.
    Delta {
        /// New names; `*` for all.
        subscribe: Vec<String>,
        /// Names no longer wanted.
        unsubscribe: Vec<String>,
        /// Name to version, in the first request of a kind.
        initial: BTreeMap<String, String>,
    },
    /// State of the world: all names wanted from now on.
    Sotw(Vec<String>),
}

impl Default for Names {
    fn default() -> Self {
        Self::Sotw(Vec::new())
    }
}

/// What to send.
#[derive(Debug, Clone)]
pub struct Push {
    /// Of which kind.
    pub kind: Kind,
    /// To be given back by the client.
    pub nonce: String,
    /// A hash of what the client holds of this kind after this response.
    pub version: String,
    /// New or changed (delta), or all (state of the world, listeners and clusters).
    pub resources: Vec<Arc<Encoded>>,
    /// Gone, or never there (delta only).
    pub removed: Vec<Name>,
}

/// What a poll brought.
#[derive(Debug, Default)]
pub struct Polled {
    /// To be sent in this order.
    pub pushes: Vec<Push>,
    /// Something that this client subscribes to is different in this world.
    pub concerned: bool,
}

/// What a request said about an earlier response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: a first request, a change of subscription, or an answer to no response of this stream.
    None,
    /// Applied.
    Applied {
        /// Of which kind.
        kind: Kind,
    },
    /// Refused. The resources that the message does not name may have been applied all the same.
    Refused(Refusal),
}

/// What a client refused, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Of which kind.
    pub kind: Kind,
    /// The resources named in the message, or all of the response when it names none.
    pub names: Vec<Name>,
    /// In the client's words, shortened.
    pub message: String,
    /// The first change in it, if it carried any.
    pub since: Option<u64>,
    /// The version of the world it was sent from.
    pub world: u64,
}

/// A client asks too much.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// More names than allowed.
    #[error("more than {0} resource names on one stream")]
    TooManyNames(usize),
    /// A name longer than allowed.
    #[error("a resource name of {0} bytes is longer than {1}")]
    LongName(usize, usize),
    /// A delta request on a state-of-the-world stream, or the other way round.
    #[error("a request of the other protocol on this stream")]
    WrongProtocol,
}

/// Where a stream stands in one kind of resource.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Names asked for, `*` not counted.
    pub subscribed: usize,
    /// Whether all are asked for.
    pub wildcard: bool,
    /// Resources the client was sent and has not been told to drop.
    pub held: usize,
    /// The world of the last response sent.
    pub sent: Option<u64>,
    /// The world of the last response acknowledged.
    pub applied: Option<u64>,
    /// Responses under way.
    pub in_flight: usize,
    /// Resources waiting to be sent.
    pub waiting: usize,
    /// Resources whose present version was refused, and why (shortened to 32).
    pub refused: Vec<(Name, Arc<str>)>,
}

/// The state of one stream.
#[derive(Debug)]
pub struct Machine {
    protocol: Protocol,
    limits: Limits,
    subs: [Subscription; 5],
    /// Endpoints that a changed cluster waits for and that the client has not yet asked for on this stream.
    awaited: BTreeSet<Name>,
    /// The last nonce given out, over all kinds.
    nonce: u64,
    /// The world of the last poll.
    world: Option<u64>,
}

impl Machine {
    /// A new stream.
    pub fn new(protocol: Protocol, limits: Limits) -> Self {
        Self {
            protocol,
            limits,
            subs: Kind::ALL.map(Subscription::new),
            awaited: BTreeSet::new(),
            nonce: 0,
            world: None,
        }
    }

    /// Takes one message of the client. `poll` afterwards, also without a new world.
    pub fn request(&mut self, kind: Kind, request: Request) -> Result<Verdict, Violation> {
        let nonce = parse_nonce(&request.nonce);
        match (&self.protocol, request.names) {
            (Protocol::Delta, Names::Delta { subscribe, unsubscribe, initial }) => {
                self.check(subscribe.iter().chain(initial.keys()))?;
                let verdict = self.verdict(kind, nonce, request.error);
                // A stale nonce says nothing about the names: in delta they are changes, and none may be lost.
                let awaited = std::mem::take(&mut self.awaited);
                self.sub_mut(kind)
                    .delta(subscribe, unsubscribe, initial, |n| kind == Kind::Endpoints && awaited.contains(n));
                self.awaited = awaited;
                self.bounded(verdict)
            }
            (Protocol::Sotw, Names::Sotw(names)) => {
                self.check(names.iter())?;
                let sub = self.sub(kind);
                // In state-of-the-world a request with a stale nonce will be followed by one with the same names and
                // the right nonce, so its names are not looked at (and a resend would never end).
                let stale = sub.last_nonce != 0 && nonce.is_some_and(|n| n != sub.last_nonce);
                let verdict = self.verdict(kind, nonce, request.error);
                if !stale {
                    self.sub_mut(kind).sotw(names);
                }
                self.bounded(verdict)
            }
            _ => Err(Violation::WrongProtocol),
        }
    }

    /// What to send now, given the newest world. `world` numbers must not decrease.
    pub fn poll(&mut self, world: u64, view: &dyn View) -> Polled {
        let fresh = self.world != Some(world);
        self.world = Some(world);
        let mut concerned = false;
        for kind in Kind::ALL {
            concerned |= self.sub_mut(kind).look(world, view, fresh);
        }
        self.escort(view);
        let mut pushes = Vec::new();
        for kind in Kind::ALL {
            self.send(kind, world, view, &mut pushes);
        }
        Polled { pushes, concerned }
    }

    /// Looks at everything again at the next poll, though the world's number is the same.
    pub fn forget_world(&mut self) {
        self.world = None;
    }

    /// The first change of the world that this client is concerned by and has neither applied nor refused; `None`:
    /// it is up to date.
    pub fn behind_since(&self) -> Option<u64> {
        self.subs.iter().filter_map(Subscription::behind_since).min()
    }

    /// Where the stream stands in one kind.
    pub fn standing(&self, kind: Kind) -> Standing {
        self.sub(kind).standing()
    }

    /// The version of a resource that the client has said it has; the outer `None`: it does not ask for it.
    pub fn applied(&self, kind: Kind, name: &str) -> Option<Option<&Version>> {
        let sub = self.sub(kind);
        sub.subscribed(name).then(|| sub.items.get(name).and_then(|item| item.applied.version()))
    }

    /// Names asked for over all kinds.
    pub fn subscriptions(&self) -> usize {
        self.subs.iter().map(|s| s.names.len()).sum()
    }

    fn sub(&self, kind: Kind) -> &Subscription {
        &self.subs[kind as usize]
    }

    fn sub_mut(&mut self, kind: Kind) -> &mut Subscription {
        &mut self.subs[kind as usize]
    }

    fn check<'a>(&self, names: impl Iterator<Item = &'a String>) -> Result<(), Violation> {
        let mut count = 0;
        for name in names {
            count += 1;
            if name.len() > self.limits.name_bytes {
                return Err(Violation::LongName(name.len(), self.limits.name_bytes));
            }
        }
        if count > self.limits.names { Err(Violation::TooManyNames(self.limits.names)) } else { Ok(()) }
    }

    fn bounded(&self, verdict: Verdict) -> Result<Verdict, Violation> {
        if self.subscriptions() > self.limits.names {
            return Err(Violation::TooManyNames(self.limits.names));
        }
        Ok(verdict)
    }

    fn verdict(&mut self, kind: Kind, nonce: Option<u64>, error: Option<String>) -> Verdict {
        nonce.map_or(Verdict::None, |nonce| self.sub_mut(kind).verdict(nonce, error))
    }
}

fn parse_nonce(text: &str) -> Option<u64> {
    match text {
        "" => None,
        // A nonce that is not ours is a stale one.
        _ => Some(text.parse().unwrap_or(u64::MAX)),
    }
}
