//! `weir status`: of each of the last changes, on how many proxies it is applied, how fast, and who refused; and the
//! proxies.

use super::{
    Context,
    failure::Failure,
    output::{Table, age},
};
use crate::api::types::{Change, ChangeList, Proxy, ProxyList, Rotation, Version};
use clap::Args;
use serde::Serialize;

/// See the module.
#[derive(Debug, Args)]
pub(super) struct Status {
    /// How many of the last changes.
    #[arg(long, default_value_t = 10)]
    changes: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Overview {
    control_plane: Version,
    changes: Vec<Change>,
    proxies: Vec<Proxy>,
    roots: Option<Rotation>,
}

impl Status {
    pub(super) async fn run(self, context: &mut Context<'_>) -> Result<(), Failure> {
        let client = context.client()?;
        let control_plane = client.get::<Version>("/api/v1/version").await?;
        let mut changes = client.get::<ChangeList>("/api/v1/changes").await?.items;
        changes.truncate(self.changes);
        let proxies = client.get::<ProxyList>("/api/v1/proxies").await?.items;
        // Of an older control plane nothing is known.
        let roots = client.get::<Rotation>("/api/v1/rotation").await.ok();
        let address = client.address().to_owned();
        context.print(&Overview { control_plane, changes, proxies, roots }, |o| table(&address, o))
    }
}

fn table(address: &str, overview: &Overview) -> String {
    let connected = overview.proxies.iter().filter(|p| p.connected).count();
    let about = &overview.control_plane;
    let mut text = format!(
        "Control plane {address}: version {}, trust domain {}, {connected} of {} proxies connected\n\n",
        about.version,
        about.trust_domain,
        overview.proxies.len()
    );
    match &overview.roots {
        Some(roots) if roots.expired => {
            text += &format!(
                "The issuing certificate has expired ({}): no certificate can be issued; exchange it with `weir rotate-anchor`\n\n",
                roots.expires
            );
        }
        Some(Rotation { phase: Some(phase), .. }) => {
            text += &format!("The roots are being exchanged ({phase}): `weir rotate-anchor --status`\n\n");
        }
        _ => {}
    }
    let mut changes = Table::new(&["CHANGE", "AGE", "WHAT", "STATUS"]);
    for change in &overview.changes {
        changes.row([change.version.to_string(), age(&change.at), change.summary.clone(), change.words()]);
    }
    text += &if changes.is_empty() { "no change yet\n".to_owned() } else { changes.to_string() };
    let mut proxies = Table::new(&["PROXY", "IDENTITY", "STATE", "SINCE", "VERSION", "RESOURCES", "CHANGE", "REFUSED"]);
    for p in &overview.proxies {
        proxies.row([
            p.node.clone(),
            p.identity.clone(),
            if p.connected { "connected".into() } else { "away".into() },
            age(&p.since),
            p.version.clone(),
            p.subscribed.to_string(),
            p.applied_version.to_string(),
            p.refused.len().to_string(),
        ]);
    }
    text.push('\n');
    text += &if proxies.is_empty() { "no proxy yet\n".to_owned() } else { proxies.to_string() };
    for proxy in &overview.proxies {
        for r in &proxy.refused {
            text += &format!("{} refuses {} {}: {}\n", proxy.node, r.kind, r.name, r.reason);
        }
    }
    text
}
