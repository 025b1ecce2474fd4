//! The nodes of a cluster: binds pods, reports them running, runs istiod for real, and gives load balancers an address.
//!
//! No container is ever started. A pod whose image is `…/pilot:VERSION` becomes a process of that version;
//! every other pod is reported ready at once, and a pod that runs to its end is reported completed.

mod env;
mod image;
mod istiod;
mod nodes;
mod pods;
mod processes;
mod schedule;
mod services;
mod status;
mod volumes;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use kube::Client;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

pub use istiod::Ports;
pub use processes::{PodProcess, Processes};
pub use schedule::NodeInfo;

use crate::binaries::Binaries;
use crate::process::Watchdog;

/// How often the processes are looked after.
const TEND: Duration = Duration::from_millis(250);

/// What a runner is told at its start.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) cluster: String,
    /// Position of the cluster in the bed; addresses are made from it.
    pub(crate) index: u8,
    pub(crate) region: String,
    pub(crate) nodes: usize,
    /// The Kubernetes version that nodes report, `v1.34.4`.
    pub(crate) version: String,
    /// URL of the API server for istiod.
    pub(crate) server: String,
    pub(crate) ca: String,
    pub(crate) pods: PathBuf,
    pub(crate) logs: PathBuf,
    pub(crate) watchdog: Arc<Watchdog>,
    pub(crate) binaries: Binaries,
}

/// A cluster's running nodes; they end when it is dropped.
#[derive(Debug)]
pub struct NodeRunner {
    processes: Arc<Processes>,
    wake: mpsc::UnboundedSender<()>,
    tasks: Vec<JoinHandle<()>>,
}

impl NodeRunner {
    /// Creates the nodes and begins.
    pub(crate) async fn start(client: Client, setup: Setup, processes: Arc<Processes>) -> Result<Self> {
        let nodes = nodes::create(&client, &setup).await?;
        let (wake, wakes) = mpsc::unbounded_channel();
        let context = Arc::new(pods::Context::new(client.clone(), &setup, nodes, Arc::clone(&processes)));
        let store = pods::run(Arc::clone(&context), wakes);
        let (tended, changed) = (Arc::clone(&processes), wake.clone());
        let tend = tokio::spawn(async move {
            let mut interval = tokio::time::interval(TEND);
            interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                interval.tick().await;
                context.forget_deleted(&store.reader).await;
                if tended.tend().await {
                    changed.send(()).ok();
                }
            }
        });
        let balancers = tokio::spawn(services::run(client, setup.index));
        Ok(Self { processes, wake, tasks: vec![store.task, tend, balancers] })
    }

    /// Pods with an image that contains `part` (`1.29.1`, `pilot:1.29.1`, `proxyv2`) are no longer reported ready, though their
    /// process may run, until [`NodeRunner::release`].
    pub fn hold_ready(&self, part: &str) {
        self.processes.hold(part);
        self.wake.send(()).ok();
    }

    /// Takes back [`NodeRunner::hold_ready`] for the same text.
    pub fn release(&self, part: &str) {
        self.processes.release(part);
        self.wake.send(()).ok();
    }

    /// The API server's connections to this Service (of webhooks) go to a port of 127.0.0.1 from now on, for a server that is no
    /// pod, such as an operator under test.
    pub fn route_service(&self, namespace: &str, service: &str, port: u16) {
        self.processes.route(namespace, service, port);
    }

    /// The pods that are real processes now.
    pub fn processes(&self) -> Vec<PodProcess> {
        self.processes.list()
    }
}

impl Drop for NodeRunner {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        self.processes.end_all();
    }
}
