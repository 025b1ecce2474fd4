//! Rollout: which revision of a federated object each cluster should have now. Pure.
//!
//! Stages follow each other: a stage opens when every cluster of the stages before it is healthy on the target. Nothing is kept
//! here; the decision is made anew from what the status holds, so that a restart changes nothing.

use crate::cluster::ClusterView;
use fedistio_crds::{Stage, StageProgress, StageState};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use std::{collections::BTreeMap, time::Duration};

/// Name of the implicit last stage: the clusters that no stage selects.
pub const REMAINING: &str = "remaining";
/// Deadline of the implicit stage; the default of written ones.
const REMAINING_DEADLINE: Duration = Duration::from_mins(10);

/// How a cluster does with the revision that it was assigned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It is healthy since then.
    Healthy {
        /// When it became so.
        since: Timestamp,
    },
    /// It is on its way.
    Progressing,
    /// It can't go on by itself.
    Failed {
        /// Why.
        message: String,
    },
}

/// One placed cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster<'a> {
    /// What is known of it.
    pub view: &'a ClusterView,
    /// The revision that it has been assigned, if any.
    pub assigned: Option<&'a str>,
    /// When it was assigned that.
    pub since: Option<Timestamp>,
    /// How it does.
    pub health: Health,
}

/// What a rollout depends on.
#[derive(Clone, Debug)]
pub struct Input<'a> {
    /// The stages of the strategy; empty without one.
    pub stages: &'a [Stage],
    /// The placed clusters, by name.
    pub clusters: &'a BTreeMap<String, Cluster<'a>>,
    /// The newest revision.
    pub target: &'a str,
    /// The last revision that reached every cluster: what a new cluster gets while its stage is not open.
    pub promoted: Option<&'a str>,
    /// The time.
    pub now: Timestamp,
}

/// What each cluster should have now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// The revision of each cluster and since when; a cluster that is missing here waits for its first one.
    pub assignments: BTreeMap<String, Assignment>,
    /// How far each stage is, in order.
    pub stages: Vec<StageProgress>,
    /// Has the target reached every cluster, in health?
    pub complete: bool,
    /// When time alone will change the decision, look again after this long.
    pub recheck: Option<Duration>,
}

/// A revision and when the cluster got it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// Name of the revision.
    pub revision: String,
    /// When the cluster got it.
    pub since: Timestamp,
}

impl Decision {
    /// Name of the first stage that has not succeeded; empty when all have.
    pub fn current_stage(&self) -> &str {
        let current = self.stages.iter().find(|stage| stage.state != StageState::Succeeded);
        current.map_or("", |stage| stage.name.as_str())
    }

    /// Why nothing goes on, where a stage has stopped.
    pub fn stopped(&self) -> Option<&StageProgress> {
        self.stages.iter().find(|stage| stage.state == StageState::Stopped)
    }
}

/// Decides which revision each cluster should have.
pub fn decide(input: &Input<'_>) -> Decision {
    let mut decision = Decision::default();
    let mut open = true;
    for (stage, names) in group(input) {
        let outcome = run_stage(input, stage, &names, open, &mut decision);
        open &= outcome.state == StageState::Succeeded;
        decision.stages.push(StageProgress {
            name: stage.map_or(REMAINING, |stage| stage.name.as_str()).to_owned(),
            state: outcome.state,
            clusters: names.iter().map(|name| (*name).to_owned()).collect(),
            message: outcome.message,
        });
    }
    decision.complete = open;
    decision
}

/// The stages with their clusters, the implicit one last and only where it has any. A cluster belongs to the first stage that selects it.
fn group<'a>(input: &Input<'a>) -> Vec<(Option<&'a Stage>, Vec<&'a str>)> {
    let mut groups: Vec<(Option<&Stage>, Vec<&str>)> =
        input.stages.iter().map(|stage| (Some(stage), vec![])).collect();
    let mut remaining = Vec::new();
    for (name, cluster) in input.clusters {
        match input.stages.iter().position(|stage| selects(stage, cluster.view)) {
            Some(index) => groups[index].1.push(name.as_str()),
            None => remaining.push(name.as_str()),
        }
    }
    if !remaining.is_empty() {
        groups.push((None, remaining));
    }
    groups
}

