//! One pass over the control plane of one cluster: desired objects, upgrade step, plan, and the hand-over to the member's worker.

use crate::{
    catalogue::{check_kubernetes, check_step},
    control_plane::{ControlPlane, LABEL_REVISION, owner},
    controller::{
        Driver, Event, Outcome,
        desired::{Plane, Problem, base_release, owner_of, resolve},
        fold::entry,
        members::MemberState,
        mesh::{failed, keep},
        plan::{Plan, plan},
    },
    upgrade::{Facts, Readiness, Step, Workload, WorkloadKind, complete, decide, plan_restarts},
};
use fedistio_crds::{
    ClusterControlPlane, ControlPlanePhase as Phase, ControlPlaneReason as Reason, MeshSpec, Override,
    ResourceScope, ResourceType, RevisionStatus,
};
use fedistio_federation::{
    render::{Manifest, ObjectKey, Owner},
    worker::{WriteError, Written},
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, Client, api::ListParams};
use semver::Version;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;

/// So many workloads of a cluster are restarted at a time.
const RESTART_BATCH: usize = 5;
/// Annotation on the pod template of a restarted workload: the revision for which it was restarted. A second patch with the same value
/// changes nothing, so a restarted operator restarts no workload twice.
const ANNOTATION_RESTARTED: &str = "fedistio.io/restarted-for-revision";
/// The CRDs of a large list take their time.
const CRD_TIMEOUT: Duration = Duration::from_secs(15);

/// What a spec revision says of all clusters.
pub(super) struct Wanted {
    template: Value,
    overrides: Vec<Override>,
    mesh: MeshSpec,
}

impl Wanted {
    /// Reads the content of a stored revision.
    pub(super) fn read(data: &Value) -> Result<Self, String> {
        let part = |name: &str| data.get(name).cloned().unwrap_or(Value::Null);
        let unreadable = |error: serde_json::Error| {
            format!("the stored spec can't be read: {error}; change the spec to make a new one")
        };
        Ok(Self {
            template: part("template"),
            overrides: serde_json::from_value(part("overrides")).map_err(unreadable)?,
            mesh: serde_json::from_value(part("mesh")).map_err(unreadable)?,
        })
    }
}

/// What is decided for a cluster before anything is written.
struct Decided {
    step: Step,
    plan: Plan,
}

impl Driver {
    /// Brings the control plane of `cluster` one step further and says where it is. `last`: what was said before; `same`: of this
    /// spec revision, and not of an older one, whose verdict must not be taken for this one's.
    pub(super) fn drive(
        &mut self,
        mesh: &str,
        cluster: &str,
        wanted: &Wanted,
        last: Option<&ClusterControlPlane>,
        same: bool,
    ) -> ClusterControlPlane {
        let pending = |reason, message: &str| match last {
            // What was said before the operator's start holds until there was time to look.
            Some(last) if same && self.in_grace(Instant::now()) => last.clone(),
            _ => keep(cluster, last, Phase::Pending, reason, message),
        };
        let Some(view) = self.fleet.view(cluster) else {
            return pending(Reason::ClusterNotFound, "the cluster is not registered any more");
        };
        let Some(kubernetes) = view.kubernetes_version.clone().filter(|_| view.ready) else {
            return pending(Reason::ClusterNotReady, &view.not_ready_message);
        };
        let state = self.members.get(cluster);
        match state.map(MemberState::is_synced) {
            None => return pending(Reason::ClusterNotReady, "its worker has not started yet"),
            Some(Err(message)) => return pending(Reason::ClusterNotReady, &message),
            Some(Ok(())) => {}
        }
        let phase = last.filter(|_| same).map(|last| last.phase);
        match self.drive_ready(mesh, cluster, &view, &kubernetes, wanted, phase) {
            Ok(Some(new)) => new,
            Ok(None) => match last {
                Some(last) if same => last.clone(),
                _ => {
                    keep(cluster, last, Phase::Installing, Reason::Applying, "the charts are being rendered")
                }
            },
            Err(problem) => failed(cluster, last, &problem),
        }
    }

