//! From plans to writes: what the engine does with dirty objects, and with the answers.

use crate::{
    engine::{
        DELETION_PATIENCE, Engine, Event, STATUS_PATIENCE, STATUS_WRITES, announce,
        host::{write_finalizers, write_status},
        object::{Copy, Manifests, Object},
    },
    observe::Observation,
    plan::{CopyInput, InFlight, Seen, Step, Verdict, Wanted, WatchState, plan_copy},
    render::{ObjectKey, Owner},
    status::fold,
    worker::{WriteError, Written, chain},
};
use fedistio_crds::{CopyReason, FINALIZER, FederatedStatus};
use k8s_openapi::jiff::Timestamp;
use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};
use tokio::time::{Instant, timeout};

/// A write to the host takes no longer, or is given up and made anew.
const HOST_TIMEOUT: Duration = Duration::from_secs(15);
/// A failed write to the host is made anew after this time.
const HOST_RETRY: Duration = Duration::from_secs(1);
/// A write that met another change is made anew after this time: the watch has told of that change by then, mostly.
const CONFLICT_RETRY: Duration = Duration::from_millis(20);

impl Engine {
    /// Plans every dirty object.
    pub(super) fn work(&mut self) {
        while self.host_writes.try_join_next().is_some() {}
        if !self.types_listed {
            return;
        }
        let now = Instant::now();
        for owner in std::mem::take(&mut self.dirty) {
            let Some(mut object) = self.objects.remove(&owner) else { continue };
            let served = self.types.get(&object.type_.name).is_some_and(|state| state.listed);
            if served {
                self.work_on(&mut object, now);
            }
            self.objects.insert(owner, object);
        }
        self.report_queued(now);
    }

    /// Writes statuses whose turn has come. One that has nothing new to say any more takes no turn.
    fn report_queued(&mut self, now: Instant) {
        while self.status_writes < STATUS_WRITES
            && let Some(owner) = self.status_queue.pop_front()
        {
            let Some(mut object) = self.objects.remove(&owner) else { continue };
            object.status_queued = false;
            self.report(&mut object, now);
            self.objects.insert(owner, object);
        }
    }

    fn work_on(&mut self, object: &mut Object, now: Instant) {
        if object.finalizer_in_flight {
            return;
        }
        let manifests = if object.stale { object.decide(&self.clusters) } else { Manifests::new() };
        let has_finalizer = object.has_finalizer();
        let wants_copies = object.copies.copies().any(|copy| matches!(copy.wanted, Wanted::Copy { .. }));
        if wants_copies && !has_finalizer && !object.deleting {
            // Before the first copy: otherwise a deletion now would leave it behind. The manifests are made again afterwards.
            object.stale = true;
            let finalizers = object.finalizers.iter().cloned().chain([FINALIZER.to_owned()]).collect();
            self.write_finalizers(object, finalizers);
            return;
        }
        self.ensure_watches(object);
        let mut gone = Vec::new();
        let clusters: Vec<Arc<str>> = object.copies.clusters().cloned().collect();
        for cluster in clusters {
            let verdict = self.plan(object, &cluster, now);
            match verdict.step {
                Step::Rest => {}
                Step::Forget => gone.push(Arc::clone(&cluster)),
                Step::Release => {
                    tracing::warn!(owner = %object.owner, %cluster, reason = %verdict.message, "the copy is given up");
                    let news = announce::released(&cluster, &verdict.message);
                    self.announcer.publish(object, news, &mut self.host_writes);
                    if let Some(member) = self.fleet.member(&cluster) {
                        member.cancel(&object.key());
                    }
                    gone.push(Arc::clone(&cluster));
                }
                Step::Wait(wait) => {
                    self.alarms.insert((now + wait, object.owner.clone()));
                }
                Step::Apply { force, drift } => {
                    self.apply(object, &cluster, &manifests, force, drift, now);
                }
                Step::Delete => self.delete(object, &cluster),
            }
            let before = object.copies.get_mut(&cluster).and_then(|copy| copy.verdict.take());
            if let Some(news) = announce::news(&cluster, before.as_ref(), &verdict) {
                self.announcer.publish(object, news, &mut self.host_writes);
            }
            if let Some(copy) = object.copies.get_mut(&cluster) {
                copy.verdict = Some(verdict);
            }
        }
        for cluster in gone {
            object.copies.remove(&cluster);
        }
        if object.deleting && object.copies.is_empty() && has_finalizer {
            let finalizers = object.finalizers.iter().filter(|name| *name != FINALIZER).cloned().collect();
            self.write_finalizers(object, finalizers);
            return;
        }
        self.report(object, now);
    }

