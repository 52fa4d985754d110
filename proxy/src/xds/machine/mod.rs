//! The delta-xDS client as a value: messages and times go in, messages and configurations come out. No I/O, no clock.
//!
//! What is subscribed to follows from what is wanted: an authority is a Listener, which names a Route, which names
//! Clusters, which name Endpoints (`interest`). A host name whose addresses are wanted (`dns/web.demo`) is Endpoints alone,
//! and counts as an authority. What is passed on for use changes only to resources that are complete:
//! a route to a cluster without endpoints waits, with the old route in use, for at most [`WARMING_LIMIT`] (`warm`).
//!
//! Source: the xDS protocol, "Incremental xDS"; gRFC A27, A46 (good resources of a refused response are used), A53
//! (nothing is waited for for ever).

mod interest;
#[cfg(test)]
mod tests;
mod warm;

pub use warm::Published;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};
use weir_config::{
    model::{Kind, Listener, NAME, PASSTHROUGH, ResourceName, Resources, RouteSource},
    xds::{
        self, Item,
        ads::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, LEAVING, Node, Resource, invalid_argument, text_struct},
    },
};

/// How long a resource may wait for those it names, before it is used without them (Envoy's initial fetch timeout and
/// gRFC A27's does-not-exist timer are the same 15 s).
pub const WARMING_LIMIT: Duration = Duration::from_secs(15);
/// Authorities that may be subscribed to at a time.
pub const MAX_AUTHORITIES: usize = 4096;
/// Resources of one kind that may be subscribed to at a time, named by others.
const MAX_NAMES: usize = 16 * 1024;
/// The longest name of a resource.
const MAX_NAME: usize = 512;
/// How long it is remembered that an authority does not exist. Asked for again when an application calls it again.
const ABSENT_FOR: Duration = Duration::from_secs(300);
/// What the name of a node's own listener starts with.
const INBOUND: &str = "inbound/";
/// The longest text of a refusal that is sent.
const MAX_REFUSAL: usize = 4096;

/// A message to the control plane.
pub type Request = DeltaDiscoveryRequest;

/// A resource as it came, kept to be written to disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raw {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: ResourceName,
    /// Its version, for the next stream's `initial_resource_versions`.
    pub version: String,
    /// The bytes of its `Any`.
    pub body: Arc<[u8]>,
}

/// What came of a response.
#[derive(Debug, Default)]
pub struct Outcome {
    /// To be sent, in this order.
    pub requests: Vec<Request>,
    /// Resources that were taken.
    pub accepted: usize,
    /// Resources that were removed.
    pub removed: usize,
    /// Resources that were refused, and why.
    pub refused: Vec<(ResourceName, String)>,
}

/// The client's side of one control plane, across streams.
#[derive(Debug)]
pub struct Machine {
    node: Node,
    /// What is wanted for its own sake; all else is wanted because these name it.
    roots: BTreeSet<(Kind, ResourceName)>,
    /// Authorities among the roots.
    authorities: usize,
    /// What is subscribed to, and what is known of it.
    entries: BTreeMap<(Kind, ResourceName), Entry>,
    /// Whether there is a stream, and whether its first message, which carries the node, has been sent.
    stream: Stream,
    /// The last configuration that was passed on.
    published: Resources,
    absent: BTreeSet<ResourceName>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    Down,
    Fresh,
    Open,
}

/// A subscribed resource.
#[derive(Debug)]
struct Entry {
    /// Since when it is waited for, or absent.
    since: Instant,
    answer: Answer,
    /// Why the last version sent was refused; the one before it stays.
    refused: Option<String>,
}

#[derive(Debug)]
enum Answer {
    Waiting,
    Absent,
    Held { version: String, body: Arc<[u8]>, item: Item },
}

impl Entry {
    fn waiting(now: Instant) -> Self {
        Self { since: now, answer: Answer::Waiting, refused: None }
    }

    fn item(&self) -> Option<&Item> {
        match &self.answer {
            Answer::Held { item, .. } => Some(item),
            Answer::Waiting | Answer::Absent => None,
        }
    }
}

