//! What goes into the next responses, and what is remembered of them.

use super::{
    Encoded, Machine, Name, Protocol, Push, View,
    item::{Due, Flight, Held, Item},
};
use std::sync::Arc;
use weir_config::model::Kind;

/// Responses of one kind that may be under way at once: answers beyond it wait until the client acknowledges some.
/// Pushes wait for the first to be acknowledged, so that a slow client gets the newest world and not each one.
const ANSWERS_IN_FLIGHT: usize = 64;

impl Machine {
    /// Sends what may be sent of one kind.
    pub(super) fn send(&mut self, kind: Kind, world: u64, view: &dyn View, pushes: &mut Vec<Push>) {
        let chosen = self.choose(kind, view);
        if chosen.is_empty() && !self.sub(kind).announce {
            return;
        }
        self.sub_mut(kind).announce = false;
        let due: Vec<(Name, Due)> =
            chosen.into_iter().filter_map(|n| self.sub_mut(kind).due.remove(&n).map(|d| (n, d))).collect();
        let changed = if kind == Kind::Cluster { self.changed(&due) } else { Vec::new() };
        match self.protocol {
            Protocol::Sotw => self.send_sotw(kind, world, due, pushes),
            Protocol::Delta => self.send_delta(kind, world, due, pushes),
        }
        self.follow_with_endpoints(&changed, view);
    }

    fn choose(&self, kind: Kind, view: &dyn View) -> Vec<Name> {
        let sub = self.sub(kind);
        let answers = sub.flights.len() < ANSWERS_IN_FLIGHT;
        let open = sub.flights.is_empty();
        let mut named = None;
        let mut chosen = Vec::new();
        for (name, due) in &sub.due {
            let go = match &due.want {
                _ if due.owed => answers,
                _ if !open => false,
                Some(want) => self.ready(kind, want, view),
                None => !named.get_or_insert_with(|| self.still_named()).has(kind, name),
            };
            if go {
                chosen.push(name.clone());
            }
        }
        chosen
    }

    /// The clusters among these that are new to the client or different from what it holds.
    fn changed(&self, due: &[(Name, Due)]) -> Vec<Arc<Encoded>> {
        let items = &self.sub(Kind::Cluster).items;
        let wants = due.iter().filter_map(|(name, due)| Some((name, due.want.as_ref()?)));
        let changed = wants.filter(|(name, want)| !items.get(*name).is_some_and(|i| i.sent.is(Some(want))));
        changed.map(|(_, want)| want.clone()).collect()
    }

    /// A changed cluster stays warming until its endpoints come again, and Envoy does not ask (in delta) or asks in a
    /// way that looks like an acknowledgement (state of the world): send them, changed or not.
    fn follow_with_endpoints(&mut self, clusters: &[Arc<Encoded>], view: &dyn View) {
        for (_, name) in clusters.iter().flat_map(|c| &c.refs).filter(|(kind, _)| *kind == Kind::Endpoints) {
            let endpoints = self.sub_mut(Kind::Endpoints);
            if !endpoints.subscribed(name) {
                self.awaited.insert(name.clone());
            } else if endpoints.items.contains_key(name) {
                endpoints.answer(name, view.resource(Kind::Endpoints, name), true);
            }
        }
    }

    fn send_delta(&mut self, kind: Kind, world: u64, due: Vec<(Name, Due)>, pushes: &mut Vec<Push>) {
        let mut rest = due.into_iter().peekable();
        loop {
            let mut part = Vec::new();
            let mut bytes = 0;
            while let Some((_, next)) = rest.peek() {
                bytes += next.want.as_ref().map_or(0, |w| w.bytes.len()) + 128;
                if !part.is_empty() && bytes > self.limits.response_bytes {
                    break;
                }
                part.extend(rest.next());
            }
            let resources = part.iter().filter_map(|(_, d)| d.want.clone()).collect();
            let removed = part.iter().filter(|(_, d)| d.want.is_none()).map(|(n, _)| n.clone()).collect();
            let push = self.depart(kind, world, part, resources, removed);
            pushes.push(push);
            if rest.peek().is_none() {
                return;
            }
        }
    }

    fn send_sotw(&mut self, kind: Kind, world: u64, due: Vec<(Name, Due)>, pushes: &mut Vec<Push>) {
        if matches!(kind, Kind::Cluster | Kind::Listener) {
            // The whole set every time: what is left out is deleted, also for clients that subscribe by name. What
            // has to wait is sent as the client holds it.
            let items = &self.sub(kind).items;
            // `due` is sorted by name, as it comes from a map.
            let kept = items.iter().filter(|(name, _)| due.binary_search_by(|(n, _)| n.cmp(name)).is_err());
            let kept = kept.filter_map(|(_, item)| item.sent.resource().cloned());
            let mut resources: Vec<_> = kept.chain(due.iter().filter_map(|(_, d)| d.want.clone())).collect();
            resources.sort_by(|a, b| a.name.cmp(&b.name));
            let push = self.depart(kind, world, due, resources, Vec::new());
            pushes.push(push);
            return;
        }
        // Routes, endpoints and secrets cannot be removed, and what does not exist is not answered.
        let (there, gone): (Vec<_>, Vec<_>) = due.into_iter().partition(|(_, d)| d.want.is_some());
        let sub = self.sub_mut(kind);
        for (name, _) in gone {
            let item = sub.items.entry(name).or_insert_with(|| Item::new(0));
            *item = Item::new(0);
        }
        if !there.is_empty() {
            let resources = there.iter().filter_map(|(_, d)| d.want.clone()).collect();
            let push = self.depart(kind, world, there, resources, Vec::new());
            pushes.push(push);
        }
    }

    /// Gives a response its nonce and remembers what is in it.
    fn depart(
        &mut self,
        kind: Kind,
        world: u64,
        due: Vec<(Name, Due)>,
        resources: Vec<Arc<Encoded>>,
        removed: Vec<Name>,
    ) -> Push {
        self.nonce += 1;
        let nonce = self.nonce;
        if kind == Kind::Endpoints {
            for (name, _) in &due {
                self.awaited.remove(name);
            }
        }
        let sub = self.sub_mut(kind);
        let since = due.iter().filter_map(|(_, d)| d.since).min();
        let mut items = Vec::with_capacity(due.len());
        for (name, due) in due {
            let held = Held::of(due.want.as_ref());
            let item = sub.items.entry(name.clone()).or_insert_with(|| Item::new(nonce));
            item.sent = held.clone();
            item.sent_nonce = nonce;
            item.refused = None;
            if due.owed {
                item.answer_nonce = nonce;
            }
            items.push((name, held));
        }
        sub.flights.push_back(Flight { nonce, items, since, world });
        sub.last_nonce = nonce;
        sub.last_sent = Some(world);
        Push { kind, nonce: nonce.to_string(), version: sub.set_version(), resources, removed }
    }
}

impl super::subscription::Subscription {
    /// A hash of what the client holds of this kind: the same on each replica of the control plane.
    fn set_version(&self) -> String {
        let mut hash = blake3::Hasher::new();
        for (name, item) in &self.items {
            if let Some(version) = item.sent.version() {
                for part in [&**name, &**version] {
                    hash.update(&(part.len() as u64).to_le_bytes());
                    hash.update(part.as_bytes());
                }
            }
        }
        hash.finalize().to_hex()[..16].to_owned()
    }
}
