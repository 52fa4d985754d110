//! Documents to the API server: one by a conditional write, several by the [`journal`].

use super::{Shared, journal, server};
use crate::{
    kubernetes::{self, FROM, Known, object, pod::BEHIND},
    store::{Applied, Batch, Change, Error, Snapshot, Stored, ledger, snapshot::Write},
};
use k8s_openapi::api::core::v1::Service;
use kube::{
    Api,
    api::{ApiResource, DeleteParams, DynamicObject, PostParams, Preconditions},
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Instant};
use time::OffsetDateTime;
use tokio::time::{Duration, timeout};
use weir_config::resources::{Document, Issue, Key, Kind};

/// Who wrote a field, for `kubectl get --show-managed-fields`.
pub(super) const MANAGER: &str = "weir";
/// What is not known yet comes within milliseconds; a little later it is asked for again.
const NEWS: Duration = Duration::from_millis(500);

/// One write of a transaction.
pub(super) struct Work {
    pub(super) key: Arc<Key>,
    /// As it is to be; `None`: gone.
    pub(super) put: Option<Arc<Document>>,
    /// What the object was when the transaction was worked out; `None`: not there.
    pub(super) known: Option<Known>,
}

/// What became of a try.
pub(super) enum Tried<T> {
    Done(T),
    /// Something was not as it was known to be: it is to be worked out anew.
    Again,
}

/// Does all of a batch, or nothing.
pub(super) async fn apply(shared: &Shared, batch: &Batch, deadline: Instant) -> Result<Applied, Error> {
    let mut draft = shared.followed.draft();
    loop {
        draft.borrow_and_update();
        match attempt(shared, batch, deadline).await? {
            Tried::Done(applied) => return Ok(applied),
            Tried::Again if Instant::now() < deadline => {
                shared.metrics.store_conflicts.inc();
                let _ = timeout(NEWS, draft.changed()).await;
            }
            Tried::Again => {
                return Err(server::error("others wrote at the same time, again and again", "repeat the change"));
            }
        }
    }
}

async fn attempt(shared: &Shared, batch: &Batch, deadline: Instant) -> Result<Tried<Applied>, Error> {
    let keys: Vec<Key> = batch.changes.iter().map(Change::key).collect();
    let (before, known) = shared.followed.view(keys.iter());
    let planned = ledger::plan_where(&before, batch, OffsetDateTime::now_utc(), same);
    let plan = match planned {
        Ok(plan) if !plan.writes.is_empty() => plan,
        // What was refused, or would change nothing, may be so only by what we have not heard of yet.
        other => {
            let plan = other.map(|plan| plan.applied);
            return if are_current(shared, &keys, &known, &before).await? {
                plan.map(Tried::Done)
            } else {
                Ok(Tried::Again)
            };
        }
    };
    let mut works = Vec::with_capacity(plan.writes.len());
    for Write { key, stored } in plan.writes {
        not_a_pods(&key, before.find(&key))?;
        let known = keys.iter().position(|k| *k == *key).and_then(|at| known[at].clone());
        works.push(Work { key, put: stored.map(|stored| stored.document.clone()), known });
    }
    // What is referred to comes first and leaves last.
    works.sort_by_key(|work| {
        (work.put.is_none(), if work.put.is_some() { rank(work) } else { usize::MAX - rank(work) })
    });
    if batch.dry_run {
        for work in &works {
            if let Tried::Again = write(shared, work, true).await? {
                return Ok(Tried::Again);
            }
        }
        return Ok(Tried::Done(plan.applied));
    }
    let held = shared.followed.hold();
    let written = match &works[..] {
        [one] => write(shared, one, false).await?,
        several => journal::commit(shared, several, deadline).await?,
    };
    let Tried::Done(version) = written else { return Ok(Tried::Again) };
    let seen = see(shared, &works, version, deadline).await;
    drop(held);
    Ok(Tried::Done(told(plan.applied, &seen)))
}

