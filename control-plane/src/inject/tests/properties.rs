//! What holds for every pod, those of the fixtures and random ones.

use super::{super::uninject, Fixture, Injection, Outcome, Value, fixtures};
use crate::inject::Reason;
use proptest::prelude::*;
use serde_json::{Map, json};

/// JSON Patch (RFC 6902), as far as `add` goes: a reading of its own, not that of the code which writes it.
fn apply(mut document: Value, patch: &Value) -> Value {
    for operation in patch.as_array().unwrap() {
        assert_eq!(operation["op"], "add");
        let path = operation["path"].as_str().unwrap();
        let mut parts: Vec<String> =
            path.split('/').skip(1).map(|part| part.replace("~1", "/").replace("~0", "~")).collect();
        let last = parts.pop().unwrap();
        let mut at = &mut document;
        for part in parts {
            at = match at {
                Value::Array(list) => &mut list[part.parse::<usize>().unwrap()],
                Value::Object(map) => map.get_mut(&part).unwrap_or_else(|| panic!("{path} leads nowhere")),
                _ => panic!("{path} leads nowhere"),
            };
        }
        match at {
            Value::Array(list) => list.insert(last.parse().unwrap(), operation["value"].clone()),
            Value::Object(map) => drop(map.insert(last, operation["value"].clone())),
            _ => panic!("{path} leads nowhere"),
        }
    }
    document
}

/// Without what is `null`, or what is left of it: `null` is nothing.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.clone(), without_nulls(v))).collect(),
        ),
        Value::Array(list) => Value::Array(list.iter().map(without_nulls).collect()),
        other => other.clone(),
    }
}

/// Whether all that was there is there still, in the same order, wherever more was added.
fn holds(before: &Value, after: &Value) -> bool {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => before
            .iter()
            // The command of a job that is waited for has words before it.
            .filter(|(_, value)| !value.is_null())
            .all(|(key, value)| after.get(key).is_some_and(|now| holds(value, now))),
        (Value::Array(before), Value::Array(after)) => {
            let mut rest = after.iter();
            before.iter().all(|item| rest.any(|now| holds(item, now)))
        }
        (before, after) => before == after,
    }
}

fn check(fixture: &Fixture, injection: &Injection) {
    let pod = &fixture.pod;
    assert_eq!(apply(pod.clone(), &injection.patch), injection.pod, "the patch makes another pod");
    assert!(holds(pod, &injection.pod), "something of the pod was lost:\n{pod:#}\n{:#}", injection.pod);
    match fixture.outcome_of(&injection.pod) {
        Outcome::Left { reason: Reason::AlreadyInjected, .. } => {}
        other => panic!("injected twice: {other:?}"),
    }
    let mut back = injection.pod.clone();
    assert!(uninject(&mut back).unwrap());
    assert_eq!(without_nulls(&back), without_nulls(pod), "taken away, something else is left");
    assert!(!uninject(&mut back).unwrap(), "nothing is left to be taken away");
}

#[test]
fn of_every_pod_in_the_folder() {
    let mut injected = 0;
    for (name, fixture) in fixtures() {
        let Some(injection) = fixture.injection() else { continue };
        println!("{name}");
        check(&fixture, &injection);
        injected += 1;
    }
    assert!(injected >= 25, "only {injected}");
}

#[test]
fn a_status_that_is_not_ours_is_named() {
    let mut pod = json!({ "metadata": { "annotations": { "weir.dev/injected": "yes" } } });
    assert!(uninject(&mut pod).unwrap_err().contains("weir.dev/injected"));
}

fn object(parts: Vec<(&'static str, Option<Value>)>) -> Value {
    Value::Object(parts.into_iter().filter_map(|(key, value)| Some((key.into(), value?))).collect::<Map<_, _>>())
}

fn maybe(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Option<Value>> {
    prop_oneof![Just(None), value.prop_map(Some)]
}

fn container() -> impl Strategy<Value = Value> {
    let probe = prop_oneof![
        Just(json!({ "httpGet": { "path": "/a?b", "port": 80 } })),
        Just(json!({ "httpGet": { "port": "http", "scheme": "HTTPS" } })),
        Just(json!({ "tcpSocket": { "port": 1 } })),
        Just(json!({ "grpc": { "port": 70000 } })),
        Just(json!({ "httpGet": "what" })),
    ];
    (
        maybe(Just(json!(["run", "it"]))),
        maybe(Just(json!([]))),
        maybe(Just(json!([{ "name": "data", "mountPath": "/data" }]))),
        maybe(probe),
        maybe(Just(json!({ "runAsUser": 5 }))),
    )
        .prop_map(|(command, env, mounts, probe, security)| {
            object(vec![
                ("command", command),
                ("env", env),
                ("volumeMounts", mounts),
                ("livenessProbe", probe),
                ("securityContext", security),
                ("fieldOfTomorrow", Some(json!({ "x": [null, 1] }))),
            ])
        })
}

fn containers(prefix: &'static str, least: usize) -> impl Strategy<Value = Value> {
    proptest::collection::vec(container(), least..3).prop_map(move |mut all| {
        // Their names differ.
        all.iter_mut().enumerate().for_each(|(n, c)| c["name"] = json!(format!("{prefix}{n}")));
        Value::Array(all)
    })
}

fn fixture() -> impl Strategy<Value = Fixture> {
    let capture = prop_oneof![Just("transparent"), Just("explicit")];
    let annotations = (capture, any::<bool>()).prop_map(|(capture, native)| {
        let native = if native { "enabled" } else { "disabled" };
        json!({ "config.weir.dev/capture": capture, "config.weir.dev/native-sidecar": native, "a~/b": "c" })
    });
    let pod = (
        maybe(annotations),
        maybe(Just(json!({}))),
        containers("c", 1),
        maybe(containers("i", 0)),
        maybe(Just(json!([{ "name": "data", "emptyDir": {} }]))),
        maybe(prop_oneof![Just(json!("Never")), Just(json!("Always"))]),
    )
        .prop_map(|(annotations, labels, containers, first, volumes, restart)| {
            json!({
                "metadata": object(vec![("annotations", annotations), ("labels", labels)]),
                "spec": object(vec![
                    ("containers", Some(containers)),
                    ("initContainers", first),
                    ("volumes", volumes),
                    ("restartPolicy", restart),
                ]),
            })
        });
    pod.prop_map(|pod| Fixture { given: super::Circumstances::default(), pod })
}

proptest! {
    #[test]
    fn of_random_pods(fixture in fixture()) {
        if let Some(injection) = fixture.injection() {
            check(&fixture, &injection);
        }
    }
}
