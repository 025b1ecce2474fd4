//! What every federated object has, whatever its type: placement, overrides, status.

use crate::{HumanDuration, common::ClusterSelector, schema::any_value};
use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::time::Duration;

/// Spec of a `Federated<Kind>`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FederatedSpec {
    /// An object of the target type without apiVersion, kind and name: every cluster's copy starts from it.
    #[schemars(schema_with = "crate::schema::any_object")]
    pub template: Value,
    /// Which clusters get a copy. Without it: none.
    #[serde(default)]
    pub placement: Placement,
    /// Changes to the template for some clusters, applied in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<Override>,
    /// How copies are removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion: Option<Deletion>,
}

/// How what is in a cluster is removed when it is no longer wanted there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Deletion {
    /// How long a removal waits for a cluster that does not answer, for example `30m`: when this object is deleted, and when the
    /// placement no longer selects the cluster. After that the cluster is released: what is there stays as an orphan. Without it a
    /// removal waits until the cluster answers or is unjoined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreachable_timeout: Option<HumanDuration>,
}

impl Deletion {
    /// How much longer the removal of what has not been wanted since `unwanted` may wait for a cluster that has not answered since `away`;
    /// `None`: for ever. The time runs while both hold: where either is not known (yet), it has not begun.
    pub fn patience(
        &self,
        unwanted: Option<Timestamp>,
        away: Option<Timestamp>,
        now: Timestamp,
    ) -> Option<Duration> {
        let limit = self.unreachable_timeout?.0;
        let since = unwanted.zip(away).map(|(unwanted, away)| unwanted.max(away));
        let waited = since.map(|since| Duration::try_from(now.duration_since(since)).unwrap_or_default());
        Some(limit.saturating_sub(waited.unwrap_or_default()))
    }
}

/// Which clusters: names, or a selector over the labels of `MemberCluster`s. Where both are given, `clusters` wins.
/// `clusters: []` selects none, `clusterSelector: {}` selects all, neither selects none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Placement {
    /// Clusters by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clusters: Option<Vec<ClusterName>>,
    /// Clusters by label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_selector: Option<ClusterSelector>,
    /// What a selected cluster must have besides. A cluster that fails stays in the status, with the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub constraints: Option<Constraints>,
}

/// A reference to a `MemberCluster`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClusterName {
    /// Name of the `MemberCluster`.
    #[schemars(length(min = 1))]
    pub name: String,
}

/// Ranges of observed versions, each a comma-separated list of comparisons such as `>=1.31, <1.36`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Constraints {
    /// Range of the cluster's Kubernetes version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<String>,
}

/// Changes for one cluster, by name, or for several, by label.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "has(self.clusterName) != has(self.clusterSelector)",
    "message": "give either clusterName or clusterSelector"
}]))]
pub struct Override {
    /// The cluster that gets these changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_name: Option<String>,
    /// The clusters that get these changes, by label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_selector: Option<ClusterSelector>,
    /// The changes, in order.
    pub cluster_overrides: Vec<ClusterOverride>,
}

/// One operation on the template (RFC 6902, the operations `add`, `remove` and `replace`).
///
/// That `add` and `replace` have a value is checked by the planner: CEL can't see a field of any type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClusterOverride {
    /// What to do at `path`; `replace` where it is not given.
    #[serde(default)]
    pub op: PatchOperation,
    /// JSON pointer (RFC 6901) into the template, for example `/spec/hosts/0`.
    #[schemars(regex(pattern = "^/"))]
    pub path: String,
    /// The value to add or to replace with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_value")]
    pub value: Option<Value>,
}

/// Operations of a [`ClusterOverride`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PatchOperation {
    /// Add a member or insert an element; an existing member is replaced.
    Add,
    /// Remove what is there.
    Remove,
    /// Replace what is there.
    #[default]
    Replace,
}

/// Status of a `Federated<Kind>`. Also the ledger of where copies may be: a cluster leaves it only when its copy is confirmed gone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FederatedStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Counts over `clusters`.
    #[serde(default)]
    pub summary: Summary,
    /// `Propagated`: every placed cluster has the current copy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// One entry per cluster, sorted by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub clusters: Vec<ClusterCopy>,
}

