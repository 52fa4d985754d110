//! Path, header, query and string matchers ⇄ Envoy's `RouteMatch`, `HeaderMatcher`, `StringMatcher`, … (gRFC A28, A63).
#![allow(deprecated, reason = "Envoy's deprecated fields are named so that none is overlooked")]

use super::{
    Class, limits,
    wire::{At, Report, is_true, pb, unsupported},
};
use crate::model::{HeaderMatch, HeaderPredicate, PathMatch, QueryMatch, RouteMatch, SafeRegex, StringMatch};
use http::{HeaderName, Method};
use pb::matcher::string_matcher::MatchPattern;
use pb::route::{
    header_matcher::HeaderMatchSpecifier as ByHeader,
    query_parameter_matcher::QueryParameterMatchSpecifier as ByQuery,
    route_match::{GrpcRouteMatchOptions, PathSpecifier},
};

/// A pattern for a whole text.
pub(super) fn regex(r: &SafeRegex) -> pb::matcher::RegexMatcher {
    pb::matcher::RegexMatcher { regex: r.pattern().to_owned(), engine_type: None }
}

/// Reads a pattern.
pub(super) fn read_regex(out: &mut Report, at: &At<'_>, sent: pb::matcher::RegexMatcher) -> Option<SafeRegex> {
    // The engine is RE2's syntax in any case.
    let pb::matcher::RegexMatcher { regex, engine_type: _ } = sent;
    out.regex(at, regex)
}

/// A text comparison.
pub(super) fn string(m: &StringMatch) -> pb::matcher::StringMatcher {
    let pattern = match m {
        StringMatch::Exact(s) => MatchPattern::Exact(s.clone()),
        StringMatch::Prefix(s) => MatchPattern::Prefix(s.clone()),
        StringMatch::Suffix(s) => MatchPattern::Suffix(s.clone()),
        StringMatch::Contains(s) => MatchPattern::Contains(s.clone()),
        StringMatch::Regex(r) => MatchPattern::SafeRegex(regex(r)),
    };
    pb::matcher::StringMatcher { ignore_case: false, match_pattern: Some(pattern) }
}

/// Reads a text comparison.
pub(super) fn read_string(out: &mut Report, at: &At<'_>, sent: pb::matcher::StringMatcher) -> Option<StringMatch> {
    let pb::matcher::StringMatcher { ignore_case, match_pattern } = sent;
    unsupported!(out, at; ignore_case);
    match match_pattern {
        Some(MatchPattern::Exact(s)) => out.text(&at.field("exact"), s).map(StringMatch::Exact),
        Some(MatchPattern::Prefix(s)) => part(out, &at.field("prefix"), s).map(StringMatch::Prefix),
        Some(MatchPattern::Suffix(s)) => part(out, &at.field("suffix"), s).map(StringMatch::Suffix),
        Some(MatchPattern::Contains(s)) => part(out, &at.field("contains"), s).map(StringMatch::Contains),
        Some(MatchPattern::SafeRegex(r)) => read_regex(out, &at.field("safe_regex"), r).map(StringMatch::Regex),
        Some(MatchPattern::Custom(_)) => {
            out.refuse(&at.field("custom"), "is not supported");
            None
        }
        None => {
            out.refuse(at, "has no pattern that is supported");
            None
        }
    }
}

/// A part of a text: empty it would match anything.
fn part(out: &mut Report, at: &At<'_>, s: String) -> Option<String> {
    if s.is_empty() {
        out.refuse(at, "is empty");
        return None;
    }
    out.text(at, s)
}

/// A condition on a header.
fn header(m: &HeaderMatch) -> pb::route::HeaderMatcher {
    let by = match &m.predicate {
        HeaderPredicate::Present(there) => ByHeader::PresentMatch(*there),
        HeaderPredicate::Value(v) => ByHeader::StringMatch(string(v)),
    };
    by_name(m.name.as_str(), by, m.invert)
}

/// `:method` is exactly this.
pub(super) fn method(m: &str) -> pb::route::HeaderMatcher {
    by_name(":method", ByHeader::StringMatch(string(&StringMatch::Exact(m.to_owned()))), false)
}

