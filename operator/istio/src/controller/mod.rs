//! The driver: watches `FederatedIstio`s on the host and the control planes in the members, and lets the members' workers do what the
//! pure modules decide. It takes events one after the other and never waits for a member.

mod claims;
mod cluster;
mod desired;
mod feeds;
mod fold;
mod host;
mod members;
mod mesh;
mod news;
mod plan;

use crate::{
    catalogue::{Catalogue, CatalogueError, Release},
    charts::Charts,
    control_plane::OWNER_KIND,
    upgrade::{Proxy, Workload},
};
use desired::{Problem, Rendered, Renders};
use fedistio_crds::{
    FederatedIstio, FederatedIstioStatus, IstioRelease, IstioReleaseSpec, RolloutStrategy,
    RolloutStrategySpec,
};
use fedistio_federation::{
    Announcement, Announcer, alarm,
    cluster::{Fleet, FleetEvent},
    observe::Observation,
    render::{ObjectKey, Owner},
    revision::RevisionStore,
};
use feeds::{Istiod, Name, watch_istiods, watch_proxies};
use kube::{Api, Client, Resource as _, core::DeserializeGuard, runtime::watcher};
use members::MemberState;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep},
};

/// Events that come within this time are worked on together.
const DEBOUNCE: Duration = Duration::from_millis(20);
/// After a start, members have so long to be seen before the status says that they are not.
const GRACE: Duration = Duration::from_secs(10);

/// Options of the driver.
#[derive(Clone, Debug)]
pub struct IstioOptions {
    /// Folder in which downloaded charts are kept. It is made when needed.
    pub cache_dir: PathBuf,
}

/// Why the driver can't run.
#[derive(Debug, thiserror::Error)]
pub enum IstioError {
    /// The built-in catalogue is broken: a mistake of this build.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// The fleet's events have ended, which they do only with the operator.
    #[error("the members are no longer watched")]
    FleetEnded,
}

/// What the driver reacts to. News of a watch is an object (`None` inside: deleted), or `None` when everything has been listed.
pub(crate) enum Event {
    Mesh(Option<(Name, Option<Box<FederatedIstio>>)>),
    Release(Option<(Name, Option<IstioReleaseSpec>)>),
    Strategy(Option<(Name, Option<RolloutStrategySpec>)>),
    Istiod(Arc<str>, Option<(Name, Option<Istiod>)>),
    Proxy(Arc<str>, Option<(Name, Option<Proxy>)>),
    Rendered(String, Result<Rendered, Problem>),
    Written { cluster: Arc<str>, owner: Owner, key: ObjectKey, hash: Option<u64>, outcome: Outcome },
    CrdsChecked { cluster: Arc<str>, fingerprint: u64, result: Result<(), String> },
    Restarted { cluster: Arc<str>, workload: Workload, revision: String, error: String },
}

/// What came of a write.
pub(crate) enum Outcome {
    /// The object as it is now, and the first field that is not ours though it was sent.
    Applied(Arc<Observation>, Option<String>),
    /// The object is gone.
    Gone,
    /// The object goes; a watch tells when.
    Going,
    /// Something newer has taken its place, or the worker has ended.
    Dropped,
    /// It failed.
    Failed(String),
}

/// One `FederatedIstio`.
pub(crate) struct Mesh {
    object: Box<FederatedIstio>,
    /// The status as it stands on the host.
    status: FederatedIstioStatus,
    store: Option<RevisionStore>,
    /// The spec as a rollout hands it out, and the name under which it is stored.
    target: Option<(serde_json::Value, String)>,
}

/// State of the driver.
pub(crate) struct Driver {
    host: Client,
    announcer: Announcer,
    fleet: Fleet,
    events: mpsc::UnboundedSender<Event>,
    tasks: JoinSet<()>,
    builtin: Catalogue,
    catalogue: Catalogue,
    releases: BTreeMap<String, IstioReleaseSpec>,
    strategies: BTreeMap<String, RolloutStrategySpec>,
    meshes: BTreeMap<String, Mesh>,
    /// Lists of the host that have not been seen: meshes, releases, strategies.
    unlisted: [bool; 3],
    members: BTreeMap<String, MemberState>,
    renders: Renders,
    dirty: BTreeSet<String>,
    alarms: BTreeSet<(Instant, String)>,
    since: Instant,
}

