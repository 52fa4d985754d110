//! A stand-in for a node: takes pods from the API server and runs their containers as processes in network namespaces, as a
//! kubelet does: first containers in order, native sidecars beside the rest, start-up and readiness by their probes, hooks, the
//! order of the end; and reports the status. What it does not have: images (a name is a program of this machine), file systems
//! (a container sees this machine's; where a volume is mounted, its folder's path is put in instead), resources.

use crate::{
    client,
    cluster::Cluster,
    pods::{Network, Pod},
    process::{Process, binaries},
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tokio::sync::OnceCell;

/// Images by their names without tags: the program and its first arguments.
pub type Images = BTreeMap<&'static str, Vec<String>>;

/// What the node is called, and where it stands.
const NODE: &str = "node-1";
/// See above.
pub const ZONE: &str = "zone-a";

/// A node of a cluster.
pub struct Kubelet<'c> {
    cluster: &'c Cluster,
    images: Images,
    folder: PathBuf,
    known: OnceCell<()>,
}

/// A pod that runs.
pub struct Running {
    /// As the API server has it.
    pub object: Value,
    /// Its network.
    pub pod: Pod,
    namespace: String,
    name: String,
    sidecars: Vec<Process>,
    containers: Vec<(String, Process)>,
}

impl<'c> Kubelet<'c> {
    /// A node that keeps volumes and logs in a folder.
    pub fn new(cluster: &'c Cluster, folder: &Path, images: Images) -> Self {
        open(folder, 0o755);
        Self { cluster, images, folder: folder.into(), known: OnceCell::new() }
    }

    /// Runs many pods of a namespace at once.
    pub async fn run_all(&self, network: &mut Network, namespace: &str, names: &[String]) -> Vec<Running> {
        let pods: Vec<_> = names.iter().map(|name| (name, network.pod(name, &self.folder(namespace, name)))).collect();
        let all = pods.into_iter().map(|(name, pod)| self.run_in(pod, namespace, name));
        let all = futures::future::join_all(all).await;
        all.into_iter().map(|running| running.unwrap_or_else(|why| panic!("{why}"))).collect()
    }

    /// Runs a pod: returns when all its containers are started.
    ///
    /// # Errors
    /// A container that must end well before the others does not, or a sidecar does not become ready.
    pub async fn run(&self, network: &mut Network, namespace: &str, name: &str) -> Result<Running, String> {
        let pod = network.pod(name, &self.folder(namespace, name));
        self.run_in(pod, namespace, name).await
    }

    /// Where a pod's logs and volumes are.
    fn folder(&self, namespace: &str, name: &str) -> PathBuf {
        let folder = self.folder.join(format!("{namespace}-{name}"));
        fs::create_dir_all(&folder).expect("a folder");
        open(&folder, 0o755);
        folder
    }

    async fn run_in(&self, pod: Pod, namespace: &str, name: &str) -> Result<Running, String> {
        let folder = self.folder(namespace, name);
        self.bind(namespace, name, &folder).await;
        let object = self.cluster.get(&["-n", namespace, "pod", name]).await;
        // A kubelet tells the address as soon as there is one, long before anything is ready.
        let address = pod.v4.to_string();
        let known = json!({ "status": { "phase": "Pending", "podIP": address, "podIPs": [{ "ip": address }] } });
        self.patch(namespace, name, &known).await;
        let volumes = self.volumes(&object, &folder).await;
        let mut running = Running {
            object: object.clone(),
            pod,
            namespace: namespace.into(),
            name: name.into(),
            sidecars: vec![],
            containers: vec![],
        };
        for container in list(&object["spec"]["initContainers"]) {
            let mut process = self.start(&running, container, &volumes, &folder);
            if container["restartPolicy"] == "Always" {
                started(&running.pod, container, &mut process).await?;
                running.sidecars.insert(0, process);
            } else if !process.ended(Duration::from_secs(60)).await.success() {
                return Err(format!("{} of {name} failed:\n{}", container["name"], process.log()));
            }
        }
        for container in list(&object["spec"]["containers"]) {
            let process = self.start(&running, container, &volumes, &folder);
            running.containers.push((text(&container["name"]).into(), process));
            // The next is started when the hook has returned.
            if let Some(command) = container["lifecycle"]["postStart"]["exec"]["command"].as_array() {
                let mut hook = container.clone();
                hook["command"] = json!(command);
                hook["args"] = Value::Null;
                hook["name"] = json!(format!("{}-hook", text(&container["name"])));
                let mut process = self.start(&running, &hook, &volumes, &folder);
                if !process.ended(Duration::from_secs(90)).await.success() {
                    return Err(format!("the hook of {} failed:\n{}", container["name"], process.log()));
                }
            }
        }
        Ok(running)
    }

