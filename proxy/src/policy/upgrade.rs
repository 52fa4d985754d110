//! A change of protocol on the same connection (WebSocket and the like, RFC 9110 §7.8): asked for once, and when the
//! destination agrees, both sides are joined and carried as bytes to their end.

use crate::{
    body::Incoming,
    error::{Error, Kind},
    request::Routed,
    stage::{Response, Stage},
    tunnel::{self, Tunnel},
};
use http::{HeaderValue, StatusCode, header};

/// Joins both sides of an upgrade.
pub struct Upgrades<N> {
    /// What comes next.
    pub next: N,
    /// What carries the bytes afterwards.
    pub tunnel: Tunnel,
}

impl<N: Stage<Box<Routed>, Failure = Error>> Stage<Box<Routed>> for Upgrades<N> {
    type Failure = Error;

    async fn call(&self, mut routed: Box<Routed>) -> Result<Response, Error> {
        let asked = routed.request.upgrade.take().map(|upgrade| {
            let headers = &mut routed.request.parts.headers;
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(header::UPGRADE, upgrade.protocol);
            routed.request.upgrading = true;
            let idle = match &routed.route.action {
                crate::state::RouteAction::Forward(f) => f.idle_timeout,
                _ => None,
            };
            let idle = idle.unwrap_or(tunnel::FOREVER);
            (upgrade.client, idle)
        });
        let mut response = self.next.call(routed).await?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let Some((client, idle)) = asked else {
                return Err(Kind::UpgradeFailed.detail("an upgrade that nobody asked for"));
            };
            let Some(upstream) = response.body_mut().take_incoming() else {
                return Err(Kind::UpgradeFailed.detail("its connection is gone"));
            };
            let Incoming::Http1(upstream) = upstream else {
                return Err(Kind::UpgradeFailed.detail("an answer of HTTP/1 over HTTP/2"));
            };
            let upstream = upstream.take_over().ok_or_else(|| Kind::UpgradeFailed.detail("its connection is gone"))?;
            self.tunnel.spawn(async move |counted| match client.taken().await {
                Some(client) => {
                    tunnel::join(client, upstream, idle, counted).await;
                }
                None => tracing::debug!("an upgrade did not come about"),
            });
        }
        Ok(response)
    }
}