/// Runs the control planes of all `FederatedIstio`s of `host` on the clusters of `fleet`, until the future is dropped.
///
/// The events of the fleet are taken from the call on; the work starts when `started` becomes true: call it before the federation
/// engine starts, whose watches of the members are shared with this driver and report what is there only once.
///
/// # Errors
/// When the built-in catalogue can't be read or the fleet has ended. What goes wrong with an object stands in its status.
pub fn run(
    host: Client,
    fleet: Fleet,
    options: IstioOptions,
    mut started: watch::Receiver<bool>,
) -> impl Future<Output = Result<(), IstioError>> + Send {
    let mut fleet_events = fleet.subscribe(|owner| &*owner.kind == OWNER_KIND);
    async move {
        fleet.listed().await;
        if started.wait_for(|started| *started).await.is_err() {
            return Err(IstioError::FleetEnded);
        }
        let (sender, mut events) = mpsc::unbounded_channel();
        let mut driver = Driver::new(host, fleet, options, sender)?;
        driver.watch_host();
        loop {
            let next_alarm = driver.alarms.first().map(|(at, _)| *at);
            tokio::select! {
                Some(event) = events.recv() => driver.take(event),
                event = fleet_events.recv() => driver.take_fleet(event.ok_or(IstioError::FleetEnded)?),
                () = alarm(next_alarm) => {}
            }
            sleep(DEBOUNCE).await;
            while let Ok(event) = events.try_recv() {
                driver.take(event);
            }
            while let Ok(event) = fleet_events.try_recv() {
                driver.take_fleet(event);
            }
            driver.ring(Instant::now());
            driver.work().await;
        }
    }
}

impl Driver {
    fn new(
        host: Client,
        fleet: Fleet,
        options: IstioOptions,
        events: mpsc::UnboundedSender<Event>,
    ) -> Result<Self, IstioError> {
        let builtin = Catalogue::builtin()?;
        let charts = Arc::new(Charts::new(options.cache_dir));
        Ok(Self {
            announcer: Announcer::new(host.clone()),
            host,
            fleet,
            tasks: JoinSet::new(),
            catalogue: builtin.clone(),
            builtin,
            releases: BTreeMap::new(),
            strategies: BTreeMap::new(),
            meshes: BTreeMap::new(),
            unlisted: [true; 3],
            members: BTreeMap::new(),
            renders: Renders::new(charts, events.clone()),
            events,
            dirty: BTreeSet::new(),
            alarms: BTreeSet::new(),
            since: Instant::now(),
        })
    }

