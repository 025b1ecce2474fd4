//! What is installed on the host and in the members.

pub(crate) mod deployment;
pub(crate) mod manifests;
pub(crate) mod olm;
pub(crate) mod permissions;

/// Version of this program and of everything that it generates.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Name of the operator's Deployment, ServiceAccount and roles on the host, and of its ServiceAccount in members.
pub(crate) const NAME: &str = "fedistio";

/// The image that is used where none is named. It has no registry: push it to yours and name it with `--image`.
pub(crate) fn default_image() -> String {
    format!("{NAME}:{VERSION}")
}

/// Labels on everything that is installed.
pub(crate) fn labels() -> serde_json::Value {
    serde_json::json!({
        "app.kubernetes.io/name": NAME,
        "app.kubernetes.io/part-of": NAME,
        "app.kubernetes.io/version": VERSION,
    })
}

/// The label by which the Deployment and the Service find the operator's pods. It never changes: a Deployment's selector can't.
pub(crate) fn selector() -> serde_json::Value {
    serde_json::json!({ "app.kubernetes.io/name": NAME })
}
