//! Writing: a small batch in one transaction of etcd, a large one in parts that count by one.
//!
//! ```text
//! head{5} ── small: documents + head{6} ────────────────────────────> head{6}
//!        └─ large: parts, then head{6, pending} ── roll forward ───> head{6}
//! ```
//! A writer that dies before `head` moves has changed nothing; its parts are swept by the next transaction. One that dies
//! after it has changed everything: readers take the documents from the parts, and the next writer puts them in place.

use super::{
    Known, PAUSE, Shared,
    client::passes,
    layout::{Head, Line, MAX_BYTES, MAX_OPS, Part, groups},
    wire::{self, Compare, Op, PutRequest, PutResponse, RangeRequest, TxnRequest, TxnResponse},
};
use crate::store::{Error, Snapshot, snapshot::Write};
use prost::Message as _;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// How long the follower may take to hear of what others wrote, before everything is read again.
const HEAR: Duration = Duration::from_secs(2);

/// What became of an attempt to move `head`.
enum Moved {
    /// By us, at this revision.
    Ours(i64),
    /// Not by us; somebody else moved it.
    Lost,
}

impl Shared {
    /// Commits what was worked out on `known`; `false`: others were quicker, and what they wrote is known now.
    pub(super) async fn commit(
        &self,
        known: Known,
        writes: Vec<Write>,
        next: Arc<Snapshot>,
        deadline: Instant,
    ) -> Result<bool, Error> {
        let transaction = format!("{:032x}", rand::random::<u128>());
        let lines = writes.iter().map(Line::new).collect::<Result<Vec<_>, _>>();
        let lines = lines.map_err(|why| self.error(&why, "see the log"))?;
        let fits = lines.len() <= MAX_OPS && lines.iter().map(Line::size).sum::<usize>() <= MAX_BYTES;
        let pending = match fits {
            true => None,
            false => Some(self.stage(&transaction, &lines, deadline).await?),
        };
        let head = known.head.after(&transaction, next.version(), pending);
        let mut request = TxnRequest {
            compare: vec![Compare::written_at(&self.layout.head(), known.revision)],
            success: vec![Op::put(self.layout.head(), head.encode())],
            failure: vec![Op::get(self.layout.head())],
        };
        match pending {
            // They are deleted together or not at all, so one stands for all.
            Some(_) => request.compare.push(Compare::exists(&self.layout.part(&transaction, 0))),
            None => {
                request.success.extend(lines.iter().map(|line| self.layout.op(line)));
                // What others left behind, or are laying down in vain: they too have to see the new `head` first.
                request.success.push(Op::delete_prefix(&self.layout.parts()));
            }
        }
        match self.move_head(&request, &transaction, deadline).await? {
            Moved::Lost => {
                self.metrics.store_conflicts.inc();
                self.catch_up(known.revision, deadline).await?;
                Ok(false)
            }
            Moved::Ours(revision) => {
                let now = Known { head, revision, snapshot: next };
                self.learn(now.clone());
                if pending.is_some()
                    && let Err(error) = self.roll_forward(now, deadline).await
                {
                    // It counts already; the next writer does it.
                    tracing::warn!(%error, "a large change is stored, and is put in place later");
                }
                Ok(true)
            }
        }
    }

    /// Sends the transaction until it is known what became of it. The same one can only go through once, since it
    /// moves what it compares.
    async fn move_head(&self, request: &TxnRequest, transaction: &str, deadline: Instant) -> Result<Moved, Error> {
        let mut lost_answers = 0;
        loop {
            match self.client.call::<_, TxnResponse>(wire::TXN, request.clone()).await {
                Ok(answer) if answer.succeeded => {
                    return Ok(Moved::Ours(answer.header.map_or(0, |h| h.revision)));
                }
                Ok(answer) => {
                    let found = answer.responses.into_iter().next().and_then(|r| r.range);
                    let found = found.and_then(|r| r.kvs.into_iter().next());
                    let Some(found) = found.filter(|_| lost_answers > 0) else { return Ok(Moved::Lost) };
                    let head = Head::decode(&found.value).map_err(|why| self.damaged(why))?;
                    return match head.transaction() == transaction {
                        true => Ok(Moved::Ours(found.mod_revision)),
                        // It went through, and others came after it: nothing is to be done again.
                        false if head.has(transaction) => self.overtaken(transaction, deadline).await,
                        false => Ok(Moved::Lost),
                    };
                }
                Err(status) if passes(&status) && Instant::now() < deadline => {
                    lost_answers += 1;
                    self.metrics.store_failures.inc();
                    tokio::time::sleep(PAUSE).await;
                }
                Err(status) if lost_answers > 0 || passes(&status) => {
                    return Err(Error::Unknown { server: self.client.name(), why: status.message().to_owned() });
                }
                Err(status) => return Err(self.refused(&status)),
            }
        }
    }

