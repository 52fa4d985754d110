//! Real handshakes of both sides, for each way in which a peer can be wrong.

use super::{testing::*, *};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

const SNI: &str = "8080.web.demo.svc.cluster.local";
const LIMIT: Duration = Duration::from_secs(10);

type Accepted = Result<(ServerStream<DuplexStream>, Peer), Error>;
type Connected = Result<(ClientStream<DuplexStream>, Peer), Error>;

fn contexts(credentials: &Credentials, bundle: &Arc<Bundle>) -> Arc<Contexts> {
    let contexts = Arc::new(Contexts::default());
    contexts.update(credentials, bundle).unwrap();
    contexts
}

async fn meet(
    client: &Arc<Contexts>,
    server: &Arc<Contexts>,
    allowed: &[SpiffeId],
    required: bool,
) -> (Connected, Accepted) {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let (client, server) = (Client::new(client.clone(), LIMIT), Server::new(server.clone(), LIMIT));
    tokio::join!(
        async {
            let mut connected = client.connect(near, SNI, allowed, &[Alpn::H2]).await;
            if let Ok((stream, _)) = &mut connected {
                // In TLS 1.3 the server's opinion, and its ticket, come with the first byte.
                let _ = stream.read_u8().await;
            }
            connected
        },
        async {
            let mut accepted = server.accept(far, move |_| required).await;
            if let Ok((stream, _)) = &mut accepted {
                let _ = stream.write_u8(1).await;
                let _ = stream.flush().await;
            }
            accepted
        }
    )
}

struct Pair {
    authority: Authority,
    client: Arc<Contexts>,
    server: Arc<Contexts>,
}

fn pair() -> Pair {
    let authority = Authority::new("root");
    let bundle = authority.bundle();
    let client = contexts(&authority.credentials(&Wish::of(&id("web"))), &bundle);
    let server = contexts(&authority.credentials(&Wish::of(&id("api"))), &bundle);
    Pair { authority, client, server }
}

fn reason<T>(result: Result<T, Error>) -> Reason {
    result.err().expect("refused").reason()
}

