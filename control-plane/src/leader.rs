//! Who leads, where several control planes share one store: what must be done by one of them at a time (rotating roots,
//! writing statuses) is done by the one that holds a lease.
//!
//! A lease is a promise of time: who holds it may act until it ends, and renews it long before. Who loses it (a pause, a
//! partition) stops by its own clock before anyone else can begin. What a leader writes is conditional all the same, so
//! that even two leaders would harm nothing.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How long a leadership lasts without being renewed; as long nobody leads after a leader has died.
pub const LIFE: Duration = Duration::from_secs(10);

/// What a leadership hangs on: etcd's leases, or Kubernetes' `Lease`. Calls may wait for a network.
pub trait Lease: Send + Sync + 'static {
    /// Takes the lease for `who`, if nobody else has it, or renews it: for `life` from the moment of the call.
    ///
    /// # Errors
    /// In words; what was held is then still held until its time is over.
    fn hold(&self, who: &str, life: Duration) -> Result<Holder, String>;

    /// Gives it up, if `who` has it.
    ///
    /// # Errors
    /// In words; it then ends by itself.
    fn release(&self, who: &str) -> Result<(), String>;
}

/// Who has a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// Who asked.
    Us,
    /// Another one.
    Other(String),
}

/// The lease of a control plane that is the only one on its store.
#[derive(Debug, Clone, Copy, Default)]
pub struct Alone;

impl Lease for Alone {
    fn hold(&self, _: &str, _: Duration) -> Result<Holder, String> {
        Ok(Holder::Us)
    }

    fn release(&self, _: &str) -> Result<(), String> {
        Ok(())
    }
}

/// How it stands with the leadership, as this process knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Until when this process leads; `None`: it does not.
    pub until: Option<Instant>,
    /// Who leads otherwise; empty: not known.
    pub other: String,
}

impl Standing {
    /// Whether this process leads now.
    pub fn leads(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }
}

/// Strives for the leadership until `stop`, and gives it up then. The receiver tells how it stands.
pub fn strive(
    lease: Arc<dyn Lease>,
    who: String,
    life: Duration,
    stop: CancellationToken,
) -> (watch::Receiver<Standing>, impl Future<Output = ()> + Send + 'static) {
    let (sender, receiver) = watch::channel(Standing::default());
    let run = async move {
        loop {
            let asked = Instant::now();
            let (call, me) = (lease.clone(), who.clone());
            let held = tokio::task::spawn_blocking(move || call.hold(&me, life)).await;
            let next = match held {
                Ok(Ok(Holder::Us)) => Some(Standing { until: Some(asked + life), other: String::new() }),
                Ok(Ok(Holder::Other(other))) => Some(Standing { until: None, other }),
                Ok(Err(why)) => {
                    tracing::warn!(%why, "the leadership cannot be asked for");
                    None
                }
                Err(_) => None,
            };
            if let Some(next) = next {
                let (now, before) = (Instant::now(), sender.borrow().clone());
                if next.leads(now) != before.leads(now) || next.other != before.other {
                    tracing::info!(leads = next.leads(now), other = next.other, "leadership");
                }
                sender.send_replace(next);
            }
            tokio::select! {
                () = tokio::time::sleep(life / 4) => {}
                () = stop.cancelled() => break,
            }
        }
        sender.send_replace(Standing::default());
        let released = tokio::task::spawn_blocking(move || lease.release(&who)).await;
        if let Ok(Err(why)) = released {
            tracing::debug!(%why, "the leadership was not given up; it ends by itself");
        }
    };
    (receiver, run)
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;

    /// One lease for all, without a clock: it is taken away by hand.
    #[derive(Default)]
    struct One(Mutex<Option<String>>);

    impl Lease for One {
        fn hold(&self, who: &str, _: Duration) -> Result<Holder, String> {
            let mut held = self.0.lock();
            match &*held.get_or_insert_with(|| who.to_owned()) {
                held if held == who => Ok(Holder::Us),
                other => Ok(Holder::Other(other.clone())),
            }
        }

        fn release(&self, who: &str) -> Result<(), String> {
            self.0.lock().take_if(|held| held == who);
            Ok(())
        }
    }

    #[tokio::test]
    async fn one_leads_and_the_next_one_does_when_it_ends() {
        let lease = Arc::new(One::default());
        let life = Duration::from_secs(2);
        let (stop_a, stop_b) = (CancellationToken::new(), CancellationToken::new());
        let (mut a, run_a) = strive(lease.clone(), "a".into(), life, stop_a.clone());
        let run_a = tokio::spawn(run_a);
        a.wait_for(|s| s.leads(Instant::now())).await.unwrap();
        let (mut b, run_b) = strive(lease.clone(), "b".into(), life, stop_b.clone());
        let run_b = tokio::spawn(run_b);
        b.wait_for(|s| s.other == "a").await.unwrap();
        stop_a.cancel();
        run_a.await.unwrap();
        assert!(!a.borrow().leads(Instant::now()));
        b.wait_for(|s| s.leads(Instant::now())).await.unwrap();
        stop_b.cancel();
        run_b.await.unwrap();
        assert!(lease.0.lock().is_none(), "who ends gives it up");
    }

    #[test]
    fn a_leadership_ends_by_its_own_clock() {
        let now = Instant::now();
        let standing = Standing { until: Some(now + LIFE), other: String::new() };
        assert!(standing.leads(now) && !standing.leads(now + LIFE));
    }
}
