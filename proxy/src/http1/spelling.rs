//! Header names as they were written. Names are told apart without case (RFC 9110 §5.1), but there are programs that do
//! not know it, and a sidecar must not be the reason that they break.
//!
//! What is kept is the head itself, which its values share anyway; names are looked up when the next head is written.

use bytes::Bytes;
use smallvec::SmallVec;

/// A head as it came.
#[derive(Debug, Clone)]
pub struct Spelling(Bytes);

impl Spelling {
    /// Of the whole head, from the first line to the empty one.
    pub fn new(head: Bytes) -> Self {
        Self(head)
    }

    /// The words behind the status, if it is this one (RFC 9112 §4).
    pub fn reason(&self, status: u16) -> Option<&[u8]> {
        let line = self.0.strip_prefix(b"HTTP/1.")?;
        let line = line.get(2..line.iter().position(|b| *b == b'\r')?)?;
        let (code, reason) = line.split_at_checked(3)?;
        let same = code.iter().fold(0, |n, b| n * 10 + u16::from(b.wrapping_sub(b'0'))) == status;
        same.then(|| reason.strip_prefix(b" ").unwrap_or(b""))
    }

    /// Goes through its names.
    pub fn names(&self) -> Names<'_> {
        let mut lines = SmallVec::new();
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', &self.0) {
            let line = &self.0[start..end];
            start = end + 1;
            if let Some(colon) = memchr::memchr(b':', line) {
                lines.push(&line[..colon]);
            }
        }
        Names { lines, next: 0 }
    }
}

/// The names of a head, asked for in about the order in which they were written.
#[derive(Debug)]
pub struct Names<'h> {
    lines: SmallVec<[&'h [u8]; 24]>,
    next: usize,
}

impl<'h> Names<'h> {
    /// How `name`, in lower case, was written; itself if it was not.
    pub fn spelt<'n>(&mut self, name: &'n [u8]) -> &'n [u8]
    where
        'h: 'n,
    {
        let found = self.lines.get(self.next).filter(|line| line.eq_ignore_ascii_case(name)).map(|_| self.next);
        let found = found.or_else(|| self.lines.iter().position(|line| line.eq_ignore_ascii_case(name)));
        match found {
            Some(at) => {
                self.next = at + 1;
                self.lines[at]
            }
            None => name,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_as_they_came() {
        let head = Spelling::new(Bytes::from_static(b"GET /a:b HTTP/1.1\r\nHost: a\r\nX-OWN: 1\r\nx-own: 2\r\n\r\n"));
        let mut names = head.names();
        assert_eq!(names.spelt(b"host"), b"Host");
        assert_eq!(names.spelt(b"x-own"), b"X-OWN");
        assert_eq!(names.spelt(b"x-own"), b"x-own");
        assert_eq!(names.spelt(b"traceparent"), b"traceparent");
        assert_eq!(names.spelt(b"host"), b"Host");
    }

    #[test]
    fn a_reason_belongs_to_its_status() {
        let head = Spelling::new(Bytes::from_static(b"HTTP/1.1 404 Gone Fishing\r\n\r\n"));
        assert_eq!(head.reason(404), Some(&b"Gone Fishing"[..]));
        assert_eq!(head.reason(200), None);
        assert_eq!(Spelling::new(Bytes::from_static(b"HTTP/1.1 200\r\n\r\n")).reason(200), Some(&b""[..]));
        assert_eq!(Spelling::new(Bytes::from_static(b"HTTP/1.")).reason(200), None);
    }
}
