//! One pass over one `FederatedIstio`: revision, placement, rollout, then each cluster, then the status.

use crate::{
    catalogue::Catalogue,
    control_plane::owner,
    controller::{
        Driver,
        claims::{Claim, holder},
        cluster::Wanted,
        desired::Problem,
        fold::{Fold, entry, fold, health, set_times, waits_for_somebody},
        host::{set_finalizer, write_status},
        news::{news, released},
        plan::removal,
    },
};
use fedistio_crds::{
    ClusterControlPlane, ControlPlanePhase as Phase, ControlPlaneReason as Reason, Deletion, FINALIZER,
    FederatedIstio, FederatedIstioStatus,
};
use fedistio_federation::{
    cluster::ClusterView,
    placement::{Decision, place},
    revision::RevisionStore,
    rollout::{Assignment, RolloutCluster, RolloutDecision, RolloutInput, decide},
};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio::time::Instant;

/// Wait before a failed request to the host is tried again.
const HOST_RETRY: Duration = Duration::from_secs(2);

/// The parts of a spec that a rollout hands out. Channels are resolved: a channel that gets another release makes another revision, which
/// goes through the stages like any other change.
fn revision_data(object: &FederatedIstio, catalogue: &Catalogue) -> Value {
    let mut data = json!({"template": object.spec.template, "overrides": object.spec.overrides, "mesh": object.spec.mesh});
    let resolve = |version: &mut Value| {
        // What can't be resolved is said of the clusters that get it.
        if let Some(Ok(release)) = version.as_str().map(|text| catalogue.resolve(text)) {
            *version = Value::from(release.version.to_string());
        }
    };
    data.pointer_mut("/template/version").map(resolve);
    for rule in data.pointer_mut("/overrides").and_then(Value::as_array_mut).into_iter().flatten() {
        for operation in rule["clusterOverrides"].as_array_mut().into_iter().flatten() {
            if operation["path"] == "/version" {
                operation.get_mut("value").map(resolve);
            }
        }
    }
    data
}

/// The last entry of a cluster.
fn before<'a>(status: &'a FederatedIstioStatus, name: &str) -> Option<&'a ClusterControlPlane> {
    status.clusters.iter().find(|entry| entry.name == name)
}

/// Does an entry say that the control plane has come to the cluster?
fn holds(entry: &ClusterControlPlane) -> bool {
    !entry.spec_revision.is_empty()
}

impl Driver {
    /// Does everything that can be done for the `FederatedIstio` `name` now.
    pub(super) async fn reconcile(&mut self, name: &str) {
        let Some(mesh) = self.meshes.get(name) else { return };
        let (object, status) = (mesh.object.clone(), mesh.status.clone());
        // A pass that broke off has left some.
        drop(self.renders.take_news());
        let result = if object.metadata.deletion_timestamp.is_some() {
            self.remove_mesh(name, &object, &status).await
        } else {
            self.drive_mesh(name, &object, &status).await
        };
        if let Err(error) = result {
            tracing::warn!(mesh = name, %error, "the host could not be asked; it is tried again");
            self.alarms.insert((Instant::now() + HOST_RETRY, name.to_owned()));
        }
    }

