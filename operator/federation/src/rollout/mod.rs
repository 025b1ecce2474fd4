//! Rollout: which revision of a spec each cluster should have now. Pure, and the same for every federated type.
//!
//! Nothing is remembered here: the decision follows from what each cluster has and how it is. A rollout that stopped goes on when its
//! cluster becomes healthy after all, or starts over when there is a newer revision.

use fedistio_crds::{RolloutStrategySpec, Stage, StageProgress, StageState};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use std::{collections::BTreeMap, time::Duration};

/// Name of the stage of the clusters that no stage selects.
pub const LAST_STAGE: &str = "others";

/// How a cluster is, on the revision that it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It runs the revision, since then.
    Healthy(Timestamp),
    /// It is on its way.
    Progressing,
    /// It waits for a person; no deadline runs.
    Waiting(String),
    /// It can't go on by itself.
    Failed(String),
}

/// What is known of one cluster.
#[derive(Clone, Debug)]
pub struct RolloutCluster {
    /// Labels of the `MemberCluster`.
    pub labels: BTreeMap<String, String>,
    /// The revision that it was given; none: nothing yet.
    pub current: Option<String>,
    /// When it was given that revision.
    pub started: Option<Timestamp>,
    /// How it is on that revision.
    pub health: Health,
}

/// Everything that a decision depends on.
#[derive(Clone, Debug)]
pub struct RolloutInput<'a> {
    /// The stages; none: every cluster gets the newest at once.
    pub strategy: Option<&'a RolloutStrategySpec>,
    /// The placed clusters, by name.
    pub clusters: &'a BTreeMap<String, RolloutCluster>,
    /// The newest revision.
    pub target: &'a str,
    /// The last revision that every cluster reached: what a cluster has until its stage comes.
    pub promoted: Option<&'a str>,
    /// The time.
    pub now: Timestamp,
}

/// What one cluster should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The revision; none: nothing until its stage comes.
    pub revision: Option<String>,
    /// Why it does not have the newest; empty where it has.
    pub held_by: String,
    /// Is it held because a stage has stopped, rather than because stages before are under way?
    pub stopped: bool,
    /// Did it not become healthy within its stage's deadline?
    pub overdue: bool,
}

/// The decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolloutDecision {
    /// What each cluster should have.
    pub assignments: BTreeMap<String, Assignment>,
    /// How far each stage is.
    pub stages: Vec<StageProgress>,
    /// The stage that is under way or has stopped; empty when all are done.
    pub current_stage: String,
    /// Why nothing goes on.
    pub stopped: Option<String>,
    /// Does every cluster have the target, healthy and for long enough?
    pub done: bool,
    /// When to decide again though nothing happens: a deadline or a time of success ends.
    pub wake_at: Option<Timestamp>,
}

/// Decides what each cluster should have now.
///
/// A stage starts clusters only when every cluster of the stages before it has been healthy on the target for the stage's `minSuccessTime`.
/// A cluster that has the target keeps it. One that failed, or is not healthy within `progressDeadline` of its start, stops its stage and
/// all later ones. A cluster that has nothing yet gets the promoted revision, or waits for its stage where there is none.
pub fn decide(input: &RolloutInput<'_>) -> RolloutDecision {
    let Some(strategy) = input.strategy else { return all_at_once(input) };
    let mut decision = RolloutDecision {
        assignments: BTreeMap::new(),
        stages: Vec::new(),
        current_stage: String::new(),
        stopped: None,
        done: true,
        wake_at: None,
    };
    for (stage, members) in partition(strategy, input.clusters) {
        decide_stage(input, &stage, &members, &mut decision);
    }
    decision
}

fn all_at_once(input: &RolloutInput<'_>) -> RolloutDecision {
    let healthy = |cluster: &RolloutCluster| {
        cluster.current.as_deref() == Some(input.target) && matches!(cluster.health, Health::Healthy(_))
    };
    RolloutDecision {
        assignments: input.clusters.keys().map(|name| (name.clone(), assigned(Some(input.target)))).collect(),
        stages: Vec::new(),
        current_stage: String::new(),
        stopped: None,
        done: input.clusters.values().all(healthy),
        wake_at: None,
    }
}

