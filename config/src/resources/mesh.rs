//! `weir.dev/v1alpha1 Mesh`: what holds for the whole mesh. There is one, or none.

use super::Settings;
use crate::model::TrustDomain;
use serde::Serialize;
use std::time::Duration;

/// A Mesh's `spec`. [`Mesh::default`] is what holds without a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Mesh {
    /// The name under which identities are given; `weir.local` unless written.
    pub trust_domain: TrustDomain,
    /// The end of services' full names; `cluster.local` unless written.
    pub cluster_domain: String,
    /// `mtls.mode`
    pub mtls: MtlsMode,
    /// `outboundTrafficPolicy.mode`
    pub outbound: OutboundMode,
    /// `certificate.lifetime`: how long a workload's certificate is valid, 5 s to 30 days; a day unless written.
    pub certificate_lifetime: Duration,
    /// What holds where no policy says otherwise: `defaults` of the document over [`Settings::built_in`].
    pub defaults: Settings,
}

/// What sidecars accept from callers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub enum MtlsMode {
    /// Only callers with a certificate of the mesh.
    #[default]
    Strict,
    /// Also callers in plain text (while a mesh is being introduced).
    Permissive,
    /// Plain text everywhere.
    Disabled,
}

/// What sidecars do with captured connections to addresses that nothing in the mesh has. (Names and words are Istio's.)
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub enum OutboundMode {
    /// They are carried there, as bytes.
    #[default]
    AllowAny,
    /// They are refused.
    RegistryOnly,
}

impl Default for Mesh {
    fn default() -> Self {
        Self {
            trust_domain: TrustDomain::default(),
            cluster_domain: "cluster.local".into(),
            mtls: MtlsMode::Strict,
            outbound: OutboundMode::AllowAny,
            certificate_lifetime: Duration::from_secs(24 * 3600),
            defaults: Settings::built_in(),
        }
    }
}
