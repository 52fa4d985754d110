//! Keeps the floors of the house: imports point down and never in a circle, stages do not know each other, the two
//! binaries do not know each other, and a few rules of style that a reader relies on. It reads the source.

mod rules;
mod source;

use rules::Broken;
use source::File;
use std::path::{Path, PathBuf};

/// From the roof to the ground. A module imports only from floors below its own.
const PROXY: &[&[&str]] = &[
    &["app"],
    &["admin", "options"],
    &["data", "dns"],
    &["listen"],
    &["stack"],
    &["policy"],
    &["request"],
    &["record"],
    &["reply", "connection"],
    &["state"],
    &["upstream", "xds"],
    &["stage", "takeover"],
    &["body"],
    &["http1", "http2"],
    &["identity", "tunnel", "io"],
    &["tls"],
    &["telemetry", "logic"],
    &["error", "drain", "disk", "alarm", "turns", "given_back", "handover", "capture", "resolve"],
    &["sys", "descriptors"],
];

const CONTROL_PLANE: &[&[&str]] = &[
    &["cli"],
    &["up"],
    &["app"],
    &["webhook"],
    &["client", "folder", "serve", "status"],
    &["failure"],
    &["api"],
    &["xds"],
    &["fleet", "tls"],
    &["machine", "ca"],
    &["compile"],
    &["index"],
    &["store"],
    &["kubernetes", "inject"],
    &["metrics", "duration", "leader"],
    &["crd", "causes"],
];

const CONFIG: &[&[&str]] = &[&["bootstrap", "resources", "xds"], &["model"]];

const CRATES: [&str; 6] = ["config", "proxy", "control-plane", "demo-services", "tests", "benches"];

#[test]
fn imports_of_the_proxy_point_down() {
    let files = files("proxy");
    hold(rules::point_down(&files, PROXY));
    hold(rules::no_circles(&files));
}

#[test]
fn imports_of_the_control_plane_point_down() {
    let files = files("control-plane");
    hold(rules::point_down(&files, CONTROL_PLANE));
    hold(rules::no_circles(&files));
}

#[test]
fn the_vocabulary_stands_on_the_ground() {
    hold(rules::point_down(&files("config"), CONFIG));
}

#[test]
fn stages_do_not_know_each_other() {
    hold(rules::strangers(&files("proxy"), "policy"));
}

#[test]
fn the_binaries_do_not_know_each_other_and_config_knows_neither() {
    let manifest = |name: &str| std::fs::read_to_string(root().join(name).join("Cargo.toml")).unwrap();
    for (name, other) in [
        ("proxy", "weir-control-plane"),
        ("control-plane", "weir-proxy"),
        ("config", "weir-proxy"),
        ("config", "weir-control-plane"),
    ] {
        hold(rules::does_not_depend(&manifest(name), other));
    }
}

#[test]
fn every_file_says_what_it_is_for_and_no_function_is_long() {
    for name in CRATES {
        let files = files(name);
        hold(rules::heads(&files));
        hold(rules::short_functions(&files, 100));
    }
}

#[test]
fn unsafe_code_is_in_one_file_at_most() {
    let saying: Broken = CRATES.iter().flat_map(|name| rules::says(&files(name), "unsafe", |_| false)).collect();
    assert!(saying.len() <= 1, "{saying:#?}");
}

