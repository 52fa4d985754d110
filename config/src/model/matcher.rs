//! What a request must look like: path, header and query matchers, compiled when the configuration is read.
//!
//! Regular expressions match the whole text (as Envoy's `safe_regex` does) and are linear in time; their compiled size
//! is bounded, since the pattern may come from the network.

use http::HeaderName;
use serde::{Serialize, Serializer};
use std::{borrow::Cow, fmt, sync::OnceLock};

/// Why a pattern was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{pattern}` is not a valid regular expression: {why}")]
pub struct PatternError {
    /// The pattern, shortened.
    pub pattern: String,
    /// What the compiler said, on one line.
    pub why: String,
}

/// A regular expression (RE2 syntax) that matches a text as a whole.
#[derive(Clone)]
pub struct SafeRegex {
    pattern: String,
    compiled: regex::Regex,
    free: OnceLock<Option<regex::Regex>>,
}

impl SafeRegex {
    /// Compiles a pattern; its program may not exceed 256 KiB.
    pub fn new(pattern: impl Into<String>) -> Result<Self, PatternError> {
        let pattern = pattern.into();
        let shown = || pattern.chars().take(200).collect::<String>();
        if pattern.len() > 4096 {
            return Err(PatternError { pattern: shown(), why: "it is longer than 4,096 bytes".into() });
        }
        // Checked alone first: `a)(b` must not become valid by the group around it.
        let build = |p: &str| regex::RegexBuilder::new(p).size_limit(SIZE_LIMIT).nest_limit(50).build();
        let why = |e: regex::Error| {
            let text = e.to_string();
            text.lines().last().unwrap_or("it does not compile").trim_start_matches("error: ").to_owned()
        };
        build(&pattern).map_err(|e| PatternError { pattern: shown(), why: why(e) })?;
        let compiled =
            build(&format!("^(?:{pattern})$")).map_err(|e| PatternError { pattern: shown(), why: why(e) })?;
        Ok(Self { pattern, compiled, free: OnceLock::new() })
    }

    /// The pattern as it was written.
    pub fn pattern(&self) -> &str {
        &self.pattern
    }

    /// Whether the whole text matches.
    pub fn is_match(&self, text: &str) -> bool {
        self.compiled.is_match(text)
    }

    /// The text with each part that matches replaced (not anchored, as Envoy's `regex_rewrite`); `\1` names a group.
    pub fn replace<'t>(&self, text: &'t str, substitution: &str) -> Cow<'t, str> {
        let free =
            self.free.get_or_init(|| regex::RegexBuilder::new(&self.pattern).size_limit(SIZE_LIMIT).build().ok());
        match free {
            None => Cow::Borrowed(text),
            Some(free) => free.replace_all(text, |found: &regex::Captures<'_>| expand(substitution, found)),
        }
    }
}

fn expand(substitution: &str, found: &regex::Captures<'_>) -> String {
    let mut out = String::new();
    let mut rest = substitution.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match rest.next() {
            Some(digit @ '0'..='9') => {
                let group = found.get(digit as usize - '0' as usize);
                out.push_str(group.map_or("", |m| m.as_str()));
            }
            Some(other) => out.push(other),
            None => {}
        }
    }
    out
}

const SIZE_LIMIT: usize = 256 * 1024;

impl PartialEq for SafeRegex {
    fn eq(&self, other: &Self) -> bool {
        self.pattern == other.pattern
    }
}
impl Eq for SafeRegex {}

impl fmt::Debug for SafeRegex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/", self.pattern)
    }
}

impl Serialize for SafeRegex {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.pattern)
    }
}

/// How a text is compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StringMatch {
    /// The same text.
    Exact(String),
    /// Starts with it.
    Prefix(String),
    /// Ends with it.
    Suffix(String),
    /// Has it inside.
    Contains(String),
    /// Matches as a whole.
    Regex(SafeRegex),
}

impl StringMatch {
    /// Whether the text matches.
    pub fn is_match(&self, text: &str) -> bool {
        match self {
            Self::Exact(s) => text == s,
            Self::Prefix(s) => text.starts_with(s.as_str()),
            Self::Suffix(s) => text.ends_with(s.as_str()),
            Self::Contains(s) => text.contains(s.as_str()),
            Self::Regex(r) => r.is_match(text),
        }
    }
}

/// How the path of a request (without its query) is compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PathMatch {
    /// The whole path.
    Exact(String),
    /// A text the path starts with.
    Prefix(String),
    /// Whole segments the path starts with: `/a` matches `/a` and `/a/b`, not `/ab` (Gateway API `PathPrefix`). Starts
    /// with `/`, does not end with one; the root is `Prefix("/")`.
    Segments(String),
    /// A pattern for the whole path.
    Regex(SafeRegex),
}

impl PathMatch {
    /// Whether a path (no query) matches.
    pub fn is_match(&self, path: &str) -> bool {
        match self {
            Self::Exact(s) => path == s,
            Self::Prefix(s) => path.starts_with(s.as_str()),
            Self::Segments(s) => {
                path.strip_prefix(s.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
            Self::Regex(r) => r.is_match(path),
        }
    }
}

/// What is asked of a header's value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HeaderPredicate {
    /// The header is there (`true`) or is not (`false`).
    Present(bool),
    /// The value (several values joined with `,`) matches. An absent header never matches.
    Value(StringMatch),
}

/// A condition on one header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HeaderMatch {
    /// The header's name, lower case.
    #[serde(serialize_with = "super::set::display")]
    pub name: HeaderName,
    /// What is asked of it.
    pub predicate: HeaderPredicate,
    /// Whether the answer is turned round.
    pub invert: bool,
}

/// A condition on one query parameter: its first value matches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct QueryMatch {
    /// The parameter's name, decoded.
    pub name: String,
    /// What its value must be.
    pub value: StringMatch,
}

/// Everything a request must meet for a route to be chosen: all of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RouteMatch {
    /// The path.
    pub path: PathMatch,
    /// The method, exactly; `None`: any.
    #[serde(serialize_with = "super::set::display_option")]
    pub method: Option<http::Method>,
    /// All of these headers.
    pub headers: Vec<HeaderMatch>,
    /// All of these query parameters.
    pub query: Vec<QueryMatch>,
    /// Only gRPC requests (`content-type: application/grpc…`).
    pub grpc: bool,
}

impl Default for RouteMatch {
    fn default() -> Self {
        Self { path: PathMatch::Prefix("/".into()), method: None, headers: vec![], query: vec![], grpc: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_regex_matches_the_whole_text_only() {
        let r = SafeRegex::new("a|bc").unwrap();
        assert!(r.is_match("a") && r.is_match("bc"));
        assert!(!r.is_match("ab") && !r.is_match("xa"));
        assert!(SafeRegex::new("a)(b").is_err(), "must not become valid by what is put around it");
        assert!(SafeRegex::new("(").is_err());
        assert!(
            SafeRegex::new("(((a{100}){100}){100})").is_err(),
            "a pattern from the network may not grow without bound"
        );
    }

    #[test]
    fn segments_are_whole() {
        let m = PathMatch::Segments("/a".into());
        assert!(m.is_match("/a") && m.is_match("/a/") && m.is_match("/a/b"));
        assert!(!m.is_match("/ab") && !m.is_match("/"));
    }
}
