//! Round trips, examples, limits, and text that is no document at all.

use crate::{
    model::{GrpcCode, HeaderMutation, LoadBalancing, PathMatch},
    resources::{Document, Kind, Settings, Switch, check_all, load_dir, parse},
};
use proptest::prelude::*;
use std::{path::Path, time::Duration};

fn examples() -> Vec<Document> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut all = vec![];
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|e| e != "yaml") {
            continue;
        }
        let documents = load_dir(&path).unwrap_or_else(|e| panic!("{e:#?}"));
        assert_eq!(check_all(&documents), [], "{}", path.display());
        all.extend(documents);
    }
    all
}

#[test]
fn every_example_is_right_and_every_kind_has_one() {
    let documents = examples();
    for kind in Kind::ALL {
        assert!(documents.iter().any(|d| d.kind() == kind), "{kind}");
    }
}

#[test]
fn documents_survive_yaml_and_json() {
    for document in examples() {
        let yaml = document.to_yaml();
        let again = parse("again", &yaml).unwrap_or_else(|e| panic!("{e:#?}\n{yaml}"));
        assert_eq!(again, std::slice::from_ref(&document));
        assert_eq!(again[0].to_yaml(), yaml);
        assert_eq!(Document::from_json(&document.to_json()).unwrap(), document);
        let text = serde_json::to_string(&document).unwrap();
        let back: Document = serde_json::from_str(&text).unwrap();
        assert!(back.same_content(&document));
    }
}

#[test]
fn texts_that_look_like_something_else_survive_yaml() {
    for text in
        ["yes", "true", "null", "1", "1.5", "0x10", "", " a ", "a: b", "# a", "- a", "a\nb", "~", "1e3", "'", "\"", "é"]
    {
        let document = Document::from_json(&serde_json::json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "a", "annotations": {"text": text}},
            "spec": {"ports": [{"port": 80}]},
        }))
        .unwrap();
        let yaml = document.to_yaml();
        assert_eq!(parse("again", &yaml).unwrap_or_else(|e| panic!("{e:?}\n{yaml}")), [document], "{text:?}\n{yaml}");
    }
}

#[test]
fn a_route_means_what_it_says() {
    let documents = examples();
    let Some(Document::HttpRoute(route)) = documents.iter().find(|d| d.kind() == Kind::HttpRoute) else { panic!() };
    let rule = route.spec.rules.iter().find(|r| r.name == "titles").unwrap();
    assert_eq!(rule.matches[0].path, PathMatch::Exact("/titles".into()));
    assert!(matches!(&rule.filters.request_headers.mutations[0], HeaderMutation::Remove(n) if n == "x-debug"));
    assert_eq!(rule.request_timeout, Some(Switch::On(Duration::from_secs(2))));
    assert_eq!(rule.backends.iter().map(|b| b.weight).collect::<Vec<_>>(), [90, 10]);
    let retry = rule.retry.as_ref().and_then(Switch::as_on).unwrap();
    assert_eq!((retry.attempts, retry.on.statuses.as_slice()), (2, &[500, 502, 503, 504][..]));
    let last = route.spec.rules.last().unwrap();
    assert_eq!(last.matches[0].path, PathMatch::Prefix("/".into()));
}

#[test]
fn a_policy_means_what_it_says_and_inherits_the_rest() {
    let documents = examples();
    let policy = documents.iter().find_map(|d| match d {
        Document::TrafficPolicy(p) if p.metadata.name == "recommendations" => Some(&p.spec.settings),
        _ => None,
    });
    let said = policy.unwrap();
    let retry = said.retry.as_ref().and_then(Switch::as_on).unwrap();
    assert!(retry.on.connect_failure && retry.on.reset && retry.on.gateway_error && !retry.on.server_error);
    assert_eq!(retry.on.grpc, [GrpcCode::UNAVAILABLE]);
    let all = Settings { retry: Some(Switch::Off), ..Settings::default() }.over(said).over(&Settings::built_in());
    assert_eq!(all.retry, Some(Switch::Off));
    assert_eq!(all.limits.max_requests, Some(200));
    assert_eq!(all.load_balancing, Some(LoadBalancing::default()));
    assert_eq!(all.max_connection_age, Some(Switch::On(Duration::from_secs(600))));
}

const ROUTE: &str = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: a}\nspec:\n  rules:\n";