#[tokio::test]
async fn two_sidecars_know_each_other() {
    let p = pair();
    let (connected, accepted) = meet(&p.client, &p.server, &[id("api")], true).await;
    let (stream, server) = connected.unwrap();
    let session = stream.get_ref().1;
    assert_eq!(session.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    assert_eq!(session.negotiated_key_exchange_group().unwrap().name(), rustls::NamedGroup::X25519MLKEM768);
    assert_eq!(session.negotiated_cipher_suite().unwrap().suite(), rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);
    assert_eq!((server.id, server.alpn), (Some(id("api")), Some(Alpn::H2)));
    let (_, client) = accepted.unwrap();
    assert_eq!((client.id, client.alpn), (Some(id("web")), Some(Alpn::H2)));
    assert_eq!(client.sni.as_deref(), Some(SNI));
}

#[tokio::test]
async fn another_identity_than_the_one_called_is_refused() {
    let p = pair();
    let (connected, _) = meet(&p.client, &p.server, &[id("billing"), id("video")], true).await;
    assert_eq!(reason(connected), Reason::WrongIdentity);
    let (connected, _) = meet(&p.client, &p.server, &[], true).await;
    assert_eq!(reason(connected), Reason::WrongIdentity, "nobody allowed is nobody, not everybody");
}

#[tokio::test]
async fn another_root_is_refused_on_both_sides() {
    let p = pair();
    for name in ["root", "foreign"] {
        let other = Authority::new(name);
        let stranger = contexts(&other.credentials(&Wish::of(&id("web"))), &p.authority.bundle());
        let (_, accepted) = meet(&stranger, &p.server, &[id("api")], true).await;
        assert_eq!(reason(accepted), Reason::UnknownRoot);
        let (_, accepted) = meet(&stranger, &p.server, &[id("api")], false).await;
        assert_eq!(reason(accepted), Reason::UnknownRoot, "optional does not mean unchecked");
        let (connected, accepted) = meet(&p.client, &stranger, &[id("web")], true).await;
        assert_eq!(reason(connected), Reason::UnknownRoot);
        assert_eq!(reason(accepted), Reason::RefusedByPeer);
    }
}

#[tokio::test]
async fn out_of_time_is_refused_on_both_sides() {
    let p = pair();
    let now = SystemTime::now();
    let (hour, minute) = (Duration::from_secs(3600), Duration::from_secs(60));
    for (from, to, expected) in
        [(now - hour, now - minute, Reason::Expired), (now + minute, now + hour, Reason::NotYetValid)]
    {
        let wish = Wish::of(&id("api")).life(from, to);
        let late = contexts(&p.authority.credentials(&wish), &p.authority.bundle());
        let (connected, _) = meet(&p.client, &late, &[id("api")], true).await;
        assert_eq!(reason(connected), expected);
        let (_, accepted) = meet(&late, &p.server, &[id("api")], true).await;
        assert_eq!(reason(accepted), expected);
    }
}

#[tokio::test]
async fn one_spiffe_uri_of_the_trust_domain_is_asked_for() {
    let p = pair();
    for (uris, expected) in [
        (vec![], Reason::BadCertificate),
        (vec![id("web").to_string(), id("api").to_string()], Reason::BadCertificate),
        (vec!["https://weir.local/ns/demo/sa/web".to_owned()], Reason::BadCertificate),
        (vec!["spiffe://elsewhere/ns/demo/sa/web".to_owned()], Reason::WrongIdentity),
    ] {
        let wish = Wish { uris, ..Wish::of(&id("web")) };
        let (chain, key) = p.authority.issue(&wish);
        let odd = raw_client(&p.authority, Some((chain, key)));
        assert_eq!(reason(raw_meet(odd, &p.server, true).await), expected, "{:?}", wish.uris);
    }
}

#[tokio::test]
async fn no_certificate_is_refused_where_one_is_required() {
    let p = pair();
    let accepted = raw_meet(raw_client(&p.authority, None), &p.server, true).await;
    assert_eq!(reason(accepted), Reason::NoCertificate);
    let (_, peer) = raw_meet(raw_client(&p.authority, None), &p.server, false).await.unwrap();
    assert_eq!(peer.id, None);
}

#[tokio::test]
async fn who_is_verified_is_remembered_until_something_changes() {
    let p = pair();
    let known = |pair: &Pair| [pair.client.known(), pair.server.known()];
    assert_eq!(known(&p), [0, 0]);
    for _ in 0..2 {
        meet(&p.client, &p.server, &[id("api")], true).await.0.unwrap();
        assert_eq!(known(&p), [1, 1]);
    }
    meet(&p.client, &p.server, &[id("api")], false).await.1.unwrap();
    assert_eq!(known(&p), [1, 1], "whether a certificate is required plays no part");
    p.server.update(&p.authority.credentials(&Wish::of(&id("api"))), &p.authority.bundle()).unwrap();
    assert_eq!(known(&p), [1, 0]);
}

#[tokio::test]
async fn a_session_is_resumed_and_keeps_its_peer() {
    let p = pair();
    let (first, _) = meet(&p.client, &p.server, &[id("api")], true).await;
    assert!(!first.unwrap().1.resumed);
    let (second, accepted) = meet(&p.client, &p.server, &[id("api")], true).await;
    assert!(second.unwrap().1.resumed);
    let peer = accepted.unwrap().1;
    assert!(peer.resumed);
    assert_eq!(peer.id, Some(id("web")));
    let (other, _) = meet(&p.client, &p.server, &[id("billing")], true).await;
    assert_eq!(reason(other), Reason::WrongIdentity, "whom we mean is asked on resumption too");
}

#[tokio::test]
async fn a_change_of_bundle_or_certificate_ends_all_sessions() {
    let p = pair();
    meet(&p.client, &p.server, &[id("api")], true).await.0.unwrap();
    let next = Authority::new("next");
    // The server now trusts another root only: the old session must not let the client in.
    p.server.update(&next.credentials(&Wish::of(&id("api"))), &next.bundle()).unwrap();
    let both =
        Arc::new(Bundle::new(DOMAIN.parse().unwrap(), vec![p.authority.root.clone(), next.root.clone()]).unwrap());
    let (_, accepted) = meet(&p.client, &p.server, &[id("api")], true).await;
    assert!(accepted.is_err());
    p.client.update(&next.credentials(&Wish::of(&id("web"))), &both).unwrap();
    let (connected, accepted) = meet(&p.client, &p.server, &[id("api")], true).await;
    assert!(!connected.unwrap().1.resumed);
    assert!(!accepted.unwrap().1.resumed);
}

#[tokio::test]
async fn a_resumed_session_does_not_outlive_the_certificate() {
    let p = pair();
    // Certificates count in whole seconds: good for one to two of them.
    let end = SystemTime::now() + Duration::from_secs(2);
    let wish = Wish::of(&id("web")).life(SystemTime::now() - Duration::from_secs(60), end);
    let short = contexts(&p.authority.credentials(&wish), &p.authority.bundle());
    meet(&short, &p.server, &[id("api")], true).await.1.unwrap();
    let last = loop {
        let (_, accepted) = meet(&short, &p.server, &[id("api")], true).await;
        match accepted {
            Ok((_, peer)) => assert!(peer.resumed && SystemTime::now() < end),
            Err(error) => break error,
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(last.reason(), Reason::Expired);
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_does_not_hold_a_handshake_for_ever() {
    let p = pair();
    let (near, far) = tokio::io::duplex(1024);
    let accepted = Server::new(p.server.clone(), LIMIT).accept(near, |_| true).await;
    assert_eq!(reason(accepted), Reason::HandshakeTimeout);
    let (near, _far) = (far, tokio::io::duplex(1).0);
    let connected = Client::new(p.client.clone(), LIMIT).connect(near, SNI, &[id("api")], &[]).await;
    assert!(matches!(reason(connected), Reason::HandshakeTimeout | Reason::Io));
}

#[tokio::test]
async fn nothing_is_accepted_before_there_is_an_identity() {
    let none = Arc::new(Contexts::default());
    let (connected, accepted) = meet(&none, &none, &[id("api")], true).await;
    assert_eq!((reason(connected), reason(accepted)), (Reason::NotReady, Reason::NotReady));
}

#[tokio::test]
async fn what_is_no_tls_is_a_protocol_error() {
    let p = pair();
    let (mut near, far) = tokio::io::duplex(1024);
    near.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let accepted = Server::new(p.server.clone(), LIMIT).accept(far, |_| true).await;
    assert_eq!(reason(accepted), Reason::Protocol);
}

/// A client of the plain library: it sends what it is told to, good or not.
fn raw_client(
    authority: &Authority,
    identity: Option<(Vec<rustls_pki_types::CertificateDer<'static>>, Vec<u8>)>,
) -> rustls::ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier =
        verify::Verifier::new(authority.bundle(), provider.signature_verification_algorithms, Arc::default(), true);
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    match identity {
        Some((chain, key)) => {
            let key = rustls_pki_types::PrivatePkcs8KeyDer::from(key).into();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
        None => builder.with_no_client_auth(),
    }
}

async fn raw_meet(client: rustls::ClientConfig, server: &Arc<Contexts>, required: bool) -> Accepted {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
    let server = Server::new(server.clone(), LIMIT);
    let name = SNI.try_into().unwrap();
    tokio::join!(connector.connect(name, near), server.accept(far, move |_| required)).1
}
