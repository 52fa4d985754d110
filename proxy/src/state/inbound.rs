//! What is accepted for the application beside us, by the server name that the caller asked for.

use super::{Cluster, RouteTable};
use std::{collections::HashMap, sync::Arc, time::Duration};
use weir_config::model::{Authz, DownstreamTls, HttpOptions};

/// All inbound chains.
pub struct Inbound {
    pub(super) by_name: HashMap<String, Chains>,
    pub(super) by_port: HashMap<u16, Chains>,
    pub(super) rest: Chains,
}

/// The chains of one port of the application: one for HTTP alone, where what is spoken is detected, and one for all else.
#[derive(Default, Clone)]
pub struct Chains {
    http: Option<Arc<InboundChain>>,
    rest: Option<Arc<InboundChain>>,
}

impl Chains {
    pub(super) fn set(&mut self, chain: Arc<InboundChain>, only_http: bool) {
        *(if only_http { &mut self.http } else { &mut self.rest }) = Some(chain);
    }

    /// The chain for a connection that speaks HTTP, or is not known to.
    pub fn of(&self, http: bool) -> Option<&Arc<InboundChain>> {
        self.http.as_ref().filter(|_| http).or(self.rest.as_ref())
    }

    /// Mutual TLS, if that is what they take.
    pub fn tls(&self) -> Option<DownstreamTls> {
        self.all().find_map(|chain| chain.tls)
    }

    /// Whether what is spoken has to be detected.
    pub fn detects(&self) -> bool {
        self.http.is_some()
    }

    fn all(&self) -> impl Iterator<Item = &Arc<InboundChain>> {
        self.http.iter().chain(&self.rest)
    }

    fn is_plain(&self) -> bool {
        self.all().any(|chain| chain.tls.is_none())
    }
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
    /// The chains for a connection over mutual TLS, by the server name that it asked for.
    pub fn named(&self, server_name: Option<&str>) -> Option<&Chains> {
        server_name.and_then(|name| self.by_name.get(name)).or(Some(&self.rest))
    }

    /// Whether a server name is one of ours.
    pub fn is_named(&self, server_name: &str) -> bool {
        self.by_name.contains_key(server_name)
    }

    /// The chains for a connection in plain text, by the port that it was sent to: known where traffic is captured; else
    /// there must be one only.
    pub fn plain(&self, port: Option<u16>) -> Option<&Chains> {
        let by_port = match port {
            Some(port) => self.by_port.get(&port).filter(|chains| chains.is_plain()),
            None => {
                let mut plain = self.by_port.values().filter(|chains| chains.is_plain());
                plain.next().filter(|_| plain.next().is_none())
            }
        };
        by_port.or_else(|| Some(&self.rest).filter(|chains| chains.is_plain()))
    }

    /// All chains, for people.
    pub fn chains(&self) -> impl Iterator<Item = &Arc<InboundChain>> {
        self.by_name.values().chain(self.by_port.values()).chain([&self.rest]).flat_map(Chains::all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(name: &str, plain: bool) -> Arc<InboundChain> {
        Arc::new(InboundChain {
            name: name.into(),
            tls: (!plain).then_some(DownstreamTls { require_client_certificate: true }),
            authz: Authz::default(),
            service: InboundService::Tcp { cluster: None, idle_timeout: None },
        })
    }

    fn inbound(ports: &[u16]) -> Inbound {
        let mut inbound = Inbound { by_name: HashMap::new(), by_port: HashMap::new(), rest: Chains::default() };
        for port in ports {
            let chains = inbound.by_port.entry(*port).or_default();
            chains.set(chain(&format!("http:{port}"), true), true);
            chains.set(chain(&format!("bytes:{port}"), true), false);
            inbound.by_name.entry(format!("{port}.a")).or_default().set(chain("mesh", false), false);
        }
        inbound
    }

    #[test]
    fn plain_text_needs_to_be_known_for_one_port() {
        let two = inbound(&[80, 81]);
        let name = |chains: Option<&Chains>, http| chains.and_then(|c| c.of(http)).map(|c| c.name.to_string());
        assert_eq!(name(two.plain(Some(80)), true).as_deref(), Some("http:80"));
        assert_eq!(name(two.plain(Some(81)), false).as_deref(), Some("bytes:81"));
        assert!(two.plain(Some(82)).is_none(), "nothing is said of that port");
        assert!(two.plain(None).is_none(), "which of the two is meant is not known");
        assert_eq!(name(inbound(&[80]).plain(None), false).as_deref(), Some("bytes:80"));
        assert_eq!(name(two.named(Some("80.a")), true).as_deref(), Some("mesh"), "one chain for all that is spoken");
        assert_eq!(name(two.named(Some("82.a")), true), None);
    }
}
