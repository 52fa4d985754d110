//! The key-value space: a Secret for each entry, in our namespace. Its name is a hash, since entries are named more freely
//! than Secrets; the entry's own name is an annotation.

use super::{Shared, server};
use crate::store::{Error, MetaExpect, meta_room};
use futures::StreamExt;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api,
    api::{DeleteParams, ListParams, ObjectMeta, PostParams, Preconditions},
    core::PartialObjectMeta,
    runtime::{
        WatchStreamExt,
        watcher::{self, DefaultBackoff, Event},
    },
};
use std::{collections::BTreeMap, sync::Arc};
use tokio::sync::watch;

/// The label of these Secrets.
const LABEL: &str = "weir.dev/store";
const ENTRY: &str = "entry";
/// The annotation with an entry's name.
const NAME: &str = "weir.dev/entry";
const VALUE: &str = "value";
/// As many others may be quicker, one after the other, where nothing is expected.
const TURNS: u32 = 16;

/// What must hold, for a task of its own.
pub(super) enum Expected {
    Any,
    Absent,
    Value(Vec<u8>),
}

impl From<MetaExpect<'_>> for Expected {
    fn from(expect: MetaExpect<'_>) -> Self {
        match expect {
            MetaExpect::Any => Self::Any,
            MetaExpect::Absent => Self::Absent,
            MetaExpect::Value(value) => Self::Value(value.to_vec()),
        }
    }
}

impl Expected {
    fn as_ref(&self) -> MetaExpect<'_> {
        match self {
            Self::Any => MetaExpect::Any,
            Self::Absent => MetaExpect::Absent,
            Self::Value(value) => MetaExpect::Value(value),
        }
    }
}

/// The value of an entry.
pub(super) async fn read(shared: &Shared, name: &str) -> Result<Option<Vec<u8>>, Error> {
    Ok(find(shared, name).await?.map(|secret| value(&secret)))
}

/// Writes an entry, or removes it.
pub(super) async fn write(shared: &Shared, name: &str, expect: &Expected, wanted: Option<&[u8]>) -> Result<(), Error> {
    for _ in 0..TURNS {
        let found = find(shared, name).await?;
        expect.as_ref().check(name, found.as_ref().map(value).as_deref())?;
        let (api, id) = (secrets(shared), secret_name(name));
        let sent = match (wanted, found) {
            (None, None) => return Ok(()),
            (None, Some(found)) => {
                let preconditions =
                    Preconditions { uid: found.metadata.uid, resource_version: found.metadata.resource_version };
                let how = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
                api.delete(&id, &how).await.map(drop)
            }
            (Some(wanted), Some(mut found)) => {
                found.data = Some(BTreeMap::from([(VALUE.into(), ByteString(wanted.to_vec()))]));
                api.replace(&id, &PostParams::default(), &found).await.map(drop)
            }
            (Some(wanted), None) => {
                meta_room(names(shared, "").await?.len())?;
                api.create(&PostParams::default(), &secret(shared, name, wanted)).await.map(drop)
            }
        };
        match sent {
            Ok(()) => return Ok(()),
            // Somebody was quicker; what is expected is looked at again.
            Err(error) if matches!(server::code(&error), Some(404 | 409)) => {
                missing_namespace(shared, &error)?;
            }
            Err(error) => return Err(server::unknown(&error)),
        }
    }
    Err(Error::MetaConflict { name: name.to_owned() })
}

/// A Secret cannot be made where there is no namespace; to try again does not help.
fn missing_namespace(shared: &Shared, error: &kube::Error) -> Result<(), Error> {
    let text = error.to_string();
    if text.contains("namespaces") && text.contains("not found") {
        let why = format!("the namespace `{}` does not exist", shared.namespace);
        return Err(server::error(&why, "create it, or name another with --kubernetes-namespace"));
    }
    Ok(())
}

/// The names of all entries that begin so, sorted.
pub(super) async fn names(shared: &Shared, prefix: &str) -> Result<Vec<String>, Error> {
    let all = ListParams::default().labels(&format!("{LABEL}={ENTRY}"));
    let found = secrets(shared).list_metadata(&all).await.map_err(|e| server::failed(&e))?;
    let name = |metadata: ObjectMeta| metadata.annotations.and_then(|mut all| all.remove(NAME));
    let mut names: Vec<_> = found.items.into_iter().filter_map(|secret| name(secret.metadata)).collect();
    names.retain(|name| name.starts_with(prefix));
    names.sort();
    Ok(names)
}

/// Tells of each change of an entry, as long as somebody listens.
pub(super) async fn follow(shared: Arc<Shared>, name: String, told: watch::Sender<u64>) {
    let config = watcher::Config::default().fields(&format!("metadata.name={}", secret_name(&name)));
    // What is in it is not needed.
    let api: Api<PartialObjectMeta<Secret>> = Api::namespaced(shared.client.clone(), &shared.namespace);
    let events = watcher::watcher(api, config).backoff(DefaultBackoff::default());
    let mut events = std::pin::pin!(events);
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            () = told.closed() => return,
        };
        match event {
            Some(Ok(Event::Apply(_) | Event::Delete(_) | Event::InitDone)) => told.send_modify(|n| *n += 1),
            Some(Ok(Event::Init | Event::InitApply(_))) => {}
            Some(Err(error)) => tracing::debug!(%error, name, "an entry is not followed"),
            None => return,
        }
    }
}

async fn find(shared: &Shared, name: &str) -> Result<Option<Secret>, Error> {
    secrets(shared).get_opt(&secret_name(name)).await.map_err(|e| server::failed(&e))
}

fn value(secret: &Secret) -> Vec<u8> {
    secret.data.as_ref().and_then(|data| data.get(VALUE)).map(|bytes| bytes.0.clone()).unwrap_or_default()
}

fn secret(shared: &Shared, name: &str, value: &[u8]) -> Secret {
    Secret {
        metadata: ObjectMeta {
            name: Some(secret_name(name)),
            namespace: Some(shared.namespace.clone()),
            labels: Some(BTreeMap::from([(LABEL.into(), ENTRY.into())])),
            annotations: Some(BTreeMap::from([(NAME.into(), name.to_owned())])),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([(VALUE.into(), ByteString(value.to_vec()))])),
        ..Secret::default()
    }
}

fn secret_name(name: &str) -> String {
    format!("weir-store-{}", &blake3::hash(name.as_bytes()).to_hex()[..32])
}

fn secrets(shared: &Shared) -> Api<Secret> {
    Api::namespaced(shared.client.clone(), &shared.namespace)
}
