//! What a node should have, made when it is first asked for and shared by all nodes that it is the same for.

use super::machine::{Encoded, Name, View};
use crate::{
    ca::{self, Ca, Roots},
    compile::{self, Class, Node, Scope},
    fleet::Leaving,
    index::World,
    metrics::Metrics,
};
use parking_lot::RwLock;
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};
use tokio::sync::watch;
use weir_config::{
    model::{Action, Discovery, InboundTarget, Kind, Listener, RouteConfig, RouteSource},
    xds::{self, Item},
};

/// For whom a resource was made, and what it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    kind: Kind,
    class: Class,
    /// Empty: the same for all namespaces.
    namespace: Option<Arc<str>>,
    /// Empty: the same for all workloads.
    workload: Option<Arc<str>>,
    /// Empty: the same wherever they are.
    place: Option<Arc<str>>,
}

type Made = HashMap<Key, HashMap<Name, Arc<Encoded>>>;

/// One version of the world, of the roots and of who leaves, with the resources that were made of it so far.
#[derive(Debug)]
pub struct Generation {
    /// Counts worlds and changes of the roots and of who leaves.
    pub number: u64,
    /// The documents.
    pub world: Arc<World>,
    ca: Arc<Ca>,
    roots: Arc<Roots>,
    /// Stands for the roots.
    pub roots_id: Arc<str>,
    leaving: Arc<Leaving>,
    made: RwLock<Made>,
    count: AtomicI64,
    metrics: Metrics,
}

/// Follows the world and the roots, and gives out generations.
#[derive(Debug, Clone)]
pub struct Catalog {
    newest: watch::Receiver<Arc<Generation>>,
}

impl Catalog {
    /// The catalog of the present world at once, and a future that follows it. The future ends when the world does, or
    /// when nobody looks any more. `changed` hears of each version of the documents.
    pub fn follow(
        mut worlds: watch::Receiver<Arc<World>>,
        mut leaving: watch::Receiver<Arc<Leaving>>,
        ca: &Arc<Ca>,
        metrics: Metrics,
        changed: impl Fn(u64) + Send + 'static,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let mut roots = ca.roots();
        let roots_now = roots.borrow_and_update().clone();
        let first = Generation {
            number: 1,
            world: worlds.borrow_and_update().clone(),
            ca: Arc::clone(ca),
            roots_id: ca::roots_id(&roots_now).into(),
            roots: roots_now,
            leaving: leaving.borrow_and_update().clone(),
            made: RwLock::default(),
            count: AtomicI64::new(0),
            metrics,
        };
        changed(first.world.version());
        let (sender, newest) = watch::channel(Arc::new(first));
        let run = async move {
            loop {
                tokio::select! {
                    new = worlds.changed() => if new.is_err() { return },
                    new = roots.changed() => if new.is_err() { return },
                    new = leaving.changed() => if new.is_err() { return },
                    () = sender.closed() => return,
                }
                let before = sender.borrow().clone();
                let world = worlds.borrow_and_update().clone();
                let roots = roots.borrow_and_update().clone();
                let leaving = leaving.borrow_and_update().clone();
                let version = world.version();
                sender.send_replace(Arc::new(before.next(world, roots, leaving)));
                changed(version);
            }
        };
        (Self { newest }, run)
    }

    /// The newest generation, and those to come.
    pub fn watch(&self) -> watch::Receiver<Arc<Generation>> {
        self.newest.clone()
    }
}

impl Generation {
    fn next(&self, world: Arc<World>, roots: Arc<Roots>, leaving: Arc<Leaving>) -> Self {
        // Instances come and go all the time in a large mesh: only endpoints are made anew for that.
        let same = Arc::ptr_eq(&world, &self.world) && Arc::ptr_eq(&roots, &self.roots);
        let made: Made = match same {
            true => self
                .made
                .read()
                .iter()
                .filter(|(k, _)| k.kind != Kind::Endpoints)
                .map(|(k, m)| (k.clone(), m.clone()))
                .collect(),
            false => Made::default(),
        };
        let count = made.values().map(|names| names.len() as i64).sum();
        Self {
            number: self.number + 1,
            world,
            ca: Arc::clone(&self.ca),
            roots_id: ca::roots_id(&roots).into(),
            roots,
            leaving,
            made: RwLock::new(made),
            count: AtomicI64::new(count),
            metrics: self.metrics.clone(),
        }
    }

    /// What one node should have.
    pub fn of(self: &Arc<Self>, node: Node) -> NodeView {
        NodeView { generation: Arc::clone(self), node }
    }

