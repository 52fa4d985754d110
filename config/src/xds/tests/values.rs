//! Valid values of the model, at random.

use crate::model::*;
use http::{HeaderName, HeaderValue, Method, StatusCode, uri::Scheme};
use proptest::{collection::vec, option, prelude::*, sample::select};
use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, time::Duration};

pub(super) fn name() -> impl Strategy<Value = Arc<str>> {
    "[a-z]{1,8}(\\.[a-z-]{1,6})?(:[0-9]{2,4})?".prop_map(Into::into)
}

fn text() -> impl Strategy<Value = String> {
    "[ -~é]{0,12}"
}

fn part() -> impl Strategy<Value = String> {
    "[ -~é]{1,12}"
}

fn duration() -> impl Strategy<Value = Duration> {
    (0u64..500_000, 1u32..1_000_000_000).prop_map(|(s, n)| Duration::new(s, n))
}

fn fraction() -> impl Strategy<Value = Fraction> {
    (0u32..=1_000_000).prop_map(|n| Fraction::from_millionths(n).unwrap())
}

fn regex() -> impl Strategy<Value = SafeRegex> {
    select(vec!["a|bc", "/v[0-9]+/.*", "(?i)x", "[^/]+", "é.*"]).prop_map(|p| SafeRegex::new(p).unwrap())
}

fn string_match() -> impl Strategy<Value = StringMatch> {
    prop_oneof![
        text().prop_map(StringMatch::Exact),
        part().prop_map(StringMatch::Prefix),
        part().prop_map(StringMatch::Suffix),
        part().prop_map(StringMatch::Contains),
        regex().prop_map(StringMatch::Regex),
    ]
}

fn path_match() -> impl Strategy<Value = PathMatch> {
    prop_oneof![
        "/[a-z/]{0,9}".prop_map(PathMatch::Exact),
        "/[a-z/]{0,9}".prop_map(PathMatch::Prefix),
        "(/[a-z.+]{1,4}){1,3}".prop_map(PathMatch::Segments),
        regex().prop_map(PathMatch::Regex),
    ]
}

fn header_name() -> impl Strategy<Value = HeaderName> {
    "x-[a-z0-9-]{1,8}".prop_map(|n| n.parse().unwrap())
}

fn header_value() -> impl Strategy<Value = HeaderValue> {
    "[ -~]{0,12}".prop_map(|v| HeaderValue::from_str(&v).unwrap())
}

fn mutations() -> impl Strategy<Value = HeaderMutations> {
    let change = prop_oneof![
        (header_name(), header_value()).prop_map(|(n, v)| HeaderMutation::Set(n, v)),
        (header_name(), header_value()).prop_map(|(n, v)| HeaderMutation::Add(n, v)),
    ];
    (vec(header_name().prop_map(HeaderMutation::Remove), 0..2), vec(change, 0..3))
        .prop_map(|(remove, add)| HeaderMutations { mutations: [remove, add].concat() })
}

fn header_match() -> impl Strategy<Value = HeaderMatch> {
    let predicate =
        prop_oneof![any::<bool>().prop_map(HeaderPredicate::Present), string_match().prop_map(HeaderPredicate::Value)];
    (header_name(), predicate, any::<bool>()).prop_map(|(name, predicate, invert)| HeaderMatch {
        name,
        predicate,
        invert,
    })
}

fn route_match() -> impl Strategy<Value = RouteMatch> {
    let query = ("[a-z]{1,5}", string_match()).prop_map(|(name, value)| QueryMatch { name, value });
    let method = option::of(select(vec![Method::GET, Method::POST, Method::from_bytes(b"PURGE").unwrap()]));
    (path_match(), method, vec(header_match(), 0..3), vec(query, 0..2), any::<bool>())
        .prop_map(|(path, method, headers, query, grpc)| RouteMatch { path, method, headers, query, grpc })
}

fn retry() -> impl Strategy<Value = RetryPolicy> {
    let codes = vec![
        GrpcCode::CANCELLED,
        GrpcCode::DEADLINE_EXCEEDED,
        GrpcCode::RESOURCE_EXHAUSTED,
        GrpcCode::INTERNAL,
        GrpcCode::UNAVAILABLE,
    ];
    let statuses = proptest::collection::btree_set(100u16..600, 0..4).prop_map(|s| s.into_iter().collect());
    let on = (any::<[bool; 4]>(), statuses, proptest::sample::subsequence(codes, 0..=5)).prop_map(
        |([connect_failure, reset, server_error, gateway_error], statuses, grpc)| RetryOn {
            connect_failure,
            reset,
            server_error,
            gateway_error,
            statuses,
            grpc,
        },
    );
    let backoff = (1u64..5_000, 0u64..5_000).prop_map(|(base, more)| Backoff {
        base: Duration::from_millis(base),
        max: Duration::from_millis(base + more),
    });
    (on, 1u32..=10, option::of(duration()), backoff).prop_map(|(on, attempts, per_try_timeout, backoff)| RetryPolicy {
        on,
        attempts,
        per_try_timeout,
        backoff,
    })
}

