//! What is known of the cluster, and the documents that it makes: pure, one event at a time.
//!
//! An event changes few documents; those are what [`State::take`] gives. An object that is refused leaves its last good
//! document where it is, and is remembered with the reasons. Nothing that one object says keeps another from counting.

use crate::{
    kubernetes::{
        Known, Meaning, Name, object, pod, service, slice,
        watch::{Happened, Object, Source, Told},
    },
    store::{Stored, snapshot::Write},
};
use kube::api::DynamicObject;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};
use time::OffsetDateTime;
use weir_config::resources::{Document, Issue, Key, Kind};

/// An object that is refused.
#[derive(Debug, Clone, PartialEq)]
pub struct Refused {
    /// What the API server knows of it.
    pub known: Known,
    /// Why.
    pub issues: Arc<[Issue]>,
}

/// Everything that was seen.
#[derive(Default)]
pub(super) struct State {
    documents: BTreeMap<Arc<Key>, Arc<Stored>>,
    refused: BTreeMap<Key, Refused>,
    /// What each object of the cluster was last known as, also where it means nothing or was refused.
    known: HashMap<Key, Known>,
    pods: BTreeMap<Name, pod::Seen>,
    slices: BTreeMap<Name, slice::Seen>,
    slices_of: BTreeMap<Name, BTreeSet<Name>>,
    /// The slices that each pod is in.
    slices_with: BTreeMap<Name, BTreeSet<Name>>,
    /// Services without a selector: what stands behind them is told by slices, so they are read again.
    open: BTreeMap<Name, DynamicObject>,
    /// What a list that is under way has not told of yet.
    missing: HashMap<Source, HashSet<Name>>,
    listed: HashSet<Source>,
    names: HashMap<Source, HashSet<Name>>,
    /// Counts the changes of `refused`.
    refused_changes: u64,
    /// The highest version of an object seen.
    version: u64,
    changed: BTreeMap<Arc<Key>, Option<Arc<Stored>>>,
}

impl State {
    /// What an event changes in it is for [`State::changes`].
    pub(super) fn take(&mut self, (source, happened): Told) {
        match happened {
            Happened::Listing => {
                let known = self.names.get(&source).cloned().unwrap_or_default();
                self.missing.insert(source, known);
            }
            Happened::There(object) => self.there(source, object),
            Happened::Gone(name) => self.gone(source, &name),
            Happened::Listed => {
                for name in self.missing.remove(&source).unwrap_or_default() {
                    self.gone(source, &name);
                }
                self.listed.insert(source);
            }
        }
    }

    /// Whether every source has been listed once.
    pub(super) fn is_whole(&self) -> bool {
        Source::all().all(|source| self.listed.contains(&source))
    }

    /// The highest version of an object seen so far.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// What has changed since the last time.
    pub(super) fn changes(&mut self) -> Vec<Write> {
        std::mem::take(&mut self.changed).into_iter().map(|(key, stored)| Write { key, stored }).collect()
    }

    /// The objects that are refused.
    pub(super) fn refused(&self) -> &BTreeMap<Key, Refused> {
        &self.refused
    }

    /// Another number when the objects that are refused are not those that they were.
    pub(super) fn refused_changes(&self) -> u64 {
        self.refused_changes
    }

    /// What an object was last seen as.
    pub(super) fn known(&self, key: &Key) -> Option<&Known> {
        self.known.get(key)
    }

    fn there(&mut self, source: Source, object: Object) {
        let name = match &object {
            Object::Any(object) => Name::of(&object.metadata),
            Object::Pod(pod) => Name::of(&pod.metadata),
            Object::Slice(slice) => Name::of(&slice.metadata),
        };
        self.names.entry(source).or_default().insert(name.clone());
        if let Some(missing) = self.missing.get_mut(&source) {
            missing.remove(&name);
        }
        match (source, object) {
            (Source::Services, Object::Any(object)) => self.service(name, *object),
            (Source::Objects(kind), Object::Any(object)) => {
                let (key, known) = (object::key(kind, &object), Known::of(&object.metadata));
                let meaning = match kind {
                    Kind::Workload if self.pods.contains_key(&name) => return self.refuse(key, &known, taken(&name)),
                    _ => object::meaning(kind, &object),
                };
                self.saw(&key, &known);
                self.means(key, &known, meaning);
            }
            (Source::Pods, Object::Pod(pod)) => self.pod(name, &pod),
            (Source::Slices, Object::Slice(slice)) => self.slice(name, slice::seen(&slice)),
            _ => {}
        }
    }

