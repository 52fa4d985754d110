//! `docs/traffic.md` says what is tested and nothing else: each of its sentences names tests that are there.

use std::{fs, path::Path};

/// `module::test` between backticks.
fn named(item: &str) -> Vec<(&str, &str)> {
    item.split('`').skip(1).step_by(2).filter_map(|code| code.split_once("::")).collect()
}

/// The numbered sentences, each with the lines that belong to it; panics on words that belong to none.
fn sentences(page: &str) -> Vec<String> {
    let mut found: Vec<String> = vec![];
    let (mut introduction, mut inside) = (true, false);
    for line in page.lines() {
        let number = line.split_once(". ").and_then(|(n, _)| n.parse::<usize>().ok());
        match number {
            Some(n) => {
                assert_eq!(n, found.len() + 1, "numbers follow each other: {line}");
                found.push(line.into());
                inside = true;
            }
            None if line.starts_with("## ") => (introduction, inside) = (false, false),
            None if line.is_empty() => inside = false,
            None if inside && line.starts_with("   ") => {
                let last = found.last_mut().expect("a sentence");
                last.push('\n');
                last.push_str(line);
            }
            None => assert!(introduction, "a sentence without number and test: {line}"),
        }
    }
    found
}

#[test]
fn every_sentence_names_its_tests() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("../docs/traffic.md")).expect("the page");
    let sentences = sentences(&page);
    assert!(sentences.len() >= 35, "the page has {} sentences", sentences.len());
    for sentence in sentences {
        let tests = named(&sentence);
        assert!(!tests.is_empty(), "no test stands behind: {sentence}");
        for (module, test) in tests {
            let file = root.join("tests/traffic").join(format!("{module}.rs"));
            let source = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
            let is_test = source.contains(&format!("#[tokio::test(flavor = \"multi_thread\")]\nasync fn {test}()"));
            assert!(is_test, "{module}::{test} is no test: {sentence}");
            let main = include_str!("main.rs");
            assert!(main.contains(&format!("mod {module};")), "{module} is not run");
        }
    }
}
