//! Mutual-TLS handshakes with the application's proxy: how many one processor does in a second, from its CPU time.
//!
//! The bench is the caller, with rustls and the caller's own certificate; every handshake is waited out until the other
//! side has seen all of it and closed the connection.

use crate::{
    cli::Args,
    contestant::{Contestant, Failure, Handshake},
    results::{Results, What},
    usage::Usage,
};
use rustls::{
    ClientConfig, NamedGroup,
    client::{ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue},
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time,
};
use tokio_rustls::TlsConnector;
use weir_tests::anyone::Anyone;

/// Callers at once: enough to keep the other side busy.
const CALLERS: usize = 8;

/// Measures every contestant that has an inbound side.
pub async fn measure(args: &Args, contestants: &[Contestant], results: &mut Results) -> Result<(), Failure> {
    let ways = [
        (What::Handshakes, false, false),
        (What::HandshakesPostQuantum, false, true),
        (What::Resumptions, true, false),
    ];
    for round in 1..=args.rounds() {
        eprintln!("handshakes: round {round} of {}", args.rounds());
        for contestant in contestants {
            let (Some(handshake), Some((_, process))) = (&contestant.handshake, contestant.proxies.last()) else {
                continue;
            };
            for (what, resumes, post_quantum) in ways {
                let before = Usage::of(process.id());
                let done = many(handshake, resumes, post_quantum, args.lasts() / 2).await;
                let done = done.map_err(|error| format!("handshakes with {}: {error}", contestant.kind))?;
                let used = Usage::of(process.id()) - before;
                // Where the other side does not speak the post-quantum group, there is nothing to say of it.
                if done > 0 && !used.cpu.is_zero() {
                    results.note(what, contestant.kind, done as f64 / used.cpu.as_secs_f64());
                }
            }
        }
    }
    Ok(())
}

async fn many(handshake: &Handshake, resumes: bool, post_quantum: bool, lasts: Duration) -> Result<u64, Failure> {
    let begun = Instant::now();
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (handshake, store) = (handshake.clone(), Arc::new(Tickets::new(resumes)));
        let config = Arc::new(config(&handshake, store.clone(), post_quantum)?);
        callers.spawn(async move {
            let mut done = 0;
            while begun.elapsed() < lasts {
                let result = time::timeout(Duration::from_secs(5), one(&handshake, &config, &store)).await;
                match result {
                    Ok(Ok(true)) => done += 1,
                    Ok(Ok(false)) => {}
                    // A refusal for want of a common group is an answer; anything else is not.
                    Ok(Err(_)) if post_quantum && done == 0 => return Ok(0),
                    Ok(Err(error)) => return Err(error),
                    Err(_) => return Err("a handshake does not end".into()),
                }
            }
            Ok::<u64, Failure>(done)
        });
    }
    let mut done = 0;
    while let Some(ended) = callers.join_next().await {
        done += ended??;
    }
    Ok(done)
}

/// Whether it counts: that of a caller which was to resume and had no ticket yet does not.
async fn one(handshake: &Handshake, config: &Arc<ClientConfig>, store: &Tickets) -> Result<bool, Failure> {
    let tcp = TcpStream::connect(handshake.address).await?;
    tcp.set_nodelay(true)?;
    let name = ServerName::try_from(handshake.name.clone())?;
    let mut stream = TlsConnector::from(config.clone()).connect(name, tcp).await?;
    let resumed = stream.get_ref().1.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
    if store.gives {
        // Envoy's library sends its tickets with the first answer, so all are asked something that they refuse at once.
        stream.write_all(b"x\r\n\r\n").await?;
    } else {
        stream.shutdown().await?;
    }
    // Tickets come, if they do, and then the end: the other side has seen all that we sent.
    let mut buffer = [0; 512];
    while !matches!(stream.read(&mut buffer).await, Ok(0) | Err(_)) {
        // What is refused is not always hung up on.
        stream.shutdown().await?;
    }
    Ok(resumed == store.gives)
}

fn config(handshake: &Handshake, store: Arc<Tickets>, post_quantum: bool) -> Result<ClientConfig, Failure> {
    let group = if post_quantum { NamedGroup::X25519MLKEM768 } else { NamedGroup::X25519 };
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups.retain(|g| g.name() == group);
    let provider = Arc::new(provider);
    let chain = vec![CertificateDer::from_pem_file(&handshake.chain)?];
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone))
        .with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(&handshake.key)?)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::store(store);
    Ok(config)
}

/// One caller's tickets, each used once.
#[derive(Debug)]
struct Tickets {
    gives: bool,
    kept: Mutex<VecDeque<Tls13ClientSessionValue>>,
}

impl Tickets {
    fn new(gives: bool) -> Self {
        Self { gives, kept: Mutex::default() }
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<Tls13ClientSessionValue>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        if self.gives {
            let mut kept = self.kept();
            kept.push_back(ticket);
            if kept.len() > 4 {
                kept.pop_front();
            }
        }
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.kept().pop_back()
    }
}
