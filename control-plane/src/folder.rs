//! A watched folder of YAML: its documents are what it manages.
//!
//! When the folder's content changes, its documents are put in one transaction, and those that it managed before and
//! that are in it no more are deleted. Documents made over the API stay. A folder with anything wrong in it changes
//! nothing: what is wrong is reported with file and line, and the last good set stays. Which documents the folder
//! manages is written on the documents themselves ([`MANAGED_BY`]), so that it outlives a restart.

use crate::{
    api::strip,
    store::{self, Action, Batch, Change, Expect, Store},
};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use std::{
    collections::BTreeSet,
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use weir_config::resources::{self, Document, Issue, Key};

/// The annotation on documents that a folder manages; its value is [`FOLDER`].
pub const MANAGED_BY: &str = "weir.dev/managed-by";
/// See [`MANAGED_BY`].
pub const FOLDER: &str = "folder";

/// After the last event: an editor writes a file in several steps.
const QUIET: Duration = Duration::from_millis(100);
/// After the first event, however many follow.
const LONGEST_QUIET: Duration = Duration::from_secs(1);
/// Where the operating system reports nothing (network file systems): look this often.
const RESCAN: Duration = Duration::from_secs(5);
/// Deeper folders are not looked at.
const MAX_DEPTH: usize = 16;

/// What came of reading the folder.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// How often it was taken over.
    pub syncs: u64,
    /// The store's version after the last time it was taken over.
    pub version: u64,
    /// How many documents it manages.
    pub documents: usize,
    /// What is wrong with it now; then the last good set still holds.
    pub issues: Vec<Issue>,
}

/// A folder and the store that follows it.
pub struct Folder {
    path: PathBuf,
    store: Arc<dyn Store>,
    report: watch::Sender<Report>,
    /// What was last seen, good or bad.
    seen: Option<u64>,
    /// If it was bad: the store's version then. It may be good together with other documents.
    refused_at: Option<u64>,
}

impl Folder {
    /// Follows `path`; nothing is read yet.
    pub fn new(path: PathBuf, store: Arc<dyn Store>) -> Self {
        Self { path, store, report: watch::Sender::new(Report::default()), seen: None, refused_at: None }
    }

    /// What came of it, each time.
    pub fn report(&self) -> watch::Receiver<Report> {
        self.report.subscribe()
    }

    /// Takes the folder over if it is not as it was last seen. Waits for disks.
    pub fn sync(&mut self) {
        let fingerprint = fingerprint(&self.path);
        let version = self.store.snapshot().version();
        if self.seen == Some(fingerprint) && self.refused_at.is_none_or(|at| at == version) {
            return;
        }
        match take_over(&self.path, &*self.store) {
            Ok((version, documents)) => {
                (self.seen, self.refused_at) = (Some(fingerprint), None);
                self.report.send_modify(|r| {
                    *r = Report { syncs: r.syncs + 1, version, documents, issues: Vec::new() };
                });
            }
            Err(Refused::Wrong(issues)) => {
                // Seen: the same content is not reported over and over.
                (self.seen, self.refused_at) = (Some(fingerprint), Some(version));
                for issue in &issues {
                    tracing::error!(%issue, "the folder is not valid; the last good documents stay");
                }
                self.report.send_modify(|r| r.issues = issues);
            }
            Err(Refused::Store(error)) => {
                tracing::error!(%error, folder = %self.path.display(), "the folder's documents were not stored; trying again");
                let issue = Issue::of_source(&self.path.display().to_string(), error.to_string(), None);
                self.report.send_modify(|r| r.issues = vec![issue]);
            }
        }
    }

    /// Follows the folder until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let (tx, mut events) = mpsc::channel(1);
        let watcher = watcher(&self.path, tx);
        loop {
            let synced = tokio::task::spawn_blocking(move || {
                self.sync();
                self
            });
            match synced.await {
                Ok(back) => self = back,
                Err(error) => return tracing::error!(%error, "the folder is followed no more"),
            }
            let rescan = Instant::now() + RESCAN;
            tokio::select! {
                () = stop.cancelled() => break,
                Some(()) = events.recv() => settle(&mut events).await,
                () = sleep_until(rescan) => {}
            }
        }
        drop(watcher);
    }
}

