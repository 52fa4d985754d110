//! Pods in `pods/`, and what becomes of each beside it (`….expected.yaml`): `WEIR_UPDATE=1` writes those anew. What is the
//! same as for the pod `plain` is left out there, so that each file shows what it is about.

mod properties;

use super::{Given, Injection, Namespace, Outcome, Settings, Version, inject, read};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// One of them.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Fixture {
    #[serde(default)]
    given: Circumstances,
    pub(super) pod: Value,
}

/// What it depends on; in a namespace that asks for sidecars, unless it says otherwise.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Circumstances {
    namespace: Place,
    cluster: String,
    settings: Settings,
    asked_for: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Place {
    name: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    annotations: BTreeMap<String, String>,
}

impl Fixture {
    fn namespace(&self) -> Namespace {
        let place = &self.given.namespace;
        let mut labels = place.labels.clone().unwrap_or_default();
        if place.labels.as_ref().is_none_or(|labels| !labels.is_empty()) {
            labels.entry("weir.dev/inject".into()).or_insert("enabled".into());
        }
        let name = place.name.clone().unwrap_or("demo".into());
        Namespace { name, labels, annotations: place.annotations.clone() }
    }

    pub(super) fn outcome_of(&self, pod: &Value) -> Outcome {
        let cluster = if self.given.cluster.is_empty() { Version::OLDEST } else { self.given.cluster.parse().unwrap() };
        inject(&Given {
            pod,
            namespace: &self.namespace(),
            cluster,
            settings: &self.given.settings,
            asked_for: self.given.asked_for,
        })
    }

    pub(super) fn injection(&self) -> Option<Injection> {
        match self.outcome_of(&self.pod) {
            Outcome::Injected(injection) => Some(*injection),
            _ => None,
        }
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/inject/tests/pods")
}

/// All, by name.
pub(super) fn fixtures() -> BTreeMap<String, Fixture> {
    let names = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let names = names.filter_map(|file| file.strip_suffix(".yaml").filter(|n| !n.contains('.')).map(str::to_owned));
    let read = |name: String| {
        let text = fs::read_to_string(folder().join(format!("{name}.yaml"))).unwrap();
        let fixture = serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        (name, fixture)
    };
    names.map(read).collect()
}

#[test]
fn every_pod_becomes_what_stands_beside_it() {
    let fixtures = fixtures();
    assert!(fixtures.len() >= 40, "only {} pods", fixtures.len());
    let plain = fixtures["plain"].injection().expect("a plain pod is injected").pod;
    let update = std::env::var_os("WEIR_UPDATE").is_some();
    let mut wrong = vec![];
    for (name, fixture) in &fixtures {
        let shown = shown(&fixture.outcome_of(&fixture.pod), (name != "plain").then_some(&plain));
        let text = serde_saphyr::to_string(&shown).unwrap();
        let path = folder().join(format!("{name}.expected.yaml"));
        if update {
            fs::write(&path, &text).unwrap();
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        if expected != text {
            wrong.push(format!("{name}: now\n{text}"));
        }
    }
    assert!(wrong.is_empty(), "WEIR_UPDATE=1 writes what is now; look at the difference.\n{}", wrong.join("\n"));
}

fn shown(outcome: &Outcome, plain: Option<&Value>) -> Value {
    match outcome {
        Outcome::Left { reason, detail } => json!({ "left": reason.as_str(), "detail": detail }),
        Outcome::Refused(wrong) => json!({ "refused": wrong }),
        Outcome::Injected(injection) => {
            let mut shown = Map::new();
            if !injection.notes.is_empty() {
                shown.insert("notes".into(), json!(injection.notes));
            }
            let mut pod = injection.pod.clone();
            if let Some(plain) = plain {
                for at in ["/spec/initContainers", "/spec/containers", "/spec/volumes"] {
                    let Some(Value::Array(list)) = pod.pointer_mut(at) else { continue };
                    list.iter_mut().for_each(|item| shorten(item, plain));
                }
            }
            shown.insert("pod".into(), pod);
            Value::Object(shown)
        }
    }
}

/// What is ours, without what is as in the plain pod.
fn shorten(item: &mut Value, plain: &Value) {
    let own = read::name(item).to_owned();
    let lists = ["/spec/initContainers", "/spec/volumes"];
    let standard = lists.iter().flat_map(|at| read::list(plain, at)).find(|s| read::name(s) == own);
    let Some(standard) = standard.filter(|_| own.starts_with("weir-")) else { return };
    let mut differs = match difference(&by_name(standard), &by_name(item)) {
        Some(Value::Object(map)) => map,
        _ => Map::new(),
    };
    differs.insert("name".into(), json!(format!("{own} (else as plain)")));
    *item = Value::Object(differs);
}

/// Lists of named things as maps: differences are by name.
fn by_name(value: &Value) -> Value {
    match value {
        Value::Array(list) if !list.is_empty() && list.iter().all(|item| !read::name(item).is_empty()) => {
            let named = list.iter().map(|item| {
                let mut rest = item.clone();
                if let Value::Object(map) = &mut rest {
                    map.remove("name");
                }
                (read::name(item).to_owned(), by_name(&rest))
            });
            Value::Object(named.collect())
        }
        Value::Object(map) => Value::Object(map.iter().map(|(key, value)| (key.clone(), by_name(value))).collect()),
        other => other.clone(),
    }
}

/// What is other in `now`; what is gone is `null`.
fn difference(before: &Value, now: &Value) -> Option<Value> {
    let (Value::Object(was), Value::Object(is)) = (before, now) else {
        return (before != now).then(|| now.clone());
    };
    let mut differs = Map::new();
    for (key, value) in is {
        match was.get(key) {
            None => drop(differs.insert(key.clone(), value.clone())),
            Some(before) => {
                if let Some(other) = difference(before, value) {
                    differs.insert(key.clone(), other);
                }
            }
        }
    }
    let gone = was.keys().filter(|key| !is.contains_key(*key));
    gone.for_each(|key| drop(differs.insert(key.clone(), Value::Null)));
    (!differs.is_empty()).then_some(Value::Object(differs))
}