    /// `None` while the charts are being rendered.
    fn drive_ready(
        &mut self,
        mesh: &str,
        cluster: &str,
        view: &fedistio_federation::cluster::ClusterView,
        kubernetes: &Version,
        wanted: &Wanted,
        phase: Option<Phase>,
    ) -> Result<Option<ClusterControlPlane>, Problem> {
        let template = resolve(&wanted.template, &wanted.overrides, view)?;
        let release = self
            .catalogue
            .get(&template.version)
            .map_err(|error| Problem::new(Reason::UnknownVersion, error))?
            .clone();
        check_kubernetes(&release, kubernetes)
            .map_err(|error| Problem::new(Reason::KubernetesNotSupported, error))?;
        let owner = owner(mesh);
        let Some(state) = self.members.get(cluster) else { return Ok(None) };
        let installed = state.installed(&owner);
        let tag = state.tag(&owner, &template.revision_tag);
        let revision = release.revision();
        if !installed.contains_key(&revision)
            && let Some(running) = running(&installed, tag.as_deref())
        {
            check_step(running, &release).map_err(|error| Problem::new(Reason::UpgradeNotAllowed, error))?;
        }
        let base = base_release(&self.catalogue, &release, state.crd_version().as_ref())?.clone();
        let mesh_id = wanted.mesh.id.clone().unwrap_or_else(|| mesh.to_owned());
        let plane = Plane {
            template: &template,
            cluster: view,
            kubernetes,
            mesh_id: &mesh_id,
            owner: &owner,
            release: &release,
            base: &base,
        };
        let moved = self.renders.plane(&plane, Some(&revision))?;
        let current = if tag.as_deref() == Some(&*revision) {
            moved.clone()
        } else {
            self.renders.plane(&plane, tag.as_deref())?
        };
        let (Some(current), Some(moved)) = (current, moved) else { return Ok(None) };

        let Some(state) = self.members.get_mut(cluster) else { return Ok(None) };
        let readiness: BTreeMap<String, Readiness> =
            installed.iter().map(|(name, (_, readiness))| (name.clone(), readiness.clone())).collect();
        let proxies = state.proxy_counts();
        let facts = Facts {
            wanted: &revision,
            installed: &readiness,
            tag: tag.as_deref(),
            proxies: proxies.as_ref(),
            restart_workloads: template.upgrade.restart_workloads,
            phase,
        };
        let Decided { mut step, plan } = choose(state, &owner, &facts, &current, &moved);
        let keys = plan.apply.iter().map(|manifest| &manifest.key).chain(&plan.delete);
        if let Some(error) = state.errors(keys) {
            (step.reason, step.message) = (Reason::ApplyFailed, error);
        } else if plan.waits_for_crds {
            step.reason = Reason::WaitingForCrds;
            step.message =
                format!("{}{}", plan.missing, if state.crd_message.is_empty() { "" } else { ": " });
            step.message.push_str(&state.crd_message);
        }
        let shown: BTreeMap<String, u32> = proxies
            .unwrap_or_default()
            .into_iter()
            .filter(|(name, _)| installed.contains_key(name))
            .collect();
        let ready = serves(&step);
        let crds = state.crd_fingerprint();

        self.carry_out(mesh, cluster, &owner, &plan, crds);
        if !step.restart.is_empty() {
            let note = self.restart(cluster, &revision, &step.restart);
            step.message.push_str(&note);
        }
        let mut new = entry(cluster, step.phase, step.reason, step.message);
        new.ready = ready;
        new.version.clone_from(&template.version);
        new.revision = revision;
        new.tag_revision = tag;
        new.revisions = installed
            .into_iter()
            .map(|(name, (version, readiness))| RevisionStatus {
                name,
                version: version.map(|version| version.to_string()).unwrap_or_default(),
                ready: readiness == Readiness::Ready,
            })
            .collect();
        new.proxies = shown;
        Ok(Some(new))
    }

    /// Hands the plan to the member's worker, but for what is under way or has to wait.
    fn carry_out(&mut self, mesh: &str, cluster: &str, owner: &Owner, plan: &Plan, crds: u64) {
        if plan.waits_for_crds {
            self.check_crds(cluster, crds);
        }
        for manifest in &plan.apply {
            self.apply(mesh, cluster, owner_of(manifest, owner), manifest);
        }
        for key in &plan.delete {
            self.delete(mesh, cluster, owner, key);
        }
    }

    fn apply(&mut self, mesh: &str, cluster: &str, owner: Owner, manifest: &Arc<Manifest>) {
        let hash = Some(manifest.hash);
        let Some((member, events)) = self.may_write(mesh, cluster, &manifest.key, hash) else { return };
        tracing::info!(mesh, cluster, object = %manifest.key, "apply");
        let (name, key) = (Arc::clone(member.name()), manifest.key.clone());
        // Forced: the objects are those of this control plane by name. What others may own is retained, and not sent.
        member.submit_apply(Arc::clone(manifest), true, move |result| {
            let _ = events.send(Event::Written { cluster: name, owner, key, hash, outcome: outcome(result) });
        });
    }

