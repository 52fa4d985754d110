//! Injection by a real API server: it asks the webhook of an installed control plane, which has the rights of the manifests
//! and no others. No node runs the pods: what the API server keeps is what is looked at.

use crate::installed::{Installed, weir};
use serde_json::Value;
use std::{path::Path, process::Command};
use weir_tests::{cluster::Cluster, process::binaries};

fn pod(name: &str, labels: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{{labels}}}}}\n\
         spec: {{containers: [{{name: web, image: 'web:1'}}]}}\n"
    )
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(|c| c["name"].as_str()).collect()
}

const WORKLOADS: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: web:1
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: {httpGet: {path: /healthz, port: http}}
---
apiVersion: batch/v1
kind: Job
metadata: {name: once}
spec: {template: {spec: {restartPolicy: Never, containers: [{name: once, image: 'once:1'}]}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: old}
spec:
  selector: {matchLabels: {app: old}}
  template:
    metadata: {labels: {app: old, weir.dev/inject: disabled}}
    spec: {containers: [{name: old, image: 'old:1'}]}
";

#[tokio::test(flavor = "multi_thread")]
async fn pods_of_labelled_namespaces_come_out_with_a_sidecar_and_others_as_they_are() {
    let Some(mut mesh) = Installed::start().await else { return };
    mesh.namespace("demo", "weir.dev/inject: enabled").await;
    mesh.namespace("plain", "").await;
    for namespace in ["demo", "plain"] {
        let file = mesh.mesh.folder.path().join("workloads.yaml");
        std::fs::write(&file, WORKLOADS).unwrap();
        mesh.cluster.kubectl(&["-n", namespace, "apply", "-f", file.to_str().unwrap()]).await;
        let pods = mesh
            .until("four pods", async || {
                let pods = mesh.pods(namespace).await;
                (pods.len() == 4).then_some(pods)
            })
            .await;
        for pod in pods {
            let own = pod["metadata"]["name"].as_str().unwrap();
            let expected: &[&str] = match namespace == "demo" && !own.starts_with("old-") {
                true => &["weir-init", "weir-proxy"],
                false => &[],
            };
            assert_eq!(names(&pod["spec"]["initContainers"]), expected, "{namespace}/{own}");
            if own.starts_with("web-") && namespace == "demo" {
                let sidecar = &pod["spec"]["initContainers"][1];
                assert_eq!(sidecar["restartPolicy"], "Always");
                let env = sidecar["env"].as_array().unwrap();
                let probes = env.iter().find(|e| e["name"] == "WEIR_PROBES").unwrap();
                assert_eq!(probes["value"], "http://:8080/healthz");
            }
        }
    }
    // A pod that asks for itself, where its namespace does not.
    mesh.cluster
        .kubectl(&["-n", "plain", "run", "asks", "--image", "web:1", "--labels", "weir.dev/inject=enabled"])
        .await;
    let asks = mesh.cluster.get(&["-n", "plain", "pod", "asks"]).await;
    assert_eq!(names(&asks["spec"]["initContainers"]), ["weir-init", "weir-proxy"]);
    // What vouches for the control plane is in the namespaces that have sidecars.
    let roots = mesh
        .until("the roots", async || {
            let said = mesh.cluster.try_kubectl(&[
                "-n",
                "demo",
                "get",
                "configmap",
                "weir-roots",
                "-o",
                "jsonpath={.data.roots\\.pem}",
            ]);
            said.await.ok()
        })
        .await;
    assert!(roots.starts_with("-----BEGIN CERTIFICATE-----"), "{roots}");
    assert!(mesh.cluster.try_kubectl(&["-n", "plain", "get", "configmap", "weir-roots"]).await.is_err());
    assert_eq!(mesh.metric("weir_cp_injections_total{result=\"injected\"}").await.as_deref(), Some("4"));
    documents_are_read(&mesh).await;
    pod_security_is_kept(&mesh).await;
    // A misspelt wish is refused where it is written.
    let wrong = pod("wrong", "").replace("labels: {}", "annotations: {config.weir.dev/skip-inbond-ports: '1'}");
    let why = in_namespace(&mesh, "demo", &wrong).await.unwrap_err();
    assert!(why.contains("skip-inbond-ports: it is not known"), "{why}");
    away(&mut mesh).await;
}

/// Where the cluster enforces pod security, pods with a sidecar keep to it as they did without; so do the control planes.
async fn pod_security_is_kept(mesh: &Installed) {
    let security = "{allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}";
    for level in ["baseline", "restricted"] {
        let namespace = format!("of-{level}");
        let labels = format!("weir.dev/inject: enabled, pod-security.kubernetes.io/enforce: {level}");
        mesh.namespace(&namespace, &labels).await;
        let text = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: web}}\nspec:\n  securityContext: {{runAsNonRoot: true, seccompProfile: \
             {{type: RuntimeDefault}}}}\n  containers: [{{name: web, image: 'web:1', securityContext: {security}}}]\n"
        );
        in_namespace(mesh, &namespace, &text).await.unwrap_or_else(|why| panic!("{level}: {why}"));
        let pod = mesh.cluster.get(&["-n", &namespace, "pod", "web"]).await;
        assert_eq!(names(&pod["spec"]["initContainers"]), ["weir-proxy"], "{level}");
        let told = pod["spec"]["containers"][0]["env"].as_array().unwrap();
        assert!(told.iter().any(|e| e["name"] == "HTTP_PROXY" && e["value"] == "http://127.0.0.1:15080"));
    }
    let replicas = mesh.pods("weir-system").await;
    assert_eq!(replicas.len(), 3, "the control planes' own pods are not let in");
    assert!(replicas.iter().all(|pod| pod["spec"]["initContainers"].is_null()));
}