fn selects(stage: &Stage, view: &ClusterView) -> bool {
    match (&stage.clusters, &stage.cluster_selector) {
        (Some(names), _) => names.iter().any(|cluster| cluster.name == view.name),
        (None, Some(selector)) => selector.matches(&view.labels),
        (None, None) => false,
    }
}

struct Outcome {
    state: StageState,
    message: String,
}

fn run_stage(
    input: &Input<'_>,
    stage: Option<&Stage>,
    names: &[&str],
    open: bool,
    decision: &mut Decision,
) -> Outcome {
    let deadline = stage.map_or(REMAINING_DEADLINE, |stage| stage.progress_deadline.0);
    let limit = stage.and_then(|stage| stage.max_concurrency).map_or(usize::MAX, |limit| limit as usize);
    let mut progressing = 0;
    let mut trouble: Vec<String> = Vec::new();
    let mut healthy_since: Option<Timestamp> = None;
    let mut waiting = Vec::new();
    for &name in names {
        let Some(cluster) = input.clusters.get(name) else { continue };
        if cluster.assigned != Some(input.target) {
            waiting.push((name, cluster));
            continue;
        }
        let since = cluster.since.unwrap_or(input.now);
        assign(decision, name, input.target, since);
        match &cluster.health {
            Health::Healthy { since: healthy } => {
                let healthy = (*healthy).max(since);
                healthy_since = Some(healthy_since.map_or(healthy, |other| other.max(healthy)));
            }
            Health::Failed { message } => trouble.push(format!("{name}: {message}")),
            Health::Progressing => {
                progressing += 1;
                match left(since, deadline, input.now) {
                    Some(left) => look_again(decision, left),
                    None => trouble.push(format!("{name}: not healthy within {} s", deadline.as_secs())),
                }
            }
        }
    }
    let may_start = open && trouble.is_empty();
    let mut started = 0;
    for (name, cluster) in &waiting {
        if may_start && progressing + started < limit {
            assign(decision, name, input.target, input.now);
            started += 1;
        } else if let Some(kept) = cluster.assigned.or(input.promoted) {
            assign(decision, name, kept, cluster.since.unwrap_or(input.now));
        }
    }
    if !trouble.is_empty() {
        let message = format!("{}; correct it, or change the spec back", trouble.join("; "));
        return Outcome { state: StageState::Stopped, message };
    }
    if !waiting.is_empty() || progressing > 0 {
        let on_the_way = progressing + started;
        return if open || on_the_way > 0 {
            let message = format!("{on_the_way} of {} clusters on their way", names.len());
            Outcome { state: StageState::Progressing, message }
        } else {
            Outcome { state: StageState::Waiting, message: String::new() }
        };
    }
    if !open && !names.is_empty() {
        return Outcome { state: StageState::Waiting, message: String::new() };
    }
    let soak = stage.and_then(|stage| stage.min_success_time).map(|soak| soak.0);
    if let (Some(soak), Some(since)) = (soak, healthy_since)
        && let Some(left) = left(since, soak, input.now)
    {
        look_again(decision, left);
        return Outcome {
            state: StageState::Soaking,
            message: format!("healthy; {} s to go", left.as_secs()),
        };
    }
    Outcome { state: StageState::Succeeded, message: String::new() }
}

fn assign(decision: &mut Decision, name: &str, revision: &str, since: Timestamp) {
    decision.assignments.insert(name.to_owned(), Assignment { revision: revision.to_owned(), since });
}

fn look_again(decision: &mut Decision, after: Duration) {
    decision.recheck = Some(decision.recheck.map_or(after, |other| other.min(after)));
}

