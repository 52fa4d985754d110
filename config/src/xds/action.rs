//! What a route does ⇄ Envoy's `RouteAction`, `RedirectAction`, `DirectResponseAction` (gRFC A28, A31).
#![allow(deprecated, reason = "Envoy's deprecated fields are named so that none is overlooked")]

use super::{
    Class, limits, matcher, retry, weighted,
    wire::{At, Report, duration, ignored, pb, read_duration, read_positive, unsupported},
};
use crate::model::{Action, Forward, HostRewrite, PathMatch, PathRewrite, Redirect};
use http::{HeaderValue, StatusCode, uri::Scheme};
use pb::route::{
    redirect_action::{PathRewriteSpecifier, RedirectResponseCode as Code, SchemeRewriteSpecifier},
    route::Action as PbAction,
    route_action::{HostRewriteSpecifier, MaxStreamDuration},
};
use std::time::Duration;

/// A pattern that stands for "the whole path" in a rewrite.
const WHOLE: &str = "^.*$";
/// Envoy's time limit for a route that names none.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15);
const LONGEST: Duration = Duration::from_secs(limits::DURATION_SECONDS);

/// What a route with this path condition does.
pub(super) fn action(action: &Action, path: &PathMatch, class: Class) -> PbAction {
    match action {
        Action::Forward(f) => PbAction::Route(forward(f, path, class)),
        Action::Redirect(r) => PbAction::Redirect(redirect(r)),
        Action::Respond { status, body } => PbAction::DirectResponse(pb::route::DirectResponseAction {
            status: status.as_u16().into(),
            body: (!body.is_empty()).then(|| pb::core::DataSource {
                watched_directory: None,
                specifier: Some(pb::core::data_source::Specifier::InlineString(body.clone())),
            }),
            body_format: None,
        }),
    }
}

fn forward(f: &Forward, path: &PathMatch, class: Class) -> pb::route::RouteAction {
    let (prefix_rewrite, regex_rewrite) = match &f.path {
        None => (String::new(), None),
        Some(PathRewrite::Prefix(to)) => prefix_rewrite(to, path, class),
        Some(PathRewrite::Full(to)) => (String::new(), Some(substitute(WHOLE, to.replace('\\', "\\\\")))),
        Some(PathRewrite::Regex { pattern, substitution }) => {
            (String::new(), Some(substitute(pattern.pattern(), substitution.clone())))
        }
    };
    let header_max = match (f.cap_grpc_timeout, f.timeout) {
        (false, _) => Duration::ZERO,
        (true, timeout) => timeout.unwrap_or(LONGEST),
    };
    pb::route::RouteAction {
        cluster_specifier: Some(weighted::clusters(&f.clusters)),
        prefix_rewrite,
        regex_rewrite,
        host_rewrite_specifier: f.host.as_ref().map(|HostRewrite::Literal(host)| {
            HostRewriteSpecifier::HostRewriteLiteral(String::from_utf8_lossy(host.as_bytes()).into_owned())
        }),
        timeout: Some(duration(f.timeout.unwrap_or_default())),
        idle_timeout: f.idle_timeout.map(duration),
        // gRPC clients read only this one, Envoy both.
        max_stream_duration: Some(MaxStreamDuration {
            max_stream_duration: f.timeout.map(duration),
            grpc_timeout_header_max: Some(duration(header_max)),
            grpc_timeout_header_offset: None,
        }),
        retry_policy: f.retry.as_ref().map(retry::policy),
        ..Default::default()
    }
}

/// Envoy would make `//x` of `/a/x` where whole segments `/a` become `/`: it is given a pattern.
fn prefix_rewrite(to: &str, path: &PathMatch, class: Class) -> (String, Option<pb::matcher::RegexMatchAndSubstitute>) {
    match path {
        PathMatch::Segments(s) if class == Class::Envoy && to == "/" => {
            (String::new(), Some(substitute(&format!("^{}/*", regex::escape(s)), "/".into())))
        }
        _ => (if to.is_empty() { "/" } else { to }.to_owned(), None),
    }
}

fn substitute(pattern: &str, substitution: String) -> pb::matcher::RegexMatchAndSubstitute {
    let pattern = pb::matcher::RegexMatcher { regex: pattern.to_owned(), engine_type: None };
    pb::matcher::RegexMatchAndSubstitute { pattern: Some(pattern), substitution }
}

