//! The server name in the first message of TLS (RFC 8446 §4.1.2, RFC 6066 §3): read, and passed on as it came.
//!
//! A message may come in several records (RFC 8446 §5.1); of what is longer than [`MOST`] the name is not looked for.

/// The bytes of records that are looked at.
pub const MOST: usize = 16 * 1024;

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;

/// What bytes tell of a ClientHello.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hello {
    /// It goes on.
    More,
    /// It is one, with this server name in lower case, if it has one.
    Name(Option<String>),
    /// It is none, or none that is looked at further.
    Other,
}

/// Whether TLS begins so: a handshake record of a version that there is. (Two bytes at least; fewer are not told apart.)
pub fn begins(read: &[u8]) -> bool {
    matches!(read, [HANDSHAKE] | [HANDSHAKE, 3, ..])
}

/// Looks for the server name in what has come so far.
pub fn server_name(read: &[u8]) -> Hello {
    if !begins(read) {
        return if read.is_empty() { Hello::More } else { Hello::Other };
    }
    if read.len() > MOST {
        return Hello::Other;
    }
    let (message, cut) = joined(read);
    let unfinished = if cut { Hello::Other } else { Hello::More };
    match message.first() {
        None => return unfinished,
        Some(&CLIENT_HELLO) => {}
        Some(_) => return Hello::Other,
    }
    let Some(length) = message.get(1..4) else { return unfinished };
    let length = length.iter().fold(0, |n, b| n << 8 | usize::from(*b));
    if length > MOST {
        return Hello::Other;
    }
    match message.get(4..4 + length) {
        None => unfinished,
        Some(body) => match name_in(body) {
            Ok(name) => Hello::Name(name),
            Err(Malformed) => Hello::Other,
        },
    }
}

struct Malformed;

/// The handshake bytes of the records, and whether one of another kind follows: before the end of a message that is a
/// fault (RFC 8446 §5.1).
fn joined(read: &[u8]) -> (Vec<u8>, bool) {
    let mut message = Vec::new();
    let mut rest = read;
    while let [kind, major, _, high, low, after @ ..] = rest {
        if (*kind, *major) != (HANDSHAKE, 3) {
            return (message, true);
        }
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let there = after.len().min(length);
        message.extend_from_slice(after.get(..there).unwrap_or_default());
        if there < length {
            return (message, false);
        }
        rest = after.get(length..).unwrap_or_default();
    }
    (message, false)
}

/// A cursor that never reads past the end.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self, bytes: usize) -> Result<usize, Malformed> {
        Ok(self.take(bytes)?.iter().fold(0, |n, b| n << 8 | usize::from(*b)))
    }

    /// What a length of so many bytes announces.
    fn announced(&mut self, bytes: usize) -> Result<Bytes<'a>, Malformed> {
        let length = self.number(bytes)?;
        self.take(length).map(Bytes)
    }
}

fn name_in(body: &[u8]) -> Result<Option<String>, Malformed> {
    let mut hello = Bytes(body);
    hello.take(2 + 32)?; // version, random
    hello.announced(1)?; // session
    hello.announced(2)?; // cipher suites
    hello.announced(1)?; // compression
    if hello.0.is_empty() {
        return Ok(None);
    }
    let mut extensions = hello.announced(2)?;
    while !extensions.0.is_empty() {
        let kind = extensions.number(2)?;
        let mut extension = extensions.announced(2)?;
        if kind != usize::from(SERVER_NAME) {
            continue;
        }
        let mut names = extension.announced(2)?;
        while !names.0.is_empty() {
            let kind = names.number(1)?;
            let name = names.announced(2)?.0;
            if kind == usize::from(HOST_NAME) {
                return host(name).map(Some);
            }
        }
    }
    Ok(None)
}

fn host(name: &[u8]) -> Result<String, Malformed> {
    let good = (1..=255).contains(&name.len()) && name.iter().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(b));
    let text = std::str::from_utf8(name).map_err(|_| Malformed)?;
    if good { Ok(text.to_ascii_lowercase()) } else { Err(Malformed) }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::Arc;

    /// What rustls really sends.
    pub(in crate::listen) fn real(name: &'static str) -> Vec<u8> {
        let roots = rustls::RootCertStore::empty();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut client = rustls::ClientConnection::new(Arc::new(config), name.try_into().unwrap()).unwrap();
        let mut sent = Vec::new();
        client.write_tls(&mut sent).unwrap();
        sent
    }

    #[test]
    fn a_real_hello_is_read_as_soon_as_it_is_whole_and_never_before() {
        let sent = real("Db.Example.com");
        for n in 0..sent.len() {
            assert_eq!(server_name(&sent[..n]), Hello::More, "{n} of {}", sent.len());
        }
        assert_eq!(server_name(&sent), Hello::Name(Some("db.example.com".into())));
        let more = [&sent[..], b"\x17\x03\x03\x00\x01x"].concat();
        assert_eq!(server_name(&more), Hello::Name(Some("db.example.com".into())), "early data may follow");
        assert_eq!(server_name(&real("127.0.0.1")), Hello::Name(None));
    }

    #[test]
    fn a_hello_in_small_records_is_read_too() {
        let sent = real("db.example.com");
        let message = &sent[5..];
        let records: Vec<u8> = message
            .chunks(7)
            .flat_map(|part| [&[22, 3, 1, 0, u8::try_from(part.len()).unwrap()][..], part].concat())
            .collect();
        assert_eq!(server_name(&records), Hello::Name(Some("db.example.com".into())));
        assert_eq!(server_name(&records[..records.len() - 1]), Hello::More);
    }

    #[test]
    fn a_hello_that_is_broken_off_by_another_record_is_none() {
        let sent = real("db.example.com");
        for n in [1, 3, 4, 60] {
            let begun = [&[22, 3, 1, 0, n][..], &sent[5..5 + usize::from(n)]].concat();
            assert_eq!(server_name(&begun), Hello::More, "{n}");
            assert_eq!(server_name(&[&begun[..], b"\x15\x03\x01\x00\x02\x02\x28"].concat()), Hello::Other, "{n}");
        }
    }

    #[test]
    fn what_is_no_hello_is_known_as_such() {
        for other in [&b"GET / HTTP/1.1\r\n"[..], b"\x16\x02\x00", b"\x16\x03\x01\x00\x04\x02\0\0\0", b"\x17\x03\x03"] {
            assert_eq!(server_name(other), Hello::Other, "{other:?}");
        }
        let mut endless = b"\x16\x03\x01\x40\x00\x01\xff\xff\xff".to_vec();
        assert_eq!(server_name(&endless), Hello::Other, "longer than anybody needs");
        endless.resize(MOST + 1, 0);
        assert_eq!(server_name(&endless), Hello::Other);
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(mut read in proptest::collection::vec(any::<u8>(), 0..600), like in any::<bool>()) {
            if like && read.len() > 6 {
                read[..6].copy_from_slice(&[22, 3, 1, 2, 0, 1]);
            }
            let _ = server_name(&read);
        }

        #[test]
        fn a_real_hello_with_a_fault_is_not_too_strange(at in 0usize..300, byte in any::<u8>()) {
            let mut sent = real("db.example.com");
            let at = at % sent.len();
            sent[at] = byte;
            let _ = server_name(&sent);
        }
    }
}
