//! Which service a name means, and what is there for whom.

use super::{API, WEB, node, web, world};
use crate::compile::{self, Class, Node, Scope};
use std::sync::Arc;
use weir_config::model::{Kind, Listener, RouteSource};

fn routes_of(authority: &str, namespace: &str) -> Option<Arc<str>> {
    let world = world(&[]);
    match compile::listener(&world, &node(namespace, "x"), authority)? {
        Listener::Api(l) => {
            assert_eq!(&*l.name, authority, "a listener is called as it was asked for");
            let RouteSource::Rds(name) = l.routes else { panic!("inline routes") };
            Some(name)
        }
        Listener::Inbound(l) => panic!("{}", l.name),
    }
}

#[test]
fn authorities_mean_services_as_in_kubernetes() {
    let prod = "api.prod.svc.cluster.local:8080";
    for (authority, namespace, expected) in [
        ("web:80", "demo", Some(WEB)),
        ("web", "demo", Some(WEB)),
        ("web.demo:80", "prod", Some(WEB)),
        ("web.demo", "prod", Some(WEB)),
        ("web.demo.svc:80", "prod", Some(WEB)),
        ("web.demo.svc.cluster.local:80", "prod", Some(WEB)),
        ("web.demo.svc.cluster.local.:80", "prod", Some(WEB)),
        ("api:80", "demo", Some(API)),
        ("api:8080", "prod", Some(prod)),
        ("api.prod:8080", "demo", Some(prod)),
        ("api:8080", "demo", None),
        ("web:80", "prod", None),
        ("web:81", "demo", None),
        ("web:080", "demo", None),
        ("web:", "demo", None),
        ("web:+80", "demo", None),
        ("web:99999", "demo", None),
        ("web.svc:80", "demo", None),
        ("web.svc.cluster.local:80", "demo", None),
        ("web.demo.svc.other.local:80", "demo", None),
        ("web.demo.cluster.local:80", "demo", None),
        (".demo:80", "demo", None),
        ("", "demo", None),
        (":", "demo", None),
        (":80", "demo", None),
        ("[::1]:80", "demo", None),
        ("example.com:80", "demo", None),
    ] {
        assert_eq!(routes_of(authority, namespace).as_deref(), expected, "`{authority}` said in {namespace}");
    }
}

#[test]
fn a_cluster_domain_of_ones_own_is_used() {
    let mesh =
        "{apiVersion: weir.dev/v1alpha1, kind: Mesh, metadata: {name: mesh}, spec: {clusterDomain: corp.example}}";
    let world = world(&[mesh]);
    assert!(compile::cluster(&world, &web(), WEB).is_none());
    assert!(compile::cluster(&world, &web(), "web.demo.svc.corp.example:80").is_some());
    assert!(compile::listener(&world, &web(), "web.demo.svc.corp.example:80").is_some());
}

#[test]
fn only_full_names_are_resources() {
    let world = world(&[]);
    for name in [
        "web:80",
        "web.demo:80",
        "web.demo.svc:80",
        "web.demo.svc.cluster.local",
        "ghost.demo.svc.cluster.local:80",
        "web.demo.svc.cluster.local:0",
        "web.demo.svc.cluster.local:81",
        "",
        "inbound:",
        "inbound:x",
        "inbound:1",
    ] {
        assert!(compile::cluster(&world, &web(), name).is_none(), "{name}");
        assert!(compile::endpoints(&world, &web(), name).is_none(), "{name}");
        assert!(compile::route(&world, &web(), name).is_none(), "{name}");
    }
    for name in ["inbound/demo/web-2", "inbound/demo", "inbound/", "/", "inbound/demo/web-1/x", "inbound/demo/ghost"] {
        assert!(compile::listener(&world, &web(), name).is_none(), "{name}");
    }
}

#[test]
fn who_asks_for_everything_gets_it_sorted() {
    let world = world(&[]);
    let names = |kind| compile::names(&world, &web(), kind).iter().map(ToString::to_string).collect::<Vec<_>>();
    let services = [
        "api.demo.svc.cluster.local:80",
        "api.prod.svc.cluster.local:8080",
        "web.demo.svc.cluster.local:5432",
        "web.demo.svc.cluster.local:80",
        "web.demo.svc.cluster.local:9000",
    ];
    assert_eq!(names(Kind::Endpoints), services);
    assert_eq!(names(Kind::Route), services);
    assert_eq!(names(Kind::Listener), ["inbound/demo/web-1"]);
    assert_eq!(names(Kind::Secret), ["ROOTCA"]);
    let clusters = names(Kind::Cluster);
    for name in ["inbound:8080", "inbound:9090", "inbound:5432"] {
        assert!(clusters.iter().any(|c| c == name), "{name} in {clusters:?}");
    }
    assert_eq!(clusters.len(), services.len() + 3);
    for name in &clusters {
        assert!(compile::cluster(&world, &web(), name).is_some_and(|c| *c.name == **name), "{name}");
    }
}

#[test]
fn a_grpc_client_has_no_inbound_side() {
    let world = world(&[]);
    let grpc = Node { class: Class::Grpc, ..web() };
    assert!(compile::names(&world, &grpc, Kind::Listener).is_empty());
    assert!(compile::listener(&world, &grpc, "inbound/demo/web-1").is_none());
    assert!(compile::cluster(&world, &grpc, "inbound:8080").is_none());
    assert!(compile::listener(&world, &grpc, "web:9000").is_some());
}

#[test]
fn what_a_resource_depends_on_is_known() {
    assert_eq!(compile::scope(&world(&[]), &web(), Kind::Cluster, WEB), Scope::Mesh);
    assert_eq!(compile::scope(&world(&[]), &web(), Kind::Endpoints, WEB), Scope::Mesh);
    assert_eq!(compile::scope(&world(&[]), &web(), Kind::Cluster, "inbound:8080"), Scope::Node);
    assert_eq!(compile::scope(&world(&[]), &web(), Kind::Listener, "inbound/demo/web-1"), Scope::Node);
    assert_eq!(compile::scope(&world(&[]), &web(), Kind::Listener, "web:80"), Scope::Namespace);
    assert_eq!(compile::scope(&world(&[]), &web(), Kind::Route, WEB), Scope::Mesh);
}
