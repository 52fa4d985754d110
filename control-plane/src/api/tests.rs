//! The API's contract, verb by verb, on a store in memory.

use super::*;
use crate::{index, store::Memory};
use axum::body::Body;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tower::ServiceExt;

const WEB: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: demo}\nspec:\n  selector: {app: web}\n  ports: [{port: 8080}]\n";
const SERVICES: &str = "/api/v1/namespaces/demo/services";

#[derive(Default)]
struct StubFleet {
    changes: Mutex<Vec<types::Change>>,
    news: watch::Sender<u64>,
}

impl Fleet for StubFleet {
    fn proxies(&self) -> Vec<types::Proxy> {
        Vec::new()
    }
    fn changes(&self) -> Vec<types::Change> {
        self.changes.lock().clone()
    }
    fn change(&self, version: u64) -> Option<types::Change> {
        self.changes.lock().iter().find(|c| c.version == version).cloned()
    }
    fn watch(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }
}

struct StubIdentity;

impl Identity for StubIdentity {
    fn token(&self, request: &types::TokenRequest) -> Result<types::Token> {
        let identity = format!("spiffe://weir.local/ns/{}/sa/{}", request.namespace, request.service_account);
        Ok(types::Token { token: "secret".into(), identity, expires: "2030-01-01T00:00:00Z".into() })
    }
    fn roots(&self) -> String {
        "-----BEGIN CERTIFICATE-----\n".into()
    }
    fn rotation(&self) -> Result<types::Rotation> {
        Ok(types::Rotation { issuer: "ab".into(), ..types::Rotation::default() })
    }
    fn rotate(&self, request: &types::RotationRequest) -> Result<types::Rotation> {
        Ok(types::Rotation { held: request.hold, ..types::Rotation::default() })
    }
}

struct House {
    router: Router,
    store: Arc<dyn Store>,
    fleet: Arc<StubFleet>,
}

