//! The command line against a control plane in this process.

use super::*;
use crate::app::{App, Options, Running};
use serde_json::Value;

const WEB: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: demo}\nspec:\n  selector: {app: web}\n  ports: [{port: 8080}]\n";

struct House {
    running: Running,
    folder: tempfile::TempDir,
}

impl House {
    async fn new() -> Self {
        let running = App::start(Options::ephemeral()).await.unwrap();
        Self { running, folder: tempfile::tempdir().unwrap() }
    }

    /// Runs `weir <arguments>`; what it prints, or how it fails.
    async fn weir(&self, arguments: &[&str]) -> Result<String, Failure> {
        let address = self.running.addresses().api.to_string();
        weir(&address, arguments).await
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }
}

async fn weir(address: &str, arguments: &[&str]) -> Result<String, Failure> {
    let all = [&["weir", "--address", address], arguments].concat();
    let parsed = parse(all).unwrap_or_else(|e| panic!("{e}"));
    let mut out = Vec::new();
    run(parsed, &mut out).await?;
    Ok(String::from_utf8(out).unwrap())
}

#[tokio::test]
async fn apply_get_status_delete() {
    let house = House::new().await;
    let file = house.write("web.yaml", WEB);
    let dry = house.weir(&["apply", "-f", &file, "--dry-run"]).await.unwrap();
    assert!(dry.contains("created") && dry.contains("dry run"), "{dry}");

    let applied = house.weir(&["apply", "-f", &file, "--wait"]).await.unwrap();
    assert!(applied.contains("Service   demo        web    created"), "{applied}");
    assert!(applied.contains("change 1: applied on 0 of 0 proxies"), "{applied}");

    let table = house.weir(&["get", "svc"]).await.unwrap();
    assert!(table.starts_with("KIND") && table.contains("web"), "{table}");
    let json: Value =
        serde_json::from_str(&house.weir(&["get", "services", "web", "-n", "demo", "-o", "json"]).await.unwrap())
            .unwrap();
    assert_eq!(json["spec"]["ports"][0]["port"], 8080);
    let yaml = house.weir(&["get", "all", "-o", "yaml"]).await.unwrap();
    let again = house.write("again.yaml", &yaml);
    assert!(house.weir(&["apply", "-f", &again]).await.unwrap().contains("unchanged"), "{yaml}");

    let status = house.weir(&["status"]).await.unwrap();
    assert!(status.contains("0 of 0 proxies connected") && status.contains("Service/demo/web created"), "{status}");
    let status: Value = serde_json::from_str(&house.weir(&["status", "-o", "json"]).await.unwrap()).unwrap();
    assert_eq!(status["changes"][0]["version"], 1);

    assert!(house.weir(&["delete", "svc", "web", "-n", "demo"]).await.unwrap().contains("deleted"));
    assert!(house.weir(&["get", "svc"]).await.unwrap().contains("none"));
    assert_eq!(house.weir(&["delete", "-f", &file]).await.unwrap_err().code(), 1);
    house.weir(&["delete", "-f", &file, "--ignore-not-found"]).await.unwrap();
}

#[tokio::test]
async fn what_is_wrong_is_said_by_file_and_line() {
    let house = House::new().await;
    house.write("a.yaml", WEB);
    house.write("b.yaml", &WEB.replace("web", "api").replace("selector", "selektor"));
    let folder = house.folder.path().display().to_string();
    for verb in ["apply", "validate"] {
        let failure = house.weir(&[verb, "-f", &folder]).await.unwrap_err();
        assert_eq!(failure.code(), 1);
        assert!(failure.to_string().contains("b.yaml:5: "), "{failure}");
    }
    assert!(house.weir(&["get", "svc"]).await.unwrap().contains("none"), "all or nothing");
}

#[tokio::test]
async fn failures_name_the_remedy() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let failure = weir(&nobody.to_string(), &["status"]).await.unwrap_err();
    assert_eq!(failure.code(), 1);
    let text = failure.to_string();
    assert!(
        text.contains("is it running?") && text.contains("WEIR_ADDRESS") && text.contains(&nobody.to_string()),
        "{text}"
    );

    let house = House::new().await;
    assert_eq!(house.weir(&["get", "pods"]).await.unwrap_err().code(), 2);
    let missing = house.weir(&["get", "svc", "nothing"]).await.unwrap_err();
    assert!(missing.is_not_found() && missing.code() == 1);
    let file = house.weir(&["validate", "-f", "/not/there.yaml"]).await.unwrap_err();
    assert!(file.to_string().contains("/not/there.yaml"), "{file}");
    assert_eq!(weir("https://x", &["status"]).await.unwrap_err().code(), 2);
    assert_eq!(parse(["weir", "apply"]).unwrap_err().exit_code(), 2);
    assert_eq!(parse(["weir", "frobnicate"]).unwrap_err().exit_code(), 2);
    assert_eq!(parse(["weir", "--help"]).unwrap_err().exit_code(), 0);
}

#[tokio::test]
async fn validate_works_alone_and_knows_dangling_references() {
    let folder = tempfile::tempdir().unwrap();
    let route = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r, namespace: demo}\nspec:\n  parentRefs: [{kind: Service, group: '', name: web, port: 8080}]\n  rules:\n  - backendRefs: [{name: gone, port: 1}]\n";
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("web.yaml", WEB);
    let path = folder.path().display().to_string();
    let good = weir("127.0.0.1:1", &["validate", "-f", &path, "-o", "json"]).await.unwrap();
    assert_eq!(serde_json::from_str::<Value>(&good).unwrap()["valid"], true);
    write("route.yaml", route);
    let failure = weir("127.0.0.1:1", &["validate", "-f", &path]).await.unwrap_err().to_string();
    assert!(failure.contains("route.yaml:") && failure.contains("gone"), "{failure}");
}

#[tokio::test]
async fn tokens_version_completion() {
    let house = House::new().await;
    let token = house.weir(&["token", "create", "--namespace", "demo", "--service-account", "web"]).await.unwrap();
    assert_eq!(token.trim().split('.').count(), 3, "a JWT, alone: {token}");
    let versions = house.weir(&["version", "-o", "json"]).await.unwrap();
    let versions: Value = serde_json::from_str(&versions).unwrap();
    assert_eq!(versions["client"], versions["controlPlane"]["version"]);
    assert!(weir("127.0.0.1:1", &["version"]).await.unwrap().contains("not reached"));
    assert!(weir("127.0.0.1:1", &["completion", "bash"]).await.unwrap().contains("_weir"));
}

#[test]
fn the_command_line_is_consistent() {
    Weir::command().debug_assert();
}
