//! The images as `config/images/build` makes them: the same bytes each time, no shell, nothing but what the program needs; and
//! started by a container runtime as the manifests say: as nobody in particular, without rights, on a root that is read only.

use serde_json::{Value, json};
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use weir_tests::{
    eventually, free_port,
    mesh::{Mesh, service, workload},
    peers,
    pods::Network,
    process::{Process, binaries},
};

fn run(command: &mut Command) -> String {
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// An image, unpacked.
struct Image {
    name: &'static str,
    config: Value,
    root: PathBuf,
}

impl Image {
    /// Builds it twice, and unpacks it.
    fn new(name: &'static str, folder: &Path) -> Self {
        let folder = folder.join(format!("image-{name}"));
        let [one, two] = ["1", "2"].map(|out| build(name, &folder.join(out)));
        assert!(fs::read(&one).unwrap() == fs::read(two).unwrap(), "{name}: other bytes of the same files");
        let (layout, root) = (folder.join("layout"), folder.join("root"));
        fs::create_dir_all(&layout).unwrap();
        fs::create_dir_all(&root).unwrap();
        run(Command::new("tar").arg("-xf").arg(&one).arg("-C").arg(&layout));
        let json = |path: &Path| serde_json::from_slice::<Value>(&fs::read(path).unwrap()).unwrap();
        let blob = |digest: &Value| layout.join("blobs").join(digest.as_str().unwrap().replace(':', "/"));
        let index = json(&layout.join("index.json"));
        let called = &index["manifests"][0]["annotations"]["io.containerd.image.name"];
        assert_eq!(*called, format!("local.example/w/{name}:t"));
        let manifest = json(&blob(&index["manifests"][0]["digest"]));
        let config = json(&blob(&manifest["config"]["digest"]))["config"].take();
        assert_eq!(config["Entrypoint"][0], format!("/{name}"));
        run(Command::new("tar").arg("-xzf").arg(blob(&manifest["layers"][0]["digest"])).arg("-C").arg(&root));
        for shell in ["bin/sh", "usr/bin/sh", "bin/bash", "bin/busybox"] {
            assert!(!root.join(shell).exists(), "{name} has {shell}");
        }
        Self { name, config, root }
    }

    /// Starts it as a container of a pod is started: what it may write is memory at `state`; `given` is mounted read only.
    fn start(self, folder: &Path, arguments: &[String], state: &str, given: &[(&Path, &str)]) -> Container {
        let user = self.config["User"].as_str().and_then(|user| user.split_once(':')).expect("user and group");
        let [uid, gid] = [user.0, user.1].map(|id| id.parse::<u32>().expect("a number"));
        let mount = |at: &str, kind: &str, source: &str, options: &[&str]| json!({ "destination": at, "type": kind, "source": source, "options": options });
        let own = [format!("uid={uid}"), format!("gid={gid}")];
        let mut mounts = vec![
            mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
            mount("/dev", "tmpfs", "tmpfs", &["nosuid", "mode=755", "size=64k"]),
            mount(state, "tmpfs", "tmpfs", &["nosuid", "nodev", "noexec", "mode=700", "size=16m", &own[0], &own[1]]),
        ];
        for (file, at) in given {
            mounts.push(mount(at, "bind", file.to_str().unwrap(), &["bind", "ro", "nosuid", "nodev", "noexec"]));
        }
        let mut words = self.config["Entrypoint"].as_array().expect("a program").clone();
        words.extend(arguments.iter().map(|word| json!(word)));
        let none = json!([]);
        let spec = json!({
            "ociVersion": "1.0.2",
            "root": { "path": self.root, "readonly": true },
            "mounts": mounts,
            "process": {
                "user": { "uid": uid, "gid": gid }, "args": words, "env": self.config["Env"], "cwd": "/",
                "noNewPrivileges": true,
                "capabilities": { "bounding": none, "effective": none, "permitted": none, "ambient": none },
            },
            // The network is the test's.
            "linux": { "namespaces": (["pid", "mount", "ipc", "uts"].map(|kind| json!({ "type": kind }))) },
        });
        let bundle = folder.join(format!("bundle-{}", self.name));
        fs::create_dir_all(&bundle).unwrap();
        fs::write(bundle.join("config.json"), spec.to_string()).unwrap();
        let state = folder.join("crun");
        let id = format!("weir-tests-{}-{}", std::process::id(), self.name);
        let mut command = crun(&state);
        command.args(["run", "--bundle"]).arg(&bundle).arg(&id);
        Container { process: Process::start(self.name, folder, &mut command), id, state }
    }
}

/// The runtime. Machines that have both generations of cgroups it does not like, so it sees one; nothing is limited here.
fn crun(state: &Path) -> Command {
    let mut command = Command::new("unshare");
    let script = "mount -t cgroup2 none /sys/fs/cgroup && exec crun --cgroup-manager=disabled \"$@\"";
    command.args(["--mount", "sh", "-c", script, "crun", "--root"]).arg(state);
    command
}

/// A container that runs; it ends with this.
struct Container {
    process: Process,
    id: String,
    state: PathBuf,
}

impl Container {
    /// Until it says that it is ready.
    async fn ready(&mut self, at: SocketAddr) {
        self.process.ready(at, Duration::from_secs(30)).await;
    }

    /// It is whom the manifests say, has no right, and cannot write where it stands.
    fn is_held(&self, user: u32) {
        let told: Value = serde_json::from_str(&run(crun(&self.state).args(["state", &self.id]))).expect("JSON");
        let of = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", told["pid"])).expect("its process");
        let status = of("status");
        let field = |name: &str| status.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_default().trim();
        let uid = user.to_string();
        assert!(field("Uid:").split_whitespace().all(|id| id == uid), "{status}");
        for (right, none) in [("CapEff:", "0000000000000000"), ("CapBnd:", "0000000000000000"), ("NoNewPrivs:", "1")] {
            assert_eq!(field(right), none, "{right}");
        }
        let mounts = of("mountinfo");
        let root = mounts.lines().find(|l| l.split(' ').nth(4) == Some("/")).expect("a root");
        assert!(root.split(' ').nth(5).is_some_and(|options| options.split(',').any(|o| o == "ro")), "{root}");
    }

    /// Told to end, it ends, and well.
    async fn ends(&mut self) {
        self.process.signal(nix::sys::signal::Signal::SIGTERM);
        let status = self.process.ended(Duration::from_secs(30)).await;
        assert!(status.success(), "{}: {status}\n{}", self.id, self.process.log());
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // The runtime's process is not the container's.
        crun(&self.state).args(["delete", "--force", &self.id]).output().ok();
    }
}

/// Builds an image, and gives its archive.
fn build(name: &str, out: &Path) -> PathBuf {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/images/build");
    let said = run(Command::new(script)
        .args(["--only", name, "--tag", "t", "--registry", "local.example/w"])
        .arg("--binaries")
        .arg(binaries())
        .arg("--out")
        .arg(out));
    assert!(said.starts_with(&format!("local.example/w/{name}:t sha256:")), "{said}");
    out.join(format!("{name}.tar"))
}

#[tokio::test]
async fn the_image_of_weir_init_has_what_it_needs_and_nothing_else() {
    for program in ["ldd", "chroot", "gzip"] {
        let Some(_) = peers::find(program) else { return };
    }
    let Some(mut network) = Network::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    let image = Image::new("weir-init", folder.path());
    // As a container runtime starts it: this root, this environment, and the one device that every container has.
    fs::create_dir(image.root.join("dev")).unwrap();
    run(Command::new("mknod").args(["-m", "666"]).arg(image.root.join("dev/null")).args(["c", "1", "3"]));
    let pod = network.pod("a", folder.path());
    let mut command = pod.command("env");
    command
        .args(["-i", image.config["Env"][0].as_str().unwrap(), "/usr/sbin/chroot"])
        .arg(&image.root)
        .arg("/weir-init");
    assert_eq!(run(&mut command), "captured: IPv4, IPv6\n");
}

#[tokio::test]
async fn control_plane_and_sidecar_run_from_their_images_as_nobody_on_a_root_that_is_read_only() {
    for program in ["ldd", "gzip", "crun"] {
        let Some(_) = peers::find(program) else { return };
    }
    let Some(_network) = Network::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mesh = Mesh::stopped([127, 0, 0, 1].into());
    let arguments =
        [("api", mesh.api), ("xds", mesh.xds), ("metrics", mesh.metrics)].map(|(name, at)| format!("--{name}={at}"));
    let arguments = [&arguments[..], &["--data=/data".to_owned(), "--name=control-plane.example".to_owned()]].concat();
    let image = Image::new("weir-control-plane", folder.path());
    let mut control_plane = image.start(folder.path(), &arguments, "/data", &[]);
    control_plane.ready(mesh.metrics).await;
    control_plane.is_held(1338);
    let sidecar = mesh.sidecar_stopped("web-1", "web", free_port(), &[]);
    mesh.apply(&[service("web", 8080, "http"), workload("web-1", "web", 9, sidecar.inbound.port())].concat()).await;
    let roots = mesh.roots().await;
    let token = folder.path().join("token");
    fs::write(&token, mesh.token("web").await).unwrap();
    // A node gives each container the names that it knows; this one is looked up by the image's own library.
    let hosts = folder.path().join("hosts");
    fs::write(&hosts, "127.0.0.1 control-plane.example\n").unwrap();
    let addresses = [
        ("outbound", sidecar.outbound),
        ("inbound", sidecar.inbound),
        ("metrics", sidecar.metrics),
        ("health", sidecar.health),
        ("admin", sidecar.admin),
    ];
    let mut arguments = addresses.map(|(name, at)| format!("--{name}={at}")).to_vec();
    arguments.extend([
        format!("--control-plane=control-plane.example:{}", mesh.xds.port()),
        "--control-plane-roots=/roots.pem".into(),
        "--token-file=/token".into(),
        "--state-directory=/var/lib/weir".into(),
        "--workload=web-1".into(),
        "--namespace=default".into(),
        "--service-account=web".into(),
    ]);
    let given = [(&*roots, "/roots.pem"), (&*token, "/token"), (&*hosts, "/etc/hosts")];
    let image = Image::new("weir-proxy", folder.path());
    let mut sidecar_container = image.start(folder.path(), &arguments, "/var/lib/weir", &given);
    // Ready: configured, certified, listening.
    sidecar_container.ready(sidecar.health).await;
    sidecar_container.is_held(1337);
    eventually("the control plane knows it", 30, async || {
        mesh.page("/api/v1/proxies").await.to_string().contains("default/web-1").then_some(())
    })
    .await;
    sidecar_container.ends().await;
    control_plane.ends().await;
}