#[test]
fn envoy_s_protobufs_are_seen_in_one_room_only() {
    for name in CRATES {
        let room = |file: &File| name == "config" && file.path.starts_with("src/xds");
        hold(rules::says(&files(name), "envoy_types", room));
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn files(crate_name: &str) -> Vec<File> {
    let files = source::read(&root().join(crate_name)).unwrap();
    assert!(!files.is_empty(), "{crate_name} has no source");
    files
}

fn hold(broken: Broken) {
    assert!(broken.is_empty(), "{broken:#?}");
}

/// The rules themselves, on small houses that break them.
mod the_rules {
    use super::*;

    fn house(files: &[(&str, &str)]) -> Vec<File> {
        files.iter().map(|(path, text)| File::new(*path, *text)).collect()
    }

    #[test]
    fn an_import_that_points_up_is_found_however_it_is_written() {
        for text in [
            "use crate::roof;",
            "use crate::{\n    error::{Error, Kind},\n    roof::{self, Tile},\n};",
            "use {std::fmt, crate::roof::Tile};",
            "use super::super::roof::Tile;",
            "fn f() { crate::roof::call::<u8>(1) }",
            "const T: &[char] = &['\"', '\\'', '{']; fn g<'a>(x: &'a str) -> crate::roof::Tile<'a> {}",
        ] {
            let files = house(&[("src/roof.rs", ""), ("src/cellar/deep.rs", text), ("src/error.rs", "")]);
            let broken = rules::point_down(&files, &[&["roof"], &["cellar"], &["error"]]);
            assert_eq!(broken, ["src/cellar/deep.rs: `cellar` imports `roof`, which is not below it"], "{text}");
        }
    }

    #[test]
    fn what_is_no_import_is_not_taken_for_one() {
        for text in [
            "//! crate::roof\nuse crate::error::Error;",
            "/* use crate::roof; /* nested */ */",
            "const A: &str = \"use crate::roof; \\\" crate::roof\"; const B: &str = r#\"\"crate::roof\"#;",
            "pub(crate) fn roof() {}",
            "use super::deep2::roof; use std::roof;",
            "#[cfg(test)]\nmod tests {\n    use crate::roof;\n    fn f() { if true {} }\n}\n",
            "#[cfg(test)]\nuse crate::roof;\nfn f() {}",
        ] {
            let files = house(&[("src/roof.rs", ""), ("src/cellar/deep.rs", text), ("src/error.rs", "")]);
            hold(rules::point_down(&files, &[&["roof"], &["cellar"], &["error"]]));
        }
    }

    #[test]
    fn neighbours_and_modules_without_a_floor_are_found() {
        let files = house(&[("src/a.rs", "use crate::b;"), ("src/b.rs", ""), ("src/new/mod.rs", "")]);
        let broken = rules::point_down(&files, &[&["a", "b"]]);
        assert_eq!(broken.len(), 2, "{broken:?}");
    }

    #[test]
    fn circles_are_found() {
        let files = house(&[
            ("src/a.rs", "use crate::b::X;"),
            ("src/b/mod.rs", "use crate::c;"),
            ("src/c.rs", "use crate::a;"),
        ]);
        assert_eq!(rules::no_circles(&files).len(), 3);
        hold(rules::no_circles(&files[..2]));
    }

    #[test]
    fn siblings_that_know_each_other_are_found() {
        let shared = ("src/policy/mod.rs", "use self::retry::Retry; pub struct Shared;");
        for text in ["use super::route::R;", "use crate::policy::route::R;", "use crate::{policy::{Shared, route}};"] {
            let files = house(&[shared, ("src/policy/retry.rs", text), ("src/policy/route.rs", "use super::Shared;")]);
            assert_eq!(rules::strangers(&files, "policy").len(), 1, "{text}");
        }
    }

    #[test]
    fn long_functions_missing_heads_and_forbidden_words_are_found() {
        let long = format!("fn long() {{\n{}}}\nfn short();\n", "    let _ = \"}\";\n".repeat(100));
        let files = house(&[("src/a.rs", &long), ("src/b.rs", "//! B.\nfn f(g: fn(u8)) {}\nunsafe fn h() {}")]);
        assert_eq!(rules::short_functions(&files, 100), ["src/a.rs:1: `long` has 102 lines"]);
        assert_eq!(rules::heads(&files).len(), 1);
        assert_eq!(rules::says(&files, "unsafe", |_| false).len(), 1);
        assert!(rules::says(&house(&[("a.rs", "#![deny(unsafe_code)] // unsafe")]), "unsafe", |_| false).is_empty());
        assert_eq!(rules::does_not_depend("[dependencies]\nweir-proxy.workspace = true", "weir-proxy").len(), 1);
    }

    #[test]
    fn modules_declared_for_tests_alone_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("src/a")).unwrap();
        let write = |path: &str, text: &str| std::fs::write(folder.path().join("src").join(path), text).unwrap();
        write("a/mod.rs", "//! A.\n#[cfg(test)]\nmod simulation;\nmod real;\n");
        write("a/simulation.rs", "use crate::b;");
        write("a/real.rs", "use crate::b;");
        write("b.rs", "");
        let files = source::read(folder.path()).unwrap();
        let broken = rules::point_down(&files, &[&["b"], &["a"]]);
        assert_eq!(broken, ["src/a/real.rs: `a` imports `b`, which is not below it"]);
    }
}
