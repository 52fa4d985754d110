//! Where a captured connection was meant to go: the kernel remembers it (`SO_ORIGINAL_DST`, `IP6T_SO_ORIGINAL_DST`).

use socket2::SockRef;
use std::{io, net::SocketAddr, sync::Arc};
use tokio::net::TcpStream;

/// Where it was meant to go; `None`: to us, it was not captured.
///
/// # Errors
/// The connection is gone already.
pub fn destination(tcp: &TcpStream) -> io::Result<Option<SocketAddr>> {
    let here = plain(tcp.local_addr()?);
    let socket = SockRef::from(tcp);
    let meant = if here.is_ipv4() { socket.original_dst_v4() } else { socket.original_dst_v6() };
    // Where nothing is tracked, nothing was turned.
    let Some(meant) = meant.ok().and_then(|address| address.as_socket()).map(plain) else { return Ok(None) };
    // The scope of a link-local address is no part of where it leads.
    Ok(Some(meant).filter(|meant| (meant.ip(), meant.port()) != (here.ip(), here.port())))
}

/// What it is called on the wire: `<address>_<port>`.
pub fn name(destination: SocketAddr) -> Arc<str> {
    format!("{}_{}", destination.ip(), destination.port()).into()
}

/// An IPv4 address that came over an IPv6 socket is an IPv4 address.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_not_captured_is_known_as_such() {
        for address in ["127.0.0.1:0", "[::1]:0", "[::]:0"] {
            let Ok(listener) = tokio::net::TcpListener::bind(address).await else { continue };
            let mut to = listener.local_addr().unwrap();
            if to.ip().is_unspecified() {
                to.set_ip("127.0.0.1".parse().unwrap());
            }
            let _client = TcpStream::connect(to).await.unwrap();
            let (tcp, _) = listener.accept().await.unwrap();
            assert_eq!(destination(&tcp).unwrap(), None, "{address}");
        }
    }

    #[test]
    fn names_are_the_control_planes() {
        assert_eq!(&*name("10.96.0.7:80".parse().unwrap()), "10.96.0.7_80");
        assert_eq!(&*name("[fd00::7]:80".parse().unwrap()), "fd00::7_80");
    }
}