impl House {
    fn new(admin_token: Option<&str>) -> Self {
        let store: Arc<dyn Store> = Arc::new(Memory::default());
        let fleet = Arc::new(StubFleet::default());
        let (world, _) = index::follow(store.watch());
        let router = router(Api {
            store: store.clone(),
            fleet: fleet.clone(),
            identity: Arc::new(StubIdentity),
            world,
            xds_address: "127.0.0.1:15012".into(),
            admin_token: admin_token.map(Into::into),
        });
        Self { router, store, fleet }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Response<Value> {
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, "127.0.0.1:15015");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.router.clone().oneshot(request.body(body.into()).unwrap()).await.unwrap();
        let (head, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let value = serde_json::from_slice(&bytes).unwrap_or_else(|e| panic!("{e}: {bytes:?}"));
        Response::from_parts(head, value)
    }

    async fn get(&self, path: &str) -> Response<Value> {
        self.send(Method::GET, path, &[], Body::empty()).await
    }

    async fn put(&self, path: &str, headers: &[(&str, &str)], yaml: &str) -> Response<Value> {
        let mut all = vec![("content-type", "application/yaml")];
        all.extend(headers);
        self.send(Method::PUT, path, &all, yaml.to_owned()).await
    }

    async fn apply(&self, query: &str, yaml: &str) -> Response<Value> {
        let path = format!("/api/v1/apply{query}");
        self.send(Method::POST, &path, &[("content-type", "application/yaml")], yaml.to_owned()).await
    }

    async fn delete(&self, path: &str, headers: &[(&str, &str)]) -> Response<Value> {
        self.send(Method::DELETE, path, headers, Body::empty()).await
    }
}

fn is_problem(response: &Response<Value>, status: u16, kind: &str) {
    assert_eq!(response.status(), status, "{}", response.body());
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
    assert_eq!(response.body()["type"], format!("/problems/{kind}"), "{}", response.body());
    assert_eq!(response.body()["status"], status);
    assert!(response.body()["title"].is_string());
}

#[tokio::test]
async fn create_read_replace_list_delete() {
    let house = House::new(None);
    let path = format!("{SERVICES}/web");
    let created = house.put(&path, &[], WEB).await;
    assert_eq!(created.status(), StatusCode::CREATED, "{}", created.body());
    assert_eq!(created.headers()[header::ETAG], "\"1\"");

    let read = house.get(&path).await;
    assert_eq!(read.body()["metadata"]["resourceVersion"], "1");
    assert_eq!(read.body()["metadata"]["generation"], 1);
    assert_eq!(read.body()["kind"], "Service");
    assert_eq!(read.body()["spec"]["ports"][0]["port"], 8080);

    let replaced = house.put(&path, &[], &WEB.replace("8080", "9090")).await;
    assert_eq!(replaced.status(), StatusCode::OK);
    assert_eq!(replaced.body()["metadata"]["resourceVersion"], "2");

    let list = house.get(SERVICES).await;
    assert_eq!(list.body()["kind"], "List");
    assert_eq!(list.body()["metadata"]["resourceVersion"], "2");
    assert_eq!(list.body()["items"].as_array().unwrap().len(), 1);
    assert_eq!(house.get("/api/v1/services").await.body()["items"], list.body()["items"]);
    assert_eq!(house.get("/api/v1/namespaces/other/services").await.body()["items"], json!([]));

    let deleted = house.delete(&path, &[]).await;
    assert_eq!(deleted.body()["documents"][0]["action"], "deleted");
    assert_eq!(deleted.body()["version"], 3);
    is_problem(&house.get(&path).await, 404, "not-found");
    is_problem(&house.delete(&path, &[]).await, 404, "not-found");
}

#[tokio::test]
async fn what_was_read_can_be_written_back() {
    let house = House::new(None);
    let path = format!("{SERVICES}/web");
    house.put(&path, &[], WEB).await;
    let read = house.get(&path).await.into_body().to_string();
    let written = house.send(Method::PUT, &path, &[("content-type", "application/json")], read).await;
    assert_eq!(written.status(), 200, "{}", written.body());
    assert_eq!(written.body()["metadata"]["resourceVersion"], "1", "nothing changed");
}

#[tokio::test]
async fn a_stale_write_is_a_conflict() {
    let house = House::new(None);
    let path = format!("{SERVICES}/web");
    house.put(&path, &[], WEB).await;
    house.put(&path, &[("if-match", "\"1\"")], &WEB.replace("8080", "1")).await;
    is_problem(&house.put(&path, &[("if-match", "\"1\"")], WEB).await, 409, "conflict");
    let stale = WEB.replace("namespace: demo", "namespace: demo, resourceVersion: '1'");
    is_problem(&house.put(&path, &[], &stale).await, 409, "conflict");
    is_problem(&house.apply("", &stale).await, 409, "conflict");
    is_problem(&house.put(&path, &[("if-none-match", "*")], WEB).await, 409, "conflict");
    is_problem(&house.delete(&path, &[("if-match", "\"1\"")]).await, 409, "conflict");
    is_problem(
        &house.put(&format!("{SERVICES}/new"), &[("if-match", "*")], &WEB.replace("web", "new")).await,
        409,
        "conflict",
    );
    is_problem(&house.put(&path, &[("if-match", "W/x")], WEB).await, 400, "bad-request");
    assert_eq!(house.store.snapshot().version(), 2);
    assert_eq!(house.delete(&path, &[("if-match", "\"2\"")]).await.status(), 200);
}

#[tokio::test]
async fn apply_is_all_or_nothing_and_says_where() {
    let house = House::new(None);
    let bad = format!("{WEB}---\n{}", WEB.replace("web", "api").replace("selector", "selektor"));
    let refused = house.apply("", &bad).await;
    is_problem(&refused, 422, "invalid");
    let issue = &refused.body()["issues"][0];
    assert_eq!((&issue["file"], &issue["line"]), (&json!("body"), &json!(12)), "{issue}");
    assert!(
        issue["field"].as_str().unwrap().contains("selektor")
            || issue["message"].as_str().unwrap().contains("selektor")
    );
    assert_eq!(house.store.snapshot().version(), 0);

    let good = format!("{WEB}---\n{}", WEB.replace("web", "api"));
    let applied = house.apply("", &good).await;
    assert_eq!(applied.body()["version"], 1, "one change: {}", applied.body());
    let actions: Vec<_> = applied.body()["documents"].as_array().unwrap().iter().map(|d| d["action"].clone()).collect();
    assert_eq!(actions, ["created", "created"]);
    let again = house.apply("", &good).await;
    assert_eq!(again.body()["version"], 1);
    assert_eq!(again.body()["documents"][0]["action"], "unchanged");
}

#[tokio::test]
async fn a_dry_run_checks_everything_and_changes_nothing() {
    let house = House::new(None);
    let dry = house.apply("?dryRun=true", WEB).await;
    assert_eq!(dry.body()["dryRun"], true);
    assert_eq!(dry.body()["documents"][0]["action"], "created");
    is_problem(&house.apply("?dryRun=true", "kind: Nonsense\n").await, 422, "invalid");
    house.put(&format!("{SERVICES}/web?dryRun=true"), &[], WEB).await;
    assert!(house.store.snapshot().is_empty());
    house.apply("", WEB).await;
    house.delete(&format!("{SERVICES}/web?dryRun=true"), &[]).await;
    assert_eq!(house.store.snapshot().len(), 1);
}

#[tokio::test]
async fn json_bodies_come_as_object_array_and_list() {
    let house = House::new(None);
    let one = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a", "namespace": "demo"},
        "spec": {"selector": {"app": "a"}, "ports": [{"port": 1}]}});
    let mut two = one.clone();
    two["metadata"]["name"] = "b".into();
    for body in [one.clone(), json!([one, two]), json!({"apiVersion": "v1", "kind": "List", "items": [one, two]})] {
        let sent =
            house.send(Method::POST, "/api/v1/apply", &[("content-type", "application/json")], body.to_string()).await;
        assert_eq!(sent.status(), 200, "{}", sent.body());
    }
    assert_eq!(house.store.snapshot().len(), 2);
    let broken = house.send(Method::POST, "/api/v1/apply", &[("content-type", "application/json")], "{").await;
    is_problem(&broken, 422, "invalid");
    assert_eq!(broken.body()["issues"][0]["line"], 1);
}

