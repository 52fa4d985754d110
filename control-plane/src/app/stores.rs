//! Which store a control plane has, and who leads on it.

use super::{Error, Options, cluster::Cluster};
use crate::{
    leader::{Alone, Lease},
    metrics::Metrics,
    store::{Embedded, Etcd, EtcdOptions, Memory, Store},
};
use std::{io, path::PathBuf, sync::Arc};
use zeroize::Zeroizing;

/// Where documents are kept.
#[derive(Debug, Clone, Default)]
pub enum Kind {
    /// In a file of the data directory, by this process alone.
    #[default]
    Embedded,
    /// In etcd, by several.
    Etcd(EtcdOptions),
}

/// What was said about etcd.
pub(super) struct Said {
    pub(super) endpoints: Vec<String>,
    pub(super) prefix: Option<String>,
    pub(super) ca: Option<PathBuf>,
    pub(super) certificate: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
}

/// What `--store` and the options of the stores mean together.
pub(super) fn chosen(store: Option<&str>, etcd: Said) -> Result<Kind, String> {
    match store.unwrap_or("embedded") {
        "embedded" if etcd.endpoints.is_empty() => Ok(Kind::Embedded),
        "embedded" => {
            Err("--etcd-endpoints is for --store etcd (WEIR_STORE=etcd); say that too, or leave it out".into())
        }
        "etcd" => Ok(Kind::Etcd(of_etcd(etcd)?)),
        other => Err(format!("there is no store `{other}`; --store is `embedded` or `etcd`")),
    }
}

fn of_etcd(said: Said) -> Result<EtcdOptions, String> {
    if said.endpoints.is_empty() {
        return Err("--store etcd needs --etcd-endpoints (WEIR_ETCD_ENDPOINTS): http://host:2379,…".into());
    }
    let certificate = match (said.certificate, said.key) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        _ => {
            return Err(
                "a certificate for etcd needs its key, and a key its certificate: --etcd-cert, --etcd-key".into()
            );
        }
    };
    let user = match (said.user, said.password) {
        (Some(user), Some(password)) => Some((user, Zeroizing::new(password))),
        (None, None) => None,
        _ => return Err("a user of etcd needs a password: --etcd-user and WEIR_ETCD_PASSWORD".into()),
    };
    let prefix = said.prefix.unwrap_or_else(|| "/weir".into());
    if !prefix.starts_with('/') || prefix.len() < 2 {
        return Err(format!("--etcd-prefix `{prefix}` must begin with `/` and have a name, such as /weir"));
    }
    Ok(EtcdOptions { endpoints: said.endpoints, prefix, ca: said.ca, certificate, user })
}

/// A store, and the lease for what one replica must do alone.
type Opened = (Arc<dyn Store>, Arc<dyn Lease>);

/// Opens the store.
pub(super) async fn open(options: &Options, cluster: Option<&Cluster>, metrics: &Metrics) -> Result<Opened, Error> {
    if let Some(cluster) = cluster {
        return Ok((cluster.store(), cluster.lease()));
    }
    let (kind, data, metrics) = (options.store.clone(), options.data.clone(), metrics.clone());
    let opened = tokio::task::spawn_blocking(move || -> Result<Opened, Error> {
        match (kind, data) {
            (Kind::Etcd(etcd), _) => {
                let store = Etcd::open(&etcd, metrics)?;
                let lease = Arc::new(store.lease());
                Ok((Arc::new(store), lease))
            }
            (Kind::Embedded, Some(folder)) => Ok((Arc::new(Embedded::open(&folder)?), Arc::new(Alone))),
            (Kind::Embedded, None) => Ok((Arc::new(Memory::default()), Arc::new(Alone))),
        }
    });
    opened.await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(endpoints: &[&str]) -> Said {
        Said {
            endpoints: endpoints.iter().map(ToString::to_string).collect(),
            prefix: None,
            ca: None,
            certificate: None,
            key: None,
            user: None,
            password: None,
        }
    }

    #[test]
    fn what_does_not_fit_together_says_what_is_missing() {
        let Ok(Kind::Etcd(etcd)) = chosen(Some("etcd"), said(&["http://a:1"])) else { panic!() };
        assert_eq!(etcd.prefix, "/weir");
        assert!(matches!(chosen(None, said(&[])), Ok(Kind::Embedded)));
        let wrong = [
            (chosen(None, said(&["http://a:1"])), "--store etcd"),
            (chosen(Some("etcd"), said(&[])), "--etcd-endpoints"),
            (chosen(Some("mysql"), said(&[])), "`mysql`"),
            (chosen(Some("etcd"), Said { key: Some("k".into()), ..said(&["http://a:1"]) }), "--etcd-cert"),
            (chosen(Some("etcd"), Said { user: Some("u".into()), ..said(&["http://a:1"]) }), "WEIR_ETCD_PASSWORD"),
            (chosen(Some("etcd"), Said { prefix: Some("weir".into()), ..said(&["http://a:1"]) }), "--etcd-prefix"),
        ];
        for (got, expected) in wrong {
            let why = got.unwrap_err();
            assert!(why.contains(expected), "{why}");
        }
    }
}
