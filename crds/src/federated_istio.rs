//! `FederatedIstio`: the Istio control planes of one mesh.

use crate::{Deletion, Override, Placement, Summary, schema::any_object};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// The Istio control planes of one mesh: what to install, where, and in which order.
#[derive(CustomResource, Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "fedistio.io",
    version = "v1alpha1",
    kind = "FederatedIstio",
    plural = "federatedistios",
    shortname = "fistio",
    category = "fedistio",
    status = "FederatedIstioStatus",
    doc = "The Istio control planes of one mesh on many clusters.",
    printcolumn(name = "Version", type_ = "string", json_path = ".spec.template.version"),
    printcolumn(name = "Clusters", type_ = "integer", json_path = ".status.summary.clusters"),
    printcolumn(name = "In-Sync", type_ = "integer", json_path = ".status.summary.inSync"),
    printcolumn(name = "Failed", type_ = "integer", json_path = ".status.summary.failed"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#
    ),
    printcolumn(name = "Stage", type_ = "string", json_path = ".status.rollout.currentStage"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#,
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FederatedIstioSpec {
    /// The control plane that every cluster starts from.
    pub template: IstioTemplate,
    /// Which clusters get a control plane. Without it: none.
    #[serde(default)]
    pub placement: Placement,
    /// Changes to the template for some clusters, applied in order. Paths start at the template: `/version`, `/values/pilot/…`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<Override>,
    /// The `RolloutStrategy` by which changes of the spec reach the clusters. Without it: all at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy_ref: Option<crate::ClusterName>,
    /// What the control planes share as one mesh.
    #[serde(default)]
    pub mesh: MeshSpec,
    /// How control planes are removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion: Option<Deletion>,
}

/// One control plane.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IstioTemplate {
    /// Istio's version, for example `1.29.1`, or a channel: `1.29` for the newest release of that minor version, `stable` for the newest
    /// of all. A new release of a channel is rolled out as any change of the spec.
    #[schemars(length(min = 1))]
    pub version: String,
    /// Namespace of the control plane.
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// Istio profile: `default`, `ambient`, `demo`, `preview`, `remote`, `stable`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Values of the istiod chart, as `helm install istiod -f` takes them; `global` and `base` reach the base chart too.
    /// `revision`, `revisionTags`, `profile`, `global.istioNamespace` and `global.multiCluster.clusterName` are set by the operator.
    #[serde(default = "empty_object", skip_serializing_if = "is_empty_object")]
    #[schemars(schema_with = "any_object")]
    pub values: Value,
    /// Name of the revision tag that workloads follow. It moves to a new revision when that is ready.
    #[serde(default = "default_revision_tag")]
    #[schemars(regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"), length(max = 63))]
    pub revision_tag: String,
    /// How a cluster moves from one revision to the next.
    #[serde(default)]
    pub upgrade: UpgradePolicy,
}

/// How a cluster moves from one revision to the next.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UpgradePolicy {
    /// Restart the workloads that still run a proxy of another revision once the tag has moved. Without it the operator waits
    /// until somebody restarts them, and keeps the old revision until then.
    #[serde(default)]
    pub restart_workloads: bool,
}

/// What the control planes share.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MeshSpec {
    /// Mesh ID (`global.meshID`); the name of this object where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

fn default_namespace() -> String {
    "istio-system".to_owned()
}

fn default_revision_tag() -> String {
    "default".to_owned()
}

fn empty_object() -> Value {
    Value::Object(serde_json::Map::new())
}

fn is_empty_object(value: &Value) -> bool {
    value.as_object().is_some_and(serde_json::Map::is_empty)
}

/// Status of the control planes. Also the ledger of where they may be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FederatedIstioStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Counts over `clusters`; `inSync` counts those that run the wanted version and are ready.
    #[serde(default)]
    pub summary: Summary,
    /// `Ready`: every control plane is ready on the wanted version. `Progressing`: a change is on its way through the stages.
    /// `ChartSourcesAvailable`: the charts in use came from their sources, not from the cache because no source answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// One entry per cluster, sorted by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub clusters: Vec<ClusterControlPlane>,
    /// How far the newest change is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutProgress>,
}

