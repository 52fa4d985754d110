//! Waits for a process that takes over from this one.

use crate::{
    admin::Command,
    drain::Door,
    handover::{Giver, Named, Outcome},
    options::Upgrade,
    telemetry::Metrics,
};
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::{mpsc, watch};

/// The one who waits.
pub(super) struct Heir {
    path: Option<PathBuf>,
    limit: Duration,
    commands: mpsc::Sender<Command>,
    tries: Arc<Tries>,
}

#[derive(Default)]
struct Tries {
    handed_over: AtomicU64,
    rolled_back: AtomicU64,
}

impl Heir {
    pub(super) fn new(upgrade: &Upgrade, commands: mpsc::Sender<Command>, metrics: &Metrics) -> Self {
        let tries = Arc::new(Tries::default());
        let told = tries.clone();
        metrics.add_source(move |out| {
            out.family(
                "weir_upgrades_total",
                "counter",
                "Processes that asked for the listening sockets, by what came of it.",
            );
            out.sample([("outcome", "handed_over")], told.handed_over.load(Ordering::Relaxed));
            out.sample([("outcome", "rolled_back")], told.rolled_back.load(Ordering::Relaxed));
        });
        Self { path: upgrade.socket.clone(), limit: upgrade.ready, commands, tries }
    }

    /// Answers one successor after the other, until one has taken over: then the door is gone.
    pub(super) async fn wait(self, heritage: Vec<Named>, door: Arc<watch::Sender<Door>>) {
        let Some(path) = &self.path else { return };
        // A process that takes over is no predecessor before it has.
        let _ = door.subscribe().wait_for(|door| *door == Door::Open).await;
        let mut giver = match Giver::bind(path, heritage, self.limit) {
            Ok(giver) => giver,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "no other process can take over from this one");
                return;
            }
        };
        let mut shut = |shut| {
            door.send_replace(if shut { Door::Shut } else { Door::Open });
        };
        while giver.next(&mut shut).await == Outcome::RolledBack {
            self.tries.rolled_back.fetch_add(1, Ordering::Relaxed);
        }
        self.tries.handed_over.fetch_add(1, Ordering::Relaxed);
        door.send_replace(Door::Gone);
        drop(giver);
        let _ = self.commands.send(Command::HandedOver).await;
    }
}
