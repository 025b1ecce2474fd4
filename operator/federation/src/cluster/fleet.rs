//! The fleet: the members that are there now, and what happens in them.

use crate::{
    cluster::ClusterView,
    observe::Observation,
    render::{ObjectKey, Owner},
    worker::Member,
};
use fedistio_crds::ResourceType;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, RwLock},
};
use tokio::sync::{mpsc, watch};

/// Something happened in the fleet.
#[derive(Clone, Debug)]
pub enum FleetEvent {
    /// A cluster is new, or its labels, version or readiness changed.
    ClusterChanged(Arc<str>),
    /// A cluster has a new worker: what was queued with the old one is lost, and its watches have to be asked for again.
    WorkerReplaced(Arc<str>),
    /// A cluster is no longer registered.
    ClusterGone(Arc<str>),
    /// A copy was seen; without an observation it is gone.
    Observed {
        /// Name of the cluster.
        cluster: Arc<str>,
        /// The copy.
        key: ObjectKey,
        /// The federated object to which it belongs.
        owner: Owner,
        /// What was seen.
        observation: Option<Arc<Observation>>,
    },
    /// Every copy of a type in a cluster has been seen.
    Synced {
        /// Name of the cluster.
        cluster: Arc<str>,
        /// The type.
        resource: Arc<ResourceType>,
    },
    /// A watch of a type in a cluster failed; it is tried again.
    WatchFailed {
        /// Name of the cluster.
        cluster: Arc<str>,
        /// The type.
        resource: Arc<ResourceType>,
        /// Does the cluster not serve the type?
        not_served: bool,
        /// What the API server or the network says.
        message: String,
    },
}

/// Sends events to every subscriber. Unbounded: a subscriber only files an event, and a bound would let a slow one stop the watches.
#[derive(Clone, Debug, Default)]
pub struct FleetEvents {
    subscribers: Arc<Mutex<Vec<Subscriber>>>,
}

#[derive(Clone, Debug)]
struct Subscriber {
    sender: mpsc::UnboundedSender<FleetEvent>,
    wants: fn(&Owner) -> bool,
}

impl FleetEvents {
    pub(crate) fn send(&self, event: &FleetEvent) {
        let mut subscribers = self.subscribers.lock().unwrap_or_else(PoisonError::into_inner);
        subscribers.retain(|subscriber| match event {
            FleetEvent::Observed { owner, .. } if !(subscriber.wants)(owner) => {
                !subscriber.sender.is_closed()
            }
            _ => subscriber.sender.send(event.clone()).is_ok(),
        });
    }

    fn subscribe(&self, wants: fn(&Owner) -> bool) -> mpsc::UnboundedReceiver<FleetEvent> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.subscribers.lock().unwrap_or_else(PoisonError::into_inner).push(Subscriber { sender, wants });
        receiver
    }
}

/// The members that are registered now. Cheap to clone.
#[derive(Clone)]
pub struct Fleet {
    clusters: Arc<RwLock<BTreeMap<String, Entry>>>,
    events: FleetEvents,
    listed: watch::Sender<bool>,
}

#[derive(Clone, Default)]
struct Entry {
    view: ClusterView,
    /// The view that subscribers know.
    told: Option<ClusterView>,
    member: Option<Member>,
}

impl Default for Fleet {
    fn default() -> Self {
        Self { clusters: Arc::default(), events: FleetEvents::default(), listed: watch::Sender::new(false) }
    }
}

impl Fleet {
    /// Snapshots of all registered clusters, by name.
    pub fn views(&self) -> BTreeMap<String, ClusterView> {
        self.read(|clusters| {
            clusters.iter().map(|(name, entry)| (name.clone(), entry.view.clone())).collect()
        })
    }

    /// Snapshot of one cluster.
    pub fn view(&self, name: &str) -> Option<ClusterView> {
        self.read(|clusters| clusters.get(name).map(|entry| entry.view.clone()))
    }

    /// The worker of a cluster; none while its access does not work.
    pub fn member(&self, name: &str) -> Option<Member> {
        self.read(|clusters| clusters.get(name).and_then(|entry| entry.member.clone()))
    }

    /// Everything that happens from now on; of the copies, those whose owner is wanted. An observation is large for what is kept of it:
    /// nobody should hold a queue of those that are of no use to him.
    pub fn subscribe(&self, wants: fn(&Owner) -> bool) -> mpsc::UnboundedReceiver<FleetEvent> {
        self.events.subscribe(wants)
    }

    /// Waits until every `MemberCluster` of the host has been seen once.
    pub async fn listed(&self) {
        let mut listed = self.listed.subscribe();
        // The sender lives in self, so this can't fail.
        let _ = listed.wait_for(|listed| *listed).await;
    }

    pub(crate) fn events(&self) -> FleetEvents {
        self.events.clone()
    }

    pub(crate) fn set_listed(&self) {
        self.listed.send_replace(true);
    }

    /// Registers a cluster that is not there yet.
    pub(crate) fn add(&self, name: &str) {
        self.write(|clusters| {
            let entry = clusters.entry(name.to_owned()).or_default();
            name.clone_into(&mut entry.view.name);
        });
    }

    /// Changes the view of a registered cluster; tells subscribers when it is another one afterwards. One that was removed meanwhile
    /// stays removed.
    pub(crate) fn update(&self, name: &str, change: impl FnOnce(&mut ClusterView)) {
        let changed = self.write(|clusters| {
            let Some(entry) = clusters.get_mut(name) else { return false };
            let before = std::mem::take(&mut entry.told);
            change(&mut entry.view);
            entry.told = Some(entry.view.clone());
            before != entry.told
        });
        if changed {
            self.events.send(&FleetEvent::ClusterChanged(name.into()));
        }
    }

    /// Gives a cluster another worker, or none.
    pub(crate) fn replace_worker(&self, name: &str, member: Option<Member>) {
        let old = self.write(|clusters| {
            let entry = clusters.get_mut(name)?;
            std::mem::replace(&mut entry.member, member)
        });
        // Dropped outside the lock: the old worker answers its queued jobs.
        drop(old);
        self.events.send(&FleetEvent::WorkerReplaced(name.into()));
    }

    pub(crate) fn remove(&self, name: &str) {
        let old = self.write(|clusters| clusters.remove(name));
        if old.is_some() {
            self.events.send(&FleetEvent::ClusterGone(name.into()));
        }
    }

    fn read<T>(&self, read: impl FnOnce(&BTreeMap<String, Entry>) -> T) -> T {
        read(&self.clusters.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, write: impl FnOnce(&mut BTreeMap<String, Entry>) -> T) -> T {
        write(&mut self.clusters.write().unwrap_or_else(PoisonError::into_inner))
    }
}
