//! What travels over the REST API, for both ends: the server answers with these, the command line reads them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An error (RFC 9457, `application/problem+json`).
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// A URI reference that names the kind of problem: `/problems/conflict`, `/problems/invalid`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind of problem in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened this time, and what to do about it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// Each thing that is wrong with the documents.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub issues: Vec<ProblemIssue>,
}

/// One thing that is wrong with a document.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProblemIssue {
    /// The file; `body` for what came in the request's body; otherwise the document's kind, namespace and name.
    pub file: String,
    /// The line, from 1; 0: not known.
    pub line: u64,
    /// The column, from 1; 0: not known.
    pub column: u64,
    /// The field, as `spec.rules[0].timeout`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub field: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub remedy: String,
}

/// What came of an apply.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Applied {
    /// The version of all documents afterwards; the name of the change in `/api/v1/changes/{version}`.
    pub version: u64,
    /// Whether nothing was really done.
    #[serde(default)]
    pub dry_run: bool,
    /// One for each document, in the order of the body.
    pub documents: Vec<AppliedDocument>,
}

/// What came of one document.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppliedDocument {
    /// Its kind.
    pub kind: String,
    /// Its namespace; empty if it has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// `created`, `updated`, `unchanged` or `deleted`.
    pub action: String,
    /// Its resource version now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
}

/// Several documents.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DocumentList {
    /// `v1`
    pub api_version: String,
    /// `List`
    pub kind: String,
    /// The version of the whole.
    pub metadata: ListMetadata,
    /// The documents, by namespace and name.
    #[schema(value_type = Vec<Object>)]
    pub items: Vec<serde_json::Value>,
}

/// Of a list.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListMetadata {
    /// The version of all documents when the list was made.
    pub resource_version: String,
}

/// What became of a change.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// The version of all documents that it made.
    pub version: u64,
    /// When it was stored (RFC 3339).
    pub at: String,
    /// What changed, in words.
    #[serde(default)]
    pub summary: String,
    /// How many connected proxies it concerns.
    pub proxies: u64,
    /// How many of them have applied it.
    pub applied: u64,
    /// How many of them have refused a part of it.
    pub refused: u64,
    /// Half of those that applied it did so within so many milliseconds after it was stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50_ms: Option<f64>,
    /// 99 of 100 did so within so many milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_ms: Option<f64>,
    /// Whether no connected proxy is left that has neither applied nor refused it.
    pub complete: bool,
}

impl Change {
    /// `applied on 12 of 12 proxies, p99 340 ms, 0 refused`
    pub fn words(&self) -> String {
        let p99 = self.p99_ms.map(|ms| format!(", p99 {ms:.0} ms")).unwrap_or_default();
        let proxies = if self.proxies == 1 { "proxy" } else { "proxies" };
        format!("applied on {} of {} {proxies}{p99}, {} refused", self.applied, self.proxies, self.refused)
    }
}

/// The last changes.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ChangeList {
    /// The newest first.
    pub items: Vec<Change>,
}

/// A sidecar (or another xDS client) as the control plane sees it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Proxy {
    /// Its node identifier, `<namespace>/<workload>`.
    pub node: String,
    /// The SPIFFE identity of its certificate.
    #[serde(default)]
    pub identity: String,
    /// Its version, as it says.
    #[serde(default)]
    pub version: String,
    /// Whether it is connected now.
    pub connected: bool,
    /// Since when, or since when not (RFC 3339).
    pub since: String,
    /// How many resources it is subscribed to.
    pub subscribed: u64,
    /// The newest version of all documents that it is known to run on.
    pub applied_version: u64,
    /// The resources it refused and has not taken since, and why.
    #[serde(default)]
    pub refused: Vec<Refusal>,
}

/// A resource that a proxy refused.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Refusal {
    /// The kind of resource.
    pub kind: String,
    /// Its name; empty if the proxy did not say.
    #[serde(default)]
    pub name: String,
    /// What the proxy said.
    pub reason: String,
}

/// All proxies.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ProxyList {
    /// By node.
    pub items: Vec<Proxy>,
}

/// Asks for a join token.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenRequest {
    /// The namespace of the identity.
    pub namespace: String,
    /// The service account of the identity.
    pub service_account: String,
    /// Only for the workload of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
    /// How long the token can be used, in seconds; an hour unless told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
}

/// A join token: whoever has it gets a certificate with this identity.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Token {
    /// The secret. It is not kept and cannot be shown again.
    pub token: String,
    /// The identity that it stands for.
    pub identity: String,
    /// Until when (RFC 3339).
    pub expires: String,
}

/// The roots of the mesh.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Trust {
    /// The trust domain of the identities.
    pub trust_domain: String,
    /// Certificates, PEM.
    pub roots: String,
}

/// What runs here.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Version {
    /// The program's version.
    pub version: String,
    /// The trust domain of the identities.
    pub trust_domain: String,
    /// The cluster domain of service names.
    pub cluster_domain: String,
    /// The version of all documents.
    pub resource_version: u64,
    /// Where sidecars connect.
    pub xds_address: String,
}

/// How it stands with the roots of the mesh.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rotation {
    /// The identifier of the key that signs, in hexadecimal digits.
    pub issuer: String,
    /// When its certificate ends (RFC 3339).
    pub expires: String,
    /// Whether it has ended: then no certificate can be issued.
    pub expired: bool,
    /// How many roots are trusted.
    pub roots: u64,
    /// `spreading`, `renewing`, `retiring`; none: no exchange is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// What the phase waits for, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub waits_for: String,
    /// Since when it is in this phase (RFC 3339).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub since: String,
    /// It stays in its phase until told to go on.
    #[serde(default)]
    pub held: bool,
    /// It goes back.
    #[serde(default)]
    pub aborting: bool,
    /// Connected proxies.
    #[serde(default)]
    pub proxies: u64,
    /// Replicas of the control plane that have reported.
    #[serde(default)]
    pub replicas: u64,
    /// Proxies that do not hold the roots of this phase yet.
    #[serde(default)]
    pub unaware: u64,
    /// Proxies whose certificate is of another issuer.
    #[serde(default)]
    pub stale: u64,
    /// Replicas that have not taken the phase in yet.
    #[serde(default)]
    pub behind: u64,
    /// The first of the proxies that are waited for.
    #[serde(default)]
    pub names: Vec<String>,
    /// What came of the last exchange.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub last: String,
}

/// Asks for a step of an exchange of roots.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RotationRequest {
    /// What to do.
    pub action: RotationAction,
    /// With `start`: stay in each phase until told to go on.
    #[serde(default)]
    pub hold: bool,
}

/// What to do with an exchange of roots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum RotationAction {
    /// Begin.
    Start,
    /// Stay in each phase until told to go on.
    Hold,
    /// Go on.
    Resume,
    /// Go back to the old root.
    Abort,
    /// Go on to the next phase now, whatever the proxies report.
    Force,
}
