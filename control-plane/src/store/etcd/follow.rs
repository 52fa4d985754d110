//! Reading: everything once, and then what changes, from where the last answer ended. When etcd has forgotten what came
//! since (compaction), everything again. What is in use stays until something newer is complete.

use super::{
    Known, PATIENCE, Shared,
    client::MAX_ANSWER,
    layout::{FORMAT, Head, Line},
    wire::{self, Event, RangeRequest, WatchCreateRequest, WatchRequest, WatchResponse},
};
use crate::store::{Error, Snapshot, record};
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

/// Documents of one page: first, and at most.
const FIRST_PAGE: i64 = 32;
const LARGEST_PAGE: i64 = 2_000;
/// What a page should have.
const PAGE_BYTES: usize = 4 << 20;
/// Events that are put together from fragments; above, everything is read again.
const MAX_EVENTS_BYTES: usize = 64 << 20;
const FIRST_RETRY: Duration = Duration::from_millis(50);
const SLOWEST_RETRY: Duration = Duration::from_secs(2);
/// How long the watch may take to begin.
const BEGIN: Duration = Duration::from_secs(3);

/// Why a watch has ended.
enum Ended {
    /// etcd does not know any more what came since.
    Compacted,
    /// In words.
    Broken(String),
}

impl Shared {
    /// Reads everything, of one moment; the revision from which to follow.
    pub(super) async fn load(&self, deadline: Instant) -> Result<i64, Error> {
        loop {
            if let Some(from) = self.load_once(deadline).await? {
                return Ok(from);
            }
        }
    }

    /// `None`: etcd forgot that moment while it was read.
    async fn load_once(&self, deadline: Instant) -> Result<Option<i64>, Error> {
        let request = RangeRequest { key: self.layout.head(), ..RangeRequest::default() };
        let found = self.range(request, deadline).await?;
        let revision = found.header.map_or(0, |h| h.revision);
        let (head, written) = match found.kvs.into_iter().next() {
            Some(kv) => (self.head(&kv.value)?, kv.mod_revision),
            None => (Head::new(), 0),
        };
        let mut documents = BTreeMap::new();
        let Some(lines) = self.lines(revision, deadline).await? else { return Ok(None) };
        for line in lines {
            let write = line.write().map_err(|why| self.damaged(why))?;
            documents.extend(write.stored.map(|stored| (write.key, stored)));
        }
        let mut snapshot = Snapshot::new(head.version, documents);
        if head.pending.is_some() {
            // They may be in place in part: the parts say what all of them are.
            let Some(lines) = self.staged(&head, revision, deadline).await? else { return Ok(None) };
            let writes = lines.iter().map(Line::write).collect::<Result<Vec<_>, _>>();
            snapshot = snapshot.after(head.version, &writes.map_err(|why| self.damaged(why))?);
        }
        if let Some((key, _)) = snapshot.iter().find(|(_, stored)| stored.resource_version > head.version) {
            return Err(self.damaged(format!("{} is newer than the store", record::name(key))));
        }
        self.learn(Known { head, revision: written, snapshot: Arc::new(snapshot) });
        Ok(Some(revision + 1))
    }

    /// All documents at a revision, page by page.
    async fn lines(&self, revision: i64, deadline: Instant) -> Result<Option<Vec<Line>>, Error> {
        let all = RangeRequest { revision, ..RangeRequest::prefix(&self.layout.documents()) };
        let (mut from, mut limit) = (all.key.clone(), FIRST_PAGE);
        let mut lines: Vec<Line> = Vec::new();
        loop {
            let request = RangeRequest { key: from.clone(), limit, ..all.clone() };
            let page: wire::RangeResponse = match self.again(wire::RANGE, request, deadline).await {
                Ok(page) => page,
                Err(status) if status.code() == Code::OutOfRange && status.message().contains("compacted") => {
                    return Ok(None);
                }
                // After many small documents a page of large ones.
                Err(status) if status.code() == Code::OutOfRange && limit > FIRST_PAGE => {
                    limit = FIRST_PAGE;
                    continue;
                }
                Err(status) => return Err(self.refused(&status)),
            };
            let bytes: usize = page.kvs.iter().map(|kv| kv.value.len() + kv.key.len()).sum();
            let each = (bytes / page.kvs.len().max(1)).max(1);
            limit = i64::try_from(PAGE_BYTES / each).unwrap_or(FIRST_PAGE).clamp(FIRST_PAGE, LARGEST_PAGE);
            if let Some(last) = page.kvs.last() {
                from = [&last.key[..], &[0]].concat();
            }
            lines.extend(page.kvs.into_iter().filter_map(|kv| self.layout.line(kv, false)));
            if !page.more {
                return Ok(Some(lines));
            }
        }
    }

    fn head(&self, bytes: &[u8]) -> Result<Head, Error> {
        let head = Head::decode(bytes).map_err(|why| self.damaged(why))?;
        if head.format > FORMAT {
            return Err(Error::Newer { path: PathBuf::from(self.client.name()), found: head.format, known: FORMAT });
        }
        Ok(head)
    }

    pub(super) fn damaged(&self, why: String) -> Error {
        Error::Corrupt { path: PathBuf::from(self.client.name()), why }
    }

