//! One federated object and its copies, as the engine keeps them. Pure.

use crate::{
    cluster::ClusterView,
    engine::{host::HostObject, ledger::Ledger},
    placement::{Decision, place},
    plan::{Failure, InFlight, Seen, Verdict, Wanted},
    render::{Manifest, ManifestError, ObjectKey, Owner, RetainPath, apply_overrides},
};
use fedistio_crds::{
    CopyReason, CopyState, Deletion, FederatedSpec, FederatedStatus, FederatedTypeConfigSpec, ResourceType,
};
use k8s_openapi::jiff::Timestamp;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::time::Instant;

/// First wait after a failed write, doubled each time.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// Longest wait between tries: what a user repairs in a member is picked up within a minute.
const LONGEST_RETRY: Duration = Duration::from_mins(1);
/// Corrections of the same copy within [`FIGHT_WINDOW`] that are made at once; further ones wait longer and longer.
const FREE_CORRECTIONS: u32 = 5;
/// A copy that was left alone for so long is no longer in a fight.
const FIGHT_WINDOW: Duration = Duration::from_secs(30);

/// A federated type, as the engine uses it.
#[derive(Debug)]
pub(crate) struct FederatedType {
    /// Name of the type config.
    pub(crate) name: Arc<str>,
    pub(crate) target: Arc<ResourceType>,
    pub(crate) retain: Arc<[RetainPath]>,
    pub(crate) config: FederatedTypeConfigSpec,
}

/// A federated object.
#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) owner: Owner,
    pub(crate) type_: Arc<FederatedType>,
    pub(crate) uid: String,
    pub(crate) generation: i64,
    pub(crate) deleting: bool,
    pub(crate) finalizers: Vec<String>,
    pub(crate) resource_version: String,
    pub(crate) finalizer_in_flight: bool,
    /// The spec as JSON text: a tenth of the memory of a parsed one, and parsed only when something changes.
    pub(crate) spec: Box<str>,
    /// The status as it stands on the host.
    pub(crate) status: FederatedStatus,
    pub(crate) copies: Ledger,
    /// `wanted` of the copies has to be worked out anew.
    pub(crate) stale: bool,
    /// The spec can't be used at all.
    pub(crate) spec_error: Option<String>,
    pub(crate) deletion: Deletion,
    pub(crate) status_due: Option<Instant>,
    pub(crate) status_in_flight: bool,
    /// The status waits for its turn.
    pub(crate) status_queued: bool,
}

/// One copy.
#[derive(Debug)]
pub(crate) struct Copy {
    pub(crate) wanted: Wanted,
    pub(crate) seen: Option<Seen>,
    pub(crate) in_flight: Option<(InFlight, u64)>,
    pub(crate) failure: Option<Box<Failure>>,
    pub(crate) attempts: u32,
    /// Owned fields that an apply left short of the manifest; seen again, they are no drift.
    pub(crate) accepted: Option<(u64, u64)>,
    pub(crate) corrections: u32,
    pub(crate) corrected_at: Option<Instant>,
    pub(crate) verdict: Option<Verdict>,
}

impl Default for Copy {
    fn default() -> Self {
        Self {
            wanted: Wanted::Nothing,
            seen: None,
            in_flight: None,
            failure: None,
            attempts: 0,
            accepted: None,
            corrections: 0,
            corrected_at: None,
            verdict: None,
        }
    }
}

/// The manifests of one object by cluster, made together: clusters without overrides share one.
pub(crate) type Manifests = BTreeMap<Arc<str>, Arc<Manifest>>;

impl Object {
    /// An object that was just read from the host. The clusters of its status may have copies: they stay in the ledger until
    /// those are confirmed gone. `copies` is what is known already.
    pub(crate) fn new(seen: HostObject, type_: Arc<FederatedType>, mut copies: Ledger) -> Self {
        for cluster in &seen.status.clusters {
            copies.add(&cluster.name.as_str().into());
        }
        Self {
            owner: seen.owner,
            type_,
            uid: seen.uid,
            generation: seen.generation,
            deleting: seen.deleting,
            finalizers: seen.finalizers,
            resource_version: seen.resource_version,
            finalizer_in_flight: false,
            spec: seen.spec,
            status: seen.status,
            copies,
            stale: true,
            spec_error: None,
            deletion: Deletion::default(),
            status_due: None,
            status_in_flight: false,
            status_queued: false,
        }
    }

    /// Works out `wanted` of every copy from the spec and the clusters. Returns the manifests that were made on the way.
    pub(crate) fn decide(&mut self, clusters: &BTreeMap<String, ClusterView>) -> Manifests {
        self.stale = false;
        self.spec_error = None;
        let mut manifests = Manifests::new();
        let mut wanted: BTreeMap<Arc<str>, Wanted> = BTreeMap::new();
        match serde_json::from_str::<FederatedSpec>(&self.spec) {
            Ok(spec) => {
                self.deletion = spec.deletion.clone().unwrap_or_default();
                if !self.deleting {
                    self.render_all(&spec, clusters, &mut wanted, &mut manifests);
                }
            }
            Err(_) if self.deleting => {}
            Err(error) => {
                self.spec_error = Some(format!("the spec can't be read: {error}"));
                // What is there stays until the spec can be read again.
                return manifests;
            }
        }
        for cluster in wanted.keys() {
            self.copies.add(cluster);
        }
        for (cluster, copy) in self.copies.iter_mut() {
            copy.wanted = wanted.remove(cluster).unwrap_or(Wanted::Nothing);
        }
        manifests
    }