    async fn drive_mesh(
        &mut self,
        name: &str,
        object: &FederatedIstio,
        status: &FederatedIstioStatus,
    ) -> Result<(), String> {
        if !object.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER) {
            // The watch brings the object back with it.
            return set_finalizer(&self.host, object, true).await;
        }
        let now = Timestamp::now();
        let target = self.ensure_target(name, object).await?;
        let reference = object.spec.strategy_ref.as_ref();
        let strategy = reference.and_then(|reference| self.strategies.get(&reference.name).cloned());
        if let (Some(reference), None) = (reference, &strategy) {
            let message = format!(
                "there is no RolloutStrategy {}; create it, or remove strategyRef. Every cluster stays as it is",
                reference.name
            );
            let problem = Some((Reason::StrategyNotFound, message));
            return self.report(name, object, status, Vec::new(), None, problem).await;
        }
        let views = self.fleet.views();
        let placement = place(&object.spec.placement, &views);
        let taken = self.taken(name, object, &placement, &views);
        let mut clusters = BTreeMap::new();
        for (cluster, decision) in &placement {
            self.ensure_member(cluster);
            if *decision != Decision::Placed || taken.contains_key(cluster) {
                continue;
            }
            let last = before(status, cluster);
            let current =
                last.map(|entry| entry.spec_revision.clone()).filter(|revision| !revision.is_empty());
            clusters.insert(
                cluster.clone(),
                RolloutCluster {
                    labels: views.get(cluster).map(|view| view.labels.clone()).unwrap_or_default(),
                    started: last.and_then(|entry| entry.start_time.as_ref()).map(|time| time.0),
                    health: last.map_or(fedistio_federation::rollout::Health::Progressing, health),
                    current,
                },
            );
        }
        let promoted = status.rollout.as_ref().and_then(|rollout| rollout.previous_revision.as_deref());
        let input =
            RolloutInput { strategy: strategy.as_ref(), clusters: &clusters, target: &target, promoted, now };
        let decision = decide(&input);
        if let Some(at) = decision.wake_at {
            self.wake_at(name, at, now);
        }
        let mut entries = Vec::new();
        for (cluster, placed) in &placement {
            let last = before(status, cluster);
            let mut new = match (placed, decision.assignments.get(cluster)) {
                (Decision::Placed, _) if taken.contains_key(cluster) => {
                    let holder = taken.get(cluster).map_or("", String::as_str);
                    let message = format!(
                        "the FederatedIstio {holder} has this cluster; take it out of the placement of one of the two"
                    );
                    entry(cluster, Phase::Failed, Reason::ClusterTaken, message)
                }
                (Decision::Placed, Some(assignment)) => self.drive_cluster(name, cluster, assignment, last),
                (Decision::NotRegistered, _) => entry(
                    cluster,
                    Phase::Failed,
                    Reason::ClusterNotFound,
                    "there is no MemberCluster of this name; join the cluster, or correct the placement",
                ),
                (Decision::ConstraintNotMet(message) | Decision::ConstraintUnknown(message), _) => {
                    // What is there stays: a constraint keeps out, it does not remove.
                    keep(cluster, last, Phase::Pending, Reason::ConstraintNotMet, message)
                }
                (Decision::Placed, None) => keep(cluster, last, Phase::Pending, Reason::WaitingForStage, ""),
            };
            set_times(&mut new, last, now);
            entries.push(new);
        }
        let deletion = object.spec.deletion.clone().unwrap_or_default();
        // Clusters that the placement no longer selects keep their entry until nothing is left there.
        for last in status.clusters.iter().filter(|last| !placement.contains_key(&last.name)) {
            if views.contains_key(&last.name)
                && let Some(mut new) = self.remove_cluster(name, last, &deletion, now)
            {
                set_times(&mut new, Some(last), now);
                entries.push(new);
            }
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        self.report(name, object, status, entries, Some((&decision, &target)), None).await?;
        self.prune_revisions(name, &target).await
    }

