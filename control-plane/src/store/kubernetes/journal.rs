//! Several documents at once. The API server writes one object at a time; so that all of a batch come to be, or none:
//!
//! 1. The server is asked whether it would take each of them (a dry run).
//! 2. The batch is written into a Secret, the journal. There is one for the whole mesh: who makes it has the turn.
//! 3. All objects are still what they were when the batch was worked out; if not, the journal goes and all begins anew.
//! 4. The journal is marked as committed. From here on the batch counts.
//! 5. The objects are written, and the journal goes.
//!
//! Who finds a journal whose maker does not come on ends it: a committed one is done to its end, another is thrown away. An
//! object that somebody else writes after 4 stays as they wrote it: their change came after this one.

use super::{
    PATIENCE, Shared, server,
    write::{self, Tried, Work, api},
};
use crate::{kubernetes::version, store::Error};
use futures::{StreamExt, future::join_all};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api,
    api::{DeleteParams, DynamicObject, ObjectMeta, PostParams, Preconditions},
    runtime::{
        WatchStreamExt,
        watcher::{self, DefaultBackoff, Event},
    },
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};
use weir_config::resources::{Document, Key};

const NAME: &str = "weir-journal";
const BATCH: &str = "batch";
/// The annotation that makes it count.
const COMMITTED: &str = "weir.dev/committed";
/// A maker that has not ended its journal for so long is dead, or will find that it has been ended.
const ABANDONED: Duration = Duration::from_secs(5);
/// A Secret holds a mebibyte.
const MOST: usize = 1_000_000;
/// Objects that are asked for at the same time.
const AT_ONCE: usize = 16;

/// A line of the journal.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Line {
    key: String,
    /// The document as it is to be; `None`: gone.
    put: Option<Value>,
    /// What was there: whose uid, and a hash of what it said.
    before: Option<(String, String)>,
}

/// Does all of a batch, or nothing; gives 0.
pub(super) async fn commit(shared: &Shared, works: &[Work], deadline: Instant) -> Result<Tried<u64>, Error> {
    for some in works.chunks(AT_ONCE) {
        let mut tries = Vec::with_capacity(some.len());
        for work in some {
            tries.push(write::write(shared, work, true));
        }
        for tried in join_all(tries).await {
            if let Tried::Again = tried? {
                return Ok(Tried::Again);
            }
        }
    }
    let Some(lines) = lines(shared, works).await? else { return Ok(Tried::Again) };
    let secret = secret(shared, &lines)?;
    let secrets = secrets(shared);
    let made = match secrets.create(&PostParams::default(), &secret).await {
        Ok(made) => made,
        Err(error) if server::code(&error) == Some(409) => {
            finish(shared, deadline).await?;
            return Ok(Tried::Again);
        }
        Err(error) => return Err(server::failed(&error)),
    };
    // Whoever changed something before this moment is seen now; who does it later does it after us.
    if still(shared, works, &lines).await? {
        mark(&secrets, made).await?;
        roll_forward(shared, &lines, deadline).await?;
        remove(shared).await?;
        return Ok(Tried::Done(0));
    }
    remove(shared).await?;
    Ok(Tried::Again)
}

/// Marks a journal as committed: from here on it counts. Of an answer that was lost, the journal itself tells.
async fn mark(secrets: &Api<Secret>, mut journal: Secret) -> Result<(), Error> {
    journal.metadata.annotations = Some(BTreeMap::from([(COMMITTED.into(), "true".into())]));
    let Err(error) = secrets.replace(NAME, &PostParams::default(), &journal).await else { return Ok(()) };
    match secrets.get_opt(NAME).await {
        Ok(Some(found)) if is_committed(&found) && found.metadata.uid == journal.metadata.uid => Ok(()),
        _ => Err(server::unknown(&error)),
    }
}

