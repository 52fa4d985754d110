//! What the API server's answers mean.

use crate::{causes::in_words, store::Error};
use kube::core::Status;
use weir_config::resources::{Issue, Key};

const SERVER: &str = "the Kubernetes API server";

/// Something is wrong between us and the server.
pub(super) fn error(why: &str, remedy: &'static str) -> Error {
    Error::Server { server: SERVER.into(), why: why.to_owned(), remedy }
}

/// A call that changed nothing, or of which that does not matter.
pub(super) fn failed(error: &kube::Error) -> Error {
    match error {
        kube::Error::Api(status) => refused(status),
        other => self::error(&in_words(other), "see whether it runs and is reachable from here"),
    }
}

/// A call that was to write, of which nobody can say whether it did.
pub(super) fn unknown(error: &kube::Error) -> Error {
    match error {
        kube::Error::Api(status) if status.code < 500 => refused(status),
        other => Error::Unknown { server: SERVER.into(), why: in_words(other) },
    }
}

/// A document that the server, or a webhook that it asks, does not take.
pub(super) fn of_document(key: &Key, error: &kube::Error) -> Error {
    match error {
        kube::Error::Api(status) if status.code == 422 || status.code == 400 => {
            Error::Invalid(vec![Issue { field: key.to_string(), ..Issue::of_source("", status.message.clone(), None) }])
        }
        other => unknown(other),
    }
}

fn refused(status: &Status) -> Error {
    let remedy = match status.code {
        401 => "see whether the credentials of this process are those of the cluster",
        403 => "give the control plane's service account the right (`weir install` prints the roles)",
        404 => "create what is missing: the namespace, or the kinds (`weir crds | kubectl apply -f -`)",
        _ => "see the API server's log",
    };
    error(&status.message, remedy)
}

/// The code of an answer that says no.
pub(super) fn code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}