#[test]
fn hostile_text_costs_little() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..30 {
        let uses = vec![format!("*a{}", i - 1); 10].join(", ");
        bomb.push_str(&format!("a{i}: &a{i} [{uses}]\n"));
    }
    let deep_alias: String = std::iter::once("a0: &a0 [x]\n".to_owned())
        .chain((1..5000).map(|i| format!("a{i}: &a{i} [*a{}]\n", i - 1)))
        .collect();
    let long_alias = format!("a: &a {}\nb: [{}]\n", "x".repeat(500_000), "*a,".repeat(90_000));
    let opened: String = (0..60).map(|i| format!("&a{i} [")).collect();
    let nested = format!("{opened}{}{}", "x, ".repeat(50_000), "]".repeat(60));
    let cases = [
        (long_alias, "100,000 values"),
        (nested, "100,000 values"),
        (bomb, "100,000 values"),
        (deep_alias, "deeper than 64"),
        ("[".repeat(100_000), "deeper than 64"),
        (format!("{}a", "- ".repeat(10_000)), ""),
        (format!("a: {}\nb: c\n", "x".repeat(2 << 20)), "larger than 1 MiB"),
        ("a: 1\n---\n".repeat(10_002), ""),
        ("a: 1\n".repeat(50_000), "twice"),
        ((0..6000).map(|i| format!("a{i}: 1\n")).collect(), "more than 5,000 fields"),
        (format!("{ROUTE}{}", "    - {}\n".repeat(90_000)), "are more than 1000"),
        (
            format!("{ROUTE}    - {{{}}}\n", (0..4000).map(|i| format!("a{i}: 1, ")).collect::<String>()),
            "unknown field",
        ),
    ];
    for (text, message) in cases {
        let issues = parse("hostile", &text).unwrap_err();
        assert!(issues.len() <= 1100, "{}", issues.len());
        assert!(issues.iter().any(|i| i.message.contains(message)), "{message}: {:?}", &issues[..issues.len().min(3)]);
    }
}

#[test]
fn an_alias_is_fine_where_it_is_small() {
    let text = "apiVersion: v1\nkind: Service\nmetadata: {name: a, labels: &l {app: web}}\nspec: {selector: *l, ports: [{port: 80}]}";
    let documents = parse("alias", text).unwrap();
    let Document::Service(s) = &documents[0] else { panic!() };
    assert_eq!(s.spec.selector["app"], "web");
}

#[test]
fn a_folder_is_read_in_order_and_without_what_is_hidden() {
    let dir = tempfile::tempdir().unwrap();
    let service = |name: &str| {
        format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{port: 80}}]}}\n")
    };
    std::fs::create_dir(dir.path().join("sub")).unwrap();
    for (file, text) in [("b.yml", service("b")), ("sub/c.yaml", service("c")), ("a.yaml", service("a"))] {
        std::fs::write(dir.path().join(file), text).unwrap();
    }
    std::fs::write(dir.path().join(".hidden.yaml"), "nonsense").unwrap();
    std::fs::write(dir.path().join("README.md"), "nonsense").unwrap();
    std::fs::write(
        dir.path().join("d.json"),
        r#"{"apiVersion":"weir.dev/v1alpha1","kind":"Mesh","metadata":{"name":"m"}}"#,
    )
    .unwrap();
    let names: Vec<_> = load_dir(dir.path()).unwrap().iter().map(|d| d.name().to_owned()).collect();
    assert_eq!(names, ["a", "b", "m", "c"]);
    std::fs::write(dir.path().join("e.yaml"), service("a")).unwrap();
    let issues = load_dir(dir.path()).unwrap_err();
    assert!(issues[0].message.contains("a second time; first in"), "{}", issues[0]);
    assert!(load_dir(&dir.path().join("none")).unwrap_err()[0].to_string().contains("cannot be read"));
}

#[test]
fn ports_that_are_yet_to_be_chosen_do_not_clash() {
    let one = |name: &str, sidecar: &str| {
        format!(
            "apiVersion: weir.dev/v1alpha1\nkind: Workload\nmetadata: {{name: {name}}}\nspec: {{command: [x]{sidecar}}}\n---\n"
        )
    };
    let text = one("a", "") + &one("b", "") + &one("c", ", sidecar: {inboundPort: 0}");
    let documents = parse("up", &text).unwrap();
    assert_eq!(check_all(&documents), []);
    let Document::Workload(c) = &documents[2] else { panic!() };
    assert_eq!(c.spec.sidecar.unwrap().inbound_port, 15006);
}

#[test]
fn json_issues_have_no_line() {
    let value =
        serde_json::json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"prots": []}});
    let issues = Document::from_json(&value).unwrap_err();
    assert!(issues[0].to_string().starts_with("Service default/a spec.ports: "), "{}", issues[0]);
    assert!(issues[1].to_string().ends_with("(did you mean `ports`?)"), "{}", issues[1]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_text_makes_the_reader_panic(text in "(?s).{0,400}") {
        let _ = parse("any", &text);
    }

    /// Examples with a piece taken out, doubled or replaced: near to what people write.
    #[test]
    fn no_damaged_document_makes_the_reader_panic(at in 0_usize..20_000, len in 0_usize..40, put in "[ -~\n\t\u{e9}]{0,20}") {
        let whole = concat!(
            include_str!("../../../examples/routes.yaml"), "---\n",
            include_str!("../../../examples/traffic-policy.yaml"), "---\n",
            include_str!("../../../examples/authorization-policy.yaml"), "---\n",
            include_str!("../../../examples/streaming.yaml"),
        );
        let mut text: Vec<char> = whole.chars().collect();
        let at = at % text.len();
        let end = (at + len).min(text.len());
        text.splice(at..end, put.chars());
        if let Err(issues) = parse("damaged", &text.into_iter().collect::<String>()) {
            for i in issues {
                prop_assert!(i.line > 0, "{}", i);
            }
        }
    }
}
