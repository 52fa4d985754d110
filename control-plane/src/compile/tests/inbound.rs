//! What a workload's own sidecar accepts, from whom, and where it takes it.

use super::{node, web, world};
use crate::compile;
use std::time::Duration;
use weir_config::model::{
    Action, AuthzPolicy, ChainMatch, Discovery, InboundChain, InboundListener, InboundTarget, Listener, PrincipalMatch,
    Protocol, StringMatch,
};

fn listener(texts: &[&str]) -> InboundListener {
    match compile::listener(&world(texts), &web(), "inbound/demo/web-1").unwrap() {
        Listener::Inbound(l) => l,
        Listener::Api(l) => panic!("{}", l.name),
    }
}

fn chain<'a>(listener: &'a InboundListener, name: &str) -> &'a InboundChain {
    listener.chains.iter().find(|c| &*c.name == name).unwrap_or_else(|| panic!("no {name}"))
}

fn names(policies: &[AuthzPolicy]) -> Vec<&str> {
    policies.iter().map(|p| &*p.name).collect()
}

#[test]
fn each_service_port_has_a_chain_with_mutual_tls() {
    let found = listener(&[]);
    let seen: Vec<_> = found.chains.iter().map(|c| (&*c.name, c.matches.server_names[0].as_str())).collect();
    assert_eq!(
        seen,
        [
            ("web.demo:80", "80.web.demo.svc.cluster.local"),
            ("web.demo:9000", "9000.web.demo.svc.cluster.local"),
            ("web.demo:5432", "5432.web.demo.svc.cluster.local"),
        ]
    );
    assert!(found.chains.iter().all(|c| c.tls.is_some_and(|t| t.require_client_certificate)));
    let InboundTarget::Http { routes, .. } = &chain(&found, "web.demo:9000").target else { panic!() };
    let Action::Forward(to) = &routes.virtual_hosts[0].routes[0].action else { panic!() };
    assert_eq!((&*to.clusters[0].name, to.timeout, to.retry.as_ref()), ("inbound:9090", None, None));
    let InboundTarget::Tcp { cluster, .. } = &chain(&found, "web.demo:5432").target else { panic!() };
    assert_eq!(&**cluster, "inbound:5432");
}

#[test]
fn what_callers_send_is_what_a_chain_matches() {
    let world = world(&[]);
    for service in
        ["web.demo.svc.cluster.local:80", "web.demo.svc.cluster.local:9000", "web.demo.svc.cluster.local:5432"]
    {
        let sni = compile::cluster(&world, &node("demo", "api-1"), service).unwrap().tls.unwrap().sni;
        let found = listener(&[]);
        let chains = found.chains.iter().filter(|c| c.matches.server_names.iter().any(|n| **n == *sni));
        assert_eq!(chains.count(), 1, "{service}");
    }
}

#[test]
fn a_node_has_only_its_own() {
    let world = world(&[]);
    assert!(compile::listener(&world, &node("demo", "api-1"), "inbound/demo/web-1").is_none());
    assert!(compile::listener(&world, &node("demo", "api-1"), "inbound/demo/api-1").is_some());
    assert!(compile::listener(&world, &node("demo", "web-2"), "inbound/demo/web-2").is_none(), "it has no sidecar");
    assert!(compile::cluster(&world, &node("demo", "api-1"), "inbound:9090").is_none());
    assert!(compile::cluster(&world, &node("demo", "web-2"), "inbound:8080").is_none());
}

#[test]
fn the_application_is_where_its_workload_says() {
    let moved = "
apiVersion: weir.dev/v1alpha1
kind: Workload
metadata: {name: web-1, namespace: demo, labels: {app: web}}
spec: {address: 10.0.0.1, appAddress: 127.0.0.9, serviceAccount: web}
";
    let cluster = compile::cluster(&world(&[moved]), &web(), "inbound:8080").unwrap();
    let Discovery::Static(endpoints) = &cluster.discovery else { panic!() };
    let endpoint = &endpoints.localities[0].endpoints[0];
    assert_eq!((endpoint.address.to_string().as_str(), endpoint.mesh), ("127.0.0.9:8080", false));
    assert!(cluster.tls.is_none() && cluster.outlier.is_none());
}

fn mesh(mode: &str) -> String {
    format!("{{apiVersion: weir.dev/v1alpha1, kind: Mesh, metadata: {{name: mesh}}, spec: {{mtls: {{mode: {mode}}}}}}}")
}

