//! The Events about a `FederatedIstio`: what is wrong in which cluster, and what became of the sources of the charts. Pure.

use crate::controller::fold::{CACHED_CHARTS, CHART_SOURCES, waits_for_somebody};
use fedistio_crds::{
    ClusterControlPlane, ControlPlanePhase as Phase, ControlPlaneReason as Reason, FederatedIstioStatus,
};
use fedistio_federation::Announcement;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

/// What is new in a status.
pub(crate) fn news(before: &FederatedIstioStatus, after: &FederatedIstioStatus) -> Vec<Announcement> {
    let said = |name: &str| before.clusters.iter().find(|entry| entry.name == name);
    let clusters = after.clusters.iter().filter(|entry| {
        needs_help(entry) && said(&entry.name).is_none_or(|said| said.reason != entry.reason)
    });
    let mut list: Vec<Announcement> = clusters
        .map(|entry| Announcement {
            warning: true,
            reason: entry.reason.to_string(),
            action: "Install",
            note: format!("{}: {}", entry.name, entry.message),
        })
        .collect();
    let (old, new) = (sources(before), sources(after));
    let reason = |condition: Option<&Condition>| condition.map(|condition| condition.reason.clone());
    if let Some(new) = new.filter(|new| reason(old).as_ref() != Some(&new.reason)) {
        let fetch = |warning, reason: &str, note: &str| Announcement {
            warning,
            reason: reason.to_owned(),
            action: "Fetch",
            note: note.to_owned(),
        };
        if new.reason == CACHED_CHARTS {
            list.push(fetch(true, CACHED_CHARTS, &new.message));
        } else if new.status == "True" && old.is_some() {
            list.push(fetch(false, CHART_SOURCES, "the sources of the charts answer again"));
        }
    }
    list
}

fn needs_help(entry: &ClusterControlPlane) -> bool {
    entry.phase == Phase::Failed || entry.reason == Reason::ApplyFailed || waits_for_somebody(entry.reason)
}

fn sources(status: &FederatedIstioStatus) -> Option<&Condition> {
    status.conditions.iter().find(|condition| condition.type_ == CHART_SOURCES)
}

/// The Event for a cluster that is given up.
pub(crate) fn released(cluster: &str, why: &str) -> Announcement {
    Announcement {
        warning: true,
        reason: "ControlPlaneReleased".to_owned(),
        action: "Release",
        note: format!(
            "{cluster}: {why}, for longer than spec.deletion.unreachableTimeout; what is left there is orphaned: nobody removes it"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::fold::entry;
    use fedistio_crds::{ConditionStatus, set_condition};
    use k8s_openapi::jiff::Timestamp;

    fn status(clusters: Vec<ClusterControlPlane>) -> FederatedIstioStatus {
        FederatedIstioStatus { clusters, ..FederatedIstioStatus::default() }
    }

    fn reasons(before: &FederatedIstioStatus, after: &FederatedIstioStatus) -> Vec<String> {
        news(before, after).into_iter().map(|one| one.reason).collect()
    }

    #[test]
    fn each_new_reason_for_help_is_said_once() {
        let none = status(Vec::new());
        let bad = status(vec![entry("a", Phase::Failed, Reason::ChartDigestMismatch, "m")]);
        let first = news(&none, &bad);
        assert!(first[0].warning && first[0].note == "a: m", "{first:?}");
        assert!(news(&bad, &bad).is_empty());
        let good = status(vec![entry("a", Phase::Healthy, Reason::Healthy, "")]);
        assert!(news(&bad, &good).is_empty());
        let taken = status(vec![entry("a", Phase::Failed, Reason::ClusterTaken, "")]);
        assert_eq!(reasons(&bad, &taken), ["ClusterTaken"]);
        let unknown = status(vec![entry("a", Phase::Pending, Reason::UnknownVersion, "")]);
        assert_eq!(reasons(&good, &unknown), ["UnknownVersion"]);
    }

    #[test]
    fn the_sources_going_and_coming_back_is_said() {
        let with = |holds, reason: &str| {
            let mut status = status(Vec::new());
            let now = Timestamp::UNIX_EPOCH;
            set_condition(&mut status.conditions, CHART_SOURCES, holds, reason, "m", None, now);
            status
        };
        let (up, down) =
            (with(ConditionStatus::True, "SourcesAnswer"), with(ConditionStatus::False, CACHED_CHARTS));
        assert!(news(&status(Vec::new()), &up).is_empty());
        assert_eq!(reasons(&up, &down), [CACHED_CHARTS]);
        assert!(news(&down, &down).is_empty());
        assert_eq!(reasons(&down, &up), [CHART_SOURCES]);
    }
}
