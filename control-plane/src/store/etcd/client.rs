//! Calls to a cluster of etcd: one member at a time, the next one when it fails, TLS and a password where they are asked
//! for.
//!
//! A member that hangs (paused, cut off) is left after [`CALL`]; one without a leader says so itself. What a caller does
//! again is the caller's to know: a call here is made once.

use super::wire::{self, AuthenticateRequest, AuthenticateResponse};
use crate::{causes::in_words, store::Error};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use prost::Message;
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::{
    Code, Request, Status, Streaming,
    client::Grpc,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};
use zeroize::Zeroizing;

/// The longest that one call to one member takes. An election takes etcd about a second.
pub(super) const CALL: Duration = Duration::from_secs(3);
const CONNECT: Duration = Duration::from_secs(2);
/// etcd takes a ping every five seconds; more are an offence.
const KEEP_ALIVE: Duration = Duration::from_secs(6);
const KEEP_ALIVE_ANSWER: Duration = Duration::from_secs(3);
/// The largest answer that is read.
pub(super) const MAX_ANSWER: usize = 64 << 20;

/// Where etcd is, and how to be let in.
#[derive(Debug, Clone, Default)]
pub struct EtcdOptions {
    /// `http://host:port` or `https://host:port` of each member.
    pub endpoints: Vec<String>,
    /// All keys begin with this, so that several meshes can share an etcd.
    pub prefix: String,
    /// Roots (PEM) that vouch for the members; `https` needs them.
    pub ca: Option<PathBuf>,
    /// Our certificate (PEM) and its key, where etcd asks for one.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// A user of etcd and its password, where etcd asks for one.
    pub user: Option<(String, Zeroizing<String>)>,
}

/// One member.
#[derive(Debug, Clone)]
struct Member {
    tls: bool,
    host: String,
    port: u16,
}

/// The way to the cluster. A clone has a connection of its own.
pub(super) struct Client {
    members: Arc<[Member]>,
    tls: Option<Arc<ClientConfig>>,
    user: Option<(String, Zeroizing<String>)>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The member in use.
    at: usize,
    channel: Option<Channel>,
    token: Option<MetadataValue<Ascii>>,
}

impl Client {
    /// Reads the options; connects to nobody yet.
    pub(super) fn new(options: &EtcdOptions) -> Result<Self, Error> {
        let wrong = |why: String| Error::Server { server: "etcd".into(), why, remedy: "see the options `--etcd-…`" };
        let members = options.endpoints.iter().map(|e| member(e)).collect::<Result<Vec<_>, _>>().map_err(wrong)?;
        if members.is_empty() {
            return Err(wrong("no member is named".into()));
        }
        let tls = match members.iter().any(|m| m.tls) {
            true => Some(Arc::new(tls(options).map_err(wrong)?)),
            false => None,
        };
        // Replicas of the control plane do not all lean on the first member.
        let at = rand::random_range(0..members.len());
        let state = Mutex::new(State { at, ..State::default() });
        Ok(Self { members: members.into(), tls, user: options.user.clone(), state })
    }

    /// The same members, by another connection.
    pub(super) fn another(&self) -> Self {
        let at = self.state.lock().at;
        Self {
            members: self.members.clone(),
            tls: self.tls.clone(),
            user: self.user.clone(),
            state: Mutex::new(State { at, ..State::default() }),
        }
    }

    /// The members, for people.
    pub(super) fn name(&self) -> String {
        let all: Vec<_> = self.members.iter().map(|m| format!("{}:{}", m.host, m.port)).collect();
        format!("etcd at {}", all.join(", "))
    }