    /// Clusters of `placement` that another `FederatedIstio` has, with its name.
    fn taken(
        &self,
        name: &str,
        object: &FederatedIstio,
        placement: &BTreeMap<String, Decision>,
        views: &BTreeMap<String, ClusterView>,
    ) -> BTreeMap<String, String> {
        let created =
            |object: &FederatedIstio| object.metadata.creation_timestamp.as_ref().map(|time| time.0);
        let others: Vec<_> = self
            .meshes
            .iter()
            .filter(|(other, _)| *other != name)
            .map(|(other, mesh)| {
                let going = mesh.object.metadata.deletion_timestamp.is_some();
                let placed = if going { BTreeMap::new() } else { place(&mesh.object.spec.placement, views) };
                (other, mesh, placed)
            })
            .collect();
        let mut taken = BTreeMap::new();
        for cluster in
            placement.iter().filter(|(_, decision)| **decision == Decision::Placed).map(|(name, _)| name)
        {
            let own = self.meshes.get(name).and_then(|mesh| before(&mesh.status, cluster));
            let own = Claim { mesh: name, created: created(object), holds: own.is_some_and(holds) };
            let rivals = others.iter().filter_map(|(other, mesh, placed)| {
                let held = before(&mesh.status, cluster).is_some_and(holds);
                let selected = placed.get(cluster) == Some(&Decision::Placed);
                let created = created(&mesh.object);
                (held || selected).then_some(Claim { mesh: other, created, holds: held })
            });
            if let Some(holder) = holder(rivals.chain([own])).filter(|holder| *holder != name) {
                taken.insert(cluster.clone(), holder.to_owned());
            }
        }
        taken
    }

    fn drive_cluster(
        &mut self,
        mesh: &str,
        cluster: &str,
        assignment: &Assignment,
        last: Option<&ClusterControlPlane>,
    ) -> ClusterControlPlane {
        let Some(revision) = &assignment.revision else {
            let reason = if assignment.stopped { Reason::RolloutStopped } else { Reason::WaitingForStage };
            return entry(cluster, Phase::Pending, reason, assignment.held_by.clone());
        };
        let data = self
            .meshes
            .get(mesh)
            .and_then(|mesh| mesh.store.as_ref()?.get(revision))
            .map(|found| found.data.clone());
        let mut new = match data.as_ref().map(Wanted::read) {
            Some(Ok(wanted)) => {
                let same = last.is_some_and(|last| last.spec_revision == *revision);
                self.drive(mesh, cluster, &wanted, last, same)
            }
            Some(Err(error)) => keep(cluster, last, Phase::Failed, Reason::RenderFailed, &error),
            None => keep(
                cluster,
                last,
                Phase::Failed,
                Reason::RolloutStopped,
                &format!("the ControllerRevision {revision} is gone; change the spec to make a new one"),
            ),
        };
        new.spec_revision.clone_from(revision);
        if assignment.overdue && !matches!(new.phase, Phase::Healthy | Phase::Failed) {
            new.message = format!("not healthy within its stage's deadline; {}", new.message);
            (new.phase, new.reason) = (Phase::Failed, Reason::ProgressDeadlineExceeded);
        }
        if !assignment.held_by.is_empty() && new.phase == Phase::Healthy {
            new.reason = if assignment.stopped { Reason::RolloutStopped } else { Reason::WaitingForStage };
            new.message.clone_from(&assignment.held_by);
        }
        new
    }

    /// Stores the spec as it is now and gives its name.
    async fn ensure_target(&mut self, name: &str, object: &FederatedIstio) -> Result<String, String> {
        let host = self.host.clone();
        let Some(mesh) = self.meshes.get_mut(name) else { return Err("it is gone".to_owned()) };
        let data = revision_data(object, &self.catalogue);
        if let Some((of, target)) = &mesh.target
            && *of == data
        {
            return Ok(target.clone());
        }
        let uid = object.metadata.uid.as_deref().unwrap_or_default();
        if mesh.store.is_none() {
            mesh.store = Some(RevisionStore::load(&host, uid).await.map_err(|error| error.to_string())?);
        }
        let Some(store) = &mut mesh.store else { return Err("it is gone".to_owned()) };
        let target = store
            .ensure(&host, "FederatedIstio", name, uid, &data)
            .await
            .map_err(|error| error.to_string())?;
        mesh.target = Some((data, target.clone()));
        Ok(target)
    }

