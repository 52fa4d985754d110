//! HTTP/2 messages over h2's streams, whichever side of the connection we are: bodies as they come ([`Incoming`]) and go
//! ([`Sending`]), streams that go on as bytes ([`Takeover`]), interim responses ([`Interim`]), and peers that fell silent
//! ([`Silence`]).

mod incoming;
mod interim;
mod sending;
mod silence;
mod takeover;

pub use incoming::Incoming;
pub use interim::Interim;
pub use sending::{Broken, Sending};
pub use silence::{Heard, Limits, Silence};
pub use takeover::{Taken, Takeover};

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CONNECTION, CONTENT_LENGTH, TE, TRANSFER_ENCODING, UPGRADE},
};

static FORBIDDEN: [HeaderName; 5] = [
    CONNECTION,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Takes away what HTTP/2 forbids (RFC 9113 §8.2.2): header rules may have added some.
pub fn remove_forbidden(headers: &mut HeaderMap) {
    for name in &FORBIDDEN {
        headers.remove(name);
    }
    if headers.get(TE).is_some_and(|te| te != "trailers") {
        headers.remove(TE);
    }
}

/// Says how long the body is, where it is known and not said yet.
pub fn say_length(headers: &mut HeaderMap, length: Option<u64>) {
    if let Some(length) = length
        && !headers.contains_key(CONTENT_LENGTH)
    {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
}

/// How long a message says that its body is.
pub fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok())
}