#[tokio::test]
async fn the_path_fills_in_what_a_document_leaves_out_and_never_contradicts_it() {
    let house = House::new(None);
    let nameless = "apiVersion: v1\nkind: Service\nspec:\n  selector: {app: web}\n  ports: [{port: 8080}]\n";
    assert_eq!(house.put(&format!("{SERVICES}/web"), &[], nameless).await.status(), 201);
    is_problem(&house.put(&format!("{SERVICES}/other"), &[], WEB).await, 400, "bad-request");
    is_problem(&house.put("/api/v1/namespaces/demo/httproutes/web", &[], WEB).await, 400, "bad-request");
    let mesh = "apiVersion: weir.dev/v1alpha1\nkind: Mesh\nmetadata: {name: mesh}\nspec: {}\n";
    assert_eq!(house.put("/api/v1/meshes/mesh", &[], mesh).await.status(), 201);
    assert_eq!(house.get("/api/v1/meshes/mesh").await.status(), 200);
    is_problem(&house.put("/api/v1/namespaces/demo/meshes/mesh", &[], mesh).await, 404, "not-found");
    is_problem(&house.put("/api/v1/services/web", &[], WEB).await, 404, "not-found");
    assert_eq!(house.delete("/api/v1/meshes/mesh", &[]).await.status(), 200);
}

