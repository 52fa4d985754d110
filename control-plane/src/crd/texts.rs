//! The small values of shapes: texts of a form, words of a list, numbers in a range. Each is a schema and nothing else.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::borrow::Cow;

/// A type that is only a schema: a text with further keywords.
macro_rules! text {
    ($($(#[$doc:meta])* $name:ident { $($schema:tt)* })*) => {$(
        $(#[$doc])*
        pub(super) struct $name;

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ $($schema)* })
            }
        }
    )*};
}

/// A duration (GEP-2257) between two, both included.
macro_rules! span {
    ($($(#[$doc:meta])* $name:ident $from:literal $to:literal)*) => {text! {$(
        $(#[$doc])*
        $name {
            "type": "string",
            "maxLength": 32,
            "pattern": "^([0-9]{1,5}(h|m|s|ms)){1,4}$",
            "x-kubernetes-validations": [{
                "rule": concat!("duration(self) >= duration('", $from, "') && duration(self) <= duration('", $to, "')"),
                "message": concat!("must be ", $from, " to ", $to),
            }],
        }
    )*}};
}

/// One of these words.
macro_rules! word {
    ($($(#[$doc:meta])* $name:ident [$($word:literal),* $(,)?])*) => {text! {$(
        $(#[$doc])*
        $name { "type": "string", "enum": [$($word),*] }
    )*}};
}

/// A whole number between two, both included.
macro_rules! whole {
    ($($(#[$doc:meta])* $name:ident $from:literal $to:literal)*) => {text! {$(
        $(#[$doc])*
        $name { "type": "integer", "format": "int64", "minimum": $from, "maximum": $to }
    )*}};
}

text! {
    /// A DNS label (RFC 1123).
    Label {
        "type": "string",
        "minLength": 1,
        "maxLength": 63,
        "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
    }
    /// A DNS subdomain, as Kubernetes has it.
    Name {
        "type": "string",
        "minLength": 1,
        "maxLength": 253,
        "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
    }
    /// An IPv4 or IPv6 address.
    Address {
        "type": "string",
        "minLength": 2,
        "maxLength": 45,
        "x-kubernetes-validations": [
            { "rule": "isIP(self)", "message": "must be an IP address without a port" },
        ],
    }
    /// An address that is reached from outside its machine.
    OutsideAddress {
        "type": "string",
        "minLength": 2,
        "maxLength": 45,
        "x-kubernetes-validations": [{
            "rule": "isIP(self) && !ip(self).isUnspecified() && !ip(self).isLoopback()",
            "message": "must be an IP address of a host outside, without a port",
        }],
    }
    /// A full name, or `*.` and a domain.
    ExternalHost {
        "type": "string",
        "minLength": 3,
        "maxLength": 255,
        "pattern": "^(\\*\\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)+$",
        "x-kubernetes-validations": [
            { "rule": "!isIP(self)", "message": "an address is not the name of a host: it belongs into `addresses`" },
        ],
    }
    /// 1 to 63 bytes.
    Place { "type": "string", "minLength": 1, "maxLength": 63 }
    /// SPIFFE trust domain (SPIFFE-ID §2.1).
    TrustDomain { "type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[a-z0-9._-]+$" }
    /// Percent, with or without a fraction.
    Percent { "type": "number", "minimum": 0, "maximum": 100 }
    /// A SPIFFE identity, with or without one `*` at its start or end.
    Principal {
        "type": "string",
        "minLength": 1,
        "maxLength": 2048,
        "pattern": "^(\\*[^*]*|spiffe://[a-z0-9._-]+(/[A-Za-z0-9._-]+)*|spiffe://[^*]*\\*)$",
    }
    /// A service account: `<namespace>/<name>`, or the name of one in the policy's namespace.
    Account {
        "type": "string",
        "minLength": 1,
        "maxLength": 507,
        "pattern": "^([A-Za-z0-9.-]{1,253}/)?[A-Za-z0-9.-]{1,253}$",
    }
    /// `/exact`, `/prefix*`, `*suffix`, `*`.
    PathPattern { "type": "string", "minLength": 1, "maxLength": 1024, "pattern": "^(/[^*]*\\*?|\\*[^*]*)$" }
    /// A code of gRPC, by name or number.
    GrpcStatus {
        "x-kubernetes-int-or-string": true,
        "x-kubernetes-validations": [{
            "rule": "type(self) == int ? self >= 1 && self <= 16 : self in ['CANCELLED', 'UNKNOWN', 'INVALID_ARGUMENT', \
                     'DEADLINE_EXCEEDED', 'NOT_FOUND', 'ALREADY_EXISTS', 'PERMISSION_DENIED', 'RESOURCE_EXHAUSTED', \
                     'FAILED_PRECONDITION', 'ABORTED', 'OUT_OF_RANGE', 'UNIMPLEMENTED', 'INTERNAL', 'UNAVAILABLE', \
                     'DATA_LOSS', 'UNAUTHENTICATED']",
            "message": "must be a gRPC code: 1 to 16, or a name such as UNAVAILABLE",
        }],
    }
    /// A map of labels.
    Labels {
        "type": "object",
        "maxProperties": 1000,
        "additionalProperties": {
            "type": "string",
            "maxLength": 63,
            "pattern": "^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$",
        },
    }
    /// A map of texts.
    Texts { "type": "object", "maxProperties": 1000, "additionalProperties": { "type": "string" } }
    /// A generation of a document. (The largest number of all would be no number of JSON.)
    Generation { "type": "integer", "format": "int64", "minimum": 0 }
    /// When a condition changed.
    Time { "type": "string", "format": "date-time" }
}

span! {
    /// Off, or up to a day.
    UpToADay "0s" "24h"
    /// Up to a day.
    SomeTime "1ms" "24h"
    /// Up to an hour.
    UpToAnHour "1ms" "1h"
    /// A whole second or more, up to an hour.
    Seconds "1s" "1h"
    /// How long connecting may take.
    Connecting "1ms" "5m"
    /// The life of a certificate.
    CertificateLife "5s" "720h"
}

word! {
    /// See [`weir_config::resources::MtlsMode`].
    MtlsMode ["Strict", "Permissive", "Disabled"]
    /// See [`weir_config::resources::OutboundMode`].
    OutboundMode ["AllowAny", "RegistryOnly", "ALLOW_ANY", "REGISTRY_ONLY"]
    /// See [`weir_config::model::Health`].
    Health ["Healthy", "Draining", "Unhealthy"]
    /// See [`weir_config::resources::AppProtocol`].
    AppProtocol [
        "http", "kubernetes.io/h2c", "grpc", "tcp", "http2", "h2c", "kubernetes.io/ws", "https", "tls",
    ]
    /// See [`weir_config::model::LoadBalancing`].
    Algorithm ["PeakEwma", "LeastRequest", "RoundRobin"]
    /// What is tried again.
    RetryOn [
        "connect-failure", "refused-stream", "reset", "5xx", "gateway-error", "cancelled", "deadline-exceeded",
        "internal", "resource-exhausted", "unavailable",
    ]
    /// See [`weir_config::resources::AuthzAction`].
    Action ["Allow", "Deny", "Audit"]
    /// A method of HTTP.
    Method ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"]
    /// What a TrafficPolicy is about.
    TrafficTarget ["Service", "ExternalService", "HTTPRoute", "GRPCRoute", "Workload"]
    /// What is spoken on a port outside.
    ExternalProtocol ["HTTP", "HTTP2", "GRPC", "TLS", "HTTPS", "TCP"]
    /// What an AuthorizationPolicy is about.
    AuthorizationTarget ["Service", "Workload"]
    /// A condition's status.
    Truth ["True", "False", "Unknown"]
}

whole! {
    /// A port.
    Port 1 65535
    /// A port, or 0 for any.
    AnyPort 0 65535
    /// A share of requests.
    Weight 1 1000000
    /// Percent without a fraction.
    WholePercent 0 100
    /// A threshold that is not 0.
    Threshold 1 100
    /// How often something is tried again.
    Attempts 0 10
    /// Of how many the best is taken.
    Choices 2 10
    /// A status of HTTP.
    HttpStatus 200 599
    /// A number of failures or hosts.
    Count 0 10000
    /// A number of requests.
    Volume 0 1000000000
    /// A rate.
    PerSecond 0 1000000
    /// A limit of a sidecar.
    Limit 0 4294967295u32
}
