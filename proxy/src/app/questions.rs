//! The sockets for questions (DNS), on loopback, for each address family that there is.

use super::{Before, StartError, single};
use crate::dns;
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::OwnedFd,
};

/// The names under which a successor asks for them: UDP and TCP, IPv4 and IPv6.
const NAMES: [(&str, &str); 2] =
    [("questions over UDP", "questions over TCP"), ("questions over UDP and IPv6", "questions over TCP and IPv6")];

/// Binds them. `v6`: IPv6 is captured too.
pub(super) fn bind(port: u16, v6: bool, before: &mut Before<'_>) -> Result<dns::Sockets, StartError> {
    let mut sockets = dns::Sockets::default();
    let families = [Some(IpAddr::V4(Ipv4Addr::LOCALHOST)), v6.then_some(IpAddr::V6(Ipv6Addr::LOCALHOST))];
    for (ip, (udp, tcp)) in families.into_iter().flatten().zip(NAMES) {
        let address = SocketAddr::new(ip, port);
        sockets.udp.push(datagrams(udp, address, before)?);
        sockets.tcp.push(single(tcp, address, before)?);
    }
    Ok(sockets)
}

/// The socket of the process before, or a new one.
fn datagrams(what: &'static str, address: SocketAddr, before: &mut Before<'_>) -> Result<UdpSocket, StartError> {
    let taken = before(what).into_iter().next().map(UdpSocket::from);
    let taken = taken.filter(|socket| socket.local_addr().is_ok_and(|bound| bound == address));
    let bound = taken.map_or_else(|| UdpSocket::bind(address), Ok).and_then(|socket| {
        socket.set_nonblocking(true)?;
        Ok(socket)
    });
    bound.map_err(|source| StartError::Bind { what, address, source })
}

/// The sockets again, with their names, for a successor.
pub(super) fn copies(sockets: &dns::Sockets) -> io::Result<Vec<(&'static str, Vec<OwnedFd>)>> {
    let udp = sockets.udp.iter().zip(NAMES).map(|(s, (name, _))| Ok((name, vec![s.try_clone()?.into()])));
    let tcp = sockets.tcp.iter().zip(NAMES).map(|(s, (_, name))| Ok((name, vec![s.try_clone()?.into()])));
    udp.chain(tcp).collect()
}
