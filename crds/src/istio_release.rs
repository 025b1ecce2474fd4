//! `IstioRelease`: an entry of the release catalogue.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Facts about one Istio release. A fact that is not known is left out.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "fedistio.io",
    version = "v1alpha1",
    kind = "IstioRelease",
    plural = "istioreleases",
    shortname = "irel",
    category = "fedistio",
    doc = "Facts about one Istio release: where its charts are, which Kubernetes it runs on, what it may follow.",
    printcolumn(name = "Version", type_ = "string", json_path = ".spec.version"),
    printcolumn(name = "Kubernetes-Min", type_ = "string", json_path = ".spec.kubernetes.min"),
    printcolumn(name = "Kubernetes-Max", type_ = "string", json_path = ".spec.kubernetes.max"),
    printcolumn(name = "End-Of-Life", type_ = "string", json_path = ".spec.endOfLife")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IstioReleaseSpec {
    /// Istio's version without a leading `v`, for example `1.29.1`.
    #[schemars(regex(pattern = r"^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$"))]
    pub version: String,
    /// Day (or month) of the release, `2026-02-16` or `2026-02`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released: Option<String>,
    /// Last day of support of the release's minor version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_of_life: Option<String>,
    /// Kubernetes versions that the release supports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<KubernetesRange>,
    /// Where the charts are. Sources are tried in order.
    #[serde(default)]
    pub charts: Vec<ChartReference>,
    /// Minor versions from which an upgrade by revision may come, for example `["1.28", "1.27"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub predecessors: Vec<String>,
    /// Images of the release.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<String>,
    /// The version in which the release's CRDs store their objects, by group.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub storage_versions: Vec<StorageVersion>,
    /// Values of the charts that are deprecated: they still work, and the status warns of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deprecated_values: Vec<DeprecatedValue>,
    /// Values with which the charts refuse to be rendered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed_values: Vec<String>,
}

/// The version in which objects are stored in etcd.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StorageVersion {
    /// API group, for example `networking.istio.io`.
    pub group: String,
    /// The kind; without it, every kind of the group that has no entry of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The version, for example `v1`.
    pub version: String,
}

/// A value that is going away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeprecatedValue {
    /// Path of the value, for example `global.proxy.accessLogFile`.
    pub path: String,
    /// The value to set instead, where one takes its place.
    #[serde(rename = "use", default, skip_serializing_if = "Option::is_none")]
    pub replacement: Option<String>,
}

impl IstioReleaseSpec {
    /// The version in which the release stores objects of a kind, where that is known.
    pub fn storage_version(&self, group: &str, kind: &str) -> Option<&str> {
        let of_group = || self.storage_versions.iter().filter(|entry| entry.group == group);
        let own = of_group().find(|entry| entry.kind.as_deref() == Some(kind));
        own.or_else(|| of_group().find(|entry| entry.kind.is_none())).map(|entry| entry.version.as_str())
    }
}

/// First and last supported minor version of Kubernetes, both included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KubernetesRange {
    /// First, for example `1.31`.
    pub min: String,
    /// Last, for example `1.35`.
    pub max: String,
}

/// One chart of a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChartReference {
    /// Name of the chart: `base`, `istiod`, `cni`, `ztunnel`, `gateway`.
    pub name: String,
    /// Places to get it from, tried in order: `oci://registry/path/chart`, or `https://repository` (classic, with index.yaml).
    pub sources: Vec<String>,
    /// SHA-256 of the chart archive, `sha256:<hex>`. An archive with another digest is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}
