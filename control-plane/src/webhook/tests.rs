//! The webhook's answers, over HTTP as Kubernetes asks, with the namespaces given.

use super::{Metrics, Namespaces, Parts, cluster::bundle_patch, is_missed, router};
use crate::inject::{Namespace, Settings, Version};
use axum::{
    body::Body,
    http::{Request, StatusCode},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use futures::future::BoxFuture;
use http_body_util::BodyExt;
use prometheus::Registry;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::watch;
use tower::ServiceExt;

/// `old` is what was heard last, `new` what is so.
#[derive(Default)]
struct Given {
    old: Option<Namespace>,
    new: Option<Namespace>,
}

impl Namespaces for Given {
    fn known(&self, _: &str) -> Option<Namespace> {
        self.old.clone()
    }

    fn fresh<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Namespace, String>> {
        Box::pin(async move { self.new.clone().ok_or_else(|| "nobody answers".into()) })
    }
}

fn namespace(labels: Value) -> Namespace {
    Namespace::of(&json!({ "metadata": { "name": "demo", "labels": labels } }))
}

fn enabled() -> Option<Namespace> {
    Some(namespace(json!({ "weir.dev/inject": "enabled" })))
}

fn parts(given: Given) -> Parts {
    Parts {
        namespaces: Arc::new(given),
        settings: Arc::new(Settings::default()),
        version: watch::Sender::new(Version::OLDEST).subscribe(),
        metrics: Metrics::new(&Registry::new()).unwrap(),
    }
}

async fn post(parts: &Parts, path: &str, body: impl Into<Body>) -> (StatusCode, String) {
    let request = Request::post(path).header("content-type", "application/json").body(body.into()).unwrap();
    let answer = router(parts.clone()).oneshot(request).await.unwrap();
    let status = answer.status();
    (status, String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap())
}

async fn ask(parts: &Parts, path: &str, (group, kind): (&str, &str), object: Value) -> Value {
    let review = json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5", "namespace": "demo", "operation": "CREATE",
            "kind": { "group": group, "version": "v1", "kind": kind }, "object": object,
        },
    });
    let (status, text) = post(parts, path, review.to_string()).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(answer["kind"], "AdmissionReview");
    assert_eq!(answer["response"]["uid"], "705ab4f5");
    answer["response"].clone()
}

fn pod(labels: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "generateName": "web-", "labels": labels },
        "spec": { "containers": [{ "name": "web", "image": "web:1" }] },
    })
}

