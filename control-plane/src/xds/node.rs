//! Who a stream belongs to: what the client says of itself, and what its certificate proves.

use crate::{
    compile::{Class, Node},
    index::World,
};
use tonic::Status;
use weir_config::{model::SpiffeId, xds::ads};

/// The longest texts that are kept of what a client says of itself.
const TEXT: usize = 256;

/// What a client says of itself in its first message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    /// `node.id`
    pub(super) id: String,
    /// What it is, and of which version.
    pub(super) agent: String,
    /// Weir's version, if it is ours.
    pub(super) version: String,
    pub(super) class: Class,
    /// Whether it goes down.
    pub(super) leaving: bool,
    /// The key that signed its certificate; empty: it does not say.
    pub(super) issuer: String,
}

impl Said {
    /// From the node of the first message.
    pub(super) fn new(node: &ads::Node) -> Self {
        let short = |text: &str| text.chars().take(TEXT).collect::<String>();
        let fields = node.metadata.as_ref().map(|m| &m.fields);
        let text = |name: &str| match fields?.get(name)?.kind.as_ref()? {
            ads::ValueKind::StringValue(text) => Some(short(text)),
            _ => None,
        };
        let ours = text("weir.version");
        let leaving = text(ads::LEAVING).is_some_and(|said| said == "true");
        let issuer = text(ads::ISSUER).unwrap_or_default();
        let agent = short(&node.user_agent_name);
        let class = match () {
            () if ours.is_some() || agent == "weir" => Class::Sidecar,
            () if agent.to_ascii_lowercase().starts_with("grpc") => Class::Grpc,
            () => Class::Envoy,
        };
        let agent = if agent.is_empty() && class == Class::Sidecar { "weir".into() } else { agent };
        Self { id: short(&node.id), agent, version: ours.unwrap_or_default(), class, leaving, issuer }
    }

    /// The node it may act as: the workload that it names must exist and have the identity that it has proven.
    pub(super) fn admitted(&self, identity: Option<&SpiffeId>, world: &World) -> Result<Node, Status> {
        let Some(identity) = identity else {
            return Err(Status::unauthenticated(
                "xDS needs a client certificate; get one with CreateCertificate and a join token",
            ));
        };
        let denied = |why: String| Err(Status::permission_denied(why));
        let id = &self.id;
        let Some((namespace, name)) = id.split_once('/').filter(|(a, b)| !a.is_empty() && !b.is_empty()) else {
            return denied(format!("node.id `{id}` is not `<namespace>/<workload>`"));
        };
        let domain = &world.mesh().trust_domain;
        if identity.trust_domain() != domain.as_str() {
            return denied(format!("`{identity}` is not of the trust domain `{domain}` of this mesh"));
        }
        let Some(workload) = world.workload(namespace, name) else {
            return denied(format!("there is no Workload `{id}`; apply it first"));
        };
        let account = &workload.spec.service_account;
        if (identity.namespace(), identity.service_account()) != (Some(namespace), Some(account)) {
            return denied(format!(
                "`{identity}` may not act as Workload `{id}`, whose service account is `{account}`"
            ));
        }
        Ok(Node { namespace: namespace.into(), workload: name.into(), class: self.class })
    }
}