    fn plan(&self, object: &Object, cluster: &Arc<str>, now: Instant) -> Verdict {
        let waiting = WatchState::Waiting;
        let view = self.clusters.get(&**cluster);
        let watch =
            self.watches.get(&(Arc::clone(cluster), Arc::clone(&object.type_.target))).unwrap_or(&waiting);
        let fallback = Copy::default();
        let copy = object.copies.get(cluster).unwrap_or(&fallback);
        plan_copy(&CopyInput {
            wanted: &copy.wanted,
            registered: view.is_some(),
            ready: match view {
                Some(view) if !view.ready => match view.not_ready_message.as_str() {
                    "" => Err("the cluster has not answered yet"),
                    message => Err(message),
                },
                _ => Ok(()),
            },
            watch,
            seen: copy.seen.as_ref(),
            in_flight: copy.in_flight.map(|(task, _)| task),
            failure: copy.failure.as_deref(),
            hold_until: copy.hold_until(),
            patience: object.patience(cluster, view.and_then(|view| view.not_ready_since), Timestamp::now()),
            now,
        })
    }

    /// Asks for a watch in every cluster where a copy is wanted or may be.
    fn ensure_watches(&mut self, object: &Object) {
        for cluster in object.copies.clusters() {
            let id = (Arc::clone(cluster), Arc::clone(&object.type_.target));
            if self.watches.contains_key(&id) {
                continue;
            }
            if let Some(member) = self.fleet.member(cluster) {
                member.watch(&object.type_.target);
                self.watches.insert(id, WatchState::Waiting);
            }
        }
    }

    fn apply(
        &mut self,
        object: &mut Object,
        cluster: &Arc<str>,
        manifests: &Manifests,
        force: bool,
        drift: bool,
        now: Instant,
    ) {
        let manifest = manifests.get(cluster).cloned();
        let manifest = manifest.or_else(|| object.manifest_for(self.clusters.get(&**cluster)?));
        let (Some(manifest), Some(member)) = (manifest, self.fleet.member(cluster)) else { return };
        if drift {
            self.announcer.publish(object, announce::drift(cluster), &mut self.host_writes);
        }
        self.sequence += 1;
        let (task, sequence) = (InFlight::Apply(manifest.hash), self.sequence);
        let Some(copy) = object.copies.get_mut(cluster) else { return };
        if drift {
            copy.corrects(now);
            self.metrics.drifted(cluster);
        }
        copy.in_flight = Some((task, sequence));
        let (sender, owner, cluster) = (self.sender.clone(), object.owner.clone(), Arc::clone(cluster));
        member.submit_apply(manifest, force, move |result| {
            let _ = sender.send(Event::Written { owner, cluster, task, sequence, result });
        });
    }

    fn delete(&mut self, object: &mut Object, cluster: &Arc<str>) {
        let Some(member) = self.fleet.member(cluster) else { return };
        let key = object.key();
        self.sequence += 1;
        let (task, sequence) = (InFlight::Delete, self.sequence);
        let Some(copy) = object.copies.get_mut(cluster) else { return };
        copy.in_flight = Some((task, sequence));
        let uid = copy.seen.as_ref().map(|seen| seen.uid.to_string());
        let (sender, owner, cluster) = (self.sender.clone(), object.owner.clone(), Arc::clone(cluster));
        member.submit_delete(key, uid, move |result| {
            let _ = sender.send(Event::Written { owner, cluster, task, sequence, result });
        });
    }

