//! How long an endpoint keeps an idle connection: what it says (`Keep-Alive: timeout=…`), and what it is seen to do. A
//! request that is sent as the connection closes fails for nothing, so a connection is not used in its last moments.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

/// Closes after less than this are no idle timeouts: the endpoint restarts, or sheds.
const LEAST: Duration = Duration::from_millis(20);

/// What is known of one endpoint. Times in milliseconds; 0: nothing.
#[derive(Debug, Default)]
pub struct KeepAlive {
    announced: AtomicU32,
    /// The idle time after which it last closed a connection.
    closed: AtomicU32,
    /// The least idle time that has closed two connections about alike.
    observed: AtomicU32,
}

impl KeepAlive {
    /// It said how long it keeps an idle connection.
    pub fn announced(&self, timeout: Duration) {
        self.announced.store(millis(timeout).max(1), Ordering::Relaxed);
    }

    /// It closed a connection that had been idle for so long. Two that agree within a tenth are a habit; one may be a
    /// restart.
    pub fn closed_after(&self, idle: Duration) {
        if idle < LEAST {
            return;
        }
        let (now, before) = (millis(idle), self.closed.swap(millis(idle), Ordering::Relaxed));
        if before > 0 && now.abs_diff(before) <= now.max(before) / 10 {
            let least = now.min(before);
            let _ = self.observed.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |known| {
                (known == 0 || least < known).then_some(least)
            });
        }
    }

    /// Whether a connection that has been idle for so long is far from being closed: what may not be sent twice is not
    /// risked on any other.
    pub fn is_safe_after(&self, idle: Duration) -> bool {
        self.known().is_none_or(|limit| millis(idle) < limit / 2)
    }

    fn known(&self) -> Option<u32> {
        [&self.announced, &self.observed].map(|k| k.load(Ordering::Relaxed)).into_iter().filter(|k| *k > 0).min()
    }

    /// Whether a connection that has been idle for so long may be used. What is known is given up when a connection has
    /// outlived it by half: the endpoint has changed its mind.
    pub fn allows(&self, idle: Duration) -> bool {
        let idle = millis(idle);
        let Some(limit) = self.known() else { return true };
        if idle > limit.saturating_add(limit / 2).saturating_add(1000) {
            self.announced.store(0, Ordering::Relaxed);
            self.observed.store(0, Ordering::Relaxed);
            return true;
        }
        // A tenth for what lies between its clock and ours; of long times, a second is enough.
        idle < limit - (limit / 10).clamp(1, 1000).min(limit)
    }
}

fn millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

/// The `timeout` of a `Keep-Alive` field (RFC 2068 §19.7.1), in seconds.
pub fn parse(value: &[u8]) -> Option<Duration> {
    let text = std::str::from_utf8(value).ok()?;
    let seconds = text.split(',').find_map(|part| part.trim().strip_prefix("timeout=")?.trim().parse::<u32>().ok())?;
    Some(Duration::from_secs(seconds.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn nothing_known_allows_everything() {
        assert!(KeepAlive::default().allows(ms(3_600_000)));
    }

    #[test]
    fn what_is_announced_is_kept_with_a_margin() {
        let known = KeepAlive::default();
        known.announced(ms(5000));
        assert!(known.allows(ms(4400)) && !known.allows(ms(4600)) && !known.allows(ms(5500)));
        known.announced(ms(0));
        assert!(!known.allows(ms(0)));
    }

    #[test]
    fn two_closes_that_agree_are_a_habit_and_one_is_not() {
        let known = KeepAlive::default();
        known.closed_after(ms(1000));
        assert!(known.allows(ms(1000)));
        known.closed_after(ms(300));
        assert!(known.allows(ms(1000)));
        known.closed_after(ms(310));
        assert!(known.allows(ms(250)) && !known.allows(ms(290)));
        // Later closes do not lengthen it; a connection that outlives it does.
        known.closed_after(ms(1000));
        known.closed_after(ms(1000));
        assert!(!known.allows(ms(290)));
        assert!(known.allows(ms(1500)) && known.allows(ms(290)));
    }

    #[test]
    fn a_restart_teaches_nothing() {
        let known = KeepAlive::default();
        for age in [0, 1, 1, 2, 5, 5, 19, 40, 700, 90, 2500] {
            known.closed_after(ms(age));
        }
        assert!(known.allows(ms(10_000)));
    }

    #[test]
    fn the_timeout_is_found_among_other_words() {
        assert_eq!(parse(b"timeout=5"), Some(ms(5000)));
        assert_eq!(parse(b"max=100, timeout=15"), Some(ms(15_000)));
        for none in [&b"max=100"[..], b"timeout=", b"timeout=-1", b"timeout=99999999999", b"\xff"] {
            assert_eq!(parse(none), None);
        }
    }

    #[test]
    fn what_may_not_be_sent_twice_keeps_away_from_the_end() {
        let habits = KeepAlive::default();
        assert!(habits.is_safe_after(ms(100_000)), "nothing is known");
        habits.announced(ms(1_000));
        assert!(habits.is_safe_after(ms(499)) && !habits.is_safe_after(ms(500)) && habits.allows(ms(500)));
    }
}
