//! From an authority and a request to a route: tables made when the configuration is built.

mod index;
#[cfg(test)]
mod index_tests;

use super::Cluster;
use crate::telemetry::RequestMetrics;
use http::{HeaderMap, HeaderValue, request::Parts};
use index::Index;
use std::{borrow::Cow, collections::HashMap, sync::Arc, time::Duration};
use weir_config::model::{
    self, Domain, HeaderMatch, HeaderMutations, HeaderPredicate, HostRewrite, PathRewrite, QueryMatch, Redirect,
    RetryPolicy, RouteMatch,
};

/// The routes of a `RouteConfiguration`.
pub struct RouteTable {
    /// The resource's name.
    pub name: Arc<str>,
    hosts: Vec<Routes>,
    exact: HashMap<String, usize>,
    // Longest first.
    suffixes: Vec<(String, usize)>,
    prefixes: Vec<(String, usize)>,
    any: Option<usize>,
}

/// The routes of a virtual host, in the order in which they are tried.
struct Routes {
    list: Vec<Arc<Route>>,
    /// Where there are many.
    index: Option<Index>,
}

/// One rule, with its destinations found.
pub struct Route {
    /// For logs and metrics.
    pub name: Arc<str>,
    /// Which requests.
    pub matches: RouteMatch,
    /// What becomes of them.
    pub action: RouteAction,
    /// Changes of the request's headers.
    pub request_headers: HeaderMutations,
    /// Changes of the response's headers.
    pub response_headers: HeaderMutations,
    /// A fault on purpose.
    pub fault: Option<model::Fault>,
}

/// What becomes of a request.
pub enum RouteAction {
    /// To a destination.
    Forward(Forward),
    /// A redirect made here.
    Redirect(Redirect),
    /// An answer made here.
    Respond(http::StatusCode, bytes::Bytes),
}

/// Forwarding.
pub struct Forward {
    /// Destinations with their shares.
    pub targets: Vec<Arc<Target>>,
    /// Sum of weights.
    pub total: u64,
    /// A change of the path.
    pub path: Option<PathRewrite>,
    /// A change of `Host`.
    pub host: Option<HostRewrite>,
    /// The whole request.
    pub timeout: Option<Duration>,
    /// Silence in both directions.
    pub idle_timeout: Option<Duration>,
    /// Declared retries.
    pub retry: Option<RetryPolicy>,
    /// Whether a caller's deadline may only shorten `timeout`.
    pub cap_grpc_timeout: bool,
}

/// One destination of a route.
pub struct Target {
    /// Its name.
    pub name: Arc<str>,
    /// `None`: the route names a cluster that is not there.
    pub cluster: Option<Arc<Cluster>>,
    /// Its share.
    pub weight: u32,
    /// Header changes for it alone.
    pub request_headers: HeaderMutations,
    /// Header changes of its responses.
    pub response_headers: HeaderMutations,
    /// What is counted of requests to it by this route.
    pub metrics: Arc<RequestMetrics>,
}

impl RouteTable {
    pub(super) fn new(name: Arc<str>, virtual_hosts: Vec<(Vec<Domain>, Vec<Arc<Route>>)>) -> Self {
        let mut table =
            Self { name, hosts: vec![], exact: HashMap::new(), suffixes: vec![], prefixes: vec![], any: None };
        for (domains, routes) in virtual_hosts {
            let index = table.hosts.len();
            table.hosts.push(Routes::new(routes));
            for domain in domains {
                match domain {
                    Domain::Exact(text) => {
                        table.exact.insert(text, index);
                    }
                    Domain::Suffix(text) => table.suffixes.push((text, index)),
                    Domain::Prefix(text) => table.prefixes.push((text, index)),
                    Domain::Any => table.any = Some(index),
                }
            }
        }
        table.suffixes.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
        table.prefixes.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
        table
    }

    /// All routes, for people.
    pub fn routes(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.hosts.iter().flat_map(|host| &host.list)
    }

    /// The first route of the best virtual host that the request matches.
    pub fn find(&self, authority: &str, parts: &Parts, grpc: bool) -> Option<&Arc<Route>> {
        let host = self.host(authority)?;
        self.hosts.get(host)?.find(parts, grpc)
    }

    /// The first route of an authority, whatever its conditions: for bytes, which have no path.
    pub fn first(&self, authority: &str) -> Option<&Arc<Route>> {
        self.hosts.get(self.host(authority)?)?.list.first()
    }

    fn host(&self, authority: &str) -> Option<usize> {
        if self.exact.is_empty() && self.suffixes.is_empty() && self.prefixes.is_empty() {
            return self.any;
        }
        let without_port = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
        self.exact
            .get(authority)
            .or_else(|| self.exact.get(without_port))
            .copied()
            .or_else(|| {
                let fits = |text: &str, s: &str| text.len() > s.len() && text.ends_with(s);
                let found = self.suffixes.iter().find(|(s, _)| fits(authority, s) || fits(without_port, s));
                found.map(|(_, index)| *index)
            })
            .or_else(|| {
                let found = self.prefixes.iter().find(|(p, _)| authority.len() > p.len() && authority.starts_with(p));
                found.map(|(_, index)| *index)
            })
            .or(self.any)
    }
}

impl Routes {
    fn new(list: Vec<Arc<Route>>) -> Self {
        let index = (list.len() >= index::WORTH_IT).then(|| Index::new(list.iter().map(|r| &r.matches.path)));
        Self { list, index }
    }

