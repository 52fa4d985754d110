//! Which of several matching rules is taken: the most specific, then the oldest, then the first by name (Gateway API,
//! `HTTPRouteRule.matches` and `GRPCRouteRule.matches`).

use std::cmp::Reverse;
use weir_config::model::{PathMatch, RouteMatch};

/// Sorts before what is less specific.
pub(super) fn specificity(m: &RouteMatch) -> impl Ord + use<> {
    let (kind, length) = match &m.path {
        PathMatch::Exact(path) => (0, path.len()),
        // The Gateway API leaves it open; between the two, as most implementations have it.
        PathMatch::Regex(regex) => (1, regex.pattern().len()),
        // `/a` as whole segments is asked more than `/a` as any text.
        PathMatch::Segments(path) => (2, path.len() * 2 + 1),
        PathMatch::Prefix(path) => (2, path.len() * 2),
    };
    // A gRPC rule goes first: it takes nothing but gRPC away from the HTTP rules of the same service.
    (!m.grpc, kind, Reverse(length), m.method.is_none(), Reverse(m.headers.len()), Reverse(m.query.len()))
}
