//! The image of `weir-init` as `config/images/build` makes it: the same bytes each time, no shell in it, and all that it needs to
//! capture a pod's traffic.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use weir_tests::{peers, pods::Network, process::binaries};

fn run(command: &mut Command) -> String {
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Builds it, and gives its archive.
fn build(out: &Path) -> PathBuf {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/images/build");
    let said = run(Command::new(script)
        .args(["--only", "weir-init", "--tag", "t", "--registry", "local.example/w"])
        .arg("--binaries")
        .arg(binaries())
        .arg("--out")
        .arg(out));
    assert!(said.starts_with("local.example/w/weir-init:t sha256:"), "{said}");
    out.join("weir-init.tar")
}

#[tokio::test]
async fn the_image_of_weir_init_has_what_it_needs_and_nothing_else() {
    for program in ["ldd", "chroot", "gzip"] {
        let Some(_) = peers::find(program) else { return };
    }
    let Some(mut network) = Network::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (build(&folder.path().join("1")), build(&folder.path().join("2")));
    assert_eq!(fs::read(&one).unwrap(), fs::read(two).unwrap(), "other bytes of the same files");
    let layout = folder.path().join("layout");
    let root = folder.path().join("root");
    fs::create_dir_all(&layout).unwrap();
    fs::create_dir_all(&root).unwrap();
    run(Command::new("tar").arg("-xf").arg(&one).arg("-C").arg(&layout));
    let json = |path: &Path| serde_json::from_slice::<serde_json::Value>(&fs::read(path).unwrap()).unwrap();
    let blob = |digest: &serde_json::Value| layout.join("blobs").join(digest.as_str().unwrap().replace(':', "/"));
    let index = json(&layout.join("index.json"));
    assert_eq!(index["manifests"][0]["annotations"]["io.containerd.image.name"], "local.example/w/weir-init:t");
    let manifest = json(&blob(&index["manifests"][0]["digest"]));
    let config = json(&blob(&manifest["config"]["digest"]));
    assert_eq!(config["config"]["Entrypoint"][0], "/weir-init");
    run(Command::new("tar").arg("-xzf").arg(blob(&manifest["layers"][0]["digest"])).arg("-C").arg(&root));
    for shell in ["bin/sh", "usr/bin/sh", "bin/bash"] {
        assert!(!root.join(shell).exists());
    }
    // As a container runtime starts it: this root, this environment, and the one device that every container has.
    fs::create_dir(root.join("dev")).unwrap();
    run(Command::new("mknod").args(["-m", "666"]).arg(root.join("dev/null")).args(["c", "1", "3"]));
    let pod = network.pod("a", folder.path());
    let mut command = pod.command("env");
    command.args(["-i", config["config"]["Env"][0].as_str().unwrap(), "/usr/sbin/chroot"]).arg(&root).arg("/weir-init");
    assert_eq!(run(&mut command), "captured: IPv4, IPv6\n");
}
