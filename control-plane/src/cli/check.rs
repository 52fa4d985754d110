//! `weir check`: whether a cluster can have Weir (`--pre`), and whether Weir in it is as it should be: each question with
//! its answer and what to do. It only reads.

use super::{Context, failure::Failure};
use crate::{
    inject::{CONFIG_MAP, INJECT, INJECTED, Namespace, Settings, Version},
    webhook,
};
use clap::Args;
use k8s_openapi::api::{
    admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration},
    apps::v1::Deployment,
    authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec},
    core::v1::{ConfigMap, Namespace as KubeNamespace, Pod},
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client, Resource,
    api::{ApiResource, DynamicObject, ListParams, PostParams},
};
use serde::Serialize;
use serde_json::Value;
use std::fmt::Write as _;

/// Pods that are asked for at a time.
const PAGE: u32 = 500;
/// Pods that are named; more are counted.
const NAMED: usize = 20;
/// How old a control plane's sidecars may be: so many minor versions.
const SKEW: u64 = 2;

/// See the module.
#[derive(Debug, Args)]
pub(super) struct Check {
    /// Before an installation: can this cluster have Weir, and may you install it?
    #[arg(long)]
    pre: bool,
    /// The namespace of the control plane.
    #[arg(long, value_name = "NAME", default_value = "weir-system")]
    namespace: String,
}

/// One question.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    question: &'static str,
    result: Verdict,
    detail: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    remedy: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Good,
    Warning,
    Bad,
}

impl Check {
    pub(super) async fn run(self, context: &mut Context<'_>) -> Result<(), Failure> {
        let client = Client::try_default().await.map_err(|e| {
            Failure::failed(format!("there is no cluster to ask: {e}"), "set KUBECONFIG, or make ~/.kube/config")
        })?;
        let mut asked = Asked { client, namespace: self.namespace, answers: vec![] };
        let version = asked.version().await?;
        if self.pre {
            asked.before().await;
        } else {
            asked.after(version).await;
        }
        let bad = asked.answers.iter().filter(|a| a.result == Verdict::Bad).count();
        context.print(&asked.answers, table)?;
        match bad {
            0 => Ok(()),
            1 => Err(Failure::failed("1 check failed", "see above")),
            n => Err(Failure::failed(format!("{n} checks failed"), "see above")),
        }
    }
}

fn table(answers: &Vec<Answer>) -> String {
    let mut text = String::new();
    for Answer { question, result, detail, remedy } in answers {
        let sign = match result {
            Verdict::Good => "√",
            Verdict::Warning => "‼",
            Verdict::Bad => "×",
        };
        let _ = writeln!(text, "{sign} {question}: {detail}");
        if *result != Verdict::Good && !remedy.is_empty() {
            let _ = writeln!(text, "    → {remedy}");
        }
    }
    text
}

/// A cluster, and what it has answered so far.
struct Asked {
    client: Client,
    namespace: String,
    answers: Vec<Answer>,
}

impl Asked {
    fn say(&mut self, question: &'static str, result: Verdict, detail: impl Into<String>, remedy: &'static str) {
        self.answers.push(Answer { question, result, detail: detail.into(), remedy });
    }

    fn good_if(&mut self, good: bool, question: &'static str, detail: impl Into<String>, remedy: &'static str) {
        self.say(question, if good { Verdict::Good } else { Verdict::Bad }, detail, remedy);
    }

    fn all<K: Resource<DynamicType = ()>>(&self) -> Api<DynamicObject> {
        Api::all_with(self.client.clone(), &ApiResource::erase::<K>(&()))
    }

