//! Where a message ends (RFC 9112 §6.3), decided once from its head. What two recipients could read in two ways is
//! refused: that is what request smuggling lives on (§11.2).

use http::{StatusCode, Version};

/// How long a message's body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// So many bytes; none at all is `Exact(0)`.
    Exact(u64),
    /// As its chunks say.
    Chunked,
    /// Until the connection ends: responses only.
    UntilClose,
}

impl Length {
    /// Whether there is no body.
    pub fn is_empty(self) -> bool {
        self == Self::Exact(0)
    }
}

/// The fields of a head that say how it is framed and what becomes of the connection.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    content_length: Option<u64>,
    transfer_encoding: bool,
    chunked: bool,
    /// `Connection: close`
    pub close: bool,
    /// `Connection: keep-alive`
    pub keep_alive: bool,
    /// `Expect: 100-continue`
    pub expects_continue: bool,
}

impl Seen {
    /// Looks at one field, by its name as it was written.
    pub fn field(&mut self, name: &[u8], value: &[u8]) -> Result<(), &'static str> {
        match name.len() {
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                let before = self.content_length.replace(number(value)?);
                if before.is_some() {
                    return Err("more than one Content-Length");
                }
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                // Anything but one plain `chunked` would have to be undone by us, or is read differently by others.
                self.chunked = !self.transfer_encoding && value.eq_ignore_ascii_case(b"chunked");
                self.transfer_encoding = true;
            }
            10 if name.eq_ignore_ascii_case(b"connection") => {
                for token in value.split(|b| *b == b',').map(<[u8]>::trim_ascii) {
                    self.close |= token.eq_ignore_ascii_case(b"close");
                    self.keep_alive |= token.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            6 if name.eq_ignore_ascii_case(b"expect") => {
                self.expects_continue |= value.eq_ignore_ascii_case(b"100-continue");
            }
            _ => {}
        }
        Ok(())
    }

    /// A request's length.
    pub fn of_request(&self, version: Version) -> Result<Length, &'static str> {
        match (self.transfer_encoding, self.content_length) {
            (false, length) => Ok(Length::Exact(length.unwrap_or(0))),
            (true, Some(_)) => Err("both Transfer-Encoding and Content-Length"),
            (true, None) if version < Version::HTTP_11 => Err("Transfer-Encoding in HTTP/1.0"),
            (true, None) if self.chunked => Ok(Length::Chunked),
            (true, None) => Err("a Transfer-Encoding other than `chunked`"),
        }
    }

    /// A response's length, to a request of method `HEAD` or another.
    pub fn of_response(&self, status: StatusCode, head: bool) -> Result<Length, &'static str> {
        if head || status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
            return Ok(Length::Exact(0));
        }
        match (self.transfer_encoding, self.content_length) {
            (true, Some(_)) => Err("both Transfer-Encoding and Content-Length"),
            (true, None) if self.chunked => Ok(Length::Chunked),
            (true, None) => Err("a Transfer-Encoding other than `chunked`"),
            (false, Some(length)) => Ok(Length::Exact(length)),
            (false, None) => Ok(Length::UntilClose),
        }
    }

    /// Whether the connection lives on after a message of this version.
    pub fn persists(&self, version: Version) -> bool {
        !self.close && (version >= Version::HTTP_11 || self.keep_alive)
    }
}

/// `1*DIGIT`, and no more (RFC 9110 §8.6): no sign, no list.
fn number(value: &[u8]) -> Result<u64, &'static str> {
    const WHY: &str = "a Content-Length that is no number";
    if value.is_empty() || value.len() > 18 || !value.iter().all(u8::is_ascii_digit) {
        return Err(WHY);
    }
    Ok(value.iter().fold(0, |n, digit| n * 10 + u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(fields: &[(&str, &str)]) -> Result<Seen, &'static str> {
        let mut seen = Seen::default();
        for (name, value) in fields {
            seen.field(name.as_bytes(), value.as_bytes())?;
        }
        Ok(seen)
    }

    fn request(fields: &[(&str, &str)]) -> Result<Length, &'static str> {
        seen(fields)?.of_request(Version::HTTP_11)
    }

    #[test]
    fn requests_end_where_one_reading_alone_says() {
        assert_eq!(request(&[]), Ok(Length::Exact(0)));
        assert_eq!(request(&[("Content-Length", "12")]), Ok(Length::Exact(12)));
        assert_eq!(request(&[("TRANSFER-ENCODING", "Chunked")]), Ok(Length::Chunked));
        for bad in ["", "+5", "-0", "5, 5", "5 5", "0x5", "5_0", "99999999999999999999", "1e3"] {
            assert!(request(&[("content-length", bad)]).is_err(), "{bad}");
        }
        for bad in ["gzip", "gzip, chunked", "chunked, chunked", "xchunked", "chunked;q=1", "identity", ""] {
            assert!(request(&[("transfer-encoding", bad)]).is_err(), "{bad}");
        }
        assert!(request(&[("content-length", "5"), ("content-length", "5")]).is_err());
        assert!(request(&[("content-length", "5"), ("transfer-encoding", "chunked")]).is_err());
        assert!(request(&[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")]).is_err());
        assert!(seen(&[("transfer-encoding", "chunked")]).unwrap().of_request(Version::HTTP_10).is_err());
    }

    #[test]
    fn responses_may_have_none_of_what_they_announce() {
        let announced = seen(&[("content-length", "5")]).unwrap();
        assert_eq!(announced.of_response(StatusCode::OK, false), Ok(Length::Exact(5)));
        assert_eq!(announced.of_response(StatusCode::OK, true), Ok(Length::Exact(0)));
        assert_eq!(announced.of_response(StatusCode::NOT_MODIFIED, false), Ok(Length::Exact(0)));
        assert_eq!(Seen::default().of_response(StatusCode::OK, false), Ok(Length::UntilClose));
        assert_eq!(Seen::default().of_response(StatusCode::NO_CONTENT, false), Ok(Length::Exact(0)));
    }

    #[test]
    fn connections_persist_as_their_version_has_it() {
        let plain = Seen::default();
        assert!(plain.persists(Version::HTTP_11) && !plain.persists(Version::HTTP_10));
        assert!(seen(&[("connection", "Keep-Alive, x")]).unwrap().persists(Version::HTTP_10));
        assert!(!seen(&[("Connection", "x,  CLOSE")]).unwrap().persists(Version::HTTP_11));
    }
}