impl Machine {
    /// `roots`: what this node needs in any case: its inbound listener and the trust bundle.
    pub fn new(node: Node, roots: impl IntoIterator<Item = (Kind, ResourceName)>, now: Instant) -> Self {
        let roots: BTreeSet<_> = roots.into_iter().collect();
        let entries = roots.iter().map(|key| (key.clone(), Entry::waiting(now))).collect();
        Self {
            node,
            roots,
            authorities: 0,
            entries,
            stream: Stream::Down,
            published: Resources::default(),
            absent: BTreeSet::new(),
        }
    }

    /// Takes the last good configuration of an earlier process, before the first stream. What cannot be decoded any more
    /// is left out.
    pub fn restore(&mut self, kept: impl IntoIterator<Item = Raw>, now: Instant) {
        for Raw { kind, name, version, body } in kept {
            let Ok(item) = decode(kind, &name, &body) else { continue };
            let wanted = kind == Kind::Listener || name.starts_with(NAME);
            if wanted && !self.roots.contains(&(kind, name.clone())) && !self.add_authority(&name) {
                continue;
            }
            let answer = Answer::Held { version, body, item };
            self.entries.insert((kind, name), Entry { since: now, answer, refused: None });
        }
        // What nothing names any more goes; what is named and was not kept is waited for.
        self.follow(now);
    }

    /// A stream was opened: what is to be sent first. A kind of which nothing is wanted is not named, since an empty
    /// first subscription would mean all.
    pub fn connect(&mut self, now: Instant) -> Vec<Request> {
        self.stream = Stream::Fresh;
        for entry in self.entries.values_mut().filter(|e| matches!(e.answer, Answer::Waiting)) {
            entry.since = now;
        }
        let mut requests = Vec::new();
        for kind in Kind::ALL {
            let names: Vec<_> = self.names(kind).collect();
            if names.is_empty() {
                continue;
            }
            let held = names.iter().filter_map(|name| match &self.entries.get(&(kind, name.clone()))?.answer {
                Answer::Held { version, .. } => Some((name.to_string(), version.clone())),
                Answer::Waiting | Answer::Absent => None,
            });
            requests.push(Request {
                type_url: xds::type_url(kind).to_owned(),
                initial_resource_versions: held.collect(),
                resource_names_subscribe: names.iter().map(ToString::to_string).collect(),
                ..Request::default()
            });
        }
        self.introduce(&mut requests);
        requests
    }

    /// The stream is gone. What is held stays in use.
    pub fn disconnect(&mut self) {
        self.stream = Stream::Down;
    }

    /// This node goes down: says so now, if there is a stream, and at the beginning of every stream to come.
    pub fn leave(&mut self) -> Vec<Request> {
        self.say(LEAVING, "true")
    }

    /// Says something of this node now, if there is a stream, and at the beginning of every stream to come. A control
    /// plane that is not ours takes no notice: the request asks for nothing.
    pub fn say(&mut self, name: &str, text: &str) -> Vec<Request> {
        let metadata = self.node.metadata.get_or_insert_default();
        metadata.fields.extend(text_struct([(name, text)]).fields);
        let said = Request {
            node: Some(self.node.clone()),
            type_url: xds::type_url(Kind::Listener).into(),
            ..Request::default()
        };
        if self.stream == Stream::Open { vec![said] } else { Vec::new() }
    }

    /// An application calls an authority. Returns `None` if there are too many already; nothing changes then.
    pub fn want(&mut self, authority: &ResourceName, now: Instant) -> Option<Vec<Request>> {
        let key = key_of(authority);
        if self.roots.contains(&key) {
            // Asked for again: if it was absent, the control plane may know better by now, and it would have told us.
            return Some(Vec::new());
        }
        let before = self.authorities;
        if !self.add_authority(authority) {
            return None;
        }
        if before == self.authorities {
            // Room was made: what another authority led to may have to go.
            return Some(self.follow(now));
        }
        // Nothing else changes by a name alone, so the references need not be followed.
        let type_url = xds::type_url(key.0).to_owned();
        self.entries.insert(key, Entry::waiting(now));
        if self.stream == Stream::Down {
            return Some(Vec::new());
        }
        let mut requests =
            vec![Request { type_url, resource_names_subscribe: vec![authority.to_string()], ..Request::default() }];
        self.introduce(&mut requests);
        Some(requests)
    }

