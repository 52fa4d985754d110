//! Captured connections to addresses that are nobody's in the mesh, where hosts outside it are known by their names: the
//! first bytes name one (a TLS server name, the `Host` of HTTP/1), or the address is all there is.
//!
//! The name alone decides, and not the address that came with it: who says the name of a host that may be called gets to
//! that host, wherever he was going.

use super::{
    captured::result,
    detect::{Bytes, How, Speaks},
    hello::{self, Hello},
    http::serve,
    original,
    outbound::{Caller, Outbound},
    tcp,
};
use crate::{
    connection::{Answered, Captured, Connection},
    drain,
    error::Kind,
    http1::MAX_HEAD_BYTES,
    state::{Host, Speech},
    upstream::Io,
};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{io::AsyncReadExt, time::timeout};

/// Clients of TLS and of HTTP speak first. One that is silent for so long waits for the server, or speaks something else.
const PATIENCE: Duration = Duration::from_secs(1);
/// The longest name of a host.
const MAX_HOST: usize = 253;

/// What the first bytes say.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    /// There is more to come.
    More,
    /// TLS, for this host.
    Tls(String),
    /// HTTP/1, for this host.
    Http(String),
    /// No name.
    Nothing,
}

impl Said {
    /// The server name, of TLS.
    fn sni(self) -> Option<String> {
        match self {
            Self::Tls(name) => Some(name),
            Self::More | Self::Http(_) | Self::Nothing => None,
        }
    }
}

impl Outbound {
    /// Serves a connection whose first bytes may name its host.
    pub(super) async fn by_name(self, connection: Arc<Connection>, host: Arc<Host>, address: SocketAddr, mut io: Io) {
        let drain = self.inner.drain.at_random();
        let (mut read, mut said) = (Vec::new(), Said::More);
        while said == Said::More {
            let more = timeout(PATIENCE, some(&mut io, &mut read)).await;
            said = match more {
                Ok(Ok(0)) if read.is_empty() => return,
                Ok(Ok(n)) if n > 0 => name(&read),
                Ok(Err(_)) => return,
                _ => Said::Nothing,
            };
        }
        let port = address.port();
        let named = match &said {
            Said::Tls(name) | Said::Http(name) => {
                let authority = format!("{name}:{port}");
                match Box::pin(tcp::find(&self.inner.state, &authority)).await {
                    Ok(named) => Some(named),
                    Err(error) if error.kind() == Kind::RouteNotFound => None,
                    Err(error) => {
                        self.refused(connection.peer, &error);
                        return io.reset();
                    }
                }
            }
            Said::More | Said::Nothing => None,
        };
        match named {
            Some(named) => self.carry_to_host(connection, named, said, address, (io, read), drain).await,
            None => self.carry_to_address(connection, host, said, address, (io, read)).await,
        }
    }

    async fn carry_to_host(
        self,
        connection: Arc<Connection>,
        host: Arc<Host>,
        said: Said,
        address: SocketAddr,
        (io, read): (Io, Vec<u8>),
        drain: drain::Watch,
    ) {
        let sni = said.sni();
        if sni.is_none() && matches!(host.speech, Speech::Http | Speech::Detect) {
            self.told(result(Speaks::Http1), How::ClientBytes);
            // The whole connection is that host's, whatever its later requests say.
            let captured = Some(Captured { address, name: host.name.clone() });
            let answered = Answered::default();
            let connection = Arc::new(Connection {
                captured,
                identity: None,
                client_cert: None,
                sni: None,
                answered,
                ..*connection
            });
            return Box::pin(serve(io, read, Speaks::Http1, Caller { inner: self.inner, connection }, drain)).await;
        }
        self.told(if sni.is_some() { "tls" } else { "bytes" }, How::ClientBytes);
        let record = self.inner.recorder.bytes(&connection);
        let opened = match (host.speech, &sni) {
            // Where HTTP was declared, TLS has no business.
            (Speech::Http, Some(_)) => Err(Kind::BytesRefused.detail(format!("{} speaks HTTP, not TLS", host.name))),
            _ => Box::pin(tcp::through(&host, &record)).await,
        };
        let bytes = Bytes { client: read, server: vec![], how: How::ClientBytes, sni };
        self.bytes(connection.peer, io, opened, bytes).await;
    }

