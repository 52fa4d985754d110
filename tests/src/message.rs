//! HTTP/1 messages as exact bytes, read with no indulgence: whatever two readers could take in two ways is an error. What
//! a sidecar sends is read with this, so that its boundaries are beyond doubt.

use tokio::io::{AsyncRead, AsyncReadExt};

/// What is wrong with what came.
pub type Wrong = String;

/// One message, as it came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// Start line and fields, with the empty line.
    pub head: Vec<u8>,
    /// The body, out of its chunks.
    pub body: Vec<u8>,
    /// Trailer lines, without the empty line.
    pub trailers: Vec<u8>,
    /// Whether the body came in chunks.
    pub chunked: bool,
    /// Whether it has come whole.
    pub complete: bool,
}

impl Message {
    /// The lines of the head, without their ends.
    pub fn lines(&self) -> impl Iterator<Item = &[u8]> {
        split(&self.head)
    }

    /// The first line.
    pub fn line(&self) -> String {
        text(self.lines().next().unwrap_or_default())
    }

    /// The second word of the first line: a request's target, a response's status.
    pub fn word(&self) -> String {
        self.line().split(' ').nth(1).unwrap_or_default().to_owned()
    }

    /// The values of a field, whatever the case of its name.
    pub fn all(&self, name: &str) -> Vec<String> {
        self.lines()
            .skip(1)
            .filter_map(|l| field(l).filter(|(n, _)| n.eq_ignore_ascii_case(name)))
            .map(|(_, v)| v)
            .collect()
    }

    /// The value of a field that is there once.
    pub fn one(&self, name: &str) -> Option<String> {
        let mut all = self.all(name);
        (all.len() == 1).then(|| all.remove(0))
    }

    /// Whether this very line is in the head.
    pub fn has(&self, line: impl AsRef<[u8]>) -> bool {
        self.lines().any(|l| l == line.as_ref())
    }

    /// The names of all fields, as they were written.
    pub fn names(&self) -> Vec<String> {
        self.lines().skip(1).filter_map(field).map(|(name, _)| name).collect()
    }

    /// For failure messages.
    pub fn shown(&self) -> String {
        format!("{}{} bytes of body", shown(&self.head), self.body.len())
    }
}

fn split(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    head.split(|b| *b == b'\n').map(|l| l.strip_suffix(b"\r").unwrap_or(l)).filter(|l| !l.is_empty())
}

fn field(line: &[u8]) -> Option<(String, String)> {
    let colon = line.iter().position(|b| *b == b':')?;
    Some((text(&line[..colon]), text(line[colon + 1..].trim_ascii())))
}

/// Bytes as text, each byte a character (ISO 8859-1).
pub fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|b| char::from(*b)).collect()
}

/// Bytes for people.
pub fn shown(bytes: &[u8]) -> String {
    let few = &bytes[..bytes.len().min(2000)];
    few.escape_ascii().to_string().replace("\\r\\n", "\\r\\n\n")
}

/// How the end of a body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    Nothing,
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked,
    /// The connection's end.
    Close,
}

type Tap = Box<dyn FnMut(&[u8]) + Send>;

/// Reads messages.
pub struct Reader<R> {
    io: R,
    buffer: Vec<u8>,
    tap: Option<Tap>,
}

/// The longest line or head that is read.
const LIMIT: usize = 1 << 20;

impl<R: AsyncRead + Unpin> Reader<R> {
    /// From the beginning of a connection.
    pub fn new(io: R) -> Self {
        Self { io, buffer: vec![], tap: None }
    }

    /// Shows every byte that comes to `tap`.
    pub fn tapped(mut self, tap: impl FnMut(&[u8]) + Send + 'static) -> Self {
        self.tap = Some(Box::new(tap));
        self
    }

    /// What has been read and not been taken.
    pub fn pending(&self) -> &[u8] {
        &self.buffer
    }