    /// A worker has answered.
    pub(super) fn written(
        &mut self,
        owner: Owner,
        cluster: &Arc<str>,
        task: InFlight,
        sequence: u64,
        result: Result<Written, WriteError>,
    ) {
        let Some(object) = self.objects.get_mut(&owner) else { return };
        let is_namespace = object.type_.target.kind == "Namespace" && object.type_.target.group.is_empty();
        let Some(copy) = object.copies.get_mut(cluster) else { return };
        if copy.in_flight.is_some_and(|(_, current)| current == sequence) {
            copy.in_flight = None;
        }
        match result {
            Ok(Written::Applied { observation, missing }) => {
                copy.succeeded();
                if let Some(field) = &missing {
                    tracing::warn!(%owner, %cluster, %field, "the member does not record this field as ours; changes to it can't be seen");
                    if let InFlight::Apply(hash) = task {
                        copy.accepted = Some((hash, observation.owned.fingerprint()));
                    }
                }
                file(copy, &observation, true);
                if is_namespace {
                    self.namespace_made(&owner.name, cluster);
                }
            }
            Ok(Written::Gone) => {
                copy.succeeded();
                copy.seen = None;
            }
            Ok(Written::Deleting) => {
                copy.succeeded();
                if let Some(seen) = &mut copy.seen {
                    seen.deleting = true;
                }
            }
            Ok(Written::Patched) | Err(WriteError::Superseded | WriteError::Stopped) => {}
            Err(error) => {
                let advice = error.advice();
                let message =
                    if advice.is_empty() { error.to_string() } else { format!("{error}; {advice}") };
                tracing::debug!(%owner, %cluster, %message, "write failed");
                let mut salt = DefaultHasher::new();
                (&owner, cluster).hash(&mut salt);
                copy.failed(task, error.copy_reason(), message, salt.finish(), Instant::now());
            }
        }
        self.dirty.insert(owner);
    }

    /// Copies that failed for want of this namespace are tried again at once.
    fn namespace_made(&mut self, namespace: &Arc<str>, cluster: &Arc<str>) {
        for object in self.objects.values_mut().filter(|object| object.owner.namespace == *namespace) {
            if let Some(copy) = object.copies.get_mut(cluster)
                && copy
                    .failure
                    .as_ref()
                    .is_some_and(|failure| failure.reason == CopyReason::NamespaceNotFound)
            {
                copy.succeeded();
                self.dirty.insert(object.owner.clone());
            }
        }
    }

    /// A copy was seen in a member, or is gone.
    pub(super) fn observed(
        &mut self,
        cluster: &Arc<str>,
        key: &ObjectKey,
        owner: &Owner,
        observation: Option<&Observation>,
    ) {
        // A copy without its federated object: nobody asked for its removal, so it stays.
        let Some(object) = self.objects.get_mut(owner) else { return };
        if object.key() != *key {
            return;
        }
        match observation {
            None => {
                let Some(copy) = object.copies.get_mut(cluster) else { return };
                copy.seen = None;
            }
            Some(observation) => {
                if object.stale {
                    object.decide(&self.clusters);
                    object.stale = true;
                }
                object.copies.add(cluster);
                let Some(copy) = object.copies.get(cluster) else { return };
                let known = copy.seen.as_ref().map_or(0, |seen| seen.resource_version);
                if observation.resource_version != 0 && observation.resource_version <= known {
                    return;
                }
                let wanted = match copy.wanted {
                    Wanted::Copy { hash } => Some(hash),
                    _ => None,
                };
                let mut covered = false;
                if wanted.is_some() && observation.hash == wanted {
                    let accepted = copy.accepted.is_some_and(|(hash, fingerprint)| {
                        Some(hash) == wanted && fingerprint == observation.owned.fingerprint()
                    });
                    covered = accepted || is_covered(object, self.clusters.get(&**cluster), observation);
                }
                if let Some(copy) = object.copies.get_mut(cluster) {
                    file(copy, observation, covered);
                }
            }
        }
        self.dirty.insert(owner.clone());
    }