    /// Makes one call to the member in use. After a failure that may be the member's, the next call goes to another.
    pub(super) async fn call<Q, R>(&self, path: &'static str, request: Q) -> Result<R, Status>
    where
        Q: Message + 'static,
        R: Message + Default + 'static,
    {
        let called = async {
            let mut grpc = Grpc::new(self.channel().await?).max_decoding_message_size(MAX_ANSWER);
            grpc.ready().await.map_err(|e| Status::unavailable(in_words(&e)))?;
            let request = self.signed(Request::new(request));
            let codec = tonic_prost::ProstCodec::<Q, R>::default();
            Ok(grpc.unary(request, http::uri::PathAndQuery::from_static(path), codec).await?.into_inner())
        };
        let limit = || Status::deadline_exceeded(format!("no answer within {CALL:?}"));
        let answer = tokio::time::timeout(CALL, called).await.unwrap_or_else(|_| Err(limit()));
        self.judge(answer)
    }

    /// Opens a stream of answers on the member in use; `requests` must stay open as long as it is wanted.
    pub(super) async fn stream<Q, R>(
        &self,
        path: &'static str,
        requests: tokio_stream::wrappers::ReceiverStream<Q>,
    ) -> Result<Streaming<R>, Status>
    where
        Q: Message + 'static,
        R: Message + Default + 'static,
    {
        let opened = async {
            let mut grpc = Grpc::new(self.channel().await?).max_decoding_message_size(MAX_ANSWER);
            grpc.ready().await.map_err(|e| Status::unavailable(in_words(&e)))?;
            let mut request = self.signed(Request::new(requests));
            // A member that is cut off from the others ends the stream instead of being silent.
            request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
            let codec = tonic_prost::ProstCodec::<Q, R>::default();
            Ok(grpc.streaming(request, http::uri::PathAndQuery::from_static(path), codec).await?.into_inner())
        };
        let limit = || Status::deadline_exceeded(format!("no answer within {CALL:?}"));
        let answer = tokio::time::timeout(CALL, opened).await.unwrap_or_else(|_| Err(limit()));
        self.judge(answer)
    }

    /// Leaves the member in use for the next one.
    pub(super) fn leave(&self) {
        let mut state = self.state.lock();
        state.at = (state.at + 1) % self.members.len();
        state.channel = None;
    }

    fn signed<T>(&self, mut request: Request<T>) -> Request<T> {
        if let Some(token) = self.state.lock().token.clone() {
            request.metadata_mut().insert("token", token);
        }
        request
    }

    fn judge<T>(&self, answer: Result<T, Status>) -> Result<T, Status> {
        if let Err(status) = &answer {
            match status.code() {
                Code::Unauthenticated => self.state.lock().token = None,
                _ if passes(status) => self.leave(),
                _ => {}
            }
        }
        answer.map_err(explained)
    }

    async fn channel(&self) -> Result<Channel, Status> {
        let (at, known) = {
            let state = self.state.lock();
            (state.at, state.channel.clone())
        };
        let channel = match known {
            Some(channel) => channel,
            None => {
                let member = &self.members[at % self.members.len()];
                let channel = self.connect(member).await.map_err(|why| {
                    Status::unavailable(format!("no connection to {}:{}: {why}", member.host, member.port))
                })?;
                let mut state = self.state.lock();
                if state.at == at {
                    state.channel = Some(channel.clone());
                }
                channel
            }
        };
        self.log_in(&channel).await?;
        Ok(channel)
    }

    /// Gets a token, where there is a user and no token.
    async fn log_in(&self, channel: &Channel) -> Result<(), Status> {
        let Some((name, password)) = self.user.as_ref().filter(|_| self.state.lock().token.is_none()) else {
            return Ok(());
        };
        let mut grpc = Grpc::new(channel.clone());
        grpc.ready().await.map_err(|e| Status::unavailable(in_words(&e)))?;
        let request = AuthenticateRequest { name: name.clone(), password: password.to_string() };
        let codec = tonic_prost::ProstCodec::<AuthenticateRequest, AuthenticateResponse>::default();
        let path = http::uri::PathAndQuery::from_static(wire::AUTHENTICATE);
        let answer = grpc.unary(Request::new(request), path, codec).await?.into_inner();
        let mut token: MetadataValue<Ascii> =
            answer.token.parse().map_err(|_| Status::internal("etcd's token is not text"))?;
        token.set_sensitive(true);
        self.state.lock().token = Some(token);
        Ok(())
    }

    async fn connect(&self, member: &Member) -> Result<Channel, String> {
        let (tls, there) = (self.tls.clone().filter(|_| member.tls), member.clone());
        let connector = tower::service_fn(move |_| {
            let (tls, there) = (tls.clone(), there.clone());
            async move { open(tls, &there).await.map(TokioIo::new) }
        });
        // TLS is made here, by the connector: to the library this is a plain connection.
        let uri = format!("http://{}:{}", member.host, member.port);
        let endpoint = Endpoint::from_shared(uri).map_err(|e| e.to_string())?;
        let endpoint = endpoint
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE_ANSWER)
            .initial_stream_window_size(4 << 20)
            .initial_connection_window_size(8 << 20);
        let connecting = endpoint.connect_with_connector(connector);
        match tokio::time::timeout(CONNECT, connecting).await {
            Ok(connected) => connected.map_err(|e| in_words(&e)),
            Err(_) => Err(format!("not made within {CONNECT:?}")),
        }
    }
}

