//! What becomes of a request: precedence, inheritance, filters, and what is there without a route.

use super::{API, WEB, routes, web, world};
use crate::{
    compile,
    index::World,
    store::{Memory, Store},
};
use std::time::Duration;
use weir_config::model::{Action, Forward, HeaderMutation, Kind, PathMatch, PathRewrite, Route, RouteConfig};

fn config(texts: &[&str], name: &str) -> RouteConfig {
    compile::route(&world(texts), &web(), name).unwrap()
}

fn forward(route: &Route) -> &Forward {
    match &route.action {
        Action::Forward(f) => f,
        other => panic!("{other:?}"),
    }
}

fn http_route(name: &str, namespace: &str, rules: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec:\n  parentRefs: [{{group: '', kind: Service, name: web, namespace: demo, port: 80}}]\n  rules: {rules}\n"
    )
}

#[test]
fn a_service_without_routes_forwards_to_itself() {
    let found = config(&[], WEB);
    assert_eq!(&*found.name, WEB);
    let [route] = routes(&found) else { panic!("{found:?}") };
    assert_eq!(&*route.name, "default");
    let to = forward(route);
    assert_eq!((&*to.clusters[0].name, to.clusters[0].weight, to.clusters.len()), (WEB, 1, 1));
    assert_eq!((to.timeout, to.retry.as_ref(), to.cap_grpc_timeout), (None, None, true));
    assert_eq!(to.idle_timeout, Some(Duration::from_secs(24 * 3600)), "streams may be silent for a day");
    let bytes = config(&[], "web.demo.svc.cluster.local:5432");
    assert_eq!(forward(&routes(&bytes)[0]).idle_timeout, Some(Duration::from_secs(24 * 3600)));
}

#[test]
fn what_matches_no_attached_route_is_not_forwarded() {
    let route = http_route("r", "demo", "[{matches: [{path: {type: Exact, value: /a}}]}]");
    let found = config(&[&route], WEB);
    assert_eq!(routes(&found).len(), 1, "no default beside it");
    assert_eq!(&*routes(&found)[0].name, "demo/r/0");
    assert_eq!(&*forward(&routes(&found)[0]).clusters[0].name, WEB, "no backend: the parent itself");
    assert_eq!(&*routes(&config(&[&route], API))[0].name, "default");
    assert_eq!(&*routes(&config(&[&route], "web.demo.svc.cluster.local:9000"))[0].name, "default", "another port");
}

#[test]
fn the_most_specific_match_comes_first() {
    let rules = "
  - {name: root, matches: [{path: {type: PathPrefix, value: /}}]}
  - {name: short, matches: [{path: {type: PathPrefix, value: /api}}]}
  - {name: long, matches: [{path: {type: PathPrefix, value: /api/v1}}]}
  - {name: pattern, matches: [{path: {type: RegularExpression, value: '/api/.*'}}]}
  - {name: exact, matches: [{path: {type: Exact, value: /api}}]}
  - {name: method, matches: [{path: {type: PathPrefix, value: /api}, method: GET}]}
  - {name: header, matches: [{path: {type: PathPrefix, value: /api}, headers: [{name: a, value: b}]}]}
  - {name: headers, matches: [{path: {type: PathPrefix, value: /api}, headers: [{name: a, value: b}, {name: c, value: d}]}]}
  - {name: query, matches: [{path: {type: PathPrefix, value: /api}, queryParams: [{name: q, value: x}]}]}
";
    let found = config(&[&http_route("r", "demo", rules)], WEB);
    let order: Vec<&str> = routes(&found).iter().map(|r| r.name.rsplit('/').next().unwrap()).collect();
    assert_eq!(order, ["exact", "pattern", "long", "method", "headers", "header", "query", "short", "root"]);
}

#[test]
fn of_equal_matches_the_older_route_comes_first_then_the_name_then_the_rule() {
    let (z, a) = (http_route("z", "demo", "[{}, {}]"), http_route("a", "demo", "[{}]"));
    let names =
        |texts: &[&str]| -> Vec<String> { routes(&config(texts, WEB)).iter().map(|r| r.name.to_string()).collect() };
    assert_eq!(names(&[&z, &a]), ["demo/z/0", "demo/z/1", "demo/a/0"], "z is older");
    assert_eq!(names(&[&a, &z]), ["demo/a/0", "demo/z/0", "demo/z/1"]);
    let together = format!("{z}---\n{a}");
    assert_eq!(names(&[&together]), ["demo/a/0", "demo/z/0", "demo/z/1"], "of one age, by name");
}

#[test]
fn grpc_routes_take_only_grpc_and_come_first() {
    let grpc = "
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: g, namespace: demo}
spec:
  parentRefs: [{group: '', kind: Service, name: web, port: 80}]
  rules: [{matches: [{method: {service: shop.Cart, method: Add}}]}, {matches: [{method: {service: shop.Cart}}]}]
";
    let found =
        config(&[&http_route("r", "demo", "[{matches: [{path: {type: Exact, value: /shop.Cart/Add}}]}]"), grpc], WEB);
    let seen: Vec<(&str, bool)> = routes(&found).iter().map(|r| (&*r.name, r.matches.grpc)).collect();
    assert_eq!(seen, [("demo/g/0", true), ("demo/g/1", true), ("demo/r/0", false)]);
    assert_eq!(routes(&found)[0].matches.path, PathMatch::Exact("/shop.Cart/Add".into()));
}