    /// Our transaction went through, and others after it: what counts now is read again.
    async fn overtaken(&self, transaction: &str, deadline: Instant) -> Result<Moved, Error> {
        tracing::debug!(transaction, "stored, and overtaken before the answer came");
        self.load(deadline).await?;
        // An old revision: what was just read is newer and stays.
        Ok(Moved::Ours(0))
    }

    /// Lays a large batch down; how many parts it has.
    pub(super) async fn stage(&self, transaction: &str, lines: &[Line], deadline: Instant) -> Result<usize, Error> {
        let parts = groups(lines.to_vec());
        for (number, lines) in parts.iter().enumerate() {
            let value = Part { lines: lines.clone() }.encode_to_vec();
            let request = PutRequest { key: self.layout.part(transaction, number), value, lease: 0 };
            let put: Result<PutResponse, _> = self.again(wire::PUT, request, deadline).await;
            put.map_err(|status| self.refused(&status))?;
        }
        Ok(parts.len())
    }

    /// The documents of a batch of which only the parts are there; `revision` 0: as they are now. `None`: the parts are
    /// gone, so somebody has put them in place.
    pub(super) async fn staged(
        &self,
        head: &Head,
        revision: i64,
        deadline: Instant,
    ) -> Result<Option<Vec<Line>>, Error> {
        let mut lines = Vec::new();
        for number in 0..head.pending.unwrap_or(0) {
            let key = self.layout.part(head.transaction(), number);
            let request = RangeRequest { key, revision, ..RangeRequest::default() };
            let found = self.range(request, deadline).await?;
            let Some(kv) = found.kvs.into_iter().next() else { return Ok(None) };
            let part = Part::decode(&kv.value[..]).map_err(|e| self.damaged(format!("a part: {e}")))?;
            lines.extend(part.lines);
        }
        Ok(Some(lines))
    }

    /// Puts the documents of a large batch in their places. Whoever finds one that is not, does it; several may at once.
    pub(super) async fn roll_forward(&self, known: Known, deadline: Instant) -> Result<(), Error> {
        let Some(lines) = self.staged(&known.head, 0, deadline).await? else {
            return self.catch_up(known.revision, deadline).await;
        };
        let here = || vec![Compare::written_at(&self.layout.head(), known.revision)];
        for group in groups(lines) {
            let success = group.iter().map(|line| self.layout.op(line)).collect();
            let request = TxnRequest { compare: here(), success, failure: Vec::new() };
            if !self.transact(request, deadline).await?.succeeded {
                return self.catch_up(known.revision, deadline).await;
            }
        }
        let head = known.head.settled();
        let success = vec![Op::put(self.layout.head(), head.encode()), Op::delete_prefix(&self.layout.parts())];
        let request = TxnRequest { compare: here(), success, failure: Vec::new() };
        let answer = self.transact(request, deadline).await?;
        if !answer.succeeded {
            return self.catch_up(known.revision, deadline).await;
        }
        self.learn(Known { head, revision: answer.header.map_or(0, |h| h.revision), snapshot: known.snapshot });
        Ok(())
    }

    /// Whether `head` is still as it was at this revision; if not, what came is known when this returns.
    pub(super) async fn is_newest(&self, revision: i64, deadline: Instant) -> Result<bool, Error> {
        let request = RangeRequest { key: self.layout.head(), ..RangeRequest::default() };
        let found = self.range(request, deadline).await?.kvs.into_iter().next().map_or(0, |kv| kv.mod_revision);
        if found == revision {
            return Ok(true);
        }
        self.catch_up(revision, deadline).await?;
        Ok(false)
    }

    /// Waits until more is known than what was at this revision.
    pub(super) async fn catch_up(&self, beyond: i64, deadline: Instant) -> Result<(), Error> {
        let mut revision = self.revision.subscribe();
        let heard = async { revision.wait_for(|now| *now > beyond).await.is_ok() };
        if !tokio::time::timeout(HEAR, heard).await.unwrap_or(false) {
            self.load(deadline).await?;
        }
        Ok(())
    }
}