    /// Takes a pod, as the scheduler gives it to a node.
    async fn bind(&self, namespace: &str, name: &str, folder: &Path) {
        let node = format!(
            "apiVersion: v1\nkind: Node\nmetadata: {{name: {NODE}, labels: {{topology.kubernetes.io/zone: {ZONE}}}}}\n"
        );
        self.known.get_or_init(async || drop(self.cluster.apply(&node).await)).await;
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding", "metadata": { "name": name },
            "target": { "apiVersion": "v1", "kind": "Node", "name": NODE },
        });
        let file = folder.join("binding.json");
        fs::write(&file, binding.to_string()).expect("a file");
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/binding");
        self.cluster.kubectl(&["create", "--raw", &path, "-f", &file.display().to_string()]).await;
    }

    /// Where each container's mounts are in truth.
    async fn volumes(&self, object: &Value, folder: &Path) -> BTreeMap<String, PathBuf> {
        let mut all = BTreeMap::new();
        let namespace = text(&object["metadata"]["namespace"]);
        for volume in list(&object["spec"]["volumes"]) {
            let name = text(&volume["name"]);
            let at = folder.join("volumes").join(name);
            fs::create_dir_all(&at).expect("a folder");
            open(&folder.join("volumes"), 0o755);
            // A kubelet's are for everybody in the pod who mounts them.
            open(&at, 0o777);
            if let Some(map) = volume["configMap"]["name"].as_str() {
                let map = self.cluster.get(&["-n", namespace, "configmap", map]).await;
                for (key, value) in map["data"].as_object().into_iter().flatten() {
                    fs::write(at.join(key), text(value)).expect("a file");
                }
            }
            for source in list(&volume["projected"]["sources"]) {
                let asked = &source["serviceAccountToken"];
                if let Some(path) = asked["path"].as_str() {
                    let token = self.token(object, text(&asked["audience"])).await;
                    fs::write(at.join(path), token).expect("a file");
                }
            }
            all.insert(name.to_owned(), at);
        }
        all
    }

    /// A token of a pod's account, bound to the pod and meant for an audience.
    async fn token(&self, object: &Value, audience: &str) -> String {
        let [namespace, name, uid] = ["namespace", "name", "uid"].map(|of| text(&object["metadata"][of]));
        let account = object["spec"]["serviceAccountName"].as_str().unwrap_or("default");
        let pod = ["--bound-object-kind", "Pod", "--bound-object-name", name, "--bound-object-uid", uid];
        let asked = ["-n", namespace, "create", "token", account];
        // None: for the API server itself.
        let audience = ["--audience", audience];
        let audience = if audience[1].is_empty() { &audience[..0] } else { &audience };
        self.cluster.kubectl(&[&asked[..], &pod[..], audience].concat()).await.trim().to_owned()
    }

    fn start(
        &self,
        running: &Running,
        container: &Value,
        volumes: &BTreeMap<String, PathBuf>,
        folder: &Path,
    ) -> Process {
        let mounted = |said: &str| {
            let mut said = said.to_owned();
            for mount in list(&container["volumeMounts"]) {
                if let Some(at) = volumes.get(text(&mount["name"])) {
                    said = said.replace(text(&mount["mountPath"]), &at.display().to_string());
                }
            }
            said
        };
        let words = |of: &Value| list(of).iter().map(|word| mounted(text(word))).collect::<Vec<_>>();
        let image =
            text(&container["image"]).rsplit('/').next().unwrap_or_default().split(':').next().unwrap_or_default();
        let mut command = words(&container["command"]);
        if command.is_empty() {
            command = match self.images.get(image) {
                Some(program) => program.clone(),
                None => vec![format!("/{image}")],
            };
        }
        command.extend(words(&container["args"]));
        // Our programs stand in the root of their images.
        let ours = command[0].strip_prefix("/weir").map(|rest| binaries().join(format!("weir{rest}")));
        let program = ours.unwrap_or_else(|| command[0].clone().into());
        let security = |field: &str| {
            let own = container["securityContext"][field].as_u64();
            own.or_else(|| running.object["spec"]["securityContext"][field].as_u64()).unwrap_or(0) as u32
        };
        let mut process = match security("runAsUser") {
            0 => running.pod.command(&program),
            user => running.pod.command_as(user, &program),
        };
        process.args(&command[1..]);
        for variable in list(&container["env"]) {
            let value = match variable["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
                Some(path) => field(&running.object, path),
                None => mounted(text(&variable["value"])),
            };
            process.env(text(&variable["name"]), value);
        }
        Process::start(text(&container["name"]), folder, &mut process)
    }

    /// Tells the API server how a pod is.
    pub async fn report(&self, running: &mut Running) {
        let ended = running.ended();
        let phase = match ended {
            None => "Running",
            Some(true) => "Succeeded",
            Some(false) => "Failed",
        };
        let ready = if ended.is_none() && running.is_ready().await { "True" } else { "False" };
        let condition = |kind: &str| json!({ "type": kind, "status": ready });
        let status = json!({ "status": {
            "phase": phase,
            "podIP": running.pod.v4.to_string(),
            "podIPs": [{ "ip": running.pod.v4.to_string() }],
            "conditions": [condition("Ready"), condition("ContainersReady"), { "type": "Initialized", "status": "True" }],
        } });
        self.patch(&running.namespace, &running.name, &status).await;
    }

    async fn patch(&self, namespace: &str, name: &str, status: &Value) {
        let patch = status.to_string();
        self.cluster
            .kubectl(&["-n", namespace, "patch", "pod", name, "--subresource=status", "--type=merge", "-p", &patch])
            .await;
    }
}

