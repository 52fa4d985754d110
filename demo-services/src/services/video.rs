//! `video`: segments of some megabytes, whole or in ranges (RFC 9110 §14). Every byte follows from the title, the
//! segment and its place, so that nothing is stored and a receiver can tell a wrong one.

use super::titles::{mix, mix_text, number};
use crate::app::Parts;
use axum::{
    Router,
    body::Body,
    extract::Path,
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use futures::stream;
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE},
};
use std::{convert::Infallible, ops::Range};

/// The length of a segment.
pub const SEGMENT_BYTES: u64 = 4 * 1024 * 1024;
/// How much is made at a time.
const CHUNK: u64 = 64 * 1024;

pub(super) fn build() -> Parts {
    Parts { router: Router::new().route("/segments/{title}/{n}", get(segment)), admin: Router::new() }
}

/// The bytes of a segment at `range`, which must lie within it.
pub fn bytes_at(title: &str, n: u32, range: Range<u64>) -> Bytes {
    let seed = mix_text(title) ^ u64::from(n);
    let words = range.start / 8..range.end.div_ceil(8);
    let all: Vec<u8> = words.flat_map(|w| mix(seed.wrapping_add(w)).to_le_bytes()).collect();
    let skip = (range.start % 8) as usize;
    Bytes::from(all).slice(skip..skip + (range.end - range.start) as usize)
}

async fn segment(Path((title, n)): Path<(String, u32)>, headers: HeaderMap) -> Response {
    if number(&title).is_none() {
        return StatusCode::NOT_FOUND.into_response();
    }
    match asked(headers.get(RANGE)) {
        Asked::Whole => answer(StatusCode::OK, title, n, 0..SEGMENT_BYTES),
        Asked::Part(range) => {
            let content = format!("bytes {}-{}/{SEGMENT_BYTES}", range.start, range.end - 1);
            ([(CONTENT_RANGE, content)], answer(StatusCode::PARTIAL_CONTENT, title, n, range)).into_response()
        }
        Asked::Impossible => {
            let content = format!("bytes */{SEGMENT_BYTES}");
            (StatusCode::RANGE_NOT_SATISFIABLE, [(CONTENT_RANGE, content)]).into_response()
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Whole,
    Part(Range<u64>),
    Impossible,
}

/// What a `Range` header asks for. One that is malformed, of another unit, or of several parts is ignored, as RFC 9110
/// allows.
fn asked(header: Option<&HeaderValue>) -> Asked {
    let spec = header.and_then(|v| v.to_str().ok()).and_then(|v| v.strip_prefix("bytes="));
    let Some((first, last)) = spec.and_then(|s| s.trim().split_once('-')) else { return Asked::Whole };
    let number = |text: &str| text.parse::<u64>().ok();
    let range = match (first, last) {
        ("", suffix) => match number(suffix) {
            Some(0) => return Asked::Impossible,
            Some(n) => SEGMENT_BYTES.saturating_sub(n)..SEGMENT_BYTES,
            None => return Asked::Whole,
        },
        (first, "") => match number(first) {
            Some(first) => first..SEGMENT_BYTES,
            None => return Asked::Whole,
        },
        (first, last) => match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => first..last.saturating_add(1).min(SEGMENT_BYTES),
            _ => return Asked::Whole,
        },
    };
    if range.start >= SEGMENT_BYTES { Asked::Impossible } else { Asked::Part(range) }
}

fn answer(status: StatusCode, title: String, n: u32, range: Range<u64>) -> Response {
    let length = HeaderValue::from(range.end - range.start);
    let chunks = range.clone().step_by(CHUNK as usize).map(move |start| {
        let end = (start + CHUNK).min(range.end);
        Ok::<_, Infallible>(bytes_at(&title, n, start..end))
    });
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("video/mp4")),
        (ACCEPT_RANGES, HeaderValue::from_static("bytes")),
        (CONTENT_LENGTH, length),
    ];
    (status, headers, Body::from_stream(stream::iter(chunks))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_the_same_bytes_as_in_the_whole() {
        let whole = bytes_at("t-1", 3, 0..4096);
        for (a, b) in [(0, 1), (1, 9), (7, 4000), (4095, 4096)] {
            assert_eq!(bytes_at("t-1", 3, a..b), whole.slice(a as usize..b as usize));
        }
        assert_ne!(whole, bytes_at("t-1", 4, 0..4096));
        assert_ne!(whole, bytes_at("t-2", 3, 0..4096));
    }

    #[test]
    fn ranges_are_read_as_the_rfc_says() {
        let read = |text: &'static str| asked(Some(&HeaderValue::from_static(text)));
        let end = SEGMENT_BYTES;
        assert_eq!(asked(None), Asked::Whole);
        assert_eq!(read("bytes=0-0"), Asked::Part(0..1));
        assert_eq!(read("bytes=10-19"), Asked::Part(10..20));
        assert_eq!(read("bytes=10-"), Asked::Part(10..end));
        assert_eq!(read("bytes=-5"), Asked::Part(end - 5..end));
        assert_eq!(read("bytes=-99999999999"), Asked::Part(0..end));
        assert_eq!(read("bytes=5-99999999999"), Asked::Part(5..end));
        assert_eq!(read("bytes=99999999999-"), Asked::Impossible);
        assert_eq!(read("bytes=-0"), Asked::Impossible);
        for ignored in ["bytes=5-2", "bytes=a-b", "bytes=0-1,3-4", "rows=0-1", "bytes=", "bytes=-", "0-1"] {
            assert_eq!(read(ignored), Asked::Whole, "{ignored}");
        }
    }
}