fn rank(work: &Work) -> usize {
    Kind::ALL.iter().position(|kind| *kind == work.key.kind).unwrap_or(usize::MAX / 2)
}

/// What the documents have become: what was worked out, with what the server made of it.
fn told(mut applied: Applied, seen: &Snapshot) -> Applied {
    applied.version = seen.version();
    for outcome in &mut applied.outcomes {
        if let Some(stored) = seen.find(&outcome.key).filter(|_| outcome.action != crate::store::Action::Deleted) {
            outcome.stored = Some(stored.clone());
        }
    }
    applied
}

/// Waits until what was written is known here. It is written all the same if that takes too long.
async fn see(shared: &Shared, works: &[Work], version: u64, deadline: Instant) -> Arc<Snapshot> {
    let mut draft = shared.followed.draft();
    loop {
        draft.borrow_and_update();
        let (snapshot, known) = shared.followed.view(works.iter().map(|work| &*work.key));
        let there = works.iter().zip(&known).all(|(work, now)| match (&work.put, now) {
            (Some(_), Some(now)) if works.len() == 1 => now.version >= version,
            // Of several, what was skipped for a later write of somebody else is seen by that.
            (Some(_), Some(now)) => work.known.as_ref().is_none_or(|before| now.version > before.version),
            (Some(_), None) => false,
            (None, Some(now)) => work.known.as_ref().is_some_and(|before| before.uid != now.uid),
            (None, None) => true,
        });
        if there || timeout(deadline.saturating_duration_since(Instant::now()), draft.changed()).await.is_err() {
            return snapshot;
        }
    }
}

/// Whether what is known of these objects is what the server has.
async fn are_current(shared: &Shared, keys: &[Key], known: &[Option<Known>], before: &Snapshot) -> Result<bool, Error> {
    for (key, known) in keys.iter().zip(known) {
        if before.find(key).is_some_and(|stored| is_a_pods(stored)) {
            continue;
        }
        let found = match api(shared, key).get_metadata_opt(&key.name).await {
            Ok(found) => found,
            // The server does not know the kind.
            Err(error) if server::code(&error) == Some(404) => None,
            Err(error) => return Err(server::failed(&error)),
        };
        let found = found.map(|object| Known::of(&object.metadata));
        let same = |a: &Known, b: &Known| a.uid == b.uid && a.version == b.version;
        match (known, &found) {
            (None, None) => {}
            (Some(known), Some(found)) if same(known, found) => {}
            _ => return Ok(false),
        }
    }
    Ok(true)
}

/// One write, if the object is as it is known to be. Gives the version that it made; of a deletion, 0.
pub(super) async fn write(shared: &Shared, work: &Work, dry_run: bool) -> Result<Tried<u64>, Error> {
    let api = api(shared, &work.key);
    let sent = match (&work.put, &work.known) {
        (None, None) => return Ok(Tried::Done(0)),
        (None, Some(known)) => {
            let preconditions =
                Preconditions { uid: Some(known.uid.to_string()), resource_version: Some(known.version.to_string()) };
            let how = DeleteParams { dry_run, preconditions: Some(preconditions), ..DeleteParams::default() };
            api.delete(&work.key.name, &how).await.map(|_| 0)
        }
        (Some(document), None) => {
            api.create(&posting(dry_run), &object_of(document)).await.map(|made| kubernetes::version(&made.metadata))
        }
        (Some(document), Some(known)) => {
            let live = api.get_opt(&work.key.name).await.map_err(|e| server::failed(&e))?;
            let Some(live) = live.filter(|l| Known::of(&l.metadata) == *known) else { return Ok(Tried::Again) };
            let object = over(document, live);
            api.replace(&work.key.name, &posting(dry_run), &object)
                .await
                .map(|made| kubernetes::version(&made.metadata))
        }
    };
    match sent {
        Ok(version) => Ok(Tried::Done(version)),
        Err(error) => match (server::code(&error), &work.put) {
            (Some(409), _) | (Some(404), None) => Ok(Tried::Again),
            _ => Err(server::of_document(&work.key, &error)),
        },
    }
}

