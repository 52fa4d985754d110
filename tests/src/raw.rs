//! A client that sends the bytes it is told, and reads the bytes that come.

use crate::message::{Framing, Message, Reader, Wrong, framing_of_response};
use std::{io, net::SocketAddr, time::Duration};
use tokio::{
    io::AsyncWriteExt,
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::timeout,
};

/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(20);

/// One connection.
pub struct Raw {
    reader: Reader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
}

/// What came in answer to one request.
#[derive(Debug, Clone)]
pub struct Answer {
    /// 1xx heads before it.
    pub interim: Vec<Message>,
    /// The answer.
    pub last: Message,
}

impl Answer {
    /// Its status.
    pub fn status(&self) -> u16 {
        self.last.word().parse().unwrap_or(0)
    }

    /// Its `weir-reason`: why the sidecar answered itself.
    pub fn reason(&self) -> Option<String> {
        self.last.one("weir-reason")
    }

    /// The statuses of the 1xx heads.
    pub fn interim_statuses(&self) -> Vec<String> {
        self.interim.iter().map(Message::word).collect()
    }
}

impl Raw {
    /// Connects.
    pub async fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).await.expect("a connection")
    }

    /// Connects.
    ///
    /// # Errors
    /// Nobody listens.
    pub async fn try_connect(address: SocketAddr) -> io::Result<Self> {
        let tcp = timeout(LIMIT, TcpStream::connect(address)).await??;
        tcp.set_nodelay(true)?;
        let (reader, writer) = tcp.into_split();
        Ok(Self { reader: Reader::new(reader), writer })
    }

    /// Both halves, each for a task of its own.
    pub fn into_parts(self) -> (OwnedWriteHalf, Reader<OwnedReadHalf>) {
        (self.writer, self.reader)
    }

    /// Sends. That the other side has closed already shows when something is read.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let _ = timeout(LIMIT, self.writer.write_all(bytes.as_ref())).await.expect("it takes what is sent");
        self
    }

    /// Sends, and says whether it went.
    ///
    /// # Errors
    /// The connection is closed, or takes nothing for long.
    pub async fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        timeout(LIMIT, self.writer.write_all(bytes)).await?
    }

    /// Says that nothing more comes; still reads.
    pub async fn half_close(&mut self) -> &mut Self {
        let _ = self.writer.shutdown().await;
        self
    }

    /// Ends with a reset.
    pub fn reset(self) {
        let _ = self.writer.as_ref().set_zero_linger();
        // Dropped, it would say FIN first.
        self.writer.forget();
    }

    /// The next head, 1xx or not.
    pub async fn head(&mut self) -> Result<Message, Wrong> {
        let head = timeout(LIMIT, self.reader.head()).await.map_err(|_| self.late())??;
        Ok(Message { head: head.ok_or("closed without an answer")?, ..Message::default() })
    }

    /// The answer to a request with this method.
    pub async fn answer(&mut self, method: &str) -> Result<Answer, Wrong> {
        let mut interim = vec![];
        loop {
            let mut message = self.head().await?;
            let framing = framing_of_response(&message.head, method)?;
            let status = message.word();
            if status.starts_with('1') && status != "101" {
                interim.push(message);
                continue;
            }
            if status == "101" {
                return Ok(Answer { interim, last: message });
            }
            let body = timeout(LIMIT, self.reader.body(framing, &mut message)).await;
            body.map_err(|_| format!("the body is late: {}", message.shown()))??;
            return Ok(Answer { interim, last: message });
        }
    }

    /// Sends a request and reads its answer.
    pub async fn ask(&mut self, method: &str, bytes: impl AsRef<[u8]>) -> Answer {
        self.send(bytes).await;
        self.answer(method).await.unwrap_or_else(|wrong| panic!("{wrong}"))
    }

    /// So many bytes.
    pub async fn exactly(&mut self, n: usize) -> Result<Vec<u8>, Wrong> {
        timeout(LIMIT, self.reader.exactly(n)).await.map_err(|_| self.late())?
    }

    /// As many bytes as come at once; empty at the end.
    pub async fn some(&mut self) -> Result<Vec<u8>, Wrong> {
        timeout(LIMIT, self.reader.some()).await.map_err(|_| self.late())?
    }

    /// Everything to the end, be it a close or a reset; `None` when there is no end within `limit`.
    pub async fn rest(&mut self, limit: Duration) -> Option<Vec<u8>> {
        let mut all = Message::default();
        match timeout(limit, self.reader.body(Framing::Close, &mut all)).await {
            Ok(Ok(())) => Some(all.body),
            Ok(Err(_)) => Some(self.reader.pending().to_vec()),
            Err(_) => None,
        }
    }

    /// Whether nothing at all comes for so long, not even the end.
    pub async fn is_silent(&mut self, time: Duration) -> bool {
        self.reader.pending().is_empty() && timeout(time, self.reader.fill()).await.is_err()
    }

    fn late(&self) -> Wrong {
        format!("nothing (more) within {LIMIT:?}, after {:?}", crate::message::shown(self.reader.pending()))
    }
}
