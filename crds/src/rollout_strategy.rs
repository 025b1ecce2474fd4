//! `RolloutStrategy`: in which order clusters get a change.

use crate::{ClusterName, ClusterSelector, HumanDuration};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Stages over clusters. A stage starts when every cluster of the stages before it is healthy on the new revision;
/// clusters in no stage come last, all together.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "fedistio.io",
    version = "v1alpha1",
    kind = "RolloutStrategy",
    plural = "rolloutstrategies",
    shortname = "rst",
    category = "fedistio",
    doc = "In which order clusters get a change, and what must hold before the next ones do.",
    printcolumn(name = "Stages", type_ = "string", json_path = ".spec.stages[*].name"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RolloutStrategySpec {
    /// The stages, in order. A cluster belongs to the first stage that selects it.
    #[schemars(length(min = 1, max = 31))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub stages: Vec<Stage>,
}

/// One stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "has(self.clusters) != has(self.clusterSelector)",
    "message": "give either clusters or clusterSelector; clusterSelector: {} selects all that are left"
}]))]
pub struct Stage {
    /// Name of the stage, unique in the strategy.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Clusters by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clusters: Option<Vec<ClusterName>>,
    /// Clusters by label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_selector: Option<ClusterSelector>,
    /// How many clusters of the stage may be on their way at once; all of them where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_concurrency: Option<u32>,
    /// How long a cluster may take from its start to healthy before the stage stops.
    #[serde(default = "default_progress_deadline")]
    pub progress_deadline: HumanDuration,
    /// How long every cluster of the stage must have been healthy before the next stage starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_success_time: Option<HumanDuration>,
}

/// Ten minutes: istiod's image pull and first push on a slow cluster fit, and a person still waits for it.
fn default_progress_deadline() -> HumanDuration {
    HumanDuration(std::time::Duration::from_mins(10))
}