    /// `false`: the other side has ended.
    pub async fn fill(&mut self) -> Result<bool, Wrong> {
        let before = self.buffer.len();
        let read = self.io.read_buf(&mut self.buffer).await.map_err(|e| format!("the connection broke: {e}"))?;
        if let Some(tap) = &mut self.tap {
            tap(&self.buffer[before..]);
        }
        Ok(read > 0)
    }

    /// As many bytes as are there, at least one; empty at the end.
    pub async fn some(&mut self) -> Result<Vec<u8>, Wrong> {
        if self.buffer.is_empty() {
            self.fill().await?;
        }
        Ok(std::mem::take(&mut self.buffer))
    }

    /// So many bytes.
    pub async fn exactly(&mut self, n: usize) -> Result<Vec<u8>, Wrong> {
        while self.buffer.len() < n {
            if !self.fill().await? {
                return Err(format!("ended after {} of {n} bytes", self.buffer.len()));
            }
        }
        Ok(self.buffer.drain(..n).collect())
    }

    /// Up to the end of `mark`.
    pub async fn until(&mut self, mark: &[u8]) -> Result<Vec<u8>, Wrong> {
        let mut from = 0;
        loop {
            if let Some(at) = self.buffer[from..].windows(mark.len()).position(|w| w == mark) {
                return Ok(self.buffer.drain(..from + at + mark.len()).collect());
            }
            from = (self.buffer.len() + 1).saturating_sub(mark.len());
            if self.buffer.len() > LIMIT {
                return Err("too long".into());
            }
            if !self.fill().await? {
                return Err(format!("ended within {:?}", shown(&self.buffer)));
            }
        }
    }

    /// The next head, or `None` when the other side ended in between.
    pub async fn head(&mut self) -> Result<Option<Vec<u8>>, Wrong> {
        if self.buffer.is_empty() && !self.fill().await? {
            return Ok(None);
        }
        let head = self.until(b"\r\n\r\n").await?;
        check_lines(&head[..head.len() - 2])?;
        Ok(Some(head))
    }

    /// The body that follows a head, into `message`.
    pub async fn body(&mut self, framing: Framing, message: &mut Message) -> Result<(), Wrong> {
        match framing {
            Framing::Nothing => {}
            Framing::Length(n) => message.body = self.exactly(n as usize).await?,
            Framing::Close => {
                while self.fill().await? {}
                message.body = std::mem::take(&mut self.buffer);
            }
            Framing::Chunked => self.chunks(message).await?,
        }
        message.complete = true;
        Ok(())
    }

    async fn chunks(&mut self, message: &mut Message) -> Result<(), Wrong> {
        message.chunked = true;
        loop {
            let line = self.until(b"\r\n").await?;
            let line = text(&line[..line.len() - 2]);
            let size = line.split(';').next().unwrap_or_default();
            if size.is_empty() || size.len() > 15 || !size.bytes().all(|b| b.is_ascii_hexdigit()) || line.contains('\n')
            {
                return Err(format!("a chunk size {line:?}"));
            }
            let size = usize::from_str_radix(size, 16).map_err(|e| e.to_string())?;
            if size == 0 {
                break;
            }
            message.body.append(&mut self.exactly(size).await?);
            if self.exactly(2).await? != b"\r\n" {
                return Err("no line end after a chunk".into());
            }
        }
        loop {
            let mut line = self.until(b"\r\n").await?;
            if line == b"\r\n" {
                break;
            }
            message.trailers.append(&mut line);
        }
        if message.trailers.is_empty() { Ok(()) } else { check_fields(&message.trailers) }
    }
}

/// How a request's body ends (RFC 9112 §6.3), taken strictly.
pub fn framing_of_request(head: &[u8]) -> Result<Framing, Wrong> {
    Ok(declared(head)?.unwrap_or(Framing::Nothing))
}

/// How the body of a response to `method` ends.
pub fn framing_of_response(head: &[u8], method: &str) -> Result<Framing, Wrong> {
    let message = Message { head: head.to_vec(), ..Message::default() };
    let status: u16 = message.word().parse().map_err(|_| format!("a status line {:?}", message.line()))?;
    let declared = declared(head)?;
    if method == "HEAD" || status < 200 || status == 204 || status == 304 || (method == "CONNECT" && status < 300) {
        return Ok(Framing::Nothing);
    }
    Ok(declared.unwrap_or(Framing::Close))
}

