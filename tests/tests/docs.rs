//! What the documentation shows is true: every YAML block is accepted, every `weir` command is one.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use weir_config::resources::{check_all, parse};
use weir_tests::process::binaries;

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn pages() -> Vec<PathBuf> {
    let mut pages = vec![root().join("README.md"), root().join("CONTRIBUTING.md"), root().join("ARCHITECTURE.md")];
    let docs = fs::read_dir(root().join("docs")).into_iter().flatten().flatten().map(|e| e.path());
    pages.extend(docs.filter(|p| p.extension().is_some_and(|e| e == "md")));
    pages
}

/// The fenced blocks of a language, with the page and line they begin at.
fn blocks(language: &str) -> Vec<(String, String)> {
    let mut found = vec![];
    for page in pages() {
        let text = fs::read_to_string(&page).expect("a page");
        let mut block: Option<(usize, String)> = None;
        for (number, line) in text.lines().enumerate() {
            match &mut block {
                None if line.trim() == format!("```{language}") => block = Some((number + 2, String::new())),
                None => {}
                Some((begin, text)) if line.trim() == "```" => {
                    found.push((format!("{}:{begin}", page.display()), std::mem::take(text)));
                    block = None;
                }
                Some((_, text)) => {
                    text.push_str(line);
                    text.push('\n');
                }
            }
        }
    }
    found
}

#[test]
fn every_yaml_block_is_accepted() {
    let blocks = blocks("yaml");
    assert!(!blocks.is_empty(), "the README shows a mesh");
    for (place, text) in blocks {
        let documents = parse(&place, &text).unwrap_or_else(|issues| panic!("{place}: {}", issues[0]));
        let issues = check_all(&documents);
        assert!(issues.is_empty(), "{place}: {}", issues[0]);
    }
}

#[test]
fn every_weir_command_is_one() {
    let mut checked = 0;
    for (place, text) in blocks("sh") {
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or_default();
            for part in line.split("&&").flat_map(|part| part.split('|')).map(str::trim) {
                let part = part.trim_start_matches("./target/release/");
                let Some(arguments) = part.strip_prefix("weir ") else { continue };
                // Every word is checked by clap; `--help` keeps it from being done.
                let words = arguments.split_whitespace().take_while(|w| !w.starts_with('-'));
                let verbs: Vec<&str> = words.take(2).collect();
                let help = Command::new(binaries().join("weir")).arg(verbs[0]).arg("--help").output().expect("weir");
                let text = String::from_utf8_lossy(&help.stdout).into_owned();
                assert!(help.status.success(), "{place}: `{part}`: {}", String::from_utf8_lossy(&help.stderr));
                for flag in arguments.split_whitespace().filter(|w| w.starts_with('-')) {
                    assert!(text.contains(flag), "{place}: `{part}`: {flag} is no flag of it");
                }
                checked += 1;
            }
        }
    }
    assert!(checked >= 4, "the README shows commands");
}

#[test]
fn every_object_of_kubernetes_is_one() {
    let blocks = blocks("kubernetes");
    assert!(!blocks.is_empty(), "docs/kubernetes.md shows a namespace");
    for (place, text) in blocks {
        // What is no pod passes to the letter, and what is no YAML does not pass.
        assert_eq!(injected(&text, None), text, "{place}");
        assert!(text.contains("apiVersion: ") && text.contains("kind: "), "{place}");
    }
}

#[test]
fn every_setting_of_sidecars_is_one() {
    let blocks = blocks("sidecars");
    assert!(!blocks.is_empty(), "docs/kubernetes.md shows settings");
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: a, image: a}]}\n";
    for (place, text) in blocks {
        let with = injected(pod, Some(&text));
        assert!(with.contains("registry.example/weir-proxy:0.1.0") && with.contains("512Mi"), "{place}: {with}");
    }
}

/// What `weir inject` makes of manifests.
fn injected(manifests: &str, settings: Option<&str>) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let (file, with) = (folder.path().join("m.yaml"), folder.path().join("s.yaml"));
    fs::write(&file, manifests).expect("a file");
    let mut command = Command::new(binaries().join("weir"));
    command.args(["inject", "-f"]).arg(&file);
    if let Some(settings) = settings {
        fs::write(&with, settings).expect("a file");
        command.arg("--settings").arg(&with);
    }
    let output = command.output().expect("weir");
    assert!(output.status.success(), "{manifests}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}
