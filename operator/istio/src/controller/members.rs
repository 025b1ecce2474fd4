//! What the driver knows of one member: its copies, its istiods, its proxies, and the writes under way.

use crate::{
    control_plane::{LABEL_REVISION, LABEL_TAG, LABEL_VERSION, resource_types, shared_owner},
    controller::{
        feeds::{Istiod, Name},
        plan::Seen,
    },
    upgrade::{Proxy, Readiness, Workload},
};
use fedistio_crds::ResourceType;
use fedistio_federation::{
    observe::{Observation, OwnedFields},
    render::{Manifest, ObjectKey, Owner},
    worker::Member,
};
use semver::Version;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};
use tokio::{task::AbortHandle, time::Instant};

/// Wait after the first failed write of an object; doubled with each further failure.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// Longest wait between tries of one object.
const LONGEST_WAIT: Duration = Duration::from_mins(1);
/// An object that was put right longer ago than this is put right again at once.
const CALM: Duration = Duration::from_mins(5);

/// The last write of an object.
#[derive(Clone, Debug)]
struct Attempt {
    /// Hash that was sent; none for a deletion.
    hash: Option<u64>,
    at: Instant,
    /// Writes of the same hash in a row, each within [`CALM`] of the one before.
    streak: u32,
    /// What the server said, where it failed.
    error: Option<String>,
}

/// State of one member.
#[derive(Default)]
pub(crate) struct MemberState {
    pub(crate) member: Option<Member>,
    feeds: Vec<AbortHandle>,
    /// Types of which every copy has been seen, or that the member does not serve.
    synced: HashSet<Arc<ResourceType>>,
    watch_error: Option<String>,
    copies: HashMap<Owner, BTreeMap<ObjectKey, Arc<Observation>>>,
    istiods: BTreeMap<Name, Istiod>,
    istiods_listed: bool,
    proxies: BTreeMap<Name, Proxy>,
    proxies_listed: bool,
    in_flight: HashMap<ObjectKey, Option<u64>>,
    attempts: HashMap<ObjectKey, Attempt>,
    /// Answers of the comparison of an observation with a manifest, by resource version and hash.
    compared: HashMap<ObjectKey, (u64, u64, bool)>,
    /// Workloads that were restarted, by the revision that they are to reach.
    pub(crate) restarted: HashMap<String, BTreeSet<Workload>>,
    /// The set of CRDs (by fingerprint) that was found established.
    pub(crate) established: Option<u64>,
    pub(crate) checking_crds: bool,
    pub(crate) crd_message: String,
}

impl Drop for MemberState {
    fn drop(&mut self) {
        self.feeds.iter().for_each(AbortHandle::abort);
    }
}

impl MemberState {
    /// Starts the watches of all types through `member`; `feeds` end with this state.
    pub(crate) fn attach(&mut self, member: Member, feeds: Vec<AbortHandle>) {
        for resource in resource_types() {
            member.watch(&resource);
        }
        self.member = Some(member);
        self.feeds = feeds;
    }

    pub(crate) fn synced(&mut self, resource: Arc<ResourceType>) {
        self.synced.insert(resource);
        self.watch_error = None;
    }

    /// A watch failed. A type that the member does not serve has no copies there.
    pub(crate) fn watch_failed(&mut self, resource: Arc<ResourceType>, not_served: bool, message: String) {
        if not_served {
            self.synced.insert(resource);
        } else if !self.synced.contains(&resource) {
            self.watch_error = Some(format!("{} can't be watched: {message}", resource.plural));
        }
    }

    /// Has everything been seen? With what is missing.
    pub(crate) fn is_synced(&self) -> Result<(), String> {
        if let Some(missing) = resource_types().find(|resource| !self.synced.contains(resource)) {
            let message = self.watch_error.clone();
            return Err(
                message.unwrap_or_else(|| format!("the {} have not all been seen yet", missing.plural))
            );
        }
        if self.istiods_listed {
            Ok(())
        } else {
            Err("istiod's Deployments have not been seen yet".to_owned())
        }
    }

    /// A copy was seen (in a watch or in the answer to a write), or is gone.
    pub(crate) fn observe(&mut self, owner: Owner, key: ObjectKey, observation: Option<Arc<Observation>>) {
        // An object that has changed hands belongs to its new owner alone: the old one must not remove it.
        if observation.is_some() {
            for copies in self.copies.iter_mut().filter(|(of, _)| **of != owner).map(|(_, copies)| copies) {
                copies.remove(&key);
            }
        }
        let copies = self.copies.entry(owner).or_default();
        match observation {
            // The same version again, from a list, says nothing new. A server that gives no numbers is believed.
            Some(new)
                if new.resource_version == 0
                    || copies.get(&key).is_none_or(|old| old.resource_version < new.resource_version) =>
            {
                copies.insert(key, new);
            }
            Some(_) => {}
            None => {
                copies.remove(&key);
                self.compared.remove(&key);
            }
        }
    }