/// Counts for the printer columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Clusters in the status.
    pub clusters: u32,
    /// Clusters whose copy is the current one.
    pub in_sync: u32,
    /// Clusters in which something is wrong.
    pub failed: u32,
}

/// The copy in one cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterCopy {
    /// Name of the `MemberCluster`.
    pub name: String,
    /// In one word.
    pub state: CopyState,
    /// Why it is in that state.
    pub reason: CopyReason,
    /// What happened and what to do about it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// When `state` last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<Time>,
}

/// State of one cluster's copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, strum::Display)]
pub enum CopyState {
    /// The current manifest is there and ours.
    InSync,
    /// On its way, or waiting for something that is expected to come.
    Pending,
    /// Something is wrong; `reason` and `message` say what.
    Failed,
    /// No longer wanted, and not yet confirmed gone.
    Removing,
    /// Selected, but the constraints of the placement keep it out.
    Excluded,
}

/// Why a copy is in its state.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
    strum::Display,
    strum::IntoStaticStr,
)]
pub enum CopyReason {
    /// The copy equals the desired manifest.
    Applied,
    /// The write is queued or in flight.
    Applying,
    /// The placement names a cluster that is not registered.
    ClusterNotFound,
    /// The cluster is registered but its access is broken or its API server does not answer.
    ClusterNotReady,
    /// The observed versions are outside the placement's constraints.
    ConstraintNotMet,
    /// The member does not serve the type.
    TypeNotServed,
    /// The namespace is missing in the member.
    NamespaceNotFound,
    /// The template is not an object of the target type.
    TemplateInvalid,
    /// An override can't be applied to the template.
    OverrideFailed,
    /// The member's API server refused the object as invalid.
    Invalid,
    /// An object of that name exists that is not ours.
    AlreadyExists,
    /// Another field manager owns a field that we want to set.
    Conflict,
    /// The credential may not do this.
    Forbidden,
    /// A webhook in the member refused or failed.
    AdmissionRefused,
    /// The member did not answer in time.
    TimedOut,
    /// Any other failure of a write.
    ApplyFailed,
    /// The deletion is under way.
    WaitingForRemoval,
    /// The deletion failed.
    DeleteFailed,
}

/// Reasons of the condition `Propagated`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::Display, strum::IntoStaticStr)]
pub enum PropagatedReason {
    /// Every placed cluster has the current copy.
    AllInSync,
    /// No registered cluster is placed, so there is nothing to do.
    NothingPlaced,
    /// Copies are on their way, or wait for their cluster.
    Pending,
    /// Something is wrong in at least one cluster.
    Failed,
    /// Copies are being removed.
    Removing,
    /// The spec can't be read.
    SpecInvalid,
}

impl FederatedStatus {
    /// Counts `clusters` anew into `summary`.
    pub fn summarise(&mut self) {
        let count = |state| self.clusters.iter().filter(|copy| copy.state == state).count();
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        self.summary = Summary {
            clusters: number(self.clusters.len()),
            in_sync: number(count(CopyState::InSync)),
            failed: number(count(CopyState::Failed)),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_ends_with_the_timeout_and_never_without_one() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let deletion = |text: &str| Deletion { unreachable_timeout: Some(text.parse().unwrap()) };
        let (minute, zero) = (Some(Duration::from_mins(1)), Some(Duration::ZERO));
        let patience = |unwanted: Option<i64>, away: Option<i64>, now| {
            deletion("60s").patience(unwanted.map(at), away.map(at), at(now))
        };
        assert_eq!(Deletion::default().patience(Some(at(0)), Some(at(0)), at(9999)), None);
        assert_eq!(patience(Some(100), Some(100), 130), Some(Duration::from_secs(30)));
        assert_eq!(patience(Some(100), Some(100), 1000), zero);
        // A cluster that went away just now gets its time, however long the removal has lasted; and the other way round.
        assert_eq!(patience(Some(100), Some(1000), 1000), minute);
        assert_eq!(patience(Some(1000), Some(100), 1000), minute);
        assert_eq!(patience(None, Some(100), 1000), minute);
        assert_eq!(patience(Some(100), None, 1000), minute);
        // A clock that was set back does not shorten the wait.
        assert_eq!(patience(Some(100), Some(100), 50), minute);
    }
}