fn redirect(r: &Redirect) -> pb::route::RedirectAction {
    let code = match r.status.as_u16() {
        301 => Code::MovedPermanently,
        303 => Code::SeeOther,
        307 => Code::TemporaryRedirect,
        308 => Code::PermanentRedirect,
        _ => Code::Found,
    };
    pb::route::RedirectAction {
        host_redirect: r.host.clone().unwrap_or_default(),
        port_redirect: r.port.map_or(0, u32::from),
        response_code: code.into(),
        strip_query: false,
        scheme_rewrite_specifier: r
            .scheme
            .as_ref()
            .map(|s| SchemeRewriteSpecifier::SchemeRedirect(s.as_str().to_owned())),
        path_rewrite_specifier: r.path.as_ref().map(|p| match p {
            PathRewrite::Prefix(to) => PathRewriteSpecifier::PrefixRewrite(to.clone()),
            PathRewrite::Full(to) => PathRewriteSpecifier::PathRedirect(to.clone()),
            PathRewrite::Regex { pattern, substitution } => {
                PathRewriteSpecifier::RegexRewrite(substitute(pattern.pattern(), substitution.clone()))
            }
        }),
    }
}

/// Reads what a route does.
pub(super) fn read(out: &mut Report, at: &At<'_>, sent: Option<PbAction>) -> Option<Action> {
    match sent {
        Some(PbAction::Route(a)) => read_forward(out, &at.field("route"), a).map(Action::Forward),
        Some(PbAction::Redirect(a)) => read_redirect(out, &at.field("redirect"), a).map(Action::Redirect),
        Some(PbAction::DirectResponse(a)) => read_response(out, &at.field("direct_response"), a),
        Some(PbAction::FilterAction(_)) => {
            out.refuse(&at.field("filter_action"), "is not supported");
            None
        }
        Some(PbAction::NonForwardingAction(_)) => {
            out.refuse(&at.field("non_forwarding_action"), "is not supported");
            None
        }
        None => {
            out.refuse(at, "has no action that is supported");
            None
        }
    }
}

fn read_forward(out: &mut Report, at: &At<'_>, sent: pb::route::RouteAction) -> Option<Forward> {
    let pb::route::RouteAction {
        cluster_not_found_response_code: _,
        metadata_match,
        prefix_rewrite,
        regex_rewrite,
        path_rewrite_policy,
        path_rewrite,
        append_x_forwarded_host,
        timeout,
        idle_timeout,
        flush_timeout,
        early_data_policy,
        retry_policy,
        retry_policy_typed_config,
        request_mirror_policies,
        priority,
        rate_limits,
        include_vh_rate_limits,
        hash_policy,
        cors,
        max_grpc_timeout,
        grpc_timeout_offset,
        upgrade_configs,
        internal_redirect_policy,
        internal_redirect_action,
        max_internal_redirects,
        hedge_policy,
        max_stream_duration,
        cluster_specifier,
        host_rewrite_specifier,
    } = sent;
    unsupported!(out, at; metadata_match, path_rewrite_policy, path_rewrite, retry_policy_typed_config,
        request_mirror_policies, priority, rate_limits, cors, max_grpc_timeout, grpc_timeout_offset,
        internal_redirect_policy, internal_redirect_action, hedge_policy);
    ignored!(out, at; append_x_forwarded_host, flush_timeout, early_data_policy, include_vh_rate_limits, hash_policy,
        max_internal_redirects);
    for (i, upgrade) in upgrade_configs.iter().enumerate() {
        // Upgrades are always allowed here.
        out.unsupported(&at.item("upgrade_configs", i), "connect_config", &upgrade.connect_config);
    }
    let path = read_path(out, at, prefix_rewrite, regex_rewrite);
    let host = host_rewrite_specifier.and_then(|h| read_host(out, at, h));
    let limit = match read_duration(out, at, "timeout", timeout) {
        Some(Duration::ZERO) => None,
        Some(t) => Some(t),
        None => Some(DEFAULT_TIMEOUT),
    };
    let (stream, cap_grpc_timeout) = read_max(out, &at.field("max_stream_duration"), max_stream_duration);
    let timeout = limit.into_iter().chain(stream).min();
    // Zero switches the listener's limit off for this route.
    let idle_timeout =
        read_duration(out, at, "idle_timeout", idle_timeout).map(|d| if d.is_zero() { LONGEST } else { d });
    let retry = retry_policy.and_then(|p| retry::read(out, &at.field("retry_policy"), p));
    let clusters = weighted::read(out, at, cluster_specifier)?;
    Some(Forward { clusters, path, host, timeout, idle_timeout, retry, cap_grpc_timeout })
}

