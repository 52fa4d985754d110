//! `weir install`, `weir uninstall`: the manifests of `config/kubernetes`, with a few things changed, for
//! `kubectl apply -f -` and `kubectl delete -f -`. This program asks the cluster nothing and changes nothing in it.

use super::{Context, failure::Failure};
use clap::Args;

/// A file of `config/kubernetes`.
struct Part {
    text: &'static str,
    wanted: fn(&Install) -> bool,
}

macro_rules! part {
    ($name:literal, $wanted:expr) => {
        Part { text: include_str!(concat!("../../../config/kubernetes/", $name)), wanted: $wanted }
    };
}

/// In the order in which they are best made: nobody asks a webhook that is not there.
const PARTS: [Part; 7] = [
    part!("namespace.yaml", |_| true),
    part!("rights.yaml", |_| true),
    part!("settings.yaml", |_| true),
    part!("control-plane.yaml", |_| true),
    part!("network-policy.yaml", |install| !install.without_network_policy),
    part!("pod-monitor.yaml", |install| install.pod_monitor),
    part!("webhook.yaml", |_| true),
];

/// What the files say where nothing else is said.
const NAMESPACE: &str = "weir-system";
const TRUST_DOMAIN: &str = "weir.local";
const IMAGES: [&str; 3] = ["weir-proxy", "weir-init", "weir-control-plane"];
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// See the module.
#[derive(Debug, Args)]
pub(super) struct Install {
    /// The namespace of the control plane.
    #[arg(long, value_name = "NAME", default_value = NAMESPACE)]
    namespace: String,
    /// What stands before the images' names, as `registry.example/weir`.
    #[arg(long, value_name = "PREFIX")]
    registry: Option<String>,
    /// The images' tag.
    #[arg(long, value_name = "TAG", default_value = VERSION)]
    tag: String,
    /// How many control planes.
    #[arg(long, value_name = "N", default_value_t = 3)]
    replicas: u16,
    /// The trust domain of the mesh: it cannot be changed later without making all identities anew.
    #[arg(long, value_name = "NAME", default_value = TRUST_DOMAIN)]
    trust_domain: String,
    /// Also a PodMonitor for the Prometheus operator.
    #[arg(long)]
    pod_monitor: bool,
    /// No NetworkPolicy.
    #[arg(long)]
    without_network_policy: bool,
    /// Leave our kinds (CustomResourceDefinitions) out: they are there, or somebody else makes them.
    #[arg(long)]
    without_crds: bool,
}

/// See the module.
#[derive(Debug, Args)]
pub(super) struct Uninstall {
    /// The namespace of the control plane.
    #[arg(long, value_name = "NAME", default_value = NAMESPACE)]
    namespace: String,
    /// Also our kinds, and with them all that was written of them.
    #[arg(long)]
    crds: bool,
}

impl Install {
    pub(super) fn run(self, context: &mut Context<'_>) -> Result<(), Failure> {
        print(context, &self.documents()?)
    }

    /// All documents, each a text of its own.
    pub(super) fn documents(&self) -> Result<Vec<String>, Failure> {
        self.check()?;
        let crds = crds().filter(|_| !self.without_crds);
        let parts = PARTS.iter().filter(|part| (part.wanted)(self)).flat_map(|part| split(part.text));
        Ok(crds.chain(parts.map(|text| self.changed(text))).collect())
    }

    fn changed(&self, text: &str) -> String {
        let mut text = text.replace(NAMESPACE, &self.namespace);
        text = text.replace(&format!("trustDomain: {TRUST_DOMAIN}"), &format!("trustDomain: {}", self.trust_domain));
        text = text.replace("replicas: 3", &format!("replicas: {}", self.replicas));
        for image in IMAGES {
            let (before, after) = (format!(": {image}:0.1.0"), format!("{image}:{}", self.tag));
            let prefix = self.registry.as_deref().map(|r| format!("{}/", r.trim_end_matches('/'))).unwrap_or_default();
            text = text.replace(&before, &format!(": {prefix}{after}"));
        }
        text
    }