    pub(super) fn delete(&mut self, mesh: &str, cluster: &str, owner: &Owner, key: &ObjectKey) {
        let Some((member, events)) = self.may_write(mesh, cluster, key, None) else { return };
        let Some(state) = self.members.get(cluster) else { return };
        let seen = state.copies(owner).find(|(copy, _)| *copy == key);
        let uid = seen.map(|(_, observation)| observation.uid.clone());
        tracing::info!(mesh, cluster, object = %key, "delete");
        let (name, owner, of) = (Arc::clone(member.name()), owner.clone(), key.clone());
        member.submit_delete(key.clone(), uid, move |result| {
            let _ = events.send(Event::Written {
                cluster: name,
                owner,
                key: of,
                hash: None,
                outcome: outcome(result),
            });
        });
    }

    /// Marks a write as started, if it may start now; sets an alarm where it has to wait.
    fn may_write(
        &mut self,
        mesh: &str,
        cluster: &str,
        key: &ObjectKey,
        hash: Option<u64>,
    ) -> Option<(fedistio_federation::worker::Member, tokio::sync::mpsc::UnboundedSender<Event>)> {
        let state = self.members.get_mut(cluster)?;
        let member = state.member.clone()?;
        match state.may_write(key, hash, Instant::now()) {
            Ok(()) => {
                state.started(key, hash);
                Some((member, self.events.clone()))
            }
            Err(Some(at)) => {
                self.alarms.insert((at, mesh.to_owned()));
                None
            }
            Err(None) => None,
        }
    }

    fn check_crds(&mut self, cluster: &str, fingerprint: u64) {
        let Some(state) = self.members.get_mut(cluster) else { return };
        let Some(member) = state.member.clone().filter(|_| !state.checking_crds) else { return };
        state.checking_crds = true;
        let events = self.events.clone();
        self.tasks.spawn(async move {
            let result = established(member.client()).await;
            let _ =
                events.send(Event::CrdsChecked { cluster: Arc::clone(member.name()), fingerprint, result });
        });
    }

    /// Restarts the next batch of workloads; returns what to add to the message.
    fn restart(&mut self, cluster: &str, revision: &str, from: &BTreeSet<String>) -> String {
        let Some(state) = self.members.get_mut(cluster) else { return String::new() };
        let Some(member) = state.member.clone() else { return String::new() };
        let restarted = state.restarted.get(revision).cloned().unwrap_or_default();
        let restarts = plan_restarts(state.proxies(), from, &restarted, RESTART_BATCH);
        let done = state.restarted.entry(revision.to_owned()).or_default();
        done.extend(restarts.now.iter().cloned());
        let mut note = String::new();
        for workload in restarts.now {
            tracing::info!(cluster, %workload, revision, "restart");
            let (events, revision, member) = (self.events.clone(), revision.to_owned(), member.clone());
            self.tasks.spawn(async move {
                let patch = json!({"spec": {"template": {"metadata": {"annotations": {ANNOTATION_RESTARTED: revision}}}}});
                if let Err(error) = member.merge(&workload_key(&workload), patch).await {
                    let cluster = Arc::clone(member.name());
                    let _ = events.send(Event::Restarted { cluster, workload, revision, error: error.to_string() });
                }
            });
        }
        if let Some(first) = restarts.under_way.first() {
            note = format!(
                "; waiting for {} of them, among them {first} (if it stays, look at its namespace's label istio.io/rev)",
                restarts.under_way.len()
            );
        }
        if let Some(first) = restarts.stuck.first() {
            note = format!(
                "{note}; {} pods that no Deployment, StatefulSet or DaemonSet would replace have to be deleted by hand, among them {first}",
                restarts.stuck.len()
            );
        }
        note
    }
}

