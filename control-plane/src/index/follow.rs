//! From the store's snapshots to worlds, one after the other.

use super::World;
use crate::store::Snapshot;
use std::sync::Arc;
use tokio::sync::watch;

/// The world of the present snapshot at once, and, as long as the future runs, that of each later one. Snapshots that
/// come while a world is being built are skipped but for the last: a version stands for all that came before it.
///
/// The future ends when the store is gone, or when nobody looks any more.
pub fn follow(
    mut snapshots: watch::Receiver<Arc<Snapshot>>,
) -> (watch::Receiver<Arc<World>>, impl Future<Output = ()> + Send + 'static) {
    let first = World::build(snapshots.borrow_and_update().clone(), &World::default());
    let (sender, receiver) = watch::channel(Arc::new(first));
    let run = async move {
        loop {
            let changed = tokio::select! {
                changed = snapshots.changed() => changed,
                () = sender.closed() => return,
            };
            if changed.is_err() {
                return;
            }
            let snapshot = snapshots.borrow_and_update().clone();
            let previous = sender.borrow().clone();
            // A large mesh takes milliseconds: not on a thread that serves streams.
            match tokio::task::spawn_blocking(move || World::build(snapshot, &previous)).await {
                Ok(world) => sender.send_replace(Arc::new(world)),
                Err(error) => {
                    tracing::error!(%error, "building the index failed; the world stands still until a restart");
                    return;
                }
            };
        }
    };
    (receiver, run)
}
