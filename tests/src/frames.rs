//! A client of HTTP/2 that sends the frames it is told, also those that no library would send.

use crate::raw::Raw;
use std::{net::SocketAddr, time::Duration};

/// Kinds of frames (RFC 9113 §6).
pub mod kind {
    #![allow(missing_docs, reason = "their names are the RFC's")]
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// No more of this stream comes.
pub const END_STREAM: u8 = 1;
/// No more of these headers comes.
pub const END_HEADERS: u8 = 4;
/// An acknowledgement.
pub const ACK: u8 = 1;

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// See [`kind`].
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream.
    pub stream: u32,
    /// What it carries.
    pub payload: Vec<u8>,
}

impl Frame {
    /// Whether it is the last of its stream.
    pub fn ends(&self) -> bool {
        self.kind == kind::RST_STREAM
            || (matches!(self.kind, kind::DATA | kind::HEADERS) && self.flags & END_STREAM != 0)
    }
}

/// A frame's bytes.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// Fields as they are: nothing indexed, nothing compressed (RFC 7541 §6.2.2).
pub fn block<N: AsRef<[u8]>, V: AsRef<[u8]>>(fields: &[(N, V)]) -> Vec<u8> {
    let mut bytes = vec![];
    for (name, value) in fields {
        bytes.push(0);
        for text in [name.as_ref(), value.as_ref()] {
            length(&mut bytes, text.len());
            bytes.extend_from_slice(text);
        }
    }
    bytes
}

/// An integer with a prefix of seven bits (RFC 7541 §5.1).
fn length(bytes: &mut Vec<u8>, n: usize) {
    if n < 127 {
        return bytes.push(n as u8);
    }
    bytes.push(127);
    let mut rest = n - 127;
    while rest >= 128 {
        bytes.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    bytes.push(rest as u8);
}

/// What a request to `server:8080` begins with.
pub fn pseudo<'a>(method: &'a str, path: &'a str) -> Vec<(&'a [u8], &'a [u8])> {
    vec![
        (b":method", method.as_bytes()),
        (b":scheme", b"http"),
        (b":authority", b"server:8080"),
        (b":path", path.as_bytes()),
    ]
}

/// The status that a header block begins with, where it is one of the static table (RFC 7541, appendix A).
pub fn status(block: &[u8]) -> Option<u16> {
    let known = [(0x88, 200), (0x89, 204), (0x8a, 206), (0x8b, 304), (0x8c, 400), (0x8d, 404), (0x8e, 500)];
    known.iter().find(|(byte, _)| block.first() == Some(byte)).map(|(_, status)| *status)
}

/// One connection.
pub struct Frames {
    raw: Raw,
}

impl Frames {
    /// Connects, and says the preface with these settings.
    pub async fn connect(address: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let mut raw = Raw::connect(address).await;
        raw.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        let mut payload = vec![];
        for (name, value) in settings {
            payload.extend(name.to_be_bytes());
            payload.extend(value.to_be_bytes());
        }
        raw.send(frame(kind::SETTINGS, 0, 0, &payload)).await;
        Self { raw }
    }

    /// Sends.
    ///
    /// # Errors
    /// The connection is closed, or takes nothing for long.
    pub async fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.raw.try_send(bytes).await
    }

    /// The next frame, settings and pings acknowledged; `None` at the end.
    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            let head = self.raw.exactly(9).await.ok()?;
            let size = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
            let frame = Frame { kind: head[3], flags: head[4], stream, payload: self.raw.exactly(size).await.ok()? };
            match frame.kind {
                kind::SETTINGS if frame.flags & ACK == 0 => {
                    let _ = self.send(&self::frame(kind::SETTINGS, ACK, 0, &[])).await;
                }
                kind::PING if frame.flags & ACK == 0 => {
                    let _ = self.send(&self::frame(kind::PING, ACK, 0, &frame.payload)).await;
                }
                kind::SETTINGS | kind::PING | kind::WINDOW_UPDATE => {}
                _ => return Some(frame),
            }
        }
    }

    /// All frames of a stream to its end or the connection's.
    pub async fn stream(&mut self, stream: u32) -> Vec<Frame> {
        let mut all = vec![];
        while let Some(frame) = self.next().await {
            let over = frame.kind == kind::GOAWAY || (frame.stream == stream && frame.ends());
            if frame.stream == stream || frame.kind == kind::GOAWAY {
                all.push(frame);
            }
            if over {
                break;
            }
        }
        all
    }

    /// Whether the connection ends within `limit`, whatever comes before.
    pub async fn is_ended(&mut self, limit: Duration) -> bool {
        self.raw.rest(limit).await.is_some()
    }
}