/// The stream's time limit, and whether `grpc-timeout` may only shorten it.
fn read_max(out: &mut Report, at: &At<'_>, sent: Option<MaxStreamDuration>) -> (Option<Duration>, bool) {
    let Some(sent) = sent else { return (None, true) };
    let MaxStreamDuration { max_stream_duration, grpc_timeout_header_max, grpc_timeout_header_offset } = sent;
    ignored!(out, at; grpc_timeout_header_offset);
    let stream = read_positive(out, at, "max_stream_duration", max_stream_duration);
    let header_max = read_duration(out, at, "grpc_timeout_header_max", grpc_timeout_header_max);
    (stream, header_max != Some(Duration::ZERO))
}

fn read_path(
    out: &mut Report,
    at: &At<'_>,
    prefix: String,
    regex: Option<pb::matcher::RegexMatchAndSubstitute>,
) -> Option<PathRewrite> {
    match (prefix.is_empty(), regex) {
        (true, None) => None,
        (false, None) => out.text(&at.field("prefix_rewrite"), prefix).map(PathRewrite::Prefix),
        (true, Some(r)) => read_substitute(out, &at.field("regex_rewrite"), r),
        (false, Some(_)) => {
            out.refuse(&at.field("regex_rewrite"), "is given together with `prefix_rewrite`");
            None
        }
    }
}

fn read_substitute(out: &mut Report, at: &At<'_>, sent: pb::matcher::RegexMatchAndSubstitute) -> Option<PathRewrite> {
    let pb::matcher::RegexMatchAndSubstitute { pattern, substitution } = sent;
    let substitution = out.text(&at.field("substitution"), substitution)?;
    let Some(pattern) = pattern else {
        out.refuse(&at.field("pattern"), "is required");
        return None;
    };
    if pattern.regex == WHOLE
        && let Some(to) = without_groups(&substitution)
    {
        return Some(PathRewrite::Full(to));
    }
    if !is_substitution(&substitution) {
        out.refuse(&at.field("substitution"), "has a `\\` that is followed by neither a digit nor another one");
        return None;
    }
    Some(PathRewrite::Regex { pattern: matcher::read_regex(out, &at.field("pattern"), pattern)?, substitution })
}

fn is_substitution(text: &str) -> bool {
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == '\\' && !chars.next().is_some_and(|c| c == '\\' || c.is_ascii_digit()) {
            return false;
        }
    }
    true
}

/// The text that a substitution stands for, if it names no group.
fn without_groups(substitution: &str) -> Option<String> {
    let mut text = String::with_capacity(substitution.len());
    let mut chars = substitution.chars();
    while let Some(c) = chars.next() {
        if c == '\\' && chars.next()? != '\\' {
            return None;
        }
        text.push(c);
    }
    Some(text)
}

fn read_host(out: &mut Report, at: &At<'_>, sent: HostRewriteSpecifier) -> Option<HostRewrite> {
    let field = match sent {
        HostRewriteSpecifier::HostRewriteLiteral(host) => match HeaderValue::from_str(&host) {
            Ok(value) if !value.is_empty() && value.len() <= limits::TEXT_BYTES => {
                return Some(HostRewrite::Literal(value));
            }
            _ => {
                out.refuse(&at.field("host_rewrite_literal"), "is not a host");
                return None;
            }
        },
        HostRewriteSpecifier::AutoHostRewrite(b) if !b.value => return None,
        HostRewriteSpecifier::AutoHostRewrite(_) => "auto_host_rewrite",
        HostRewriteSpecifier::HostRewriteHeader(_) => "host_rewrite_header",
        HostRewriteSpecifier::HostRewritePathRegex(_) => "host_rewrite_path_regex",
        HostRewriteSpecifier::HostRewrite(_) => "host_rewrite",
    };
    out.refuse(&at.field(field), "is not supported");
    None
}