    fn render_all(
        &self,
        spec: &FederatedSpec,
        clusters: &BTreeMap<String, ClusterView>,
        wanted: &mut BTreeMap<Arc<str>, Wanted>,
        manifests: &mut Manifests,
    ) {
        let mut shared: Option<Arc<Manifest>> = None;
        for (name, decision) in place(&spec.placement, clusters) {
            let cluster: Arc<str> = name.as_str().into();
            let one = match (decision, clusters.get(&name)) {
                (Decision::Placed, Some(view)) => match self.render(spec, view, &mut shared) {
                    Ok(manifest) => {
                        let hash = manifest.hash;
                        manifests.insert(Arc::clone(&cluster), manifest);
                        Wanted::Copy { hash }
                    }
                    Err((reason, message)) => Wanted::Broken { reason, message },
                },
                (Decision::ConstraintNotMet(message), _) => Wanted::Excluded { message },
                (Decision::ConstraintUnknown(message), _) => Wanted::Undecided { message },
                // Its hash never counts: the planner stops at the missing registration.
                (Decision::NotRegistered | Decision::Placed, _) => Wanted::Copy { hash: 0 },
            };
            wanted.insert(cluster, one);
        }
    }

    /// The manifest for one cluster, made from the spec as it is now.
    pub(crate) fn manifest_for(&self, view: &ClusterView) -> Option<Arc<Manifest>> {
        let spec: FederatedSpec = serde_json::from_str(&self.spec).ok()?;
        self.render(&spec, view, &mut None).ok()
    }

    fn render(
        &self,
        spec: &FederatedSpec,
        view: &ClusterView,
        shared: &mut Option<Arc<Manifest>>,
    ) -> Result<Arc<Manifest>, (CopyReason, String)> {
        let mut template = spec.template.clone();
        let changed = apply_overrides(&mut template, &spec.overrides, view)
            .map_err(|error| (CopyReason::OverrideFailed, error.to_string()))?;
        if !changed && let Some(shared) = shared {
            return Ok(Arc::clone(shared));
        }
        let manifest = Manifest::new(self.key(), template, &self.owner, Arc::clone(&self.type_.retain))
            .map_err(|error: ManifestError| (CopyReason::TemplateInvalid, error.to_string()))?;
        let manifest = Arc::new(manifest);
        if !changed {
            *shared = Some(Arc::clone(&manifest));
        }
        Ok(manifest)
    }

    /// The copies' key in every cluster.
    pub(crate) fn key(&self) -> ObjectKey {
        ObjectKey {
            resource: Arc::clone(&self.type_.target),
            namespace: Arc::clone(&self.owner.namespace),
            name: Arc::clone(&self.owner.name),
        }
    }

    /// Does our finalizer hold it?
    pub(crate) fn has_finalizer(&self) -> bool {
        self.finalizers.iter().any(|finalizer| finalizer == fedistio_crds::FINALIZER)
    }

    /// How much longer the removal of a cluster's copy may wait for the cluster, which has not answered since `away`. The time counts from the
    /// status, so that it goes on after a restart of the operator.
    pub(crate) fn patience(
        &self,
        cluster: &str,
        away: Option<Timestamp>,
        now: Timestamp,
    ) -> Option<Duration> {
        let entry = self.status.clusters.iter().find(|entry| entry.name == cluster);
        let removing = entry.filter(|entry| entry.state == CopyState::Removing);
        let since = removing.and_then(|entry| entry.last_transition_time.as_ref()).map(|time| time.0);
        self.deletion.patience(since, away, now)
    }

    /// Is nothing under way?
    pub(crate) fn settled(&self) -> bool {
        !self.copies.copies().any(|copy| copy.in_flight.is_some())
    }
}

impl Copy {
    /// Files a failed write; `salt` spreads the retries of many objects.
    pub(crate) fn failed(
        &mut self,
        tried: InFlight,
        reason: CopyReason,
        message: String,
        salt: u64,
        now: Instant,
    ) {
        let wait = retry_wait(self.attempts, salt);
        self.attempts = self.attempts.saturating_add(1);
        self.failure = Some(Box::new(Failure { reason, message, tried, retry_at: now + wait }));
    }

    /// A write succeeded.
    pub(crate) fn succeeded(&mut self) {
        self.failure = None;
        self.attempts = 0;
    }

    /// A correction of drift is being sent.
    pub(crate) fn corrects(&mut self, now: Instant) {
        let fighting = self.corrected_at.is_some_and(|last| now - last < FIGHT_WINDOW);
        self.corrections = if fighting { self.corrections.saturating_add(1) } else { 1 };
        self.corrected_at = Some(now);
    }

