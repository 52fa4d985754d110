//! `weir inject -f`, `weir uninject -f`: sidecars into manifests, and out again, by the function that the webhook uses.
//! Manifests go to standard output, what was done and what was not, and why, to standard error.

use super::{
    Context,
    failure::Failure,
    input::{self, Source},
};
use crate::inject::{self, Given, Namespace, Outcome, Settings, Template, Version, templates};
use clap::Args;
use serde_json::Value;
use std::{collections::BTreeMap, path::PathBuf};

/// See the module.
#[derive(Debug, Args)]
pub(super) struct Inject {
    /// A file, a folder of .yaml files, or - for standard input. Can be given several times.
    #[arg(short, long = "file", required = true, value_name = "FILE")]
    file: Vec<PathBuf>,
    /// A YAML file with the mesh's settings for sidecars (images, addresses, resources).
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// The version of Kubernetes that it will run on.
    #[arg(long, value_name = "VERSION", default_value_t = Version::OLDEST)]
    kubernetes: Version,
    /// The namespace of manifests that name none.
    #[arg(long, value_name = "NAME", default_value = "default")]
    namespace: String,
    /// Only pods for which their namespace or they themselves ask (label weir.dev/inject: enabled), as the webhook does.
    #[arg(long)]
    labelled_only: bool,
}

/// See the module.
#[derive(Debug, Args)]
pub(super) struct Uninject {
    /// A file, a folder of .yaml files, or - for standard input. Can be given several times.
    #[arg(short, long = "file", required = true, value_name = "FILE")]
    file: Vec<PathBuf>,
}

impl Inject {
    pub(super) fn run(self, context: &mut Context<'_>) -> Result<(), Failure> {
        let load = |path: PathBuf| {
            Settings::load(&path).map_err(|e| Failure::failed(e, "write settings as docs/kubernetes.md shows them"))
        };
        let settings = self.settings.clone().map(load).transpose()?.unwrap_or_default();
        let mut documents = read(&self.file)?;
        let namespaces = namespaces(&documents);
        let mut refused = 0;
        for document in &mut documents {
            let found = document.value.as_ref().map(templates).unwrap_or_default();
            for template in found {
                let said = self.one(document, &template, &namespaces, &settings, &mut refused);
                eprintln!("{}: {}: {said}", document.source, template.name);
            }
        }
        if refused > 0 {
            let pods = if refused == 1 { "1 pod asks".into() } else { format!("{refused} pods ask") };
            return Err(Failure::failed(format!("{pods} for what cannot be; nothing was written"), "see above"));
        }
        write(context, &documents)
    }

    /// What was done, in words.
    fn one(
        &self,
        document: &mut Document,
        template: &Template,
        namespaces: &BTreeMap<String, Namespace>,
        settings: &Settings,
        refused: &mut usize,
    ) -> String {
        let Some(pod) = document.value.as_ref().and_then(|value| value.pointer(&template.at)) else {
            return "it is gone".into();
        };
        let name = template.namespace.clone().unwrap_or_else(|| self.namespace.clone());
        let unknown = Namespace { name: name.clone(), ..Namespace::default() };
        let namespace = namespaces.get(&name).unwrap_or(&unknown);
        let asked_for = !self.labelled_only;
        let given = Given { pod, namespace, cluster: self.kubernetes, settings, asked_for };
        match inject::inject(&given) {
            Outcome::Injected(injection) => {
                document.replace(&template.at, injection.pod);
                let notes = injection.notes.iter().map(|note| format!("\n  note: {note}"));
                format!("injected{}", notes.collect::<String>())
            }
            Outcome::Left { reason, detail } => format!("left as it is ({reason}): {detail}"),
            Outcome::Refused(wrong) => {
                *refused += 1;
                format!("refused:{}", wrong.iter().map(|w| format!("\n  {w}")).collect::<String>())
            }
        }
    }
}

