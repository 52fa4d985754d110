//! What a client asks for in one kind of resource, what it holds, and its verdicts.

use super::{
    Encoded, Name, Refusal, Standing, Verdict, View,
    item::{Due, Flight, Held, Item, mentions},
};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};
use weir_config::model::Kind;

const MESSAGE_CHARS: usize = 2000;

/// One kind of resource on one stream.
#[derive(Debug)]
pub(super) struct Subscription {
    kind: Kind,
    /// A request of this kind has come.
    pub(super) asked: bool,
    /// State of the world: a request has named something, so that an empty one means "nothing" from now on.
    named: bool,
    /// All are asked for, besides `names`. A flag of its own: an empty `names` is no wildcard.
    pub(super) wildcard: bool,
    pub(super) names: BTreeSet<Name>,
    /// Names whose answer has not been looked up yet; `true`: answer even if the client holds this version.
    owed: BTreeMap<Name, bool>,
    owed_all: bool,
    /// A wildcard gets an answer even if there is nothing.
    pub(super) announce: bool,
    pub(super) items: BTreeMap<Name, Item>,
    pub(super) due: BTreeMap<Name, Due>,
    pub(super) flights: VecDeque<Flight>,
    pub(super) last_nonce: u64,
    pub(super) last_sent: Option<u64>,
    last_applied: Option<u64>,
}