/// What the control plane would refuse never gets in, though its kind's schema knows nothing of it.
async fn documents_are_read(mesh: &Installed) {
    let gateway = Path::new(env!("CARGO_MANIFEST_DIR")).join("kubernetes/gateway.yaml");
    mesh.cluster.kubectl(&["apply", "-f", gateway.to_str().unwrap()]).await;
    mesh.cluster.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", "crd", "--all"]).await;
    let route = |parent: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: web}}\nspec:\n  parentRefs: \
             [{{group: '', kind: {parent}, name: web}}]\n  rules: [{{retrys: {{}}, backendRefs: [{{name: web, port: 80}}]}}]\n"
        )
    };
    let why = in_namespace(mesh, "demo", &route("Service")).await.unwrap_err();
    assert!(why.contains("spec.rules[0]") && why.contains("retrys"), "{why}");
    in_namespace(mesh, "demo", &route("Gateway")).await.expect("it is for somebody's gateway");
    let good = route("Service").replace("retrys: {}, ", "").replace("name: web}\nspec", "name: good}\nspec");
    in_namespace(mesh, "demo", &good).await.expect("there is nothing wrong with it");
}

/// Without a control plane: no pod where sidecars are asked for, and everything as ever where they are not.
async fn away(mesh: &mut Installed) {
    mesh.mesh.control_plane = None;
    let why = in_namespace(mesh, "demo", &pod("late", "")).await.unwrap_err();
    assert!(why.contains("namespace.inject.weir.dev"), "{why}");
    in_namespace(mesh, "demo", &pod("opted-out", "weir.dev/inject: disabled")).await.expect("it wants none");
    in_namespace(mesh, "plain", &pod("plain", "")).await.expect("it wants none");
    mesh.start_control_plane().await;
    let mesh = &*mesh;
    mesh.until("pods are made again", async || in_namespace(mesh, "demo", &pod("late", "")).await.ok()).await;
}