fn fault() -> impl Strategy<Value = Fault> {
    let delay = || (duration(), fraction()).prop_map(|(fixed, share)| Delay { fixed, share });
    let abort = || {
        (200u16..600, option::of(0u8..=16), fraction()).prop_map(|(status, grpc_status, share)| Abort {
            status,
            grpc_status,
            share,
        })
    };
    prop_oneof![
        delay().prop_map(|d| Fault { delay: Some(d), abort: None }),
        (option::of(delay()), abort()).prop_map(|(delay, a)| Fault { delay, abort: Some(a) }),
    ]
}

fn rewrite() -> impl Strategy<Value = PathRewrite> {
    prop_oneof![
        "/[a-z/]{0,6}".prop_map(PathRewrite::Prefix),
        "/[ -~]{0,6}".prop_map(PathRewrite::Full),
        (regex(), "[ -Z^-~]{0,6}").prop_map(|(pattern, substitution)| PathRewrite::Regex { pattern, substitution }),
    ]
}

fn forward() -> impl Strategy<Value = Forward> {
    let cluster =
        (name(), 0u32..1000, mutations(), mutations()).prop_map(|(name, weight, request_headers, response_headers)| {
            WeightedCluster { name, weight, request_headers, response_headers }
        });
    let alone = name().prop_map(|name| WeightedCluster {
        name,
        weight: 1,
        request_headers: HeaderMutations::default(),
        response_headers: HeaderMutations::default(),
    });
    let clusters = (alone, vec(cluster, 0..3)).prop_map(|(one, more)| [vec![one], more].concat());
    let host = "[a-z]{1,6}(:[0-9]{2})?".prop_map(|h| HostRewrite::Literal(HeaderValue::from_str(&h).unwrap()));
    let times = (option::of(duration()), option::of(duration()));
    (clusters, option::of(rewrite()), option::of(host), times, option::of(retry()), any::<bool>()).prop_map(
        |(clusters, path, host, (timeout, idle_timeout), retry, cap_grpc_timeout)| Forward {
            clusters,
            path,
            host,
            timeout,
            idle_timeout,
            retry,
            cap_grpc_timeout,
        },
    )
}

fn action() -> impl Strategy<Value = Action> {
    let path = prop_oneof!["/[a-z/]{0,6}".prop_map(PathRewrite::Prefix), "/[ -~]{0,6}".prop_map(PathRewrite::Full)];
    let redirect = (
        select(vec![301u16, 302, 303, 307, 308]),
        option::of(select(vec![Scheme::HTTP, Scheme::HTTPS])),
        option::of("[a-z.]{1,8}"),
        option::of(1u16..),
        option::of(path),
    )
        .prop_map(|(status, scheme, host, port, path)| Redirect {
            status: StatusCode::from_u16(status).unwrap(),
            scheme,
            host,
            port,
            path,
        });
    prop_oneof![
        4 => forward().prop_map(Action::Forward),
        1 => redirect.prop_map(Action::Redirect),
        1 => (200u16..600, text()).prop_map(|(s, body)| Action::Respond { status: StatusCode::from_u16(s).unwrap(), body }),
    ]
}

fn route() -> impl Strategy<Value = Route> {
    (name(), route_match(), action(), mutations(), mutations(), option::of(fault())).prop_map(
        |(name, matches, action, request_headers, response_headers, fault)| Route {
            name,
            matches,
            action,
            request_headers,
            response_headers,
            fault,
        },
    )
}

fn domain() -> impl Strategy<Value = Domain> {
    prop_oneof![
        "[a-z]{1,6}(:[0-9]{2})?".prop_map(Domain::Exact),
        "\\.[a-z]{1,6}".prop_map(Domain::Suffix),
        "[a-z]{1,6}\\.".prop_map(Domain::Prefix),
        Just(Domain::Any),
    ]
}

pub(super) fn routes() -> impl Strategy<Value = RouteConfig> {
    let host = (name(), vec(domain(), 1..4), vec(route(), 0..3));
    (name(), vec(host, 0..3)).prop_map(|(name, hosts)| {
        let mut taken = BTreeSet::new();
        let mut virtual_hosts = vec![];
        for (name, mut domains, routes) in hosts {
            domains.retain(|d| taken.insert(d.clone()));
            if !domains.is_empty() {
                virtual_hosts.push(VirtualHost { name, domains, routes });
            }
        }
        RouteConfig { name, virtual_hosts }
    })
}

