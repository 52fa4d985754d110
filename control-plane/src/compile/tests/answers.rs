//! What names mean.

use super::{node, world};
use crate::{compile, index::is_virtual};
use weir_config::model::{Health, Kind};

const NAMES: &str = "
apiVersion: v1
kind: Service
metadata: {name: shop, namespace: demo}
spec: {clusterIPs: [10.96.0.7, 'fd00::7'], selector: {app: web}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: each, namespace: demo}
spec: {clusterIP: None, selector: {app: web}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: here, namespace: demo}
spec: {clusterIP: None, selector: {app: here}, ports: [{port: 80}]}
---
apiVersion: weir.dev/v1alpha1
kind: Workload
metadata: {name: web-3, namespace: demo, labels: {app: web}}
spec: {address: 'fd00::3', health: Unhealthy}
---
apiVersion: weir.dev/v1alpha1
kind: Workload
metadata: {name: here-1, namespace: demo, labels: {app: here}}
spec: {address: 127.0.0.1}
";

fn answered(namespace: &str, name: &str) -> Option<Vec<(String, Health)>> {
    let found = compile::endpoints(&world(&[NAMES]), &node(namespace, "x"), &format!("dns/{name}"))?;
    assert_eq!(&*found.name, &format!("dns/{name}"));
    let all = found.localities.iter().flat_map(|l| &l.endpoints);
    Some(all.map(|e| (e.address.ip().to_string(), e.health)).collect())
}

fn addresses(namespace: &str, name: &str) -> Vec<String> {
    answered(namespace, name).unwrap_or_default().into_iter().map(|(address, _)| address).collect()
}

#[test]
fn a_service_is_found_in_every_form_that_a_search_list_makes() {
    for name in ["shop", "shop.demo", "shop.demo.svc", "shop.demo.svc.cluster.local"] {
        assert_eq!(addresses("demo", name), ["10.96.0.7", "fd00::7"], "{name}");
    }
    assert_eq!(addresses("prod", "shop.demo"), ["10.96.0.7", "fd00::7"]);
    for name in [
        "shop",
        "shop.svc",
        "shop.prod",
        "shop.demo.svc.example",
        "x.shop.demo",
        "shop.demo.svc.cluster.local.demo",
        "",
    ] {
        assert_eq!(answered("prod", name), None, "{name}");
    }
}

#[test]
fn a_headless_service_means_its_instances_and_each_has_a_name() {
    let all = answered("demo", "each").unwrap();
    let expected = [("10.0.0.1", Health::Healthy), ("10.0.0.2", Health::Healthy), ("fd00::3", Health::Unhealthy)]
        .map(|(a, h)| (a.to_owned(), h));
    assert_eq!(all, expected);
    for name in ["web-2.each", "web-2.each.demo", "web-2.each.demo.svc", "web-2.each.demo.svc.cluster.local"] {
        assert_eq!(addresses("demo", name), ["10.0.0.2"], "{name}");
    }
    assert_eq!(answered("demo", "web-3.each").unwrap()[0].1, Health::Healthy, "who names an instance means that one");
    assert_eq!(answered("prod", "web-2.each"), None, "relative names are of one's own namespace");
    assert_eq!(answered("demo", "web-2.shop.demo"), None, "it is not headless");
    assert_eq!(answered("demo", "here"), Some(vec![]), "a loopback address is everybody's, and the name exists");
}

#[test]
fn a_service_without_an_address_is_given_one_of_each_family_that_leads_back_to_it() {
    let world = world(&[NAMES]);
    let [v4, v6] = &addresses("demo", "api")[..] else { panic!("not two") };
    assert!(is_virtual(v4.parse().unwrap()) && is_virtual(v6.parse().unwrap()));
    assert_ne!(addresses("demo", "api"), addresses("demo", "api.prod"));
    for address in [v4, v6] {
        let found = compile::listener(&world, &node("prod", "x"), &format!("{address}_80"));
        assert!(matches!(found, Some(weir_config::model::Listener::Api(api))
            if api.routes == weir_config::model::RouteSource::Rds(super::API.into())));
        // Nobody else is there: what is not its port is refused, and not carried into nothing.
        assert!(compile::listener(&world, &node("prod", "x"), &format!("{address}_81")).is_none());
    }
}

#[test]
fn short_names_are_made_for_each_namespace() {
    assert_eq!(
        compile::scope(&world(&[]), &node("demo", "web-1"), Kind::Endpoints, "dns/web"),
        compile::Scope::Namespace
    );
    assert_eq!(compile::scope(&world(&[]), &node("demo", "web-1"), Kind::Endpoints, super::WEB), compile::Scope::Mesh);
}
