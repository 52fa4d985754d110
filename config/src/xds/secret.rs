//! Trust bundles ⇄ Envoy's `Secret` with a `validation_context`: roots as PEM, the trust domain as the prefix of the
//! URIs that are accepted.
//!
//! A real Envoy adds these URIs to those that a cluster asks for, and takes any of them: for it they are left out, since
//! otherwise every identity of the mesh would be good enough for every cluster.

use super::{
    Class, limits, tls,
    wire::{At, Report, pb},
};
use crate::model::{StringMatch, TrustBundle, TrustDomain};
use base64::{Engine, engine::general_purpose::STANDARD};
use pb::core::data_source::Specifier;
use pb::tls::{CertificateValidationContext, secret::Type};

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// A trust bundle.
pub(super) fn secret(bundle: &TrustBundle, class: Class) -> pb::tls::Secret {
    let domain = StringMatch::Prefix(format!("spiffe://{}/", bundle.trust_domain));
    let context = CertificateValidationContext {
        trusted_ca: Some(pb::core::DataSource {
            watched_directory: None,
            specifier: Some(Specifier::InlineBytes(pem(&bundle.roots).into_bytes())),
        }),
        match_typed_subject_alt_names: if class == Class::Sidecar { vec![tls::san(&domain)] } else { vec![] },
        ..Default::default()
    };
    pb::tls::Secret { name: bundle.name.to_string(), r#type: Some(Type::ValidationContext(context)) }
}

/// Reads a trust bundle.
pub(super) fn read(out: &mut Report, at: &At<'_>, sent: pb::tls::Secret) -> Option<TrustBundle> {
    let pb::tls::Secret { name, r#type } = sent;
    let Some(Type::ValidationContext(mut context)) = r#type else {
        out.refuse(at, "is not a `validation_context`; keys are not taken from the network");
        return None;
    };
    let at = at.field("validation_context");
    let roots = read_roots(out, &at.field("trusted_ca"), context.trusted_ca.take());
    let sans = tls::read_validation(out, &at, context)?;
    let domain = match sans.as_slice() {
        [StringMatch::Prefix(p)] => p.strip_prefix("spiffe://").and_then(|p| p.strip_suffix('/')),
        _ => None,
    };
    let domain = domain.and_then(|d| d.parse::<TrustDomain>().ok());
    if domain.is_none() {
        out.refuse(
            &at.field("match_typed_subject_alt_names"),
            "is not one URI prefix `spiffe://<trust-domain>/`, which says whose identities the roots vouch for",
        );
    }
    Some(TrustBundle { name: out.name(&at.field("name"), name)?, trust_domain: domain?, roots: roots? })
}

fn read_roots(out: &mut Report, at: &At<'_>, sent: Option<pb::core::DataSource>) -> Option<Vec<Vec<u8>>> {
    let text = match sent.and_then(|s| s.specifier) {
        Some(Specifier::InlineBytes(b)) => String::from_utf8(b).ok(),
        Some(Specifier::InlineString(s)) => Some(s),
        Some(Specifier::Filename(_) | Specifier::EnvironmentVariable(_)) | None => None,
    };
    let roots = text.as_deref().and_then(certificates);
    match roots {
        Some(roots) if (1..=limits::ROOTS).contains(&roots.len()) => Some(roots),
        _ => {
            out.refuse(at, format!("is not inline PEM with 1 to {} certificates", limits::ROOTS));
            None
        }
    }
}

fn pem(roots: &[Vec<u8>]) -> String {
    let mut text = String::new();
    for der in roots {
        text.extend([BEGIN, "\n"]);
        let body = STANDARD.encode(der);
        for line in body.as_bytes().chunks(64) {
            text.extend(line.iter().map(|b| char::from(*b)));
            text.push('\n');
        }
        text.extend([END, "\n"]);
    }
    text
}

/// The certificates of a PEM text, in order; `None` if one is malformed. Text around them is skipped (RFC 7468).
fn certificates(text: &str) -> Option<Vec<Vec<u8>>> {
    let mut found = vec![];
    let mut rest = text;
    while let Some((_, after)) = rest.split_once(BEGIN) {
        let (body, after) = after.split_once(END)?;
        let body: String = body.split_ascii_whitespace().collect();
        found.push(STANDARD.decode(body).ok().filter(|der| is_sequence(der))?);
        rest = after;
    }
    Some(found)
}

/// Whether bytes are one whole DER `SEQUENCE`, as a certificate is.
fn is_sequence(der: &[u8]) -> bool {
    let [0x30, first, rest @ ..] = der else { return false };
    match *first {
        short @ 0..=0x7f => rest.len() == usize::from(short),
        long @ 0x81..=0x83 => {
            let (length, body) = rest.split_at_checked(usize::from(long & 0x7f)).unwrap_or_default();
            !length.is_empty() && length.iter().fold(0, |n, b| n << 8 | usize::from(*b)) == body.len()
        }
        _ => false,
    }
}
