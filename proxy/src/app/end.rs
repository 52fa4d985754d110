//! How a sidecar ends.
//!
//! 1. Told to, it is ready no more at once, and tells the control plane, so that callers stop choosing it. Meanwhile, for
//!    the *delay*, it accepts and serves as ever, and tells each caller at a moment of its own to go elsewhere.
//! 2. Then it accepts no more calls to the application, and finishes those that are under way.
//! 3. The application's own calls go through all the time: only when the callers have gone are its connections closed one
//!    by one as they fall silent, and new ones are taken until it has had none for a while.
//! 4. After the deadline, or when told again, the rest is cut.
//!
//! When another process has taken the listening sockets over, both directions finish what they have, however long that
//! takes; nobody is told anything, since nothing changes for anybody.

use super::Ended;
use crate::{
    admin::Command,
    drain::{Accept, How, Hurry, Trigger},
};
use std::time::Duration;
use tokio::{sync::mpsc, time::Instant};

/// How long a silent HTTP/1 connection is kept: longer than a request is on its way.
const PATIENCE: Duration = Duration::from_secs(2);
/// The same where there is time: longer than clients keep idle connections (90 s), so that they close them, not we.
const LONG_PATIENCE: Duration = Duration::from_secs(120);
/// Over how long connections are told that another process has taken over.
const SPREAD: Duration = Duration::from_secs(2);
/// An application that has had no connection for so long has gone.
const QUIET: Duration = Duration::from_secs(1);

/// What it takes.
pub(super) struct End {
    pub(super) inbound: Trigger,
    pub(super) outbound: Trigger,
    /// How long calls are still accepted.
    pub(super) delay: Duration,
    /// How long an orderly end may take.
    pub(super) limit: Duration,
    /// How long it may take where another process has taken over.
    pub(super) handed_over: Duration,
}

impl End {
    /// Waits for a command, and carries it out. `told` is called when one has come.
    pub(super) async fn run(mut self, received: &mut mpsc::Receiver<Command>, told: impl FnOnce(Command)) -> Ended {
        let command = received.recv().await.unwrap_or(Command::Quit);
        told(command);
        let limit = match command {
            Command::Quit => return Ended::Cut,
            Command::HandedOver => {
                tracing::info!("another process has taken over; what is under way is finished");
                self.hand_over();
                self.handed_over
            }
            Command::Drain | Command::Finish => {
                tracing::info!(limit = ?self.limit, delay = ?self.delay, "draining");
                self.limit
            }
        };
        let deadline = tokio::time::sleep(limit);
        tokio::pin!(deadline);
        let (usual, hurry) = (self.limit, [self.inbound.hurry(), self.outbound.hurry()]);
        let finished = self.finish(command);
        tokio::pin!(finished);
        loop {
            tokio::select! {
                () = &mut finished => return Ended::Drained,
                () = &mut deadline => return Ended::Cut,
                Some(again) = received.recv() => match again {
                    Command::Quit => return Ended::Cut,
                    // Without callers and application there is still what is under way: as long as it usually may take.
                    Command::Drain | Command::Finish if command == Command::HandedOver => {
                        let soon = deadline.deadline().min(Instant::now() + usual);
                        deadline.as_mut().reset(soon);
                        hurry.iter().for_each(Hurry::up);
                    }
                    _ => {}
                },
            }
        }
    }

    fn hand_over(&self) {
        let how = How { spread: SPREAD, patience: LONG_PATIENCE, ..How::AT_ONCE };
        self.inbound.begin_as(how);
        self.outbound.begin_as(how);
    }

    async fn finish(&mut self, command: Command) {
        if command == Command::HandedOver {
            self.inbound.gone().await;
            return self.outbound.gone().await;
        }
        // An application that has ended has no answers for those who still come.
        let (delay, quiet) =
            if command == Command::Finish { (Duration::ZERO, Duration::ZERO) } else { (self.delay, QUIET) };
        self.inbound.begin_as(How { spread: delay, accept: Accept::For(delay), patience: PATIENCE });
        self.inbound.gone().await;
        tracing::info!("no caller is left; the application's own calls go on until it has none");
        self.outbound.begin_as(How { accept: Accept::UntilQuiet(quiet), patience: PATIENCE, ..How::AT_ONCE });
        self.outbound.gone().await;
    }
}

#[cfg(test)]
mod tests;