/// The lines of a batch; `None`: an object is not as it was known.
async fn lines(shared: &Shared, works: &[Work]) -> Result<Option<Vec<Line>>, Error> {
    let mut lines = Vec::with_capacity(works.len());
    for (work, found) in works.iter().zip(all_live(shared, works).await?) {
        let same = match (&work.known, &found) {
            (None, None) => true,
            (Some(known), Some(found)) => {
                known.version == version(&found.metadata) && found.metadata.uid.as_deref() == Some(&*known.uid)
            }
            _ => false,
        };
        if !same {
            return Ok(None);
        }
        let before = found.map(|object| (object.metadata.uid.clone().unwrap_or_default(), content(&object)));
        lines.push(Line { key: work.key.to_string(), put: work.put.as_ref().map(|d| d.to_json()), before });
    }
    Ok(Some(lines))
}

/// Whether all objects still say what the lines say they said.
async fn still(shared: &Shared, works: &[Work], lines: &[Line]) -> Result<bool, Error> {
    for (line, found) in lines.iter().zip(all_live(shared, works).await?) {
        let now = found.map(|object| (object.metadata.uid.clone().unwrap_or_default(), content(&object)));
        if now != line.before {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn all_live(shared: &Shared, works: &[Work]) -> Result<Vec<Option<DynamicObject>>, Error> {
    let mut found = Vec::with_capacity(works.len());
    for some in works.chunks(AT_ONCE) {
        let mut calls = Vec::with_capacity(some.len());
        for work in some {
            calls.push(live(shared, &work.key));
        }
        for one in join_all(calls).await {
            found.push(one?);
        }
    }
    Ok(found)
}

async fn live(shared: &Shared, key: &Key) -> Result<Option<DynamicObject>, Error> {
    api(shared, key).get_opt(&key.name).await.map_err(|e| server::failed(&e))
}

/// A hash of what an object says, whatever the server and others keep in it.
fn content(object: &DynamicObject) -> String {
    let said = json!([object.metadata.labels, object.metadata.annotations, object.data.get("spec")]);
    blake3::hash(said.to_string().as_bytes()).to_hex().to_string()
}

/// Writes what is not written yet. Can be done again at any time.
async fn roll_forward(shared: &Shared, lines: &[Line], deadline: Instant) -> Result<(), Error> {
    for line in lines {
        let Ok(key) = line.key.parse::<Key>() else { continue };
        let document = match &line.put {
            Some(value) => match Document::from_json(value) {
                Ok(document) => Some(document),
                // Written by a newer version: that one ends it.
                Err(_) => {
                    return Err(server::error(
                        "a change of a newer version of Weir is under way",
                        "update this one, or wait",
                    ));
                }
            },
            None => None,
        };
        while !put_or_delete(shared, &key, document.as_ref(), line.before.as_ref()).await? {
            if Instant::now() > deadline {
                return Err(server::error("others write at the same time, again and again", "repeat the change"));
            }
        }
    }
    Ok(())
}

/// One line; `false`: somebody wrote at the same moment.
async fn put_or_delete(
    shared: &Shared,
    key: &Key,
    put: Option<&Document>,
    before: Option<&(String, String)>,
) -> Result<bool, Error> {
    let (api, found) = (api(shared, key), live(shared, key).await?);
    let uid = found.as_ref().and_then(|o| o.metadata.uid.clone()).unwrap_or_default();
    let sent = match (put, found) {
        (None, None) => return Ok(true),
        // Another object of the same name has come since.
        (None, Some(_)) if before.is_none_or(|(old, _)| *old != uid) => return Ok(true),
        (None, Some(found)) => {
            let preconditions = Preconditions { uid: Some(uid), resource_version: found.metadata.resource_version };
            let how = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
            api.delete(&key.name, &how).await.map(drop)
        }
        // It was there, and somebody has deleted it since.
        (Some(_), None) if before.is_some() => return Ok(true),
        (Some(document), None) => {
            let object = write::object_of(document);
            api.create(&PostParams { field_manager: Some(write::MANAGER.into()), ..PostParams::default() }, &object)
                .await
                .map(drop)
        }
        (Some(document), Some(found)) => {
            // Written already, by us, or by somebody after us.
            if before.is_none_or(|(old, said)| *old != uid || *said != content(&found)) {
                return Ok(true);
            }
            let object = write::over(document, found);
            let how = PostParams { field_manager: Some(write::MANAGER.into()), ..PostParams::default() };
            api.replace(&key.name, &how, &object).await.map(drop)
        }
    };
    match sent {
        Ok(()) => Ok(true),
        Err(error) if matches!(server::code(&error), Some(404 | 409)) => Ok(false),
        Err(error) => Err(server::of_document(key, &error)),
    }
}

/// Ends a journal that is there, if its maker does not.
pub(super) async fn finish(shared: &Shared, deadline: Instant) -> Result<(), Error> {
    let (begun, secrets) = (Instant::now(), secrets(shared));
    let mut first = None;
    loop {
        let found = secrets.get_opt(NAME).await.map_err(|e| server::failed(&e))?;
        let Some(found) = found else { return Ok(()) };
        let uid = found.metadata.uid.clone();
        if *first.get_or_insert_with(|| uid.clone()) != uid {
            // That one was ended; this is another's turn.
            return Ok(());
        }
        if begun.elapsed() >= ABANDONED {
            return end(shared, found, deadline).await;
        }
        if Instant::now() > deadline {
            return Err(server::error("another change is under way", "repeat the change"));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn end(shared: &Shared, journal: Secret, deadline: Instant) -> Result<(), Error> {
    if is_committed(&journal) {
        let bytes = journal.data.as_ref().and_then(|data| data.get(BATCH)).map(|b| b.0.as_slice()).unwrap_or_default();
        let lines: Vec<Line> = serde_json::from_slice(bytes).map_err(|e| {
            server::error(&format!("the journal cannot be read: {e}"), "delete the Secret `weir-journal`")
        })?;
        tracing::info!(documents = lines.len(), "a change that was interrupted is done to its end");
        roll_forward(shared, &lines, deadline).await?;
    }
    // Only this very one, as it was: its maker may have committed it in the meantime.
    let preconditions =
        Preconditions { uid: journal.metadata.uid, resource_version: journal.metadata.resource_version };
    let how = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    match secrets(shared).delete(NAME, &how).await {
        Err(error) if !matches!(server::code(&error), Some(404 | 409)) => Err(server::failed(&error)),
        _ => Ok(()),
    }
}

/// Ends journals whose makers have died, as long as this runs.
pub(super) async fn guard(shared: Arc<Shared>) {
    let config = watcher::Config::default().fields(&format!("metadata.name={NAME}"));
    let events = watcher::watcher(secrets(&shared), config).backoff(DefaultBackoff::default());
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        if let Ok(Event::Apply(_) | Event::InitApply(_)) = event
            && let Err(error) = finish(&shared, Instant::now() + PATIENCE).await
        {
            tracing::warn!(%error, "a change that was interrupted cannot be ended yet");
        }
    }
}

async fn remove(shared: &Shared) -> Result<(), Error> {
    match secrets(shared).delete(NAME, &DeleteParams::default()).await {
        Err(error) if server::code(&error) != Some(404) => Err(server::failed(&error)),
        _ => Ok(()),
    }
}

fn secrets(shared: &Shared) -> Api<Secret> {
    Api::namespaced(shared.client.clone(), &shared.namespace)
}

fn is_committed(journal: &Secret) -> bool {
    journal.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(COMMITTED))
}

fn secret(shared: &Shared, lines: &[Line]) -> Result<Secret, Error> {
    let bytes = serde_json::to_vec(lines).map_err(|e| server::error(&e.to_string(), ""))?;
    if bytes.len() > MOST {
        return Err(Error::Limit {
            what: "the size in bytes of one change in Kubernetes".into(),
            would_be: bytes.len() as u64,
            limit: MOST as u64,
            remedy: "make several changes of it, or use `kubectl apply`",
        });
    }
    Ok(Secret {
        metadata: ObjectMeta {
            name: Some(NAME.into()),
            namespace: Some(shared.namespace.clone()),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([(BATCH.into(), ByteString(bytes))])),
        type_: Some("weir.dev/journal".into()),
        ..Secret::default()
    })
}
