//! What is accepted for the application beside us, by the server name that the caller asked for.

use super::{Cluster, RouteTable};
use std::{collections::HashMap, sync::Arc, time::Duration};
use weir_config::model::{Authz, DownstreamTls, HttpOptions};

/// All inbound chains.
pub struct Inbound {
    pub(super) by_name: HashMap<String, Arc<InboundChain>>,
    pub(super) by_port: HashMap<u16, Arc<InboundChain>>,
    pub(super) rest: Option<Arc<InboundChain>>,
}

/// What is done with the connections of one port of the application.
pub struct InboundChain {
    /// For logs and metrics.
    pub name: Arc<str>,
    /// Mutual TLS; `None`: plain text.
    pub tls: Option<DownstreamTls>,
    /// Who may.
    pub authz: Authz,
    /// Where it goes.
    pub service: InboundService,
}

/// What is spoken on a chain.
pub enum InboundService {
    /// HTTP, routed.
    Http {
        /// Usually one route to the application.
        routes: Arc<RouteTable>,
        /// How HTTP is served.
        http: HttpOptions,
    },
    /// Bytes.
    Tcp {
        /// The application.
        cluster: Option<Arc<Cluster>>,
        /// No byte in either direction for so long ends it.
        idle_timeout: Option<Duration>,
    },
}

impl Inbound {
    /// The chain for a connection: by server name, then by the port it was sent to (where traffic is captured), then the
    /// one that asks nothing.
    pub fn chain(&self, server_name: Option<&str>, port: Option<u16>) -> Option<&Arc<InboundChain>> {
        server_name
            .and_then(|name| self.by_name.get(name))
            .or_else(|| port.and_then(|port| self.by_port.get(&port)))
            .or(self.rest.as_ref())
    }

    /// All chains, for people.
    pub fn chains(&self) -> impl Iterator<Item = &Arc<InboundChain>> {
        self.by_name.values().chain(self.by_port.values()).chain(&self.rest)
    }

    /// Whether a caller that speaks no TLS has a chain at all.
    pub fn plain(&self) -> Option<&Arc<InboundChain>> {
        self.chains().find(|c| c.tls.is_none())
    }
}
