//! Mutual TLS ⇄ Envoy's `UpstreamTlsContext` and `DownstreamTlsContext`.
//!
//! Keys never travel: `default` is the *name* of whatever certificate the reader has, `ROOTCA` that of the trust bundle.
#![allow(deprecated, reason = "Envoy's deprecated fields are named so that none is overlooked")]

use super::{
    limits, matcher,
    wire::{At, Report, ads, boolean, ignored, is_true, pack, pb, shown, unpack, unsupported},
};
use crate::model::{DownstreamTls, Protocol, SpiffeId, StringMatch, UpstreamTls};
use pb::core::{TransportSocket, transport_socket::ConfigType};
use pb::tls::{
    CertificateValidationContext, CommonTlsContext, SdsSecretConfig, SubjectAltNameMatcher, TlsParameters,
    common_tls_context::{CombinedCertificateValidationContext, ValidationContextType},
    subject_alt_name_matcher::SanType,
    tls_parameters::TlsProtocol,
};
use prost::Name;

const CERTIFICATE: &str = "default";
const BUNDLE: &str = "ROOTCA";
const TLS: &str = "envoy.transport_sockets.tls";

/// Towards endpoints.
pub(super) fn upstream(t: &UpstreamTls, protocol: Protocol) -> TransportSocket {
    // With the client's protocol, Envoy offers by itself what it is about to speak.
    let alpn: &[&str] = match protocol {
        Protocol::Http1 => &["http/1.1"],
        Protocol::Http2 => &["h2"],
        Protocol::UseDownstream | Protocol::Tcp => &[],
    };
    let identities = t.identities.iter().map(|id| san(&StringMatch::Exact(id.to_string())));
    let context = pb::tls::UpstreamTlsContext {
        common_tls_context: Some(common(alpn, identities.collect())),
        sni: t.sni.to_string(),
        ..Default::default()
    };
    socket(pack(&context))
}

/// From callers.
pub(super) fn downstream(t: DownstreamTls, http: bool) -> TransportSocket {
    let alpn: &[&str] = if http { &["h2", "http/1.1"] } else { &[] };
    let context = pb::tls::DownstreamTlsContext {
        common_tls_context: Some(common(alpn, vec![])),
        require_client_certificate: boolean(t.require_client_certificate),
        ..Default::default()
    };
    socket(pack(&context))
}

/// Plain text.
pub(super) fn raw() -> TransportSocket {
    TransportSocket {
        name: "envoy.transport_sockets.raw_buffer".into(),
        config_type: Some(ConfigType::TypedConfig(pack(&pb::raw_buffer::RawBuffer {}))),
    }
}

fn socket(config: envoy_types::pb::google::protobuf::Any) -> TransportSocket {
    TransportSocket { name: TLS.into(), config_type: Some(ConfigType::TypedConfig(config)) }
}

fn common(alpn: &[&str], identities: Vec<SubjectAltNameMatcher>) -> CommonTlsContext {
    let named = |name: &str| SdsSecretConfig { name: name.to_owned(), sds_config: Some(ads()) };
    let validation = CombinedCertificateValidationContext {
        default_validation_context: Some(CertificateValidationContext {
            match_typed_subject_alt_names: identities,
            ..Default::default()
        }),
        validation_context_sds_secret_config: Some(named(BUNDLE)),
        ..Default::default()
    };
    CommonTlsContext {
        tls_params: Some(TlsParameters {
            tls_minimum_protocol_version: TlsProtocol::TlSv13.into(),
            tls_maximum_protocol_version: TlsProtocol::TlSv13.into(),
            ..Default::default()
        }),
        tls_certificate_sds_secret_configs: vec![named(CERTIFICATE)],
        alpn_protocols: alpn.iter().map(|p| (*p).to_owned()).collect(),
        validation_context_type: Some(ValidationContextType::CombinedValidationContext(validation)),
        ..Default::default()
    }
}

/// A matcher for a URI in a certificate.
pub(super) fn san(m: &StringMatch) -> SubjectAltNameMatcher {
    SubjectAltNameMatcher { san_type: SanType::Uri.into(), matcher: Some(matcher::string(m)), oid: String::new() }
}

/// Whether a transport socket is plain text.
pub(super) fn is_raw(socket: &TransportSocket) -> bool {
    matches!(&socket.config_type, Some(ConfigType::TypedConfig(any)) if any.type_url == pb::raw_buffer::RawBuffer::type_url())
}