    /// Until when the next correction waits.
    pub(crate) fn hold_until(&self) -> Option<Instant> {
        let excess = self.corrections.checked_sub(FREE_CORRECTIONS)?;
        // Doubles from one second; stays under the window, so that an endless fight stays slow.
        Some(self.corrected_at? + Duration::from_secs(1 << excess.min(4)))
    }
}

/// Exponential back-off with up to a quarter of jitter.
fn retry_wait(attempts: u32, salt: u64) -> Duration {
    let base = FIRST_RETRY.saturating_mul(1 << attempts.min(16)).min(LONGEST_RETRY);
    let mixed = (salt ^ u64::from(attempts)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56;
    base.saturating_sub(base / 4 * u32::try_from(mixed).unwrap_or(0) / 255)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    pub(crate) fn object(spec: serde_json::Value) -> Object {
        let config = fedistio_crds::builtin_types()[0].config();
        let type_ = FederatedType {
            name: "virtualservices.networking.istio.io".into(),
            target: Arc::new(config.spec.target.clone()),
            retain: Arc::from([]),
            config: config.spec,
        };
        Object {
            owner: Owner { kind: "FederatedVirtualService".into(), namespace: "n".into(), name: "x".into() },
            type_: Arc::new(type_),
            uid: "u".to_owned(),
            generation: 1,
            deleting: false,
            finalizers: vec![fedistio_crds::FINALIZER.to_owned()],
            resource_version: "1".to_owned(),
            finalizer_in_flight: false,
            spec: spec.to_string().into(),
            status: FederatedStatus::default(),
            copies: Ledger::default(),
            stale: true,
            spec_error: None,
            deletion: Deletion::default(),
            status_due: None,
            status_in_flight: false,
            status_queued: false,
        }
    }

    fn clusters(names: &[&str]) -> BTreeMap<String, ClusterView> {
        names
            .iter()
            .map(|name| {
                (
                    (*name).to_owned(),
                    ClusterView { name: (*name).to_owned(), ready: true, ..ClusterView::default() },
                )
            })
            .collect()
    }

    #[test]
    fn clusters_without_overrides_share_one_manifest() {
        let mut object = object(json!({
            "template": {"spec": {"hosts": ["a"]}},
            "placement": {"clusterSelector": {}},
            "overrides": [{"clusterName": "c", "clusterOverrides": [{"path": "/spec/hosts/0", "value": "c"}]}],
        }));
        let manifests = object.decide(&clusters(&["a", "b", "c"]));
        assert!(Arc::ptr_eq(&manifests["a"], &manifests["b"]));
        assert_ne!(manifests["a"].hash, manifests["c"].hash);
        assert_eq!(object.copies.copies().count(), 3);
    }

    #[test]
    fn one_bad_override_stays_with_its_cluster() {
        let mut object = object(json!({
            "template": {"spec": {"hosts": ["a"]}},
            "placement": {"clusterSelector": {}},
            "overrides": [{"clusterName": "b", "clusterOverrides": [{"path": "/spec/none/0", "value": "c"}]}],
        }));
        object.decide(&clusters(&["a", "b"]));
        assert!(matches!(object.copies.get("a").unwrap().wanted, Wanted::Copy { .. }));
        assert!(matches!(
            object.copies.get("b").unwrap().wanted,
            Wanted::Broken { reason: CopyReason::OverrideFailed, .. }
        ));
    }

    #[test]
    fn an_unreadable_spec_changes_no_copy() {
        let mut object = object(json!({"template": {"spec": {}}, "placement": {"clusterSelector": {}}}));
        object.decide(&clusters(&["a"]));
        let before = object.copies.get("a").unwrap().wanted.clone();
        object.spec = "{\"placement\": 3}".into();
        object.decide(&clusters(&["a"]));
        assert_eq!(object.copies.get("a").unwrap().wanted, before);
        assert!(object.spec_error.is_some());
    }

    #[test]
    fn a_deleted_object_wants_nothing() {
        let mut object = object(json!({"template": {"spec": {}}, "placement": {"clusterSelector": {}}}));
        object.decide(&clusters(&["a"]));
        object.deleting = true;
        object.decide(&clusters(&["a"]));
        assert_eq!(object.copies.get("a").unwrap().wanted, Wanted::Nothing);
    }

    #[test]
    fn retries_grow_within_their_bounds() {
        for attempts in 0..100 {
            let wait = retry_wait(attempts, 42);
            assert!(wait >= FIRST_RETRY * 3 / 4 && wait <= LONGEST_RETRY, "{attempts}: {wait:?}");
        }
        assert!(retry_wait(10, 1) > retry_wait(0, 1));
    }

    #[test]
    fn a_fight_slows_down_and_is_forgotten() {
        let mut copy = Copy::default();
        let start = Instant::now();
        for _ in 0..FREE_CORRECTIONS - 1 {
            copy.corrects(start);
            assert_eq!(copy.hold_until(), None);
        }
        copy.corrects(start);
        let first = copy.hold_until().unwrap() - start;
        copy.corrects(start);
        assert!(copy.hold_until().unwrap() - start > first);
        copy.corrects(start + FIGHT_WINDOW * 2);
        assert_eq!(copy.hold_until(), None);
    }
}