/// The control plane of one cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterControlPlane {
    /// Name of the `MemberCluster`.
    pub name: String,
    /// Where the cluster is on its way.
    pub phase: ControlPlanePhase,
    /// Why it is in that phase.
    pub reason: ControlPlaneReason,
    /// What is missing and why, and what to do about it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Does the wanted version run, and is it ready?
    pub ready: bool,
    /// The version that the cluster should have now (the rollout may hold it back from the newest).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// The Istio revision of that version, for example `1-29-1`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub revision: String,
    /// The `ControllerRevision` of the spec that the cluster should have now.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub spec_revision: String,
    /// The revision that the tag points to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag_revision: Option<String>,
    /// Every revision that is installed, sorted by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub revisions: Vec<RevisionStatus>,
    /// Connected proxies by revision, as the pods' injection annotations tell.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub proxies: BTreeMap<String, u32>,
    /// When `phase` last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<Time>,
    /// When the cluster got its current spec revision, or was last healthy or waiting for a person: deadlines count from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
}

/// One installed revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RevisionStatus {
    /// Name, for example `1-28-2`.
    pub name: String,
    /// Istio's version.
    pub version: String,
    /// Is its istiod ready?
    pub ready: bool,
}

/// Where a cluster is on its way to the wanted control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, strum::Display)]
pub enum ControlPlanePhase {
    /// Waiting for its stage, or for the cluster.
    Pending,
    /// Objects are being applied: CRDs, then cluster-wide ones, then namespaced ones.
    Installing,
    /// Everything is applied; istiod is not ready yet.
    WaitingForIstiod,
    /// The revision tag is being moved.
    MovingTag,
    /// Workloads move to the new revision.
    MovingWorkloads,
    /// The old revision is being removed.
    RemovingOldRevision,
    /// The wanted version runs, alone.
    Healthy,
    /// It can't go on by itself.
    Failed,
    /// The control plane is being removed.
    Removing,
}

/// Why a cluster is in its phase.
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
pub enum ControlPlaneReason {
    /// All is as wanted.
    Healthy,
    /// A stage before this cluster's is not done.
    WaitingForStage,
    /// A stage before this cluster's, or its own, has stopped.
    RolloutStopped,
    /// Another `FederatedIstio` has the cluster; a cluster has one.
    ClusterTaken,
    /// The cluster is not registered.
    ClusterNotFound,
    /// The cluster is registered but does not answer.
    ClusterNotReady,
    /// The observed versions are outside the placement's constraints.
    ConstraintNotMet,
    /// The catalogue has no such version.
    UnknownVersion,
    /// The release does not support the cluster's Kubernetes version.
    KubernetesNotSupported,
    /// The step from the running version is not allowed.
    UpgradeNotAllowed,
    /// No source of the charts answers.
    ChartUnavailable,
    /// A chart's digest is not the catalogue's.
    ChartDigestMismatch,
    /// The charts can't be rendered with these values.
    RenderFailed,
    /// An override can't be applied to the template.
    OverrideFailed,
    /// The strategy that the spec names does not exist.
    StrategyNotFound,
    /// Writes are under way.
    Applying,
    /// A write failed.
    ApplyFailed,
    /// CRDs are applied but not established.
    WaitingForCrds,
    /// istiod's Deployment is not available.
    IstiodNotReady,
    /// istiod was not ready within the stage's deadline.
    ProgressDeadlineExceeded,
    /// Proxies still run on another revision.
    ProxiesOnOldRevision,
    /// Proxies still run on another revision, and the operator is not asked to restart workloads.
    RestartNeeded,
    /// Objects are being deleted.
    Removing,
}

/// How far a change is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutProgress {
    /// `ControllerRevision` of the spec that is being rolled out.
    pub target_revision: String,
    /// `ControllerRevision` that every cluster had before; what clusters keep until their stage comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_revision: Option<String>,
    /// Name of the stage that is under way; empty when all are done.
    #[serde(default)]
    pub current_stage: String,
    /// The stages, in order.
    #[serde(default)]
    pub stages: Vec<StageProgress>,
}

/// How far a stage is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StageProgress {
    /// Name of the stage.
    pub name: String,
    /// In one word.
    pub state: StageState,
    /// Clusters of the stage.
    pub clusters: Vec<String>,
    /// Why it is in that state.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// State of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, strum::Display)]
pub enum StageState {
    /// A stage before it is not done.
    Waiting,
    /// Clusters are on their way.
    Progressing,
    /// All clusters are healthy; waiting for the stage's minimum time of success.
    Soaking,
    /// Every cluster is healthy.
    Succeeded,
    /// A cluster failed or ran out of time: nothing goes on.
    Stopped,
}