/// Reads what is spoken to endpoints; plain text is `None`.
pub(super) fn read_upstream(out: &mut Report, at: &At<'_>, sent: &TransportSocket) -> Option<UpstreamTls> {
    if is_raw(sent) {
        return None;
    }
    let pb::tls::UpstreamTlsContext {
        common_tls_context,
        sni,
        auto_host_sni,
        auto_sni_san_validation,
        allow_renegotiation,
        max_session_keys: _,
        enforce_rsa_key_usage: _,
    } = read_socket(out, at, sent)?;
    unsupported!(out, at; auto_host_sni, auto_sni_san_validation, allow_renegotiation);
    let sans = read_common(out, &at.field("common_tls_context"), common_tls_context.unwrap_or_default())?;
    if !out.within(at, "common_tls_context.match_typed_subject_alt_names", &sans, limits::IDENTITIES) {
        return None;
    }
    if sans.is_empty() {
        out.refuse(at, "accepts any certificate of the mesh; `match_typed_subject_alt_names` is required");
    }
    let identities = sans.iter().filter_map(|san| match san {
        StringMatch::Exact(uri) => uri.parse::<SpiffeId>().map_err(|e| out.refuse(at, e.to_string())).ok(),
        _ => {
            out.refuse(at, "identities are supported as exact matches only");
            None
        }
    });
    let identities = identities.collect();
    Some(UpstreamTls { sni: out.name(&at.field("sni"), sni)?, identities })
}

/// Reads what callers must speak; plain text is `None`.
pub(super) fn read_downstream(out: &mut Report, at: &At<'_>, sent: &TransportSocket) -> Option<DownstreamTls> {
    if is_raw(sent) {
        return None;
    }
    let pb::tls::DownstreamTlsContext {
        common_tls_context,
        require_client_certificate,
        require_sni,
        disable_stateful_session_resumption,
        session_timeout,
        ocsp_staple_policy,
        full_scan_certs_on_sni_mismatch: _,
        prefer_client_ciphers,
        session_ticket_keys_type,
    } = read_socket(out, at, sent)?;
    unsupported!(out, at; ocsp_staple_policy);
    ignored!(out, at; disable_stateful_session_resumption, session_timeout, prefer_client_ciphers,
        session_ticket_keys_type);
    if is_true(require_sni) {
        out.refuse(&at.field("require_sni"), "is not supported; match on `server_names`");
    }
    let sans = read_common(out, &at.field("common_tls_context"), common_tls_context.unwrap_or_default())?;
    if !sans.is_empty() {
        out.refuse(at, "`match_typed_subject_alt_names` is not supported for callers; use an RBAC filter");
    }
    Some(DownstreamTls { require_client_certificate: is_true(require_client_certificate) })
}

fn read_socket<T: prost::Message + Name + Default>(out: &mut Report, at: &At<'_>, sent: &TransportSocket) -> Option<T> {
    match &sent.config_type {
        Some(ConfigType::TypedConfig(any)) => unpack(out, at, any),
        None => {
            out.refuse(at, "has no configuration");
            None
        }
    }
}

/// Reads what both sides have in common: the URIs that are accepted, empty for any of the trust bundle.
fn read_common(out: &mut Report, at: &At<'_>, sent: CommonTlsContext) -> Option<Vec<StringMatch>> {
    let CommonTlsContext {
        tls_params,
        tls_certificates,
        tls_certificate_sds_secret_configs,
        tls_certificate_provider_instance,
        custom_tls_certificate_selector,
        tls_certificate_certificate_provider,
        tls_certificate_certificate_provider_instance,
        alpn_protocols,
        custom_handshaker,
        key_log,
        validation_context_type,
    } = sent;
    unsupported!(out, at; tls_certificates, tls_certificate_provider_instance, custom_tls_certificate_selector,
        tls_certificate_certificate_provider, tls_certificate_certificate_provider_instance, custom_handshaker, key_log);
    for (i, protocol) in alpn_protocols.iter().enumerate() {
        if !["h2", "http/1.1"].contains(&protocol.as_str()) {
            out.note(&at.item("alpn_protocols", i), "is ignored");
        }
    }
    if let Some(p) = tls_params {
        read_params(out, &at.field("tls_params"), p);
    }
    match tls_certificate_sds_secret_configs.as_slice() {
        [one] => read_secret(out, &at.field("tls_certificate_sds_secret_configs"), one, CERTIFICATE),
        _ => out.refuse(&at.field("tls_certificate_sds_secret_configs"), "must have exactly one entry"),
    }
    match validation_context_type {
        Some(ValidationContextType::ValidationContextSdsSecretConfig(s)) => {
            read_secret(out, &at.field("validation_context_sds_secret_config"), &s, BUNDLE);
            Some(vec![])
        }
        Some(ValidationContextType::CombinedValidationContext(c)) => {
            read_combined(out, &at.field("combined_validation_context"), c)
        }
        _ => {
            out.refuse(at, "has no `combined_validation_context` that names the trust bundle");
            None
        }
    }
}

