//! What there is where traffic is captured: the sockets that the kernel turns connections to, and the proof that it does.

use super::{Before, StartError, shared};
use crate::{
    admin::Condition,
    capture::probe,
    data,
    drain::Door,
    listen::{self, Bound},
};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// How long `weir-init` may hold the port for captured traffic.
const INIT_IS_BUSY: Duration = Duration::from_secs(5);

/// The names under which a successor asks for the sockets: those of IPv4 and of IPv6, and the inbound ones of IPv6.
const OUTBOUND: [&str; 2] = ["captured traffic", "captured traffic over IPv6"];
const INBOUND: &str = "inbound over IPv6";

/// The sockets for captured traffic.
pub(super) struct Captured {
    pub(super) sockets: data::Capture,
    /// A process before has listened there, and answers the probe while we do not.
    inherited: bool,
}

impl Captured {
    /// The kernel turns connections out to the loopback address of their family, and leaves those from outside their
    /// address. Where there is no IPv6, there is none to be captured.
    pub(super) fn bind(
        port: u16,
        inbound: &Bound,
        threads: usize,
        before: &mut Before<'_>,
    ) -> Result<Self, StartError> {
        let here = |ip: IpAddr| SocketAddr::new(ip, port);
        let mut inherited = false;
        let mut before = |name: &str| {
            let sockets = before(name);
            inherited |= name == OUTBOUND[0] && !sockets.is_empty();
            sockets
        };
        let mut sockets = data::Capture::default();
        sockets.outbound.push(patiently(OUTBOUND[0], here(Ipv4Addr::LOCALHOST.into()), threads, &mut before)?);
        match patiently(OUTBOUND[1], here(Ipv6Addr::LOCALHOST.into()), threads, &mut before) {
            Ok(bound) => {
                sockets.outbound.push(bound);
                if inbound.address.is_ipv4() {
                    sockets.inbound.push(beside(inbound.address.port(), threads, &mut before)?);
                }
            }
            Err(StartError::Bind { source, .. }) if source.kind() != io::ErrorKind::AddrInUse => {
                tracing::info!(error = %source, "there is no IPv6 here: none is captured");
            }
            Err(error) => return Err(error),
        }
        Ok(Self { sockets, inherited })
    }

    /// Whether IPv6 is captured too.
    pub(super) fn has_v6(&self) -> bool {
        self.sockets.outbound.iter().any(|bound| bound.address.is_ipv6())
    }

    /// The sockets again, with their names, for a successor.
    pub(super) fn copies(&self) -> io::Result<Vec<(&'static str, Vec<OwnedFd>)>> {
        let data::Capture { outbound, inbound } = &self.sockets;
        let outbound = OUTBOUND.into_iter().zip(outbound);
        let all = outbound.chain(inbound.iter().map(|bound| (INBOUND, bound)));
        all.map(|(name, bound)| Ok((name, bound.copies()?))).collect()
    }
}

/// All IPv6 addresses, beside sockets of IPv4 on the same port.
fn beside(port: u16, threads: usize, before: &mut Before<'_>) -> Result<Bound, StartError> {
    let address = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port);
    if let Some(bound) = Bound::taken(before(INBOUND), address) {
        return Ok(bound);
    }
    listen::bind_v6(port, threads).map_err(|source| StartError::Bind { what: INBOUND, address, source })
}

/// `weir-init` takes the port for a moment, to prove its rules.
fn patiently(
    what: &'static str,
    address: SocketAddr,
    threads: usize,
    before: &mut Before<'_>,
) -> Result<Bound, StartError> {
    let limit = Instant::now() + INIT_IS_BUSY;
    loop {
        match shared(what, address, threads, before) {
            Err(StartError::Bind { source, .. })
                if source.kind() == io::ErrorKind::AddrInUse && Instant::now() < limit =>
            {
                thread::sleep(Duration::from_millis(20));
            }
            other => return other,
        }
    }
}

/// Whether traffic is captured: proven once.
pub(super) struct Proof {
    v6: bool,
    inherited: bool,
    proven: Arc<AtomicBool>,
}

impl Proof {
    /// Not proven yet.
    pub(super) fn of(captured: &Captured) -> Self {
        Self { v6: captured.has_v6(), inherited: captured.inherited, proven: Arc::default() }
    }

    /// A sidecar that captures nothing is not ready. One that takes over from another that did not capture cannot know
    /// before it accepts: it is ready to take over without.
    pub(super) fn condition(&self, door: watch::Receiver<Door>) -> Condition {
        let (proven, inherited) = (self.proven.clone(), self.inherited);
        Condition {
            missing: "traffic is not captured: weir-init has not run here",
            is_met: Box::new(move || proven.load(Ordering::Relaxed) || !inherited && *door.borrow() == Door::Shut),
        }
    }

    /// Returns when it is proven.
    pub(super) async fn find(self) {
        probe::prove(self.v6, &self.proven).await;
    }
}
