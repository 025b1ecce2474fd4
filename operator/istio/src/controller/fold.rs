//! Folds what is known of the clusters into the status of a `FederatedIstio`. Pure.

use crate::{charts::RETRY, controller::desired::ChartNews};
use fedistio_crds::{
    ClusterControlPlane, ConditionStatus, ControlPlanePhase as Phase, ControlPlaneReason as Reason,
    FederatedIstioStatus, RolloutProgress, Summary, set_condition,
};
use fedistio_federation::rollout::{Health, RolloutDecision};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use std::collections::BTreeMap;

/// Condition: every control plane runs what it should, and is ready.
const READY: &str = "Ready";
/// Condition: the charts in use came from their sources.
pub(super) const CHART_SOURCES: &str = "ChartSourcesAvailable";
/// Its reason while no source answers and what was fetched before is used.
pub(super) const CACHED_CHARTS: &str = "CachedChartsUsed";
/// Condition: a change is on its way.
const PROGRESSING: &str = "Progressing";

/// An entry that says nothing yet.
pub(crate) fn entry(
    name: &str,
    phase: Phase,
    reason: Reason,
    message: impl Into<String>,
) -> ClusterControlPlane {
    ClusterControlPlane {
        name: name.to_owned(),
        phase,
        reason,
        message: message.into(),
        ready: false,
        version: String::new(),
        revision: String::new(),
        spec_revision: String::new(),
        tag_revision: None,
        revisions: Vec::new(),
        proxies: BTreeMap::new(),
        last_transition_time: None,
        start_time: None,
    }
}

/// Sets the times of `new` after what was said `before`.
///
/// Both start over with a new spec revision, even where the phase is the same: a time of success must not count from the old one. The start
/// moves to the end of a wait for somebody, of a removal that is taken back, and of health: a deadline is for the operator's work.
pub(crate) fn set_times(new: &mut ClusterControlPlane, before: Option<&ClusterControlPlane>, now: Timestamp) {
    let same = before.filter(|before| before.spec_revision == new.spec_revision);
    let at = || Some(Time(now));
    let waited = |before: &&ClusterControlPlane| {
        let idle = matches!(before.phase, Phase::Removing | Phase::Healthy);
        let wait = idle || waits_for_somebody(before.reason);
        wait && (before.phase, before.reason) != (new.phase, new.reason)
    };
    new.start_time =
        same.filter(|before| !waited(before)).and_then(|before| before.start_time.clone()).or_else(at);
    new.last_transition_time = same
        .filter(|before| before.phase == new.phase)
        .and_then(|before| before.last_transition_time.clone())
        .or_else(at);
}

/// Does somebody have to do something that is no correction of a mistake? No deadline runs meanwhile, and no stage stops.
///
/// A version that the catalogue lacks is one: who makes a `FederatedIstio` and its `IstioRelease` makes one of them first.
pub(crate) fn waits_for_somebody(reason: Reason) -> bool {
    matches!(reason, Reason::RestartNeeded | Reason::UnknownVersion)
}

/// How a rollout sees a cluster of which this was said last.
pub(crate) fn health(entry: &ClusterControlPlane) -> Health {
    match (entry.phase, entry.reason) {
        (Phase::Healthy, _) => match &entry.last_transition_time {
            Some(time) => Health::Healthy(time.0),
            None => Health::Progressing,
        },
        (_, reason) if waits_for_somebody(reason) => Health::Waiting(entry.message.clone()),
        // The first is said by the rollout itself, which must be able to take it back. The second is tried again, and mostly not the
        // spec's fault: it has until the stage's deadline.
        (_, Reason::ProgressDeadlineExceeded | Reason::ChartUnavailable) => Health::Progressing,
        (Phase::Failed, _) => Health::Failed(entry.message.clone()),
        _ => Health::Progressing,
    }
}

/// What the status is made of.
pub(crate) struct Fold<'a> {
    pub(crate) before: &'a FederatedIstioStatus,
    pub(crate) generation: Option<i64>,
    pub(crate) clusters: Vec<ClusterControlPlane>,
    /// The decision with the target's name; none while the object is being deleted.
    pub(crate) rollout: Option<(&'a RolloutDecision, &'a str)>,
    /// Something that concerns all clusters.
    pub(crate) problem: Option<(Reason, String)>,
    /// Where the charts are from.
    pub(crate) charts: &'a ChartNews,
    pub(crate) now: Timestamp,
}