fn read_params(out: &mut Report, at: &At<'_>, sent: TlsParameters) {
    let TlsParameters {
        tls_minimum_protocol_version: _,
        tls_maximum_protocol_version: max,
        cipher_suites,
        ecdh_curves,
        signature_algorithms,
        compliance_policies,
    } = sent;
    // TLS 1.3 only, with its own suites and curves: what allows less is met by more.
    ignored!(out, at; cipher_suites, ecdh_curves, signature_algorithms);
    unsupported!(out, at; compliance_policies);
    if ![i32::from(TlsProtocol::TlsAuto), i32::from(TlsProtocol::TlSv13)].contains(&max) {
        out.refuse(&at.field("tls_maximum_protocol_version"), "is below TLS 1.3");
    }
}

fn read_secret(out: &mut Report, at: &At<'_>, sent: &SdsSecretConfig, known: &str) {
    // Where it comes from is the reader's affair.
    let SdsSecretConfig { name, sds_config: _ } = sent;
    if name != known {
        out.refuse(&at.field("name"), format!("`{}` is not known; `{known}` is", shown(name)));
    }
}

fn read_combined(
    out: &mut Report,
    at: &At<'_>,
    sent: CombinedCertificateValidationContext,
) -> Option<Vec<StringMatch>> {
    let CombinedCertificateValidationContext {
        default_validation_context,
        validation_context_sds_secret_config,
        validation_context_certificate_provider,
        validation_context_certificate_provider_instance,
    } = sent;
    unsupported!(out, at; validation_context_certificate_provider, validation_context_certificate_provider_instance);
    read_secret(
        out,
        &at.field("validation_context_sds_secret_config"),
        &validation_context_sds_secret_config.unwrap_or_default(),
        BUNDLE,
    );
    let at = at.field("default_validation_context");
    let context = default_validation_context.unwrap_or_default();
    if context.trusted_ca.is_some() {
        out.refuse(&at.field("trusted_ca"), "is not supported beside the trust bundle");
    }
    read_validation(out, &at, context)
}

/// Reads what a validation context asks besides its roots: the URIs that are accepted.
pub(super) fn read_validation(
    out: &mut Report,
    at: &At<'_>,
    sent: CertificateValidationContext,
) -> Option<Vec<StringMatch>> {
    let CertificateValidationContext {
        trusted_ca: _,
        ca_certificate_provider_instance,
        system_root_certs,
        watched_directory,
        verify_certificate_spki,
        verify_certificate_hash,
        match_typed_subject_alt_names,
        match_subject_alt_names,
        require_signed_certificate_timestamp,
        crl,
        allow_expired_certificate,
        trust_chain_verification,
        custom_validator_config,
        only_verify_leaf_cert_crl,
        max_verify_depth,
        suppress_client_ca_list: _,
    } = sent;
    unsupported!(out, at; ca_certificate_provider_instance, system_root_certs, watched_directory,
        verify_certificate_spki, verify_certificate_hash, crl, allow_expired_certificate, trust_chain_verification,
        custom_validator_config, only_verify_leaf_cert_crl, max_verify_depth);
    if is_true(require_signed_certificate_timestamp) {
        out.refuse(&at.field("require_signed_certificate_timestamp"), "is not supported");
    }
    let mut sans = vec![];
    if !out.within(at, "match_typed_subject_alt_names", &match_typed_subject_alt_names, limits::IDENTITIES)
        || !out.within(at, "match_subject_alt_names", &match_subject_alt_names, limits::IDENTITIES)
    {
        return None;
    }
    for (i, m) in match_typed_subject_alt_names.into_iter().enumerate() {
        let at = at.item("match_typed_subject_alt_names", i);
        let SubjectAltNameMatcher { san_type, matcher, oid: _ } = m;
        if san_type != i32::from(SanType::Uri) {
            out.refuse(&at.field("san_type"), "is not `URI`");
        }
        sans.push(matcher::read_string(out, &at.field("matcher"), matcher.unwrap_or_default())?);
    }
    for (i, m) in match_subject_alt_names.into_iter().enumerate() {
        sans.push(matcher::read_string(out, &at.item("match_subject_alt_names", i), m)?);
    }
    Some(sans)
}