fn by_name(name: &str, by: ByHeader, invert: bool) -> pb::route::HeaderMatcher {
    pb::route::HeaderMatcher {
        name: name.to_owned(),
        invert_match: invert,
        treat_missing_header_as_empty: false,
        header_match_specifier: Some(by),
    }
}

/// What a header matcher asks.
pub(super) enum ReadHeader {
    /// Of the method.
    Method(String),
    /// Of a header.
    Header(HeaderMatch),
}

/// Reads a condition on a header or the method.
pub(super) fn read_header(out: &mut Report, at: &At<'_>, sent: pb::route::HeaderMatcher) -> Option<ReadHeader> {
    let pb::route::HeaderMatcher { name, invert_match, treat_missing_header_as_empty, header_match_specifier } = sent;
    unsupported!(out, at; treat_missing_header_as_empty);
    let predicate = match header_match_specifier {
        Some(ByHeader::PresentMatch(there)) => HeaderPredicate::Present(there),
        None => HeaderPredicate::Present(true),
        Some(ByHeader::StringMatch(m)) => HeaderPredicate::Value(read_string(out, &at.field("string_match"), m)?),
        Some(ByHeader::ExactMatch(s)) => {
            HeaderPredicate::Value(StringMatch::Exact(out.text(&at.field("exact_match"), s)?))
        }
        Some(ByHeader::PrefixMatch(s)) => {
            HeaderPredicate::Value(StringMatch::Prefix(part(out, &at.field("prefix_match"), s)?))
        }
        Some(ByHeader::SuffixMatch(s)) => {
            HeaderPredicate::Value(StringMatch::Suffix(part(out, &at.field("suffix_match"), s)?))
        }
        Some(ByHeader::ContainsMatch(s)) => {
            HeaderPredicate::Value(StringMatch::Contains(part(out, &at.field("contains_match"), s)?))
        }
        Some(ByHeader::SafeRegexMatch(r)) => {
            HeaderPredicate::Value(StringMatch::Regex(read_regex(out, &at.field("safe_regex_match"), r)?))
        }
        Some(ByHeader::RangeMatch(_)) => {
            out.refuse(&at.field("range_match"), "is not supported");
            return None;
        }
    };
    if name == ":method" {
        if let (HeaderPredicate::Value(StringMatch::Exact(m)), false) = (predicate, invert_match) {
            return Some(ReadHeader::Method(m));
        }
        out.refuse(at, "`:method` is supported with an exact match only");
        return None;
    }
    match HeaderName::from_bytes(name.as_bytes()) {
        Ok(name) => Some(ReadHeader::Header(HeaderMatch { name, predicate, invert: invert_match })),
        Err(_) => {
            out.refuse(&at.field("name"), "is not the name of a header that can be matched");
            None
        }
    }
}

fn query(m: &QueryMatch) -> pb::route::QueryParameterMatcher {
    pb::route::QueryParameterMatcher {
        name: m.name.clone(),
        query_parameter_match_specifier: Some(ByQuery::StringMatch(string(&m.value))),
    }
}

fn read_query(out: &mut Report, at: &At<'_>, sent: pb::route::QueryParameterMatcher) -> Option<QueryMatch> {
    let pb::route::QueryParameterMatcher { name, query_parameter_match_specifier } = sent;
    let name = part(out, &at.field("name"), name)?;
    let value = match query_parameter_match_specifier {
        Some(ByQuery::StringMatch(m)) => read_string(out, &at.field("string_match"), m)?,
        Some(ByQuery::PresentMatch(true)) | None => StringMatch::Regex(out.regex(at, "(?s).*".into())?),
        Some(ByQuery::PresentMatch(false)) => {
            out.refuse(&at.field("present_match"), "is supported as `true` only");
            return None;
        }
    };
    Some(QueryMatch { name, value })
}

