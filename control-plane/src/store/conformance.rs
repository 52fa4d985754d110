//! What every store must do, run on each implementation.

use super::{Action, Applied, Batch, Change, Embedded, Error, Expect, Memory, MetaExpect, Store};
use std::sync::Arc;
use weir_config::resources::{Document, Key, Kind, parse};

/// The documents of a YAML text.
pub(super) fn documents(yaml: &str) -> Vec<Document> {
    parse("test.yaml", yaml).unwrap_or_else(|issues| panic!("{}", Error::Invalid(issues)))
}

/// A service with one port.
pub(super) fn service(name: &str, port: u16) -> Document {
    let yaml = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: demo}}\n\
         spec: {{selector: {{app: {name}}}, ports: [{{name: http, port: {port}, appProtocol: http}}]}}\n"
    );
    documents(&yaml).remove(0)
}

fn route(name: &str, parent: &str) -> Document {
    let yaml = format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}, namespace: demo}}\n\
         spec:\n  parentRefs: [{{kind: Service, group: '', name: {parent}, port: 80}}]\n  \
         rules: [{{backendRefs: [{{name: {parent}, port: 80}}]}}]\n"
    );
    documents(&yaml).remove(0)
}

fn key(name: &str) -> Key {
    Key::new(Kind::Service, "demo", name)
}

fn put(document: Document, expect: Expect) -> Batch {
    Change::Put { document: Arc::new(document), expect }.into()
}

fn delete(name: &str, expect: Expect) -> Batch {
    Change::Delete { key: key(name), expect }.into()
}

fn actions(applied: &Applied) -> Vec<Action> {
    applied.outcomes.iter().map(|o| o.action).collect()
}

fn a_document_lives_and_dies(store: &dyn Store) {
    assert_eq!((store.snapshot().version(), store.snapshot().len()), (0, 0));
    let created = store.apply(&put(service("web", 80), Expect::Absent)).unwrap();
    assert_eq!((created.version, actions(&created)), (1, vec![Action::Created]));
    let first = store.get(&key("web")).unwrap();
    assert_eq!((first.resource_version, first.generation), (1, 1));
    assert_eq!(first.uid.len(), 36, "{}", first.uid);

    let same = store.apply(&put(service("web", 80), Expect::Any)).unwrap();
    assert_eq!((same.version, actions(&same), same.changed()), (1, vec![Action::Unchanged], false));

    let updated = store.apply(&put(service("web", 81), Expect::Version(1))).unwrap();
    assert_eq!((updated.version, actions(&updated)), (2, vec![Action::Updated]));
    let second = store.get(&key("web")).unwrap();
    assert_eq!((second.resource_version, second.generation), (2, 2));
    assert_eq!((&second.uid, second.created), (&first.uid, first.created));

    let deleted = store.apply(&delete("web", Expect::Version(2))).unwrap();
    assert_eq!((deleted.version, actions(&deleted)), (3, vec![Action::Deleted]));
    assert_eq!(deleted.outcomes[0].stored.as_deref(), Some(&*second));
    assert!(store.get(&key("web")).is_none());
    store.apply(&put(service("web", 80), Expect::Absent)).unwrap();
    assert_ne!(store.get(&key("web")).unwrap().uid, first.uid, "a new document of an old name is another one");
}

fn labels_do_not_make_a_generation(store: &dyn Store) {
    store.apply(&put(service("web", 80), Expect::Any)).unwrap();
    let labelled = documents(
        "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: demo, labels: {team: a}}\n\
         spec: {selector: {app: web}, ports: [{name: http, port: 80, appProtocol: http}]}\n",
    );
    store.apply(&Batch::put_all(labelled)).unwrap();
    let stored = store.get(&key("web")).unwrap();
    assert_eq!((stored.resource_version, stored.generation), (2, 1));
}