fn declared(head: &[u8]) -> Result<Option<Framing>, Wrong> {
    let message = Message { head: head.to_vec(), ..Message::default() };
    let (lengths, codings) = (message.all("content-length"), message.all("transfer-encoding"));
    match (&lengths[..], &codings[..]) {
        ([], []) => Ok(None),
        ([length], []) if !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit()) => {
            length.parse().map(|n| Some(Framing::Length(n))).map_err(|e| e.to_string())
        }
        ([], [coding]) if coding.eq_ignore_ascii_case("chunked") => Ok(Some(Framing::Chunked)),
        _ => Err(format!("framing in doubt: lengths {lengths:?}, codings {codings:?}")),
    }
}

/// A start line and fields: each line ends with CRLF, nothing else is a control character.
fn check_lines(lines: &[u8]) -> Result<(), Wrong> {
    let first = lines.windows(2).position(|w| w == b"\r\n").ok_or("no start line")?;
    let start = &lines[..first];
    if start.iter().any(|b| *b < b' ' || *b == 0x7f) || start.iter().filter(|b| **b == b' ').count() < 2 {
        return Err(format!("a start line {:?}", shown(start)));
    }
    if !start.starts_with(b"HTTP/1.") && start.iter().filter(|b| **b == b' ').count() != 2 {
        return Err(format!("a request line {:?}", shown(start)));
    }
    check_fields(&lines[first + 2..])
}

fn check_fields(lines: &[u8]) -> Result<(), Wrong> {
    let mut rest = lines;
    while !rest.is_empty() {
        let end = rest.windows(2).position(|w| w == b"\r\n").ok_or("a field without line end")?;
        let (line, after) = (&rest[..end], &rest[end + 2..]);
        let colon = line.iter().position(|b| *b == b':').ok_or_else(|| format!("no field: {:?}", shown(line)))?;
        let token = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
        if colon == 0 || !line[..colon].iter().all(token) {
            return Err(format!("a field name in {:?}", shown(line)));
        }
        if line[colon..].iter().any(|b| (*b < b' ' && *b != b'\t') || *b == 0x7f) {
            return Err(format!("a field value in {:?}", shown(line)));
        }
        rest = after;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(bytes: &[u8]) -> Result<Message, Wrong> {
        let mut reader = Reader::new(bytes);
        let head = reader.head().await?.ok_or("nothing")?;
        let framing = framing_of_request(&head)?;
        let mut message = Message { head, ..Message::default() };
        reader.body(framing, &mut message).await?;
        Ok(message)
    }

    #[tokio::test]
    async fn what_is_clear_is_read_and_what_is_in_doubt_is_not() {
        let whole =
            read(b"POST /a HTTP/1.1\r\nX-Y: z\r\nTransfer-Encoding: chunked\r\n\r\n3;e\r\nabc\r\n0\r\nT: 1\r\n\r\n")
                .await;
        let whole = whole.unwrap();
        assert_eq!(
            (&whole.body[..], &whole.trailers[..], whole.word().as_str()),
            (&b"abc"[..], &b"T: 1\r\n"[..], "/a")
        );
        assert!(whole.has("X-Y: z") && !whole.has("x-y: z") && whole.one("x-y").as_deref() == Some("z"));
        for doubtful in [
            &b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"[..],
            b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
            b"POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\na",
            b"POST / HTTP/1.1\r\nContent-Length : 1\r\n\r\na",
            b"POST / HTTP/1.1\r\nX: a\nContent-Length: 1\r\n\r\na",
            b"POST / HTTP/1.1\r\n Content-Length: 1\r\n\r\na",
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n",
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
            b"POST  / HTTP/1.1\r\n\r\n",
            b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nabc",
        ] {
            assert!(read(doubtful).await.is_err(), "{}", shown(doubtful));
        }
    }
}