#[test]
fn the_mesh_decides_about_plain_text() {
    let permissive = listener(&[&mesh("Permissive")]);
    assert_eq!(permissive.chains.len(), 7);
    let plain = chain(&permissive, "port:8080");
    assert_eq!((plain.tls, plain.matches.destination_port), (None, Some(8080)));
    assert!(chain(&permissive, "web.demo:80").tls.is_some());
    let off = listener(&[&mesh("Disabled")]);
    assert!(off.chains.iter().all(|c| c.tls.is_none()) && off.chains.len() == 4);
    // What no service leads to is the application's own affair, unless only members of the mesh are let in.
    let strict = listener(&[&mesh("Strict")]);
    assert!(strict.chains.iter().all(|c| &*c.name != "passthrough"));
    for open in [&permissive, &off] {
        let rest = chain(open, "passthrough");
        assert_eq!((&rest.matches, rest.tls), (&ChainMatch::default(), None));
        let InboundTarget::Tcp { cluster, .. } = &rest.target else { panic!("not as bytes") };
        let cluster = compile::cluster(&world(&[&mesh("Permissive")]), &web(), cluster).unwrap();
        assert_eq!(cluster.discovery, Discovery::OriginalDestination);
    }
    let endpoints = compile::endpoints(&world(&[&mesh("Disabled")]), &web(), super::WEB).unwrap();
    assert!(endpoints.localities.iter().flat_map(|l| &l.endpoints).all(|e| !e.mesh && e.address.port() == 8080));
}

fn policy(name: &str, namespace: &str, spec: &str) -> String {
    format!(
        "apiVersion: weir.dev/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec: {spec}\n"
    )
}

#[test]
fn without_policies_every_member_of_the_mesh_may_call() {
    let found = listener(&[]);
    assert!(found.chains.iter().all(|c| c.authz == weir_config::model::Authz::default()));
}

#[test]
fn policies_apply_to_what_they_target() {
    let texts = [
        policy("all", "demo", "{action: Deny, rules: [{from: [{namespaces: [evil]}]}]}"),
        policy(
            "label",
            "demo",
            "{selector: {matchLabels: {tier: front}}, rules: [{from: [{serviceAccounts: [api]}]}]}",
        ),
        policy("other-label", "demo", "{selector: {matchLabels: {tier: back}}, rules: [{}]}"),
        policy("service", "demo", "{targetRefs: [{group: '', kind: Service, name: web}], action: Audit, rules: [{}]}"),
        policy("other-service", "demo", "{targetRefs: [{group: '', kind: Service, name: api}], rules: [{}]}"),
        policy(
            "workload",
            "demo",
            "{targetRefs: [{group: weir.dev, kind: Workload, name: web-1}], rules: [{to: [{methods: [GET], paths: [/a*]}]}]}",
        ),
        policy("elsewhere", "prod", "{rules: [{}]}"),
    ];
    let found = listener(&texts.iter().map(String::as_str).collect::<Vec<_>>());
    let authz = &chain(&found, "web.demo:80").authz;
    assert_eq!(names(&authz.deny), ["demo/all"]);
    assert_eq!(names(authz.allow.as_ref().unwrap()), ["demo/label", "demo/workload"]);
    assert_eq!(names(authz.audit.as_ref().unwrap()), ["demo/service"]);
    let principals = &authz.allow.as_ref().unwrap()[0].rules[0].principals;
    assert_eq!(principals[..], [PrincipalMatch::Id(StringMatch::Exact("spiffe://weir.local/ns/demo/sa/api".into()))]);
    let deny = &authz.deny[0].rules[0].principals;
    assert_eq!(deny[..], [PrincipalMatch::Id(StringMatch::Prefix("spiffe://weir.local/ns/evil/sa/".into()))]);
}

#[test]
fn an_allow_policy_without_rules_allows_nothing() {
    let found = listener(&[&policy("nothing", "demo", "{action: Allow, rules: []}")]);
    assert!(found.chains.iter().all(|c| c.authz.allow.as_ref().is_some_and(Vec::is_empty)));
}

