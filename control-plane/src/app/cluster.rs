//! A control plane in Kubernetes: the cluster is its store, tells whose token it is, and is told what became of documents.

use super::{Error, Options};
use crate::{
    ca::{self, ErrorKind, Reviews, token::Grant},
    fleet::Fleet,
    leader::{Lease, Standing},
    metrics::Metrics,
    status,
    store::{Kubernetes, Store},
};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use std::{io, sync::Arc, time::Duration};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// What tokens must be meant for: a token that a pod shows to the API server, say, is none for us.
const AUDIENCE: &str = "weir";
/// The Lease of who leads, who writes the statuses.
const LEADER: &str = "weir-leader";
/// Longer tokens are not looked at.
const MAX_TOKEN: usize = 16 * 1024;
/// A sidecar asks again before it gives up.
const REVIEW: Duration = Duration::from_secs(10);
/// A service account's user is called so, then its namespace, `:`, its name.
const ACCOUNT: &str = "system:serviceaccount:";
/// Under this the API server says which pod a token is bound to.
const POD: &str = "authentication.kubernetes.io/pod-name";

/// The cluster.
pub(super) struct Cluster {
    store: Arc<Kubernetes>,
    namespace: String,
}

impl Cluster {
    /// `None`: the documents are kept elsewhere.
    pub(super) async fn open(options: &Options, metrics: &Metrics) -> Result<Option<Self>, Error> {
        let Some(kubernetes) = options.kubernetes.clone() else { return Ok(None) };
        let (metrics, namespace) = (metrics.clone(), kubernetes.namespace.clone());
        let opened = tokio::task::spawn_blocking(move || Kubernetes::open(&kubernetes, metrics)).await;
        Ok(Some(Self { store: Arc::new(opened.map_err(io::Error::other)??), namespace }))
    }

    /// The documents.
    pub(super) fn store(&self) -> Arc<dyn Store> {
        self.store.clone()
    }

    /// Who tells whose token it is.
    pub(super) fn reviews(&self) -> Option<Arc<dyn Reviews>> {
        Some(Arc::new(TokenReviews { client: self.store.client(), handle: self.store.handle()? }))
    }

    /// What leadership hangs on.
    pub(super) fn lease(&self) -> Arc<dyn Lease> {
        Arc::new(self.store.lease(LEADER))
    }

    /// Tells the cluster what becomes of its documents, while this replica, which is called `who`, leads.
    pub(super) fn start(
        &self,
        fleet: &Arc<Fleet>,
        standing: watch::Receiver<Standing>,
        who: String,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) {
        let writer = status::Writer {
            client: self.store.client(),
            documents: self.store.watch(),
            refused: self.store.refused(),
            fleet: fleet.clone(),
            standing,
            who,
            namespace: self.namespace.clone(),
        };
        tasks.spawn(writer.run(stop.clone()));
    }
}

/// The API server, which has made the tokens.
struct TokenReviews {
    client: Client,
    handle: tokio::runtime::Handle,
}

impl std::fmt::Debug for TokenReviews {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenReviews")
    }
}

#[tonic::async_trait]
impl Reviews for TokenReviews {
    async fn review(&self, token: &str) -> Result<Grant, ca::Error> {
        if token.len() > MAX_TOKEN {
            return Err(ca::Error::new(ErrorKind::TokenInvalid, "the token is too long to be one"));
        }
        let api: Api<TokenReview> = Api::all(self.client.clone());
        let review = TokenReview {
            metadata: ObjectMeta::default(),
            spec: TokenReviewSpec { token: Some(token.into()), audiences: Some(vec![AUDIENCE.into()]) },
            status: None,
        };
        let asked = self
            .handle
            .spawn(async move { tokio::time::timeout(REVIEW, api.create(&PostParams::default(), &review)).await });
        let unanswered = |why: String| {
            ca::Error::new(ErrorKind::Store, format!("the API server does not say whose token it is: {why}"))
        };
        match asked.await {
            Ok(Ok(Ok(answer))) => grant(answer.status.unwrap_or_default()),
            Ok(Ok(Err(error))) => Err(unanswered(error.to_string())),
            Ok(Err(_)) => Err(unanswered(format!("no answer within {REVIEW:?}"))),
            Err(error) => Err(unanswered(error.to_string())),
        }
    }
}

/// Who it is, if the API server says so, and says that the token is meant for us.
fn grant(status: TokenReviewStatus) -> Result<Grant, ca::Error> {
    let refused = |why: String| Err(ca::Error::new(ErrorKind::TokenInvalid, why));
    if status.authenticated != Some(true) {
        let why = status.error.unwrap_or_else(|| "it is not authentic".into());
        return refused(format!("the API server refuses the token: {why}"));
    }
    // A server that knows no audiences would take a token that is meant for somebody else.
    if !status.audiences.iter().flatten().any(|audience| audience == AUDIENCE) {
        return refused(format!(
            "the token is not meant for `{AUDIENCE}`; project one with that audience into the pod"
        ));
    }
    let user = status.user.unwrap_or_default();
    let name = user.username.unwrap_or_default();
    let Some((namespace, account)) = name.strip_prefix(ACCOUNT).and_then(|rest| rest.split_once(':')) else {
        return refused(format!("`{name}` is no service account"));
    };
    let pod = user.extra.and_then(|extra| extra.get(POD)?.first().cloned());
    Ok(Grant { namespace: namespace.into(), service_account: account.into(), workload: pod })
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::authentication::v1::UserInfo;
    use std::collections::BTreeMap;

    fn status(authenticated: bool, audience: &str, user: &str) -> TokenReviewStatus {
        TokenReviewStatus {
            authenticated: Some(authenticated),
            audiences: Some(vec![audience.into()]),
            error: None,
            user: Some(UserInfo {
                username: Some(user.into()),
                extra: Some(BTreeMap::from([(POD.to_owned(), vec!["web-1".to_owned()])])),
                ..UserInfo::default()
            }),
        }
    }

    #[test]
    fn only_what_the_server_says_of_a_token_for_us_counts() {
        let good = grant(status(true, "weir", "system:serviceaccount:demo:web")).unwrap();
        let who = Grant { namespace: "demo".into(), service_account: "web".into(), workload: Some("web-1".into()) };
        assert_eq!(good, who);
        for bad in [
            status(false, "weir", "system:serviceaccount:demo:web"),
            status(true, "https://kubernetes.default.svc", "system:serviceaccount:demo:web"),
            status(true, "weir", "system:node:a"),
            status(true, "weir", "system:serviceaccount:demo"),
            TokenReviewStatus::default(),
        ] {
            assert_eq!(grant(bad).unwrap_err().kind(), ErrorKind::TokenInvalid);
        }
    }
}
