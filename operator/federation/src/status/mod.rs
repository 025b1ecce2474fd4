//! Fold: what is known of each copy → the status of the federated object. Pure.

use crate::plan::Verdict;
use fedistio_crds::{
    ClusterCopy, ConditionStatus, CopyState, FederatedStatus, PropagatedReason, set_condition,
};
use json_patch::{AddOperation, PatchOperation, jsonptr::PointerBuf};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::api::Patch;
use serde::Serialize;

/// Condition of a federated object: every placed cluster has the current copy.
pub const PROPAGATED: &str = "Propagated";

/// Clusters that a condition's message names at the most; the rest is in `status.clusters`.
const NAMED: usize = 3;

/// A patch that puts `status` in the place of whatever status an object has. (A merge patch could not empty a list that is left out.)
///
/// Send it to the status subresource.
///
/// # Errors
/// When `status` can't be written as JSON.
pub fn replace_status(status: &impl Serialize) -> Result<Patch<()>, serde_json::Error> {
    let value = serde_json::to_value(status)?;
    let path = PointerBuf::from_tokens(["status"]);
    let operation = PatchOperation::Add(AddOperation { path, value });
    Ok(Patch::Json(json_patch::Patch(vec![operation])))
}

/// Folds the verdicts of all copies (sorted by cluster name) into the next status.
///
/// What has not changed stays equal to `previous`, times included, so that an unchanged status needs no write.
pub(crate) fn fold<'a>(
    previous: &FederatedStatus,
    generation: i64,
    spec_error: Option<&str>,
    deleting: bool,
    verdicts: impl Iterator<Item = (&'a str, &'a Verdict)>,
    now: Timestamp,
) -> FederatedStatus {
    let clusters: Vec<ClusterCopy> = verdicts
        .map(|(name, verdict)| {
            let old = previous.clusters.iter().find(|copy| copy.name == name);
            let since =
                old.filter(|old| old.state == verdict.state).and_then(|old| old.last_transition_time.clone());
            ClusterCopy {
                name: name.to_owned(),
                state: verdict.state,
                reason: verdict.reason,
                message: verdict.message.clone(),
                last_transition_time: Some(since.unwrap_or(Time(now))),
            }
        })
        .collect();
    let mut status = FederatedStatus {
        observed_generation: Some(generation),
        conditions: previous.conditions.clone(),
        clusters,
        ..FederatedStatus::default()
    };
    status.summarise();
    let (holds, reason, message) = propagated(&status, spec_error, deleting);
    let reason: &'static str = reason.into();
    set_condition(&mut status.conditions, PROPAGATED, holds, reason, &message, Some(generation), now);
    status
}

fn propagated(
    status: &FederatedStatus,
    spec_error: Option<&str>,
    deleting: bool,
) -> (ConditionStatus, PropagatedReason, String) {
    if let Some(error) = spec_error {
        return (ConditionStatus::False, PropagatedReason::SpecInvalid, error.to_owned());
    }
    let listed = |state: CopyState| -> Vec<&ClusterCopy> {
        status.clusters.iter().filter(|copy| copy.state == state).collect()
    };
    let describe = |copies: &[&ClusterCopy]| {
        let mut text: Vec<String> = copies
            .iter()
            .take(NAMED)
            .map(|copy| match copy.message.as_str() {
                "" => format!("{}: {}", copy.name, copy.reason),
                message => format!("{}: {message}", copy.name),
            })
            .collect();
        if copies.len() > NAMED {
            text.push(format!("and {} more", copies.len() - NAMED));
        }
        text.join("; ")
    };
    let failed = listed(CopyState::Failed);
    if !failed.is_empty() {
        return (ConditionStatus::False, PropagatedReason::Failed, describe(&failed));
    }
    let pending = listed(CopyState::Pending);
    if !pending.is_empty() {
        return (ConditionStatus::False, PropagatedReason::Pending, describe(&pending));
    }
    let removing = listed(CopyState::Removing);
    if !removing.is_empty() || deleting {
        return (ConditionStatus::False, PropagatedReason::Removing, describe(&removing));
    }
    let in_sync = status.summary.in_sync;
    if in_sync == 0 {
        let message = "no registered cluster is placed: check spec.placement and `fedistio clusters`";
        return (ConditionStatus::True, PropagatedReason::NothingPlaced, message.to_owned());
    }
    (ConditionStatus::True, PropagatedReason::AllInSync, format!("{in_sync} clusters in sync"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Step;
    use fedistio_crds::CopyReason;

    fn verdict(state: CopyState, reason: CopyReason, message: &str) -> Verdict {
        Verdict { step: Step::Rest, state, reason, message: message.to_owned() }
    }

    fn later() -> Timestamp {
        Timestamp::from_second(1000).unwrap()
    }

    #[test]
    fn an_unchanged_fold_is_equal_to_the_last() {
        let good = verdict(CopyState::InSync, CopyReason::Applied, "");
        let first = fold(
            &FederatedStatus::default(),
            1,
            None,
            false,
            [("a", &good)].into_iter(),
            Timestamp::UNIX_EPOCH,
        );
        let second = fold(&first, 1, None, false, [("a", &good)].into_iter(), later());
        assert_eq!(first, second);
        assert_eq!(second.conditions[0].status, "True");
        assert_eq!((second.summary.clusters, second.summary.in_sync, second.summary.failed), (1, 1, 0));
    }

    #[test]
    fn a_failure_is_named_with_its_cluster() {
        let good = verdict(CopyState::InSync, CopyReason::Applied, "");
        let bad = verdict(CopyState::Failed, CopyReason::OverrideFailed, "no such path");
        let status = fold(
            &FederatedStatus::default(),
            2,
            None,
            false,
            [("a", &good), ("b", &bad)].into_iter(),
            later(),
        );
        assert_eq!(status.conditions[0].reason, "Failed");
        assert_eq!(status.conditions[0].message, "b: no such path");
        assert_eq!(status.summary.failed, 1);
        assert_eq!(status.observed_generation, Some(2));
    }

    #[test]
    fn an_excluded_cluster_is_listed_and_no_failure() {
        let out = verdict(CopyState::Excluded, CopyReason::ConstraintNotMet, "too old");
        let good = verdict(CopyState::InSync, CopyReason::Applied, "");
        let status = fold(
            &FederatedStatus::default(),
            1,
            None,
            false,
            [("a", &good), ("b", &out)].into_iter(),
            later(),
        );
        assert_eq!(status.clusters.len(), 2);
        assert_eq!(status.conditions[0].reason, "AllInSync");
    }

    #[test]
    fn nothing_placed_and_an_unreadable_spec_have_their_own_reasons() {
        let none = fold(&FederatedStatus::default(), 1, None, false, std::iter::empty(), later());
        assert_eq!(none.conditions[0].reason, "NothingPlaced");
        let bad = fold(&FederatedStatus::default(), 1, Some("x"), false, std::iter::empty(), later());
        assert_eq!(bad.conditions[0].reason, "SpecInvalid");
    }
}