fn read_redirect(out: &mut Report, at: &At<'_>, sent: pb::route::RedirectAction) -> Option<Redirect> {
    let pb::route::RedirectAction {
        host_redirect,
        port_redirect,
        response_code,
        strip_query,
        scheme_rewrite_specifier,
        path_rewrite_specifier,
    } = sent;
    unsupported!(out, at; strip_query);
    let status = match Code::try_from(response_code) {
        Ok(Code::MovedPermanently) => StatusCode::MOVED_PERMANENTLY,
        Ok(Code::Found) => StatusCode::FOUND,
        Ok(Code::SeeOther) => StatusCode::SEE_OTHER,
        Ok(Code::TemporaryRedirect) => StatusCode::TEMPORARY_REDIRECT,
        Ok(Code::PermanentRedirect) => StatusCode::PERMANENT_REDIRECT,
        Err(_) => {
            out.refuse(&at.field("response_code"), "is not known");
            return None;
        }
    };
    let scheme = match scheme_rewrite_specifier {
        None | Some(SchemeRewriteSpecifier::HttpsRedirect(false)) => None,
        Some(SchemeRewriteSpecifier::HttpsRedirect(true)) => Some(Scheme::HTTPS),
        Some(SchemeRewriteSpecifier::SchemeRedirect(s)) if s.eq_ignore_ascii_case("https") => Some(Scheme::HTTPS),
        Some(SchemeRewriteSpecifier::SchemeRedirect(s)) if s.eq_ignore_ascii_case("http") => Some(Scheme::HTTP),
        Some(SchemeRewriteSpecifier::SchemeRedirect(_)) => {
            out.refuse(&at.field("scheme_redirect"), "is neither `http` nor `https`");
            None
        }
    };
    let Ok(port) = u16::try_from(port_redirect) else {
        out.refuse(&at.field("port_redirect"), "is above 65,535");
        return None;
    };
    let host = out.text(&at.field("host_redirect"), host_redirect)?;
    let path = path_rewrite_specifier.and_then(|p| read_redirect_path(out, at, p));
    let host = (!host.is_empty()).then_some(host);
    Some(Redirect { status, scheme, host, port: (port != 0).then_some(port), path })
}

fn read_redirect_path(out: &mut Report, at: &At<'_>, sent: PathRewriteSpecifier) -> Option<PathRewrite> {
    let field = match sent {
        PathRewriteSpecifier::PathRedirect(to) => {
            return out.text(&at.field("path_redirect"), to).map(PathRewrite::Full);
        }
        PathRewriteSpecifier::PrefixRewrite(to) => {
            return out.text(&at.field("prefix_rewrite"), to).map(PathRewrite::Prefix);
        }
        PathRewriteSpecifier::RegexRewrite(_) => "regex_rewrite",
        PathRewriteSpecifier::PathRewrite(_) => "path_rewrite",
    };
    out.refuse(&at.field(field), "is not supported");
    None
}

fn read_response(out: &mut Report, at: &At<'_>, sent: pb::route::DirectResponseAction) -> Option<Action> {
    use pb::core::data_source::Specifier as S;
    let pb::route::DirectResponseAction { status, body, body_format } = sent;
    unsupported!(out, at; body_format);
    let body = match body.and_then(|b| b.specifier) {
        None => Some(String::new()),
        Some(S::InlineString(s)) => Some(s),
        Some(S::InlineBytes(b)) => String::from_utf8(b).ok(),
        Some(S::Filename(_) | S::EnvironmentVariable(_)) => None,
    };
    let Some(body) = body.filter(|b| b.len() <= limits::BODY_BYTES) else {
        out.refuse(&at.field("body"), format!("is not an inline text of at most {} bytes", limits::BODY_BYTES));
        return None;
    };
    let status =
        u16::try_from(status).ok().filter(|s| (200..600).contains(s)).and_then(|s| StatusCode::from_u16(s).ok());
    if status.is_none() {
        out.refuse(&at.field("status"), "is not between 200 and 599");
    }
    Some(Action::Respond { status: status?, body })
}