    fn in_ours<K: Resource<DynamicType = ()>>(&self) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, &ApiResource::erase::<K>(&()))
    }

    async fn get<K: Resource<DynamicType = ()>>(
        &self,
        api: Api<DynamicObject>,
        name: &str,
    ) -> Result<Option<Value>, String> {
        let found = api.get_opt(name).await.map_err(|e| format!("{} {name}: {e}", K::kind(&())))?;
        Ok(found.map(|object| serde_json::to_value(object).unwrap_or_default()))
    }

    async fn version(&mut self) -> Result<Version, Failure> {
        let info = self.client.apiserver_version().await.map_err(|e| {
            Failure::failed(
                format!("the cluster does not answer: {e}"),
                "look at `kubectl version`; is KUBECONFIG the right one?",
            )
        })?;
        let version = format!("{}.{}", info.major, info.minor).parse().unwrap_or_default();
        let detail = info.git_version;
        let remedy = "Weir is tested with 1.33 and newer";
        self.say(
            "Kubernetes",
            if version >= Version::OLDEST { Verdict::Good } else { Verdict::Warning },
            detail,
            remedy,
        );
        Ok(version)
    }

    /// Can it be installed?
    async fn before(&mut self) {
        for (group, resource) in [
            ("", "namespaces"),
            ("rbac.authorization.k8s.io", "clusterroles"),
            ("rbac.authorization.k8s.io", "clusterrolebindings"),
            ("apiextensions.k8s.io", "customresourcedefinitions"),
            ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"),
            ("admissionregistration.k8s.io", "validatingwebhookconfigurations"),
        ] {
            self.may_create(group, resource).await;
        }
        self.gateway_api().await;
        self.others().await;
        match self.get::<Deployment>(self.in_ours::<Deployment>(), "weir-control-plane").await {
            Ok(None) => self.say("no other Weir", Verdict::Good, "there is none", ""),
            Ok(Some(_)) => {
                let detail = format!("there is a control plane in {}", self.namespace);
                self.say("no other Weir", Verdict::Warning, detail, "to install again is to upgrade it");
            }
            Err(error) => self.say("no other Weir", Verdict::Bad, error, "ask for the right to read Deployments"),
        }
    }

    async fn may_create(&mut self, group: &str, resource: &str) {
        let attributes = ResourceAttributes {
            group: Some(group.into()),
            resource: Some(resource.into()),
            verb: Some("create".into()),
            ..ResourceAttributes::default()
        };
        let review = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() },
            ..SelfSubjectAccessReview::default()
        };
        let api: Api<SelfSubjectAccessReview> = Api::all(self.client.clone());
        let remedy = "ask somebody who may (cluster-admin) to install";
        match api.create(&PostParams::default(), &review).await {
            Ok(review) => {
                let may = review.status.is_some_and(|status| status.allowed);
                self.good_if(may, "you may create", resource, remedy);
            }
            Err(error) => self.say("you may create", Verdict::Bad, format!("{resource}: {error}"), remedy),
        }
    }

    async fn gateway_api(&mut self) {
        let name = "httproutes.gateway.networking.k8s.io";
        let found = self.get::<CustomResourceDefinition>(self.all::<CustomResourceDefinition>(), name).await;
        let remedy = "install its standard channel, if you want HTTPRoute and GRPCRoute";
        match found {
            Ok(Some(_)) => self.say("Gateway API", Verdict::Good, "it is there", ""),
            Ok(None) => self.say("Gateway API", Verdict::Warning, "it is not there", remedy),
            Err(error) => self.say("Gateway API", Verdict::Warning, error, remedy),
        }
    }

    /// Other meshes' webhooks: who asks for both gets one of them only.
    async fn others(&mut self) {
        let listed = self.all::<MutatingWebhookConfiguration>().list(&ListParams::default()).await;
        let names = match listed {
            Ok(listed) => listed.items.into_iter().filter_map(|object| object.metadata.name).collect::<Vec<_>>(),
            Err(error) => return self.say("other meshes", Verdict::Warning, error.to_string(), ""),
        };
        let others: Vec<_> =
            names.iter().filter(|name| name.contains("istio") || name.contains("linkerd")).cloned().collect();
        match others.is_empty() {
            true => self.say("other meshes", Verdict::Good, "there is none", ""),
            false => self.say(
                "other meshes",
                Verdict::Warning,
                others.join(", "),
                "a namespace can ask for one mesh's sidecars: a pod gets no second one",
            ),
        }
    }

    /// Is it as it should be?
    async fn after(&mut self, version: Version) {
        self.control_plane().await;
        self.webhook::<MutatingWebhookConfiguration>("pods are asked about").await;
        self.webhook::<ValidatingWebhookConfiguration>("documents are asked about").await;
        let namespaces = match self.namespaces().await {
            Ok(namespaces) => namespaces,
            Err(error) => return self.say("namespaces", Verdict::Bad, error, "ask for the right to list namespaces"),
        };
        self.roots(&namespaces).await;
        self.pods(&namespaces, version).await;
    }

    async fn control_plane(&mut self) {
        let question = "control plane";
        let remedy = "look at `kubectl -n weir-system get pods` and their logs";
        match self.get::<Deployment>(self.in_ours::<Deployment>(), "weir-control-plane").await {
            Ok(Some(deployment)) => {
                let wanted = deployment["spec"]["replicas"].as_u64().unwrap_or(1);
                let ready = deployment["status"]["readyReplicas"].as_u64().unwrap_or(0);
                let image = &deployment["spec"]["template"]["spec"]["containers"][0]["image"];
                let detail = format!("{ready} of {wanted} ready ({})", image.as_str().unwrap_or("?"));
                let verdict = match ready {
                    0 => Verdict::Bad,
                    n if n < wanted => Verdict::Warning,
                    _ => Verdict::Good,
                };
                self.say(question, verdict, detail, remedy);
            }
            Ok(None) => {
                let detail = format!("there is none in {}", self.namespace);
                self.say(
                    question,
                    Verdict::Bad,
                    detail,
                    "install it: `weir install | kubectl apply --server-side -f -`",
                );
            }
            Err(error) => self.say(question, Verdict::Bad, error, remedy),
        }
    }

    async fn webhook<K: Resource<DynamicType = ()>>(&mut self, question: &'static str) {
        let remedy = "install again; the control plane writes caBundle within a second";
        match self.get::<K>(self.all::<K>(), "weir-webhook").await {
            Ok(Some(object)) => {
                let webhooks = object["webhooks"].as_array().map_or(&[][..], Vec::as_slice);
                let without =
                    webhooks.iter().filter(|w| w["clientConfig"]["caBundle"].as_str().is_none_or(str::is_empty));
                let without: Vec<_> = without.filter_map(|w| w["name"].as_str()).collect();
                let detail = match without.is_empty() {
                    true => format!("{} webhooks", webhooks.len()),
                    false => format!("without caBundle: {}", without.join(", ")),
                };
                self.good_if(without.is_empty() && !webhooks.is_empty(), question, detail, remedy);
            }
            Ok(None) => self.say(question, Verdict::Bad, "there is no weir-webhook", remedy),
            Err(error) => self.say(question, Verdict::Bad, error, remedy),
        }
    }

    async fn namespaces(&self) -> Result<Vec<Namespace>, String> {
        let listed = self.all::<KubeNamespace>().list(&ListParams::default()).await.map_err(|e| e.to_string())?;
        Ok(listed.items.iter().map(|object| Namespace::of(&serde_json::to_value(object).unwrap_or_default())).collect())
    }

    /// Pods wait for the mesh's roots.
    async fn roots(&mut self, namespaces: &[Namespace]) {
        let asking: Vec<_> =
            namespaces.iter().filter(|n| n.labels.get(INJECT).is_some_and(|v| v == "enabled")).collect();
        let mut without = vec![];
        for namespace in &asking {
            let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &namespace.name);
            if !matches!(api.get_opt(CONFIG_MAP).await, Ok(Some(_))) {
                without.push(namespace.name.clone());
            }
        }
        let detail = match without.is_empty() {
            true => format!("{} namespaces ask for sidecars, and have the mesh's roots", asking.len()),
            false => format!("without the ConfigMap {CONFIG_MAP}: {}", without.join(", ")),
        };
        self.good_if(without.is_empty(), "namespaces", detail, "the control plane writes it: look at its log");
    }

    async fn pods(&mut self, namespaces: &[Namespace], version: Version) {
        let settings = Settings { namespace: self.namespace.clone(), ..Settings::default() };
        let (mut with, mut missed, mut old) = (0, vec![], vec![]);
        let (mut params, api) = (ListParams::default().limit(PAGE), self.all::<Pod>());
        loop {
            let page = match api.list(&params).await {
                Ok(page) => page,
                Err(error) => {
                    return self.say("pods", Verdict::Bad, error.to_string(), "ask for the right to list pods");
                }
            };
            for pod in &page.items {
                let pod = serde_json::to_value(pod).unwrap_or_default();
                let of = |key: &str| pod["metadata"][key].as_str().unwrap_or_default();
                let name = format!("{}/{}", of("namespace"), of("name"));
                if let Some(status) = pod["metadata"]["annotations"][INJECTED].as_str() {
                    with += 1;
                    if is_too_old(status) {
                        old.push(name);
                    }
                } else if let Some(namespace) = namespaces.iter().find(|n| n.name == of("namespace"))
                    && webhook::is_missed(&pod, namespace, &settings, version)
                {
                    missed.push(name);
                }
            }
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => break,
            }
        }
        let detail = match missed.is_empty() {
            true => format!("{with} have a sidecar, and none is without that should have one"),
            false => format!("without a sidecar: {}", few(&missed)),
        };
        self.good_if(missed.is_empty(), "pods", detail, "make them anew: `kubectl rollout restart`");
        if !old.is_empty() {
            let detail = format!("of another version than this control plane can serve: {}", few(&old));
            self.say("sidecars' versions", Verdict::Warning, detail, "make them anew: `kubectl rollout restart`");
        }
    }
}

