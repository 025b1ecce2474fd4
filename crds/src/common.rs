//! Names and small types that every kind shares.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// API group of the hand-written kinds.
pub const GROUP: &str = "fedistio.io";
/// API group of the generated `Federated<Kind>` types.
pub const TYPES_GROUP: &str = "types.fedistio.io";
/// Version of both groups.
pub const VERSION: &str = "v1alpha1";
/// Category of the hand-written kinds: `kubectl get fedistio`.
pub const CATEGORY: &str = "fedistio";
/// Namespace in which the operator runs, and in which it looks for kubeconfig secrets unless told otherwise.
pub const OPERATOR_NAMESPACE: &str = "fedistio-system";
/// Field manager of every server-side apply, on the host and on members.
pub const FIELD_MANAGER: &str = "fedistio";
/// Keeps a federated object on the host until its copies are confirmed gone.
pub const FINALIZER: &str = "fedistio.io/propagation";
/// Label (value `"true"`) on every copy; objects without it are never deleted, and watches select by it.
pub const LABEL_MANAGED: &str = "fedistio.io/managed";
/// Annotation on every copy: hash of the manifest that was applied, 16 hex digits.
pub const ANNOTATION_HASH: &str = "fedistio.io/hash";
/// Annotation on every copy: which federated object it belongs to, `<Kind>/<namespace>/<name>` (empty namespace where cluster-scoped).
pub const ANNOTATION_OWNER: &str = "fedistio.io/owner";

/// Selects clusters by their labels. An empty selector selects all clusters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterSelector {
    /// Labels that the cluster must carry, each with this exact value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
    /// Expressions that must all hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub match_expressions: Vec<LabelExpression>,
}

/// One requirement on a label, with the meaning that `metav1.LabelSelectorRequirement` gives it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LabelExpression {
    /// The label's key.
    pub key: String,
    /// How the value relates to `values`.
    pub operator: LabelOperator,
    /// The values of `In` and `NotIn`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

/// Operators of a [`LabelExpression`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LabelOperator {
    /// The label is there with one of the values.
    In,
    /// The label is missing or has none of the values.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is missing.
    DoesNotExist,
}

impl ClusterSelector {
    /// Does a cluster with these labels match?
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.match_expressions.iter().all(|expression| expression.matches(labels))
    }
}

impl LabelExpression {
    fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        match self.operator {
            LabelOperator::In => value.is_some_and(|value| self.values.contains(value)),
            LabelOperator::NotIn => !value.is_some_and(|value| self.values.contains(value)),
            LabelOperator::Exists => value.is_some(),
            LabelOperator::DoesNotExist => value.is_none(),
        }
    }
}

/// The three values of a Kubernetes condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// Nobody knows (yet): never taken for success.
    Unknown,
}

impl ConditionStatus {
    /// The value as the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for ConditionStatus {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// Sets the condition `type_` in `conditions`, in place.
///
/// `lastTransitionTime` becomes `now` only where the status changes, as the API conventions ask;
/// an unchanged condition is left as it is, so that an unchanged status stays equal.
pub fn set_condition(
    conditions: &mut Vec<Condition>,
    type_: &str,
    status: ConditionStatus,
    reason: &str,
    message: &str,
    generation: Option<i64>,
    now: Timestamp,
) {
    let existing = conditions.iter_mut().find(|condition| condition.type_ == type_);
    let since = match &existing {
        Some(old) if old.status == status.as_str() => old.last_transition_time.clone(),
        _ => Time(now),
    };
    let condition = Condition {
        type_: type_.to_owned(),
        status: status.as_str().to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: generation,
        last_transition_time: since,
    };
    match existing {
        Some(old) => *old = condition,
        None => conditions.push(condition),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn an_empty_selector_selects_every_cluster() {
        assert!(ClusterSelector::default().matches(&labels(&[])));
        assert!(ClusterSelector::default().matches(&labels(&[("env", "prod")])));
    }

    #[test]
    fn expressions_follow_the_label_selector_rules() {
        let selector = |operator, values: &[&str]| ClusterSelector {
            match_expressions: vec![LabelExpression {
                key: "env".to_owned(),
                operator,
                values: values.iter().map(|value| (*value).to_owned()).collect(),
            }],
            ..ClusterSelector::default()
        };
        let prod = labels(&[("env", "prod")]);
        let none = labels(&[]);
        assert!(selector(LabelOperator::In, &["prod", "dev"]).matches(&prod));
        assert!(!selector(LabelOperator::In, &["dev"]).matches(&prod));
        assert!(!selector(LabelOperator::In, &["prod"]).matches(&none));
        assert!(selector(LabelOperator::NotIn, &["prod"]).matches(&none));
        assert!(!selector(LabelOperator::NotIn, &["prod"]).matches(&prod));
        assert!(selector(LabelOperator::Exists, &[]).matches(&prod));
        assert!(selector(LabelOperator::DoesNotExist, &[]).matches(&none));
    }

    #[test]
    fn a_condition_keeps_its_time_until_its_status_changes() {
        let mut conditions = Vec::new();
        let first = Timestamp::UNIX_EPOCH;
        let later = Timestamp::from_second(60).unwrap();
        set_condition(&mut conditions, "Ready", ConditionStatus::False, "A", "a", Some(1), first);
        set_condition(&mut conditions, "Ready", ConditionStatus::False, "B", "b", Some(2), later);
        assert_eq!(conditions[0].last_transition_time.0, first);
        assert_eq!(conditions[0].reason, "B");
        set_condition(&mut conditions, "Ready", ConditionStatus::True, "C", "", Some(2), later);
        assert_eq!(conditions[0].last_transition_time.0, later);
        assert_eq!(conditions.len(), 1);
    }
}