#[tokio::test]
async fn every_refusal_is_a_problem() {
    let house = House::new(None);
    is_problem(&house.get("/api/v1/pods").await, 404, "not-found");
    is_problem(&house.get("/elsewhere").await, 404, "not-found");
    is_problem(&house.send(Method::PATCH, SERVICES, &[], "").await, 405, "method");
    is_problem(
        &house.send(Method::POST, "/api/v1/apply", &[("content-type", "text/html")], "x").await,
        415,
        "media-type",
    );
    is_problem(&house.apply("?dryRun=perhaps", WEB).await, 400, "bad-request");
    is_problem(&house.apply("?dry_run=true", WEB).await, 400, "bad-request");
    is_problem(&house.apply("", "").await, 400, "bad-request");
    is_problem(&house.apply("", &"#".repeat(MAX_BODY + 1)).await, 413, "too-large");
    is_problem(&house.get("/api/v1/changes/x").await, 400, "bad-request");
    is_problem(&house.get("/api/v1/changes/1").await, 404, "not-found");
    is_problem(&house.get("/api/v1/changes/1?wait=long").await, 400, "bad-request");
    let token = house
        .send(Method::POST, "/api/v1/tokens", &[("content-type", "application/json")], "{\"namespace\": \"a\"}")
        .await;
    assert_eq!(token.status(), 422);
    let foreign = house.send(Method::GET, SERVICES, &[("origin", "http://evil.example")], Body::empty()).await;
    is_problem(&foreign, 403, "foreign-origin");
}

#[tokio::test]
async fn with_an_admin_token_nothing_goes_without_it() {
    let house = House::new(Some("0123456789abcdef"));
    is_problem(&house.get(SERVICES).await, 401, "unauthorized");
    let wrong = house.send(Method::GET, SERVICES, &[("authorization", "Bearer 0123456789abcdee")], Body::empty()).await;
    is_problem(&wrong, 401, "unauthorized");
    let right = house.send(Method::GET, SERVICES, &[("authorization", "Bearer 0123456789abcdef")], Body::empty()).await;
    assert_eq!(right.status(), 200);
}

fn change(version: u64, applied: u64, complete: bool) -> types::Change {
    types::Change {
        version,
        at: "2026-01-01T00:00:00Z".into(),
        summary: String::new(),
        proxies: 2,
        applied,
        refused: 0,
        p50_ms: None,
        p99_ms: Some(340.4),
        complete,
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_when_the_change_is_everywhere_or_the_time_is_over() {
    let house = House::new(None);
    house.apply("", WEB).await;
    house.fleet.changes.lock().push(change(1, 1, false));
    let late = house.get("/api/v1/changes/1?wait=200ms").await;
    assert_eq!((late.status(), &late.body()["complete"]), (StatusCode::OK, &json!(false)));

    let waiting = house.get("/api/v1/changes/1?wait=60s");
    let arriving = async {
        tokio::task::yield_now().await;
        *house.fleet.changes.lock() = vec![change(1, 2, true)];
        house.fleet.news.send_modify(|n| *n += 1);
    };
    let (done, ()) = tokio::join!(waiting, arriving);
    assert_eq!(done.body()["applied"], 2);
    assert_eq!(change(1, 2, true).words(), "applied on 2 of 2 proxies, p99 340 ms, 0 refused");
}

#[tokio::test]
async fn tokens_trust_version_and_lists_of_status() {
    let house = House::new(None);
    let body = json!({"namespace": "demo", "serviceAccount": "web"}).to_string();
    let token = house.send(Method::POST, "/api/v1/tokens", &[("content-type", "application/json")], body).await;
    assert_eq!((token.status(), &token.body()["token"]), (StatusCode::CREATED, &json!("secret")));
    assert_eq!(house.get("/api/v1/trust").await.body()["trustDomain"], "weir.local");
    assert_eq!(house.get("/api/v1/version").await.body()["xdsAddress"], "127.0.0.1:15012");
    assert_eq!(house.get("/api/v1/changes").await.body()["items"], json!([]));
    assert_eq!(house.get("/api/v1/proxies").await.body()["items"], json!([]));
}

/// The description in the repository is the one that the code makes. `UPDATE_SNAPSHOTS=1 cargo test` writes it anew.
#[tokio::test]
async fn the_openapi_document_is_as_committed() {
    let house = House::new(None);
    let served = house.get("/api/v1/openapi.json").await.into_body();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
    let text = serde_json::to_string_pretty(&served).unwrap() + "\n";
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(text == committed, "the API changed: look at the difference with UPDATE_SNAPSHOTS=1 and git diff");
}
