//! Follows a change of the mesh through its stages, as the operator reports it on the host.

use crate::{show::phases::Phases, stage::Stage};
use anyhow::{Context as _, Result, bail};
use fedistio_crds::{ControlPlanePhase, FederatedIstio, FederatedIstioStatus, StageState};
use kube::Api;
use std::time::Duration;

/// Name of the demo's mesh.
pub(crate) const MESH: &str = "mesh";
/// How long a stage may stay stopped. A stop is not the end: the operator tries again what may pass, such as a chart that can't be had.
const STOPPED: Duration = Duration::from_mins(1);
/// Pause between two looks at the status.
const LOOK: Duration = Duration::from_millis(100);

/// The revision of a version, as Istio's charts want it: `1-29-1`.
pub(crate) fn revision(version: &str) -> String {
    version.replace('.', "-")
}

/// The mesh as it stands on the host.
pub(crate) async fn mesh(stage: &Stage) -> Result<FederatedIstio> {
    let api = Api::<FederatedIstio>::all(stage.bed.host.client());
    api.get(MESH).await.with_context(|| format!("the FederatedIstio {MESH} can't be read"))
}

/// Shows every change of phase until all members are healthy on `version`; returns how long that took.
///
/// Fails when a stage stays stopped, when `bound` passes, or when the operator ends.
pub(crate) async fn follow(stage: &Stage, version: &str, bound: Duration) -> Result<Duration> {
    let mut phases = Phases::start();
    let mut since = None;
    loop {
        let mesh = mesh(stage).await?;
        let status = mesh.status.unwrap_or_default();
        // What is said of an older spec is no progress of this one.
        if status.observed_generation == mesh.metadata.generation {
            phases.update(&status.clusters);
            if done(&status, version, stage.bed.members.len()) {
                return Ok(phases.elapsed());
            }
            since = stopped(&status).map(|_| since.unwrap_or_else(|| phases.elapsed()));
        }
        if let (Some(since), Some(why)) = (since, stopped(&status))
            && phases.elapsed().saturating_sub(since) >= STOPPED
        {
            bail!("the rollout of Istio {version} has stopped: {why}");
        }
        stage.operator_runs()?;
        if phases.elapsed() >= bound {
            bail!("Istio {version} is not everywhere after {} s: {}", bound.as_secs(), describe(&status));
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn done(status: &FederatedIstioStatus, version: &str, members: usize) -> bool {
    let healthy = status
        .clusters
        .iter()
        .filter(|plane| plane.phase == ControlPlanePhase::Healthy && plane.ready && plane.version == version);
    let ready =
        status.conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    ready && healthy.count() == members
}

fn stopped(status: &FederatedIstioStatus) -> Option<String> {
    let rollout = status.rollout.as_ref()?;
    let stage = rollout.stages.iter().find(|stage| stage.state == StageState::Stopped)?;
    Some(format!("stage {}: {}; {}", stage.name, stage.message, describe(status)))
}

fn describe(status: &FederatedIstioStatus) -> String {
    if status.clusters.is_empty() {
        return "the operator has reported nothing yet".to_owned();
    }
    let clusters: Vec<String> = status
        .clusters
        .iter()
        .map(|plane| format!("{} {} ({}: {})", plane.name, plane.phase, plane.reason, plane.message))
        .collect();
    clusters.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn status(phase: &str, ready: bool, version: &str) -> FederatedIstioStatus {
        serde_json::from_value(json!({
            "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }, "reason": "R", "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z"}],
            "clusters": [{"name": "a", "phase": phase, "reason": "Healthy", "ready": ready, "version": version}],
        }))
        .unwrap()
    }

    #[test]
    fn only_healthy_clusters_of_the_wanted_version_are_done() {
        assert!(done(&status("Healthy", true, "1.29.1"), "1.29.1", 1));
        assert!(!done(&status("Healthy", true, "1.28.2"), "1.29.1", 1));
        assert!(!done(&status("MovingTag", true, "1.29.1"), "1.29.1", 1));
        assert!(!done(&status("Healthy", false, "1.29.1"), "1.29.1", 1));
        assert!(!done(&status("Healthy", true, "1.29.1"), "1.29.1", 2));
    }

    #[test]
    fn a_stopped_stage_is_told_with_its_reason() {
        let mut status = status("Failed", false, "1.29.1");
        assert_eq!(stopped(&status), None);
        status.rollout = serde_json::from_value(json!({"targetRevision": "r", "stages": [
            {"name": "canary", "state": "Stopped", "clusters": ["a"], "message": "istiod is not ready"}]}))
        .unwrap();
        assert!(stopped(&status).unwrap().contains("istiod is not ready"));
    }

    #[test]
    fn revisions_have_dashes() {
        assert_eq!(revision("1.29.1"), "1-29-1");
    }
}
