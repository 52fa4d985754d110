//! Real peers: where they are, and what happens when they are not.

use std::{path::PathBuf, process::Command};

/// A program of this machine, or of the folder that `tests/setup` makes. `None`, said loudly, when it is not there;
/// with `WEIR_NO_SKIP` set, a failure.
pub fn find(program: &str) -> Option<PathBuf> {
    let ours = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.weir/peers/bin")).join(program);
    if ours.exists() {
        return Some(ours);
    }
    let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output().ok()?;
    let path = String::from_utf8_lossy(&found.stdout).trim().to_owned();
    if found.status.success() && !path.is_empty() {
        return Some(path.into());
    }
    assert!(std::env::var_os("WEIR_NO_SKIP").is_none(), "{program} is not installed: run tests/setup");
    eprintln!("SKIPPED: {program} is not installed; run tests/setup to have this tested");
    None
}

/// The Python that has gRPC and WebSockets.
pub fn python() -> Option<PathBuf> {
    let ours = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.weir/peers/bin/python"));
    if ours.exists() {
        return Some(ours);
    }
    assert!(std::env::var_os("WEIR_NO_SKIP").is_none(), "the Python peers are not installed: run tests/setup");
    eprintln!("SKIPPED: the Python peers are not installed; run tests/setup to have this tested");
    None
}

/// The same, where it has this module too.
pub fn python_with(module: &str) -> Option<PathBuf> {
    let python = python()?;
    if Command::new(&python).args(["-c", &format!("import {module}")]).output().ok()?.status.success() {
        return Some(python);
    }
    assert!(std::env::var_os("WEIR_NO_SKIP").is_none(), "Python's {module} is not installed: run tests/setup");
    eprintln!("SKIPPED: Python's {module} is not installed; run tests/setup to have this tested");
    None
}