    /// Writes the status when it says something new: at once when nothing is under way, else a little later.
    fn report(&mut self, object: &mut Object, now: Instant) {
        // Without copies an object that is being deleted has only its finalizer left.
        if object.status_in_flight || (object.deleting && object.copies.is_empty()) {
            return;
        }
        let verdicts = object
            .copies
            .iter()
            .filter_map(|(cluster, copy)| copy.verdict.as_ref().map(|verdict| (&**cluster, verdict)));
        let status = fold(
            &object.status,
            object.generation,
            object.spec_error.as_deref(),
            object.deleting,
            verdicts,
            Timestamp::now(),
        );
        if status == object.status {
            object.status_due = None;
            return;
        }
        let patience = if object.deleting { DELETION_PATIENCE } else { STATUS_PATIENCE };
        let due = *object.status_due.get_or_insert(now + patience);
        if !object.settled() && due > now {
            self.alarms.insert((due, object.owner.clone()));
            return;
        }
        if self.status_writes >= STATUS_WRITES {
            if !std::mem::replace(&mut object.status_queued, true) {
                self.status_queue.push_back(object.owner.clone());
            }
            return;
        }
        object.status_due = None;
        object.status_in_flight = true;
        self.status_writes += 1;
        self.metrics.wrote_host();
        let (host, type_, owner) = (self.host.clone(), Arc::clone(&object.type_), object.owner.clone());
        let sender = self.sender.clone();
        self.host_writes.spawn(async move {
            let write = write_status(&host, &type_.config.federated, &owner, &status);
            let result = timeout(HOST_TIMEOUT, write).await.unwrap_or(Ok(()));
            let _ = sender.send(Event::StatusWritten { owner, status, result });
        });
    }

    pub(super) fn status_written(
        &mut self,
        owner: Owner,
        status: FederatedStatus,
        result: Result<(), kube::Error>,
    ) {
        self.status_writes = self.status_writes.saturating_sub(1);
        let Some(object) = self.objects.get_mut(&owner) else { return };
        object.status_in_flight = false;
        match result {
            Ok(()) => {
                object.status = status;
                self.dirty.insert(owner);
            }
            Err(error) => {
                tracing::warn!(%owner, error = %chain(&error), "the status can't be written; it is tried again");
                self.alarms.insert((Instant::now() + HOST_RETRY, owner));
            }
        }
    }

    fn write_finalizers(&mut self, object: &mut Object, finalizers: Vec<String>) {
        object.finalizer_in_flight = true;
        self.metrics.wrote_host();
        let (host, type_, owner) = (self.host.clone(), Arc::clone(&object.type_), object.owner.clone());
        let (sender, version) = (self.sender.clone(), object.resource_version.clone());
        self.host_writes.spawn(async move {
            let write = write_finalizers(&host, &type_.config.federated, &owner, &version, &finalizers);
            let result = timeout(HOST_TIMEOUT, write).await.unwrap_or(Ok(false));
            let _ = sender.send(Event::FinalizerWritten(owner, result));
        });
    }

    /// The finalizers were written, or the object had changed meanwhile.
    pub(super) fn finalizer_written(&mut self, owner: Owner, result: Result<bool, kube::Error>) {
        let Some(object) = self.objects.get_mut(&owner) else { return };
        object.finalizer_in_flight = false;
        match result {
            // The watch was faster than the answer. Where it was not, its event is still to come.
            Ok(true) if object.has_finalizer() != object.deleting => {
                self.dirty.insert(owner);
            }
            Ok(true) => {}
            // The watch may have told of the other change already: nothing else would bring this object back.
            Ok(false) => {
                self.alarms.insert((Instant::now() + CONFLICT_RETRY, owner));
            }
            Err(error) => {
                tracing::warn!(%owner, error = %chain(&error), "the finalizer can't be written; it is tried again");
                self.alarms.insert((Instant::now() + HOST_RETRY, owner));
            }
        }
    }
}

fn file(copy: &mut Copy, observation: &Observation, covered: bool) {
    copy.seen = Some(Seen {
        uid: observation.uid.as_str().into(),
        resource_version: observation.resource_version,
        hash: observation.hash,
        covered,
        deleting: observation.deleting,
    });
}

fn is_covered(
    object: &Object,
    view: Option<&crate::cluster::ClusterView>,
    observation: &Observation,
) -> bool {
    let Some(manifest) = view.and_then(|view| object.manifest_for(view)) else { return false };
    match observation.owned.first_missing(&manifest) {
        None => true,
        Some(field) => {
            tracing::info!(owner = %object.owner, cluster = ?view.map(|view| &view.name), %field, "drift: somebody else took over a field");
            false
        }
    }
}