impl Uninject {
    pub(super) fn run(self, context: &mut Context<'_>) -> Result<(), Failure> {
        let mut documents = read(&self.file)?;
        for document in &mut documents {
            let found = document.value.as_ref().map(templates).unwrap_or_default();
            for template in found {
                let pod = document.value.as_ref().and_then(|value| value.pointer(&template.at));
                let Some(mut pod) = pod.cloned() else { continue };
                let place = format!("{}: {}", document.source, template.name);
                match inject::uninject(&mut pod) {
                    Ok(true) => {
                        document.replace(&template.at, pod);
                        eprintln!("{place}: the sidecar was taken away");
                    }
                    Ok(false) => {
                        eprintln!("{place}: left as it is: it has no sidecar that `weir inject` or the webhook added");
                    }
                    Err(why) => {
                        return Err(Failure::failed(
                            format!("{place}: {why}"),
                            "restore the annotation, or the manifest",
                        ));
                    }
                }
            }
        }
        write(context, &documents)
    }
}

/// One document: as it was written, and, if it could be read, its value.
struct Document {
    source: String,
    text: String,
    value: Option<Value>,
    changed: bool,
}

impl Document {
    fn replace(&mut self, at: &str, pod: Value) {
        if let Some(place) = self.value.as_mut().and_then(|value| value.pointer_mut(at)) {
            *place = pod;
            self.changed = true;
        }
    }
}

/// The documents of all that is named. What begins with `---` begins a document (YAML 1.2 §9.1.1): nothing else does.
fn read(files: &[PathBuf]) -> Result<Vec<Document>, Failure> {
    let mut documents = vec![];
    for Source { name, text } in input::read(files)? {
        let mut begin = 0;
        let mut cuts: Vec<usize> = vec![];
        for line in text.split_inclusive('\n') {
            if line.starts_with("---") && line[3..].chars().next().is_none_or(char::is_whitespace) {
                cuts.push(begin);
            }
            begin += line.len();
        }
        cuts.push(text.len());
        let mut from = 0;
        for to in cuts {
            let part = &text[from..to];
            from = to;
            let line = text[..from - part.len()].lines().count() + 1;
            if !part.trim().is_empty() {
                documents.push(document(&name, line, part)?);
            }
        }
    }
    Ok(documents)
}

fn document(source: &str, line: usize, text: &str) -> Result<Document, Failure> {
    // As `kubectl` reads it: `defaultMode: 0400` is octal.
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    let value = serde_saphyr::from_str_with_options::<Option<Value>>(text, options).map_err(|e| {
        Failure::failed(format!("{source}: the document that begins in line {line} is no YAML: {e}"), "put it right")
    })?;
    Ok(Document { source: source.into(), text: text.into(), value, changed: false })
}

/// The namespaces among the documents: what they say of sidecars is known then.
fn namespaces(documents: &[Document]) -> BTreeMap<String, Namespace> {
    let all = documents.iter().filter_map(|document| document.value.as_ref());
    let objects = all.filter(|v| v["apiVersion"] == "v1" && v["kind"] == "Namespace");
    objects.map(Namespace::of).map(|namespace| (namespace.name.clone(), namespace)).collect()
}

