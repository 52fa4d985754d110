//! A certificate authority for tests.

use super::{Bundle, Credentials};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
    string::Ia5String,
};
use rustls_pki_types::CertificateDer;
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use weir_config::model::SpiffeId;

pub(crate) const DOMAIN: &str = "weir.local";

pub(crate) fn id(service_account: &str) -> SpiffeId {
    SpiffeId::workload(&DOMAIN.parse().unwrap(), "demo", service_account).unwrap()
}

/// A root and its key.
pub(crate) struct Authority {
    pub(crate) root: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// What a certificate of a test is to be.
#[derive(Clone)]
pub(crate) struct Wish {
    pub(crate) uris: Vec<String>,
    pub(crate) addresses: Vec<std::net::IpAddr>,
    pub(crate) from: SystemTime,
    pub(crate) to: SystemTime,
}

impl Wish {
    pub(crate) fn of(id: &SpiffeId) -> Self {
        let now = SystemTime::now();
        let hour = Duration::from_secs(3600);
        Self { uris: vec![id.to_string()], addresses: Vec::new(), from: now - hour, to: now + hour }
    }

    /// The certificate of a control plane on this machine.
    pub(crate) fn control_plane() -> Self {
        Self { uris: Vec::new(), addresses: vec![[127, 0, 0, 1].into()], ..Self::of(&id("control-plane")) }
    }

    /// Another begin and end.
    pub(crate) fn life(mut self, from: SystemTime, to: SystemTime) -> Self {
        (self.from, self.to) = (from, to);
        self
    }
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let root = params.self_signed(&key).unwrap().der().clone();
        Self { root, issuer: Issuer::new(params, key) }
    }

    pub(crate) fn bundle(&self) -> Arc<Bundle> {
        Arc::new(Bundle::new(DOMAIN.parse().unwrap(), vec![self.root.clone()]).unwrap())
    }

    /// A chain and its key in PKCS #8.
    pub(crate) fn issue(&self, wish: &Wish) -> (Vec<CertificateDer<'static>>, Vec<u8>) {
        let key = KeyPair::generate().unwrap();
        (vec![self.sign(wish, &key)], key.serialize_der())
    }

    pub(crate) fn sign(&self, wish: &Wish, key: &impl rcgen::PublicKeyData) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names =
            wish.uris.iter().map(|uri| SanType::URI(Ia5String::try_from(uri.as_str()).unwrap())).collect();
        params.subject_alt_names.extend(wish.addresses.iter().map(|ip| SanType::IpAddress(*ip)));
        params.not_before = wish.from.into();
        params.not_after = wish.to.into();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        params.signed_by(key, &self.issuer).unwrap().der().clone()
    }

    pub(crate) fn credentials(&self, wish: &Wish) -> Credentials {
        let (chain, key) = self.issue(wish);
        Credentials::new(chain, &key).unwrap()
    }
}