fn http_options() -> impl Strategy<Value = HttpOptions> {
    (option::of(duration()), option::of(duration()), option::of(duration())).prop_map(
        |(stream_idle_timeout, request_headers_timeout, max_connection_age)| HttpOptions {
            stream_idle_timeout,
            request_headers_timeout,
            max_connection_age,
        },
    )
}

fn policies() -> impl Strategy<Value = Vec<AuthzPolicy>> {
    let principal = prop_oneof![
        Just(PrincipalMatch::Authenticated),
        string_match().prop_map(PrincipalMatch::Id),
        id().prop_map(|id| PrincipalMatch::Id(StringMatch::Exact(id.to_string()))),
    ];
    let rule = (vec(principal, 0..3), vec("[A-Z]{1,6}", 0..3), vec(path_match(), 0..3))
        .prop_map(|(principals, methods, paths)| AuthzRule { principals, methods, paths });
    proptest::collection::btree_map("[a-z]{1,5}/[a-z#]{1,5}", vec(rule, 1..12), 0..3).prop_map(|policies| {
        policies.into_iter().map(|(name, rules)| AuthzPolicy { name: name.into(), rules }).collect()
    })
}

fn authz() -> impl Strategy<Value = Authz> {
    (policies(), option::of(policies()), option::of(policies())).prop_map(|(deny, allow, audit)| Authz {
        deny,
        allow,
        audit,
    })
}

fn target() -> impl Strategy<Value = InboundTarget> {
    prop_oneof![
        (routes(), http_options()).prop_map(|(r, http)| InboundTarget::Http { routes: Arc::new(r), http }),
        (name(), option::of(duration()))
            .prop_map(|(cluster, idle_timeout)| InboundTarget::Tcp { cluster, idle_timeout }),
    ]
}

fn chain() -> impl Strategy<Value = InboundChain> {
    let tls = option::of(any::<bool>().prop_map(|require| DownstreamTls { require_client_certificate: require }));
    let names = proptest::collection::btree_set("[a-z]{1,5}\\.svc", 0..3).prop_map(|s| s.into_iter().collect());
    (name(), names, tls, authz(), target(), any::<[bool; 2]>()).prop_map(
        |(name, server_names, tls, authz, target, spoken): (_, _, Option<DownstreamTls>, _, _, [bool; 2])| {
            let known = if tls.is_some() { ["http/1.1", "h2"] } else { ["http/1.1", "h2c"] };
            let protocols = known.iter().zip(spoken).filter(|(_, s)| *s).map(|(p, _)| (*p).to_owned()).collect();
            InboundChain {
                name,
                matches: ChainMatch { server_names, destination_port: None, protocols },
                tls,
                authz,
                target,
            }
        },
    )
}

pub(super) fn listener() -> impl Strategy<Value = Listener> {
    let source =
        prop_oneof![name().prop_map(RouteSource::Rds), routes().prop_map(|r| RouteSource::Inline(Arc::new(r)))];
    let api = (name(), source, http_options(), any::<bool>()).prop_map(|(name, routes, http, by_name)| ApiListener {
        name,
        routes,
        http,
        by_name,
    });
    let inbound = ("inbound/[a-z]{1,4}/[a-z]{1,4}", vec(chain(), 0..3)).prop_map(|(name, mut chains)| {
        // No two chains may take the same connections.
        for (i, chain) in chains.iter_mut().enumerate() {
            chain.matches.destination_port = u16::try_from(i).ok().filter(|p| *p > 0);
        }
        InboundListener { name: name.into(), chains }
    });
    prop_oneof![api.prop_map(Listener::Api), inbound.prop_map(Listener::Inbound)]
}

fn id() -> impl Strategy<Value = SpiffeId> {
    "[a-z]{1,5}".prop_map(|sa| format!("spiffe://weir.local/ns/demo/sa/{sa}").parse().unwrap())
}

fn load_balancing() -> impl Strategy<Value = LoadBalancing> {
    prop_oneof![
        (duration(), duration()).prop_map(|(decay, default_rtt)| LoadBalancing::PeakEwma { decay, default_rtt }),
        (2u32..=10).prop_map(|choices| LoadBalancing::LeastRequest { choices }),
        Just(LoadBalancing::RoundRobin),
    ]
}

