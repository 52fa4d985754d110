//! The process that runs: it answers a successor, and gives it the sockets.

use super::wire::{Named, PROTOCOL, Say, Talk};
use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{
    net::{UnixListener, UnixStream},
    time::timeout,
};

/// How long each step takes at most that needs no work.
const STEP: Duration = Duration::from_secs(5);

/// Gives the listening sockets to a successor, when one asks.
#[derive(Debug)]
pub struct Giver {
    listener: UnixListener,
    path: PathBuf,
    /// The socket's own number: the path may have become somebody else's.
    node: (u64, u64),
    sockets: Vec<Named>,
    limit: Duration,
    handed_over: bool,
}

/// What came of a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The successor accepts. This process is to finish what it has.
    HandedOver,
    /// Nothing has changed.
    RolledBack,
}

impl Giver {
    /// Listens at `path`, for this user only. `limit`: how long a successor may take to get ready.
    ///
    /// # Errors
    /// The path cannot be used; it is at most 107 bytes long.
    pub fn bind(path: &Path, sockets: Vec<Named>, limit: Duration) -> io::Result<Self> {
        // Under another name first: who finds it at its path finds it finished, and what was there before is replaced.
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}", std::process::id()));
        let fresh = path.with_file_name(name);
        let _ = fs::remove_file(&fresh);
        if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty() && !f.exists()) {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let bind = || {
            let listener = UnixListener::bind(&fresh)?;
            fs::set_permissions(&fresh, fs::Permissions::from_mode(0o600))?;
            let metadata = fs::metadata(&fresh)?;
            fs::rename(&fresh, path)?;
            Ok((listener, (metadata.dev(), metadata.ino())))
        };
        let (listener, node) = bind().inspect_err(|_: &io::Error| drop(fs::remove_file(&fresh)))?;
        Ok(Self { listener, path: path.into(), node, sockets, limit, handed_over: false })
    }

    /// Answers the next successor to the end of its try. `shut`: whether accepting stops, for now.
    pub async fn next(&mut self, shut: &mut impl FnMut(bool)) -> Outcome {
        let stream = loop {
            match self.listener.accept().await {
                Ok((stream, _)) if is_ours(&stream) => break stream,
                Ok(_) => tracing::warn!("another user asked for the listening sockets, in vain"),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a successor");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        };
        let mut is_shut = false;
        let mut talk = Talk::new(stream);
        let result = self.converse(&mut talk, shut, &mut is_shut).await;
        match result {
            Ok(()) => {
                self.handed_over = true;
                Outcome::HandedOver
            }
            Err(error) => {
                // Said first: who hears nothing takes us for dead, and begins.
                let _ = timeout(STEP, talk.say(&Say::Over)).await;
                if is_shut {
                    shut(false);
                }
                tracing::warn!(%error, "the upgrade came to nothing; this process goes on");
                Outcome::RolledBack
            }
        }
    }

    async fn converse(&self, talk: &mut Talk, shut: &mut impl FnMut(bool), is_shut: &mut bool) -> io::Result<()> {
        match heard(talk, STEP).await? {
            Say::Hello { protocol: PROTOCOL, version, process } => {
                tracing::info!(version, process, "a new process asks for the listening sockets");
            }
            other => {
                let why = format!("this process gives its sockets by protocol {PROTOCOL}");
                talk.say(&Say::Refused { why }).await?;
                return Err(strange(&other));
            }
        }
        let giving = async {
            for named in &self.sockets {
                talk.give(named).await?;
            }
            talk.say(&Say::All).await
        };
        timeout(STEP, giving).await??;
        match heard(talk, self.limit).await? {
            Say::Ready => {}
            other => return Err(strange(&other)),
        }
        *is_shut = true;
        shut(true);
        talk.say(&Say::Yours).await?;
        match heard(talk, STEP).await? {
            Say::Accepting => Ok(()),
            other => Err(strange(&other)),
        }
    }
}

impl Drop for Giver {
    fn drop(&mut self) {
        let here = || fs::metadata(&self.path).is_ok_and(|m| (m.dev(), m.ino()) == self.node);
        // After a hand-over it is the successor's in a moment.
        if !self.handed_over && here() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

async fn heard(talk: &mut Talk, limit: Duration) -> io::Result<Say> {
    let heard = timeout(limit, talk.hear()).await;
    let heard = heard.map_err(|_| io::Error::other(format!("the new process said nothing for {limit:?}")))??;
    heard.ok_or_else(|| io::Error::other("the new process is gone"))
}

fn strange(said: &Say) -> io::Error {
    io::Error::other(format!("the new process said what is not understood: {said:?}"))
}

/// Whether the other end is of this user, or root's.
fn is_ours(stream: &UnixStream) -> bool {
    stream.peer_cred().is_ok_and(|other| other.uid() == 0 || other.uid() == rustix::process::geteuid().as_raw())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handover::{TakeError, ask};
    use std::{net::TcpListener, os::fd::OwnedFd, sync::mpsc};

    fn giver(folder: &Path, limit: Duration) -> (Giver, std::net::SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let sockets = vec![Named { name: "inbound".into(), sockets: vec![OwnedFd::from(listener)] }];
        (Giver::bind(&folder.join("state/upgrade.sock"), sockets, limit).unwrap(), address)
    }

    #[tokio::test]
    async fn a_successor_takes_over_and_the_path_is_left_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/upgrade.sock");
        let (mut giver, address) = giver(folder.path(), STEP);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let (told, telling) = mpsc::channel();
        let old = tokio::spawn(async move {
            let outcome = giver.next(&mut |shut| told.send(shut).unwrap()).await;
            drop(giver);
            outcome
        });
        let mut taken = ask(&path).await.unwrap().unwrap();
        let sockets = taken.take("inbound");
        assert_eq!(TcpListener::from(sockets.into_iter().next().unwrap()).local_addr().unwrap(), address);
        assert!(taken.take("inbound").is_empty() && taken.take("other").is_empty());
        assert!(telling.try_recv().is_err(), "it accepts until the new one is ready");
        taken.finish(|| assert!(telling.recv().unwrap(), "it has stopped when the new one begins")).await.unwrap();
        assert_eq!(old.await.unwrap(), Outcome::HandedOver);
        assert!(path.exists());
    }

    #[tokio::test]
    async fn a_successor_that_leaves_or_is_slow_changes_nothing_and_one_whose_predecessor_dies_begins() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/upgrade.sock");
        let (mut giver, _) = giver(folder.path(), Duration::from_millis(50));
        let mut shut = |_| panic!("nothing was shut");
        // It leaves.
        let (outcome, taken) = tokio::join!(giver.next(&mut shut), async { ask(&path).await.unwrap().map(drop) });
        assert_eq!((outcome, taken), (Outcome::RolledBack, Some(())));
        // It takes too long, and learns of it.
        let (outcome, taken) = tokio::join!(giver.next(&mut shut), ask(&path));
        assert_eq!(outcome, Outcome::RolledBack);
        let late = taken.unwrap().unwrap().finish(|| panic!("it must not begin")).await;
        assert!(matches!(late, Err(TakeError::Gone)), "{late:?}");
        // It leaves in the last moment: who was to accept no more accepts again.
        let mut steps = vec![];
        let mut note = |shut| steps.push(shut);
        let last = async {
            let talk = ask(&path).await.unwrap().unwrap();
            talk.say_ready_and_leave().await;
        };
        let (outcome, ()) = tokio::join!(giver.next(&mut note), last);
        assert_eq!((outcome, steps), (Outcome::RolledBack, vec![true, false]));
        // It dies while the new one gets ready: then there is nobody but the new one.
        let dying = tokio::spawn(async move { giver.next(&mut |_| {}).await });
        let taken = ask(&path).await.unwrap().unwrap();
        dying.abort();
        assert!(dying.await.unwrap_err().is_cancelled());
        let mut begun = false;
        taken.finish(|| begun = true).await.unwrap();
        assert!(begun);
        assert!(!path.exists(), "nothing is left behind");
        assert!(ask(&path).await.unwrap().is_none(), "nobody is there");
    }
}
