//! The loop over a cluster's pods.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::{Binding, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::controller::{Action, Config};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::utils::Backoff;
use kube::runtime::{Controller, watcher};
use kube::{Api, Client, ResourceExt as _};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::Setup;
use super::image::{Image, image};
use super::istiod::{self, Home};
use super::processes::{ProcessState, Processes};
use super::schedule::{NodeInfo, choose};
use super::status::{Facts, State, completes, report};
use crate::binaries::Binaries;

/// Pods that are worked on at the same time, in one cluster.
const CONCURRENCY: u16 = 16;
/// How long a process may take to end after it was asked to.
const GRACE: Duration = Duration::from_secs(5);
/// A failed step is tried again after this, and a pod that waits for something is looked at again.
const RETRY: Duration = Duration::from_secs(1);

/// What the loop works with.
pub(super) struct Context {
    client: Client,
    home: Home,
    nodes: Vec<NodeInfo>,
    binaries: Binaries,
    processes: Arc<Processes>,
    turn: AtomicUsize,
    next_ip: AtomicU32,
    ips: Mutex<HashMap<String, String>>,
    index: u8,
}

/// The running loop.
pub(super) struct Running {
    pub(super) reader: Store<Pod>,
    pub(super) task: JoinHandle<()>,
}

#[derive(Debug)]
struct Failed(anyhow::Error);

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.0)
    }
}

impl std::error::Error for Failed {}

/// Always the same short wait: a cluster that was stopped by a test is to be served again as soon as it is back.
struct Steady;

impl Iterator for Steady {
    type Item = Duration;
    fn next(&mut self) -> Option<Duration> {
        Some(Duration::from_millis(500))
    }
}

impl Backoff for Steady {
    fn reset(&mut self) {}
}

/// Begins the loop. `wakes` asks to look at all pods again, which costs nothing for those whose status stands.
pub(super) fn run(context: Arc<Context>, wakes: mpsc::UnboundedReceiver<()>) -> Running {
    let wakes = stream::unfold(wakes, |mut receiver| async { Some((receiver.recv().await?, receiver)) });
    let controller = Controller::new(Api::<Pod>::all(context.client.clone()), watcher::Config::default())
        .with_config(Config::default().concurrency(CONCURRENCY))
        .trigger_backoff(Steady)
        .reconcile_all_on(wakes);
    let reader = controller.store();
    let task = tokio::spawn(
        controller
            .run(
                |pod, context| async move { context.reconcile(&pod).await.map_err(Failed) },
                |pod, error, _| {
                    tracing::debug!("pod {}: {error}", pod.name_any());
                    Action::requeue(RETRY)
                },
                context,
            )
            .for_each(|_| async {}),
    );
    Running { reader, task }
}

impl Context {
    pub(super) fn new(
        client: Client,
        setup: &Setup,
        nodes: Vec<NodeInfo>,
        processes: Arc<Processes>,
    ) -> Self {
        Self {
            client,
            home: Home {
                cluster: setup.cluster.clone(),
                server: setup.server.clone(),
                ca: setup.ca.clone(),
                pods: setup.pods.clone(),
                logs: setup.logs.clone(),
                watchdog: Arc::clone(&setup.watchdog),
            },
            nodes,
            binaries: setup.binaries.clone(),
            processes,
            turn: AtomicUsize::new(0),
            next_ip: AtomicU32::new(1),
            ips: Mutex::default(),
            index: setup.index,
        }
    }

    /// Ends processes whose pods went without being seen terminating, as after a forced deletion.
    pub(super) async fn forget_deleted(&self, pods: &Store<Pod>) {
        for (uid, namespace, name) in self.processes.pods() {
            let known = pods.get(&ObjectRef::new(&name).within(&namespace));
            if known.is_none_or(|pod| pod.metadata.uid.as_deref() != Some(uid.as_str())) {
                self.end(&uid).await;
            }
        }
    }

    async fn end(&self, uid: &str) {
        if let Some(mut entry) = self.processes.take(uid) {
            entry.volumes.abort_all();
            if let Some(process) = &mut entry.process {
                process.stop(GRACE).await.ok();
            }
        }
    }