    /// Nobody has called an authority for long.
    pub fn forget(&mut self, authority: &ResourceName, now: Instant) -> Vec<Request> {
        if self.drop_authority(authority) { self.follow(now) } else { Vec::new() }
    }

    /// Handles a response: takes what is good of it, refuses the rest by name, and follows the references.
    pub fn response(&mut self, response: DeltaDiscoveryResponse, now: Instant) -> Outcome {
        let mut outcome = Outcome::default();
        let mut ack = Request {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            ..Request::default()
        };
        match xds::kind_of(&response.type_url) {
            Some(kind) => {
                for resource in response.resources {
                    self.take(kind, resource, now, &mut outcome);
                }
                for name in response.removed_resources {
                    self.remove(kind, &name, now, &mut outcome);
                }
            }
            None => {
                outcome.refused.push(("*".into(), format!("`{}` is no type that was asked for", response.type_url)));
            }
        }
        if !outcome.refused.is_empty() {
            ack.error_detail = Some(invalid_argument(refusal(&outcome.refused)));
        }
        outcome.requests.push(ack);
        outcome.requests.extend(self.follow(now));
        outcome
    }

    /// Forgets, after a while, that authorities do not exist.
    pub fn tidy(&mut self, now: Instant) -> Vec<Request> {
        let stale: Vec<_> = self
            .absent_authorities()
            .filter(|(_, since)| now.duration_since(*since) >= ABSENT_FOR)
            .map(|(name, _)| name)
            .collect();
        for name in &stale {
            self.drop_authority(name);
        }
        if stale.is_empty() { Vec::new() } else { self.follow(now) }
    }

