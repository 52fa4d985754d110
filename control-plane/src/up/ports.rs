//! Free loopback ports for children that must be told their ports before they start.
//!
//! Ports of the range that the kernel hands to outgoing connections are avoided: one of them could be taken between
//! here and the child's `bind`, or while the child is being restarted.

use parking_lot::Mutex;
use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, SocketAddr, TcpListener},
};

/// What this process has handed out, by whichever [`Ports`]: between here and a child's `bind` nobody else shows that a
/// port is taken.
static HANDED_OUT: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// Hands out ports, each once in this process.
#[derive(Debug)]
pub struct Ports {
    taken: BTreeSet<u16>,
    next: u16,
    first: u16,
    end: u16,
}

impl Ports {
    /// Ports below the kernel's ephemeral range, beginning at a random one, so that several meshes on one machine
    /// seldom meet; never one of `taken`.
    pub fn new(taken: impl IntoIterator<Item = u16>) -> Self {
        let (first, end) =
            usable(&std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default());
        let next = rand::random_range(first..end);
        Self { taken: taken.into_iter().collect(), next, first, end }
    }

    /// A port that can be bound on `ip` now.
    ///
    /// # Errors
    /// No port is left, or the address is not of this machine.
    pub fn free(&mut self, ip: IpAddr) -> io::Result<u16> {
        for _ in self.first..self.end {
            let port = self.next;
            self.next = if port + 1 == self.end { self.first } else { port + 1 };
            if self.taken.contains(&port) || HANDED_OUT.lock().contains(&port) {
                continue;
            }
            match TcpListener::bind(SocketAddr::new(ip, port)) {
                Ok(_) if HANDED_OUT.lock().insert(port) => return Ok(port),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::AddrInUse || e.kind() == io::ErrorKind::PermissionDenied => {}
                Err(e) => return Err(e),
            }
        }
        Err(io::Error::new(io::ErrorKind::AddrInUse, "no free port is left below the ephemeral range"))
    }

    /// Never hands out this one.
    pub fn reserve(&mut self, port: u16) {
        self.taken.insert(port);
    }
}

/// The range to hand out from, given the kernel's `low high` of ephemeral ports.
fn usable(kernel: &str) -> (u16, u16) {
    let mut words = kernel.split_whitespace().map_while(|w| w.parse::<u16>().ok());
    match (words.next(), words.next()) {
        (Some(low), _) if low > 21_000 => (20_000, low),
        // The kernel takes ports from low numbers on: what is above its range, if that is enough.
        (Some(_), Some(high)) if high < 60_000 => (high + 1, 65_535),
        (Some(_), Some(_)) => (10_000, 65_535),
        _ => (20_000, 32_768),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn never_twice_and_below_the_ephemeral_range() {
        let mut ports = Ports::new([20_000]);
        let mut others = Ports::new([20_000]);
        others.next = ports.next;
        let mut both = || [&mut ports, &mut others].map(|p| p.free(Ipv4Addr::LOCALHOST.into()).unwrap());
        let handed: BTreeSet<u16> = (0..100).flat_map(|_| both()).collect();
        assert_eq!(handed.len(), 200);
        assert!(!handed.contains(&20_000));
    }

    #[test]
    fn the_kernels_range_is_left_alone() {
        assert_eq!(usable("32768\t60999\n"), (20_000, 32_768));
        assert_eq!(usable("1024 50000"), (50_001, 65_535));
        assert_eq!(usable(""), (20_000, 32_768));
    }
}
