//! Has the linker lay out the released sidecar as `order.txt` says: see [`weir_proxy`] `given_back`.
//!
//! Only where Rust's own linker (lld) is there, which knows how; elsewhere the program is the same, and takes more memory.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=order.txt");
    let is = |variable, value| env::var(variable).is_ok_and(|v| v == value);
    if !is("PROFILE", "release") || !is("TARGET", "x86_64-unknown-linux-gnu") {
        return;
    }
    let Some(linkers) = linkers() else { return };
    // Where the folder of what is built is shared by several clones, this one may be gone by the next build.
    let Some(order) = env::var_os("OUT_DIR").map(|out| Path::new(&out).join("order.txt")) else { return };
    if fs::copy("order.txt", &order).is_err() {
        return;
    }
    for argument in [
        format!("-B{}", linkers.display()),
        "-fuse-ld=lld".into(),
        format!("-Wl,--symbol-ordering-file={}", order.display()),
        // Names that another compiler gives differently are no news.
        "-Wl,--no-warn-symbol-ordering".into(),
    ] {
        println!("cargo::rustc-link-arg-bin=weir-proxy={argument}");
    }
}

/// The folder with Rust's own linker under the name that the C compiler looks for.
fn linkers() -> Option<PathBuf> {
    let rustc = env::var_os("RUSTC")?;
    let told = Command::new(rustc).args(["--print", "sysroot"]).output().ok()?;
    let sysroot = String::from_utf8(told.stdout).ok()?;
    let folder = Path::new(sysroot.trim()).join("lib/rustlib/x86_64-unknown-linux-gnu/bin/gcc-ld");
    folder.join("ld.lld").exists().then_some(folder)
}
