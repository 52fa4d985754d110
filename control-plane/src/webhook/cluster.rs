//! The webhook's dealings with Kubernetes: it watches namespaces (who asks for sidecars), pods without a sidecar, and the
//! webhook's own configurations; it keeps `caBundle` in these and a ConfigMap with the mesh's roots in each namespace that
//! asks for sidecars. Nothing polls. Several replicas may do this at once and write the same; only `caBundle`, which one would put
//! right after the other while they learn of new roots one by one, is written by the one that leads.

use super::{Known, Metrics, Missed, Namespaces, known::is_enabled};
use crate::{
    ca::{Ca, Roots},
    inject::{CONFIG_MAP, Namespace, ROOTS_FILE, Settings, Version},
    leader::Standing,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use futures::{StreamExt, future::BoxFuture, pin_mut};
use k8s_openapi::api::{
    admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration},
    core::v1::{ConfigMap, Namespace as KubeNamespace, Pod},
};
use kube::{
    Api, Client, Resource,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
    runtime::{WatchStreamExt, watcher},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// As whom fields are written (server-side apply).
const MANAGER: &str = "weir-control-plane";
/// After an error it is tried again so soon.
const RETRY: Duration = Duration::from_secs(2);
/// What is done for a change of several namespaces is done once.
const SETTLE: Duration = Duration::from_millis(50);

/// What things are called in the cluster.
#[derive(Debug, Clone)]
pub struct Names {
    /// Both webhook configurations.
    pub configuration: String,
}

impl Default for Names {
    fn default() -> Self {
        Self { configuration: "weir-webhook".into() }
    }
}

/// The cluster, as the webhook sees it.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    known: Known,
    missed: Missed,
    version: Arc<watch::Sender<Version>>,
    names: Names,
    settings: Arc<Settings>,
    metrics: Metrics,
    /// Counts changes of namespaces.
    changed: Arc<watch::Sender<u64>>,
}

impl Cluster {
    /// Of a client; nothing is asked yet.
    pub fn new(client: Client, names: Names, settings: Arc<Settings>, metrics: Metrics) -> Self {
        Self {
            client,
            known: Known::default(),
            missed: Missed::default(),
            version: Arc::new(watch::Sender::new(Version::OLDEST)),
            names,
            settings,
            metrics,
            changed: Arc::default(),
        }
    }

    /// Which Kubernetes it is.
    pub fn version(&self) -> watch::Receiver<Version> {
        self.version.subscribe()
    }

    /// `namespace/name` of pods that should have a sidecar and have none; and how many there are in all.
    pub fn missed(&self) -> (Vec<String>, usize) {
        self.missed.list(&self.known, &self.settings, *self.version.borrow())
    }