impl Subscription {
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            kind,
            asked: false,
            named: false,
            wildcard: false,
            names: BTreeSet::new(),
            owed: BTreeMap::new(),
            owed_all: false,
            announce: false,
            items: BTreeMap::new(),
            due: BTreeMap::new(),
            flights: VecDeque::new(),
            last_nonce: 0,
            last_sent: None,
            last_applied: None,
        }
    }

    /// Whether the client wants this name.
    pub(super) fn subscribed(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    /// Takes the names of a delta request. `awaited`: a changed cluster waits for this name.
    pub(super) fn delta(
        &mut self,
        subscribe: Vec<String>,
        unsubscribe: Vec<String>,
        initial: BTreeMap<String, String>,
        awaited: impl Fn(&str) -> bool,
    ) {
        let first = !std::mem::replace(&mut self.asked, true);
        if first {
            self.items = initial.iter().map(|(name, version)| (Name::from(&**name), Item::known(version))).collect();
            // Envoy's wildcard is still an empty first request.
            if subscribe.is_empty() && unsubscribe.is_empty() && self.wildcard_by_silence() {
                self.subscribe_all();
            }
        }
        for name in subscribe {
            if name == "*" {
                self.subscribe_all();
                continue;
            }
            let held = first && self.items.contains_key(&*name);
            let must = !held || awaited(&name);
            self.subscribe(name.into(), must);
        }
        for name in unsubscribe {
            match &*name {
                "*" => self.unsubscribe_all(),
                name => self.unsubscribe(name),
            }
        }
        if first && !self.wildcard {
            self.items.retain(|name, _| self.names.contains(name));
        }
    }

    /// Takes the names of a state-of-the-world request.
    pub(super) fn sotw(&mut self, names: Vec<String>) {
        self.asked = true;
        self.named |= !names.is_empty();
        let all = names.iter().any(|n| n == "*") || (!self.named && self.wildcard_by_silence());
        let wanted: BTreeSet<Name> = names.into_iter().filter(|n| n != "*").map(Name::from).collect();
        if all && !self.wildcard {
            self.subscribe_all();
        }
        if !all && self.wildcard {
            self.wildcard = false;
            self.owed_all = false;
        }
        for name in wanted.difference(&self.names) {
            self.owed.insert(name.clone(), true);
        }
        // A name that leaves and comes back is answered again, so nothing is remembered of it.
        self.names = wanted;
        let (names, wildcard) = (&self.names, self.wildcard);
        self.items.retain(|name, _| wildcard || names.contains(name));
        self.due.retain(|name, _| wildcard || names.contains(name));
        self.owed.retain(|name, _| wildcard || names.contains(name));
    }

    fn wildcard_by_silence(&self) -> bool {
        matches!(self.kind, Kind::Cluster | Kind::Listener)
    }

    fn subscribe_all(&mut self) {
        self.wildcard = true;
        self.owed_all = true;
    }

    fn subscribe(&mut self, name: Name, must: bool) {
        let owed = self.owed.entry(name.clone()).or_insert(false);
        *owed |= must;
        self.names.insert(name);
    }

    fn unsubscribe(&mut self, name: &str) {
        if !self.names.remove(name) {
            return;
        }
        if self.wildcard {
            // The client may have dropped it, or hold it by the wildcard: told once more, it is right in both cases.
            self.owed.insert(name.into(), true);
        } else {
            self.forget(name);
        }
    }

    fn unsubscribe_all(&mut self) {
        self.wildcard = false;
        self.owed_all = false;
        self.announce = false;
        let names = &self.names;
        self.items.retain(|name, _| names.contains(name));
        self.due.retain(|name, _| names.contains(name));
        self.owed.retain(|name, _| names.contains(name));
    }

    fn forget(&mut self, name: &str) {
        self.owed.remove(name);
        self.due.remove(name);
        self.items.remove(name);
    }

    /// Looks up what is owed and, in a `fresh` world, what has changed. Says whether the client is concerned by it.
    pub(super) fn look(&mut self, world: u64, view: &dyn View, fresh: bool) -> bool {
        if !self.asked {
            return false;
        }
        let all = if self.wildcard && (fresh || self.owed_all) { view.names(self.kind) } else { Vec::new() };
        if std::mem::take(&mut self.owed_all) {
            self.announce = true;
            for name in &all {
                self.owed.entry(name.clone()).or_insert(false);
            }
        }
        for (name, must) in std::mem::take(&mut self.owed) {
            self.answer(&name, view.resource(self.kind, &name), must);
        }
        fresh && self.compare_all(world, view, &all)
    }

    /// Notes that a name is to be sent, whatever else is under way.
    pub(super) fn answer(&mut self, name: &Name, want: Option<Arc<Encoded>>, must: bool) {
        if !must
            && let Some(item) = self.items.get_mut(name)
            && item.sent.is(want.as_ref())
        {
            if let Some(want) = &want {
                item.refresh(want);
            }
            return;
        }
        let since = self.due.get(name).and_then(|d| d.since);
        self.due.insert(name.clone(), Due { want, owed: true, since });
    }

    fn compare_all(&mut self, world: u64, view: &dyn View, all: &[Name]) -> bool {
        let mut concerned = false;
        let mut targets: BTreeSet<Name> = self.names.clone();
        targets.extend(all.iter().cloned());
        if self.wildcard {
            targets.extend(self.items.keys().cloned());
        }
        for name in &targets {
            concerned |= self.compare(name, view.resource(self.kind, name), world);
        }
        concerned
    }

    fn compare(&mut self, name: &Name, want: Option<Arc<Encoded>>, world: u64) -> bool {
        let same = match self.items.get_mut(name) {
            Some(item) if item.sent.is(want.as_ref()) => {
                if let Some(want) = &want {
                    item.refresh(want);
                }
                true
            }
            Some(_) => false,
            None => want.is_none(),
        };
        match self.due.get_mut(name) {
            Some(due) if due.owed => {
                let changed = due.want.as_ref().map(|w| &w.version) != want.as_ref().map(|w| &w.version);
                due.want = want;
                if changed {
                    due.since.get_or_insert(world);
                }
                changed
            }
            // What was waiting has been taken back.
            Some(_) if same => {
                self.due.remove(name);
                true
            }
            Some(due) => {
                let changed = due.want.as_ref().map(|w| &w.version) != want.as_ref().map(|w| &w.version);
                due.want = want;
                changed
            }
            None if same => false,
            None => {
                self.due.insert(name.clone(), Due { want, owed: false, since: Some(world) });
                true
            }
        }
    }

    /// Takes the client's verdict on a response.
    pub(super) fn verdict(&mut self, nonce: u64, error: Option<String>) -> Verdict {
        let Some(at) = self.flights.iter().position(|f| f.nonce == nonce) else { return Verdict::None };
        let mut refusal = None;
        // Responses are taken in order: a verdict on one says that those before it were taken without complaint.
        for flight in self.flights.drain(..=at) {
            let error = error.as_deref().filter(|_| flight.nonce == nonce);
            let refused = error.map(|message| {
                let named: Vec<_> = flight.items.iter().filter(|(n, _)| mentions(message, n)).collect();
                let all = named.is_empty();
                flight.items.iter().filter(|(n, _)| all || mentions(message, n)).map(|(n, _)| n.clone()).collect()
            });
            let refused: Option<BTreeSet<Name>> = refused;
            let message: Arc<str> = error.unwrap_or_default().chars().take(MESSAGE_CHARS).collect::<String>().into();
            for (name, held) in &flight.items {
                let Some(item) = self.items.get_mut(name).filter(|i| i.first <= flight.nonce) else { continue };
                item.verdict_nonce = flight.nonce;
                let refused = refused.as_ref().is_some_and(|r| r.contains(name));
                if refused {
                    if item.sent_nonce == flight.nonce {
                        item.refused = Some(message.clone());
                    }
                } else {
                    item.applied = held.clone();
                }
            }
            self.last_applied = if refused.is_some() { self.last_applied } else { Some(flight.world) };
            if let Some(names) = refused {
                refusal = Some(Refusal {
                    kind: self.kind,
                    names: names.into_iter().collect(),
                    message: message.to_string(),
                    since: flight.since,
                    world: flight.world,
                });
            }
        }
        let names = &self.names;
        self.items.retain(|name, i| names.contains(name) || i.sent != Held::Nothing || !i.settled());
        refusal.map_or(Verdict::Applied { kind: self.kind }, Verdict::Refused)
    }

    pub(super) fn behind_since(&self) -> Option<u64> {
        let due = self.due.values().filter_map(|d| d.since);
        due.chain(self.flights.iter().filter_map(|f| f.since)).min()
    }

    pub(super) fn standing(&self) -> Standing {
        let refused = self.items.iter().filter_map(|(name, i)| Some((name.clone(), i.refused.clone()?)));
        Standing {
            subscribed: self.names.len(),
            wildcard: self.wildcard,
            held: self.items.values().filter(|i| i.sent != Held::Nothing).count(),
            sent: self.last_sent,
            applied: self.last_applied,
            in_flight: self.flights.len(),
            waiting: self.due.len() + self.owed.len(),
            refused: refused.take(32).collect(),
        }
    }
}
