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
}

/// The fields of a head, asked for in about the order in which they were written. Large: it is read into where it stands.
#[derive(Debug, Default)]
pub struct Lines<'h> {
    /// Each with its end of line, and where its name ends.
    lines: SmallVec<[(&'h [u8], usize); 24]>,
    next: usize,
}

/// How a field was written.
#[derive(Debug, PartialEq, Eq)]
pub enum Spelt<'h> {
    /// With this very value: the whole line can be written again.
    Whole(&'h [u8]),
    /// By this name, with another value.
    Name(&'h [u8]),
    /// It was not.
    New,
}

impl<'h> Lines<'h> {
    /// Goes through the fields of a head.
    pub fn read(&mut self, head: &'h Spelling) {
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', &head.0) {
            let whole = &head.0[start..=end];
            start = end + 1;
            if let Some(colon) = memchr::memchr(b':', whole) {
                self.lines.push((whole, colon));
            }
        }
    }

    /// How the field of `name`, in lower case, was written.
    pub fn spelt(&mut self, name: &[u8], value: &[u8]) -> Spelt<'h> {
        let named = |(whole, colon): &(&[u8], usize)| whole[..*colon].eq_ignore_ascii_case(name);
        let found = self.lines.get(self.next).filter(|line| named(line)).map(|_| self.next);
        let Some(at) = found.or_else(|| self.lines.iter().position(named)) else { return Spelt::New };
        self.next = at + 1;
        let (whole, colon) = self.lines[at];
        // The value shares the bytes of its head: the same place is the same value.
        let same = whole[colon..].as_ptr_range().contains(&value.as_ptr())
            && whole[colon + 1..].trim_ascii().len() == value.len();
        if same { Spelt::Whole(whole) } else { Spelt::Name(&whole[..colon]) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_written_as_they_came() {
        let raw = Bytes::from_static(b"GET /a:b HTTP/1.1\r\nHost:  a \r\nX-OWN: 1\r\nx-own: 2\r\n\r\n");
        let (head, value) = (Spelling::new(raw.clone()), |text: &str| {
            let at = raw.windows(text.len()).rposition(|w| w == text.as_bytes()).unwrap();
            raw.slice(at..at + text.len())
        });
        let mut lines = Lines::default();
        lines.read(&head);
        assert_eq!(lines.spelt(b"host", b"a"), Spelt::Name(b"Host"));
        assert_eq!(lines.spelt(b"x-own", &value("1.1")[..1]), Spelt::Name(b"X-OWN"), "the 1 of the version is another");
        assert_eq!(lines.spelt(b"x-own", &value("2")), Spelt::Whole(b"x-own: 2\r\n"));
        assert_eq!(lines.spelt(b"traceparent", b"00"), Spelt::New);
        assert_eq!(lines.spelt(b"host", &value("a ")[..1]), Spelt::Whole(b"Host:  a \r\n"));
        assert_eq!(lines.spelt(b"x-own", &value(": 1")[2..]), Spelt::Whole(b"X-OWN: 1\r\n"));
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
