//! The application beside the sidecar, where 127.0.0.1 refuses: some listen on the machine's own address alone (data stores
//! that tell each other where they are), some on the loopback of the other family (`localhost`, to some runtimes).

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::OnceLock,
};
use tokio::net::TcpStream;

/// Where else the application may listen: what callers of this sidecar have called, one of each family.
#[derive(Debug, Default)]
pub struct Beside {
    v4: OnceLock<IpAddr>,
    v6: OnceLock<IpAddr>,
}

impl Beside {
    /// Learns an address of this machine from a connection that has come in.
    pub fn learn(&self, tcp: &TcpStream, peer: SocketAddr) {
        // Whoever calls over one family has called an address of that family.
        let known = if peer.ip().to_canonical().is_ipv4() { &self.v4 } else { &self.v6 };
        if known.get().is_some() {
            return;
        }
        let Ok(here) = tcp.local_addr() else { return };
        let here = here.ip().to_canonical();
        if is_everyones(here) && here.is_ipv4() == peer.ip().to_canonical().is_ipv4() {
            let _ = known.set(here);
        }
    }

    /// Connects to the first place that takes it, after 127.0.0.1 did not. Nothing is waited for: they are of this machine.
    ///
    /// # Errors
    /// What 127.0.0.1 said, when all refuse; it names the others.
    pub async fn connect(&self, port: u16, refused: io::Error) -> io::Result<TcpStream> {
        let learned = [self.v4.get(), self.v6.get()].into_iter().flatten().copied();
        let mut others = String::new();
        for ip in learned.chain([Ipv6Addr::LOCALHOST.into()]) {
            if let Ok(tcp) = TcpStream::connect((ip, port)).await {
                return Ok(tcp);
            }
            others = format!("{others}{}{ip}", if others.is_empty() { "" } else { ", " });
        }
        Err(io::Error::new(refused.kind(), format!("{refused}; nor is it taken on {others}")))
    }
}

/// Whether it is where an application would listen that is not told so: nothing else is looked for elsewhere.
pub(super) fn is_usual(address: SocketAddr) -> bool {
    address.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST)
}

/// An address by which others reach this machine, wherever they are.
fn is_everyones(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_unspecified(),
        IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unspecified() && !ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    fn refused() -> io::Error {
        io::ErrorKind::ConnectionRefused.into()
    }

    #[tokio::test]
    async fn what_is_listened_to_elsewhere_is_found_and_what_is_nowhere_says_where_it_is_not() {
        let beside = Beside::default();
        let own = "127.0.0.2".parse().unwrap();
        beside.v4.set(own).unwrap();
        let listener = TcpListener::bind((own, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let tcp = beside.connect(port, refused()).await.unwrap();
        assert_eq!(tcp.peer_addr().unwrap(), SocketAddr::new(own, port));
        drop(listener);
        let error = beside.connect(port, refused()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(error.to_string().ends_with("nor is it taken on 127.0.0.2, ::1"), "{error}");
    }

    #[tokio::test]
    async fn the_loopback_of_the_other_family_needs_no_learning() {
        let Ok(listener) = TcpListener::bind("[::1]:0").await else { return };
        let port = listener.local_addr().unwrap().port();
        assert!(Beside::default().connect(port, refused()).await.is_ok());
    }

    #[tokio::test]
    async fn loopback_is_nothing_to_learn() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (tcp, peer) = listener.accept().await.unwrap();
        let beside = Beside::default();
        beside.learn(&tcp, peer);
        assert_eq!(beside.v4.get(), None);
        for (ip, everyones) in [
            ("10.9.0.3", true),
            ("fd00::7", true),
            ("fe80::1", false),
            ("::1", false),
            ("0.0.0.0", false),
            ("::", false),
        ] {
            assert_eq!(is_everyones(ip.parse().unwrap()), everyones, "{ip}");
        }
    }
}