impl Running {
    /// Whether all containers with a readiness probe answer it, as a kubelet asks: from the node, in plain text.
    pub async fn is_ready(&self) -> bool {
        let spec = &self.object["spec"];
        for container in list(&spec["initContainers"]).iter().chain(list(&spec["containers"])) {
            if !container["readinessProbe"].is_null() && !answers(&self.pod, container, "readinessProbe").await {
                return false;
            }
        }
        true
    }

    /// Whether all containers have ended, and well. Sidecars do not count, wherever they stand.
    pub fn ended(&mut self) -> Option<bool> {
        let mut all_well = true;
        for (_, process) in &mut self.containers {
            if process.is_running() {
                return None;
            }
            all_well &= process.exit().is_some_and(|status| status.success());
        }
        Some(all_well)
    }

    /// Ends the pod, as a kubelet does: each container after its hook, then the sidecars. Whether all went well.
    pub async fn end(&mut self) -> bool {
        let begun = Instant::now();
        let mut well = true;
        for (name, process) in &mut self.containers {
            let all = list(&self.object["spec"]["containers"]);
            let hook = all.iter().find(|c| c["name"] == name.as_str()).map(|c| &c["lifecycle"]["preStop"]["sleep"]);
            let wait = Duration::from_secs(hook.and_then(|hook| hook["seconds"].as_u64()).unwrap_or(0));
            tokio::time::sleep_until((begun + wait).into()).await;
            process.signal(Signal::SIGTERM);
        }
        for (_, process) in &mut self.containers {
            // An application that does not know the signal ends by it.
            process.ended(Duration::from_secs(30)).await;
        }
        well &= self.end_sidecars().await;
        well
    }

    /// Ends native sidecars, the last first, as a kubelet does when the others have ended: each has as long as it says.
    pub async fn end_sidecars(&mut self) -> bool {
        let mut well = true;
        for sidecar in &mut self.sidecars {
            sidecar.signal(Signal::SIGTERM);
            well &= sidecar.ended(Duration::from_secs(30)).await.success();
        }
        well
    }

    /// What a container has said; for messages.
    pub fn log(&self) -> String {
        let all = self.sidecars.iter().chain(self.containers.iter().map(|(_, process)| process));
        all.map(Process::log).collect::<Vec<_>>().join("\n--\n")
    }
}

/// Until a sidecar's start-up probe answers, as often and as long as it says.
async fn started(pod: &Pod, container: &Value, process: &mut Process) -> Result<(), String> {
    let probe = &container["startupProbe"];
    let times = probe["failureThreshold"].as_u64().unwrap_or(3) * probe["periodSeconds"].as_u64().unwrap_or(10);
    let limit = Instant::now() + Duration::from_secs(times.min(60));
    while !answers(pod, container, "startupProbe").await {
        if !process.is_running() || Instant::now() > limit {
            return Err(format!("{} does not become ready:\n{}", container["name"], process.log()));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// One HTTP probe: any status from 200 to 399 is a yes.
async fn answers(pod: &Pod, container: &Value, which: &str) -> bool {
    let asked = &container[which]["httpGet"];
    let port = match &asked["port"] {
        Value::String(called) => {
            let ports = list(&container["ports"]);
            ports.iter().find(|p| p["name"] == called.as_str()).and_then(|p| p["containerPort"].as_u64())
        }
        number => number.as_u64(),
    };
    let Some(port) = port.and_then(|port| u16::try_from(port).ok()) else { return false };
    let path = asked["path"].as_str().unwrap_or("/");
    let answer = client::get((pod.v4, port).into(), "kubelet", path).await;
    answer.is_ok_and(|answer| (200..400).contains(&answer.status().as_u16()))
}

/// The downward API, as far as it is used.
fn field(object: &Value, path: &str) -> String {
    let labelled = path.strip_prefix("metadata.labels['").and_then(|rest| rest.strip_suffix("']"));
    let found = match labelled {
        Some(label) => &object["metadata"]["labels"][label],
        None => object.pointer(&format!("/{}", path.replace('.', "/"))).unwrap_or(&Value::Null),
    };
    text(found).to_owned()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn open(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("permissions");
}