#[test]
fn weights_filters_and_backends_arrive() {
    let rules = "
  - backendRefs:
    - {name: web, port: 80, weight: 9}
    - name: api
      port: 80
      weight: 1
      filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-to, value: api}]}}]
    filters:
    - {type: RequestHeaderModifier, requestHeaderModifier: {remove: [x-secret], set: [{name: x-a, value: '1'}]}}
    - {type: ResponseHeaderModifier, responseHeaderModifier: {add: [{name: x-b, value: '2'}]}}
    - {type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: /new}}}
  - matches: [{path: {type: Exact, value: /old}}]
    filters: [{type: RequestRedirect, requestRedirect: {statusCode: 301, path: {type: ReplaceFullPath, replaceFullPath: /new}}}]
";
    let found = config(&[&http_route("r", "demo", rules)], WEB);
    let [old, rest] = routes(&found) else { panic!("{found:?}") };
    assert!(
        matches!(&old.action, Action::Redirect(r) if r.status == 301 && r.path == Some(PathRewrite::Full("/new".into())))
    );
    let to = forward(rest);
    let shares: Vec<_> = to.clusters.iter().map(|c| (&*c.name, c.weight, c.request_headers.mutations.len())).collect();
    assert_eq!(shares, [(WEB, 9, 0), (API, 1, 1)]);
    assert_eq!(to.path, Some(PathRewrite::Full("/new".into())));
    assert!(matches!(&rest.request_headers.mutations[..], [HeaderMutation::Remove(_), HeaderMutation::Set(..)]));
    assert!(matches!(&rest.response_headers.mutations[..], [HeaderMutation::Add(..)]));
}

const POLICIES: &str = "
apiVersion: weir.dev/v1alpha1
kind: Mesh
metadata: {name: mesh}
spec: {defaults: {timeouts: {request: 30s, idle: 60s}}}
---
apiVersion: weir.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: service, namespace: demo}
spec:
  targetRefs: [{group: '', kind: Service, name: web}]
  timeouts: {request: 5s}
  retry: {attempts: 2, on: [gateway-error], perTryTimeout: 1s}
  fault: {abort: {httpStatus: 503, percent: 1}}
---
apiVersion: weir.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: route, namespace: demo}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: r}]
  timeouts: {request: 2s}
  retry: {attempts: 0}
";

#[test]
fn policies_go_from_the_mesh_over_the_service_to_the_route() {
    let api = config(&[POLICIES.split("---\napiVersion: weir.dev/v1alpha1\nkind: TrafficPolicy").next().unwrap()], API);
    assert_eq!(forward(&routes(&api)[0]).timeout, Some(Duration::from_secs(30)));

    let route = http_route("r", "demo", "[{name: plain}]");
    let all = format!("{route}---{POLICIES}");
    let found = config(&[&all], WEB);
    let to = forward(&routes(&found)[0]);
    assert_eq!((to.timeout, to.idle_timeout), (Some(Duration::from_secs(2)), Some(Duration::from_secs(60))));
    assert_eq!(to.retry, None, "the route's policy says no");
    assert!(routes(&found)[0].fault.is_some(), "the service's policy is inherited where the route's says nothing");

    let grpc_port = config(&[&all], "web.demo.svc.cluster.local:9000");
    let to = forward(&routes(&grpc_port)[0]);
    assert_eq!(to.timeout, Some(Duration::from_secs(5)));
    assert_eq!(to.retry.as_ref().map(|r| (r.attempts, r.per_try_timeout)), Some((2, Some(Duration::from_secs(1)))));
}

#[test]
fn a_rule_says_its_own_timeouts_and_retries() {
    let rules = "
  - {name: own, timeouts: {request: 3s, backendRequest: 1s}, retry: {codes: [503], attempts: 3, backoff: 10ms}}
  - {name: off, timeouts: {request: 0s}}
  - {name: one, timeouts: {request: 3s, backendRequest: 1s}}
";
    let found = config(&[&http_route("r", "demo", rules)], WEB);
    let by_name = |name: &str| {
        forward(routes(&found).iter().find(|r| r.name.ends_with(name)).unwrap_or_else(|| panic!("{name}")))
    };
    let own = by_name("own");
    assert_eq!(own.timeout, Some(Duration::from_secs(3)));
    let retry = own.retry.as_ref().unwrap();
    assert_eq!((retry.attempts, retry.per_try_timeout), (3, Some(Duration::from_secs(1))));
    assert_eq!((retry.on.statuses.as_slice(), retry.backoff.base), (&[503][..], Duration::from_millis(10)));
    assert_eq!(by_name("off").timeout, None);
    assert_eq!(by_name("one").timeout, Some(Duration::from_secs(1)), "one try: its limit is the request's");
}

#[test]
fn every_route_leads_to_clusters_that_exist() {
    let rules = "[{backendRefs: [{name: api, port: 80}, {name: web, port: 80, weight: 2}]}]";
    let world = world(&[&http_route("r", "demo", rules), POLICIES]);
    for name in compile::names(&world, &web(), Kind::Route) {
        for route in routes(&compile::route(&world, &web(), &name).unwrap()) {
            for cluster in &forward(route).clusters {
                let cluster = compile::cluster(&world, &web(), &cluster.name).unwrap();
                assert!(compile::endpoints(&world, &web(), &cluster.name).is_some());
            }
        }
    }
}

#[test]
fn routes_survive_a_rebuilt_world() {
    let store = Memory::default();
    super::apply(&store, super::MESH);
    super::apply(&store, &http_route("r", "demo", "[{}]"));
    let first = World::build(store.snapshot(), &World::default());
    super::apply(&store, POLICIES);
    let second = World::build(store.snapshot(), &first);
    let fresh = World::build(store.snapshot(), &World::default());
    assert_eq!(compile::route(&second, &web(), WEB), compile::route(&fresh, &web(), WEB));
    assert_ne!(compile::route(&first, &web(), WEB), compile::route(&second, &web(), WEB));
}
