//! Who may not come in is refused, and metric and log say why.

use crate::{Pair, pair};
use http::StatusCode;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};
use rustls::{
    ClientConfig,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use weir_tests::{anyone::Anyone, client::get, eventually};

type Shown = Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>;

/// What a client that shows this certificate gets from the server's sidecar: the first bytes, or how it was cut.
async fn knock(pair: &Pair, shown: Shown) -> Result<String, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone));
    let config = match shown {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).expect("a certificate"),
    };
    let name = ServerName::try_from("8080.server.default.svc.cluster.local").expect("a name");
    let tcp = TcpStream::connect(pair.server.inbound).await.map_err(|e| e.to_string())?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let exchange = async {
        let mut tls = connector.connect(name, tcp).await?;
        tls.write_all(b"GET / HTTP/1.1\r\nhost: server:8080\r\nconnection: close\r\n\r\n").await?;
        let mut answer = Vec::new();
        tls.read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&answer).into_owned())
    };
    match tokio::time::timeout(Duration::from_secs(5), exchange).await {
        Ok(Ok(answer)) if answer.starts_with("HTTP/1.1 ") => Ok(answer),
        Ok(Ok(answer)) => Err(format!("cut: {answer:?}")),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("silence".into()),
    }
}

/// A certificate for this identity, from an own root or (as somebody who stole nothing but time) long over.
fn certificate(identity: &str, expired: bool) -> Shown {
    let root_key = KeyPair::generate().expect("a key");
    let mut root = CertificateParams::new(vec![]).expect("parameters");
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    root.distinguished_name.push(DnType::CommonName, "another root");
    let issuer = Issuer::new(root, root_key);
    Some(leaf(&issuer, identity, expired))
}

fn leaf(
    issuer: &Issuer<'_, KeyPair>,
    identity: &str,
    expired: bool,
) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(vec![]).expect("parameters");
    params.subject_alt_names = vec![SanType::URI(identity.try_into().expect("a URI"))];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    if expired {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2020, 1, 2);
    }
    let certificate = params.signed_by(&key, issuer).expect("a certificate");
    (vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).expect("a key"))
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_refused_and_it_is_said_why() {
    let pair = pair("http", "").await;
    let id = "spiffe://weir.local/ns/default/sa/client";
    assert!(knock(&pair, None).await.is_err(), "no certificate");
    assert!(knock(&pair, certificate(id, false)).await.is_err(), "another root");
    assert!(knock(&pair, certificate(id, true)).await.is_err(), "expired");
    assert_eq!(pair.application.requests(), 0);
    eventually("log and metrics say why", 5, || async {
        let log = pair.server.log();
        let metrics = pair.server.metrics().await;
        let logged = ["tls_peer_untrusted", "no_certificate", "unknown_root"].iter().all(|why| log.contains(why));
        (logged && metrics.contains(r#"reason="tls_peer_untrusted""#)).then_some(())
    })
    .await;
    // Plain text is refused too.
    let plain = get(pair.server.inbound, "server:8080", "/").await;
    assert!(plain.is_err(), "{plain:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_identity_than_the_policy_allows_is_refused_by_name() {
    let policy = "---\napiVersion: weir.dev/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {name: only-admin}\nspec:\n  targetRefs: [{kind: Service, name: server}]\n  action: Allow\n  rules:\n  - from: [{serviceAccounts: [admin]}]\n";
    let pair = pair("http", policy).await;
    let answer = get(pair.client.outbound, "server:8080", "/").await.unwrap();
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    assert_eq!(answer.headers()["weir-reason"], "policy_denied");
    assert_eq!(pair.application.requests(), 0);
    let metrics = pair.server.metrics().await;
    assert!(metrics.lines().any(|l| l.starts_with("weir_authz_total") && l.contains("deny")), "{metrics}");
    eventually("the log names who was refused, and by what", 5, || async {
        let log = pair.server.log();
        (log.contains("spiffe://weir.local/ns/default/sa/client is refused by")).then_some(())
    })
    .await;
    // The rule is widened: the same connections get in.
    let wider = policy.replace("[admin]", "[admin, client]");
    pair.mesh.apply(&wider).await;
    eventually("the wider rule holds", 10, || async {
        let answer = get(pair.client.outbound, "server:8080", "/").await.ok()?;
        (answer.status() == StatusCode::OK).then_some(())
    })
    .await;
}