/// Waits until nothing has happened for a moment.
async fn settle(events: &mut mpsc::Receiver<()>) {
    let end = Instant::now() + LONGEST_QUIET;
    loop {
        let quiet = (Instant::now() + QUIET).min(end);
        match tokio::time::timeout_at(quiet, events.recv()).await {
            Ok(Some(())) if Instant::now() < end => {}
            _ => return,
        }
    }
}

fn watcher(path: &Path, events: mpsc::Sender<()>) -> Option<RecommendedWatcher> {
    // One event that waits is enough: what happened is found by looking.
    let watcher = notify::recommended_watcher(move |_| {
        let _ = events.try_send(());
    });
    let watched = watcher.and_then(|mut w| w.watch(path, RecursiveMode::Recursive).map(|()| w));
    watched
        .inspect_err(|error| {
            tracing::warn!(%error, folder = %path.display(), "the operating system does not report changes of the folder; looking every {RESCAN:?}");
        })
        .ok()
}

enum Refused {
    Wrong(Vec<Issue>),
    Store(store::Error),
}

/// One transaction that makes the folder's documents what it manages. Returns the version and how many they are.
fn take_over(path: &Path, store: &dyn Store) -> Result<(u64, usize), Refused> {
    let documents = resources::load_dir(path).map_err(Refused::Wrong)?;
    let count = documents.len();
    let mut keys: BTreeSet<Key> = BTreeSet::new();
    let mut changes = Vec::with_capacity(count);
    for mut document in documents {
        let key = document.key();
        if !keys.insert(key.clone()) {
            let file = path.display().to_string();
            let issue = Issue::of_source(&file, format!("{key} is there twice"), Some("keep one of the two"));
            return Err(Refused::Wrong(vec![issue]));
        }
        strip(&mut document);
        document.metadata_mut().annotations.insert(MANAGED_BY.into(), FOLDER.into());
        changes.push(Change::Put { document: Arc::new(document), expect: Expect::Any });
    }
    let before = store.snapshot();
    for (key, stored) in before.iter() {
        if managed(&stored.document) && !keys.contains(&**key) {
            changes.push(Change::Delete { key: Key::clone(key), expect: Expect::Version(stored.resource_version) });
        }
    }
    let applied = store.apply(&Batch { changes, dry_run: false }).map_err(|e| match e {
        store::Error::Invalid(issues) => Refused::Wrong(issues),
        other => Refused::Store(other),
    })?;
    for outcome in applied.outcomes.iter().filter(|o| o.action != Action::Unchanged) {
        tracing::info!(document = %outcome.key, action = outcome.action.as_str(), version = applied.version, "from the folder");
    }
    Ok((applied.version, count))
}

/// Whether a folder manages this document.
pub fn managed(document: &Document) -> bool {
    document.metadata().annotations.get(MANAGED_BY).is_some_and(|v| v == FOLDER)
}

/// Changes when a file in the folder does: names, sizes, times of all files. Links are followed, as Kubernetes mounts
/// ConfigMaps by exchanging one.
fn fingerprint(path: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    look(path, 0, &mut hasher);
    hasher.finish()
}

