//! `CreateCertificate` (Istio's API): who asks proves its identity with a join token, or with the certificate it has.

use super::{
    Ca, Error, ErrorKind, Peer, Reviews,
    token::{self, Grant, Tokens},
};
use crate::{index::World, metrics::Metrics};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::sync::watch;
use tonic::{Request, Response, Status, metadata::MetadataMap};
use weir_config::{
    model::SpiffeId,
    xds::istio_ca::{IstioCertificateRequest, IstioCertificateResponse, IstioCertificateService},
};

/// The signing service.
#[derive(Debug)]
pub struct Certificates {
    /// Who signs.
    pub ca: Arc<Ca>,
    /// Who checks join tokens.
    pub tokens: Arc<Tokens>,
    /// Who checks other tokens; `None`: nobody, and they are refused.
    pub reviews: Option<Arc<dyn Reviews>>,
    /// The documents: which workloads there are, and the trust domain.
    pub worlds: watch::Receiver<Arc<World>>,
    /// The life of certificates; `None`: as the `Mesh` document says.
    pub lifetime: Option<Duration>,
    /// What is counted.
    pub metrics: Metrics,
}

#[tonic::async_trait]
impl IstioCertificateService for Certificates {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let peer = request.extensions().get::<Peer>().cloned();
        let address = peer.as_ref().and_then(|p| p.address);
        let reviewed = self.reviewed(request.metadata()).await;
        let proven = (peer.and_then(|p| p.identity), reviewed);
        let issued = self.issue(request.metadata(), proven, request.get_ref(), SystemTime::now());
        match issued {
            Ok((proof, chain)) => {
                Metrics::count(&self.metrics.issued, proof);
                Ok(Response::new(IstioCertificateResponse { cert_chain: chain }))
            }
            Err(error) => {
                Metrics::count(&self.metrics.refused, error.kind().as_str());
                tracing::warn!(?address, reason = error.kind().as_str(), %error, "a certificate was refused");
                Err(error.status())
            }
        }
    }
}

impl Certificates {
    /// What the reviewer says of a token that is not ours; `None`: there is no such token, or no reviewer.
    async fn reviewed(&self, headers: &MetadataMap) -> Option<Result<Grant, Error>> {
        let reviews = self.reviews.as_deref()?;
        let token = bearer(headers).ok().flatten().filter(|token| !token::is_ours(token))?;
        Some(reviews.review(token).await)
    }

    /// Signs for who is proven. A token counts before a certificate: it says more recently who someone is.
    pub(super) fn issue(
        &self,
        headers: &MetadataMap,
        (peer, reviewed): (Option<SpiffeId>, Option<Result<Grant, Error>>),
        request: &IstioCertificateRequest,
        now: SystemTime,
    ) -> Result<(&'static str, Vec<String>), Error> {
        let world = self.worlds.borrow().clone();
        let (proof, who) = match (reviewed, bearer(headers)?, peer) {
            // The pod is there, or its token would be good for nothing: its document may be a moment behind.
            (Some(Ok(grant)), ..) => ("review", identity(&world, &grant.namespace, &grant.service_account)?),
            // Nobody can tell now. Whoever has a certificate of ours has been told before.
            (Some(Err(error)), _, Some(peer)) if error.kind() == ErrorKind::Store => {
                ("certificate", by_certificate(peer, &world)?)
            }
            (Some(Err(error)), ..) => return Err(error),
            (None, Some(token), _) => ("token", by_token(&self.tokens.verify(token)?, &world)?),
            (None, None, Some(peer)) => ("certificate", by_certificate(peer, &world)?),
            (None, None, None) => {
                let message = "show a join token (`authorization: Bearer …`) or the certificate to be renewed";
                return Err(Error::new(ErrorKind::NoProof, message));
            }
        };
        let lifetime = self.lifetime.unwrap_or(world.mesh().certificate_lifetime);
        let wish = u64::try_from(request.validity_duration).ok().filter(|s| *s > 0).map(Duration::from_secs);
        let lifetime = wish.map_or(lifetime, |wish| wish.min(lifetime));
        let mut chain = self.ca.sign(&request.csr, &who, lifetime, now)?.chain;
        // Istio's contract: the root comes last. All of them, so that a new sidecar knows the whole bundle at once.
        chain.push(self.ca.roots_pem());
        Ok((proof, chain))
    }
}

fn bearer(headers: &MetadataMap) -> Result<Option<&str>, Error> {
    let Some(value) = headers.get("authorization") else { return Ok(None) };
    let text = value.to_str().ok().and_then(|v| v.split_once(' ')).filter(|(s, _)| s.eq_ignore_ascii_case("bearer"));
    let malformed = || Error::new(ErrorKind::TokenInvalid, "`authorization` must be `Bearer <join token>`");
    text.map(|(_, token)| Some(token.trim())).ok_or_else(malformed)
}

fn by_token(grant: &Grant, world: &World) -> Result<SpiffeId, Error> {
    let Grant { namespace, service_account, workload } = grant;
    let unknown = |message: String| Err(Error::new(ErrorKind::UnknownWorkload, message));
    match workload {
        Some(name) => match world.workload(namespace, name) {
            None => return unknown(format!("there is no Workload `{namespace}/{name}`; apply it first")),
            Some(w) if w.spec.service_account != *service_account => {
                let has = &w.spec.service_account;
                return unknown(format!(
                    "Workload `{namespace}/{name}` has the service account `{has}`, and the token is for `{service_account}`"
                ));
            }
            Some(_) => {}
        },
        None => exists(world, namespace, service_account)?,
    }
    identity(world, namespace, service_account)
}

/// A certificate may be renewed as long as a workload has its identity.
fn by_certificate(peer: SpiffeId, world: &World) -> Result<SpiffeId, Error> {
    let foreign = || Error::new(ErrorKind::PeerIdentity, format!("`{peer}` is no identity of a workload of this mesh"));
    let (Some(namespace), Some(account)) = (peer.namespace(), peer.service_account()) else { return Err(foreign()) };
    if peer.trust_domain() != world.mesh().trust_domain.as_str() {
        return Err(foreign());
    }
    exists(world, namespace, account)?;
    identity(world, namespace, account)
}

fn exists(world: &World, namespace: &str, account: &str) -> Result<(), Error> {
    let workloads = world.namespace(namespace).map(|n| &n.workloads);
    if workloads.is_some_and(|all| all.values().any(|w| w.spec.service_account == account)) {
        return Ok(());
    }
    let message = format!("no Workload in the namespace `{namespace}` has the service account `{account}`");
    Err(Error::new(ErrorKind::UnknownWorkload, message))
}

fn identity(world: &World, namespace: &str, account: &str) -> Result<SpiffeId, Error> {
    SpiffeId::workload(&world.mesh().trust_domain, namespace, account)
        .map_err(|e| Error::new(ErrorKind::PeerIdentity, e.to_string()))
}