fn posting(dry_run: bool) -> PostParams {
    PostParams { dry_run, field_manager: Some(MANAGER.into()) }
}

/// The objects of a document's kind, where the document is.
pub(super) fn api(shared: &Shared, key: &Key) -> Api<DynamicObject> {
    let resource = match key.kind {
        Kind::Service => ApiResource::erase::<Service>(&()),
        kind => object::resource(kind),
    };
    if key.namespace.is_empty() {
        Api::all_with(shared.client.clone(), &resource)
    } else {
        Api::namespaced_with(shared.client.clone(), &key.namespace, &resource)
    }
}

/// A document as a new object.
pub(super) fn object_of(document: &Document) -> DynamicObject {
    let resource = match document.kind() {
        Kind::Service => ApiResource::erase::<Service>(&()),
        kind => object::resource(kind),
    };
    let mut object = DynamicObject::new(document.name(), &resource);
    if !document.namespace().is_empty() {
        object.metadata.namespace = Some(document.namespace().into());
    }
    let metadata = document.metadata();
    object.metadata.labels = Some(metadata.labels.clone());
    object.metadata.annotations = Some(metadata.annotations.clone());
    object.data(json!({ "spec": document.written() }))
}

/// A document over the object that is there. What others keep in the object stays: owners, finalizers, and what Kubernetes
/// has given a Service.
pub(super) fn over(document: &Document, mut live: DynamicObject) -> DynamicObject {
    let asked = object_of(document);
    live.metadata.labels = asked.metadata.labels;
    live.metadata.annotations = asked.metadata.annotations;
    live.metadata.managed_fields = None;
    let mut spec = document.written().clone();
    if let (Kind::Service, Value::Object(spec), Some(Value::Object(there))) =
        (document.kind(), &mut spec, live.data.get("spec"))
    {
        for (field, value) in there.iter().filter(|(field, _)| !["selector", "ports"].contains(&field.as_str())) {
            spec.entry(field.clone()).or_insert_with(|| value.clone());
        }
    }
    if let Value::Object(data) = &mut live.data {
        data.insert("spec".into(), spec);
    }
    live
}

/// Whether a document that is there says what is asked for. A Service of the cluster says more than was written: it has an
/// address, and other words for what was left out.
fn same(there: &Document, asked: &Document) -> bool {
    let (Document::Service(old), Document::Service(new)) = (there, asked) else { return there.same_content(asked) };
    let (a, b) = (&old.metadata, &new.metadata);
    let unsaid = |field: &String| ["selector", "ports", "clusterIP", "clusterIPs"].contains(&field.as_str());
    let only_known = asked.written().as_object().is_some_and(|spec| spec.keys().all(unsaid));
    only_known
        && a.labels == b.labels
        && a.annotations == b.annotations
        && (old.spec.selector == new.spec.selector
            || (new.spec.selector.is_empty() && old.spec.selector.keys().all(|label| label.starts_with(BEHIND))))
        && old.spec.ports == new.spec.ports
        && (new.spec.addresses.is_empty() || old.spec.addresses == new.spec.addresses)
}

fn is_a_pods(stored: &Stored) -> bool {
    stored.document.metadata().annotations.contains_key(FROM)
}

/// What a pod or an EndpointSlice says is changed there.
fn not_a_pods(key: &Key, there: Option<&Arc<Stored>>) -> Result<(), Error> {
    let Some(stored) = there.filter(|stored| is_a_pods(stored)) else { return Ok(()) };
    let from = stored.document.metadata().annotations.get(FROM).map(String::as_str).unwrap_or_default();
    let issue = Issue::of_source("", format!("it is a {from} of the cluster"), Some("change that, with kubectl"));
    Err(Error::Invalid(vec![Issue { field: key.to_string(), ..issue }]))
}
