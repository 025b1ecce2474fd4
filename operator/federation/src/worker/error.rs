//! What can go wrong with a write, and what that means for the next one.

use fedistio_crds::CopyReason;
use kube::core::Status;
use std::time::Duration;

/// A write to a member failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WriteError {
    /// The API server answered with an error.
    #[error("{}", describe(.0))]
    Refused(Box<Status>),
    /// The API server did not answer: no connection, or it broke.
    #[error("the API server can't be reached: {0}")]
    Unreachable(String),
    /// No answer in time.
    #[error("no answer within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// The answer can't be read, or the request can't be made.
    #[error("{0}")]
    Protocol(String),
    /// A newer write of the same object took this one's place.
    #[error("a newer write took its place")]
    Superseded,
    /// The member was removed from the registry, or the operator stops.
    #[error("the worker of this cluster has stopped")]
    Stopped,
}

impl WriteError {
    /// Sorts an error of the client.
    pub(crate) fn from_kube(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::Refused(status),
            kube::Error::Service(source) => Self::Unreachable(chain(source.as_ref())),
            kube::Error::HyperError(source) => Self::Unreachable(chain(&source)),
            kube::Error::ReadEvents(source) => Self::Unreachable(source.to_string()),
            other => Self::Protocol(chain(&other)),
        }
    }

    /// Does it say that the member as a whole does not work, rather than this one object?
    pub fn is_unreachable(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::TimedOut(_) => true,
            // 429 and 503 are the server's way to say "not now".
            Self::Refused(status) => matches!(status.code, 429 | 503 | 504),
            _ => false,
        }
    }

    /// Is the object not there? (Not the type: then the server's answer carries no details.)
    pub fn is_object_missing(&self) -> bool {
        matches!(self, Self::Refused(status) if status.code == 404
            && status.details.as_ref().is_some_and(|details| !details.name.is_empty()))
    }

    /// The reason as the status of a federated object shows it.
    pub fn copy_reason(&self) -> CopyReason {
        let status = match self {
            Self::Refused(status) => status,
            Self::TimedOut(_) => return CopyReason::TimedOut,
            Self::Unreachable(_) => return CopyReason::ClusterNotReady,
            Self::Superseded => return CopyReason::Applying,
            Self::Protocol(_) | Self::Stopped => return CopyReason::ApplyFailed,
        };
        let kind = status.details.as_ref().map_or("", |details| details.kind.as_str());
        match status.code {
            404 if kind == "namespaces" => CopyReason::NamespaceNotFound,
            404 => CopyReason::TypeNotServed,
            409 if status.reason == "AlreadyExists" => CopyReason::AlreadyExists,
            409 => CopyReason::Conflict,
            400 | 403 | 500 if status.message.contains("webhook") => CopyReason::AdmissionRefused,
            // Server-side apply answers 500 to a field that the type does not have, or that has another type.
            500 if status.message.contains("typed patch object") => CopyReason::Invalid,
            403 | 401 => CopyReason::Forbidden,
            400 | 422 => CopyReason::Invalid,
            504 => CopyReason::TimedOut,
            _ => CopyReason::ApplyFailed,
        }
    }

    /// What a user can do about it; empty where the message says enough.
    pub fn advice(&self) -> &'static str {
        match self.copy_reason() {
            CopyReason::NamespaceNotFound => {
                "federate the namespace with a FederatedNamespace, or create it in the cluster"
            }
            CopyReason::TypeNotServed => {
                "install the type's CRD in the cluster, or leave the cluster out of the placement"
            }
            CopyReason::Conflict => "let the other manager give the field up, or remove it from the template",
            CopyReason::Forbidden => "join the cluster again to renew the operator's role and credential",
            CopyReason::AdmissionRefused => {
                "correct the template as the webhook says, or look at the webhook"
            }
            CopyReason::Invalid => "correct the template or the overrides",
            _ => "",
        }
    }
}

/// The server's own words, with the conflicting managers and fields of a server-side apply where it names them.
fn describe(status: &Status) -> String {
    let causes = status.details.as_ref().map(|details| details.causes.as_slice()).unwrap_or_default();
    if status.code == 409 && !causes.is_empty() {
        let list: Vec<String> =
            causes.iter().take(5).map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
        return format!("fields are owned by others: {}", list.join("; "));
    }
    if status.message.is_empty() {
        format!("{} {}", status.code, status.reason)
    } else {
        status.message.clone()
    }
}

/// An error with the errors that it came from; hyper and tower hide the cause otherwise.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: u16, reason: &str, message: &str, details: serde_json::Value) -> WriteError {
        let status = serde_json::json!({"status": "Failure", "code": code, "reason": reason, "message": message, "details": details});
        WriteError::Refused(Box::new(serde_json::from_value(status).unwrap()))
    }

    #[test]
    fn the_servers_answers_map_to_reasons() {
        let none = serde_json::json!({});
        let cases = [
            (
                refused(
                    404,
                    "NotFound",
                    "namespaces \"x\" not found",
                    serde_json::json!({"kind": "namespaces", "name": "x"}),
                ),
                CopyReason::NamespaceNotFound,
            ),
            (
                refused(404, "NotFound", "the server could not find the requested resource", none.clone()),
                CopyReason::TypeNotServed,
            ),
            (refused(409, "Conflict", "Apply failed with 1 conflict", none.clone()), CopyReason::Conflict),
            (refused(403, "Forbidden", "cannot patch", none.clone()), CopyReason::Forbidden),
            (
                refused(400, "BadRequest", "admission webhook \"x\" denied the request: no", none.clone()),
                CopyReason::AdmissionRefused,
            ),
            (
                refused(
                    500,
                    "",
                    "failed to create typed patch object (n/x; v1, Kind=ConfigMap): .dta: field not declared in schema",
                    none.clone(),
                ),
                CopyReason::Invalid,
            ),
            (refused(422, "Invalid", "spec.hosts: required", none.clone()), CopyReason::Invalid),
            (refused(500, "InternalError", "failed calling webhook", none), CopyReason::AdmissionRefused),
            (WriteError::TimedOut(Duration::from_secs(1)), CopyReason::TimedOut),
        ];
        for (error, reason) in cases {
            assert_eq!(error.copy_reason(), reason, "{error}");
        }
    }

    #[test]
    fn a_conflict_names_manager_and_field() {
        let details = serde_json::json!({"causes": [{"reason": "FieldManagerConflict", "message": "conflict with \"kubectl\"", "field": ".spec.hosts"}]});
        let text = refused(409, "Conflict", "Apply failed", details).to_string();
        assert!(text.contains("kubectl") && text.contains(".spec.hosts"), "{text}");
    }
}