    fn find(&self, parts: &Parts, grpc: bool) -> Option<&Arc<Route>> {
        let fits = |route: &&Arc<Route>| matches(&route.matches, parts, grpc);
        match &self.index {
            None => self.list.iter().find(fits),
            Some(index) => index.candidates(path_of(parts)).filter_map(|place| self.list.get(place)).find(fits),
        }
    }
}

impl Forward {
    /// The destination that a draw falls on.
    pub fn target(&self, draw: u64) -> Option<&Arc<Target>> {
        if let [only] = self.targets.as_slice() {
            return Some(only);
        }
        let mut rest = draw % self.total.max(1);
        self.targets.iter().find(|target| {
            let weight = u64::from(target.weight);
            let here = rest < weight;
            rest = rest.saturating_sub(weight);
            here
        })
    }
}

/// The path that rules are about. A question to the whole server (`OPTIONS *`, RFC 9110 §9.3.7) is one about its root.
fn path_of(parts: &Parts) -> &str {
    match parts.uri.path() {
        "*" => "/",
        path => path,
    }
}

fn matches(wanted: &RouteMatch, parts: &Parts, is_grpc: bool) -> bool {
    let RouteMatch { path, method, headers, query, grpc } = wanted;
    path.is_match(path_of(parts))
        && method.as_ref().is_none_or(|m| *m == parts.method)
        && (!grpc || is_grpc)
        && headers.iter().all(|h| header_matches(h, &parts.headers))
        && query.iter().all(|q| query_matches(q, parts.uri.query()))
}

fn header_matches(wanted: &HeaderMatch, headers: &HeaderMap) -> bool {
    let found = match &wanted.predicate {
        HeaderPredicate::Present(present) => headers.contains_key(&wanted.name) == *present,
        HeaderPredicate::Value(value) => match joined(headers, &wanted.name) {
            // Envoy: an absent header matches no value, not even turned round.
            None => return false,
            Some(text) => value.is_match(&text),
        },
    };
    found != wanted.invert
}

/// The values of a header, joined as RFC 9110 §5.3 allows; `None` when absent or no text.
fn joined<'h>(headers: &'h HeaderMap, name: &http::HeaderName) -> Option<Cow<'h, str>> {
    let mut values = headers.get_all(name).iter().map(HeaderValue::to_str);
    let first = values.next()?.ok()?;
    let mut text = Cow::Borrowed(first);
    for value in values {
        text = Cow::Owned(format!("{text},{}", value.ok()?));
    }
    Some(text)
}

fn query_matches(wanted: &QueryMatch, query: Option<&str>) -> bool {
    let pairs = query.unwrap_or("").split('&').filter(|p| !p.is_empty());
    let mut values = pairs.filter_map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(name) == wanted.name).then(|| decoded(value))
    });
    values.next().is_some_and(|value| wanted.value.is_match(&value))
}

/// Percent-decoding; what is not valid stays as it stands.
fn decoded(text: &str) -> Cow<'_, str> {
    if !text.bytes().any(|b| b == b'%' || b == b'+') {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while let Some(&byte) = bytes.get(i) {
        let hex = (byte == b'%')
            .then(|| bytes.get(i + 1..i + 3))
            .flatten()
            .and_then(|pair| std::str::from_utf8(pair).ok())
            .and_then(|pair| u8::from_str_radix(pair, 16).ok());
        match hex {
            Some(value) => {
                out.push(value);
                i += 3;
            }
            None => {
                out.push(if byte == b'+' { b' ' } else { byte });
                i += 1;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_config::model::StringMatch;

    #[test]
    fn query_parameters_are_decoded_and_the_first_counts() {
        let wanted = QueryMatch { name: "a b".into(), value: StringMatch::Exact("1/2".into()) };
        assert!(query_matches(&wanted, Some("x=1&a%20b=1%2F2&a+b=3")));
        assert!(!query_matches(&wanted, Some("a+b=3&a+b=1%2F2")));
        assert!(!query_matches(&wanted, None));
        assert_eq!(decoded("%zz%4"), "%zz%4");
    }

    #[test]
    fn an_absent_header_matches_no_value_even_turned_round() {
        let wanted = HeaderMatch {
            name: http::HeaderName::from_static("x"),
            predicate: HeaderPredicate::Value(StringMatch::Exact("1".into())),
            invert: true,
        };
        assert!(!header_matches(&wanted, &HeaderMap::new()));
        let mut map = HeaderMap::new();
        map.append("x", HeaderValue::from_static("2"));
        assert!(header_matches(&wanted, &map));
    }

    #[test]
    fn the_best_virtual_host_is_the_most_exact() {
        let hosts = vec![
            (vec![Domain::Any], vec![]),
            (vec![Domain::Suffix(".example.com".into())], vec![]),
            (vec![Domain::Suffix(".b.example.com".into())], vec![]),
            (vec![Domain::Exact("a.b.example.com".into())], vec![]),
            (vec![Domain::Prefix("x.".into())], vec![]),
        ];
        let table = RouteTable::new("t".into(), hosts);
        for (authority, index) in [
            ("other", 0),
            ("c.example.com", 1),
            ("c.b.example.com:80", 2),
            ("a.b.example.com", 3),
            ("a.b.example.com:8080", 3),
            ("x.y", 4),
            (".example.com", 0),
        ] {
            assert_eq!(table.host(authority), Some(index), "{authority}");
        }
    }
}
