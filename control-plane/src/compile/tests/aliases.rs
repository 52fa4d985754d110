//! Services that are another name of something: of another Service, of a host outside, of nothing.

use super::{WEB, node, world};
use crate::compile;
use std::time::Duration;
use weir_config::model::{Action, Discovery, Kind, Listener, Protocol, RouteSource};

const NAMES: &str = "
apiVersion: v1
kind: Service
metadata: {name: db, namespace: demo}
spec: {type: ExternalName, externalName: db.example.com.}
---
apiVersion: v1
kind: Service
metadata: {name: page, namespace: demo}
spec: {type: ExternalName, externalName: www.example.com, ports: [{name: http, port: 80}, {name: tcp-x, port: 81}]}
---
apiVersion: v1
kind: Service
metadata: {name: shop, namespace: prod}
spec: {type: ExternalName, externalName: web.demo.svc.cluster.local, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: shop2, namespace: prod}
spec: {type: ExternalName, externalName: shop.prod.svc.cluster.local}
---
apiVersion: v1
kind: Service
metadata: {name: db2, namespace: prod}
spec: {type: ExternalName, externalName: db.demo.svc.cluster.local}
---
apiVersion: v1
kind: Service
metadata: {name: nobody, namespace: prod}
spec: {type: ExternalName, externalName: gone.demo.svc.cluster.local}
---
apiVersion: v1
kind: Service
metadata: {name: looks-like, namespace: prod}
spec: {type: ExternalName, externalName: web.demo}
";
const DECLARED: &str = "
apiVersion: weir.dev/v1alpha1
kind: ExternalService
metadata: {name: db, namespace: demo}
spec: {hosts: [db.example.com], ports: [{port: 5432, protocol: TCP}]}
";
const CLOSED: &str = "{apiVersion: weir.dev/v1alpha1, kind: Mesh, metadata: {name: mesh}, \
                      spec: {outboundTrafficPolicy: {mode: RegistryOnly}}}";

/// Where an authority leads that is said in a namespace.
fn leads(more: &[&str], namespace: &str, authority: &str) -> Option<String> {
    let world = world(&[&[NAMES], more].concat());
    let Listener::Api(api) = compile::listener(&world, &node(namespace, "x"), authority)? else {
        panic!("no caller's")
    };
    assert_eq!(&*api.name, authority);
    let RouteSource::Rds(name) = api.routes else { panic!("inline routes") };
    Some(name.to_string())
}

fn to(name: &str) -> Option<String> {
    Some(name.to_owned())
}

#[test]
fn another_name_of_a_service_is_that_service() {
    for authority in
        ["shop:80", "shop", "shop.prod:80", "shop.prod.svc:80", "shop.prod.svc.cluster.local:80", "shop2:80"]
    {
        assert_eq!(leads(&[], "prod", authority), to(WEB), "{authority}");
        assert_eq!(leads(&[CLOSED], "prod", authority), to(WEB), "{authority}, and nothing else may be called");
    }
    // Its ports are that service's, whatever it says of its own.
    assert_eq!(leads(&[], "prod", "shop:9000"), to("web.demo.svc.cluster.local:9000"));
    assert_eq!(leads(&[], "prod", "shop:81"), None);
    assert_eq!(leads(&[], "prod", "nobody:80"), None, "a service that is not there");
}

#[test]
fn a_name_means_something_in_its_own_namespace_alone() {
    assert_eq!(leads(&[], "demo", "shop:80"), None);
    assert_eq!(leads(&[], "demo", "shop.prod:80"), to(WEB));
    // That it is said to be another namespace's service makes it no name there, and theirs stay theirs.
    let taken = "{apiVersion: v1, kind: Service, metadata: {name: api, namespace: evil}, \
                 spec: {type: ExternalName, externalName: evil.example.com}}";
    assert_eq!(leads(&[taken], "demo", "api:80"), to("api.demo.svc.cluster.local:80"));
    assert_eq!(leads(&[taken], "evil", "api.demo:80"), to("api.demo.svc.cluster.local:80"));
    assert_eq!(leads(&[taken], "demo", "evil.example.com:80"), None, "the host itself is nobody's");
}

#[test]
fn another_name_of_a_host_leads_to_any_port_of_it() {
    for (namespace, authority) in [("demo", "db:5432"), ("prod", "db.demo:5432"), ("prod", "db2:5432")] {
        assert_eq!(leads(&[], namespace, authority), to("db.demo.svc.cluster.local:5432"), "{authority}");
        assert_eq!(leads(&[DECLARED], namespace, authority), to("db.example.com:5432"), "{authority}, as declared");
        assert_eq!(leads(&[DECLARED, CLOSED], namespace, authority), to("db.example.com:5432"), "{authority}");
        assert_eq!(leads(&[CLOSED], namespace, authority), None, "{authority}: nobody has allowed it");
    }
    assert_eq!(leads(&[DECLARED, CLOSED], "demo", "db:22"), None);
    // The name of a host is written in full: DNS would look for this one in no namespace.
    assert_eq!(leads(&[], "prod", "looks-like:80"), to("looks-like.prod.svc.cluster.local:80"));
}

