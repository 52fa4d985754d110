//! What the connected proxies trust and show: whom a rotation of roots waits for.

use super::{Fleet, Seat};
use std::{collections::BTreeSet, sync::Arc};

/// Names that are told of those a rotation waits for.
const SHOWN: usize = 20;

/// What one proxy reports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trust {
    /// It asks for the trust bundle. Others (gRPC without a sidecar) get their roots elsewhere and are not waited for.
    pub asks: bool,
    /// The roots that it has acknowledged, by [`crate::ca::roots_id`]; empty: none yet.
    pub roots: Arc<str>,
    /// The identifier of the key that signed its certificate; empty: it does not say.
    pub issuer: Arc<str>,
}

/// What the proxies of one replica report together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trusting {
    /// Connected proxies that are waited for at all.
    pub connected: usize,
    /// Those that have not acknowledged these roots.
    pub unaware: usize,
    /// Those whose certificate another key has signed.
    pub stale: usize,
    /// The nodes of the first of them.
    pub names: Vec<String>,
}

impl Fleet {
    /// Who does not hold these roots, or shows a certificate of another issuer.
    pub fn trusting(&self, roots: &str, issuer: &str) -> Trusting {
        let inner = self.inner.lock();
        let mut all = Trusting::default();
        for proxy in inner.connected.values().filter(|p| p.trust.asks) {
            all.connected += 1;
            let unaware = *proxy.trust.roots != *roots;
            let stale = !proxy.trust.issuer.is_empty() && *proxy.trust.issuer != *issuer;
            all.unaware += usize::from(unaware);
            all.stale += usize::from(stale);
            if (unaware || stale) && all.names.len() < SHOWN {
                all.names.push(proxy.who.node.clone());
            }
        }
        all
    }

    /// The nodes of all connected proxies that are waited for.
    pub fn roster(&self) -> BTreeSet<String> {
        let inner = self.inner.lock();
        inner.connected.values().filter(|p| p.trust.asks).map(|p| p.who.node.clone()).collect()
    }
}

impl Seat {
    /// What the proxy trusts and shows now.
    pub fn trusts(&self, trust: Trust) {
        let mut inner = self.fleet.inner.lock();
        let Some(proxy) = inner.connected.get_mut(&self.id) else { return };
        if proxy.trust != trust {
            proxy.trust = trust;
            drop(inner);
            self.fleet.tell();
        }
    }
}