    fn gone(&mut self, source: Source, name: &Name) {
        if let Some(names) = self.names.get_mut(&source) {
            names.remove(name);
        }
        if let Some(missing) = self.missing.get_mut(&source) {
            missing.remove(name);
        }
        match source {
            Source::Services => {
                self.open.remove(name);
                self.ends(&service::key(name));
            }
            // Its place was never its own.
            Source::Objects(Kind::Workload) if self.pods.contains_key(name) => {}
            Source::Objects(kind) => self.ends(&Key::new(kind, &name.namespace, &name.name)),
            Source::Pods => {
                self.pods.remove(name);
                self.ends(&pod::key(name));
            }
            Source::Slices => self.slice(name.clone(), None),
        }
    }

    fn service(&mut self, name: Name, object: DynamicObject) {
        let (key, known) = (service::key(&name), Known::of(&object.metadata));
        self.saw(&key, &known);
        if service::is_whole(&object) {
            self.open.remove(&name);
            self.means(key, &known, service::meaning(&object, &BTreeMap::new()));
        } else {
            self.open.insert(name.clone(), object);
            self.behind(&name);
        }
    }

    /// Reads a service without a selector, and who stands behind it, again.
    fn behind(&mut self, name: &Name) {
        let Some(object) = self.open.get(name) else { return };
        let slices = || self.slices_of.get(name).into_iter().flatten().filter_map(|s| self.slices.get(s));
        let mut ports = BTreeMap::new();
        for (port, number) in slices().flat_map(|slice| &slice.ports) {
            ports.entry(port.clone()).or_insert(*number);
        }
        let pods: BTreeSet<Name> =
            slices().flat_map(|s| s.pods.keys()).map(|pod| Name::new(&name.namespace, pod)).collect();
        let meaning = service::meaning(object, &ports);
        let known = Known::of(&object.metadata);
        self.means(service::key(name), &known, meaning);
        for pod in pods {
            self.read_pod(&pod);
        }
    }

    fn pod(&mut self, name: Name, pod: &crate::kubernetes::objects::Pod) {
        self.version = self.version.max(Known::of(&pod.metadata).version);
        match pod::seen(pod) {
            Some(seen) => {
                self.pods.insert(name.clone(), seen);
                self.read_pod(&name);
            }
            None => {
                self.pods.remove(&name);
                self.ends(&pod::key(&name));
            }
        }
    }

    fn read_pod(&mut self, name: &Name) {
        let Some(seen) = self.pods.get(name) else { return };
        let slices = self.slices_with.get(name).into_iter().flatten().filter_map(|s| self.slices.get(s));
        let mut said = pod::Said::default();
        for slice in slices {
            let service = &*slice.service.name;
            if self.open.contains_key(&slice.service) {
                said.behind.insert(service);
            }
            let Some(place) = slice.pods.get(&*name.name) else { continue };
            said.zone = said.zone.or(place.zone.as_deref());
            if let Some(hint) = place.hint(service) {
                said.hints.entry(service).or_insert(hint);
            }
        }
        let (meaning, known) = (pod::meaning(name, seen, said), seen.known.clone());
        let key = pod::key(name);
        self.saw(&key, &known);
        self.means(key, &known, meaning);
    }

