//! Bodies in chunks (RFC 9112 §7.1), read byte by byte of what has come, with no memory of their own but the trailers.

use super::{MAX_HEAD_BYTES, MAX_HEADERS, head};
use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, header};

/// The bytes that the lines between the chunks' data may have, extensions included: they carry nothing that we pass on.
const MAX_EXTENSION: usize = 4 * 1024;

/// Reads a chunked body.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    /// Of the chunk that is being read.
    left: u64,
    /// Bytes of extensions so far, over the whole body.
    extensions: usize,
    /// How far the trailers have been looked through.
    scanned: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the first digit.
    Begin,
    Size,
    /// Blanks behind the size.
    Blank,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    Trailers,
    Done,
    /// It broke the rules: what follows is nothing that can be told.
    Failed,
}

/// What comes next of a body.
#[derive(Debug)]
pub enum Piece {
    /// Some bytes.
    Data(Bytes),
    /// The end, and its trailers.
    End(Option<HeaderMap>),
}

impl Default for Decoder {
    fn default() -> Self {
        Self { state: State::Begin, left: 0, extensions: 0, scanned: 0 }
    }
}

impl Decoder {
    /// Whether the body has been read to its end.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// The next piece of what is in `buf`; `None`: more must come. After an error there is nothing but errors.
    pub fn next(&mut self, buf: &mut BytesMut) -> Result<Option<Piece>, &'static str> {
        let next = self.piece(buf);
        if next.is_err() {
            self.state = State::Failed;
        }
        next
    }

    fn piece(&mut self, buf: &mut BytesMut) -> Result<Option<Piece>, &'static str> {
        loop {
            match self.state {
                State::Done => return Ok(Some(Piece::End(None))),
                State::Failed => return Err("the body has broken the rules"),
                State::Data => {
                    if buf.is_empty() {
                        return Ok(None);
                    }
                    let n = buf.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
                    self.left -= n as u64;
                    if self.left == 0 {
                        self.state = State::DataCr;
                    }
                    return Ok(Some(Piece::Data(buf.split_to(n).freeze())));
                }
                State::Trailers => return self.trailers(buf),
                _ => {
                    let Some(byte) = buf.first().copied() else { return Ok(None) };
                    buf.advance(1);
                    self.state = self.line(byte)?;
                }
            }
        }
    }

    /// One byte of what stands between the data.
    fn line(&mut self, byte: u8) -> Result<State, &'static str> {
        match (self.state, byte) {
            (State::Begin | State::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                if self.left >> 56 != 0 {
                    return Err("a chunk's size is too large");
                }
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                self.left = self.left << 4 | u64::from(digit);
                Ok(State::Size)
            }
            (State::Size | State::Blank | State::Extension, b'\r') => Ok(State::SizeLf),
            (State::Size | State::Blank, b';') => self.extension(),
            (State::Size | State::Blank, b' ' | b'\t') => self.extension().map(|_| State::Blank),
            (State::Extension, b'\n' | 0) => Err("a line of a chunk ends wrongly"),
            (State::Extension, _) => self.extension(),
            (State::SizeLf, b'\n') if self.left == 0 => Ok(State::Trailers),
            (State::SizeLf, b'\n') => Ok(State::Data),
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => Ok(State::Begin),
            (State::DataCr | State::DataLf, _) => Err("a chunk is longer than it says"),
            _ => Err("a chunk's size is no number"),
        }
    }

    fn extension(&mut self) -> Result<State, &'static str> {
        self.extensions += 1;
        if self.extensions > MAX_EXTENSION {
            return Err("too many chunk extensions");
        }
        Ok(State::Extension)
    }

    fn trailers(&mut self, buf: &mut BytesMut) -> Result<Option<Piece>, &'static str> {
        if buf.starts_with(b"\r\n") {
            buf.advance(2);
            self.state = State::Done;
            return Ok(Some(Piece::End(None)));
        }
        let end = match head::end(buf, &mut self.scanned)? {
            Some(end) if end <= MAX_HEAD_BYTES => end,
            None if buf.len() <= MAX_HEAD_BYTES => return Ok(None),
            _ => return Err("the trailers are too large"),
        };
        let raw = buf.split_to(end).freeze();
        let mut fields = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let fields = match httparse::parse_headers(&raw, &mut fields) {
            Ok(httparse::Status::Complete((_, fields))) => fields,
            _ => return Err("the trailers are malformed"),
        };
        let mut map = HeaderMap::with_capacity(fields.len());
        for field in fields {
            let (name, value) = head::field(&raw, field)?;
            if may_trail(&name) {
                map.append(name, value);
            }
        }
        self.state = State::Done;
        Ok(Some(Piece::End((!map.is_empty()).then_some(map))))
    }
}

