//! The same handshakes against another implementation, where it is installed.

use super::{testing::*, *};
use base64::{Engine, prelude::BASE64_STANDARD};
use rustls_pki_types::CertificateDer;
use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    process::{Child, Command},
};

const LIMIT: Duration = Duration::from_secs(20);

struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    fn write(&self, name: &str, label: &str, der: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        let body = BASE64_STANDARD.encode(der);
        std::fs::write(&path, format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")).unwrap();
        path
    }

    fn identity(&self, chain: &[CertificateDer<'_>], key: &[u8]) -> [PathBuf; 2] {
        [self.write("cert.pem", "CERTIFICATE", &chain[0]), self.write("key.pem", "PRIVATE KEY", key)]
    }
}

fn openssl(arguments: &[&str], files: &[(&str, &Path)]) -> Option<Child> {
    let mut command = Command::new("openssl");
    command.args(arguments).kill_on_drop(true);
    for (flag, path) in files {
        command.arg(flag).arg(path);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().ok()
}

#[tokio::test]
async fn openssl_as_client_is_let_in_with_a_certificate_and_not_without() {
    let authority = Authority::new("root");
    let files = Files { folder: tempfile::tempdir().unwrap() };
    let contexts = Arc::new(Contexts::default());
    contexts.update(&authority.credentials(&Wish::of(&id("api"))), &authority.bundle()).unwrap();
    let server = Server::new(contexts, LIMIT);
    let root = files.write("root.pem", "CERTIFICATE", &authority.root);
    let (chain, key) = authority.issue(&Wish::of(&id("web")));
    let [cert, key] = files.identity(&chain, &key);
    for shown in [true, false] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap().to_string();
        let arguments =
            ["s_client", "-quiet", "-tls1_3", "-servername", "80.web.demo", "-alpn", "h2", "-connect", &target];
        let mut with = vec![("-CAfile", root.as_path())];
        if shown {
            with.extend([("-cert", cert.as_path()), ("-key", key.as_path())]);
        }
        let Some(mut child) = openssl(&arguments, &with) else { return };
        let (tcp, _) = listener.accept().await.unwrap();
        let accepted = server.accept(tcp, |_| true).await;
        if !shown {
            assert_eq!(accepted.err().unwrap().reason(), Reason::NoCertificate);
            continue;
        }
        let (mut stream, peer) = accepted.unwrap();
        assert_eq!((peer.id, peer.sni.as_deref(), peer.alpn), (Some(id("web")), Some("80.web.demo"), Some(Alpn::H2)));
        stream.write_all(b"hello\n").await.unwrap();
        stream.flush().await.unwrap();
        let mut got = [0; 6];
        child.stdout.take().unwrap().read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"hello\n");
    }
}

#[tokio::test]
async fn openssl_as_server_is_known_by_its_identity() {
    let authority = Authority::new("root");
    let files = Files { folder: tempfile::tempdir().unwrap() };
    let contexts = Arc::new(Contexts::default());
    contexts.update(&authority.credentials(&Wish::of(&id("web"))), &authority.bundle()).unwrap();
    let client = Client::new(contexts, LIMIT);
    let root = files.write("root.pem", "CERTIFICATE", &authority.root);
    let (chain, key) = authority.issue(&Wish::of(&id("api")));
    let [cert, key] = files.identity(&chain, &key);
    let arguments =
        ["s_server", "-tls1_3", "-alpn", "h2", "-Verify", "2", "-verify_return_error", "-accept", "127.0.0.1:0"];
    let with = [("-CAfile", root.as_path()), ("-cert", cert.as_path()), ("-key", key.as_path())];
    let Some(mut child) = openssl(&arguments, &with) else { return };
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let address = loop {
        let Some(line) = lines.next_line().await.unwrap() else { return };
        match line.strip_prefix("ACCEPT") {
            // A version that does not say which port it took.
            Some("") => return,
            Some(address) => break address.trim().to_owned(),
            None => {}
        }
    };
    for (allowed, good) in [("api", true), ("billing", false)] {
        let tcp = TcpStream::connect(&address).await.unwrap();
        let connected = client.connect(tcp, "80.api.demo", &[id(allowed)], &[Alpn::H2]).await;
        match connected {
            Ok((_, peer)) => assert!(good && peer.id == Some(id("api")) && peer.alpn == Some(Alpn::H2)),
            Err(error) => assert!(!good && error.reason() == Reason::WrongIdentity, "{error}"),
        }
    }
}
