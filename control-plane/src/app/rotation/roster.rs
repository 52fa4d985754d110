//! Which proxies are with which replica, for the time when one can report no more. A replica that is silent is dead, or cut
//! off from the store with its proxies, which then know nothing of new roots: only when they are with others is it certain
//! that nothing breaks by going on without it.

use super::Rotations;
use crate::store::MetaExpect;
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};
use weir_config::resources::{Key, Kind};

/// Where each keeps which proxies are with it, a node a line, for the time when it can report no more.
const ROSTERS: &str = "roster/";
/// A roster of more bytes is cut off.
const LONGEST_ROSTER: usize = 1_000_000;
/// A roster that has changed is written so often while something is under way.
const EVERY: Duration = Duration::from_secs(2);

/// Where a replica keeps its roster.
pub(super) fn of(who: &str) -> String {
    format!("{ROSTERS}{who}")
}

impl Rotations {
    /// Keeps which proxies are here.
    pub(super) fn enroll(&self, now: Instant) {
        let (mut roster, mut left_out) = (String::new(), 0);
        for node in self.fleet.roster() {
            if roster.len() + node.len() < LONGEST_ROSTER {
                roster.push_str(&node);
                roster.push('\n');
            } else {
                left_out += 1;
            }
        }
        let before = |(text, at): &(String, Instant)| *text == roster || now.saturating_duration_since(*at) < EVERY;
        if self.state.lock().roster.as_ref().is_some_and(before) {
            return;
        }
        if left_out > 0 {
            tracing::warn!(
                left_out,
                "too many proxies are here: should this replica fall silent, these are not waited for"
            );
        }
        match self.store.set_meta(&of(&self.who), MetaExpect::Any, Some(roster.as_bytes())) {
            Ok(()) => self.state.lock().roster = Some((roster, now)),
            Err(error) => tracing::warn!(%error, "this replica cannot report which proxies are with it"),
        }
    }

    fn enrolled(&self, name: &str) -> Result<BTreeSet<String>, String> {
        let bytes = self.store.meta(&of(name)).map_err(|e| e.to_string())?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect())
    }

    /// The proxies that were with a replica and are with none of the live ones, as far as their workloads still exist.
    pub(super) fn missing(&self, name: &str, live: &[String]) -> Result<Vec<String>, String> {
        let mut missing = self.enrolled(name)?;
        if !missing.is_empty() {
            let here = self.fleet.roster();
            missing.retain(|node| !here.contains(node));
        }
        for other in live {
            if !missing.is_empty() {
                let there = self.enrolled(other)?;
                missing.retain(|node| !there.contains(node));
            }
        }
        let exists = |node: &String| {
            let key = node.split_once('/').map(|(namespace, name)| Key::new(Kind::Workload, namespace, name));
            key.is_some_and(|key| self.store.get(&key).is_some())
        };
        Ok(missing.into_iter().filter(exists).collect())
    }
}
