//! The engine: takes events from the host and the members one after the other, plans what has changed, and hands the
//! steps to the members' workers. It never waits for a server.

mod announce;
mod host;
mod ledger;
mod object;
mod steps;
mod types;

use crate::{
    alarm,
    cluster::{ClusterView, Fleet, FleetEvent},
    metrics::Metrics,
    plan::{InFlight, WatchState},
    render::Owner,
    worker::{WriteError, Written},
};
pub use announce::{Announcement, Announcer};
use fedistio_crds::{FederatedStatus, FederatedTypeConfig, ResourceType};
use host::{HostObject, watch_types};
use kube::Client;
use object::Object;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::Instant,
};
use types::TypeState;

/// Events taken before their consequences are worked out: a burst of changes of one object is planned once.
const BATCH: usize = 512;
/// While writes of an object are under way its status waits for them, but no longer than this.
const STATUS_PATIENCE: Duration = Duration::from_secs(1);
/// The status of an object that is being deleted is of interest only where that takes long; mostly the object is gone by then.
const DELETION_PATIENCE: Duration = Duration::from_secs(5);
/// Status writes in flight. A member that goes away changes the status of each of its objects: few at a time leave the host's API server
/// to the changes that matter, and what changes again while it waits for its turn is written once.
const STATUS_WRITES: usize = 4;

/// What the engine reacts to.
#[derive(Debug)]
pub(crate) enum Event {
    TypeApplied(Box<FederatedTypeConfig>),
    TypeDeleted(String),
    TypesListed,
    ObjectApplied(Arc<str>, Box<HostObject>),
    ObjectDeleted(Owner),
    ObjectsListed(Arc<str>, Result<(), String>),
    Written {
        owner: Owner,
        cluster: Arc<str>,
        task: InFlight,
        sequence: u64,
        result: Result<Written, WriteError>,
    },
    FinalizerWritten(Owner, Result<bool, kube::Error>),
    StatusWritten {
        owner: Owner,
        status: FederatedStatus,
        result: Result<(), kube::Error>,
    },
}

/// The state of the engine.
pub(crate) struct Engine {
    host: Client,
    fleet: Fleet,
    metrics: Metrics,
    announcer: Announcer,
    sender: mpsc::UnboundedSender<Event>,
    clusters: BTreeMap<String, ClusterView>,
    /// By name of the type config.
    types: HashMap<Arc<str>, TypeState>,
    types_listed: bool,
    objects: HashMap<Owner, Object>,
    watches: HashMap<(Arc<str>, Arc<ResourceType>), WatchState>,
    /// Objects to plan before the next event.
    dirty: HashSet<Owner>,
    /// When to look at an object again.
    alarms: BTreeSet<(Instant, Owner)>,
    /// Numbers the writes, so that a late answer is told from the current one's.
    sequence: u64,
    host_writes: JoinSet<()>,
    status_writes: usize,
    /// Objects whose status is due and waits for its turn, the oldest first.
    status_queue: VecDeque<Owner>,
}

