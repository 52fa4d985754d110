//! `AdmissionReview` of `admission.k8s.io/v1`, both ways.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

/// The longest warning that Kubernetes passes on whole.
const LONGEST_WARNING: usize = 250;

/// A question.
#[derive(Debug)]
pub(super) struct Review {
    request: Value,
}

impl Review {
    /// Of a body.
    ///
    /// # Errors
    /// It is no question.
    pub(super) fn parse(body: &[u8]) -> Result<Self, String> {
        let mut review: Value = serde_json::from_slice(body).map_err(|e| format!("the body is no JSON: {e}"))?;
        if review["apiVersion"] != "admission.k8s.io/v1" || review["kind"] != "AdmissionReview" {
            return Err("the body is no AdmissionReview of admission.k8s.io/v1".into());
        }
        let request = review["request"].take();
        if request["uid"].as_str().is_none_or(str::is_empty) {
            return Err("the AdmissionReview has no request with a uid".into());
        }
        Ok(Self { request })
    }

    /// What is to be kept.
    pub(super) fn object(&self) -> &Value {
        &self.request["object"]
    }

    /// Its namespace, which a pod that is being made may not say itself.
    pub(super) fn namespace(&self) -> &str {
        self.request["namespace"].as_str().unwrap_or_default()
    }

    /// Group and kind.
    pub(super) fn kind(&self) -> (&str, &str) {
        let kind = &self.request["kind"];
        (kind["group"].as_str().unwrap_or_default(), kind["kind"].as_str().unwrap_or_default())
    }

    /// Yes, perhaps with a change.
    pub(super) fn allowed(&self, patch: Option<&Value>, warnings: &[String], result: &str) -> Value {
        let mut response = self.response(true, result);
        if let Some(patch) = patch {
            response.insert("patchType".into(), json!("JSONPatch"));
            response.insert("patch".into(), json!(STANDARD.encode(patch.to_string())));
        }
        if !warnings.is_empty() {
            let short = |w: &String| w.chars().take(LONGEST_WARNING).collect::<String>();
            response.insert("warnings".into(), warnings.iter().map(short).collect());
        }
        answer(response)
    }

    /// No, and why.
    pub(super) fn refused(&self, why: &str, result: &str) -> Value {
        let mut response = self.response(false, result);
        let status = json!({ "code": 422, "reason": "Invalid", "message": why });
        response.insert("status".into(), status);
        answer(response)
    }

    fn response(&self, allowed: bool, result: &str) -> Map<String, Value> {
        let mut response = Map::new();
        response.insert("uid".into(), self.request["uid"].clone());
        response.insert("allowed".into(), json!(allowed));
        // For whoever reads the audit log of the cluster.
        response.insert("auditAnnotations".into(), json!({ "result": result }));
        response
    }
}

fn answer(response: Map<String, Value>) -> Value {
    json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response })
}