    pub(crate) fn saw_istiod(&mut self, news: Option<(Name, Option<Istiod>)>) {
        match news {
            None => self.istiods_listed = true,
            Some((name, Some(istiod))) => drop(self.istiods.insert(name, istiod)),
            Some((name, None)) => drop(self.istiods.remove(&name)),
        }
    }

    /// Takes news of a pod; says whether the proxies are others than before.
    pub(crate) fn saw_proxy(&mut self, news: Option<(Name, Option<Proxy>)>) -> bool {
        match news {
            None => !std::mem::replace(&mut self.proxies_listed, true),
            Some((name, Some(proxy))) => self.proxies.insert(name, proxy.clone()).as_ref() != Some(&proxy),
            Some((name, None)) => self.proxies.remove(&name).is_some(),
        }
    }

    /// The copies that belong to `owner`.
    pub(crate) fn copies(&self, owner: &Owner) -> impl Iterator<Item = (&ObjectKey, &Arc<Observation>)> {
        self.copies.get(owner).into_iter().flatten()
    }

    fn copy(&self, owner: &Owner, key: &ObjectKey) -> Option<&Arc<Observation>> {
        self.copies.get(owner).and_then(|copies| copies.get(key))
    }

    /// How the object of a manifest is. Costs a comparison of its fields only when either has changed.
    pub(crate) fn seen(&mut self, owner: &Owner, manifest: &Manifest) -> Seen {
        let shared = shared_owner();
        let observation =
            self.copy(owner, &manifest.key).or_else(|| self.copy(&shared, &manifest.key)).cloned();
        let Some(observation) = observation else { return Seen::Differs };
        if observation.deleting {
            return Seen::Deleting;
        }
        if observation.hash != Some(manifest.hash) {
            return Seen::Differs;
        }
        let version = observation.resource_version;
        let covered = match self.compared.get(&manifest.key) {
            Some((of, hash, covered)) if *of == version && *hash == manifest.hash => *covered,
            _ => {
                let covered = observation.owned.first_missing(manifest).is_none();
                self.compared.insert(manifest.key.clone(), (version, manifest.hash, covered));
                self.forget_fields(owner, &manifest.key);
                covered
            }
        };
        if covered { Seen::InSync } else { Seen::Differs }
    }

    /// Drops the owned fields of a copy that has been compared with the manifest of its hash: with any other manifest it differs by the
    /// hash alone. The fields of the CRDs would be most of this program's memory.
    fn forget_fields(&mut self, owner: &Owner, key: &ObjectKey) {
        let shared = shared_owner();
        for owner in [owner, &shared] {
            if let Some(copy) = self.copies.get_mut(owner).and_then(|copies| copies.get_mut(key)) {
                let slim = Observation { owned: OwnedFields::default(), ..Observation::clone(copy) };
                *copy = Arc::new(slim);
            }
        }
    }

    /// Revisions of `owner` that are there, with their versions and the readiness of their istiods.
    pub(crate) fn installed(&self, owner: &Owner) -> BTreeMap<String, (Option<Version>, Readiness)> {
        let mut found = BTreeMap::new();
        for (key, observation) in self.copies(owner) {
            let Some(revision) = observation.labels.get(LABEL_REVISION) else { continue };
            let version = observation.labels.get(LABEL_VERSION).and_then(|text| Version::parse(text).ok());
            let entry = found.entry(revision.clone()).or_insert_with(|| {
                (version.clone(), Readiness::NotReady("it has no istiod Deployment".to_owned()))
            });
            if key.resource.kind != "Deployment" {
                continue;
            }
            let name = (key.namespace.to_string(), key.name.to_string());
            let readiness = match self.istiods.get(&name) {
                Some(istiod) if istiod.resource_version >= observation.resource_version => {
                    istiod.readiness.clone()
                }
                // The other watch is ahead: what this one says is of an older object.
                _ => Readiness::Unknown("its newest state has not been seen yet".to_owned()),
            };
            *entry = (version, readiness);
        }
        found
    }

    /// The revision to which the tag points.
    pub(crate) fn tag(&self, owner: &Owner, tag: &str) -> Option<String> {
        self.copies(owner)
            .filter(|(key, _)| key.resource.kind == "MutatingWebhookConfiguration")
            .find(|(_, observation)| observation.labels.get(LABEL_TAG).is_some_and(|label| label == tag))
            .and_then(|(_, observation)| observation.labels.get(LABEL_REVISION).cloned())
    }

    /// The newest version of which CRDs are there.
    pub(crate) fn crd_version(&self) -> Option<Version> {
        self.copies(&shared_owner())
            .filter_map(|(_, observation)| Version::parse(observation.labels.get(LABEL_VERSION)?).ok())
            .max()
    }