fn preconditions_are_kept(store: &dyn Store) {
    store.apply(&put(service("web", 80), Expect::Any)).unwrap();
    let refused = |batch: Batch| match store.apply(&batch) {
        Err(Error::Conflict { found, .. }) => found,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(put(service("web", 81), Expect::Absent)), Some(1));
    assert_eq!(refused(put(service("web", 80), Expect::Version(7))), Some(1), "also where nothing would change");
    assert_eq!(refused(put(service("api", 81), Expect::Version(1))), None);
    assert_eq!(refused(delete("web", Expect::Version(7))), Some(1));
    assert_eq!(refused(delete("api", Expect::Version(7))), None);
    assert!(matches!(store.apply(&delete("api", Expect::Any)), Err(Error::NotFound { .. })));
    let nothing = store.apply(&delete("api", Expect::Absent)).unwrap();
    assert_eq!(actions(&nothing), [Action::Unchanged]);
    assert_eq!(store.snapshot().version(), 1);

    let read = Document::clone(&store.get(&key("web")).unwrap().document);
    assert_eq!(read.metadata().resource_version.as_deref(), Some("1"));
    store.apply(&put(service("web", 81), Expect::Any)).unwrap();
    assert_eq!(refused(put(read, Expect::Any)), Some(2), "a document that was read carries its version");
}

fn a_batch_is_all_or_nothing(store: &dyn Store) {
    let mut batch = Batch::put_all([service("a", 80), service("b", 80)]);
    batch.changes.push(Change::Delete { key: key("ghost"), expect: Expect::Any });
    assert!(matches!(store.apply(&batch), Err(Error::NotFound { .. })));
    assert_eq!((store.snapshot().version(), store.snapshot().len()), (0, 0));

    batch.changes.pop();
    batch.changes.push(Change::Put { document: Arc::new(service("a", 90)), expect: Expect::Any });
    assert!(matches!(store.apply(&batch), Err(Error::Twice { .. })));

    batch.changes.pop();
    batch.dry_run = true;
    let tried = store.apply(&batch).unwrap();
    assert_eq!((tried.version, actions(&tried)), (1, vec![Action::Created, Action::Created]));
    assert_eq!((store.snapshot().version(), store.snapshot().len()), (0, 0), "a dry run leaves no trace");

    batch.dry_run = false;
    assert_eq!(store.apply(&batch).unwrap().version, 1);
    let versions: Vec<u64> = store.snapshot().iter().map(|(_, s)| s.resource_version).collect();
    assert_eq!(versions, [1, 1], "one transaction, one version");
}

fn what_does_not_fit_together_is_refused(store: &dyn Store) {
    let refused = |batch: &Batch| matches!(store.apply(batch), Err(Error::Invalid(issues)) if !issues.is_empty());
    assert!(refused(&Batch::put_all([route("r", "web")])), "a route to nowhere");
    assert!(refused(&Batch { dry_run: true, ..Batch::put_all([route("r", "web")]) }));
    store.apply(&Batch::put_all([route("r", "web"), service("web", 80)])).unwrap();
    assert!(refused(&delete("web", Expect::Any)), "what is referred to stays");
    let mut both = delete("web", Expect::Any);
    let route = Key::new(Kind::HttpRoute, "demo", "r");
    both.changes.push(Change::Delete { key: route, expect: Expect::Any });
    store.apply(&both).unwrap();
    assert!(store.snapshot().is_empty());
}

fn lists_are_by_kind_and_namespace(store: &dyn Store) {
    let other = documents(
        "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: prod}\nspec: {ports: [{port: 80}]}\n---\n\
         apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: demo2}\nspec: {ports: [{port: 80}]}\n",
    );
    let all = [service("b", 80), service("a", 80), route("r", "a")];
    store.apply(&Batch::put_all(all.into_iter().chain(other))).unwrap();
    let names = |kind, namespace| -> Vec<String> {
        store
            .list(kind, namespace)
            .1
            .iter()
            .map(|s| s.document.key())
            .map(|k| format!("{}/{}", k.namespace, k.name))
            .collect()
    };
    assert_eq!(names(Kind::Service, None), ["demo/a", "demo/b", "demo2/web", "prod/web"]);
    assert_eq!(names(Kind::Service, Some("demo")), ["demo/a", "demo/b"]);
    assert_eq!(names(Kind::HttpRoute, Some("demo")), ["demo/r"]);
    assert!(names(Kind::GrpcRoute, None).is_empty());
}