fn assigned(revision: Option<&str>) -> Assignment {
    Assignment {
        revision: revision.map(str::to_owned),
        held_by: String::new(),
        stopped: false,
        overdue: false,
    }
}

/// Each stage with its clusters: a cluster belongs to the first stage that selects it, and to the last one where none does.
fn partition<'a>(
    strategy: &RolloutStrategySpec,
    clusters: &'a BTreeMap<String, RolloutCluster>,
) -> Vec<(Stage, BTreeMap<&'a str, &'a RolloutCluster>)> {
    let mut left: BTreeMap<&str, &RolloutCluster> =
        clusters.iter().map(|(name, cluster)| (name.as_str(), cluster)).collect();
    let mut stages: Vec<(Stage, BTreeMap<&str, &RolloutCluster>)> = Vec::new();
    for stage in &strategy.stages {
        let (inside, outside) =
            left.into_iter().partition(|(name, cluster)| selects(stage, name, &cluster.labels));
        left = outside;
        stages.push((stage.clone(), inside));
    }
    if !left.is_empty()
        && let Some((last, _)) = stages.last()
    {
        let rest = Stage {
            name: LAST_STAGE.to_owned(),
            max_concurrency: None,
            min_success_time: None,
            ..last.clone()
        };
        stages.push((rest, left));
    }
    stages
}

fn selects(stage: &Stage, name: &str, labels: &BTreeMap<String, String>) -> bool {
    match (&stage.clusters, &stage.cluster_selector) {
        (Some(names), _) => names.iter().any(|cluster| cluster.name == name),
        (None, Some(selector)) => selector.matches(labels),
        (None, None) => false,
    }
}

/// What one stage has come to.
#[derive(Default)]
struct Tally {
    healthy: usize,
    under_way: Vec<String>,
    waiting: Vec<String>,
    failed: Vec<String>,
    last_success: Option<Timestamp>,
}

fn decide_stage(
    input: &RolloutInput<'_>,
    stage: &Stage,
    members: &BTreeMap<&str, &RolloutCluster>,
    decision: &mut RolloutDecision,
) {
    let before = (!decision.done).then(|| decision.current_stage.clone());
    let tally = count(input, stage, members, decision);
    let started = tally.healthy + tally.under_way.len() + tally.waiting.len() + tally.failed.len();
    // A revision that every cluster has had holds no risk to stage: a new cluster gets it at once.
    let is_promoted = input.promoted == Some(input.target);
    let open = is_promoted || (before.is_none() && tally.failed.is_empty());
    let room = match stage.max_concurrency {
        _ if !open => 0,
        Some(limit) if !is_promoted => {
            let busy = tally.under_way.len() + tally.waiting.len();
            usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(busy)
        }
        _ => usize::MAX,
    };
    let mut starting = Vec::new();
    for (name, cluster) in members {
        let assignment = if cluster.current.as_deref() == Some(input.target) {
            Assignment { overdue: is_overdue(cluster, stage, input.now), ..assigned(Some(input.target)) }
        } else if starting.len() < room {
            starting.push((*name).to_owned());
            assigned(Some(input.target))
        } else {
            let held_by = hold_message(stage, before.as_deref(), &tally, decision.stopped.as_deref());
            let stopped = decision.stopped.is_some() || (before.is_none() && !tally.failed.is_empty());
            Assignment { held_by, stopped, ..assigned(cluster.current.as_deref().or(input.promoted)) }
        };
        decision.assignments.insert((*name).to_owned(), assignment);
    }
    let soaked = stage.min_success_time.map(|time| signed(time.0));
    let soaking_until =
        tally.last_success.zip(soaked).map(|(since, time)| later(since, time)).filter(|end| *end > input.now);
    let all_healthy = tally.healthy == members.len();
    let (verdict, message) = if !tally.failed.is_empty() {
        (StageState::Stopped, tally.failed.join("; "))
    } else if all_healthy && soaking_until.is_none() {
        (StageState::Succeeded, String::new())
    } else if before.is_some() && started == 0 {
        (StageState::Waiting, String::new())
    } else if all_healthy {
        let message = format!(
            "every cluster is healthy; the next stage starts at {}",
            soaking_until.unwrap_or_default()
        );
        (StageState::Soaking, message)
    } else {
        (StageState::Progressing, progress_message(&tally, &starting, members.len()))
    };
    if let Some(end) = soaking_until.filter(|_| all_healthy) {
        wake(decision, end);
    }
    if verdict == StageState::Stopped && decision.stopped.is_none() {
        decision.stopped = Some(format!("stage {}: {message}", stage.name));
    }
    if verdict != StageState::Succeeded && decision.done {
        decision.done = false;
        decision.current_stage.clone_from(&stage.name);
    }
    decision.stages.push(StageProgress {
        name: stage.name.clone(),
        state: verdict,
        clusters: members.keys().map(|name| (*name).to_owned()).collect(),
        message,
    });
}

