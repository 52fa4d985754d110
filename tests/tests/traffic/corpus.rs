//! Reads `attacks.txt` and `lies.txt`: names, outcomes, bytes.

use weir_tests::message::text;

/// One entry.
#[derive(Debug)]
pub struct Entry {
    /// What it is called.
    pub name: String,
    /// The outcomes that are permitted, each a list in which order does not matter.
    pub outcomes: Vec<Vec<String>>,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl Entry {
    /// Whether one of the permitted outcomes is what was seen.
    pub fn permits(&self, seen: &[String]) -> bool {
        let mut seen = seen.to_vec();
        seen.sort();
        self.outcomes.iter().any(|outcome| {
            let mut outcome = outcome.clone();
            if outcome.len() > 1 {
                // Every connection ends; only one that ends without anything else says so.
                outcome.retain(|o| o != "closed");
            }
            outcome.sort();
            outcome == seen
        })
    }

    /// Whether nothing but a refusal will do for its first request.
    pub fn must_be_refused(&self) -> bool {
        self.outcomes.iter().all(|o| o[0] == "refused")
    }
}

/// All entries of a file.
pub fn entries(file: &str, host: &str, marker: &str) -> Vec<Entry> {
    let mut found: Vec<Entry> = vec![];
    for line in file.lines() {
        if let Some(name) = line.strip_prefix("@ ") {
            assert!(found.iter().all(|e| e.name != name), "{name} is there twice");
            found.push(Entry { name: name.into(), outcomes: vec![], bytes: vec![] });
        } else if let Some(outcomes) = line.strip_prefix("> ") {
            let list = |one: &str| one.split(';').map(|o| o.trim().to_owned()).collect();
            found.last_mut().expect("a name").outcomes = outcomes.split('|').map(list).collect();
        } else if let Some(bytes) = line.strip_prefix("  ") {
            found.last_mut().expect("a name").bytes.extend(unescape(bytes, host, marker));
        } else {
            assert!(line.is_empty() || line.starts_with('#'), "neither name nor outcome nor bytes: {line:?}");
        }
    }
    for entry in &found {
        assert!(!entry.outcomes.is_empty(), "{} is not whole", entry.name);
    }
    found
}

fn unescape(line: &str, host: &str, marker: &str) -> Vec<u8> {
    let mut bytes = vec![];
    let mut rest = line;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '\\' => {
                let (byte, used) = match rest.as_bytes().first() {
                    Some(b'r') => (b'\r', 1),
                    Some(b'n') => (b'\n', 1),
                    Some(b't') => (b'\t', 1),
                    Some(b'0') => (0, 1),
                    Some(b'\\') => (b'\\', 1),
                    Some(b'x') => (u8::from_str_radix(&rest[1..3], 16).expect("two digits"), 3),
                    other => panic!("an escape {other:?} in {line}"),
                };
                bytes.push(byte);
                rest = &rest[used..];
            }
            '{' => {
                let (word, after) = rest.split_once('}').expect("a closing brace");
                match word.split_once('*') {
                    Some((what, times)) => {
                        bytes.extend(unescape(what, host, marker).repeat(times.parse().expect("a number")));
                    }
                    None if word == "host" => bytes.extend_from_slice(host.as_bytes()),
                    None if word == "marker" => bytes.extend_from_slice(marker.as_bytes()),
                    None => panic!("{{{word}}} in {line}"),
                }
                rest = after;
            }
            c => bytes.extend_from_slice(c.to_string().as_bytes()),
        }
    }
    bytes
}

/// The outcomes for a failure message.
pub fn told(outcome: &[String]) -> String {
    if outcome.is_empty() { "nothing".into() } else { outcome.join("; ") }
}

/// A target as outcomes write it: what is no text is escaped.
pub fn plain(target: &str) -> String {
    let bytes: Vec<u8> = target.chars().map(|c| c as u8).collect();
    debug_assert_eq!(text(&bytes), target);
    bytes.escape_ascii().to_string()
}