    /// A number that changes when the CRDs do.
    pub(crate) fn crd_fingerprint(&self) -> u64 {
        use std::hash::{DefaultHasher, Hash as _, Hasher as _};
        let mut hasher = DefaultHasher::new();
        for (key, observation) in self.copies(&shared_owner()) {
            (&key.name, &observation.uid, observation.hash).hash(&mut hasher);
        }
        hasher.finish()
    }

    /// Proxies by revision; none while not all pods have been seen.
    pub(crate) fn proxy_counts(&self) -> Option<BTreeMap<String, u32>> {
        self.proxies_listed.then(|| {
            let mut counts = BTreeMap::new();
            for proxy in self.proxies.values() {
                *counts.entry(proxy.revision.clone()).or_insert(0) += 1;
            }
            counts
        })
    }

    pub(crate) fn proxies(&self) -> impl Iterator<Item = &Proxy> {
        self.proxies.values()
    }

    /// May a write of this object start now? `Err`: not before then; `Err(None)`: one is under way.
    pub(crate) fn may_write(
        &self,
        key: &ObjectKey,
        hash: Option<u64>,
        now: Instant,
    ) -> Result<(), Option<Instant>> {
        if let Some(under_way) = self.in_flight.get(key)
            && *under_way == hash
        {
            return Err(None);
        }
        match self.attempts.get(key) {
            Some(last) if last.hash == hash => {
                let wait = wait_after(last.streak, last.error.is_some());
                if last.at + wait > now { Err(Some(last.at + wait)) } else { Ok(()) }
            }
            _ => Ok(()),
        }
    }

    /// A write has been handed to the worker.
    pub(crate) fn started(&mut self, key: &ObjectKey, hash: Option<u64>) {
        self.in_flight.insert(key.clone(), hash);
    }

    /// A write has ended; `error` says how, where it failed.
    pub(crate) fn ended(&mut self, key: &ObjectKey, hash: Option<u64>, error: Option<String>, now: Instant) {
        if self.in_flight.get(key) == Some(&hash) {
            self.in_flight.remove(key);
        }
        let streak = match self.attempts.get(key) {
            Some(last) if last.hash == hash && now.duration_since(last.at) < CALM => last.streak + 1,
            _ => 0,
        };
        self.attempts.insert(key.clone(), Attempt { hash, at: now, streak, error });
    }

    /// What the last tries of these objects failed with: `object: error`.
    pub(crate) fn errors<'a>(&self, keys: impl IntoIterator<Item = &'a ObjectKey>) -> Option<String> {
        keys.into_iter().find_map(|key| {
            Some(format!("{key}: {}", self.attempts.get(key).and_then(|last| last.error.as_ref())?))
        })
    }
}

/// A first success may be repeated at once (somebody edited the object); repeated ones and failures wait longer and longer.
fn wait_after(streak: u32, failed: bool) -> Duration {
    if !failed && streak == 0 {
        return Duration::ZERO;
    }
    FIRST_WAIT.saturating_mul(1 << streak.min(10)).min(LONGEST_WAIT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control_plane::{Origin, RenderedChart, chart_manifests, owner};
    use serde_json::json;

    fn key() -> ObjectKey {
        let objects = [json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "map"}})];
        let chart = RenderedChart { origin: Origin::Base, version: "1.29.1", objects: &objects };
        chart_manifests(&chart, "istio-system", &owner("m")).unwrap()[0].key.clone()
    }

    #[test]
    fn repeated_writes_of_the_same_wait_and_others_do_not() {
        let (mut state, key) = (MemberState::default(), key());
        let now = Instant::now();
        assert_eq!(state.may_write(&key, Some(1), now), Ok(()));
        state.started(&key, Some(1));
        assert_eq!(state.may_write(&key, Some(1), now), Err(None));
        assert_eq!(
            state.may_write(&key, Some(2), now),
            Ok(()),
            "a newer manifest takes the place of the older"
        );
        state.ended(&key, Some(1), None, now);
        assert_eq!(state.may_write(&key, Some(1), now), Ok(()), "drift is put right at once");
        state.ended(&key, Some(1), None, now);
        assert!(state.may_write(&key, Some(1), now).is_err(), "but not in a loop");
        assert_eq!(state.may_write(&key, Some(1), now + Duration::from_secs(2)), Ok(()));
        state.ended(&key, Some(2), Some("no".to_owned()), now);
        assert_eq!(state.may_write(&key, Some(2), now), Err(Some(now + FIRST_WAIT)));
        assert_eq!(state.errors([&key]).unwrap(), "ConfigMap istio-system/map: no");
        assert_eq!(state.may_write(&key, None, now), Ok(()));
    }

    #[test]
    fn waits_are_bounded() {
        assert_eq!(wait_after(0, false), Duration::ZERO);
        assert_eq!(wait_after(u32::MAX, true), LONGEST_WAIT);
    }
}