    fn check(&self) -> Result<(), Failure> {
        let label = |text: &str| {
            !text.is_empty()
                && text.len() <= 63
                && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                && !text.starts_with('-')
                && !text.ends_with('-')
        };
        let usage =
            |what: &str, value: &str, remedy: &str| Failure::usage(format!("{what}: `{value}` is none"), remedy);
        if !label(&self.namespace) {
            return Err(usage("--namespace", &self.namespace, "lower-case letters, digits and `-`"));
        }
        if self.trust_domain.parse::<weir_config::model::TrustDomain>().is_err() {
            return Err(usage("--trust-domain", &self.trust_domain, "write it as a DNS name, weir.example"));
        }
        let plain = |text: &str, more: &[u8]| text.bytes().all(|b| b.is_ascii_alphanumeric() || more.contains(&b));
        if self.tag.is_empty() || !plain(&self.tag, b"._-") {
            return Err(usage("--tag", &self.tag, "letters, digits, `._-`"));
        }
        if let Some(registry) = self.registry.as_deref().filter(|r| r.is_empty() || !plain(r, b"._-:/")) {
            return Err(usage("--registry", registry, "host[:port][/path]"));
        }
        if self.replicas == 0 {
            return Err(usage("--replicas", "0", "at least 1; 3 survive the loss of a node"));
        }
        Ok(())
    }
}

impl Uninstall {
    pub(super) fn run(self, context: &mut Context<'_>) -> Result<(), Failure> {
        let install = Install {
            namespace: self.namespace,
            registry: None,
            tag: VERSION.into(),
            replicas: 1,
            trust_domain: TRUST_DOMAIN.into(),
            pod_monitor: false,
            without_network_policy: false,
            without_crds: !self.crds,
        };
        // The webhooks first: without the control plane nobody would answer for them.
        let mut documents = install.documents()?;
        documents.reverse();
        eprintln!(
            "pods keep their sidecars until they are made anew; without a control plane these go on with what they have"
        );
        print(context, &documents)
    }
}

fn print(context: &mut Context<'_>, documents: &[String]) -> Result<(), Failure> {
    let text: String = documents.iter().map(|document| format!("---\n{}\n", document.trim())).collect();
    // A reader that went away (`| head`) is no failure.
    let _ = context.out.write_all(text.as_bytes()).and_then(|()| context.out.flush());
    Ok(())
}

fn split(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.split("\n---\n")
}

/// Our kinds.
fn crds() -> impl Iterator<Item = String> {
    crate::crd::all().into_iter().map(|(_, text)| text)
}

#[cfg(test)]
mod tests {
    use super::super::{parse, run};
    use crate::inject::Settings;
    use serde_json::Value;

    async fn weir(arguments: &[&str]) -> Result<Vec<Value>, String> {
        let mut out = vec![];
        run(parse([&["weir"], arguments].concat()).map_err(|e| e.to_string())?, &mut out)
            .await
            .map_err(|e| e.to_string())?;
        let text = String::from_utf8(out).unwrap();
        let documents = text.split("\n---\n").map(|d| d.trim_start_matches("---\n"));
        Ok(documents.map(|d| serde_saphyr::from_str(d).unwrap_or_else(|e| panic!("{e}:\n{d}"))).collect())
    }