    /// No host that is known: there, or nowhere.
    async fn carry_to_address(
        self,
        connection: Arc<Connection>,
        host: Arc<Host>,
        said: Said,
        address: SocketAddr,
        (io, read): (Io, Vec<u8>),
    ) {
        self.told("bytes", How::Passthrough);
        let record = self.inner.recorder.bytes(&connection);
        let sni = said.sni();
        let opened = match host.speech {
            Speech::Outside => Box::pin(tcp::outside(&host, address, &record)).await,
            _ => {
                let meant = sni.clone().unwrap_or_else(|| original::name(address).to_string());
                Err(Kind::RouteNotFound.detail(format!("no host outside the mesh is called {meant}")))
            }
        };
        let bytes = Bytes { client: read, server: vec![], how: How::Passthrough, sni };
        self.bytes(connection.peer, io, opened, bytes).await;
    }
}

async fn some(io: &mut Io, read: &mut Vec<u8>) -> std::io::Result<usize> {
    io.readable().await?;
    read.reserve(4096);
    io.read_buf(read).await
}

/// Looks for a name.
fn name(read: &[u8]) -> Said {
    if hello::begins(read) {
        return match hello::server_name(read) {
            Hello::More => Said::More,
            Hello::Name(Some(name)) if is_host(&name) => Said::Tls(name),
            Hello::Name(_) | Hello::Other => Said::Nothing,
        };
    }
    let mut fields = [httparse::EMPTY_HEADER; crate::http1::MAX_HEADERS];
    let mut head = httparse::Request::new(&mut fields);
    let whole = match head.parse(read) {
        Ok(status) => status.is_complete(),
        Err(_) => return Said::Nothing,
    };
    if !whole {
        return if read.len() > MAX_HEAD_BYTES { Said::Nothing } else { Said::More };
    }
    let mut hosts = head.headers.iter().filter(|h| h.name.eq_ignore_ascii_case("host"));
    // Two of them are refused where requests are read; here they name nobody.
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return Said::Nothing };
    let host = String::from_utf8_lossy(host.value).trim().to_ascii_lowercase();
    // The port is the one that was called.
    let host = host.rsplit_once(':').map_or(host.as_str(), |(name, _)| name);
    if is_host(host) { Said::Http(host.to_owned()) } else { Said::Nothing }
}

/// Letters, digits, `-` and dots, and no address.
fn is_host(name: &str) -> bool {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    (1..=MAX_HOST).contains(&name.len()) && name.bytes().all(good) && name.parse::<std::net::IpAddr>().is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_told_by_a_whole_head_and_by_nothing_less() {
        let whole = b"GET / HTTP/1.1\r\nAccept: */*\r\nhOST:  API.example:8080 \r\n\r\n";
        assert_eq!(name(whole), Said::Http("api.example".into()));
        for end in 1..whole.len() {
            assert_eq!(name(&whole[..end]), Said::More, "{end}");
        }
        for nameless in [
            &b"GET / HTTP/1.0\r\n\r\n"[..],
            b"GET / HTTP/1.1\r\nHost: a.example\r\nHost: b.example\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a_b\r\n\r\n",
            b"SSH-2.0-x\r\n",
            b"\0\0\0",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ] {
            assert_eq!(name(nameless), Said::Nothing, "{:?}", String::from_utf8_lossy(nameless));
        }
    }

    #[test]
    fn a_host_is_told_by_the_server_name_of_tls_as_soon_as_it_is_whole() {
        let hello = hello::tests::real("API.Example");
        assert_eq!(name(&hello), Said::Tls("api.example".into()));
        assert_eq!(name(&hello).sni(), Some("api.example".into()));
        for end in 1..hello.len() {
            assert_eq!(name(&hello[..end]), Said::More, "{end}");
        }
        assert_eq!(name(&hello::tests::real("192.0.2.1")), Said::Nothing, "TLS that asks for nobody");
    }
}
