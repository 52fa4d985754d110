//! Reads the `spec` of the Mesh.

use super::{
    Mesh, MtlsMode, OutboundMode, Settings,
    node::Node,
    read::{Reader, shorten},
    read_settings::{self, Scope},
};
use crate::model::TrustDomain;
use std::time::Duration;

const MODES: [(&str, MtlsMode); 3] =
    [("Strict", MtlsMode::Strict), ("Permissive", MtlsMode::Permissive), ("Disabled", MtlsMode::Disabled)];

const OUTBOUND: [(&str, OutboundMode); 4] = [
    ("AllowAny", OutboundMode::AllowAny),
    ("RegistryOnly", OutboundMode::RegistryOnly),
    // Istio's spelling.
    ("ALLOW_ANY", OutboundMode::AllowAny),
    ("REGISTRY_ONLY", OutboundMode::RegistryOnly),
];

pub(super) fn spec(r: &mut Reader, node: &Node) -> Option<Mesh> {
    let usual = Mesh::default();
    let mut f = r.fields(node)?;
    let mesh = Mesh {
        trust_domain: f.optional(r, "trustDomain", trust_domain).unwrap_or(usual.trust_domain),
        cluster_domain: f.optional(r, "clusterDomain", Reader::name).unwrap_or(usual.cluster_domain),
        mtls: f.optional(r, "mtls", mtls).unwrap_or_default(),
        outbound: f.optional(r, "outboundTrafficPolicy", outbound).unwrap_or_default(),
        certificate_lifetime: f.optional(r, "certificate", lifetime).unwrap_or(usual.certificate_lifetime),
        defaults: f.optional(r, "defaults", defaults).unwrap_or(usual.defaults),
    };
    f.close(r);
    Some(mesh)
}

fn trust_domain(r: &mut Reader, node: &Node) -> Option<TrustDomain> {
    let text = r.text(node)?;
    match text.parse() {
        Ok(domain) => Some(domain),
        Err(e) => {
            let e: crate::model::IdError = e;
            r.issue(node, shorten(&e.to_string()), Some("a name such as `weir.local`".into()));
            None
        }
    }
}

fn mtls(r: &mut Reader, node: &Node) -> Option<MtlsMode> {
    let mut f = r.fields(node)?;
    let mode = f.optional(r, "mode", |r, n| r.word(n, &MODES));
    f.close(r);
    mode
}

fn outbound(r: &mut Reader, node: &Node) -> Option<OutboundMode> {
    let mut f = r.fields(node)?;
    let mode = f.optional(r, "mode", |r, n| r.word(n, &OUTBOUND));
    f.close(r);
    mode
}

fn lifetime(r: &mut Reader, node: &Node) -> Option<Duration> {
    let mut f = r.fields(node)?;
    let (min, max) = (Duration::from_secs(5), Duration::from_secs(30 * 24 * 3600));
    let lifetime = f.optional(r, "lifetime", |r, n| r.duration_in(n, min, max));
    f.close(r);
    lifetime
}

fn defaults(r: &mut Reader, node: &Node) -> Option<Settings> {
    let mut f = r.fields(node)?;
    let settings = read_settings::settings(r, &mut f, Scope::Mesh);
    f.close(r);
    Some(settings.over(&Settings::built_in()))
}