    /// Takes what is newer than what is known, and shows it to readers.
    pub(super) fn learn(&self, new: Known) {
        let mut known = self.known.lock();
        if new.revision <= known.revision {
            return;
        }
        if new.snapshot.version() < known.snapshot.version() {
            tracing::error!(
                server = self.client.name(),
                kept = known.snapshot.version(),
                found = new.snapshot.version(),
                "etcd has gone back in time; what was known stays in use: restart the control planes to take it"
            );
            return;
        }
        let differs = new.snapshot.version() != known.snapshot.version();
        let revision = new.revision;
        *known = new;
        if differs {
            self.published.send_replace(known.snapshot.clone());
        }
        drop(known);
        self.revision.send_replace(revision);
    }

    /// Follows for ever.
    pub(super) async fn follow(self: Arc<Self>, mut from: i64) {
        let client = self.client.another();
        let mut wait = FIRST_RETRY;
        loop {
            let began = Instant::now();
            let ended = self.watch(&client, &mut from).await;
            self.metrics.store_connected.set(0);
            let why = match ended {
                Ended::Compacted => {
                    tracing::info!("etcd has compacted what came since; everything is read again");
                    match self.load(Instant::now() + PATIENCE).await {
                        Ok(next) => {
                            from = next;
                            continue;
                        }
                        Err(error) => error.to_string(),
                    }
                }
                Ended::Broken(why) => why,
            };
            if began.elapsed() > SLOWEST_RETRY {
                wait = FIRST_RETRY;
            }
            tracing::warn!(%why, ?wait, "etcd is not followed; what is known stays in use");
            tokio::time::sleep(wait.mul_f64(0.5 + rand::random::<f64>())).await;
            wait = (wait * 2).min(SLOWEST_RETRY);
            client.leave();
        }
    }

    /// One watch, to its end. `from`: where the next one begins.
    async fn watch(&self, client: &super::Client, from: &mut i64) -> Ended {
        let (sender, requests) = tokio::sync::mpsc::channel(1);
        let create = WatchCreateRequest {
            key: self.layout.documents(),
            range_end: self.layout.after_head(),
            start_revision: *from,
            fragment: true,
        };
        // There is room for one: this does not wait.
        let _ = sender.send(WatchRequest { create: Some(create) }).await;
        let broken = |status: &tonic::Status| Ended::Broken(status.message().to_owned());
        let mut answers = match client.stream::<_, WatchResponse>(wire::WATCH, ReceiverStream::new(requests)).await {
            Ok(answers) => answers,
            Err(status) => return broken(&status),
        };
        let mut begun = false;
        let mut events: Vec<Event> = Vec::new();
        let mut bytes = 0;
        loop {
            let next = answers.message();
            let next = match begun {
                true => next.await,
                false => match tokio::time::timeout(BEGIN, next).await {
                    Ok(next) => next,
                    Err(_) => return Ended::Broken(format!("the watch did not begin within {BEGIN:?}")),
                },
            };
            let answer = match next {
                Ok(Some(answer)) => answer,
                Ok(None) => return Ended::Broken("etcd ended the watch".into()),
                Err(status) => return broken(&status),
            };
            if answer.compact_revision > 0 {
                return Ended::Compacted;
            }
            if answer.canceled {
                return Ended::Broken(answer.cancel_reason);
            }
            begun = true;
            self.metrics.store_connected.set(1);
            bytes += answer.events.iter().filter_map(|e| e.kv.as_ref()).map(|kv| kv.value.len()).sum::<usize>();
            events.extend(answer.events);
            if bytes > MAX_EVENTS_BYTES.min(MAX_ANSWER) {
                return Ended::Compacted;
            }
            if answer.fragment {
                continue;
            }
            bytes = 0;
            let last = answer.header.map_or(0, |h| h.revision);
            if let Err(error) = self.take(std::mem::take(&mut events)).await {
                tracing::error!(%error, "a change in etcd cannot be taken; everything is read again");
                return Ended::Compacted;
            }
            *from = (*from).max(last + 1);
        }
    }

    /// Takes the events of whole revisions, in their order.
    async fn take(&self, events: Vec<Event>) -> Result<(), Error> {
        let mut revisions: BTreeMap<i64, (Option<Vec<u8>>, Vec<Line>)> = BTreeMap::new();
        let head = self.layout.head();
        for event in events {
            let Some(kv) = event.kv else { continue };
            let gone = event.kind == 1;
            let (head_now, lines) = revisions.entry(kv.mod_revision).or_default();
            if kv.key != head {
                lines.extend(self.layout.line(kv, gone));
            } else if gone {
                return Err(self.damaged("`head` has been deleted".into()));
            } else {
                *head_now = Some(kv.value);
            }
        }
        for (revision, (head, mut lines)) in revisions {
            // Documents alone: they are put in place after the transaction that counts.
            let Some(head) = head else { continue };
            let head = self.head(&head)?;
            let known = self.known.lock().clone();
            if revision <= known.revision {
                continue;
            }
            let snapshot = match head.version.checked_sub(known.head.version) {
                Some(0) => known.snapshot,
                Some(1) => {
                    if head.pending.is_some() {
                        let staged = self.staged(&head, revision, Instant::now() + PATIENCE).await?;
                        lines = staged.ok_or_else(|| self.damaged("the parts of a change are gone".into()))?;
                    }
                    let writes = lines.iter().map(Line::write).collect::<Result<Vec<_>, _>>();
                    let writes = writes.map_err(|why| self.damaged(why))?;
                    Arc::new(known.snapshot.after(head.version, &writes))
                }
                _ => return Err(self.damaged(format!("version {} after {}", head.version, known.head.version))),
            };
            self.learn(Known { head, revision, snapshot });
        }
        Ok(())
    }
}
