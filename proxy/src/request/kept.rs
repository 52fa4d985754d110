//! A request's head as it is kept for a further try, which most never need: in one piece of memory. A copy of the map of
//! its fields would be four times as large, and with many requests under way a processor's cache would not hold them.

use bytes::Buf;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version, request::Parts};

/// A value that is not to enter a table of header compression (RFC 7541 §7.1.3).
const SENSITIVE: u32 = 1 << 31;

/// Most heads fit.
const ROOM: usize = 512;

/// Method, target, version and fields.
pub struct Kept {
    method: Method,
    uri: Uri,
    version: Version,
    /// The fields in their order: the lengths of name and value, and both.
    fields: Vec<u8>,
}

impl Kept {
    /// A copy.
    pub fn of(parts: &Parts) -> Self {
        let mut fields = Vec::with_capacity(ROOM);
        for (name, value) in &parts.headers {
            let (name, sensitive) = (name.as_str().as_bytes(), if value.is_sensitive() { SENSITIVE } else { 0 });
            // Both are far shorter than 2³¹: a head is limited.
            let lengths = u64::from(name.len() as u32) << 32 | u64::from(value.len() as u32 | sensitive);
            fields.extend_from_slice(&lengths.to_be_bytes());
            fields.extend_from_slice(name);
            fields.extend_from_slice(value.as_bytes());
        }
        let Parts { method, uri, version, .. } = parts;
        Self { method: method.clone(), uri: uri.clone(), version: *version, fields }
    }

    /// A copy of what was kept.
    pub fn head(&self) -> Parts {
        let mut parts = http::Request::new(()).into_parts().0;
        parts.method = self.method.clone();
        parts.uri = self.uri.clone();
        parts.version = self.version;
        parts.headers = self.headers();
        parts
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let mut left = &self.fields[..];
        while left.len() >= 8 {
            let (name, value) = (left.get_u32() as usize, left.get_u32());
            let (field, rest) = left.split_at(name + (value & !SENSITIVE) as usize);
            left = rest;
            // They were a name and a value.
            let field = HeaderName::from_bytes(&field[..name]).ok().zip(HeaderValue::from_bytes(&field[name..]).ok());
            if let Some((name, mut field)) = field {
                field.set_sensitive(value & SENSITIVE != 0);
                headers.append(name, field);
            }
        }
        headers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_the_same_head() {
        let mut request = http::Request::put("http://a:8080/x?y=%20").version(Version::HTTP_2).body(()).unwrap();
        let headers = request.headers_mut();
        headers.append("x-mine", HeaderValue::from_static("1"));
        headers.append("accept", HeaderValue::from_bytes(b"\xff\x80 \t").unwrap());
        headers.append("x-mine", HeaderValue::from_static(""));
        headers.append("x-long", "y".repeat(100_000).try_into().unwrap());
        let mut secret = HeaderValue::from_static("secret");
        secret.set_sensitive(true);
        headers.append("authorization", secret);
        let (parts, ()) = request.into_parts();
        let again = Kept::of(&parts).head();
        assert_eq!((&again.method, &again.uri, again.version), (&parts.method, &parts.uri, parts.version));
        assert_eq!(again.headers, parts.headers);
        assert_eq!(
            again.headers.keys().collect::<Vec<_>>(),
            parts.headers.keys().collect::<Vec<_>>(),
            "the same order"
        );
        let sensitive = |name: &str| again.headers[name].is_sensitive();
        assert_eq!(["authorization", "accept"].map(sensitive), [true, false]);
        let bare = http::Request::new(()).into_parts().0;
        assert!(Kept::of(&bare).head().headers.is_empty());
    }
}