#[test]
fn faults_of_a_workload_happen_at_the_workload() {
    let fault = |kind: &str, group: &str, name: &str| {
        format!(
            "apiVersion: weir.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {{name: f, namespace: demo}}\n\
             spec: {{targetRefs: [{{group: '{group}', kind: {kind}, name: {name}}}], fault: {{delay: {{fixed: 2s}}}}}}\n"
        )
    };
    let inbound_fault = |text: &str| {
        let found = listener(&[text]);
        let InboundTarget::Http { routes, .. } = &chain(&found, "web.demo:80").target else { panic!() };
        routes.virtual_hosts[0].routes[0].fault.clone()
    };
    let workload = fault("Workload", "weir.dev", "web-1");
    let delay = inbound_fault(&workload).and_then(|f| f.delay).unwrap();
    assert_eq!(delay.fixed, Duration::from_secs(2));
    assert!(inbound_fault(&fault("Workload", "weir.dev", "web-2")).is_none());
    assert!(inbound_fault(&fault("Service", "", "web")).is_none(), "that one happens at the callers");
    let outbound = compile::route(&world(&[&workload]), &node("demo", "api-1"), super::WEB).unwrap();
    assert!(super::routes(&outbound)[0].fault.is_none());
}

#[test]
fn an_application_port_that_services_have_both_ways_is_spoken_to_as_its_callers_speak() {
    let also = "{apiVersion: v1, kind: Service, metadata: {name: also, namespace: demo}, spec: {selector: {app: web}, ports: [{port: 7000, targetPort: 8080, appProtocol: grpc}]}}";
    let spoken = |texts: &[&str]| compile::cluster(&world(texts), &web(), "inbound:8080").unwrap().protocol;
    assert_eq!(spoken(&[]), Protocol::Http1);
    assert_eq!(spoken(&[also]), Protocol::UseDownstream);
    assert_eq!(spoken(&[&also.replace("grpc", "tcp")]), Protocol::Http1);
}

#[test]
fn many_services_of_one_workload_share_what_they_have_in_common() {
    let service = |n: usize| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: alias-{n}, namespace: demo}}\nspec: {{selector: {{app: web}}, \
             ports: [{{name: http, port: 80, targetPort: 8080, appProtocol: http}}]}}\n"
        )
    };
    let mut texts: Vec<String> = (0..300).map(service).collect();
    let own = "{targetRefs: [{group: '', kind: Service, name: alias-7}], action: Deny, rules: [{from: [{namespaces: [evil]}]}]}";
    texts.push(policy("own", "demo", own));
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let found = listener(&texts);
    let names: Vec<&String> = found.chains.iter().flat_map(|c| &c.matches.server_names).collect();
    assert_eq!(names.len(), 303, "each service and port is still known by its name");
    // Those of `web` itself, alias-7 with its policy, and all others together.
    assert!(found.chains.len() <= 5, "{:?}", found.chains.iter().map(|c| &c.name).collect::<Vec<_>>());
    let of = |name: &str| found.chains.iter().find(|c| c.matches.server_names.iter().any(|n| n == name)).unwrap();
    let (seventh, eighth) = (of("80.alias-7.demo.svc.cluster.local"), of("80.alias-8.demo.svc.cluster.local"));
    assert_ne!(seventh.authz, eighth.authz);
    assert_eq!(seventh.matches.server_names.len(), 1);
}

#[test]
fn services_that_say_what_is_spoken_and_services_that_do_not_share_nothing() {
    let service = |n: usize| {
        let says = if n.is_multiple_of(2) { ", appProtocol: http" } else { "" };
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: alias-{n}, namespace: demo}}\nspec: {{selector: {{app: web}}, \
             ports: [{{port: 80, targetPort: 8080{says}}}]}}\n"
        )
    };
    let texts: Vec<String> = (0..100).map(service).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let found = listener(&texts);
    let of = |name: &str| {
        let mut protocols: Vec<_> = found
            .chains
            .iter()
            .filter(|chain| chain.matches.server_names.iter().any(|n| n == name))
            .map(|chain| chain.matches.protocols.clone())
            .collect();
        protocols.sort();
        protocols
    };
    assert_eq!(of("80.alias-8.demo.svc.cluster.local"), [Vec::<String>::new()]);
    let detected = vec!["http/1.1".to_owned(), "h2".to_owned()];
    assert_eq!(of("80.alias-7.demo.svc.cluster.local"), [vec![], detected], "bytes, and HTTP where it is told");
}
