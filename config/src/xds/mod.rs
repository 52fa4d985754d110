//! How the model travels: Envoy's xDS v3 protobufs, both ways. The only room where Envoy's messages are seen.
//!
//! - [`encode`] and its siblings turn a value of the model into the bytes of Envoy's resource, for a class of client;
//!   the same value always gives the same bytes, so that their hash can be the version.
//! - [`decode`] reads a resource in two phases: what can be deserialised has a name, so that what is then found invalid
//!   or unsupported is refused by name, with the path of each field. It never panics, whatever the bytes.
//! - [`ads`] and [`istio_ca`] are the services over which all of this travels.

mod action;
pub mod ads;
mod authz;
mod balance;
mod cluster;
mod endpoints;
mod fault;
mod hcm;
mod headers;
pub mod istio_ca;
pub mod limits;
mod listener;
mod matcher;
mod outlier;
mod peak_ewma;
mod retry;
mod route;
mod secret;
#[cfg(test)]
mod tests;
mod tls;
mod weighted;
mod wire;

pub use ads::{any, kind_of, type_url, version_of};
pub use peak_ewma::{PEAK_EWMA, PeakEwma};

use crate::model::{Cluster, Endpoints, Kind, Listener, ResourceName, RouteConfig, TrustBundle};
use bytes::Bytes;
use prost::Message;
use std::{fmt, sync::Arc};
use wire::{At, Report};

/// What kind of client a resource is encoded for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Weir's own: everything the model has.
    Sidecar,
    /// A real Envoy.
    Envoy,
    /// A proxyless gRPC client or server, which refuses SDS (gRFC A29) and does not know static clusters.
    Grpc,
}

/// A value of the model, of any kind. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A trust bundle.
    Secret(Arc<TrustBundle>),
    /// A cluster.
    Cluster(Arc<Cluster>),
    /// The endpoints of a cluster.
    Endpoints(Arc<Endpoints>),
    /// A listener.
    Listener(Arc<Listener>),
    /// Routes.
    Route(Arc<RouteConfig>),
}

impl Item {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Secret(_) => Kind::Secret,
            Self::Cluster(_) => Kind::Cluster,
            Self::Endpoints(_) => Kind::Endpoints,
            Self::Listener(_) => Kind::Listener,
            Self::Route(_) => Kind::Route,
        }
    }

    /// Its resource name.
    pub fn name(&self) -> &ResourceName {
        match self {
            Self::Secret(x) => &x.name,
            Self::Cluster(x) => &x.name,
            Self::Endpoints(x) => &x.name,
            Self::Listener(x) => x.name(),
            Self::Route(x) => &x.name,
        }
    }
}

/// A resource that was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    /// The value.
    pub resource: Item,
    /// What was set and has no effect here (cosmetic fields), by field.
    pub notes: Vec<XdsIssue>,
}

/// A resource that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Its name, if so much could be read.
    pub name: Option<ResourceName>,
    /// Why; at least one, at most [`limits::ISSUES`].
    pub issues: Vec<XdsIssue>,
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: ", self.name.as_deref().unwrap_or("a resource without a name"))?;
        for (i, issue) in self.issues.iter().enumerate() {
            write!(f, "{}{issue}", if i == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

impl std::error::Error for Rejected {}

/// One thing that is wrong, unsupported or without effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XdsIssue {
    /// The field's path: `virtual_hosts[0].routes[3].route.hedge_policy`.
    pub field: String,
    /// What about it.
    pub message: String,
}

impl fmt::Display for XdsIssue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// The bytes of a resource for a class of client. Equal values give equal bytes.
pub fn encode(item: &Item, class: Class) -> Bytes {
    match item {
        Item::Secret(x) => encode_secret(x, class),
        Item::Cluster(x) => encode_cluster(x, class),
        Item::Endpoints(x) => encode_endpoints(x, class),
        Item::Listener(x) => encode_listener(x, class),
        Item::Route(x) => encode_route(x, class),
    }
}

/// A trust bundle as an Envoy `Secret`.
pub fn encode_secret(bundle: &TrustBundle, class: Class) -> Bytes {
    secret::secret(bundle, class).encode_to_vec().into()
}

/// A cluster as an Envoy `Cluster`.
pub fn encode_cluster(cluster: &Cluster, class: Class) -> Bytes {
    cluster::cluster(cluster, class).encode_to_vec().into()
}

/// Endpoints as an Envoy `ClusterLoadAssignment`, the same for all classes.
pub fn encode_endpoints(endpoints: &Endpoints, _: Class) -> Bytes {
    endpoints::assignment(endpoints).encode_to_vec().into()
}

/// A listener as an Envoy `Listener`.
pub fn encode_listener(listener: &Listener, class: Class) -> Bytes {
    listener::listener(listener, class).encode_to_vec().into()
}

/// Routes as an Envoy `RouteConfiguration`.
pub fn encode_route(routes: &RouteConfig, class: Class) -> Bytes {
    route::config(routes, class).encode_to_vec().into()
}

/// Reads a resource of a kind from the bytes of its `Any`.
pub fn decode(kind: Kind, body: &[u8]) -> Result<Decoded, Rejected> {
    match kind {
        Kind::Secret => read(body, secret::read, |x| Item::Secret(Arc::new(x))),
        Kind::Cluster => read(body, cluster::read, |x| Item::Cluster(Arc::new(x))),
        Kind::Endpoints => read(body, endpoints::read, |x| Item::Endpoints(Arc::new(x))),
        Kind::Listener => read(body, listener::read, |x| Item::Listener(Arc::new(x))),
        Kind::Route => read(body, route::read, |x| Item::Route(Arc::new(x))),
    }
}

/// All that every resource has in common: its name, in the first field.
#[derive(Clone, PartialEq, Message)]
struct NameOnly {
    #[prost(string, tag = "1")]
    name: String,
}

fn read<P: Message + Default, M>(
    body: &[u8],
    convert: fn(&mut Report, &At<'_>, P) -> Option<M>,
    wrap: fn(M) -> Item,
) -> Result<Decoded, Rejected> {
    let mut out = Report::default();
    let mut resource = None;
    if body.len() > limits::RESOURCE_BYTES {
        out.refuse(&At::ROOT, format!("has {} bytes; the limit is {}", body.len(), limits::RESOURCE_BYTES));
    } else {
        match P::decode(body) {
            Ok(message) => resource = convert(&mut out, &At::ROOT, message),
            Err(e) => out.refuse(&At::ROOT, format!("cannot be read: {e}")),
        }
    }
    match resource {
        Some(resource) if out.issues.is_empty() => Ok(Decoded { resource: wrap(resource), notes: out.notes }),
        _ => {
            if out.issues.is_empty() {
                out.refuse(&At::ROOT, "is not understood");
            }
            Err(Rejected { name: name_in(body), issues: out.issues })
        }
    }
}

/// The name, also where the rest cannot be read.
fn name_in(body: &[u8]) -> Option<ResourceName> {
    let NameOnly { name } = NameOnly::decode(body).ok()?;
    (!name.is_empty() && name.len() <= limits::TEXT_BYTES).then(|| name.into())
}
