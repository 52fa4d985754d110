//! The proof that capture works: a connection to a port on which nobody listens arrives at the listener for captured
//! connections, and is told from the others by where it was meant to go.

use super::PROBE;
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};
use tokio::{io::AsyncReadExt, net::TcpStream};

/// What the listener answers.
pub const ANSWER: &[u8] = b"captured\n";
/// How long one try may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(100);

/// Whether a captured connection is the probe.
pub fn is_probe(destination: SocketAddr) -> bool {
    destination.port() == PROBE && destination.ip().is_loopback()
}

/// Where the probe of an address family calls.
pub fn address(v6: bool) -> SocketAddr {
    let ip = if v6 { IpAddr::V6(Ipv6Addr::LOCALHOST) } else { IpAddr::V4(Ipv4Addr::LOCALHOST) };
    SocketAddr::new(ip, PROBE)
}

/// Tries until every address family that is listened on is captured, and says so.
pub async fn prove(v6: bool, proven: &AtomicBool) {
    let mut told = false;
    for v6 in [Some(false), v6.then_some(true)].into_iter().flatten() {
        while let Err(error) = once(v6).await {
            if !told {
                tracing::warn!(%error, probe = %address(v6), "traffic is not captured (yet): has weir-init run here?");
                told = true;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
    tracing::info!("traffic is captured");
    proven.store(true, Ordering::Relaxed);
}

/// One try.
///
/// # Errors
/// Nobody answered, or somebody else.
pub async fn once(v6: bool) -> io::Result<()> {
    let ask = async {
        let mut answer = Vec::new();
        let tcp = TcpStream::connect(address(v6)).await?;
        tcp.take(64).read_to_end(&mut answer).await?;
        if answer == ANSWER { Ok(()) } else { Err(io::Error::other("somebody else answered")) }
    };
    tokio::time::timeout(PATIENCE, ask).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}
