//! How one cluster moves from one revision to the next. Pure.
//!
//! The order is Istio's for revisions: the new one is installed beside the old, becomes ready, the tag moves, workloads restart,
//! and when no proxy is left on the old one it goes. Nothing is remembered: every decision follows from what is seen in the cluster,
//! so a restarted operator goes on where the last one was, and a version that is set back is an upgrade the other way.

mod proxies;
mod readiness;

pub use proxies::{Proxy, Restarts, Workload, WorkloadKind, plan_restarts};
pub use readiness::{Readiness, deployment_readiness};

use fedistio_crds::{ControlPlanePhase as Phase, ControlPlaneReason as Reason};
use std::collections::{BTreeMap, BTreeSet};

/// What is seen of one cluster, and what is wanted there.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// The wanted revision.
    pub wanted: &'a str,
    /// Every revision of which objects are there, with the readiness of its istiod.
    pub installed: &'a BTreeMap<String, Readiness>,
    /// The revision that the tag points to; none while the tag does not exist.
    pub tag: Option<&'a str>,
    /// Proxies by revision; none while not all pods have been seen.
    pub proxies: Option<&'a BTreeMap<String, u32>>,
    /// Is the operator asked to restart workloads?
    pub restart_workloads: bool,
    /// The phase that was said last of this spec. Nothing is done by it: it only keeps the phase from going back.
    pub phase: Option<Phase>,
}

/// What to do with one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Where the cluster is.
    pub phase: Phase,
    /// Why.
    pub reason: Reason,
    /// What is waited for, and what to do.
    pub message: String,
    /// The revision that the tag is to point to; none: the tag is not made yet.
    pub tag: Option<String>,
    /// Revisions besides the wanted one that stay.
    pub keep: BTreeSet<String>,
    /// Revisions whose workloads are to be restarted.
    pub restart: BTreeSet<String>,
}

/// Decides what to do next with a cluster.
///
/// Phases go forward only, until the cluster is healthy: what the tag brings, and what somebody deletes or breaks on the way, is put right
/// in the phase that was reached, and the reason says so.
///
/// `applied`: is every object of the wanted revision in place? `Err` says what is missing. The tag may move before the objects that
/// only the tag brings are in place, so the caller asks again after the move.
///
/// Two things always hold: the tag never moves to a revision that is not ready, and no revision goes while a proxy may run on it.
pub fn decide(facts: &Facts<'_>, applied: Result<(), &str>) -> Step {
    let step = next(facts, applied);
    Step { phase: no_earlier(step.phase, facts.phase), ..step }
}

/// The step where objects are missing after all: those that only the step's tag brings, or that went just now. What was to be done in a
/// cluster in which everything is in place has to wait.
pub fn complete(step: Step, facts: &Facts<'_>, missing: &str) -> Step {
    if missing.is_empty() || !matches!(step.phase, Phase::Healthy | Phase::RemovingOldRevision) {
        return step;
    }
    let phase = no_earlier(Phase::Installing, facts.phase);
    Step { phase, reason: Reason::Applying, message: missing.to_owned(), ..step }
}

/// The later of the phase that is seen and the one that was said last; the way starts anew from a healthy cluster.
fn no_earlier(seen: Phase, said: Option<Phase>) -> Phase {
    const WAY: [Phase; 6] = [
        Phase::Installing,
        Phase::WaitingForIstiod,
        Phase::MovingTag,
        Phase::MovingWorkloads,
        Phase::RemovingOldRevision,
        Phase::Healthy,
    ];
    let place = |phase: Phase| WAY.iter().position(|one| *one == phase);
    match said.filter(|said| *said != Phase::Healthy) {
        Some(said) if place(said) > place(seen) => said,
        _ => seen,
    }
}

fn next(facts: &Facts<'_>, applied: Result<(), &str>) -> Step {
    let others: BTreeSet<String> =
        facts.installed.keys().filter(|name| *name != facts.wanted).cloned().collect();
    let tag = facts.tag.map(str::to_owned);
    let step = |phase, reason, message: String| Step {
        phase,
        reason,
        message,
        tag: tag.clone(),
        keep: others.clone(),
        restart: BTreeSet::new(),
    };
    if let Err(missing) = applied {
        return step(Phase::Installing, Reason::Applying, missing.to_owned());
    }
    match facts.installed.get(facts.wanted) {
        Some(Readiness::Ready) => {}
        Some(Readiness::NotReady(message) | Readiness::Unknown(message)) => {
            return step(Phase::WaitingForIstiod, Reason::IstiodNotReady, not_ready(facts, message));
        }
        None => {
            return step(
                Phase::WaitingForIstiod,
                Reason::IstiodNotReady,
                not_ready(facts, "its Deployment has not been seen yet"),
            );
        }
    }
    if facts.tag != Some(facts.wanted) {
        let message = match facts.tag {
            Some(old) => format!("the revision tag moves from {old} to {}", facts.wanted),
            None => format!("the revision tag is made for {}", facts.wanted),
        };
        return Step {
            tag: Some(facts.wanted.to_owned()),
            ..step(Phase::MovingTag, Reason::Applying, message)
        };
    }
    if others.is_empty() {
        return step(Phase::Healthy, Reason::Healthy, String::new());
    }
    let Some(proxies) = facts.proxies else {
        return step(
            Phase::MovingWorkloads,
            Reason::ProxiesOnOldRevision,
            "the pods of the cluster have not all been seen yet".to_owned(),
        );
    };
    let used: BTreeMap<&String, u32> = others
        .iter()
        .filter_map(|name| proxies.get(name).map(|count| (name, *count)))
        .filter(|(_, count)| *count > 0)
        .collect();
    let keep: BTreeSet<String> = used.keys().map(|name| (*name).clone()).collect();
    if used.is_empty() {
        let names: Vec<&str> = others.iter().map(String::as_str).collect();
        let message = format!("no proxy is left on {}", names.join(", "));
        return Step { keep, ..step(Phase::RemovingOldRevision, Reason::Removing, message) };
    }
    let counts: Vec<String> = used.iter().map(|(name, count)| format!("{count} on {name}")).collect();
    let counts = counts.join(", ");
    if facts.restart_workloads {
        let message =
            format!("proxies still run on an old revision: {counts}; their workloads are being restarted");
        Step {
            restart: keep.clone(),
            keep,
            ..step(Phase::MovingWorkloads, Reason::ProxiesOnOldRevision, message)
        }
    } else {
        let message = format!(
            "proxies still run on an old revision: {counts}; restart their workloads (kubectl rollout restart), or set upgrade.restartWorkloads"
        );
        Step { keep, ..step(Phase::MovingWorkloads, Reason::RestartNeeded, message) }
    }
}

fn not_ready(facts: &Facts<'_>, message: &str) -> String {
    let waits = match facts.tag {
        Some(old) if old != facts.wanted => format!("; the tag stays on {old}"),
        _ => String::new(),
    };
    format!("istiod of {} is not ready: {message}{waits}", facts.wanted)
}

#[cfg(test)]
mod tests;
