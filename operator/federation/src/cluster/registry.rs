//! Watches the `MemberCluster`s of the host and keeps one monitor for each.

use crate::{
    cluster::{Fleet, monitor::Monitor},
    metrics::Metrics,
};
use fedistio_crds::{ClusterAccess, MemberCluster};
use futures::StreamExt as _;
use kube::{
    Api, Client, ResourceExt as _,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event},
    },
};
use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};
use tokio::task::JoinSet;

struct Running {
    access: ClusterAccess,
    generation: Arc<AtomicI64>,
    monitor: tokio::task::AbortHandle,
}

/// Keeps `fleet` equal to the `MemberCluster`s of `host`, forever.
pub async fn run_registry(host: Client, fleet: Fleet, metrics: Metrics) {
    let api: Api<MemberCluster> = Api::all(host.clone());
    let mut stream = std::pin::pin!(watcher::watcher(api, watcher::Config::default()).default_backoff());
    let mut registry = Registry { host, fleet, metrics, running: HashMap::new(), tasks: JoinSet::new() };
    let mut listed = HashSet::new();
    while let Some(event) = stream.next().await {
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(cluster)) => {
                listed.insert(cluster.name_any());
                registry.applied(cluster);
            }
            Ok(Event::InitDone) => {
                let gone: Vec<_> =
                    registry.running.keys().filter(|name| !listed.contains(*name)).cloned().collect();
                for name in &gone {
                    registry.deleted(name);
                }
                registry.fleet.set_listed();
            }
            Ok(Event::Apply(cluster)) => registry.applied(cluster),
            Ok(Event::Delete(cluster)) => registry.deleted(&cluster.name_any()),
            Err(error) => tracing::warn!(%error, "the watch of MemberClusters failed; it is tried again"),
        }
        while registry.tasks.try_join_next().is_some() {}
    }
}

struct Registry {
    host: Client,
    fleet: Fleet,
    metrics: Metrics,
    running: HashMap<String, Running>,
    tasks: JoinSet<()>,
}

impl Registry {
    fn applied(&mut self, cluster: MemberCluster) {
        let name = cluster.name_any();
        self.fleet.add(&name);
        self.fleet.update(&name, |view| {
            view.labels = cluster.labels().clone();
            view.network.clone_from(&cluster.spec.network);
        });
        // A relabelled cluster keeps its connection; only another access needs another one.
        let generation = cluster.metadata.generation.unwrap_or(0);
        if let Some(running) = self.running.get(&name)
            && running.access == cluster.spec.access
        {
            running.generation.store(generation, Ordering::Release);
            return;
        }
        if let Some(old) = self.running.remove(&name) {
            old.monitor.abort();
            self.fleet.replace_worker(&name, None);
        }
        let (access, generation) = (cluster.spec.access.clone(), Arc::new(AtomicI64::new(generation)));
        let monitor = Monitor {
            host: self.host.clone(),
            fleet: self.fleet.clone(),
            metrics: self.metrics.clone(),
            cluster,
            generation: Arc::clone(&generation),
        };
        let monitor = self.tasks.spawn(monitor.run());
        self.running.insert(name, Running { access, generation, monitor });
    }

    fn deleted(&mut self, name: &str) {
        if let Some(old) = self.running.remove(name) {
            old.monitor.abort();
        }
        self.fleet.remove(name);
    }
}