    async fn prune_revisions(&mut self, name: &str, target: &str) -> Result<(), String> {
        let host = self.host.clone();
        let Some(mesh) = self.meshes.get_mut(name) else { return Ok(()) };
        let mut in_use: BTreeSet<String> =
            mesh.status.clusters.iter().map(|entry| entry.spec_revision.clone()).collect();
        in_use.insert(target.to_owned());
        in_use.extend(mesh.status.rollout.iter().filter_map(|rollout| rollout.previous_revision.clone()));
        let Some(store) = &mut mesh.store else { return Ok(()) };
        store.prune(&host, &in_use, false).await.map(|_| ()).map_err(|error| error.to_string())
    }

    async fn report(
        &mut self,
        name: &str,
        object: &FederatedIstio,
        before: &FederatedIstioStatus,
        clusters: Vec<ClusterControlPlane>,
        rollout: Option<(&RolloutDecision, &str)>,
        problem: Option<(Reason, String)>,
    ) -> Result<(), String> {
        // A problem of the whole leaves the clusters, and their entries, as they are.
        let clusters = if problem.is_some() { before.clusters.clone() } else { clusters };
        let generation = object.metadata.generation;
        let charts = self.renders.take_news();
        let now = Timestamp::now();
        let status = fold(Fold { before, generation, clusters, rollout, problem, charts: &charts, now });
        if status == *before {
            return Ok(());
        }
        write_status(&self.host, name, &status).await?;
        for announcement in news(before, &status) {
            self.announce(name, announcement);
        }
        if let Some(mesh) = self.meshes.get_mut(name) {
            mesh.status = status;
        }
        // The rollout decides on what was just said of the clusters.
        self.dirty.insert(name.to_owned());
        self.alarms.insert((Instant::now(), name.to_owned()));
        Ok(())
    }

    /// Deletes what belongs to `mesh` in a cluster, last wave first. Nothing when nothing is left, or when the cluster has not answered for
    /// as long as `deletion` says.
    fn remove_cluster(
        &mut self,
        mesh: &str,
        last: &ClusterControlPlane,
        deletion: &Deletion,
        now: Timestamp,
    ) -> Option<ClusterControlPlane> {
        self.ensure_member(&last.name);
        let owner = owner(mesh);
        let seen = self.members.get(&last.name).is_some_and(|state| state.copies(&owner).next().is_some());
        if !holds(last) && !seen {
            return None;
        }
        let removing = |message: String| {
            Some(ClusterControlPlane {
                ready: false,
                ..keep(&last.name, Some(last), Phase::Removing, Reason::Removing, &message)
            })
        };
        let view = self.fleet.view(&last.name);
        if let Some(view) = view.filter(|view| !view.ready) {
            let since = Some(last).filter(|last| last.phase == Phase::Removing);
            let since = since.and_then(|last| last.last_transition_time.as_ref()).map(|time| time.0);
            let patience = deletion.patience(since, view.not_ready_since, now);
            if patience == Some(Duration::ZERO) {
                tracing::warn!(mesh, cluster = %last.name, reason = %view.not_ready_message, "the control plane is given up");
                self.announce(mesh, released(&last.name, &view.not_ready_message));
                if let Some(state) = self.members.get(&last.name) {
                    for (key, _) in state.copies(&owner) {
                        state.member.iter().for_each(|member| member.cancel(key));
                    }
                }
                return None;
            }
            let given_up = match patience {
                Some(wait) => {
                    self.wake_in(mesh, wait);
                    "; given up after spec.deletion.unreachableTimeout"
                }
                None => "; `fedistio unjoin --force` gives it up",
            };
            return removing(format!("waiting for the cluster: {}{given_up}", view.not_ready_message));
        }
        let Some(state) = self.members.get(&last.name) else {
            return removing("waiting for the cluster".to_owned());
        };
        if let Err(message) = state.is_synced() {
            return removing(message);
        }
        let keys: Vec<_> = state.copies(&owner).map(|(key, _)| key.clone()).collect();
        if keys.is_empty() {
            return None;
        }
        let message = match state.errors(&keys) {
            Some(error) => format!("{} objects are left; {error}", keys.len()),
            None => format!("{} objects are left", keys.len()),
        };
        for key in removal(keys) {
            self.delete(mesh, &last.name, &owner, &key);
        }
        removing(message)
    }