/// Whether a field may stand behind the body (RFC 9110 §6.5.1): those that frame, route or authorise may not, and are left
/// out.
pub fn may_trail(name: &http::HeaderName) -> bool {
    ![
        header::TRANSFER_ENCODING,
        header::CONTENT_LENGTH,
        header::HOST,
        header::CONNECTION,
        header::UPGRADE,
        header::TE,
        header::TRAILER,
        header::EXPECT,
        header::AUTHORIZATION,
        header::COOKIE,
        header::SET_COOKIE,
    ]
    .contains(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The data, the trailers, and what is left.
    type Decoded = (Vec<u8>, Option<HeaderMap>, Vec<u8>);

    /// Decodes a body, given in pieces of `step` bytes.
    fn decode(body: &[u8], step: usize) -> Result<Decoded, &'static str> {
        let (mut decoder, mut buf, mut data) = (Decoder::default(), BytesMut::new(), Vec::new());
        let mut pieces = body.chunks(step);
        loop {
            match decoder.next(&mut buf)? {
                Some(Piece::Data(bytes)) => data.extend_from_slice(&bytes),
                Some(Piece::End(trailers)) => {
                    let rest = pieces.flatten().copied();
                    return Ok((data, trailers, buf.iter().copied().chain(rest).collect()));
                }
                None => buf.extend_from_slice(pieces.next().ok_or("it ends too early")?),
            }
        }
    }

    #[test]
    fn chunks_are_joined_however_they_come() {
        let body = b"5\r\nhello\r\n0006; a=\"b\"\r\n world\r\n0\r\nX-Sum: 7\r\nContent-Length: 3\r\n\r\nGET /";
        for step in 1..body.len() {
            let (data, trailers, rest) = decode(body, step).unwrap();
            assert_eq!(data, b"hello world", "{step}");
            let trailers = trailers.unwrap();
            assert_eq!((trailers.len(), &trailers["x-sum"]), (1, &"7".parse().unwrap()));
            assert_eq!(rest, b"GET /", "{step}");
        }
        assert_eq!(decode(b"0\r\n\r\n", 3), Ok((vec![], None, vec![])));
    }

    #[test]
    fn what_others_might_read_otherwise_is_refused() {
        for bad in [
            "-1\r\n",
            "+5\r\nhello",
            "0x5\r\nhello",
            "5\nhello",
            " 5\r\nhello",
            "5\r\nhello5\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "5_0\r\n",
            "\r\n",
            ";a\r\n",
            "5;a\nhello",
            "5\rhello",
            "5 5\r\nhello",
            "fffffffffffffffff\r\n",
            "5\r\r\nhello",
            "0\r\na: b\n\r\n",
            "0\r\n a: b\r\n\r\n",
            "0\r\na : b\r\n\r\n",
            "0\r\na: b\r\n c\r\n\r\n",
        ] {
            for step in [1, bad.len()] {
                let error = decode(bad.as_bytes(), step).unwrap_err();
                assert_ne!(error, "it ends too early", "{bad:?}");
            }
        }
        let large = format!("0\r\na: {}\r\n\r\n", "b".repeat(MAX_HEAD_BYTES));
        for step in [1000, large.len()] {
            assert_eq!(decode(large.as_bytes(), step).unwrap_err(), "the trailers are too large");
        }
        let endless = format!("1;{}", "a".repeat(MAX_EXTENSION + 1));
        assert_eq!(decode(endless.as_bytes(), 100).unwrap_err(), "too many chunk extensions");
    }

    proptest::proptest! {
        #[test]
        fn whatever_comes_is_data_or_an_error(body: Vec<u8>, step in 1_usize..16) {
            let _ = decode(&body, step);
        }

        #[test]
        fn every_split_of_a_body_comes_out_whole(pieces: Vec<Vec<u8>>, step in 1_usize..64) {
            let mut body = Vec::new();
            for piece in pieces.iter().filter(|p| !p.is_empty()) {
                body.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                body.extend_from_slice(piece);
                body.extend_from_slice(b"\r\n");
            }
            body.extend_from_slice(b"0\r\n\r\n");
            proptest::prop_assert_eq!(decode(&body, step).unwrap().0, pieces.concat());
        }
    }
}