    async fn reconcile(&self, pod: &Pod) -> anyhow::Result<Action> {
        let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
        let api = Api::<Pod>::namespaced(self.client.clone(), &namespace);
        let uid = pod.uid().unwrap_or_default();
        if pod.metadata.deletion_timestamp.is_some() {
            self.end(&uid).await;
            self.ips.lock().unwrap_or_else(PoisonError::into_inner).remove(&uid);
            if pod.finalizers().is_empty() || pod.metadata.deletion_grace_period_seconds != Some(0) {
                let now = DeleteParams {
                    grace_period_seconds: Some(0),
                    preconditions: Some(Preconditions { uid: Some(uid), resource_version: None }),
                    ..DeleteParams::default()
                };
                gone_is_fine(api.delete(&name, &now).await.map(drop))?;
            }
            return Ok(Action::await_change());
        }
        if pod.spec.as_ref().is_none_or(|spec| spec.node_name.as_deref().unwrap_or_default().is_empty()) {
            return self.bind(pod, &api).await;
        }
        if matches!(
            pod.status.as_ref().and_then(|status| status.phase.as_deref()),
            Some("Succeeded" | "Failed")
        ) {
            return Ok(Action::await_change());
        }
        let (state, restarts) = self.state(pod, &uid).await;
        let again = matches!(state, State::Waiting { .. });
        let facts = Facts { state, restarts, ip: self.ip(pod, &uid) };
        if let Some(status) = report(pod, &facts, &Time(jiff::Timestamp::now())) {
            // The UID lets a pod that was replaced under the same name be.
            let patch = serde_json::json!({"metadata": {"uid": uid}, "status": status});
            let patched = api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&patch)).await;
            gone_is_fine(patched.map(drop))?;
        }
        Ok(if again { Action::requeue(RETRY) } else { Action::await_change() })
    }

    async fn bind(&self, pod: &Pod, api: &Api<Pod>) -> anyhow::Result<Action> {
        // Pods of another scheduler are its own business, as are gated ones.
        let gated =
            pod.spec.as_ref().is_some_and(|spec| spec.scheduling_gates.iter().flatten().next().is_some());
        let Some(node) =
            choose(pod, &self.nodes, self.turn.fetch_add(1, Ordering::Relaxed)).filter(|_| !gated)
        else {
            return Ok(Action::await_change());
        };
        let target = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Node".to_owned()),
            name: Some(node.name.clone()),
            ..ObjectReference::default()
        };
        let mut binding = Binding { target, ..Binding::default() };
        binding.metadata.name = pod.metadata.name.clone();
        binding.metadata.namespace = pod.metadata.namespace.clone();
        let bound: Result<serde_json::Value, _> =
            api.create_subresource("binding", &pod.name_any(), &PostParams::default(), &binding).await;
        gone_is_fine(bound.map(drop))?;
        Ok(Action::await_change())
    }

    async fn state(&self, pod: &Pod, uid: &str) -> (State, i32) {
        let containers = pod.spec.as_ref().map(|spec| spec.containers.as_slice()).unwrap_or_default();
        let images = containers.iter().filter_map(|container| container.image.as_deref());
        let held = images.clone().any(|image| self.processes.is_held(image));
        if let Some(Image::Istiod(version)) = images.map(image).next() {
            return self.istiod(pod, uid, &version, held).await;
        }
        let state = if completes(pod) { State::Completed } else { State::Running { ready: !held } };
        (state, 0)
    }

    async fn istiod(&self, pod: &Pod, uid: &str, version: &str, held: bool) -> (State, i32) {
        if self.processes.state(uid).is_none() {
            let Some(binary) = self.binaries.istiod_if_built(version) else {
                let message = format!(
                    "the test bed has no istiod {version}: build it with 'testbed build --istio {version}', or name it in the bed's builder"
                );
                return (State::Waiting { reason: "ImagePullBackOff".to_owned(), message }, 0);
            };
            match istiod::start(&self.client, &self.home, pod, version, &binary).await {
                Ok(entry) => self.processes.insert(uid, entry),
                Err(error) => {
                    let reason = "ContainerCreating".to_owned();
                    return (State::Waiting { reason, message: format!("{error:#}") }, 0);
                }
            }
        }
        match self.processes.state(uid) {
            Some((ProcessState::Running { healthy }, restarts)) => {
                (State::Running { ready: healthy && !held }, restarts)
            }
            Some((ProcessState::BackOff { last_exit }, restarts)) => {
                let message = format!("back-off restarting failed container: {last_exit}");
                (State::Waiting { reason: "CrashLoopBackOff".to_owned(), message }, restarts)
            }
            None => (State::Running { ready: false }, 0),
        }
    }

    /// An address that stays the pod's; nothing listens there.
    fn ip(&self, pod: &Pod, uid: &str) -> String {
        if let Some(ip) = pod.status.as_ref().and_then(|status| status.pod_ip.clone()) {
            return ip;
        }
        let mut ips = self.ips.lock().unwrap_or_else(PoisonError::into_inner);
        ips.entry(uid.to_owned())
            .or_insert_with(|| {
                let [_, _, high, low] = self.next_ip.fetch_add(1, Ordering::Relaxed).to_be_bytes();
                format!("10.{}.{high}.{low}", 200_u8.saturating_add(self.index))
            })
            .clone()
    }
}

/// A pod that was deleted or replaced meanwhile is no failure.
fn gone_is_fine(result: kube::Result<()>) -> anyhow::Result<()> {
    match result {
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
        other => Ok(other?),
    }
}