    async fn remove_mesh(
        &mut self,
        name: &str,
        object: &FederatedIstio,
        status: &FederatedIstioStatus,
    ) -> Result<(), String> {
        if !object.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER) {
            return Ok(());
        }
        let now = Timestamp::now();
        let deletion = object.spec.deletion.clone().unwrap_or_default();
        let views = self.fleet.views();
        let mut entries = Vec::new();
        for last in status.clusters.iter().filter(|last| views.contains_key(&last.name)) {
            if let Some(mut new) = self.remove_cluster(name, last, &deletion, now) {
                set_times(&mut new, Some(last), now);
                entries.push(new);
            }
        }
        if !entries.is_empty() {
            return self.report(name, object, status, entries, None, None).await;
        }
        let host = self.host.clone();
        let uid = object.metadata.uid.as_deref().unwrap_or_default();
        let mut store = RevisionStore::load(&host, uid).await.map_err(|error| error.to_string())?;
        store.prune(&host, &BTreeSet::new(), true).await.map_err(|error| error.to_string())?;
        set_finalizer(&host, object, false).await
    }

    /// Sets an alarm at a time of the wall clock.
    fn wake_at(&mut self, name: &str, at: Timestamp, now: Timestamp) {
        self.wake_in(name, Duration::try_from(at.duration_since(now)).unwrap_or_default());
    }

    pub(super) fn wake_in(&mut self, name: &str, wait: Duration) {
        // A little later, so that the time has come for certain. One alarm a second is enough for any number of passes.
        let at = Instant::now() + wait + Duration::from_millis(100);
        let soon = self
            .alarms
            .iter()
            .any(|(other, of)| of == name && *other >= at && *other < at + Duration::from_secs(1));
        if !soon {
            self.alarms.insert((at, name.to_owned()));
        }
    }
}

/// The last entry with another verdict: what is known of the cluster stays in the status.
pub(super) fn keep(
    cluster: &str,
    last: Option<&ClusterControlPlane>,
    phase: Phase,
    reason: Reason,
    message: &str,
) -> ClusterControlPlane {
    let new = entry(cluster, phase, reason, message);
    match last {
        None => new,
        Some(last) => {
            ClusterControlPlane { phase, reason, message: new.message, ready: false, ..last.clone() }
        }
    }
}

/// An entry with a problem that the user has to solve, or that may solve itself.
pub(super) fn failed(
    cluster: &str,
    last: Option<&ClusterControlPlane>,
    problem: &Problem,
) -> ClusterControlPlane {
    let phase = if waits_for_somebody(problem.reason) { Phase::Pending } else { Phase::Failed };
    keep(cluster, last, phase, problem.reason, &problem.message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_names_releases_and_not_channels() {
        let spec = json!({
            "template": {"version": "1.28", "values": {"version": "1.28"}},
            "overrides": [{"clusterName": "a", "clusterOverrides": [
                {"path": "/version", "value": "stable"}, {"path": "/values/version", "value": "stable"},
                {"path": "/version", "value": "no-such"}, {"op": "remove", "path": "/version"}]}],
        });
        let object = FederatedIstio::new("m", serde_json::from_value(spec).unwrap());
        let catalogue = Catalogue::builtin().unwrap();
        let data = revision_data(&object, &catalogue);
        let newest = |channel: &str| catalogue.resolve(channel).unwrap().version.to_string();
        assert_eq!(data["template"]["version"], newest("1.28"));
        assert_ne!(newest("1.28"), "1.28");
        assert_eq!(data["template"]["values"]["version"], "1.28");
        let operations = &data["overrides"][0]["clusterOverrides"];
        assert_eq!(operations[0]["value"], newest("stable"));
        assert_eq!((&operations[1]["value"], &operations[2]["value"]), (&json!("stable"), &json!("no-such")));
    }
}