    /// Watches and keeps, until `stop`; `leader`: whether this replica leads.
    pub fn start(
        &self,
        ca: &Arc<Ca>,
        leader: &watch::Receiver<Standing>,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) {
        let spawn = |work: BoxFuture<'static, ()>| {
            let stop = stop.clone();
            tasks.spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = work => {}
                }
            });
        };
        let (own, roots) = (self.clone(), ca.roots());
        spawn(Box::pin(async move { own.watch_namespaces().await }));
        let own = self.clone();
        spawn(Box::pin(async move { own.watch_pods().await }));
        let own = self.clone();
        let pem = {
            let ca = ca.clone();
            move || ca.roots_pem()
        };
        let given = (pem.clone(), roots.clone());
        spawn(Box::pin(async move { own.keep_roots(given.0, given.1).await }));
        let (own, again) = (self.clone(), (pem.clone(), roots.clone(), leader.clone()));
        spawn(Box::pin(
            async move { own.keep_bundle::<MutatingWebhookConfiguration>(again.0, again.1, again.2).await },
        ));
        let (own, leader) = (self.clone(), leader.clone());
        spawn(Box::pin(async move { own.keep_bundle::<ValidatingWebhookConfiguration>(pem, roots, leader).await }));
    }

    fn api<K: Resource<DynamicType = ()>>(&self) -> Api<DynamicObject> {
        Api::all_with(self.client.clone(), &ApiResource::erase::<K>(&()))
    }

    async fn watch_namespaces(&self) {
        let events = watcher(self.api::<KubeNamespace>(), watcher::Config::default()).default_backoff();
        pin_mut!(events);
        let mut listed = BTreeSet::new();
        while let Some(event) = events.next().await {
            match event {
                Ok(watcher::Event::Init) => {
                    listed.clear();
                    self.ask_version().await;
                }
                Ok(watcher::Event::InitApply(object)) => {
                    let namespace = Namespace::of(&value(&object));
                    listed.insert(namespace.name.clone());
                    self.known.put(namespace);
                }
                Ok(watcher::Event::InitDone) => self.known.keep(&listed),
                Ok(watcher::Event::Apply(object)) => self.known.put(Namespace::of(&value(&object))),
                Ok(watcher::Event::Delete(object)) => self.known.remove(&Namespace::of(&value(&object)).name),
                Err(error) => {
                    tracing::warn!(%error, "namespaces cannot be watched; trying again");
                    continue;
                }
            }
            self.metrics.namespaces.set(i64::try_from(self.known.enabled().len()).unwrap_or(i64::MAX));
            self.changed.send_modify(|n| *n += 1);
        }
    }

    async fn ask_version(&self) {
        match self.client.apiserver_version().await.map(|info| format!("{}.{}", info.major, info.minor).parse()) {
            Ok(Ok(version)) => drop(self.version.send_replace(version)),
            Ok(Err(error)) => tracing::warn!(%error, "the version of Kubernetes cannot be read"),
            Err(error) => tracing::warn!(%error, "the version of Kubernetes cannot be asked for"),
        }
    }

    async fn watch_pods(&self) {
        // Those with a sidecar are no business of ours.
        let config = watcher::Config::default().labels(&format!("{}!=true", crate::inject::INJECTED));
        let events = watcher(self.api::<Pod>(), config).default_backoff();
        pin_mut!(events);
        let mut changed = self.changed.subscribe();
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(Ok(watcher::Event::Init)) => self.missed.clear(),
                    Some(Ok(watcher::Event::InitApply(pod))) => {
                        // Told when all are there.
                        self.missed.put(value(&pod));
                        continue;
                    }
                    Some(Ok(watcher::Event::Apply(pod))) => self.missed.put(value(&pod)),
                    Some(Ok(watcher::Event::Delete(pod))) => self.missed.remove(&value(&pod)),
                    Some(Ok(watcher::Event::InitDone)) => {}
                    Some(Err(error)) => tracing::warn!(%error, "pods cannot be watched; trying again"),
                    None => return,
                },
                told = changed.changed() => if told.is_err() { return },
            }
            self.tell_missed();
        }
    }

    fn tell_missed(&self) {
        let (listed, all) = self.missed();
        let all = i64::try_from(all).unwrap_or(i64::MAX);
        if all != self.metrics.missed.get() && all > 0 {
            let first = listed.iter().take(10).map(String::as_str).collect::<Vec<_>>().join(", ");
            tracing::warn!(
                pods = all,
                first,
                "pods without the sidecar that they should have; restart them to give them one"
            );
        }
        self.metrics.missed.set(all);
    }

    /// The ConfigMap with the roots, in each namespace that asks for sidecars.
    async fn keep_roots(&self, pem: impl Fn() -> String, mut roots: watch::Receiver<Arc<Roots>>) {
        let mut changed = self.changed.subscribe();
        let mut written: BTreeSet<String> = BTreeSet::new();
        loop {
            let wanted = self.known.enabled();
            written.retain(|name| wanted.contains(name));
            let mut failed = false;
            for name in wanted.difference(&written.clone()) {
                match self.write_roots(name, &pem()).await {
                    Ok(()) => drop(written.insert(name.clone())),
                    Err(error) => {
                        failed = true;
                        tracing::warn!(namespace = name, %error, "the mesh's roots cannot be written; trying again");
                    }
                }
            }
            tokio::select! {
                told = roots.changed() => {
                    if told.is_err() { return }
                    written.clear();
                }
                told = changed.changed() => {
                    if told.is_err() { return }
                    tokio::time::sleep(SETTLE).await;
                }
                () = tokio::time::sleep(RETRY), if failed => {}
            }
        }
    }

    async fn write_roots(&self, namespace: &str, pem: &str) -> kube::Result<()> {
        let map = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": { "name": CONFIG_MAP, "labels": { "app.kubernetes.io/managed-by": "weir" } },
            "data": { ROOTS_FILE: pem },
        });
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        // Ours alone: whoever has changed it loses.
        let params = PatchParams::apply(MANAGER).force();
        maps.patch(CONFIG_MAP, &params, &Patch::Apply(&map)).await.map(drop)
    }

    /// `caBundle` of a webhook configuration, whoever may have changed it.
    async fn keep_bundle<K: Resource<DynamicType = ()>>(
        &self,
        pem: impl Fn() -> String,
        mut roots: watch::Receiver<Arc<Roots>>,
        mut leader: watch::Receiver<Standing>,
    ) {
        let name = &self.names.configuration;
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let events = watcher(self.api::<K>(), config).default_backoff();
        pin_mut!(events);
        let mut last = None;
        let mut failed = false;
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object))) => {
                        last = Some(value(&object));
                    }
                    Some(Ok(watcher::Event::Delete(_))) => last = None,
                    Some(Ok(_)) => continue,
                    Some(Err(error)) => {
                        tracing::warn!(%error, "the webhook's configuration cannot be watched; trying again");
                        continue;
                    }
                    None => return,
                },
                told = roots.changed() => if told.is_err() { return },
                // It is told of each renewal, too.
                told = leader.changed() => if told.is_err() { return },
                () = tokio::time::sleep(RETRY), if failed => {}
            }
            if !leader.borrow_and_update().leads(Instant::now()) {
                failed = false;
                continue;
            }
            let Some(patch) = last.as_ref().and_then(|object| bundle_patch(object, &pem())) else {
                failed = false;
                continue;
            };
            let written = self.api::<K>().patch(name, &PatchParams::default(), &Patch::Strategic(patch)).await;
            failed = written.is_err();
            match written {
                Ok(object) => last = Some(value(&object)),
                Err(error) => tracing::warn!(%error, "caBundle cannot be written; trying again"),
            }
        }
    }
}

