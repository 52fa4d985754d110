//! The TLS configurations of both sides. Made when the identity or the bundle changes, never per connection.
//!
//! Sessions may be resumed, which saves both ends a signature and its check. A resumed session does not show its
//! certificates again, so what it rests on must not change under it: every rebuild starts with new ticket keys and an
//! empty session store, which ends all older sessions; within one configuration, `client` and `server` look at the end
//! of the remembered certificate after each handshake.

use super::{Bundle, Credentials, known::Known, verify::Verifier};
use arc_swap::ArcSwapOption;
use rustls::{
    ClientConfig, ServerConfig,
    client::Resumption,
    crypto::{
        CryptoProvider,
        aws_lc_rs::{self, cipher_suite},
    },
    server::{NoServerSessionStorage, ProducesTickets},
    sign::SingleCertAndKey,
    version::TLS13,
};
use std::sync::Arc;

/// Servers of whom sessions are remembered; the oldest is forgotten first.
const SESSIONS: usize = 256;
/// How long a ticket is good at most.
const TICKET_SECONDS: u32 = 3600;

/// The present configurations, shared by every client and server side of the process.
#[derive(Debug, Default)]
pub struct Contexts {
    current: ArcSwapOption<Context>,
}

#[derive(Debug)]
pub(super) struct Context {
    pub(super) client: Arc<ClientConfig>,
    /// A client must show a certificate.
    pub(super) server_required: Arc<ServerConfig>,
    /// A client may show a certificate; if it does, it must be good.
    pub(super) server_optional: Arc<ServerConfig>,
    /// What was verified with these.
    pub(super) known: Arc<Known>,
}

impl Contexts {
    /// Replaces the configurations; handshakes under way go on with the old ones, connections are not touched.
    ///
    /// # Errors
    /// If the cryptographic library gives no ticket key.
    pub fn update(&self, credentials: &Credentials, bundle: &Arc<Bundle>) -> Result<(), rustls::Error> {
        self.current.store(Some(Arc::new(Context::new(credentials, bundle)?)));
        Ok(())
    }

    /// Whether handshakes can be made.
    pub fn is_ready(&self) -> bool {
        self.current.load().is_some()
    }

    /// How many chains of certificates are remembered as good.
    pub fn known(&self) -> usize {
        self.current.load().as_ref().map_or(0, |context| context.known.len())
    }

    pub(super) fn load(&self) -> Option<Arc<Context>> {
        self.current.load_full()
    }
}

impl Context {
    fn new(credentials: &Credentials, bundle: &Arc<Bundle>) -> Result<Self, rustls::Error> {
        let provider = provider();
        let tickets: Arc<dyn ProducesTickets> = Arc::new(ShortTickets(aws_lc_rs::Ticketer::new()?));
        let known = Arc::<Known>::default();
        let verifier = |required| {
            Arc::new(Verifier::new(bundle.clone(), provider.signature_verification_algorithms, known.clone(), required))
        };
        Ok(Self {
            client: Arc::new(client(&provider, credentials, verifier(true))?),
            server_required: Arc::new(server(&provider, credentials, verifier(true), &tickets)?),
            server_optional: Arc::new(server(&provider, credentials, verifier(false), &tickets)?),
            known,
        })
    }
}

/// aws-lc-rs, with X25519MLKEM768 first (the crate's `prefer-post-quantum`): on full handshakes it costs 3 % more than
/// X25519. AES-128 with SHA-256 stands before AES-256 with SHA-384, as in BoringSSL and Go: processors have instructions
/// for SHA-256, and the key schedule in SHA-384 was a sixth of a handshake.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: std::sync::OnceLock<Arc<CryptoProvider>> = std::sync::OnceLock::new();
    let make = || {
        let cipher_suites = vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ];
        Arc::new(CryptoProvider { cipher_suites, ..aws_lc_rs::default_provider() })
    };
    PROVIDER.get_or_init(make).clone()
}

fn client(
    provider: &Arc<CryptoProvider>,
    credentials: &Credentials,
    verifier: Arc<Verifier>,
) -> Result<ClientConfig, rustls::Error> {
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13])?
        .dangerous() // the name for "verifies by itself": `verify` does, by SPIFFE identity
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(credentials.certified().clone())));
    config.resumption = Resumption::in_memory_sessions(SESSIONS);
    config.enable_sni = true;
    Ok(config)
}

fn server(
    provider: &Arc<CryptoProvider>,
    credentials: &Credentials,
    verifier: Arc<Verifier>,
    tickets: &Arc<dyn ProducesTickets>,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(credentials.certified().clone())));
    config.alpn_protocols = [super::Alpn::H2, super::Alpn::Http1].map(|p| p.as_bytes().to_vec()).into();
    config.ignore_client_order = true;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = tickets.clone();
    config.send_tls13_tickets = 1;
    Ok(config)
}

/// Tickets with a shorter hint of their life than the library's twelve hours.
#[derive(Debug)]
struct ShortTickets(Arc<dyn ProducesTickets>);

impl ProducesTickets for ShortTickets {
    fn enabled(&self) -> bool {
        self.0.enabled()
    }

    fn lifetime(&self) -> u32 {
        self.0.lifetime().min(TICKET_SECONDS)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.0.encrypt(plain)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.0.decrypt(cipher)
    }
}