    /// What is held, as it came.
    pub fn raw(&self) -> impl Iterator<Item = Raw> + '_ {
        self.entries.iter().filter_map(|((kind, name), entry)| match &entry.answer {
            Answer::Held { version, body, .. } => {
                Some(Raw { kind: *kind, name: name.clone(), version: version.clone(), body: body.clone() })
            }
            Answer::Waiting | Answer::Absent => None,
        })
    }

    /// A hash of the versions of all that is held: equal where two sidecars hold the same.
    pub fn version(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for ((kind, name), entry) in &self.entries {
            if let Answer::Held { version, .. } = &entry.answer {
                for part in [kind.as_str(), name, version] {
                    hasher.update(part.as_bytes()).update(&[0]);
                }
            }
        }
        hasher.finalize().to_hex()[..16].to_owned()
    }

    /// What was refused and not replaced by something good since.
    pub fn refused(&self) -> impl Iterator<Item = (Kind, &ResourceName, &str)> + '_ {
        self.entries.iter().filter_map(|((kind, name), entry)| Some((*kind, name, entry.refused.as_deref()?)))
    }

    /// How many authorities are subscribed to.
    pub fn authorities(&self) -> usize {
        self.authorities
    }

    /// How many resources of a kind are subscribed to.
    pub fn subscribed(&self, kind: Kind) -> usize {
        self.names(kind).count()
    }

    fn take(&mut self, kind: Kind, resource: Resource, now: Instant, outcome: &mut Outcome) {
        let Resource { name, version, resource: body, .. } = resource;
        // Without a body it is a sign of life (TTL), not an update.
        let Some(body) = body else { return };
        // What was not asked for, or not any more, is of no use; it is no fault either: requests and responses cross.
        let name = ResourceName::from(name);
        let Some(entry) = self.entries.get_mut(&(kind, name.clone())) else { return };
        if matches!(&entry.answer, Answer::Held { version: held, .. } if *held == version && !version.is_empty()) {
            entry.refused = None;
            return;
        }
        let decoded = if body.type_url == xds::type_url(kind) {
            decode(kind, &name, &body.value)
        } else {
            Err(format!("its body is a `{}`", body.type_url))
        };
        match decoded {
            Ok(item) => {
                *entry = Entry {
                    since: now,
                    answer: Answer::Held { version, body: body.value.into(), item },
                    refused: None,
                };
                outcome.accepted += 1;
            }
            Err(why) => {
                entry.refused = Some(why.clone());
                outcome.refused.push((name, why));
            }
        }
    }

    fn remove(&mut self, kind: Kind, name: &str, now: Instant, outcome: &mut Outcome) {
        let Some(entry) = self.entries.get_mut(&(kind, ResourceName::from(name))) else { return };
        if !matches!(entry.answer, Answer::Absent) {
            *entry = Entry { since: now, answer: Answer::Absent, refused: None };
        }
        outcome.removed += 1;
    }

    fn add_authority(&mut self, authority: &ResourceName) -> bool {
        if authority.is_empty()
            || authority.len() > MAX_NAME
            || authority.trim_start_matches(NAME).contains(|c: char| c.is_whitespace() || c == '/')
        {
            return false;
        }
        if self.authorities >= MAX_AUTHORITIES {
            // Room is made by what does not exist or is not of the mesh, oldest first: an application that calls random
            // names, or the whole world, must not keep itself from calling real ones.
            let spare = self.absent_authorities().chain(self.outside_authorities());
            let Some((oldest, _)) = spare.min_by_key(|(_, since)| *since) else { return false };
            self.drop_authority(&oldest);
        }
        self.authorities += 1;
        self.roots.insert(key_of(authority))
    }

    fn drop_authority(&mut self, authority: &ResourceName) -> bool {
        let key = key_of(authority);
        let removed = !is_own(key.0, &key.1) && self.roots.remove(&key);
        self.authorities -= usize::from(removed);
        removed
    }

    fn absent_authorities(&self) -> impl Iterator<Item = (ResourceName, Instant)> + '_ {
        self.entries
            .iter()
            .filter(|(key, entry)| matches!(entry.answer, Answer::Absent) && self.roots.contains(key))
            .filter(|((kind, name), _)| !is_own(*kind, name))
            .map(|((_, name), entry)| (name.clone(), entry.since))
    }

    /// Addresses that are not of the mesh.
    fn outside_authorities(&self) -> impl Iterator<Item = (ResourceName, Instant)> + '_ {
        let outside = |entry: &Entry| match entry.item() {
            Some(Item::Listener(listener)) => match &**listener {
                Listener::Api(api) => matches!(&api.routes, RouteSource::Rds(name) if **name == *PASSTHROUGH),
                Listener::Inbound(_) => false,
            },
            _ => false,
        };
        self.entries
            .iter()
            .filter(move |(_, entry)| outside(entry))
            .map(|((_, name), entry)| (name.clone(), entry.since))
    }

    fn names(&self, kind: Kind) -> impl Iterator<Item = ResourceName> + '_ {
        self.entries.keys().filter(move |(k, _)| *k == kind).map(|(_, name)| name.clone())
    }

    /// The first message of a stream carries the node.
    fn introduce(&mut self, requests: &mut [Request]) {
        if self.stream != Stream::Fresh {
            return;
        }
        if let Some(first) = requests.first_mut() {
            first.node = Some(self.node.clone());
            self.stream = Stream::Open;
        }
    }
}

/// Whether this is of the node itself, and not of what its application calls.
fn is_own(kind: Kind, name: &str) -> bool {
    kind == Kind::Secret || name.starts_with(INBOUND)
}

/// As what something that is wanted is asked for.
fn key_of(wanted: &ResourceName) -> (Kind, ResourceName) {
    let kind = if wanted.starts_with(NAME) { Kind::Endpoints } else { Kind::Listener };
    (kind, wanted.clone())
}

/// Bytes to a value of the model, which must be the one that was announced.
fn decode(kind: Kind, name: &str, body: &[u8]) -> Result<Item, String> {
    let decoded = xds::decode(kind, body).map_err(|rejected| {
        let issues: Vec<_> = rejected.issues.iter().map(ToString::to_string).collect();
        issues.join("; ")
    })?;
    if &**decoded.resource.name() != name {
        return Err(format!("its body is named `{}`", decoded.resource.name()));
    }
    Ok(decoded.resource)
}

fn refusal(refused: &[(ResourceName, String)]) -> String {
    let mut text = String::new();
    for (name, why) in refused {
        if text.len() > MAX_REFUSAL {
            text.push_str("; and more");
            break;
        }
        if !text.is_empty() {
            text.push_str("; ");
        }
        let why: String = why.chars().take(MAX_REFUSAL).collect();
        text.push_str(&format!("`{name}`: {why}"));
    }
    text
}
