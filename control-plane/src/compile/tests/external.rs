//! Hosts outside the mesh: by their names, by the addresses that they are given, and by none.

use super::{node, routes, world};
use crate::{compile, index::is_virtual};
use std::{net::IpAddr, time::Duration};
use weir_config::model::{Action, Discovery, Listener, Protocol, RouteSource};

const HOSTS: &str = "
apiVersion: weir.dev/v1alpha1
kind: ExternalService
metadata: {name: api, namespace: demo}
spec:
  hosts: [api.example.com, '*.files.example.com']
  ports: [{port: 80, protocol: HTTP}, {port: 443, protocol: TLS}]
---
apiVersion: weir.dev/v1alpha1
kind: ExternalService
metadata: {name: db, namespace: demo}
spec: {hosts: [db.example.com], ports: [{port: 5432, protocol: TCP}, {port: 443, protocol: TLS}, {port: 9000, protocol: GRPC}]}
---
apiVersion: weir.dev/v1alpha1
kind: ExternalService
metadata: {name: fixed, namespace: prod}
spec: {hosts: [fixed.example.com], ports: [{port: 443, protocol: TLS}, {port: 6379, protocol: TCP}], addresses: [192.0.2.9]}
---
apiVersion: weir.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: api, namespace: demo}
spec: {targetRefs: [{kind: ExternalService, name: api}], timeouts: {request: 7s, connect: 3s}}
";
const CLOSED: &str = "{apiVersion: weir.dev/v1alpha1, kind: Mesh, metadata: {name: mesh}, \
                      spec: {outboundTrafficPolicy: {mode: RegistryOnly}}}";

/// Where a name or an address leads, and whether what is said there may lead elsewhere.
fn leads(more: &[&str], asked: &str) -> Option<(String, bool)> {
    let world = world(&[&[HOSTS], more].concat());
    let Listener::Api(api) = compile::listener(&world, &node("prod", "x"), asked)? else { panic!("no caller's") };
    let routes = match &api.routes {
        RouteSource::Rds(name) => name.to_string(),
        RouteSource::Inline(routes) => routes.name.to_string(),
    };
    Some((routes, api.by_name))
}

fn to(name: &str, by_name: bool) -> Option<(String, bool)> {
    Some((name.to_owned(), by_name))
}

#[test]
fn a_host_is_called_by_its_name_and_one_below_a_domain_by_its_own() {
    for (asked, expected) in [
        ("api.example.com:443", to("api.example.com:443", false)),
        ("a.files.example.com:443", to("a.files.example.com:443", false)),
        ("b.a.files.example.com:80", to("b.a.files.example.com:80", false)),
        ("files.example.com:443", None),
        ("example.com:443", None),
        ("api.example.com:444", None),
        ("xfiles.example.com:443", None),
    ] {
        assert_eq!(leads(&[], asked), expected, "{asked}");
        assert_eq!(leads(&[CLOSED], asked), expected, "{asked}, and nothing else may be called");
    }
}

#[test]
fn an_address_that_nobody_has_may_be_meant_for_a_name() {
    for (asked, open, closed) in [
        ("198.51.100.1_443", to("PassthroughCluster", true), to("BlackHoleCluster", true)),
        ("198.51.100.1_80", to("PassthroughCluster", true), to("BlackHoleCluster", true)),
        // No host is known by its name there.
        ("198.51.100.1_5432", to("PassthroughCluster", false), None),
        // An address of one's own may be others' too: what is said decides, where something is.
        ("192.0.2.9_443", to("PassthroughCluster", true), to("BlackHoleCluster", true)),
        ("192.0.2.9_6379", to("fixed.example.com:6379", false), to("fixed.example.com:6379", false)),
        // A service of the mesh is meant by its address alone.
        (
            "10.0.0.1_8080",
            to("web-1@web.demo.svc.cluster.local:80", false),
            to("web-1@web.demo.svc.cluster.local:80", false),
        ),
    ] {
        assert_eq!(leads(&[], asked), open, "{asked}");
        assert_eq!(leads(&[CLOSED], asked), closed, "{asked}");
    }
}

#[test]
fn a_host_of_bytes_has_an_address_that_leads_back_to_it() {
    let addresses = |name: &str| -> Vec<IpAddr> {
        let found = compile::endpoints(&world(&[HOSTS]), &node("prod", "x"), &format!("dns/{name}"));
        found.iter().flat_map(|e| &e.localities).flat_map(|l| &l.endpoints).map(|e| e.address.ip()).collect()
    };
    let given = addresses("db.example.com");
    assert!(given.len() == 2 && given.iter().all(|a| is_virtual(*a)), "{given:?}");
    for address in given {
        for (port, open, closed) in [
            (5432, to("db.example.com:5432", false), to("db.example.com:5432", false)),
            (443, to("db.example.com:443", false), to("db.example.com:443", false)),
            (9000, to("db.example.com:9000", false), to("db.example.com:9000", false)),
            // What is not written may be called all the same, unless only that may.
            (22, to("db.example.com:22", false), None),
        ] {
            let asked = format!("{address}_{port}");
            assert_eq!((leads(&[], &asked), leads(&[CLOSED], &asked)), (open, closed), "{asked}");
        }
    }
    assert_eq!(addresses("fixed.example.com"), [IpAddr::from([192, 0, 2, 9])]);
    // Names that are said on the wire stay the resolver's.
    assert!(addresses("api.example.com").is_empty() && addresses("a.files.example.com").is_empty());
}

#[test]
fn a_host_is_resolved_where_it_is_called_and_has_the_policies_that_name_it() {
    let world = world(&[HOSTS]);
    let node = node("prod", "x");
    for (name, protocol) in [
        ("api.example.com:80", Protocol::Http1),
        ("api.example.com:443", Protocol::Tcp),
        ("a.files.example.com:80", Protocol::Http1),
    ] {
        let cluster = compile::cluster(&world, &node, name).unwrap();
        let (host, port) = name.rsplit_once(':').unwrap();
        let dns = Discovery::Dns { host: host.into(), port: port.parse().unwrap() };
        assert_eq!((&cluster.discovery, cluster.protocol), (&dns, protocol));
        assert_eq!((cluster.connect_timeout, &cluster.tls, &cluster.outlier), (Duration::from_secs(3), &None, &None));
        let config = compile::route(&world, &node, name).unwrap();
        let Action::Forward(forward) = &routes(&config)[0].action else { panic!() };
        assert_eq!((&*forward.clusters[0].name, forward.timeout), (name, Some(Duration::from_secs(7))));
    }
    assert_eq!(compile::cluster(&world, &node, "db.example.com:9000").unwrap().protocol, Protocol::Http2);
    let fixed = compile::cluster(&world, &node, "fixed.example.com:6379").unwrap();
    let Discovery::Static(endpoints) = &fixed.discovery else { panic!("not resolved") };
    let all: Vec<_> =
        endpoints.localities.iter().flat_map(|l| &l.endpoints).map(|e| (e.address.to_string(), e.mesh)).collect();
    assert_eq!(all, [("192.0.2.9:6379".to_owned(), false)]);
    assert_eq!(fixed.connect_timeout, Duration::from_secs(10), "farther than a neighbour");
}

#[test]
fn of_two_documents_with_one_host_the_older_holds() {
    let younger = HOSTS.split("---").nth(1).unwrap().replace("name: db,", "name: another,").replace("5432", "5433");
    assert_eq!(leads(&[&younger, CLOSED], "db.example.com:5432"), to("db.example.com:5432", false));
    assert_eq!(leads(&[&younger, CLOSED], "db.example.com:5433"), None);
}