async fn result(given: Given, object: Value) -> (bool, String) {
    let response = ask(&parts(given), "/inject", ("", "Pod"), object).await;
    (response["allowed"] == true, response["auditAnnotations"]["result"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_pod_is_changed_as_the_pure_function_says() {
    let parts = parts(Given { old: enabled(), new: None });
    let response = ask(&parts, "/inject", ("", "Pod"), pod(json!({}))).await;
    assert_eq!((&response["allowed"], &response["patchType"]), (&json!(true), &json!("JSONPatch")));
    let patch = STANDARD.decode(response["patch"].as_str().unwrap()).unwrap();
    let patch: Value = serde_json::from_slice(&patch).unwrap();
    let names: Vec<_> = patch.as_array().unwrap().iter().filter_map(|o| o["value"]["name"].as_str()).collect();
    assert_eq!(names[..2], ["weir-init", "weir-proxy"]);
    assert_eq!(parts.metrics.injections.with_label_values(&["injected"]).get(), 1);
    assert_eq!(parts.metrics.seconds.get_sample_count(), 1);
}

#[tokio::test]
async fn what_was_heard_last_may_be_too_old() {
    let unlabelled = Some(namespace(json!({})));
    let yes = (true, "injected".to_owned());
    let object = || pod(json!({}));
    assert_eq!(result(Given { old: unlabelled.clone(), new: enabled() }, object()).await, yes);
    assert_eq!(result(Given { old: None, new: enabled() }, object()).await, yes);
    let left = (true, "not_asked_for".to_owned());
    assert_eq!(result(Given { old: unlabelled.clone(), new: unlabelled.clone() }, object()).await, left);
    assert_eq!(result(Given { old: unlabelled, new: None }, object()).await, left, "the cluster does not answer");
    // Nothing is known at all: a pod without its sidecar would be worse than none.
    assert_eq!(result(Given::default(), object()).await, (false, "namespace_unknown".to_owned()));
}

#[tokio::test]
async fn a_pod_that_is_left_alone_says_why_where_it_surprises() {
    let parts = parts(Given { old: enabled(), new: enabled() });
    let mut host = pod(json!({}));
    host["spec"]["hostNetwork"] = json!(true);
    let response = ask(&parts, "/inject", ("", "Pod"), host).await;
    assert_eq!((&response["allowed"], response.get("patch")), (&json!(true), None));
    assert!(response["warnings"][0].as_str().unwrap().contains("host_network"), "{response}");
    let response = ask(&parts, "/inject", ("", "Pod"), pod(json!({ "weir.dev/inject": "disabled" }))).await;
    assert!(response.get("warnings").is_none() && response.get("patch").is_none(), "{response}");
    let response = ask(&parts, "/inject", ("", "Pod"), pod(json!({ "weir.dev/inject": "perhaps" }))).await;
    assert_eq!(response["allowed"], false);
    assert!(response["status"]["message"].as_str().unwrap().contains("`perhaps`"), "{response}");
    let response = ask(&parts, "/inject", ("apps", "Deployment"), json!({ "kind": "Deployment" })).await;
    assert_eq!(response["allowed"], true);
}

#[tokio::test]
async fn documents_are_read_as_the_control_plane_reads_them() {
    let parts = parts(Given::default());
    let policy = |spec: Value| {
        json!({ "apiVersion": "weir.dev/v1alpha1", "kind": "AuthorizationPolicy",
        "metadata": { "name": "a", "namespace": "demo", "uid": "1", "managedFields": [] }, "spec": spec })
    };
    let ours = ("weir.dev", "AuthorizationPolicy");
    let good = ask(&parts, "/validate", ours, policy(json!({ "action": "Allow" }))).await;
    assert_eq!(good["allowed"], true, "{good}");
    let bad = ask(&parts, "/validate", ours, policy(json!({ "action": "Alow" }))).await;
    let message = bad["status"]["message"].as_str().unwrap();
    assert!(message.contains("spec.action") && message.contains("did you mean `Allow`?"), "{message}");
    let route = |parent: &str| {
        json!({ "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": { "name": "r", "namespace": "demo" },
        "spec": { "parentRefs": [{ "kind": parent, "group": "", "name": "web" }], "rulez": [] } })
    };
    let routes = ("gateway.networking.k8s.io", "HTTPRoute");
    assert_eq!(ask(&parts, "/validate", routes, route("Service")).await["allowed"], false);
    assert_eq!(ask(&parts, "/validate", routes, route("Gateway")).await["allowed"], true, "somebody's gateway");
    assert_eq!(ask(&parts, "/validate", ours, Value::Null).await["allowed"], true, "it is deleted");
    assert_eq!(parts.metrics.validations.with_label_values(&["invalid"]).get(), 2);
}

#[tokio::test]
async fn what_is_no_question_is_refused_and_what_is_too_long_not_read() {
    let parts = parts(Given { old: enabled(), new: None });
    for body in
        ["", "{}", "[1]", "{\"kind\":\"AdmissionReview\",\"apiVersion\":\"admission.k8s.io/v1\",\"request\":{}}"]
    {
        for path in ["/inject", "/validate"] {
            let (status, text) = post(&parts, path, body).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{path} {body}: {text}");
        }
    }
    let (status, _) = post(&parts, "/inject", vec![b' '; (8 << 20) + 1]).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[test]
fn a_bundle_is_written_where_it_is_another() {
    let object = |bundle: &str| {
        json!({ "metadata": { "uid": "u" }, "webhooks": [
        { "name": "a", "clientConfig": { "caBundle": STANDARD.encode("now") } },
        { "name": "b", "clientConfig": { "caBundle": bundle } },
    ] })
    };
    assert_eq!(bundle_patch(&object(&STANDARD.encode("now")), "now"), None);
    let patch = bundle_patch(&object("b2xk"), "now").unwrap();
    let expected = json!([{ "name": "b", "clientConfig": { "caBundle": STANDARD.encode("now") } }]);
    assert_eq!((&patch["webhooks"], &patch["metadata"]["uid"]), (&expected, &json!("u")));
}

#[test]
fn pods_that_should_have_a_sidecar_are_known() {
    let settings = Settings::default();
    let missed = |pod: &Value, namespace: &Namespace| is_missed(pod, namespace, &settings, Version::OLDEST);
    let (asks, silent) = (enabled().unwrap(), namespace(json!({})));
    assert!(missed(&pod(json!({})), &asks));
    assert!(!missed(&pod(json!({})), &silent));
    assert!(missed(&pod(json!({ "weir.dev/inject": "enabled" })), &silent));
    assert!(!missed(&pod(json!({ "weir.dev/inject": "disabled" })), &asks));
    let mut ended = pod(json!({}));
    ended["status"]["phase"] = json!("Succeeded");
    assert!(!missed(&ended, &asks));
    let mut ending = pod(json!({}));
    ending["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    assert!(!missed(&ending, &asks));
}
