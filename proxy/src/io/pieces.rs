//! What goes to TLS and comes from it, copied in pieces.
//!
//! Above 2 KiB the C library copies by one instruction (`rep movsb`), which on AMD's Zen 3 and 4 takes thirty times as long
//! where the copy begins less than a cache line behind its origin, counted within a page (glibc's bug 30994). TLS copies what
//! it is given behind the header of a record, of five bytes, before it encrypts it: where both buffers begin a page, that is
//! each time. Pieces up to 2 KiB are copied by a loop, as fast on any processor.

use smallvec::SmallVec;
use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncBufRead, AsyncWrite, ReadBuf};

/// The C library copies so much by a loop (2.36: less than 2,112 bytes).
const PIECE: usize = 2 * 1024;
/// What TLS takes at once, 64 KiB, and what stands before and behind it.
const MOST: usize = 36;

/// Copies all of it.
pub(super) fn put(buf: &mut ReadBuf<'_>, bytes: &[u8]) {
    bytes.chunks(PIECE).for_each(|piece| buf.put_slice(piece));
}

/// Reads what TLS has and there is room for, until it is `dry`. An error behind it is kept in `failed`, for the next read.
pub(super) fn poll_read<T: AsyncBufRead>(
    mut tls: Pin<&mut T>,
    dry: impl Fn(&T) -> bool,
    failed: &mut Option<io::Error>,
    cx: &mut Context<'_>,
    buf: &mut ReadBuf<'_>,
) -> Poll<io::Result<()>> {
    if let Some(error) = failed.take() {
        return Poll::Ready(Err(error));
    }
    let before = buf.filled().len();
    while buf.remaining() > 0 {
        let polled = tls.as_mut().poll_fill_buf(cx);
        match polled {
            Poll::Ready(Ok([])) => break,
            Poll::Ready(Ok(bytes)) => {
                let n = bytes.len().min(buf.remaining());
                put(buf, &bytes[..n]);
                tls.as_mut().consume(n);
                if dry(&tls) {
                    break;
                }
            }
            polled if buf.filled().len() == before => return polled.map_ok(drop),
            Poll::Ready(Err(error)) => {
                *failed = Some(error);
                break;
            }
            Poll::Pending => break,
        }
    }
    Poll::Ready(Ok(()))
}

/// Gives a buffer to TLS.
pub(super) fn poll_write(tls: Pin<&mut impl AsyncWrite>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
    if buf.len() <= PIECE { tls.poll_write(cx, buf) } else { poll_write_vectored(tls, cx, &[IoSlice::new(buf)]) }
}

/// Gives buffers to TLS.
pub(super) fn poll_write_vectored(
    tls: Pin<&mut impl AsyncWrite>,
    cx: &mut Context<'_>,
    bufs: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    if bufs.iter().all(|buf| buf.len() <= PIECE) {
        return tls.poll_write_vectored(cx, bufs);
    }
    tls.poll_write_vectored(cx, &pieces(bufs))
}

