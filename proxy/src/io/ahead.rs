//! A TCP connection that is read ahead of the TLS on it. The TLS library asks for 4 KiB at a time, a system call each; when
//! they come full, more is waiting, and it is taken at once.

use super::pieces;
use bytes::{Buf, BytesMut};
use std::{
    future::Future,
    io::{self, IoSlice},
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// What is taken at once while much comes. Freed when less does.
const AHEAD: usize = 64 * 1024;

/// A TCP connection.
#[derive(Debug)]
pub struct Ahead {
    tcp: TcpStream,
    buffer: BytesMut,
    /// The last read filled all that it was given.
    flows: bool,
    written: u64,
}

impl Ahead {
    /// Of a connection of which nothing has been read.
    pub fn new(tcp: TcpStream) -> Self {
        Self { tcp, buffer: BytesMut::new(), flows: false, written: 0 }
    }

    /// Whether nothing that has been read waits here.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Whether nothing waits here, and nothing did in the kernel behind what was read last.
    pub fn is_dry(&self) -> bool {
        self.buffer.is_empty() && !self.flows
    }

    /// How many bytes the kernel has taken.
    pub fn written(&self) -> u64 {
        self.written
    }

    fn wrote(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(n)) = written {
            self.written += n as u64;
        }
        written
    }

    /// The connection itself.
    pub fn tcp(&self) -> &TcpStream {
        &self.tcp
    }
}

impl AsyncRead for Ahead {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.buffer.is_empty() {
            if !this.flows {
                ready!(Pin::new(&mut this.tcp).poll_read(cx, buf))?;
                this.flows = buf.remaining() == 0;
                return Poll::Ready(Ok(()));
            }
            this.buffer.clear();
            this.buffer.reserve(AHEAD);
            let read = pin!(this.tcp.read_buf(&mut this.buffer)).poll(cx);
            this.flows = matches!(read, Poll::Ready(Ok(n)) if n > buf.remaining());
            if !this.flows && this.buffer.is_empty() {
                this.buffer = BytesMut::new();
            }
            ready!(read)?;
        }
        let n = this.buffer.len().min(buf.remaining());
        pieces::put(buf, &this.buffer[..n]);
        this.buffer.advance(n);
        if this.buffer.is_empty() && !this.flows {
            this.buffer = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Ahead {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.tcp).poll_write(cx, buf);
        self.wrote(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.tcp).poll_write_vectored(cx, bufs);
        self.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{io::AsyncWriteExt, net::TcpListener};

    #[tokio::test]
    async fn all_of_it_comes_in_order_and_no_memory_stays() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, served) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (mut client, mut served) = (client.unwrap(), Ahead::new(served.unwrap().0));
        let sent: Vec<u8> = (0..300_000_u32).map(|i| (i % 251) as u8).collect();
        let copy = sent.clone();
        let sending = tokio::spawn(async move { client.write_all(&copy).await.map(|()| client) });
        let (mut got, mut ahead) = (Vec::new(), false);
        while got.len() < sent.len() {
            let mut piece = [0; 4096];
            let n = served.read(&mut piece).await.unwrap();
            got.extend_from_slice(&piece[..n]);
            ahead |= !served.buffer.is_empty();
        }
        assert!(got == sent && ahead);
        let mut client = sending.await.unwrap().unwrap();
        for _ in 0..2 {
            client.write_all(b"x").await.unwrap();
            served.read_u8().await.unwrap();
        }
        assert_eq!((served.flows, served.buffer.capacity()), (false, 0));
    }
}
