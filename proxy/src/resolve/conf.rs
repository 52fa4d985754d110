//! `/etc/resolv.conf` as it was at the start: which resolvers there are (resolv.conf(5)).

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
};

/// The port of resolvers.
const PORT: u16 = 53;
/// More resolvers than this are not asked; systems themselves ask three.
const MAX_SERVERS: usize = 3;
/// The longest file that is read.
const MAX_FILE: u64 = 64 * 1024;

/// The resolvers of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conf {
    /// In the order in which they are asked.
    pub servers: Vec<SocketAddr>,
}

impl Conf {
    /// Reads a file. Where there is none, or it names no resolver, the one of this machine is meant, as systems have it.
    ///
    /// # Errors
    /// It is there and cannot be read, or is larger than 64 KiB.
    pub fn load(path: &Path) -> io::Result<Self> {
        match std::fs::metadata(path) {
            Ok(file) if file.len() > MAX_FILE => Err(io::Error::other("larger than 64 KiB")),
            Ok(_) => Ok(Self::parse(&String::from_utf8_lossy(&std::fs::read(path)?))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Self::parse("")),
            Err(e) => Err(e),
        }
    }

    fn parse(text: &str) -> Self {
        let mut servers: Vec<_> = text.lines().filter_map(server).take(MAX_SERVERS).collect();
        if servers.is_empty() {
            servers.push(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), PORT));
        }
        Self { servers }
    }
}

fn server(line: &str) -> Option<SocketAddr> {
    let mut words = line.split_ascii_whitespace();
    let address = words.next().filter(|word| *word == "nameserver").and(words.next())?;
    if let Ok(ip) = address.parse::<IpAddr>() {
        return Some(SocketAddr::new(ip, PORT));
    }
    // `[::1]:5353`, as musl and others take it, and `fe80::1%eth0`.
    if let Ok(whole) = address.parse() {
        return Some(whole);
    }
    let (ip, zone) = address.split_once('%')?;
    let scope = match zone.parse() {
        Ok(scope) => scope,
        Err(_) => std::fs::read_to_string(format!("/sys/class/net/{zone}/ifindex")).ok()?.trim().parse().ok()?,
    };
    Some(std::net::SocketAddrV6::new(ip.parse().ok()?, PORT, 0, scope).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_are_read_as_systems_read_them() {
        let text = "# nameserver 192.0.2.9\nsearch demo.svc.cluster.local svc.cluster.local\noptions ndots:5\n\
                    nameserver 10.96.0.10\n nameserver\tfd00::10 # the other\nnameserver here\nnameserver fe80::1%7\n\
                    nameserver 192.0.2.1\n";
        let servers: Vec<_> = Conf::parse(text).servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["10.96.0.10:53", "[fd00::10]:53", "[fe80::1%7]:53"], "three at most");
        assert_eq!(Conf::parse("options timeout:1").servers, ["127.0.0.1:53".parse().unwrap()]);
        assert_eq!(Conf::parse("nameserver [::1]:5353").servers, ["[::1]:5353".parse().unwrap()]);
        assert_eq!(Conf::load(Path::new("/no/such/file")).unwrap(), Conf::parse(""));
    }
}