/// Pieces of buffers, as many as TLS takes at once.
fn pieces<'b>(bufs: &'b [IoSlice<'_>]) -> SmallVec<[IoSlice<'b>; MOST]> {
    bufs.iter().flat_map(|buf| buf.chunks(PIECE)).map(IoSlice::new).take(MOST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(pieces: &[IoSlice<'_>]) -> Vec<u8> {
        pieces.iter().flat_map(|piece| piece.iter().copied()).collect()
    }

    #[test]
    fn what_is_large_goes_in_pieces_in_its_order() {
        let large: Vec<u8> = (0..3 * PIECE + 9).map(|i| i as u8).collect();
        let bufs = [IoSlice::new(b"head"), IoSlice::new(&large), IoSlice::new(b"\r\n")];
        let pieces = pieces(&bufs);
        assert!(pieces.iter().all(|piece| piece.len() <= PIECE));
        assert_eq!(joined(&pieces), [b"head", &large[..], b"\r\n"].concat());
    }

    #[test]
    fn what_is_too_large_goes_in_part() {
        let huge = vec![7; 1 << 20];
        let bufs = [IoSlice::new(&huge)];
        let pieces = pieces(&bufs);
        assert_eq!((joined(&pieces).len(), pieces.spilled()), (MOST * PIECE, false));
    }

    /// Takes all that it is given, and notes the lengths.
    #[derive(Default)]
    struct Sink(Vec<usize>);

    impl AsyncWrite for Sink {
        fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            self.poll_write_vectored(cx, &[IoSlice::new(buf)])
        }

        fn poll_write_vectored(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bufs: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            self.get_mut().0.extend(bufs.iter().map(|buf| buf.len()));
            Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn tls_is_given_no_more_at_once_than_is_copied_by_a_loop() {
        let cx = &mut Context::from_waker(std::task::Waker::noop());
        let (bytes, mut tls) = (vec![7; PIECE + 5], Sink::default());
        let whole = [IoSlice::new(&bytes[..PIECE]), IoSlice::new(b"x")];
        let large = [IoSlice::new(b"head"), IoSlice::new(&bytes)];
        assert!(matches!(poll_write(Pin::new(&mut tls), cx, &bytes[..PIECE]), Poll::Ready(Ok(PIECE))));
        assert!(matches!(poll_write(Pin::new(&mut tls), cx, &bytes), Poll::Ready(Ok(n)) if n == PIECE + 5));
        assert!(matches!(poll_write_vectored(Pin::new(&mut tls), cx, &whole), Poll::Ready(Ok(n)) if n == PIECE + 1));
        assert!(matches!(poll_write_vectored(Pin::new(&mut tls), cx, &large), Poll::Ready(Ok(n)) if n == PIECE + 9));
        assert_eq!(tls.0, [PIECE, PIECE, 5, PIECE, 1, 4, PIECE, 5]);
    }

    /// Gives what it has, one after the other, and then nothing for now.
    struct Source(Vec<io::Result<Vec<u8>>>);

    impl tokio::io::AsyncRead for Source {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            unreachable!("its buffers are read")
        }
    }

    impl AsyncBufRead for Source {
        fn poll_fill_buf(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
            let this = self.get_mut();
            if this.0.first().is_some_and(Result::is_err) {
                return Poll::Ready(this.0.remove(0).map(|_| &[][..]));
            }
            this.0.first().map_or(Poll::Pending, |first| Poll::Ready(Ok(first.as_ref().unwrap())))
        }

        fn consume(self: Pin<&mut Self>, n: usize) {
            let this = self.get_mut();
            let first = this.0[0].as_mut().unwrap();
            first.drain(..n);
            if first.is_empty() {
                drop(this.0.remove(0));
            }
        }
    }

    #[test]
    fn an_error_comes_behind_the_bytes_before_it() {
        let bytes: Vec<u8> = (0..10_000_u32).map(|i| i as u8).collect();
        let reset = || Err(io::ErrorKind::ConnectionReset.into());
        let mut source = Source(vec![Ok(bytes.clone()), Ok(vec![1; 3]), reset(), Ok(vec![2]), reset()]);
        let (mut failed, mut room) = (None, vec![0; 9_000]);
        let mut read = || {
            let mut buf = ReadBuf::new(&mut room);
            let cx = &mut Context::from_waker(std::task::Waker::noop());
            poll_read(Pin::new(&mut source), |_| false, &mut failed, cx, &mut buf).map_ok(|()| buf.filled().to_vec())
        };
        assert!(matches!(read(), Poll::Ready(Ok(got)) if got == bytes[..9_000]));
        assert!(matches!(read(), Poll::Ready(Ok(got)) if got == [&bytes[9_000..], &[1; 3]].concat()));
        assert!(matches!(read(), Poll::Ready(Err(_))));
        assert!(matches!(read(), Poll::Ready(Ok(got)) if got == [2]));
        assert!(matches!(read(), Poll::Ready(Err(_))));
        assert!(read().is_pending());
    }

    #[test]
    fn what_is_dry_is_not_asked_again() {
        let mut source = Source((0..3).map(|n| Ok(vec![n; 2])).collect());
        let mut room = [0; 9];
        let mut buf = ReadBuf::new(&mut room);
        let cx = &mut Context::from_waker(std::task::Waker::noop());
        let read = poll_read(Pin::new(&mut source), |source| source.0.len() == 1, &mut None, cx, &mut buf);
        assert!(matches!(read, Poll::Ready(Ok(()))));
        assert_eq!((buf.filled(), source.0.len()), (&[0, 0, 1, 1][..], 1));
    }
}