    fn resource(&self, node: &Node, kind: Kind, name: &str) -> Option<Arc<Encoded>> {
        let key = key(&self.world, node, kind, name);
        if let Some(made) = self.made.read().get(&key).and_then(|names| names.get(name)) {
            return Some(Arc::clone(made));
        }
        let timer = self.metrics.compile.with_label_values(&[kind.as_str()]).start_timer();
        let made = encoded(&self.compile(node, kind, name)?, node.class);
        timer.observe_duration();
        let mut all = self.made.write();
        let names = all.entry(key).or_default();
        if let Some(meanwhile) = names.get(name) {
            return Some(Arc::clone(meanwhile));
        }
        let made = Arc::new(made);
        names.insert(Arc::clone(&made.name), Arc::clone(&made));
        self.metrics.cached.set(self.count.fetch_add(1, Ordering::Relaxed) + 1);
        Some(made)
    }

    fn compile(&self, node: &Node, kind: Kind, name: &str) -> Option<Item> {
        let world = &self.world;
        Some(match kind {
            Kind::Secret if name == ca::BUNDLE => {
                let mut bundle = self.ca.bundle(world.mesh().trust_domain.clone());
                bundle.roots = self.roots.iter().map(|der| der.to_vec()).collect();
                Item::Secret(Arc::new(bundle))
            }
            Kind::Secret => return None,
            Kind::Cluster => Item::Cluster(Arc::new(compile::cluster(world, node, name)?)),
            Kind::Endpoints => {
                let all = compile::endpoints(world, node, name)?;
                Item::Endpoints(Arc::new(compile::without(all, &self.leaving)))
            }
            Kind::Listener => Item::Listener(Arc::new(compile::listener(world, node, name)?)),
            Kind::Route => Item::Route(Arc::new(compile::route(world, node, name)?)),
        })
    }
}

fn key(world: &World, node: &Node, kind: Kind, name: &str) -> Key {
    let all = Key { kind, class: node.class, namespace: None, workload: None, place: None };
    match compile::scope(world, node, kind, name) {
        Scope::Mesh => all,
        Scope::Namespace => Key { namespace: Some(Arc::clone(&node.namespace)), ..all },
        Scope::Place(place) => Key { place: Some(place), ..all },
        Scope::Node => {
            Key { namespace: Some(Arc::clone(&node.namespace)), workload: Some(Arc::clone(&node.workload)), ..all }
        }
    }
}

fn encoded(item: &Item, class: Class) -> Encoded {
    let class = match class {
        Class::Sidecar => xds::Class::Sidecar,
        Class::Envoy => xds::Class::Envoy,
        Class::Grpc => xds::Class::Grpc,
    };
    let bytes = xds::encode(item, class);
    Encoded {
        name: item.name().clone(),
        version: xds::version_of(&bytes).into(),
        type_url: xds::type_url(item.kind()),
        bytes,
        refs: refs(item),
    }
}

/// What a resource names.
fn refs(item: &Item) -> Vec<(Kind, Name)> {
    let mut refs = match item {
        Item::Secret(_) | Item::Endpoints(_) => Vec::new(),
        Item::Cluster(cluster) => match &cluster.discovery {
            Discovery::Eds(name) => vec![(Kind::Endpoints, name.clone())],
            Discovery::Static(_) | Discovery::Dns { .. } | Discovery::OriginalDestination => Vec::new(),
        },
        Item::Route(routes) => clusters(routes),
        Item::Listener(listener) => match &**listener {
            Listener::Api(api) => match &api.routes {
                RouteSource::Rds(name) => vec![(Kind::Route, name.clone())],
                RouteSource::Inline(routes) => clusters(routes),
            },
            Listener::Inbound(inbound) => {
                let of = |target: &InboundTarget| match target {
                    InboundTarget::Http { routes, .. } => clusters(routes),
                    InboundTarget::Tcp { cluster, .. } => vec![(Kind::Cluster, cluster.clone())],
                };
                inbound.chains.iter().flat_map(|chain| of(&chain.target)).collect()
            }
        },
    };
    refs.sort_unstable();
    refs.dedup();
    refs
}

fn clusters(routes: &RouteConfig) -> Vec<(Kind, Name)> {
    let actions = routes.virtual_hosts.iter().flat_map(|host| &host.routes).map(|route| &route.action);
    let forwards = actions.filter_map(|action| match action {
        Action::Forward(forward) => Some(forward),
        Action::Redirect(_) | Action::Respond { .. } => None,
    });
    forwards.flat_map(|forward| &forward.clusters).map(|c| (Kind::Cluster, c.name.clone())).collect()
}

/// What one node should have, in one generation.
#[derive(Debug, Clone)]
pub struct NodeView {
    generation: Arc<Generation>,
    node: Node,
}

impl View for NodeView {
    fn resource(&self, kind: Kind, name: &str) -> Option<Arc<Encoded>> {
        self.generation.resource(&self.node, kind, name)
    }

    fn names(&self, kind: Kind) -> Vec<Name> {
        compile::names(&self.generation.world, &self.node, kind)
    }
}