/// Everything a request must meet.
pub(super) fn route(m: &RouteMatch, class: Class) -> pb::route::RouteMatch {
    let path = match &m.path {
        PathMatch::Exact(s) => PathSpecifier::Path(s.clone()),
        PathMatch::Prefix(s) => PathSpecifier::Prefix(s.clone()),
        PathMatch::Regex(r) => PathSpecifier::SafeRegex(regex(r)),
        // gRPC knows prefix, path and regex only (gRFC A28).
        PathMatch::Segments(s) if class == Class::Grpc => PathSpecifier::SafeRegex(pb::matcher::RegexMatcher {
            regex: format!("{}(/.*)?", regex::escape(s)),
            engine_type: None,
        }),
        PathMatch::Segments(s) => PathSpecifier::PathSeparatedPrefix(s.clone()),
    };
    let by_method = m.method.iter().map(|m| method(m.as_str()));
    pb::route::RouteMatch {
        path_specifier: Some(path),
        headers: by_method.chain(m.headers.iter().map(header)).collect(),
        query_parameters: m.query.iter().map(query).collect(),
        grpc: m.grpc.then_some(GrpcRouteMatchOptions {}),
        ..Default::default()
    }
}

/// Reads everything a request must meet.
pub(super) fn read_route(out: &mut Report, at: &At<'_>, sent: pb::route::RouteMatch) -> Option<RouteMatch> {
    let pb::route::RouteMatch {
        case_sensitive,
        runtime_fraction,
        headers: header_matchers,
        query_parameters,
        cookies,
        grpc,
        tls_context,
        dynamic_metadata,
        filter_state,
        path_specifier,
    } = sent;
    unsupported!(out, at; runtime_fraction, cookies, tls_context, dynamic_metadata, filter_state);
    if case_sensitive.is_some() && !is_true(case_sensitive) {
        out.refuse(&at.field("case_sensitive"), "is supported as `true` only");
    }
    if !out.within(at, "headers", &header_matchers, limits::CONDITIONS)
        || !out.within(at, "query_parameters", &query_parameters, limits::CONDITIONS)
    {
        return None;
    }
    let path = read_path(out, at, path_specifier);
    let mut method = None;
    let mut headers = vec![];
    for (i, sent) in header_matchers.into_iter().enumerate() {
        let at = at.item("headers", i);
        match read_header(out, &at, sent) {
            Some(ReadHeader::Header(h)) => headers.push(h),
            Some(ReadHeader::Method(m)) if method.is_none() => match Method::from_bytes(m.as_bytes()) {
                Ok(m) => method = Some(m),
                Err(_) => out.refuse(&at, "is not a method"),
            },
            Some(ReadHeader::Method(_)) => out.refuse(&at, "asks for a second method"),
            None => {}
        }
    }
    let query = query_parameters.into_iter().enumerate();
    let query = query.filter_map(|(i, q)| read_query(out, &at.item("query_parameters", i), q)).collect();
    Some(RouteMatch { path: path?, method, headers, query, grpc: grpc.is_some() })
}

fn read_path(out: &mut Report, at: &At<'_>, sent: Option<PathSpecifier>) -> Option<PathMatch> {
    match sent {
        Some(PathSpecifier::Path(s)) => out.text(&at.field("path"), s).map(PathMatch::Exact),
        Some(PathSpecifier::Prefix(s)) => out.text(&at.field("prefix"), s).map(PathMatch::Prefix),
        Some(PathSpecifier::SafeRegex(r)) => read_regex(out, &at.field("safe_regex"), r).map(PathMatch::Regex),
        Some(PathSpecifier::PathSeparatedPrefix(s)) => {
            let at = at.field("path_separated_prefix");
            if !s.starts_with('/') || s.ends_with('/') || s.contains(['?', '#']) {
                out.refuse(&at, "does not start with `/`, or ends with one, or has a `?` or `#`");
                return None;
            }
            out.text(&at, s).map(PathMatch::Segments)
        }
        Some(PathSpecifier::ConnectMatcher(_)) => {
            out.refuse(&at.field("connect_matcher"), "is not supported");
            None
        }
        Some(PathSpecifier::PathMatchPolicy(_)) => {
            out.refuse(&at.field("path_match_policy"), "is not supported");
            None
        }
        None => {
            out.refuse(at, "has no path condition that is supported");
            None
        }
    }
}