#[test]
fn a_host_that_nobody_declared_is_looked_up_where_it_is_called() {
    let world = world(&[NAMES]);
    let node = node("prod", "x");
    for (service, port, host, protocol) in [
        ("db", 5432, "db.example.com", Protocol::UseDownstream),
        ("page", 80, "www.example.com", Protocol::Http1),
        ("page", 81, "www.example.com", Protocol::Tcp),
        ("page", 443, "www.example.com", Protocol::UseDownstream),
    ] {
        let name = format!("{service}.demo.svc.cluster.local:{port}");
        let cluster = compile::cluster(&world, &node, &name).unwrap();
        assert_eq!((cluster.discovery, cluster.protocol), (Discovery::Dns { host: host.into(), port }, protocol));
        assert_eq!((cluster.tls, cluster.outlier, cluster.connect_timeout), (None, None, Duration::from_secs(10)));
        let routes = compile::route(&world, &node, &name).unwrap();
        let Action::Forward(forward) = &super::routes(&routes)[0].action else { panic!() };
        assert_eq!(
            (&*forward.clusters[0].name, &forward.host),
            (name.as_str(), &None),
            "the caller's own `Host` stays"
        );
        assert_eq!(forward.idle_timeout, Some(Duration::from_secs(86_400)), "{name} may be silent for a day");
    }
    // Only under its own name, so that each is called as it says itself; and not among what everybody is told.
    let refused = ["db2.prod.svc.cluster.local:5432", "shop.prod.svc.cluster.local:80"];
    assert!(refused.iter().all(|name| compile::cluster(&world, &node, name).is_none()));
    assert!(refused.iter().all(|name| compile::route(&world, &node, name).is_none()));
    assert!(!compile::names(&world, &node, Kind::Cluster).iter().any(|name| name.contains("page")));
}

#[test]
fn dns_answers_with_what_is_meant_or_leaves_it_to_the_resolver() {
    let services = "
apiVersion: v1
kind: Service
metadata: {name: each, namespace: demo}
spec: {clusterIP: None, selector: {app: web}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: at, namespace: demo}
spec: {clusterIP: 10.96.0.9, selector: {app: web}, ports: [{port: 80}]}
";
    let alias = |name: &str, target: &str| {
        format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: prod}}, \
             spec: {{type: ExternalName, externalName: {target}.svc.cluster.local}}}}"
        )
    };
    let (all, one, at) = (alias("all", "each.demo"), alias("one", "web-2.each.demo"), alias("there", "at.demo"));
    let world = world(&[NAMES, services, &all, &one, &at]);
    let addresses = |name: &str| -> Option<Vec<String>> {
        let found = compile::endpoints(&world, &node("prod", "x"), &format!("dns/{name}"))?;
        Some(found.localities.iter().flat_map(|l| &l.endpoints).map(|e| e.address.ip().to_string()).collect())
    };
    assert_eq!(addresses("there"), Some(vec!["10.96.0.9".to_owned()]));
    assert_eq!(addresses("all.prod.svc"), Some(vec!["10.0.0.1".to_owned(), "10.0.0.2".to_owned()]));
    assert_eq!(addresses("one"), Some(vec!["10.0.0.2".to_owned()]));
    assert_eq!(addresses("shop"), addresses("web.demo"), "where a service has no address, the one that it is given");
    assert_eq!((addresses("db.demo"), addresses("db2"), addresses("nobody")), (None, None, None));
    assert!(world.given(&"Service/demo/db".parse().unwrap()).is_none());
}

#[test]
fn names_that_lead_in_a_circle_lead_nowhere() {
    // As a cluster may have them: nobody refuses them there.
    let alias = |name: &str, target: &str| {
        format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: prod}}, \
             spec: {{type: ExternalName, externalName: {target}.prod.svc.cluster.local}}}}"
        )
    };
    let chain: Vec<String> = (0..9).map(|n| alias(&format!("n{n}"), &format!("n{}", n + 1))).collect();
    let end = "{apiVersion: v1, kind: Service, metadata: {name: n9, namespace: prod}, spec: {ports: [{port: 80}]}}";
    let texts: Vec<&str> = chain.iter().map(String::as_str).chain([end]).collect();
    assert_eq!(leads(&texts, "prod", "n1:80"), to("n9.prod.svc.cluster.local:80"), "eight names");
    assert_eq!(leads(&texts, "prod", "n0:80"), None, "one too many");
    let own = crate::store::Memory::default();
    let documents = weir_config::resources::parse("t", &alias("self", "self")).unwrap();
    let batch = crate::store::Batch::put_all(documents);
    let refused = crate::store::Store::apply(&own, &batch).unwrap_err().to_string();
    assert!(refused.contains("leads back to itself"), "{refused}");
}