/// Either kind of connection, behind one type.
trait Bytes: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin> Bytes for T {}

async fn open(tls: Option<Arc<ClientConfig>>, member: &Member) -> io::Result<Box<dyn Bytes>> {
    let host = member.host.trim_matches(['[', ']']).to_owned();
    let tcp = TcpStream::connect((host.as_str(), member.port)).await?;
    tcp.set_nodelay(true)?;
    let Some(tls) = tls else { return Ok(Box::new(tcp)) };
    let name = ServerName::try_from(host).map_err(io::Error::other)?;
    Ok(Box::new(TlsConnector::from(tls).connect(name, tcp).await?))
}

/// Whether a failure may be over at another member, or in a moment.
pub(super) fn passes(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown | Code::Internal => true,
        Code::Unauthenticated => true,
        // "too many requests", and not "database space exceeded".
        Code::ResourceExhausted => status.message().contains("too many requests"),
        _ => false,
    }
}

fn member(text: &str) -> Result<Member, String> {
    let wrong = || format!("`{text}` is not `http://host:port` or `https://host:port`");
    let uri: http::Uri = text.parse().map_err(|_| wrong())?;
    let tls = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => return Err(wrong()),
    };
    let authority = uri.authority().filter(|_| matches!(uri.path(), "/" | "")).ok_or_else(wrong)?;
    Ok(Member { tls, host: authority.host().to_owned(), port: authority.port_u16().unwrap_or(2379) })
}

fn tls(options: &EtcdOptions) -> Result<ClientConfig, String> {
    let ca = options.ca.as_deref().ok_or("members under `https` need `--etcd-ca`, the roots that vouch for them")?;
    let mut roots = RootCertStore::empty();
    for root in certificates(ca)? {
        roots.add(root).map_err(|e| format!("{}: {e}", ca.display()))?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots);
    let mut config = match &options.certificate {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = certificates(certificate)?;
            let key = PrivateKeyDer::from_pem_file(key).map_err(|e| format!("{}: {e}", key.display()))?;
            let named = |e: rustls::Error| format!("{}: {e}", certificate.display());
            builder.with_client_auth_cert(chain, key).map_err(named)?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let named = |e: rustls_pki_types::pem::Error| format!("{}: {e}", path.display());
    let all: Vec<_> = CertificateDer::pem_file_iter(path).map_err(named)?.collect::<Result<_, _>>().map_err(named)?;
    if all.is_empty() { Err(format!("{}: there is no certificate in it", path.display())) } else { Ok(all) }
}

/// With what caused it: the library's own text says only "transport error".
fn explained(status: Status) -> Status {
    match std::error::Error::source(&status) {
        Some(source) => Status::new(status.code(), format!("{}: {}", status.message(), in_words(source))),
        None => status,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_strictly() {
        let ok = member("http://10.0.0.1:2379").unwrap();
        assert_eq!((ok.tls, &*ok.host, ok.port), (false, "10.0.0.1", 2379));
        assert!(member("https://etcd-1").unwrap().tls);
        for wrong in ["10.0.0.1:2379", "ftp://a:1", "http://a:1/path", ""] {
            assert!(member(wrong).is_err(), "{wrong}");
        }
        let none = Client::new(&EtcdOptions::default()).err().unwrap().to_string();
        assert!(none.contains("--etcd-"), "{none}");
        let no_roots = EtcdOptions { endpoints: vec!["https://a:1".into()], ..EtcdOptions::default() };
        assert!(Client::new(&no_roots).err().unwrap().to_string().contains("--etcd-ca"));
    }
}