fn watchers_see_each_change_once(store: &dyn Store) {
    let mut watch = store.watch();
    watch.mark_unchanged();
    store.apply(&put(service("web", 80), Expect::Any)).unwrap();
    assert!(watch.has_changed().unwrap());
    assert_eq!(watch.borrow_and_update().version(), 1);
    store.apply(&put(service("web", 80), Expect::Any)).unwrap();
    let _ = store.apply(&put(service("web", 81), Expect::Version(9)));
    assert!(!watch.has_changed().unwrap(), "nothing changed");
    let before = store.snapshot();
    store.apply(&put(service("api", 80), Expect::Any)).unwrap();
    let after = watch.borrow_and_update().clone();
    assert!(Arc::ptr_eq(before.find(&key("web")).unwrap(), after.find(&key("web")).unwrap()), "what stays is shared");
}

fn a_huge_document_is_refused(store: &dyn Store) {
    let long = "x".repeat(super::MAX_DOCUMENT_BYTES);
    let yaml = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: demo, annotations: {{note: {long}}}}}\n\
         spec: {{ports: [{{port: 80}}]}}\n"
    );
    // The parser has limits of its own and may refuse it first.
    if let Ok(parsed) = parse("test.yaml", &yaml) {
        assert!(matches!(store.apply(&Batch::put_all(parsed)), Err(Error::Limit { .. })));
    }
}

fn the_key_value_space_keeps_bytes(store: &dyn Store) {
    assert_eq!(store.meta("ca/key").unwrap(), None);
    store.set_meta("ca/key", MetaExpect::Absent, Some(b"one\0")).unwrap();
    let second = store.set_meta("ca/key", MetaExpect::Absent, Some(b"two"));
    assert!(matches!(second, Err(Error::MetaConflict { .. })), "the first one wins");
    assert_eq!(store.meta("ca/key").unwrap().as_deref(), Some(&b"one\0"[..]));
    store.set_meta("ca/key", MetaExpect::Value(b"one\0"), Some(b"two")).unwrap();
    store.set_meta("ca/cert", MetaExpect::Any, Some(b"c")).unwrap();
    store.set_meta("token/1", MetaExpect::Any, Some(b"t")).unwrap();
    assert_eq!(store.meta_names("ca/").unwrap(), ["ca/cert", "ca/key"]);
    store.set_meta("ca/key", MetaExpect::Any, None).unwrap();
    assert_eq!(store.meta("ca/key").unwrap(), None);
    assert_eq!(store.snapshot().version(), 0, "it is apart from the documents");
    let huge = vec![0; super::MAX_META_BYTES + 1];
    assert!(matches!(store.set_meta("x", MetaExpect::Any, Some(&huge)), Err(Error::Limit { .. })));
}

macro_rules! suite {
    ($($case:ident),* $(,)?) => {
        mod memory {
            $(#[test] fn $case() { super::$case(&super::Memory::default()); })*
        }
        mod embedded {
            $(#[test] fn $case() {
                let directory = tempfile::tempdir().unwrap();
                super::$case(&super::Embedded::open(directory.path()).unwrap());
            })*
        }
        /// For stores on a server, which is started once for all of them.
        pub(super) const CASES: &[(&str, fn(&dyn Store))] = &[$((stringify!($case), $case)),*];
    };
}

suite! {
    a_document_lives_and_dies,
    labels_do_not_make_a_generation,
    preconditions_are_kept,
    a_batch_is_all_or_nothing,
    what_does_not_fit_together_is_refused,
    lists_are_by_kind_and_namespace,
    watchers_see_each_change_once,
    a_huge_document_is_refused,
    the_key_value_space_keeps_bytes,
}
