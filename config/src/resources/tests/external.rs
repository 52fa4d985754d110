//! ExternalServices: what they may say.

use crate::resources::{Document, ExternalHost, ExternalProtocol, parse};

fn read(spec: &str) -> Result<Document, String> {
    let text = format!(
        "apiVersion: weir.dev/v1alpha1\nkind: ExternalService\nmetadata: {{name: x, namespace: demo}}\nspec: {spec}\n"
    );
    let told =
        |issues: Vec<crate::resources::Issue>| issues.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    parse("x.yaml", &text).map_err(told).map(|mut all| all.remove(0))
}

#[test]
fn hosts_and_ports_mean_what_they_say() {
    let spec = "{hosts: [api.example.com, '*.files.example.com'], ports: [{port: 443, protocol: HTTPS}, {port: 80, protocol: HTTP}]}";
    let Document::ExternalService(object) = read(spec).unwrap() else { panic!() };
    let [ExternalHost::Exact(exact), ExternalHost::Below(below)] = &object.spec.hosts[..] else { panic!() };
    assert_eq!((exact.as_str(), below.as_str()), ("api.example.com", "files.example.com"));
    assert_eq!(object.spec.port(443).unwrap().protocol, ExternalProtocol::Tls);
    assert!(object.spec.port(81).is_none() && !object.spec.has_nameless_ports());
}

#[test]
fn what_cannot_be_meant_is_refused_with_the_place_and_a_remedy() {
    for (spec, field, word) in [
        ("{hosts: [], ports: [{port: 1, protocol: TCP}]}", "spec.hosts", "at least one host"),
        ("{hosts: [a.example], ports: []}", "spec.ports", "at least one port"),
        ("{hosts: [localhost], ports: [{port: 1, protocol: TCP}]}", "spec.hosts[0]", "not the name of a host"),
        ("{hosts: [A.example], ports: [{port: 1, protocol: TCP}]}", "spec.hosts[0]", "lower case"),
        ("{hosts: ['*'], ports: [{port: 1, protocol: TLS}]}", "spec.hosts[0]", "not the name of a host"),
        ("{hosts: ['a.*.example'], ports: [{port: 1, protocol: TLS}]}", "spec.hosts[0]", "not the name of a host"),
        ("{hosts: [192.0.2.1], ports: [{port: 1, protocol: TCP}]}", "spec.hosts[0]", "not the name of a host"),
        ("{hosts: [a.example, a.example], ports: [{port: 1, protocol: TCP}]}", "spec.hosts[1]", "twice"),
        ("{hosts: ['*.example.com'], ports: [{port: 1, protocol: TCP}]}", "spec.ports", "cannot be told apart"),
        ("{hosts: ['*.example.com'], ports: [{port: 1, protocol: GRPC}]}", "spec.ports", "cannot be told apart"),
        ("{hosts: [a.example], ports: [{port: 1, protocol: UDP}]}", "spec.ports[0].protocol", "UDP"),
        (
            "{hosts: [a.example], ports: [{port: 1, protocol: TCP}, {port: 1, protocol: TLS}]}",
            "spec.ports[1].port",
            "twice",
        ),
        (
            "{hosts: [a.example], ports: [{port: 1, protocol: TCP}], addresses: [127.0.0.1]}",
            "spec.addresses[0]",
            "nobody",
        ),
        ("{hosts: [a.example], ports: [{port: 1, protocol: TCP}], resolution: DNS}", "spec.resolution", "addresses"),
        ("{hosts: [a.example], ports: [{port: 1}]}", "spec.ports[0]", "protocol"),
    ] {
        let told = read(spec).expect_err(spec);
        assert!(told.contains(field) && told.contains(word), "{spec}: {told}");
    }
}