fn few(names: &[String]) -> String {
    let more = names.len().saturating_sub(NAMED);
    let shown = names.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

/// Whether a sidecar is more than [`SKEW`] minor versions away from this program.
fn is_too_old(status: &str) -> bool {
    let Ok(status) = serde_json::from_str::<Value>(status) else { return false };
    let parts = |text: &str| {
        let mut parts = text.split('.').map(|part| part.parse::<u64>().unwrap_or(0));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
    };
    let (theirs, ours) = (parts(status["version"].as_str().unwrap_or_default()), parts(env!("CARGO_PKG_VERSION")));
    theirs.0 != ours.0 || theirs.1.abs_diff(ours.1) > SKEW
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_shown_with_what_to_do() {
        let answer = |result, remedy| Answer { question: "a", result, detail: "b".into(), remedy };
        let all = vec![answer(Verdict::Good, "c"), answer(Verdict::Bad, "c"), answer(Verdict::Warning, "")];
        assert_eq!(table(&all), "√ a: b\n× a: b\n    → c\n‼ a: b\n");
    }

    #[test]
    fn a_sidecar_two_versions_away_is_served() {
        assert!(!is_too_old("{\"version\":\"0.1.0\"}") && !is_too_old("{\"version\":\"0.3.9\"}"));
        assert!(is_too_old("{\"version\":\"0.4.0\"}") && is_too_old("{\"version\":\"1.1.0\"}"));
        assert_eq!(few(&vec!["a/b".to_owned(); 22]).matches("a/b").count(), 20);
    }
}
