//! `FederatedTypeConfig`: makes a type federated.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Makes a type federated. Named `<plural>.<group>` of the target, or `<plural>` for the core group.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "fedistio.io",
    version = "v1alpha1",
    kind = "FederatedTypeConfig",
    plural = "federatedtypeconfigs",
    shortname = "ftc",
    category = "fedistio",
    status = "FederatedTypeConfigStatus",
    doc = "Makes a type federated: which target type, which federated type, and whether its objects are propagated.",
    printcolumn(name = "Target", type_ = "string", json_path = ".spec.target.kind"),
    printcolumn(name = "Federated", type_ = "string", json_path = ".spec.federated.kind"),
    printcolumn(name = "Propagation", type_ = "string", json_path = ".spec.propagation"),
    printcolumn(
        name = "Running",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Running")].status"#
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "self.target.scope == self.federated.scope",
    "message": "the federated type must have the scope of its target"
}]))]
pub struct FederatedTypeConfigSpec {
    /// The type of the copies in the members.
    pub target: ResourceType,
    /// The type of the federated objects on the host.
    pub federated: ResourceType,
    /// Whether federated objects of this type are propagated.
    #[serde(default)]
    pub propagation: Propagation,
    /// Fields that are sent when a copy is made and left alone once somebody else has taken them over,
    /// as paths such as `/webhooks/*/failurePolicy` (`*` is any element or key).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retain: Vec<String>,
}

/// A served type.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResourceType {
    /// API group; empty for the core group.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// API version.
    pub version: String,
    /// Kind in singular CamelCase.
    pub kind: String,
    /// Plural as in URLs.
    pub plural: String,
    /// Whether objects live in namespaces.
    pub scope: ResourceScope,
}

/// Scope of a type.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    JsonSchema,
    strum::Display,
)]
pub enum ResourceScope {
    /// Objects live in namespaces.
    Namespaced,
    /// Objects belong to the cluster.
    Cluster,
}

/// Whether a type is propagated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Propagation {
    /// Copies are made and kept.
    #[default]
    Enabled,
    /// Nothing is written; copies stay as they are.
    Disabled,
}

/// What became of a type config.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FederatedTypeConfigStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Running`: federated objects of this type are watched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

impl ResourceType {
    /// `group/version`, or `version` for the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// `plural.group`, or `plural` for the core group: the name of a type config.
    pub fn qualified_name(&self) -> String {
        if self.group.is_empty() { self.plural.clone() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// The same as kube's dynamic API wants it.
    pub fn api_resource(&self) -> kube::discovery::ApiResource {
        kube::discovery::ApiResource {
            group: self.group.clone(),
            version: self.version.clone(),
            api_version: self.api_version(),
            kind: self.kind.clone(),
            plural: self.plural.clone(),
        }
    }

    /// Do objects live in namespaces?
    pub fn namespaced(&self) -> bool {
        self.scope == ResourceScope::Namespaced
    }
}