    fn named<'a>(documents: &'a [Value], kind: &str) -> Vec<&'a Value> {
        documents.iter().filter(|d| d["kind"] == kind).collect()
    }

    #[tokio::test]
    async fn what_is_printed_fits_together() {
        let all = weir(&["install"]).await.unwrap();
        let deployment = named(&all, "Deployment")[0];
        let pod = &deployment["spec"]["template"];
        let own = &pod["spec"]["containers"][0];
        assert_eq!(deployment["spec"]["replicas"], 3);
        // The program takes these arguments.
        let arguments = own["args"].as_array().unwrap().iter().map(|a| a.as_str().unwrap());
        #[derive(clap::Parser)]
        struct Program {
            #[command(flatten)]
            settings: crate::app::Settings,
        }
        let program =
            <Program as clap::Parser>::try_parse_from(["weir-control-plane"].into_iter().chain(arguments)).unwrap();
        assert_eq!(program.settings.webhook.unwrap().port(), 15017);
        // The settings of sidecars are the built-in ones, written out.
        let map = named(&all, "ConfigMap")[0];
        let settings: Settings = serde_saphyr::from_str(map["data"]["sidecars.yaml"].as_str().unwrap()).unwrap();
        assert_eq!(settings, Settings::default());
        // Selectors select, and webhooks lead to a port of the Service, which leads to one of the pod.
        let labels = &pod["metadata"]["labels"];
        let service =
            named(&all, "Service").into_iter().find(|s| s["metadata"]["name"] == "weir-control-plane").unwrap();
        for selector in [
            &service["spec"]["selector"],
            &deployment["spec"]["selector"]["matchLabels"],
            &named(&all, "PodDisruptionBudget")[0]["spec"]["selector"]["matchLabels"],
            &named(&all, "NetworkPolicy")[0]["spec"]["podSelector"]["matchLabels"],
        ] {
            assert_eq!(selector, labels);
        }
        let webhooks = ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"]
            .iter()
            .flat_map(|kind| named(&all, kind))
            .flat_map(|configuration| configuration["webhooks"].as_array().unwrap());
        for webhook in webhooks {
            let to = &webhook["clientConfig"]["service"];
            assert_eq!(
                (&to["name"], &to["namespace"]),
                (&service["metadata"]["name"], &service["metadata"]["namespace"])
            );
            let port = service["spec"]["ports"].as_array().unwrap().iter().find(|p| p["port"] == to["port"]).unwrap();
            assert!(own["ports"].as_array().unwrap().iter().any(|p| p["name"] == port["targetPort"]));
        }
        let account = &pod["spec"]["serviceAccountName"];
        for binding in ["ClusterRoleBinding", "RoleBinding"] {
            assert_eq!(&named(&all, binding)[0]["subjects"][0]["name"], account);
        }
    }

    #[tokio::test]
    async fn what_is_said_is_changed_everywhere() {
        let all = weir(&[
            "install",
            "--without-crds",
            "--namespace",
            "mesh",
            "--registry",
            "local.example:5000/weir/",
            "--tag",
            "2",
            "--replicas",
            "1",
            "--trust-domain",
            "example.org",
            "--pod-monitor",
            "--without-network-policy",
        ])
        .await
        .unwrap();
        let text = serde_json::to_string(&all).unwrap();
        assert!(!text.contains("weir-system") && !text.contains("weir.local") && !text.contains(":0.1.0"), "{text}");
        let deployment = named(&all, "Deployment")[0];
        let image = &deployment["spec"]["template"]["spec"]["containers"][0]["image"];
        assert_eq!(
            (image, &deployment["spec"]["replicas"]),
            (&"local.example:5000/weir/weir-control-plane:2".into(), &1.into())
        );
        assert_eq!((named(&all, "PodMonitor").len(), named(&all, "NetworkPolicy").len()), (2, 0));
        for wrong in [
            ["--namespace", "Mesh"],
            ["--replicas", "0"],
            ["--tag", "a b"],
            ["--registry", "x y"],
            ["--trust-domain", "A_"],
        ] {
            let why = weir(&[&["install"][..], &wrong].concat()).await.unwrap_err();
            assert!(why.contains(wrong[0]), "{why}");
        }
    }

    #[tokio::test]
    async fn webhooks_go_first_and_kinds_only_when_said() {
        let all = weir(&["uninstall"]).await.unwrap();
        assert_eq!(all[0]["kind"], "ValidatingWebhookConfiguration");
        assert_eq!(all[1]["kind"], "MutatingWebhookConfiguration");
        assert_eq!(all.last().unwrap()["kind"], "Namespace");
        assert!(named(&all, "CustomResourceDefinition").is_empty());
    }
}
