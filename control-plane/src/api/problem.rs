//! Errors of the REST API as RFC 9457 problems: what happened, where, and what to do.

use super::types::{Problem, ProblemIssue};
use crate::store;
use axum::{
    extract::rejection::{BytesRejection, JsonRejection, PathRejection, QueryRejection},
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use weir_config::resources::Issue;

/// An answer that is an error.
#[derive(Debug)]
pub struct ApiError(pub Problem);

/// What handlers return.
pub type Result<T, E = ApiError> = std::result::Result<T, E>;

impl ApiError {
    /// A problem of a kind, with what happened.
    pub fn new(status: StatusCode, kind: &str, title: &str, detail: impl Into<String>) -> Self {
        Self(Problem {
            kind: format!("/problems/{kind}"),
            title: title.into(),
            status: status.as_u16(),
            detail: detail.into(),
            issues: Vec::new(),
        })
    }

    /// 400
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", "The request cannot be understood", detail)
    }

    /// 404
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "There is no such thing", detail)
    }

    /// 409
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", "Someone else was quicker", detail)
    }

    /// 422, with what is wrong in the documents.
    pub fn invalid(issues: &[Issue]) -> Self {
        let things = if issues.len() == 1 { "1 thing is".into() } else { format!("{} things are", issues.len()) };
        let what = format!("{things} wrong in the documents; nothing was changed");
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        let mut error = Self::new(status, "invalid", "The documents are not valid", what);
        error.0.issues = issues.iter().map(ProblemIssue::from).collect();
        error
    }

    /// 500; what happened goes to the log, since it may name what a client should not know.
    pub fn internal(what: &dyn std::fmt::Display) -> Self {
        tracing::error!(error = %what, "a request of the REST API failed");
        let detail = "the control plane's log says why";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "The control plane failed", detail)
    }
}

impl From<&Issue> for ProblemIssue {
    fn from(issue: &Issue) -> Self {
        Self {
            file: issue.file.to_string(),
            line: issue.line.into(),
            column: issue.column.into(),
            field: issue.field.clone(),
            message: issue.message.clone(),
            remedy: issue.remedy.clone().unwrap_or_default(),
        }
    }
}

impl From<store::Error> for ApiError {
    fn from(error: store::Error) -> Self {
        use store::Error as E;
        match &error {
            E::Conflict { .. } | E::MetaConflict { .. } => Self::conflict(error.to_string()),
            E::Invalid(issues) => Self::invalid(issues),
            E::Twice { .. } => Self::bad_request(error.to_string()),
            E::NotFound { .. } => Self::not_found(error.to_string()),
            E::Limit { .. } => {
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "limit", "A limit of the store", error.to_string())
            }
            E::Server { .. } | E::Unknown { .. } => {
                tracing::error!(%error, "the store does not answer");
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "store", "The store does not answer", error.to_string())
            }
            E::Locked { .. } | E::Io { .. } | E::Corrupt { .. } | E::Newer { .. } => Self::internal(&error),
        }
    }
}

macro_rules! rejections {
    ($($rejection:ty),*) => {$(
        impl From<$rejection> for ApiError {
            fn from(rejection: $rejection) -> Self {
                let kind = if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE { "too-large" } else { "bad-request" };
                let detail = rejection.body_text();
                Self::new(rejection.status(), kind, "The request cannot be understood", detail)
            }
        }
    )*};
}
rejections!(BytesRejection, JsonRejection, PathRejection, QueryRejection);

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, serde_json::to_vec(&self.0).unwrap_or_default()).into_response();
        let problem = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, problem);
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"weir\""));
        }
        response
    }
}