/// Makes the new status.
pub(crate) fn fold(input: Fold<'_>) -> FederatedIstioStatus {
    let Fold { before, generation, clusters, rollout, problem, charts, now } = input;
    let target = rollout.map(|(_, target)| target);
    let as_wanted =
        |entry: &&ClusterControlPlane| entry.ready && Some(entry.spec_revision.as_str()) == target;
    let in_sync = clusters.iter().filter(as_wanted).count();
    let failed: Vec<&ClusterControlPlane> = clusters
        .iter()
        .filter(|entry| entry.phase == Phase::Failed || entry.reason == Reason::ApplyFailed)
        .collect();
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let mut status = FederatedIstioStatus {
        observed_generation: generation,
        summary: Summary {
            clusters: number(clusters.len()),
            in_sync: number(in_sync),
            failed: number(failed.len()),
        },
        conditions: before.conditions.clone(),
        rollout: match rollout {
            Some((decision, target)) => Some(progress(before, decision, target)),
            None => before.rollout.clone(),
        },
        clusters: Vec::new(),
    };
    let done = rollout.is_some_and(|(decision, _)| decision.done);
    let stopped = rollout.and_then(|(decision, _)| decision.stopped.clone());
    let (ready, reason, message) = if let Some((reason, message)) = &problem {
        (ConditionStatus::False, (*reason).into(), message.clone())
    } else if clusters.is_empty() && rollout.is_some() {
        let message = "the placement selects no cluster; check it against the labels of the MemberClusters";
        (ConditionStatus::False, "NoClusters", message.to_owned())
    } else if let Some(first) = failed.first() {
        (ConditionStatus::False, first.reason.into(), format!("{}: {}", first.name, first.message))
    } else if in_sync == clusters.len() && rollout.is_some() {
        (ConditionStatus::True, "Ready", format!("{in_sync} of {} clusters are ready", clusters.len()))
    } else {
        let held = clusters.iter().find(|entry| waits_for_somebody(entry.reason));
        let waiting = held.or_else(|| clusters.iter().find(|entry| !as_wanted(entry)));
        let why = waiting.map(|entry| format!("; {}: {} {}", entry.name, entry.reason, entry.message));
        let message =
            format!("{in_sync} of {} clusters are ready{}", clusters.len(), why.unwrap_or_default());
        let reason = held.map_or("Progressing", |entry| entry.reason.into());
        (ConditionStatus::False, reason, message.trim_end().to_owned())
    };
    set_condition(&mut status.conditions, READY, ready, reason, &message, generation, now);
    let (progressing, reason, message) = match (stopped, done) {
        (Some(stopped), _) => (ConditionStatus::False, "RolloutStopped", stopped),
        (None, true) => (ConditionStatus::False, "RolloutComplete", String::new()),
        (None, false) => {
            let stage = status.rollout.as_ref().map_or("", |rollout| rollout.current_stage.as_str());
            let message =
                if stage.is_empty() { String::new() } else { format!("stage {stage} is under way") };
            (ConditionStatus::True, "RolloutUnderWay", message)
        }
    };
    set_condition(&mut status.conditions, PROGRESSING, progressing, reason, &message, generation, now);
    if let Some((available, reason, message)) = chart_sources(charts, &clusters) {
        set_condition(&mut status.conditions, CHART_SOURCES, available, reason, &message, generation, now);
    }
    status.clusters = clusters;
    status
}

/// What to say of the sources of the charts; nothing where no chart was asked for.
fn chart_sources(
    charts: &ChartNews,
    clusters: &[ClusterControlPlane],
) -> Option<(ConditionStatus, &'static str, String)> {
    if !charts.cached.is_empty() {
        let list = charts.cached.iter().map(String::as_str).collect::<Vec<_>>().join("; ");
        let message = format!(
            "no source answers, so what was fetched before is used, and the sources are asked again every {} s: {list}",
            RETRY.as_secs()
        );
        return Some((ConditionStatus::False, CACHED_CHARTS, message));
    }
    if let Some(without) = clusters.iter().find(|entry| entry.reason == Reason::ChartUnavailable) {
        let message = format!("{}: {}", without.name, without.message);
        return Some((ConditionStatus::False, Reason::ChartUnavailable.into(), message));
    }
    charts.used.then(|| (ConditionStatus::True, "SourcesAnswer", String::new()))
}

