//! The certificates of a cluster: an authority of its own, the API server's certificate, one for each client, and the key
//! with which service-account tokens are signed.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use serde_json::json;
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// The authority, and where everything is written.
pub(super) struct Certificates {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
}

impl Certificates {
    /// Makes the authority and what the API server needs: `ca.crt`, `server.crt`, `server.key`, `accounts.key`,
    /// `accounts.pub`.
    pub(super) fn make(folder: &Path) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        params.distinguished_name = name("weir-tests-ca", &[]);
        let issuer = CertifiedIssuer::self_signed(params, key()).expect("an authority");
        let made = Self { issuer, folder: folder.to_owned() };
        made.write("ca.crt", &made.issuer.pem());
        let names = ["127.0.0.1", "localhost", "kubernetes", "kubernetes.default.svc"].map(String::from);
        let mut server = CertificateParams::new(names).expect("names");
        server.distinguished_name = name("kube-apiserver", &[]);
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let (certificate, private) = made.sign(&server);
        made.write("server.crt", &certificate);
        made.write("server.key", &private);
        let accounts = key();
        made.write("accounts.key", &accounts.serialize_pem());
        made.write("accounts.pub", &accounts.public_key_pem());
        made
    }

    /// The path of one of its files.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A kubeconfig for a user of these groups, in `<user>.kubeconfig`.
    pub(super) fn kubeconfig(&self, server: SocketAddr, user: &str, groups: &[&str]) -> PathBuf {
        let mut params = CertificateParams::default();
        params.distinguished_name = name(user, groups);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let (certificate, private) = self.sign(&params);
        let credentials = json!({
            "client-certificate-data": BASE64_STANDARD.encode(certificate),
            "client-key-data": BASE64_STANDARD.encode(private),
        });
        self.written(server, user, &credentials)
    }

    /// A kubeconfig for who has a token, in `<name>.kubeconfig`.
    pub(super) fn kubeconfig_of_token(&self, server: SocketAddr, name: &str, token: &str) -> PathBuf {
        self.written(server, name, &json!({ "token": token }))
    }

    fn written(&self, server: SocketAddr, user: &str, credentials: &serde_json::Value) -> PathBuf {
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": "weir-tests", "cluster": {
                "server": format!("https://{server}"),
                "certificate-authority-data": BASE64_STANDARD.encode(self.issuer.pem()),
            }}],
            "users": [{ "name": user, "user": credentials }],
            "contexts": [{ "name": "weir-tests", "context": { "cluster": "weir-tests", "user": user } }],
            "current-context": "weir-tests",
        });
        // JSON is YAML.
        let file = format!("{}.kubeconfig", user.replace(':', "-"));
        self.write(&file, &config.to_string());
        self.path(&file)
    }

    fn sign(&self, params: &CertificateParams) -> (String, String) {
        let key = key();
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }

    fn write(&self, file: &str, text: &str) {
        // Whole or not at all: a program that was started before may be reading it.
        let new = self.path(&format!("{file}.new"));
        std::fs::write(&new, text).expect("a file");
        std::fs::rename(new, self.path(file)).expect("a file");
    }
}

fn key() -> KeyPair {
    KeyPair::generate().expect("a key")
}

fn name(common: &str, groups: &[&str]) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    for group in groups {
        name.push(DnType::OrganizationName, *group);
    }
    name
}
