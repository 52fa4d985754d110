//! What an address means that a connection was captured on the way to.

use super::{WEB, node, routes, web, world};
use crate::compile;
use weir_config::model::{
    Action, AuthzPolicy, Discovery, InboundTarget, Listener, Protocol, RouteConfig, RouteSource, UpstreamTls,
};

/// `web` has an address of each family; `plain` says nothing of what it speaks.
const ADDRESSES: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: demo}
spec:
  clusterIP: 10.96.0.7
  clusterIPs: [10.96.0.7, 'fd00::7']
  selector: {app: web}
  ports:
  - {name: http, port: 80, targetPort: 8080, appProtocol: http}
  - {name: db, port: 5432, appProtocol: tcp}
---
apiVersion: v1
kind: Service
metadata: {name: plain, namespace: demo}
spec: {clusterIP: None, selector: {app: web}, ports: [{port: 7000}]}
";

fn routes_of(texts: &[&str], name: &str) -> Option<String> {
    let listener = compile::listener(&world(texts), &node("prod", "x"), name)?;
    let Listener::Api(api) = listener else { panic!("no listener of a caller") };
    assert_eq!(&*api.name, name);
    let RouteSource::Rds(routes) = api.routes else { panic!("inline routes") };
    Some(routes.to_string())
}

#[test]
fn an_address_means_its_service_or_its_instance_or_the_world_outside() {
    let pinned = "web-1@web.demo.svc.cluster.local:80";
    for (name, expected) in [
        ("10.96.0.7_80", Some(WEB)),
        ("fd00::7_80", Some(WEB)),
        ("10.96.0.7_5432", Some("web.demo.svc.cluster.local:5432")),
        // A service's address on another port is nothing of the mesh's.
        ("10.96.0.7_81", Some("PassthroughCluster")),
        ("10.0.0.1_8080", Some(pinned)),
        ("10.0.0.1_7000", Some("web-1@plain.demo.svc.cluster.local:7000")),
        ("10.0.0.1_81", Some("PassthroughCluster")),
        ("192.0.2.1_443", Some("PassthroughCluster")),
        // One spelling only, and no name that an application may say.
        ("10.96.0.7_080", None),
        ("fd00:0::7_80", None),
        ("10.96.0.7:80", None),
        ("web_80", None),
        ("_80", None),
    ] {
        assert_eq!(routes_of(&[ADDRESSES], name).as_deref(), expected, "{name}");
    }
}

#[test]
fn the_mesh_decides_about_the_world_outside() {
    let closed = "{apiVersion: weir.dev/v1alpha1, kind: Mesh, metadata: {name: mesh}, \
                  spec: {outboundTrafficPolicy: {mode: RegistryOnly}}}";
    assert_eq!(routes_of(&[ADDRESSES, closed], "192.0.2.1_443"), None);
    assert_eq!(routes_of(&[ADDRESSES, closed], "10.96.0.7_80").as_deref(), Some(WEB));
    let cluster = compile::cluster(&world(&[]), &web(), "PassthroughCluster").unwrap();
    assert_eq!((&cluster.discovery, cluster.protocol), (&Discovery::OriginalDestination, Protocol::Tcp));
    assert!(compile::route(&world(&[]), &web(), "PassthroughCluster").is_some());
}

fn tls(cluster: &weir_config::model::Cluster) -> UpstreamTls {
    cluster.tls.clone().expect("mutual TLS")
}

#[test]
fn an_instance_keeps_identity_times_and_name_of_its_service_and_is_alone() {
    let world = world(&[ADDRESSES]);
    let (whole, pinned) = (WEB, "web-1@web.demo.svc.cluster.local:80");
    let cluster = |name: &str| compile::cluster(&world, &node("prod", "x"), name).unwrap();
    let Discovery::Static(endpoints) = cluster(pinned).discovery else { panic!("more than one") };
    let all: Vec<_> = endpoints.localities.iter().flat_map(|l| &l.endpoints).map(|e| e.address.to_string()).collect();
    assert_eq!(all, ["10.0.0.1:15006"]);
    assert_eq!(tls(&cluster(pinned)).sni, tls(&cluster(whole)).sni);
    let identities: Vec<_> = tls(&cluster(pinned)).identities.iter().map(|i| i.as_str().to_owned()).collect();
    assert_eq!(identities, ["spiffe://weir.local/ns/demo/sa/web"]);
    assert!(cluster(pinned).outlier.is_none() && cluster(whole).outlier.is_some());
    let plain = cluster("web-2@web.demo.svc.cluster.local:80");
    assert!(plain.tls.is_none(), "it has no sidecar");
    assert!(compile::cluster(&world, &web(), "ghost@web.demo.svc.cluster.local:80").is_none());
}

fn only(config: &RouteConfig) -> &str {
    let Action::Forward(to) = &routes(config)[0].action else { panic!("no destination") };
    &to.clusters[0].name
}

#[test]
fn the_routes_of_a_service_do_not_lead_away_from_an_instance_that_was_meant() {
    let elsewhere = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r, namespace: demo}
spec:
  parentRefs: [{group: '', kind: Service, name: web}]
  rules: [{backendRefs: [{name: api, port: 80}]}]
";
    let world = world(&[ADDRESSES, elsewhere]);
    let pinned = "web-1@web.demo.svc.cluster.local:80";
    assert_eq!(only(&compile::route(&world, &web(), WEB).unwrap()), super::API);
    assert_eq!(only(&compile::route(&world, &web(), pinned).unwrap()), pinned);
}

#[test]
fn where_nobody_says_what_is_spoken_there_is_a_chain_for_http_and_one_for_bytes() {
    let deny = "
apiVersion: weir.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {name: admin, namespace: demo}
spec: {action: Deny, rules: [{to: [{paths: [/admin]}]}]}
";
    let permissive =
        "{apiVersion: weir.dev/v1alpha1, kind: Mesh, metadata: {name: mesh}, spec: {mtls: {mode: Permissive}}}";
    let world = world(&[ADDRESSES, deny, permissive]);
    let Some(Listener::Inbound(found)) = compile::listener(&world, &web(), "inbound/demo/web-1") else { panic!() };
    let denied = |policies: &[AuthzPolicy]| policies[0].rules[0].paths.len();
    for (name, spoken) in [("plain.demo:7000", ["http/1.1", "h2"]), ("port:7000", ["http/1.1", "h2c"])] {
        let chains: Vec<_> = found.chains.iter().filter(|c| &*c.name == name).collect();
        let [http, bytes] = chains[..] else { panic!("{name}: {} chains", chains.len()) };
        assert!(matches!(http.target, InboundTarget::Http { .. }) && matches!(bytes.target, InboundTarget::Tcp { .. }));
        assert_eq!(
            (&http.matches.protocols[..], &bytes.matches.protocols[..]),
            (&spoken.map(String::from)[..], &[][..])
        );
        // What has no path cannot be said not to have the denied one.
        assert_eq!((denied(&http.authz.deny), denied(&bytes.authz.deny)), (1, 0));
    }
    let cluster = compile::cluster(&world, &web(), "plain.demo.svc.cluster.local:7000").unwrap();
    assert_eq!(cluster.protocol, Protocol::UseDownstream);
}