/// Runs the propagation of federated objects from `host` to the clusters of `fleet`, forever.
///
/// `started` becomes true when every federated object of the host has been seen. Other controllers that watch copies of the same
/// types must not start before: what their watches report first would be news about objects that are not known yet.
pub async fn run_engine(host: Client, fleet: Fleet, metrics: Metrics, started: watch::Sender<bool>) {
    let mut fleet_events = fleet.subscribe(|_| true);
    fleet.listed().await;
    let (sender, mut events) = mpsc::unbounded_channel();
    let types = tokio::spawn(watch_types(host.clone(), sender.clone()));
    let _guard = AbortOnDrop(types);
    let clusters = fleet.views();
    let mut engine = Engine {
        announcer: Announcer::new(host.clone()),
        host,
        fleet,
        metrics,
        sender,
        clusters,
        types: HashMap::new(),
        types_listed: false,
        objects: HashMap::new(),
        watches: HashMap::new(),
        dirty: HashSet::new(),
        alarms: BTreeSet::new(),
        sequence: 0,
        host_writes: JoinSet::new(),
        status_writes: 0,
        status_queue: VecDeque::new(),
    };
    loop {
        let next_alarm = engine.alarms.first().map(|(at, _)| *at);
        tokio::select! {
            Some(event) = events.recv() => engine.take(event),
            Some(event) = fleet_events.recv() => engine.take_fleet(event),
            () = alarm(next_alarm) => engine.ring(Instant::now()),
        }
        for _ in 0..BATCH {
            let Ok(event) = events.try_recv() else { break };
            engine.take(event);
        }
        for _ in 0..BATCH {
            let Ok(event) = fleet_events.try_recv() else { break };
            engine.take_fleet(event);
        }
        engine.work();
        if !*started.borrow() && engine.has_started() {
            started.send_replace(true);
        }
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Engine {
    /// Has everything on the host been seen, as far as it is served?
    fn has_started(&self) -> bool {
        self.types_listed && self.types.values().all(|state| state.listed || state.failed)
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::TypeApplied(config) => self.type_applied(*config),
            Event::TypeDeleted(name) => self.type_deleted(&name),
            Event::TypesListed => {
                self.types_listed = true;
                self.mark_all();
            }
            Event::ObjectsListed(name, result) => self.objects_listed(&name, result),
            Event::ObjectApplied(type_name, object) => self.object_applied(&type_name, *object),
            Event::ObjectDeleted(owner) => {
                self.objects.remove(&owner);
            }
            Event::Written { owner, cluster, task, sequence, result } => {
                self.written(owner, &cluster, task, sequence, result);
            }
            Event::FinalizerWritten(owner, result) => self.finalizer_written(owner, result),
            Event::StatusWritten { owner, status, result } => self.status_written(owner, status, result),
        }
    }

    fn take_fleet(&mut self, event: FleetEvent) {
        match event {
            FleetEvent::ClusterChanged(name) => {
                let view = self.fleet.view(&name);
                self.cluster_changed(&name, view);
            }
            FleetEvent::ClusterGone(name) => {
                self.forget_watches(&name);
                self.cluster_changed(&name, None);
            }
            FleetEvent::WorkerReplaced(name) => {
                self.forget_watches(&name);
                for object in self.objects.values_mut() {
                    if let Some(copy) = object.copies.get_mut(&name) {
                        // The new watch lists everything anew; only so a copy that went meanwhile is missed.
                        copy.in_flight = None;
                        copy.seen = None;
                        self.dirty.insert(object.owner.clone());
                    }
                }
            }
            FleetEvent::Observed { cluster, key, owner, observation } => {
                self.observed(&cluster, &key, &owner, observation.as_deref());
            }
            FleetEvent::Synced { cluster, resource } => {
                self.watch_changed(cluster, resource, WatchState::Synced);
            }
            FleetEvent::WatchFailed { cluster, resource, not_served, message } => {
                let state =
                    if not_served { WatchState::NotServed(message) } else { WatchState::Failed(message) };
                self.watch_changed(cluster, resource, state);
            }
        }
    }

    /// A cluster is new, gone, or changed. Only what placement and overrides can see makes manifests stale.
    fn cluster_changed(&mut self, name: &Arc<str>, view: Option<ClusterView>) {
        let old = match &view {
            Some(view) => self.clusters.insert(name.to_string(), view.clone()),
            None => self.clusters.remove(&**name),
        };
        let decides =
            |view: &ClusterView| (view.labels.clone(), view.network.clone(), view.kubernetes_version.clone());
        let stale = old.as_ref().map(decides) != view.as_ref().map(decides);
        for object in self.objects.values_mut() {
            object.stale |= stale;
            if stale || object.copies.contains(name) {
                self.dirty.insert(object.owner.clone());
            }
        }
    }

    fn forget_watches(&mut self, cluster: &Arc<str>) {
        self.watches.retain(|(name, _), _| name != cluster);
    }

    fn watch_changed(&mut self, cluster: Arc<str>, resource: Arc<ResourceType>, state: WatchState) {
        let known = self.watches.entry((Arc::clone(&cluster), Arc::clone(&resource))).or_default();
        // A watch that fails for a moment has seen everything before, and goes on where it was.
        if *known == state || (*known == WatchState::Synced && matches!(state, WatchState::Failed(_))) {
            return;
        }
        *known = state;
        for object in self.objects.values() {
            if object.type_.target == resource && object.copies.contains(&cluster) {
                self.dirty.insert(object.owner.clone());
            }
        }
    }

    fn object_applied(&mut self, type_name: &Arc<str>, seen: HostObject) {
        let Some(type_) = self.types.get(type_name).map(|state| Arc::clone(&state.type_)) else { return };
        let owner = seen.owner.clone();
        if let Some(object) = self.objects.get_mut(&owner).filter(|object| object.uid == seen.uid) {
            let changed = object.generation != seen.generation || object.deleting != seen.deleting;
            object.generation = seen.generation;
            object.deleting = seen.deleting;
            object.finalizers = seen.finalizers;
            object.resource_version = seen.resource_version;
            if !object.status_in_flight {
                object.status = seen.status;
            }
            if changed {
                object.spec = seen.spec;
                object.stale = true;
            }
        } else {
            // Nothing of an object of that name with another UID is carried over but what its copies look like: they are its ledger.
            let copies = self.objects.remove(&owner).map(|old| old.copies).unwrap_or_default();
            let object = Object::new(seen, type_, copies);
            self.objects.insert(owner.clone(), object);
        }
        self.dirty.insert(owner);
    }

    fn mark_all(&mut self) {
        self.dirty.extend(self.objects.keys().cloned());
    }

    fn ring(&mut self, now: Instant) {
        while let Some((at, _)) = self.alarms.first()
            && *at <= now
        {
            if let Some((_, owner)) = self.alarms.pop_first() {
                self.dirty.insert(owner);
            }
        }
    }
}
