//! `Mesh` and `Workload`.

use super::settings::DefaultSettings;
use crate::crd::texts::{
    Address, AnyPort, AppProtocol, CertificateLife, Health, Label, MtlsMode, Name, OutboundMode, Place, Port, Texts,
    TrustDomain, Weight,
};
use schemars::JsonSchema;
use serde_json::{Value, json};

/// What holds for the whole mesh. There is one Mesh, or none.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
pub(in crate::crd) struct MeshSpec {
    /// The name under which identities are given; `weir.local` unless written.
    trust_domain: Option<TrustDomain>,
    /// The end of services' full names; `cluster.local` unless written.
    cluster_domain: Option<Name>,
    /// What sidecars accept from callers.
    mtls: Option<Mtls>,
    /// What sidecars do with connections to addresses that nothing in the mesh has.
    outbound_traffic_policy: Option<OutboundTrafficPolicy>,
    /// The certificates of workloads.
    certificate: Option<Certificate>,
    /// What holds where no policy says otherwise.
    defaults: Option<DefaultSettings>,
}

#[derive(JsonSchema)]
struct Mtls {
    /// `Strict` (unless written): only callers of the mesh; `Permissive`: also plain text; `Disabled`: plain text everywhere.
    mode: Option<MtlsMode>,
}

#[derive(JsonSchema)]
struct OutboundTrafficPolicy {
    /// `AllowAny` (unless written): they are carried there as bytes; `RegistryOnly`: they are refused.
    mode: Option<OutboundMode>,
}

#[derive(JsonSchema)]
struct Certificate {
    /// How long one is valid, 5 s to 30 days; a day unless written.
    lifetime: Option<CertificateLife>,
}

/// One instance of an application outside the cluster.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "has(self.address) || has(self.command)",
        "message": "an instance that is not started here says where it is: add `address`",
        "fieldPath": ".address",
    },
    {
        "rule": "has(self.command) || !has(self.sidecar) || !has(self.sidecar.inboundPort) || self.sidecar.inboundPort > 0",
        "message": "callers must know the port of an instance that is not started here",
        "fieldPath": ".sidecar.inboundPort",
    },
]))]
pub(in crate::crd) struct WorkloadSpec {
    /// Where other machines reach it (its sidecar, if it has one): an IP address.
    address: Option<Address>,
    /// Where its sidecar reaches the application; 127.0.0.1 unless written.
    app_address: Option<Address>,
    /// The application's ports.
    #[schemars(length(max = 1000))]
    #[schemars(extend(
        "x-kubernetes-list-type" = "map",
        "x-kubernetes-list-map-keys" = ["name"],
        "x-kubernetes-validations" = [
            { "rule": "self.all(p, self.exists_one(q, q.port == p.port))", "message": "a port stands here twice" },
        ],
    ))]
    ports: Option<Vec<WorkloadPort>>,
    /// Its service account; `default` unless written.
    service_account: Option<Name>,
    /// Where it runs.
    region: Option<Place>,
    /// Where in the region.
    zone: Option<Place>,
    /// The machine it runs on.
    node: Option<Name>,
    /// For whom it is meant, by service: as the hints of EndpointSlices.
    #[schemars(length(max = 1000))]
    hints: Option<Vec<Hint>>,
    /// Its share of its services' requests; 1 unless written.
    weight: Option<Weight>,
    /// The ports of its sidecar.
    sidecar: Option<Sidecar>,
    /// How `weir up` starts the application: a program and its arguments.
    #[schemars(length(min = 1, max = 1000))]
    command: Option<Vec<String>>,
    /// Environment of the command.
    env: Option<Texts>,
    /// Whether it gets requests; `Healthy` unless written.
    health: Option<Health>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
struct WorkloadPort {
    /// The name that a Service's `targetPort` may use.
    name: Label,
    /// The number.
    port: Port,
    /// What is spoken, where it differs from what the Service says.
    app_protocol: Option<AppProtocol>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
struct Hint {
    /// The service, of the same namespace.
    service: Label,
    /// Callers of these zones.
    #[schemars(length(max = 1000))]
    zones: Option<Vec<Place>>,
    /// Callers on these machines.
    #[schemars(length(max = 1000))]
    nodes: Option<Vec<Name>>,
}

/// The sidecar's ports differ, also from those that are not written.
fn distinct_ports() -> Value {
    let usual = [("inbound", 15_006), ("outbound", 15_080), ("admin", 15_000), ("metrics", 15_020), ("health", 15_021)];
    let port = |(name, usual): &(&str, u16)| {
        // 0 is any free port; of the inbound one, which callers must know, it is the usual one.
        let any = if *name == "inbound" { usual } else { &0 };
        format!("(has(self.{name}Port) ? (self.{name}Port == 0 ? {any} : self.{name}Port) : {usual})")
    };
    let ports: Vec<_> = usual.iter().map(port).collect();
    let mut pairs = Vec::new();
    for (n, one) in ports.iter().enumerate() {
        pairs.extend(ports[n + 1..].iter().map(|other| format!("({one} == 0 || {one} != {other})")));
    }
    json!([{
        "rule": pairs.join(" && "),
        "message": "two of the sidecar's ports are the same; give each its own, or 0 for any free port",
    }])
}

#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = distinct_ports()))]
struct Sidecar {
    /// It has none, and is called in plain text.
    disabled: Option<bool>,
    /// Mutual TLS for the application; 15006 unless written.
    inbound_port: Option<AnyPort>,
    /// The application's way out, on loopback; 15080 unless written.
    outbound_port: Option<AnyPort>,
    /// Admin, on loopback; 15000 unless written.
    admin_port: Option<AnyPort>,
    /// `/metrics`; 15020 unless written.
    metrics_port: Option<AnyPort>,
    /// `/readyz`, `/livez`; 15021 unless written.
    health_port: Option<AnyPort>,
}
