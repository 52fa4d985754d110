//! Trace context (W3C Trace Context, levels 1 and 2) and request identifiers. Randomness is passed in.

use bytes::Bytes;
use http::HeaderValue;

/// The request header that carries it.
pub const TRACEPARENT: &str = "traceparent";

/// A trace, and the caller's place in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: u128,
    span_id: u64,
    flags: u8,
}

/// Sampled (level 1), random trace id (level 2).
const SAMPLED: u8 = 1;
const KNOWN_FLAGS: u8 = 3;

impl TraceContext {
    /// A new trace. Draws of zero, which no id may be, become one.
    pub fn new(trace: u128, span: u64, sampled: bool) -> Self {
        Self { trace_id: trace.max(1), span_id: span.max(1), flags: 2 | u8::from(sampled) }
    }

    /// From a `traceparent` header. Of later versions the part that this one knows is read (§3.2.4).
    pub fn parse(value: &[u8]) -> Option<Self> {
        let version = u8::try_from(hex(value.get(..2)?)?).ok()?;
        let fits = match version {
            0 => value.len() == 55,
            255 => false,
            _ => value.len() == 55 || value.get(55) == Some(&b'-'),
        };
        if !fits || [2, 35, 52].iter().any(|at| value.get(*at) != Some(&b'-')) {
            return None;
        }
        let trace_id = hex(&value[3..35])?;
        let span_id = u64::try_from(hex(&value[36..52])?).ok()?;
        let flags = u8::try_from(hex(&value[53..55])?).ok()? & KNOWN_FLAGS;
        (trace_id != 0 && span_id != 0).then_some(Self { trace_id, span_id, flags })
    }

    /// The same trace with a span of ours.
    pub fn child(self, span: u64) -> Self {
        Self { span_id: span.max(1), ..self }
    }

    /// Whether the caller records it.
    pub fn is_sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// 32 hexadecimal digits.
    pub fn trace_id(self) -> String {
        format!("{:032x}", self.trace_id)
    }

    /// 16 hexadecimal digits.
    pub fn span_id(self) -> String {
        format!("{:016x}", self.span_id)
    }

    /// The header to send on.
    pub fn header(self) -> HeaderValue {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        write_hex(&mut text[3..35], &self.trace_id.to_be_bytes());
        write_hex(&mut text[36..52], &self.span_id.to_be_bytes());
        write_hex(&mut text[53..55], &[self.flags]);
        value(&text)
    }
}

/// A new `x-request-id`: a random UUID (RFC 9562, version 4).
pub fn request_id(draw: u128) -> HeaderValue {
    let id = draw & !(0xf << 76) & !(0x3 << 62) | (4 << 76) | (2 << 62);
    let mut text = *b"00000000-0000-0000-0000-000000000000";
    let bytes = id.to_be_bytes();
    for (at, part) in [(0, 0..4), (9, 4..6), (14, 6..8), (19, 8..10), (24, 10..16)] {
        write_hex(&mut text[at..], &bytes[part]);
    }
    value(&text)
}

/// Never the same again: HTTP/2 need not remember it (RFC 7541 §7.1.3), which spares both sides' tables.
fn value(text: &[u8]) -> HeaderValue {
    let value = HeaderValue::from_maybe_shared(Bytes::copy_from_slice(text));
    let mut value = value.unwrap_or_else(|_| HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}

/// Two digits a byte. (`format!` takes ten times as long, on every request.)
fn write_hex(out: &mut [u8], bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (pair, byte) in out.chunks_exact_mut(2).zip(bytes) {
        pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 0xf)]]);
    }
}

/// Lower-case hexadecimal digits only (§3.2.2).
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0u128, |n, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(n << 4 | u128::from(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EXAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn the_specification_s_example_is_read_and_continued() {
        let context = TraceContext::parse(EXAMPLE.as_bytes()).unwrap();
        assert!(context.is_sampled());
        assert_eq!(context.header(), EXAMPLE);
        let child = context.child(0xabc);
        assert_eq!(child.trace_id(), context.trace_id());
        assert_eq!(child.span_id(), "0000000000000abc");
    }

    #[test]
    fn what_the_specification_refuses_is_refused() {
        for bad in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.what",
        ] {
            assert_eq!(TraceContext::parse(bad.as_bytes()), None, "{bad}");
        }
        let later = "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-09-what";
        assert_eq!(TraceContext::parse(later.as_bytes()).unwrap().header(), EXAMPLE);
    }

    #[test]
    fn http2_need_not_remember_what_is_said_once() {
        assert!(request_id(1).is_sensitive() && TraceContext::new(1, 1, true).header().is_sensitive());
    }

    #[test]
    fn request_ids_are_uuids_of_version_4() {
        assert_eq!(request_id(0), "00000000-0000-4000-8000-000000000000");
        assert_eq!(request_id(u128::MAX), "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(trace: u128, span: u64, sampled: bool) {
            let context = TraceContext::new(trace, span, sampled);
            prop_assert_eq!(TraceContext::parse(context.header().as_bytes()), Some(context));
        }

        #[test]
        fn nothing_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = TraceContext::parse(&bytes);
        }
    }
}