fn progress(before: &FederatedIstioStatus, decision: &RolloutDecision, target: &str) -> RolloutProgress {
    let promoted = before.rollout.as_ref().and_then(|rollout| rollout.previous_revision.clone());
    RolloutProgress {
        target_revision: target.to_owned(),
        previous_revision: if decision.done { Some(target.to_owned()) } else { promoted },
        current_stage: decision.current_stage.clone(),
        stages: decision.stages.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fedistio_crds::StageState;
    use fedistio_federation::rollout::{RolloutCluster, RolloutInput, decide};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn healthy(name: &str) -> ClusterControlPlane {
        ClusterControlPlane {
            ready: true,
            spec_revision: "r2".to_owned(),
            last_transition_time: Some(Time(at(5))),
            ..entry(name, Phase::Healthy, Reason::Healthy, "")
        }
    }

    fn decision(done: bool) -> RolloutDecision {
        RolloutDecision {
            assignments: BTreeMap::new(),
            stages: Vec::new(),
            current_stage: String::new(),
            stopped: None,
            done,
            wake_at: None,
        }
    }

    fn run(
        clusters: Vec<ClusterControlPlane>,
        before: &FederatedIstioStatus,
        now: i64,
    ) -> FederatedIstioStatus {
        let decision = decision(clusters.iter().all(|entry| entry.phase == Phase::Healthy));
        fold(Fold {
            before,
            generation: Some(1),
            clusters,
            rollout: Some((&decision, "r2")),
            problem: None,
            charts: &ChartNews { used: true, ..ChartNews::default() },
            now: at(now),
        })
    }

    fn condition<'a>(status: &'a FederatedIstioStatus, type_: &str) -> (&'a str, &'a str) {
        let found = status.conditions.iter().find(|condition| condition.type_ == type_).unwrap();
        (&found.status, &found.reason)
    }

    #[test]
    fn the_same_facts_give_the_same_status_at_any_time() {
        let first = run(vec![healthy("a")], &FederatedIstioStatus::default(), 1);
        assert_eq!(condition(&first, READY), ("True", "Ready"));
        assert_eq!(first.rollout.as_ref().unwrap().previous_revision.as_deref(), Some("r2"));
        assert_eq!(run(vec![healthy("a")], &first, 100), first);
    }

    #[test]
    fn failures_and_held_clusters_are_not_ready() {
        let failed = entry("b", Phase::Failed, Reason::UnknownVersion, "choose another");
        let status = run(vec![healthy("a"), failed], &FederatedIstioStatus::default(), 1);
        assert_eq!(condition(&status, READY), ("False", "UnknownVersion"));
        assert_eq!((status.summary.in_sync, status.summary.failed), (1, 1));
        let held = ClusterControlPlane { spec_revision: "r1".to_owned(), ..healthy("b") };
        let status = run(vec![healthy("a"), held], &FederatedIstioStatus::default(), 1);
        assert_eq!(condition(&status, READY), ("False", "Progressing"));
        assert_eq!(
            condition(&run(vec![], &FederatedIstioStatus::default(), 1), READY),
            ("False", "NoClusters")
        );
    }

    #[test]
    fn times_start_over_with_a_new_spec_revision() {
        let mut same = healthy("a");
        same.last_transition_time = None;
        set_times(&mut same, Some(&healthy("a")), at(9));
        assert_eq!(
            (same.last_transition_time.clone().unwrap().0, same.start_time.unwrap().0),
            (at(5), at(9))
        );
        let mut next = ClusterControlPlane { spec_revision: "r3".to_owned(), ..healthy("a") };
        set_times(&mut next, Some(&healthy("a")), at(9));
        assert_eq!((next.last_transition_time.unwrap().0, next.start_time.unwrap().0), (at(9), at(9)));
    }

    #[test]
    fn a_deadline_starts_when_a_wait_or_health_ends() {
        let said = |phase, reason| ClusterControlPlane {
            spec_revision: "r2".to_owned(),
            start_time: Some(Time(at(5))),
            ..entry("a", phase, reason, "")
        };
        let start = |before: &ClusterControlPlane, phase, reason| {
            let mut new = said(phase, reason);
            set_times(&mut new, Some(before), at(9));
            new.start_time.unwrap().0
        };
        let unknown = said(Phase::Pending, Reason::UnknownVersion);
        assert_eq!(start(&unknown, Phase::Pending, Reason::UnknownVersion), at(5));
        assert_eq!(start(&unknown, Phase::Installing, Reason::Applying), at(9));
        let installing = said(Phase::Installing, Reason::Applying);
        assert_eq!(start(&installing, Phase::WaitingForIstiod, Reason::IstiodNotReady), at(5));
        // Drift of a cluster that was healthy for days is no failure of its stage.
        let healthy = said(Phase::Healthy, Reason::Healthy);
        assert_eq!(start(&healthy, Phase::Healthy, Reason::Healthy), at(5));
        assert_eq!(start(&healthy, Phase::Installing, Reason::Applying), at(9));
        let removing = said(Phase::Removing, Reason::Removing);
        assert_eq!(start(&removing, Phase::Installing, Reason::Applying), at(9));
    }

    #[test]
    fn a_version_that_is_not_there_yet_is_a_wait_that_says_what_is_missing() {
        let waiting = entry("b", Phase::Pending, Reason::UnknownVersion, "make an IstioRelease");
        let status = run(vec![healthy("a"), waiting], &FederatedIstioStatus::default(), 1);
        assert_eq!(condition(&status, READY), ("False", "UnknownVersion"));
        assert_eq!((status.summary.in_sync, status.summary.failed), (1, 0));
        let ready = status.conditions.iter().find(|condition| condition.type_ == READY).unwrap();
        assert!(ready.message.contains("b: UnknownVersion make an IstioRelease"), "{}", ready.message);
    }

    #[test]
    fn a_version_that_is_not_there_yet_never_stops_a_stage() {
        let strategy = serde_json::from_value(serde_json::json!({"stages": [
            {"name": "first", "clusters": [{"name": "a"}], "progressDeadline": "1m"},
            {"name": "rest", "clusterSelector": {}}]}))
        .unwrap();
        let cluster = |entry: Option<&ClusterControlPlane>| RolloutCluster {
            labels: BTreeMap::new(),
            current: entry.map(|entry| entry.spec_revision.clone()),
            started: Some(at(0)),
            health: entry.map_or(Health::Progressing, health),
        };
        let waiting = ClusterControlPlane {
            spec_revision: "r2".to_owned(),
            ..entry("a", Phase::Pending, Reason::UnknownVersion, "make an IstioRelease")
        };
        let clusters = [("a".to_owned(), cluster(Some(&waiting))), ("b".to_owned(), cluster(None))].into();
        // Long after the deadline.
        let decision = decide(&RolloutInput {
            strategy: Some(&strategy),
            clusters: &clusters,
            target: "r2",
            promoted: None,
            now: at(9999),
        });
        let states: Vec<StageState> = decision.stages.iter().map(|stage| stage.state).collect();
        assert_eq!(states, [StageState::Progressing, StageState::Waiting]);
        assert!(decision.stages[0].message.contains("make an IstioRelease"), "{:?}", decision.stages);
        assert!(decision.stopped.is_none() && !decision.assignments["a"].overdue);
    }

    #[test]
    fn sources_that_do_not_answer_are_said_until_they_do() {
        let decision = decision(true);
        let run = |charts: ChartNews, clusters: Vec<ClusterControlPlane>, before: &FederatedIstioStatus| {
            fold(Fold {
                before,
                generation: Some(1),
                clusters,
                rollout: Some((&decision, "r2")),
                problem: None,
                charts: &charts,
                now: at(1),
            })
        };
        let cached = ChartNews { used: true, cached: ["base-1.29.1: 503".to_owned()].into() };
        let down = run(cached, vec![healthy("a")], &FederatedIstioStatus::default());
        assert_eq!(condition(&down, CHART_SOURCES), ("False", CACHED_CHARTS));
        assert_eq!(condition(&down, READY), ("True", "Ready"));
        // A pass that needed no chart knows nothing new.
        let silent = run(ChartNews::default(), vec![healthy("a")], &down);
        assert_eq!(condition(&silent, CHART_SOURCES), ("False", CACHED_CHARTS));
        let used = || ChartNews { used: true, ..ChartNews::default() };
        let without = entry("b", Phase::Failed, Reason::ChartUnavailable, "none");
        let lacking = run(used(), vec![healthy("a"), without], &down);
        assert_eq!(condition(&lacking, CHART_SOURCES), ("False", "ChartUnavailable"));
        assert_eq!(condition(&run(used(), vec![healthy("a")], &down), CHART_SOURCES).0, "True");
    }

    #[test]
    fn a_rollout_can_take_its_own_verdict_back() {
        assert_eq!(
            health(&entry("a", Phase::Failed, Reason::ProgressDeadlineExceeded, "")),
            Health::Progressing
        );
        assert_eq!(health(&entry("a", Phase::Failed, Reason::ChartUnavailable, "")), Health::Progressing);
        assert!(matches!(health(&entry("a", Phase::Failed, Reason::RenderFailed, "x")), Health::Failed(_)));
        for (phase, reason) in
            [(Phase::MovingWorkloads, Reason::RestartNeeded), (Phase::Pending, Reason::UnknownVersion)]
        {
            assert!(matches!(health(&entry("a", phase, reason, "x")), Health::Waiting(_)), "{reason}");
        }
        assert_eq!(health(&healthy("a")), Health::Healthy(at(5)));
    }
}
