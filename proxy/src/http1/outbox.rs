//! What is to be written to a connection: small pieces in one buffer, so that a head and a small body leave together, and
//! one large piece behind it, with its end, which is not copied.

use crate::io::Io;
use bytes::{Buf, Bytes, BytesMut};
use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::AsyncWrite;

/// Pieces up to so many bytes are copied behind what is there.
const SMALL: usize = 4 * 1024;
/// Above so many bytes no more is taken before some have left.
const ENOUGH: usize = 64 * 1024;

/// What is to be written.
#[derive(Debug, Default)]
pub struct Outbox {
    small: BytesMut,
    large: Bytes,
    /// What stands behind the large piece.
    end: &'static [u8],
    /// Taken from here, and by TLS, but not by the kernel yet.
    flows: bool,
}

impl Outbox {
    /// Whether everything has left.
    pub fn is_empty(&self) -> bool {
        self.is_taken() && !self.flows
    }

    fn is_taken(&self) -> bool {
        self.small.is_empty() && self.large.is_empty() && self.end.is_empty()
    }

    /// Whether more may be added.
    pub fn has_room(&self) -> bool {
        self.large.is_empty() && self.end.is_empty() && self.small.len() < ENOUGH
    }

    /// Where heads and small pieces are written.
    pub fn buffer(&mut self) -> &mut BytesMut {
        if !self.large.is_empty() || !self.end.is_empty() {
            // Heads are rare in the middle of a body: there the order is worth a copy.
            let large = std::mem::take(&mut self.large);
            self.small.extend_from_slice(&large);
            self.small.extend_from_slice(std::mem::take(&mut self.end));
        }
        &mut self.small
    }

    /// Adds a piece of a body, and what ends it.
    pub fn push(&mut self, data: Bytes, end: &'static [u8]) {
        if data.len() <= SMALL || !self.large.is_empty() {
            let buffer = self.buffer();
            buffer.extend_from_slice(&data);
            buffer.extend_from_slice(end);
        } else {
            self.large = data;
            self.end = end;
        }
    }

    /// Gives its memory back.
    pub fn rest(&mut self) {
        if self.small.is_empty() {
            self.small = BytesMut::new();
        }
    }

    /// Writes all of it, to the wire. `sent` becomes true when a byte has been taken.
    pub fn poll_write(&mut self, io: &mut Io, sent: &mut bool, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while !self.is_taken() {
            let n = if self.large.is_empty() && self.end.is_empty() {
                ready!(Pin::new(&mut *io).poll_write(cx, &self.small))?
            } else {
                let all = [IoSlice::new(&self.small), IoSlice::new(&self.large), IoSlice::new(self.end)];
                let all = if self.small.is_empty() { &all[1..] } else { &all[..] };
                ready!(Pin::new(&mut *io).poll_write_vectored(cx, all))?
            };
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            *sent = true;
            self.flows = true;
            self.advance(n);
        }
        self.small.clear();
        ready!(Pin::new(io).poll_flush(cx))?;
        self.flows = false;
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, n: usize) {
        let small = n.min(self.small.len());
        self.small.advance(small);
        let large = (n - small).min(self.large.len());
        self.large.advance(large);
        if self.large.is_empty() {
            // Whoever read it can read the next one into the same memory, which the processor has at hand.
            self.large = Bytes::new();
        }
        self.end = self.end.get(n - small - large..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_stays_whatever_the_sizes() {
        let (mut outbox, mut expected) = (Outbox::default(), Vec::new());
        for (i, size) in [10, SMALL + 1, 5, SMALL * 2, 3].into_iter().enumerate() {
            let piece = vec![i as u8; size];
            expected.extend_from_slice(&piece);
            expected.extend_from_slice(b"\r\n");
            outbox.push(piece.into(), b"\r\n");
        }
        assert_eq!(outbox.buffer(), &expected[..]);
        assert!(!outbox.is_empty() && outbox.has_room());
    }

    #[test]
    fn what_has_left_is_forgotten_to_the_byte() {
        let large: Vec<u8> = (0..SMALL + 9).map(|i| i as u8).collect();
        let all = [b"head", &large[..], b"\r\n"].concat();
        for gone in 0..=all.len() {
            let mut outbox = Outbox::default();
            outbox.buffer().extend_from_slice(b"head");
            outbox.push(large.clone().into(), b"\r\n");
            outbox.advance(gone);
            assert_eq!(outbox.is_empty(), gone == all.len());
            assert_eq!(outbox.buffer(), &all[gone..]);
        }
    }
}
