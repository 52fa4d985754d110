//! What is said between the two processes: JSON, a line each; descriptors ride along with the line that names them.

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::VecDeque,
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};
use tokio::{io::Interest, net::UnixStream};

/// The version of this conversation.
pub(super) const PROTOCOL: u32 = 1;
/// Descriptors of one line; the kernel allows 253.
const MOST_AT_ONCE: usize = 64;
/// Descriptors of all lines.
const MOST: usize = 1024;
/// The longest line.
const LINE: usize = 16 * 1024;

/// Listening sockets of one kind, such as `inbound`.
#[derive(Debug)]
pub struct Named {
    /// The same in every version of the program.
    pub name: String,
    /// All of them: what is left out would keep a queue that nobody serves.
    pub sockets: Vec<OwnedFd>,
}

/// A line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "say")]
pub(super) enum Say {
    /// The new process asks.
    Hello { protocol: u32, version: String, process: u32 },
    /// The old one gives; more of the same name may follow.
    Sockets { name: String, count: usize },
    /// That was all.
    All,
    /// The old one does not give anything.
    Refused { why: String },
    /// The new one has all that it needs.
    Ready,
    /// The old one accepts no more.
    Yours,
    /// The new one does.
    Accepting,
    /// The old one has broken off, and goes on itself.
    Over,
}

/// One end of the conversation.
#[derive(Debug)]
pub(super) struct Talk {
    stream: UnixStream,
    read: Vec<u8>,
    descriptors: VecDeque<OwnedFd>,
}

impl Talk {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self { stream, read: Vec::new(), descriptors: VecDeque::new() }
    }

    pub(super) async fn say(&self, what: &Say) -> io::Result<()> {
        self.send(what, &[]).await
    }

    /// Gives sockets.
    pub(super) async fn give(&self, named: &Named) -> io::Result<()> {
        for some in named.sockets.chunks(MOST_AT_ONCE) {
            let descriptors: Vec<_> = some.iter().map(AsFd::as_fd).collect();
            let line = Say::Sockets { name: named.name.clone(), count: descriptors.len() };
            self.send(&line, &descriptors).await?;
        }
        Ok(())
    }

    async fn send(&self, what: &Say, mut descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut line = serde_json::to_vec(what)?;
        line.push(b'\n');
        let mut sent = 0;
        while sent < line.len() {
            sent += self
                .stream
                .async_io(Interest::WRITABLE, || {
                    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_AT_ONCE))];
                    let mut control = SendAncillaryBuffer::new(&mut space);
                    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
                        return Err(io::Error::other("too many descriptors for one line"));
                    }
                    let bytes = [IoSlice::new(&line[sent..])];
                    Ok(sendmsg(&self.stream, &bytes, &mut control, SendFlags::NOSIGNAL)?)
                })
                .await?;
            // They went with the first byte.
            descriptors = &[];
        }
        Ok(())
    }

    /// The next line. `None`: the other end has gone.
    pub(super) async fn hear(&mut self) -> io::Result<Option<Say>> {
        loop {
            if let Some(end) = self.read.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                return Ok(Some(serde_json::from_slice(&line)?));
            }
            if self.read.len() > LINE || self.descriptors.len() > MOST {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "too much is said at once"));
            }
            if self.receive().await? == 0 {
                return Ok(None);
            }
        }
    }

    async fn receive(&mut self) -> io::Result<usize> {
        let Self { stream, read, descriptors } = self;
        stream
            .async_io(Interest::READABLE, || {
                let mut bytes = [0; 4096];
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_AT_ONCE))];
                let mut control = RecvAncillaryBuffer::new(&mut space);
                let got = recvmsg(&*stream, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
                for message in control.drain() {
                    if let RecvAncillaryMessage::ScmRights(some) = message {
                        descriptors.extend(some);
                    }
                }
                if got.flags.contains(ReturnFlags::CTRUNC) {
                    // Out of descriptors, mostly.
                    return Err(io::Error::other("not all descriptors arrived: is the limit on open files too low?"));
                }
                read.extend_from_slice(&bytes[..got.bytes]);
                Ok(got.bytes)
            })
            .await
    }

    /// The descriptors of a line.
    pub(super) fn descriptors(&mut self, count: usize) -> io::Result<Vec<OwnedFd>> {
        if count > self.descriptors.len() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "fewer descriptors came than were told of"));
        }
        Ok(self.descriptors.drain(..count).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[tokio::test]
    async fn sockets_go_over_as_they_are_with_who_waits_in_them() {
        let (one, other) = UnixStream::pair().unwrap();
        let (old, mut new) = (Talk::new(one), Talk::new(other));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut waiting = std::net::TcpStream::connect(address).unwrap();
        let mut sockets = vec![listener.into()];
        // More than fit into one line.
        sockets.extend((0..100).map(|_| OwnedFd::from(std::net::TcpListener::bind("127.0.0.1:0").unwrap())));
        let given = Named { name: "inbound".into(), sockets };
        old.give(&given).await.unwrap();
        drop(given);
        old.say(&Say::All).await.unwrap();
        let mut taken = Vec::new();
        loop {
            match new.hear().await.unwrap().unwrap() {
                Say::Sockets { name, count } => {
                    assert_eq!(name, "inbound");
                    taken.extend(new.descriptors(count).unwrap());
                }
                other => {
                    assert_eq!(other, Say::All);
                    break;
                }
            }
        }
        assert_eq!(taken.len(), 101);
        let listener = std::net::TcpListener::from(taken.remove(0));
        assert_eq!(listener.local_addr().unwrap(), address);
        let (mut accepted, _) = listener.accept().unwrap();
        waiting.write_all(b"x").unwrap();
        let mut byte = [0];
        accepted.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");
        drop(old);
        assert_eq!(new.hear().await.unwrap(), None);
    }

    #[tokio::test]
    async fn nonsense_is_an_error_and_does_not_fill_memory() {
        for nonsense in [&b"{}\n"[..], b"GET / HTTP/1.1\r\n", &[b'x'; 64 * 1024]] {
            let (mut one, other) = UnixStream::pair().unwrap();
            let mut talk = Talk::new(other);
            let writing = tokio::spawn(async move {
                let _ = tokio::io::AsyncWriteExt::write_all(&mut one, nonsense).await;
                one
            });
            assert!(talk.hear().await.is_err());
            assert!(talk.read.len() <= LINE + 4096);
            assert!(talk.descriptors(1).is_err());
            writing.abort();
        }
    }
}