/// What is left of `span` from `since` on; `None` when it is over.
fn left(since: Timestamp, span: Duration, now: Timestamp) -> Option<Duration> {
    let span = SignedDuration::try_from(span).unwrap_or(SignedDuration::MAX);
    let passed = now.duration_since(since);
    let left = span.checked_sub(passed)?;
    if left.is_positive() { Duration::try_from(left).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fedistio_crds::{ClusterName, ClusterSelector, HumanDuration};
    use proptest::prelude::*;

    fn time(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn stage(name: &str, clusters: Option<&[&str]>) -> Stage {
        Stage {
            name: name.to_owned(),
            clusters: clusters
                .map(|names| names.iter().map(|name| ClusterName { name: (*name).to_owned() }).collect()),
            cluster_selector: clusters.is_none().then(ClusterSelector::default),
            max_concurrency: None,
            progress_deadline: HumanDuration(Duration::from_secs(100)),
            min_success_time: None,
        }
    }

    /// (name, assigned, since, health)
    type Row<'a> = (&'a str, Option<&'a str>, i64, Health);

    const UP: Health = Health::Healthy { since: Timestamp::UNIX_EPOCH };

    fn run(stages: &[Stage], rows: &[Row<'_>], target: &str, promoted: Option<&str>, now: i64) -> Decision {
        let views: BTreeMap<String, ClusterView> = rows
            .iter()
            .map(|row| (row.0.to_owned(), ClusterView { name: row.0.to_owned(), ..ClusterView::default() }))
            .collect();
        let clusters = rows
            .iter()
            .map(|(name, assigned, since, health)| {
                let cluster = Cluster {
                    view: &views[*name],
                    assigned: *assigned,
                    since: assigned.map(|_| time(*since)),
                    health: health.clone(),
                };
                ((*name).to_owned(), cluster)
            })
            .collect();
        decide(&Input { stages, clusters: &clusters, target, promoted, now: time(now) })
    }

    fn revisions(decision: &Decision) -> BTreeMap<&str, &str> {
        decision.assignments.iter().map(|(name, one)| (name.as_str(), one.revision.as_str())).collect()
    }

    fn states(decision: &Decision) -> Vec<StageState> {
        decision.stages.iter().map(|stage| stage.state).collect()
    }

    #[test]
    fn without_a_strategy_every_cluster_gets_the_newest() {
        let decision =
            run(&[], &[("a", Some("1"), 0, UP), ("b", None, 0, Health::Progressing)], "2", Some("1"), 10);
        assert_eq!(revisions(&decision), [("a", "2"), ("b", "2")].into());
        assert!(!decision.complete);
        let decision = run(&[], &[("a", Some("2"), 0, UP)], "2", Some("1"), 10);
        assert!(decision.complete);
    }

    #[test]
    fn the_next_stage_starts_only_when_the_first_is_healthy() {
        let stages = [stage("canary", Some(&["a"])), stage("rest", None)];
        let before = run(&stages, &[("a", Some("1"), 0, UP), ("b", Some("1"), 0, UP)], "2", Some("1"), 10);
        assert_eq!(revisions(&before), [("a", "2"), ("b", "1")].into());
        assert_eq!(states(&before), [StageState::Progressing, StageState::Waiting]);
        let during = run(
            &stages,
            &[("a", Some("2"), 10, Health::Progressing), ("b", Some("1"), 0, UP)],
            "2",
            Some("1"),
            20,
        );
        assert_eq!(revisions(&during)["b"], "1");
        assert_eq!(during.recheck, Some(Duration::from_secs(90)));
        assert_eq!(during.current_stage(), "canary");
        let after = run(&stages, &[("a", Some("2"), 10, UP), ("b", Some("1"), 0, UP)], "2", Some("1"), 30);
        assert_eq!(revisions(&after)["b"], "2");
        assert_eq!(after.assignments["b"].since, time(30));
        let done = run(&stages, &[("a", Some("2"), 10, UP), ("b", Some("2"), 30, UP)], "2", Some("1"), 40);
        assert!(done.complete && done.current_stage().is_empty());
    }

    #[test]
    fn a_failure_or_a_missed_deadline_stops_everything_after_it() {
        let stages = [stage("canary", Some(&["a"])), stage("rest", None)];
        let late = run(
            &stages,
            &[("a", Some("2"), 0, Health::Progressing), ("b", Some("1"), 0, UP)],
            "2",
            Some("1"),
            100,
        );
        assert_eq!(states(&late), [StageState::Stopped, StageState::Waiting]);
        assert_eq!(revisions(&late), [("a", "2"), ("b", "1")].into());
        assert!(late.stopped().unwrap().message.contains("not healthy within 100 s"));
        let failed = Health::Failed { message: "no".to_owned() };
        let failed = run(&stages, &[("a", Some("2"), 0, failed), ("b", Some("1"), 0, UP)], "2", Some("1"), 1);
        assert_eq!(failed.stopped().unwrap().name, "canary");
    }

    #[test]
    fn a_stopped_stage_starts_no_more_of_its_own_clusters() {
        let mut one = stage("all", None);
        one.max_concurrency = Some(1);
        let rows = [("a", Some("2"), 0, Health::Failed { message: "x".to_owned() }), ("b", Some("1"), 0, UP)];
        assert_eq!(revisions(&run(&[one], &rows, "2", Some("1"), 1))["b"], "1");
    }

    #[test]
    fn concurrency_is_bounded() {
        let mut one = stage("all", None);
        one.max_concurrency = Some(2);
        let rows = [
            ("a", Some("1"), 0, UP),
            ("b", Some("1"), 0, UP),
            ("c", Some("1"), 0, UP),
            ("d", Some("2"), 0, Health::Progressing),
        ];
        let decision = run(&[one], &rows, "2", Some("1"), 1);
        assert_eq!(decision.assignments.values().filter(|one| one.revision == "2").count(), 2);
    }

    #[test]
    fn a_stage_soaks() {
        let mut canary = stage("canary", Some(&["a"]));
        canary.min_success_time = Some(HumanDuration(Duration::from_secs(30)));
        let stages = [canary, stage("rest", None)];
        let rows = |healthy| {
            [("a", Some("2"), 5, Health::Healthy { since: time(healthy) }), ("b", Some("1"), 0, UP)]
        };
        let soaking = run(&stages, &rows(10), "2", Some("1"), 20);
        assert_eq!(states(&soaking)[0], StageState::Soaking);
        assert_eq!(soaking.recheck, Some(Duration::from_secs(20)));
        assert_eq!(revisions(&soaking)["b"], "1");
        assert_eq!(revisions(&run(&stages, &rows(10), "2", Some("1"), 40))["b"], "2");
        // Health from before the new revision does not count.
        assert_eq!(states(&run(&stages, &rows(0), "2", Some("1"), 34))[0], StageState::Soaking);
    }

    #[test]
    fn a_new_cluster_gets_the_promoted_revision_until_its_stage_opens() {
        let stages = [stage("canary", Some(&["a"])), stage("rest", None)];
        let rows = [("a", Some("2"), 0, Health::Progressing), ("new", None, 0, Health::Progressing)];
        assert_eq!(revisions(&run(&stages, &rows, "2", Some("1"), 1))["new"], "1");
        assert!(!revisions(&run(&stages, &rows, "2", None, 1)).contains_key("new"));
    }

    #[test]
    fn a_change_in_the_middle_starts_again_from_the_first_stage() {
        let stages = [stage("canary", Some(&["a"])), stage("rest", None)];
        let rows = [("a", Some("2"), 0, Health::Progressing), ("b", Some("1"), 0, UP)];
        let back = run(&stages, &rows, "1", Some("1"), 50);
        assert_eq!(revisions(&back), [("a", "1"), ("b", "1")].into());
    }

    proptest! {
        #[test]
        fn no_stage_starts_before_the_one_before_is_healthy(
            healths in proptest::collection::vec((0..3usize, proptest::bool::ANY), 6), now in 0..300i64,
        ) {
            let stages = [stage("0", Some(&["0", "1"])), stage("1", Some(&["2", "3"])), stage("2", None)];
            let names = ["0", "1", "2", "3", "4", "5"];
            let rows: Vec<Row<'_>> = names.iter().zip(&healths).map(|(name, (health, on_target))| {
                let health = match health { 0 => UP, 1 => Health::Progressing, _ => Health::Failed { message: "f".to_owned() } };
                (*name, Some(if *on_target { "2" } else { "1" }), 0, health)
            }).collect();
            let decision = run(&stages, &rows, "2", Some("1"), now);
            for (index, name) in names.iter().enumerate() {
                let newly = rows[index].1 == Some("1") && decision.assignments[*name].revision == "2";
                let earlier = rows.iter().take(index / 2 * 2);
                let ready = earlier.clone().all(|row| row.1 == Some("2") && row.3 == UP);
                prop_assert!(!newly || ready, "{name} started before its time: {decision:?}");
            }
            prop_assert_eq!(decision.assignments.len(), 6);
        }
    }
}