    /// A slice, or the end of one.
    fn slice(&mut self, name: Name, seen: Option<slice::Seen>) {
        let old = self.slices.remove(&name);
        if let Some(of) = &old {
            if let Some(slices) = self.slices_of.get_mut(&of.service) {
                slices.remove(&name);
            }
            for pod in of.pods.keys() {
                let pod = Name::new(&name.namespace, pod);
                let empty = self.slices_with.get_mut(&pod).is_some_and(|slices| {
                    slices.remove(&name);
                    slices.is_empty()
                });
                if empty {
                    self.slices_with.remove(&pod);
                }
            }
        }
        if let Some(seen) = &seen {
            self.version = self.version.max(seen.known.version);
            self.slices_of.entry(seen.service.clone()).or_default().insert(name.clone());
            for pod in seen.pods.keys() {
                self.slices_with.entry(Name::new(&name.namespace, pod)).or_default().insert(name.clone());
            }
            self.slices.insert(name.clone(), seen.clone());
        }
        self.others(&name, old.as_ref(), seen.as_ref());
        let places = |s: &Option<slice::Seen>| s.as_ref().map(|s| s.pods.clone()).unwrap_or_default();
        let (before, after) = (places(&old), places(&seen));
        let moved = before.keys().chain(after.keys()).filter(|pod| before.get(*pod) != after.get(*pod));
        for pod in moved.collect::<BTreeSet<_>>() {
            self.read_pod(&Name::new(&name.namespace, pod));
        }
        for service in [&old, &seen].into_iter().flatten().map(|s| s.service.clone()).collect::<BTreeSet<_>>() {
            self.behind(&service);
        }
    }

    /// The endpoints of a slice that are no pods. (They are kept also where the service has a selector: nobody selects them.)
    fn others(&mut self, name: &Name, old: Option<&slice::Seen>, new: Option<&slice::Seen>) {
        let meanings = |seen: Option<&slice::Seen>| seen.map(|s| slice::meanings(name, s)).unwrap_or_default();
        let new_ones = meanings(new);
        for (key, _) in meanings(old).iter().filter(|(key, _)| new_ones.iter().all(|(k, _)| k != key)) {
            self.ends(key);
        }
        let known = new.map(|s| s.known.clone()).unwrap_or_default();
        for (key, meaning) in new_ones {
            self.means(key, &known, meaning);
        }
    }

    fn saw(&mut self, key: &Key, known: &Known) {
        self.version = self.version.max(known.version);
        self.known.insert(key.clone(), known.clone());
    }

    fn means(&mut self, key: Key, known: &Known, meaning: Meaning) {
        match meaning {
            Meaning::Document(document) => {
                self.pardon(&key);
                self.put(key, known, *document);
            }
            Meaning::Nothing => {
                self.pardon(&key);
                self.remove(&key);
            }
            // The last good one stays, unless it was of another object.
            Meaning::Refused(issues) => {
                if self.documents.get(&key).is_some_and(|stored| stored.uid != known.uid) {
                    self.remove(&key);
                }
                self.refuse(key, known, issues);
            }
        }
    }

    fn refuse(&mut self, key: Key, known: &Known, issues: Vec<Issue>) {
        let refused = Refused { known: known.clone(), issues: issues.into() };
        if self.refused.get(&key) != Some(&refused) {
            self.refused_changes += 1;
            self.refused.insert(key, refused);
        }
    }

    fn pardon(&mut self, key: &Key) {
        if self.refused.remove(key).is_some() {
            self.refused_changes += 1;
        }
    }

    fn put(&mut self, key: Key, known: &Known, document: Document) {
        let old = self.documents.get(&key).filter(|old| old.uid == known.uid);
        // A write of a status, or an event that came twice: the document is what it was.
        if old.is_some_and(|old| old.document.same_content(&document)) {
            return;
        }
        // Where Kubernetes does not count, we do, as long as we look.
        let counted = old.map_or(1, |old| old.generation + u64::from(old.document.written() != document.written()));
        let generation = known.generation.unwrap_or(counted);
        let created = OffsetDateTime::from_unix_timestamp(known.created).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let stored = Stored::new(document, known.uid.clone(), known.version, generation, created);
        let (key, stored) = (Arc::new(key), Arc::new(stored));
        self.documents.insert(key.clone(), stored.clone());
        self.changed.insert(key, Some(stored));
    }

    fn ends(&mut self, key: &Key) {
        self.known.remove(key);
        self.pardon(key);
        self.remove(key);
    }

    fn remove(&mut self, key: &Key) {
        if let Some((key, _)) = self.documents.remove_entry(key) {
            self.changed.insert(key, None);
        }
    }
}

/// A Workload is for what is no pod.
fn taken(name: &Name) -> Vec<Issue> {
    let message = format!("a pod has the name `{}` too, and is an instance as it is", name.name);
    vec![Issue::of_source("", message, Some("give the Workload another name, or remove it"))]
}