/// What was not changed is written as it was, to the letter.
fn write(context: &mut Context<'_>, documents: &[Document]) -> Result<(), Failure> {
    let mut text = String::new();
    for document in documents {
        let part = match &document.value {
            Some(value) if document.changed => serde_saphyr::to_string(value)
                .map_err(|e| Failure::failed(format!("a document cannot be written: {e}"), "please report it"))?,
            _ => document.text.clone(),
        };
        if !part.starts_with("---") && !text.is_empty() {
            text.push_str("---\n");
        }
        text.push_str(&part);
        if !text.ends_with('\n') {
            text.push('\n');
        }
    }
    // A reader that went away (`| head`) is no failure.
    let _ = context.out.write_all(text.as_bytes()).and_then(|()| context.out.flush());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{parse, run};

    const MANIFESTS: &str = "# A comment.\nkind: ConfigMap\napiVersion: v1\nmetadata: {name: c}\ndata: {a: yes}   # kept\n---\n\
        apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  replicas: 2\n  template:\n    spec:\n      \
        containers: [{name: web, image: 'web:1', args: ['yes', '0123', '1e3', 'null', '~', 'a: b'], tomorrow: 1.50}]\n      \
        volumes: [{name: s, secret: {secretName: s, defaultMode: 0400}}]\n--- # another\n\
        apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: nightly}\nspec:\n  schedule: '* * * * *'\n  jobTemplate: \
        {spec: {template: {metadata: {labels: {weir.dev/inject: disabled}}, spec: {containers: [{name: a, image: b}]}}}}\n---\n\
        apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: p, image: p}]}}\n";

    async fn weir(arguments: &[&str]) -> Result<String, String> {
        let mut out = vec![];
        run(parse([&["weir"], arguments].concat()).unwrap(), &mut out).await.map_err(|e| e.to_string())?;
        Ok(String::from_utf8(out).unwrap())
    }

    fn documents(text: &str) -> Vec<serde_json::Value> {
        let options = serde_saphyr::options! { legacy_octal_numbers: true };
        text.split("\n---")
            .map(|part| part.strip_prefix(" # another").unwrap_or(part))
            .map(|part| serde_saphyr::from_str_with_options(part, options.clone()).unwrap())
            .collect()
    }

    #[tokio::test]
    async fn manifests_are_injected_and_cleared_and_the_rest_passes_to_the_letter() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("all.yaml");
        std::fs::write(&path, MANIFESTS).unwrap();
        let injected = weir(&["inject", "-f", path.to_str().unwrap()]).await.unwrap();
        let untouched = MANIFESTS.split("---\n").next().unwrap();
        assert!(injected.starts_with(untouched), "{injected}");
        let all = documents(&injected);
        assert_eq!(all.len(), 4);
        let deployment = &all[1]["spec"]["template"];
        assert_eq!(deployment["spec"]["initContainers"][1]["name"], "weir-proxy");
        assert_eq!(all[1]["spec"]["replicas"], 2);
        // What the document says is what it said, however it was written.
        let own = &deployment["spec"]["containers"][0];
        assert_eq!(own["args"], serde_json::json!(["yes", "0123", "1e3", "null", "~", "a: b"]));
        assert_eq!(
            (&own["tomorrow"], &deployment["spec"]["volumes"][0]["secret"]["defaultMode"]),
            (&1.5.into(), &256.into())
        );
        assert!(injected.contains("disabled}}, spec: {containers: [{name: a, image: b}]}"), "opted out, and changed");
        assert_eq!(all[3]["items"][0]["spec"]["initContainers"][0]["name"], "weir-init");
        std::fs::write(&path, &injected).unwrap();
        let twice = weir(&["inject", "-f", path.to_str().unwrap()]).await.unwrap();
        assert_eq!(twice, injected, "injected twice");
        let cleared = weir(&["uninject", "-f", path.to_str().unwrap()]).await.unwrap();
        assert_eq!(documents(&cleared), documents(MANIFESTS));
    }

    #[tokio::test]
    async fn labels_of_namespaces_in_the_same_manifests_count() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("all.yaml");
        let namespace = |label: &str| {
            format!(
                "apiVersion: v1\nkind: Namespace\nmetadata: {{name: demo, labels: {{{label}}}}}\n---\napiVersion: v1\nkind: \
                 Pod\nmetadata: {{name: p, namespace: demo}}\nspec: {{containers: [{{name: p, image: p}}]}}\n"
            )
        };
        let with = async |label: &str, more: &[&str]| {
            std::fs::write(&path, namespace(label)).unwrap();
            let arguments = [&["inject", "-f", path.to_str().unwrap()], more].concat();
            weir(&arguments).await.map(|text| text.contains("weir-proxy"))
        };
        assert_eq!(with("weir.dev/inject: enabled", &["--labelled-only"]).await, Ok(true));
        assert_eq!(with("a: b", &["--labelled-only"]).await, Ok(false));
        assert_eq!(with("a: b", &[]).await, Ok(true));
        assert_eq!(with("weir.dev/inject: disabled", &[]).await, Ok(false));
        let refused = with("weir.dev/inject: maybe", &[]).await.unwrap_err();
        assert!(refused.contains("nothing was written"), "{refused}");
    }

    #[tokio::test]
    async fn what_is_no_yaml_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.yaml");
        std::fs::write(&path, "a: b\n---\na: [\n").unwrap();
        let why = weir(&["inject", "-f", path.to_str().unwrap()]).await.unwrap_err();
        assert!(why.contains("begins in line 2"), "{why}");
    }
}