/// What brings `caBundle` up to date, if it is not (a strategic merge: webhooks are known by their names).
pub(super) fn bundle_patch(object: &Value, pem: &str) -> Option<Value> {
    let bundle = json!(STANDARD.encode(pem));
    let webhooks = object["webhooks"].as_array()?.iter();
    let other = webhooks.filter(|webhook| webhook["clientConfig"]["caBundle"] != bundle);
    let changes: Vec<Value> =
        other.map(|webhook| json!({ "name": webhook["name"], "clientConfig": { "caBundle": bundle } })).collect();
    // Only for the object that was looked at, not for another that has taken its name.
    let uid = &object["metadata"]["uid"];
    (!changes.is_empty()).then(|| json!({ "metadata": { "uid": uid }, "webhooks": changes }))
}

/// All of an object, also what no type of ours knows.
fn value(object: &DynamicObject) -> Value {
    serde_json::to_value(object).unwrap_or_default()
}

impl Namespaces for Cluster {
    fn known(&self, name: &str) -> Option<Namespace> {
        self.known.get(name)
    }

    fn fresh<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Namespace, String>> {
        Box::pin(async move {
            let object = self.api::<KubeNamespace>().get(name).await.map_err(|e| e.to_string())?;
            let namespace = Namespace::of(&value(&object));
            if is_enabled(&namespace) && !self.known.get(name).is_some_and(|known| is_enabled(&known)) {
                // Its roots are needed at once.
                self.known.put(namespace.clone());
                self.changed.send_modify(|n| *n += 1);
            }
            Ok(namespace)
        })
    }
}
