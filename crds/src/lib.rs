//! The API of the Federated Istio Operator: one file per kind.
//!
//! Hand-written kinds live in the group [`GROUP`]; a `Federated<Kind>` for every
//! federated type lives in [`TYPES_GROUP`] and is made by [`federated_crd`].
//! `yaml/` holds the generated CRDs; `fedistio crds` prints them.

#![allow(
    clippy::duplicated_attributes,
    reason = "one printcolumn(...) per column repeats its keys; the lint takes that for a mistake"
)]

mod builtin;
mod common;
mod duration;
mod federated;
mod federated_crd;
mod federated_istio;
mod federated_type_config;
mod istio_release;
mod member_cluster;
mod rollout_strategy;
mod schema;

pub use builtin::{BuiltinType, builtin_types};
pub use common::{
    ANNOTATION_HASH, ANNOTATION_OWNER, CATEGORY, ClusterSelector, ConditionStatus, FIELD_MANAGER, FINALIZER,
    GROUP, LABEL_MANAGED, OPERATOR_NAMESPACE, TYPES_GROUP, VERSION, set_condition,
};
pub use duration::{DurationError, HumanDuration};
pub use federated::{
    ClusterCopy, ClusterName, ClusterOverride, Constraints, CopyReason, CopyState, Deletion, FederatedSpec,
    FederatedStatus, Override, PatchOperation, Placement, PropagatedReason, Summary,
};
pub use federated_crd::{federated_crd, federated_resource};
pub use federated_istio::{
    ClusterControlPlane, ControlPlanePhase, ControlPlaneReason, FederatedIstio, FederatedIstioSpec,
    FederatedIstioStatus, IstioTemplate, MeshSpec, RevisionStatus, RolloutProgress, StageProgress,
    StageState, UpgradePolicy,
};
pub use federated_type_config::{
    FederatedTypeConfig, FederatedTypeConfigSpec, FederatedTypeConfigStatus, Propagation, ResourceScope,
    ResourceType,
};
pub use istio_release::{ChartReference, IstioRelease, IstioReleaseSpec, KubernetesRange};
pub use member_cluster::{
    ClusterAccess, KubeconfigAccess, MemberCluster, MemberClusterSpec, MemberClusterStatus,
    SecretKeyReference,
};
pub use rollout_strategy::{RolloutStrategy, RolloutStrategySpec, Stage};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;

/// Every CRD that the operator needs on its host: the hand-written kinds, then the
/// `Federated<Kind>` of every built-in type, each in a stable order.
pub fn all_crds() -> Vec<CustomResourceDefinition> {
    let hand_written = [
        MemberCluster::crd(),
        FederatedTypeConfig::crd(),
        FederatedIstio::crd(),
        IstioRelease::crd(),
        RolloutStrategy::crd(),
    ];
    let mut crds: Vec<_> = hand_written.into_iter().map(schema::tidy).collect();
    crds.extend(builtin_types().iter().map(|builtin| federated_crd(&builtin.config().spec)));
    crds
}