/// Decides the step and plans the writes.
///
/// The tag may move when everything that does not depend on it is in place: the objects that are the same with the tag on the old and on
/// the wanted revision. Judged by all objects, a half-moved tag would look like drift and be moved back.
fn choose(
    state: &mut MemberState,
    owner: &Owner,
    facts: &Facts<'_>,
    current: &ControlPlane,
    moved: &ControlPlane,
) -> Decided {
    let established = state.established == Some(state.crd_fingerprint());
    let hashes: BTreeMap<&ObjectKey, u64> =
        moved.iter().map(|(_, manifest)| (&manifest.key, manifest.hash)).collect();
    let mut common = ControlPlane::default();
    for (wave, manifest) in current.iter() {
        if hashes.get(&manifest.key) == Some(&manifest.hash) {
            common.waves[wave].push(Arc::clone(manifest));
        }
    }
    let judged = plan(&common, |manifest| state.seen(owner, manifest), established, Vec::new());
    let applied = if judged.missing.is_empty() { Ok(()) } else { Err(judged.missing.as_str()) };
    let step = decide(facts, applied);
    let chosen = if step.tag.as_deref() == Some(facts.wanted) { moved } else { current };
    let desired: BTreeSet<&ObjectKey> = chosen.iter().map(|(_, manifest)| &manifest.key).collect();
    let surplus = state
        .copies(owner)
        .filter(|(key, observation)| {
            let kept =
                observation.labels.get(LABEL_REVISION).is_some_and(|revision| step.keep.contains(revision));
            !kept && !desired.contains(key)
        })
        .map(|(key, _)| key.clone())
        .collect();
    let plan = plan(chosen, |manifest| state.seen(owner, manifest), established, surplus);
    let step = complete(step, facts, &plan.missing);
    Decided { step, plan }
}

/// Does the wanted revision serve the cluster? A step may have come far and yet have something to put right.
fn serves(step: &Step) -> bool {
    matches!(step.phase, Phase::Healthy | Phase::MovingWorkloads | Phase::RemovingOldRevision)
        && matches!(
            step.reason,
            Reason::Healthy | Reason::ProxiesOnOldRevision | Reason::RestartNeeded | Reason::Removing
        )
}

/// The version that serves the cluster now: that of the tag, else the newest.
fn running<'a>(
    installed: &'a BTreeMap<String, (Option<Version>, Readiness)>,
    tag: Option<&str>,
) -> Option<&'a Version> {
    let tagged = tag.and_then(|tag| installed.get(tag)).and_then(|(version, _)| version.as_ref());
    tagged.or_else(|| installed.values().filter_map(|(version, _)| version.as_ref()).max())
}

fn outcome(result: Result<Written, WriteError>) -> Outcome {
    match result {
        Ok(Written::Applied { observation, missing }) => Outcome::Applied(observation, missing),
        Ok(Written::Gone) => Outcome::Gone,
        Ok(Written::Deleting | Written::Patched) => Outcome::Going,
        Err(WriteError::Superseded | WriteError::Stopped) => Outcome::Dropped,
        Err(error) => {
            let advice = error.advice();
            Outcome::Failed(if advice.is_empty() { error.to_string() } else { format!("{error}; {advice}") })
        }
    }
}

/// Are all CRDs of the charts served?
async fn established(client: Client) -> Result<(), String> {
    let api: Api<CustomResourceDefinition> = Api::all(client);
    let params = ListParams::default().labels(&format!("{}=true", fedistio_crds::LABEL_MANAGED));
    let list = match tokio::time::timeout(CRD_TIMEOUT, api.list(&params)).await {
        Err(_) => return Err(format!("the CRDs could not be read within {} s", CRD_TIMEOUT.as_secs())),
        Ok(Err(error)) => return Err(format!("the CRDs could not be read: {error}")),
        Ok(Ok(list)) => list,
    };
    for crd in list {
        let conditions = crd.status.and_then(|status| status.conditions).unwrap_or_default();
        let served =
            conditions.iter().any(|condition| condition.type_ == "Established" && condition.status == "True");
        if !served {
            let refused = conditions
                .iter()
                .find(|condition| condition.type_ == "NamesAccepted" && condition.status == "False");
            let why = refused.and_then(|condition| condition.message.clone()).unwrap_or_default();
            return Err(format!("{} is not served {why}", crd.metadata.name.unwrap_or_default())
                .trim_end()
                .to_owned());
        }
    }
    Ok(())
}

fn workload_key(workload: &Workload) -> ObjectKey {
    let plural = match workload.kind {
        WorkloadKind::Deployment => "deployments",
        WorkloadKind::StatefulSet => "statefulsets",
        WorkloadKind::DaemonSet => "daemonsets",
    };
    ObjectKey {
        resource: Arc::new(ResourceType {
            group: "apps".to_owned(),
            version: "v1".to_owned(),
            kind: workload.kind.to_string(),
            plural: plural.to_owned(),
            scope: ResourceScope::Namespaced,
        }),
        namespace: workload.namespace.as_str().into(),
        name: workload.name.as_str().into(),
    }
}
