//! The new process: it asks for the sockets, and says when it is ready for them.

use super::wire::{PROTOCOL, Say, Talk};
use std::{collections::BTreeMap, io, os::fd::OwnedFd, path::Path, time::Duration};
use tokio::{net::UnixStream, time::timeout};

/// How long the old process may take to answer.
const STEP: Duration = Duration::from_secs(10);

/// Sockets of a process that still accepts on them.
#[derive(Debug)]
pub struct Taken {
    talk: Talk,
    sockets: BTreeMap<String, Vec<OwnedFd>>,
    count: usize,
}

/// Why nothing was taken over.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// The conversation broke.
    #[error("the process before: {0}")]
    Io(#[from] io::Error),
    /// It does not give its sockets away.
    #[error("the process before refuses: {0}")]
    Refused(String),
    /// It broke off: this one took too long.
    #[error("the process before has broken off, and goes on itself")]
    Gone,
    /// It does not answer.
    #[error("the process before does not answer")]
    Silent,
    /// It said something else.
    #[error("the process before said what is not understood: {0}")]
    Strange(String),
}

/// Asks the process that listens at `path` for its sockets. `None`: nobody is there.
///
/// # Errors
/// It refuses, or does not answer as it should.
pub async fn ask(path: &Path) -> Result<Option<Taken>, TakeError> {
    let stream = match UnixStream::connect(path).await {
        Ok(stream) => stream,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut talk = Talk::new(stream);
    let (version, process) = (env!("CARGO_PKG_VERSION").to_owned(), std::process::id());
    talk.say(&Say::Hello { protocol: PROTOCOL, version, process }).await?;
    let mut sockets: BTreeMap<String, Vec<OwnedFd>> = BTreeMap::new();
    let mut total = 0;
    loop {
        match heard(&mut talk).await? {
            Say::Sockets { name, count } => {
                total += count;
                sockets.entry(name).or_default().extend(talk.descriptors(count)?);
            }
            Say::All => return Ok(Some(Taken { talk, sockets, count: total })),
            Say::Refused { why } => return Err(TakeError::Refused(why)),
            other => return Err(TakeError::Strange(format!("{other:?}"))),
        }
    }
}

impl Taken {
    /// How many there were.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The sockets of a name, once.
    pub fn take(&mut self, name: &str) -> Vec<OwnedFd> {
        self.sockets.remove(name).unwrap_or_default()
    }

    /// Says that this process is ready; `begin` is called when the old one has stopped to accept.
    ///
    /// # Errors
    /// The old one broke off: nothing has begun, and this process has no business here.
    pub async fn finish(mut self, begin: impl FnOnce()) -> Result<(), TakeError> {
        // What it does not want is not held open either.
        self.sockets.clear();
        // A broken pipe is no answer: the old process may have said something before it left.
        let _ = self.talk.say(&Say::Ready).await;
        if self.is_alive().await? {
            // Said first: if the old one has broken off meanwhile, it accepts again, and we must not.
            if self.talk.say(&Say::Accepting).await.is_err() && self.is_alive().await? {
                return Err(TakeError::Strange("yours, twice".into()));
            }
        }
        begin();
        Ok(())
    }

    /// Whether the old process has left the sockets to us (`true`), or has died over it: then nobody else is there.
    async fn is_alive(&mut self) -> Result<bool, TakeError> {
        match heard(&mut self.talk).await {
            Ok(Say::Yours) => Ok(true),
            Ok(Say::Over) => Err(TakeError::Gone),
            Ok(other) => Err(TakeError::Strange(format!("{other:?}"))),
            Err(TakeError::Gone | TakeError::Io(_)) => {
                tracing::warn!("the process before has gone; this one begins without a word from it");
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    #[cfg(test)]
    pub(super) async fn say_ready_and_leave(mut self) {
        self.talk.say(&Say::Ready).await.unwrap();
        assert_eq!(heard(&mut self.talk).await.unwrap(), Say::Yours);
    }
}

async fn heard(talk: &mut Talk) -> Result<Say, TakeError> {
    match timeout(STEP, talk.hear()).await {
        Err(_) => Err(TakeError::Silent),
        Ok(Err(error)) => Err(error.into()),
        Ok(Ok(None)) => Err(TakeError::Gone),
        Ok(Ok(Some(said))) => Ok(said),
    }
}