fn limits() -> impl Strategy<Value = ConnectionLimits> {
    let limit = || option::of(0u32..u32::MAX);
    (limit(), limit(), limit(), limit()).prop_map(
        |(max_connections, max_pending_requests, max_requests, max_retries)| ConnectionLimits {
            max_connections,
            max_pending_requests,
            max_requests,
            max_retries,
        },
    )
}

fn outlier() -> impl Strategy<Value = OutlierDetection> {
    let share = (1u8..=100, any::<u32>(), any::<u32>()).prop_map(|(threshold, minimum_hosts, request_volume)| {
        FailurePercentage { threshold, minimum_hosts, request_volume }
    });
    let times = (duration(), duration(), duration());
    (option::of(1u32..), option::of(1u32..), times, 0u8..=100, option::of(share)).prop_map(
        |(consecutive_5xx, consecutive_gateway_failure, (interval, base, more), max_ejection_percent, share)| {
            OutlierDetection {
                consecutive_5xx,
                consecutive_gateway_failure,
                interval,
                base_ejection_time: base,
                max_ejection_time: base + more,
                max_ejection_percent,
                failure_percentage: share,
            }
        },
    )
}

fn budget() -> impl Strategy<Value = RetryBudget> {
    (fraction(), 1000u64..=3_600_000, any::<u32>()).prop_map(|(share, interval, min_retries_per_second)| RetryBudget {
        share,
        interval: Duration::from_millis(interval),
        min_retries_per_second,
    })
}

pub(super) fn cluster() -> impl Strategy<Value = Cluster> {
    let discovery = prop_oneof![
        name().prop_map(Discovery::Eds),
        endpoints().prop_map(Discovery::Static),
        ("[a-z]{1,5}\\.example", 1u16..).prop_map(|(host, port)| Discovery::Dns { host: host.into(), port }),
        Just(Discovery::OriginalDestination),
    ];
    let protocol = select(vec![Protocol::Http1, Protocol::Http2, Protocol::UseDownstream, Protocol::Tcp]);
    let tls = (name(), vec(id(), 1..4)).prop_map(|(sni, identities)| UpstreamTls { sni, identities });
    let first = (name(), discovery, duration(), load_balancing(), protocol, option::of(tls));
    let second = (limits(), option::of(outlier()), budget(), 0u8..=100);
    (first, second, option::of(duration()), option::of(duration())).prop_map(
        |((name, discovery, connect_timeout, load_balancing, protocol, tls), second, idle_timeout, age)| {
            let (limits, outlier, retry_budget, panic_threshold_percent) = second;
            // Where there is nothing to choose from, nothing is said of how.
            let load_balancing = match discovery {
                Discovery::OriginalDestination => LoadBalancing::RoundRobin,
                _ => load_balancing,
            };
            Cluster {
                name,
                discovery,
                connect_timeout,
                load_balancing,
                protocol,
                tls,
                limits,
                outlier,
                retry_budget,
                panic_threshold_percent,
                idle_timeout,
                max_connection_age: age,
            }
        },
    )
}

pub(super) fn endpoints() -> impl Strategy<Value = Endpoints> {
    let health = select(vec![Health::Healthy, Health::Draining, Health::Unhealthy]);
    let endpoint = (any::<bool>(), 1u32..1_000_000, health, name(), any::<bool>());
    let locality = ("[a-z]{0,5}", "[a-z]{0,5}", 1u32..1_000_000, vec(endpoint, 0..4));
    (name(), vec(locality, 0..4)).prop_map(|(name, localities)| {
        let mut port = 1000;
        let mut endpoint = |(v6, weight, health, workload, mesh): (bool, u32, Health, Arc<str>, bool)| {
            port += 1;
            let ip = if v6 { "[fd00::1]" } else { "10.0.0.1" };
            let address: SocketAddr = format!("{ip}:{port}").parse().unwrap();
            Endpoint { address, weight, health, workload, mesh }
        };
        let localities = localities.into_iter().zip(0u32..).map(|((region, zone, weight, endpoints), i)| Locality {
            region,
            zone,
            priority: i / 2,
            weight,
            endpoints: endpoints.into_iter().map(&mut endpoint).collect(),
        });
        let localities = localities.collect();
        Endpoints { name, localities }
    })
}

pub(super) fn bundle() -> impl Strategy<Value = TrustBundle> {
    let root = vec(any::<u8>(), 0..400).prop_map(|body| {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [&[0x30, 0x82][..], &length, &body].concat()
    });
    ("[a-z.-]{1,12}", vec(root, 1..4)).prop_map(|(domain, roots)| TrustBundle {
        name: "ROOTCA".into(),
        trust_domain: domain.parse().unwrap(),
        roots,
    })
}