async fn in_namespace(mesh: &Installed, namespace: &str, text: &str) -> Result<String, String> {
    let file = mesh.mesh.folder.path().join("one.yaml");
    std::fs::write(&file, text).unwrap();
    mesh.cluster.try_kubectl(&["-n", namespace, "apply", "-f", file.to_str().unwrap()]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_change_is_put_right_and_pods_that_were_missed_are_told() {
    let Some(mesh) = Installed::start().await else { return };
    // Somebody breaks the bundle.
    let broken = "{\"webhooks\":[{\"name\":\"pod.inject.weir.dev\",\"clientConfig\":{\"caBundle\":null}}]}";
    mesh.cluster
        .kubectl(&["patch", "mutatingwebhookconfiguration", "weir-webhook", "--type=strategic", "-p", broken])
        .await;
    mesh.until("caBundle is there again", async || {
        let all = mesh.cluster.get(&["mutatingwebhookconfiguration", "weir-webhook"]).await;
        let webhooks = all["webhooks"].as_array()?;
        let bundles: Vec<_> = webhooks.iter().map(|w| w["clientConfig"]["caBundle"].clone()).collect();
        (bundles[0].is_string() && bundles[0] == bundles[1]).then_some(())
    })
    .await;
    // A namespace that is labelled later than its pods were made.
    mesh.namespace("late", "").await;
    in_namespace(&mesh, "late", &pod("old", "")).await.unwrap();
    in_namespace(&mesh, "late", &pod("other", "weir.dev/inject: disabled")).await.unwrap();
    mesh.cluster.kubectl(&["label", "namespace", "late", "weir.dev/inject=enabled"]).await;
    mesh.until("it is counted", async || {
        (mesh.metric("weir_cp_pods_without_sidecar").await.as_deref() == Some("1")).then_some(())
    })
    .await;
    let check = mesh.check(&[]).await;
    assert!(!check.0 && check.1.contains("× pods: without a sidecar: late/old\n"), "{}", check.1);
    mesh.cluster.kubectl(&["-n", "late", "delete", "pod", "old", "--grace-period=0", "--force"]).await;
    in_namespace(&mesh, "late", &pod("old", "")).await.unwrap();
    mesh.until("none is left", async || {
        (mesh.metric("weir_cp_pods_without_sidecar").await.as_deref() == Some("0")).then_some(())
    })
    .await;
    let (_, said) = mesh.check(&[]).await;
    for line in ["√ pods: 1 have a sidecar", "√ pods are asked about: 2 webhooks", "√ namespaces: 1 namespaces"] {
        assert!(said.contains(line), "no `{line}` in\n{said}");
    }
    // No node runs the control plane of the manifests.
    assert!(said.contains("× control plane: 0 of 3 ready (weir-control-plane:0.1.0)\n"), "{said}");
    let (good, said) = mesh.check(&["--pre"]).await;
    assert!(good && said.contains("‼ Gateway API: it is not there\n") && said.contains("‼ no other Weir"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_base_and_the_demo_are_taken_and_every_pod_of_the_demo_gets_a_sidecar() {
    let Some(mesh) = Installed::start().await else { return };
    // What kustomize makes of the base is what `weir install` prints: applied again, nothing changes.
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/kubernetes");
    let built = mesh.cluster.kubectl(&["kustomize", folder.to_str().unwrap()]).await;
    let printed = mesh.mesh.folder.path().join("printed.yaml");
    std::fs::write(&printed, weir(&["install"])).unwrap();
    let base = mesh.mesh.folder.path().join("base.yaml");
    std::fs::write(&base, built).unwrap();
    let names = async |file: &Path| {
        let arguments = ["create", "--dry-run=client", "--validate=ignore", "-o", "name", "-f", file.to_str().unwrap()];
        let said = mesh.cluster.kubectl(&arguments).await;
        said.lines().map(str::to_owned).collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(names(&base).await, names(&printed).await);
    upgrade_is_told(&mesh).await;
    mesh.cluster.kubectl(&["apply", "-k", folder.join("demo").to_str().unwrap()]).await;
    let pods = mesh
        .until("sixteen pods", async || {
            let pods = mesh.pods("demo").await;
            (pods.len() == 16).then_some(pods)
        })
        .await;
    for pod in pods {
        let sidecar = &pod["spec"]["initContainers"][1];
        assert_eq!(sidecar["name"], "weir-proxy", "{pod:#}");
        let probes = sidecar["env"].as_array().unwrap().iter().find(|e| e["name"] == "WEIR_PROBES").unwrap();
        assert_eq!(probes["value"], "http://:8099/healthz");
    }
}

/// The installation itself stays, but for what this test has changed; another tag is a change; a document that was let in while
/// nobody read it is told.
async fn upgrade_is_told(mesh: &Installed) {
    let (good, said) = mesh.weir(&["upgrade", "--check"]).await;
    assert!(good && said.contains("0 would be refused\n") && said.contains(" 2 would be changed, 0 made\n"), "{said}");
    let (good, said) = mesh.weir(&["upgrade", "--check", "--tag", "0.2.0"]).await;
    let image = "spec.template.spec.containers[0].image: \"weir-control-plane:0.1.0\" → \"weir-control-plane:0.2.0\"\n";
    assert!(good && said.contains("~ Deployment weir-system/weir-control-plane\n") && said.contains(image), "{said}");
    let gateway = Path::new(env!("CARGO_MANIFEST_DIR")).join("kubernetes/gateway.yaml");
    mesh.cluster.kubectl(&["apply", "-f", gateway.to_str().unwrap()]).await;
    mesh.cluster.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", "crd", "--all"]).await;
    mesh.cluster.kubectl(&["delete", "validatingwebhookconfiguration", "weir-webhook"]).await;
    let route = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: web}\nspec: {parentRefs: \
                 [{group: '', kind: Service, name: web}], rulez: []}\n";
    mesh.until("nobody reads it", async || in_namespace(mesh, "default", route).await.ok()).await;
    let (good, said) = mesh.weir(&["upgrade", "--check"]).await;
    assert!(
        !good && said.contains("rulez") && said.contains("+ ValidatingWebhookConfiguration weir-webhook\n"),
        "{said}"
    );
}

/// Pods of the snapshot tests that no API server takes, whoever is beside them.
const NO_PODS: [&str; 5] = ["mirror-pod", "no-containers", "nulls", "probes-odd", "windows"];

#[tokio::test(flavor = "multi_thread")]
async fn every_pod_of_the_snapshots_is_one_to_the_api_server_with_its_sidecar() {
    let Some(cluster) = Cluster::start().await else { return };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../control-plane/src/inject/tests/pods");
    let own = tempfile::tempdir().unwrap();
    let mut all = vec![];
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let Some(name) = name.strip_suffix(".yaml").filter(|n| !n.contains('.') && !NO_PODS.contains(n)) else {
            continue;
        };
        all.push(name.to_owned());
    }
    assert!(all.len() >= 40);
    let mut documents = vec![];
    for name in &all {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../control-plane/src/inject/tests/pods").join(name);
        let text = std::fs::read_to_string(path.with_extension("yaml")).unwrap();
        // As it stands, under `pod:`, from the line after it on.
        let pod = text.split_once("\npod:\n").or_else(|| text.strip_prefix("pod:\n").map(|rest| ("", rest))).unwrap().1;
        let pod = pod
            .replace("namespace: demo", "namespace: default")
            .replace("serviceAccountName: web", "serviceAccountName: default")
            .replacen("name: web", &format!("name: {name}"), 1);
        documents.push(format!(
            "---\napiVersion: v1\nkind: Pod\n{}",
            pod.lines().map(|l| format!("{}\n", &l[2.min(l.len())..])).collect::<String>()
        ));
    }
    let mut injected = 0;
    for version in ["1.28", "1.33"] {
        let file = own.path().join(format!("{version}.yaml"));
        for (name, document) in all.iter().zip(&documents) {
            std::fs::write(&file, document).unwrap();
            let output = Command::new(binaries().join("weir"))
                .args(["inject", "--kubernetes", version, "-f"])
                .arg(&file)
                .output()
                .unwrap();
            // Those that are refused are never made.
            if !output.status.success() {
                continue;
            }
            injected += usize::from(String::from_utf8_lossy(&output.stderr).contains(": injected"));
            let made = own.path().join("made.yaml");
            std::fs::write(&made, &output.stdout).unwrap();
            let said = cluster
                .try_kubectl(&["create", "--dry-run=server", "--validate=ignore", "-f", made.to_str().unwrap()])
                .await;
            assert!(
                said.is_ok(),
                "{name} for {version}: {}\n{}",
                said.unwrap_err(),
                String::from_utf8_lossy(&output.stdout)
            );
        }
    }
    assert!(injected >= 50, "only {injected}");
}
