//! Bundle and catalogue for the Operator Lifecycle Manager.
//!
//! The bundle is in the `registry+v1` format, the catalogue is file-based (schemas `olm.package`, `olm.channel`, `olm.bundle`):
//! <https://olm.operatorframework.io/docs/reference/file-based-catalogs/>.

mod bundle;
mod catalog;
mod csv;
mod examples;
mod samples;

pub(crate) use bundle::bundle;
pub(crate) use catalog::catalog;

use crate::{
    install::{NAME, VERSION, manifests::ManifestError},
    output::yaml::YamlError,
};

/// The one channel.
const CHANNEL: &str = "alpha";
/// Oldest Kubernetes that serves what the operator uses: the oldest minor that a supported Istio runs on.
const MIN_KUBE_VERSION: &str = "1.31.0";

/// A file of the bundle or the catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    /// Path below the folder, with `/`.
    pub(crate) path: String,
    /// The whole text.
    pub(crate) text: String,
}

/// Why the bundle or catalogue can't be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OlmError {
    /// An object can't be encoded.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// An object can't be written as YAML.
    #[error(transparent)]
    Yaml(#[from] YamlError),
    /// The examples can't be written as JSON.
    #[error("can't encode the examples")]
    Encode(#[from] serde_json::Error),
}

/// The image that is used where none is named.
pub(crate) fn default_bundle_image() -> String {
    format!("{NAME}-bundle:{VERSION}")
}

/// Name of the ClusterServiceVersion.
fn csv_name() -> String {
    format!("{NAME}.v{VERSION}")
}