fn look(path: &Path, depth: usize, hasher: &mut DefaultHasher) {
    let Ok(entries) = fs::read_dir(path) else { return "unreadable".hash(hasher) };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
    paths.sort();
    for path in paths {
        path.hash(hasher);
        match fs::metadata(&path) {
            Ok(m) if m.is_dir() && depth < MAX_DEPTH => look(&path, depth + 1, hasher),
            Ok(m) => {
                m.len().hash(hasher);
                m.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok()).hash(hasher);
                #[cfg(unix)]
                std::os::unix::fs::MetadataExt::ino(&m).hash(hasher);
            }
            Err(e) => e.kind().hash(hasher),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Memory;

    const WEB: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: demo}\nspec:\n  selector: {app: web}\n  ports: [{port: 8080}]\n";
    const API: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: api, namespace: demo}\nspec:\n  selector: {app: api}\n  ports: [{port: 8080}]\n";

    struct House {
        folder: tempfile::TempDir,
        store: Arc<dyn Store>,
    }

    impl House {
        fn new() -> (Self, Folder) {
            let house = Self { folder: tempfile::tempdir().unwrap(), store: Arc::new(Memory::default()) };
            let follower = Folder::new(house.folder.path().into(), house.store.clone());
            (house, follower)
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.folder.path().join(name), text).unwrap();
        }

        fn names(&self) -> Vec<String> {
            self.store.snapshot().iter().map(|(k, _)| k.to_string()).collect()
        }
    }

    #[test]
    fn documents_come_change_and_go_with_their_files() {
        let (house, mut folder) = House::new();
        house.write("web.yaml", WEB);
        house.write("api.yaml", API);
        folder.sync();
        assert_eq!(house.names(), ["Service/demo/api", "Service/demo/web"]);
        let version = house.store.snapshot().version();
        folder.sync();
        assert_eq!(house.store.snapshot().version(), version, "nothing changed");

        house.write("web.yaml", &WEB.replace("8080", "9090"));
        folder.sync();
        assert_eq!(house.store.snapshot().version(), version + 1);

        fs::remove_file(house.folder.path().join("api.yaml")).unwrap();
        folder.sync();
        assert_eq!(house.names(), ["Service/demo/web"]);
        assert_eq!(folder.report().borrow().documents, 1);
    }

    #[test]
    fn documents_of_the_api_stay() {
        let (house, mut folder) = House::new();
        house.store.apply(&Batch::put_all(resources::parse("api", API).unwrap())).unwrap();
        house.write("web.yaml", WEB);
        folder.sync();
        fs::remove_file(house.folder.path().join("web.yaml")).unwrap();
        folder.sync();
        assert_eq!(house.names(), ["Service/demo/api"]);
    }

    #[test]
    fn a_bad_file_is_reported_by_line_and_changes_nothing() {
        let (house, mut folder) = House::new();
        house.write("web.yaml", WEB);
        folder.sync();
        house.write("api.yaml", API);
        house.write(
            "bad.yaml",
            "apiVersion: v1\nkind: Service\nmetadata: {name: bad}\nspec:\n  selektor: {}\n  ports: [{port: 1}]\n",
        );
        folder.sync();
        let report = folder.report().borrow().clone();
        assert!(report.issues.iter().any(|i| i.file.ends_with("bad.yaml") && i.line == 5), "{:?}", report.issues);
        assert_eq!(house.names(), ["Service/demo/web"], "the last good set");

        fs::remove_file(house.folder.path().join("bad.yaml")).unwrap();
        folder.sync();
        assert!(folder.report().borrow().issues.is_empty());
        assert_eq!(house.names().len(), 2);
    }

    #[test]
    fn a_restart_remembers_what_the_folder_manages() {
        let (house, mut folder) = House::new();
        house.write("web.yaml", WEB);
        folder.sync();
        fs::remove_file(house.folder.path().join("web.yaml")).unwrap();
        Folder::new(house.folder.path().into(), house.store.clone()).sync();
        assert!(house.names().is_empty());
    }

    #[tokio::test]
    async fn changes_are_noticed() {
        let (house, folder) = House::new();
        let mut report = folder.report();
        let stop = CancellationToken::new();
        let task = tokio::spawn(folder.run(stop.clone()));
        house.write("web.yaml", WEB);
        let wait = report.wait_for(|r| r.documents == 1);
        tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap().unwrap();
        stop.cancel();
        task.await.unwrap();
    }
}