    fn watch_host(&mut self) {
        let config = watcher::Config::default;
        self.tasks.spawn(feeds::watch(
            Api::<DeserializeGuard<FederatedIstio>>::all(self.host.clone()),
            config(),
            "FederatedIstios".to_owned(),
            self.events.clone(),
            |news| Event::Mesh(news.map(|(name, object)| (name, decoded(object).map(Box::new)))),
        ));
        self.tasks.spawn(feeds::watch(
            Api::<DeserializeGuard<IstioRelease>>::all(self.host.clone()),
            config(),
            "IstioReleases".to_owned(),
            self.events.clone(),
            |news| {
                Event::Release(news.map(|(name, object)| (name, decoded(object).map(|release| release.spec))))
            },
        ));
        self.tasks.spawn(feeds::watch(
            Api::<DeserializeGuard<RolloutStrategy>>::all(self.host.clone()),
            config(),
            "RolloutStrategies".to_owned(),
            self.events.clone(),
            |news| {
                Event::Strategy(
                    news.map(|(name, object)| (name, decoded(object).map(|strategy| strategy.spec))),
                )
            },
        ));
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Mesh(None) => self.unlisted[0] = false,
            Event::Mesh(Some(((_, name), object))) => self.take_mesh(name, object),
            Event::Release(None) => self.unlisted[1] = false,
            Event::Release(Some(((_, name), Some(spec)))) => drop(self.releases.insert(name, spec)),
            Event::Release(Some(((_, name), None))) => drop(self.releases.remove(&name)),
            Event::Strategy(None) => self.unlisted[2] = false,
            Event::Strategy(Some(((_, name), Some(spec)))) => drop(self.strategies.insert(name, spec)),
            Event::Strategy(Some(((_, name), None))) => drop(self.strategies.remove(&name)),
            Event::Istiod(cluster, news) => {
                if let Some(state) = self.members.get_mut(&*cluster) {
                    state.saw_istiod(news);
                }
            }
            Event::Proxy(cluster, news) => {
                let Some(state) = self.members.get_mut(&*cluster) else { return };
                if !state.saw_proxy(news) {
                    return;
                }
            }
            Event::Rendered(key, result) => {
                if let Some(retry) = self.renders.rendered(key, result) {
                    self.wake_all(retry);
                }
            }
            Event::Written { cluster, owner, key, hash, outcome } => {
                self.take_written(&cluster, owner, &key, hash, outcome);
            }
            Event::CrdsChecked { cluster, fingerprint, result } => {
                self.take_crds(&cluster, fingerprint, result);
            }
            Event::Restarted { cluster, workload, revision, error } => {
                tracing::warn!(%cluster, %workload, %error, "a workload could not be restarted; it is tried again");
                if let Some(restarted) =
                    self.members.get_mut(&*cluster).and_then(|state| state.restarted.get_mut(&revision))
                {
                    restarted.remove(&workload);
                }
                self.wake_all(Instant::now() + Duration::from_secs(5));
                return;
            }
        }
        self.all_dirty();
    }

    fn take_mesh(&mut self, name: String, object: Option<Box<FederatedIstio>>) {
        let Some(object) = object else {
            self.meshes.remove(&name);
            return;
        };
        let status = object.status.clone().unwrap_or_default();
        match self.meshes.get_mut(&name) {
            Some(mesh) if mesh.object.metadata.uid == object.metadata.uid => {
                mesh.object = object;
                mesh.status = status;
            }
            _ => drop(self.meshes.insert(name, Mesh { object, status, store: None, target: None })),
        }
    }

    fn take_written(
        &mut self,
        cluster: &str,
        owner: Owner,
        key: &ObjectKey,
        hash: Option<u64>,
        outcome: Outcome,
    ) {
        let Some(state) = self.members.get_mut(cluster) else { return };
        let error = match outcome {
            Outcome::Applied(observation, missing) => {
                state.observe(owner, key.clone(), Some(observation));
                missing.map(|field| {
                    format!("{field} is taken away by something in the cluster as soon as it is set")
                })
            }
            Outcome::Gone => {
                state.observe(owner, key.clone(), None);
                None
            }
            Outcome::Going | Outcome::Dropped => None,
            Outcome::Failed(error) => Some(error),
        };
        state.ended(key, hash, error, Instant::now());
    }

    fn take_crds(&mut self, cluster: &str, fingerprint: u64, result: Result<(), String>) {
        let Some(state) = self.members.get_mut(cluster) else { return };
        state.checking_crds = false;
        match result {
            Ok(()) => state.established = Some(fingerprint),
            Err(message) => {
                state.crd_message = message;
                self.wake_all(Instant::now() + Duration::from_millis(500));
            }
        }
    }

    fn take_fleet(&mut self, event: FleetEvent) {
        match event {
            FleetEvent::ClusterChanged(_) => {}
            FleetEvent::WorkerReplaced(cluster) | FleetEvent::ClusterGone(cluster) => {
                self.members.remove(&*cluster);
            }
            FleetEvent::Observed { cluster, key, owner, observation } => {
                self.state(&cluster).observe(owner, key, observation);
            }
            FleetEvent::Synced { cluster, resource } => self.state(&cluster).synced(resource),
            FleetEvent::WatchFailed { cluster, resource, not_served, message } => {
                self.state(&cluster).watch_failed(resource, not_served, message);
            }
        }
        self.all_dirty();
    }

    /// What is known of a member. Made where it is new: the engine's watches may report before this driver asks for its own.
    fn state(&mut self, cluster: &str) -> &mut MemberState {
        self.members.entry(cluster.to_owned()).or_default()
    }

    /// Starts to watch a member, once.
    fn ensure_member(&mut self, cluster: &str) {
        let Some(member) = self.fleet.member(cluster) else { return };
        let (events, name) = (self.events.clone(), Arc::clone(member.name()));
        let tasks = &mut self.tasks;
        let state = self.members.entry(cluster.to_owned()).or_default();
        if state.member.is_some() {
            return;
        }
        let feeds = vec![
            tasks.spawn(watch_istiods(Arc::clone(&name), member.client(), events.clone())),
            tasks.spawn(watch_proxies(name, member.client(), events)),
        ];
        state.attach(member, feeds);
    }

    fn all_dirty(&mut self) {
        self.dirty.extend(self.meshes.keys().cloned());
    }

    fn wake_all(&mut self, at: Instant) {
        self.alarms.extend(self.meshes.keys().map(|name| (at, name.clone())));
    }

    fn ring(&mut self, now: Instant) {
        while let Some((at, name)) = self.alarms.first().cloned()
            && at <= now
        {
            self.alarms.pop_first();
            self.dirty.insert(name);
        }
    }

    async fn work(&mut self) {
        // Ended tasks are only collected.
        while self.tasks.try_join_next().is_some() {}
        if self.unlisted.contains(&true) || self.dirty.is_empty() {
            return;
        }
        self.catalogue = self.builtin.clone();
        for (name, spec) in &self.releases {
            match Release::new(spec.clone()) {
                Ok(release) => self.catalogue.insert(release),
                Err(error) => tracing::warn!(%error, "the IstioRelease {name} is left out"),
            }
        }
        for name in std::mem::take(&mut self.dirty) {
            self.reconcile(&name).await;
        }
    }

    /// Publishes an Event about a mesh, in the background.
    fn announce(&mut self, mesh: &str, announcement: Announcement) {
        let Some(about) = self.meshes.get(mesh).map(|mesh| mesh.object.object_ref(&())) else { return };
        self.announcer.publish_about(about, announcement, &mut self.tasks);
    }

    /// Is the driver so young that what it has not seen yet says nothing?
    fn in_grace(&self, now: Instant) -> bool {
        now.duration_since(self.since) < GRACE
    }
}

fn decoded<K>(object: Option<DeserializeGuard<K>>) -> Option<K> {
    match object?.0 {
        Ok(object) => Some(object),
        Err(invalid) => {
            let name = invalid.metadata.name.unwrap_or_default();
            tracing::error!(error = %invalid.error, "{name} can't be read and is left alone; correct it");
            None
        }
    }
}