fn count(
    input: &RolloutInput<'_>,
    stage: &Stage,
    members: &BTreeMap<&str, &RolloutCluster>,
    decision: &mut RolloutDecision,
) -> Tally {
    let mut tally = Tally::default();
    for (name, cluster) in members {
        if cluster.current.as_deref() != Some(input.target) {
            continue;
        }
        match &cluster.health {
            Health::Healthy(since) => {
                tally.healthy += 1;
                tally.last_success = tally.last_success.max(Some(*since));
            }
            Health::Waiting(message) => tally.waiting.push(format!("{name}: {message}")),
            Health::Failed(message) => tally.failed.push(format!("{name}: {message}")),
            Health::Progressing => {
                if is_overdue(cluster, stage, input.now) {
                    let limit = stage.progress_deadline;
                    tally.failed.push(format!("{name}: not healthy within {limit} of its start"));
                } else {
                    tally.under_way.push((*name).to_owned());
                    if let Some(deadline) = deadline(cluster, stage) {
                        wake(decision, deadline);
                    }
                }
            }
        }
    }
    tally
}

fn deadline(cluster: &RolloutCluster, stage: &Stage) -> Option<Timestamp> {
    cluster.started.map(|start| later(start, signed(stage.progress_deadline.0)))
}

fn is_overdue(cluster: &RolloutCluster, stage: &Stage, now: Timestamp) -> bool {
    cluster.health == Health::Progressing && deadline(cluster, stage).is_some_and(|deadline| deadline <= now)
}

fn hold_message(stage: &Stage, before: Option<&str>, tally: &Tally, stopped: Option<&str>) -> String {
    match (stopped, before) {
        (Some(stopped), _) => format!("the rollout has stopped ({stopped}); correct the spec to start over"),
        (None, Some(before)) => format!("waiting for stage {before}"),
        (None, None) if !tally.failed.is_empty() => {
            format!(
                "stage {} has stopped ({}); correct the spec to start over",
                stage.name,
                tally.failed.join("; ")
            )
        }
        (None, None) => format!("waiting for a place in stage {}", stage.name),
    }
}

fn progress_message(tally: &Tally, starting: &[String], total: usize) -> String {
    let mut parts = vec![format!("{} of {total} healthy", tally.healthy)];
    let on_their_way: Vec<&str> = tally.under_way.iter().chain(starting).map(String::as_str).collect();
    if !on_their_way.is_empty() {
        parts.push(format!("on their way: {}", on_their_way.join(", ")));
    }
    parts.extend(tally.waiting.iter().cloned());
    parts.join("; ")
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

/// A time that is too far away to write down never comes.
fn later(time: Timestamp, by: SignedDuration) -> Timestamp {
    time.checked_add(by).unwrap_or(Timestamp::MAX)
}

fn wake(decision: &mut RolloutDecision, at: Timestamp) {
    decision.wake_at = Some(decision.wake_at.map_or(at, |old| old.min(at)));
}

#[cfg(test)]
mod tests;
