//! The worker: one per member, and the only thing that writes to it.

mod error;
mod job;
mod queue;

pub use error::WriteError;
pub(crate) use error::chain;
pub use job::Written;
pub(crate) use job::dynamic_api;

use crate::{
    cluster::FleetEvents,
    metrics::Metrics,
    observe::{Observation, watch_copies},
    render::{Manifest, ObjectKey},
};
use fedistio_crds::ResourceType;
use job::Task;
use kube::Client;
use queue::Queue;
use serde_json::Value;
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    sync::{Notify, oneshot},
    task::{AbortHandle, JoinSet},
};

/// Writes in flight to one member. Each is a connection (kube speaks HTTP/1.1); more does not make a kube-apiserver faster.
const IN_FLIGHT: usize = 16;
/// So many failures in a row that speak of the member as a whole open its circuit.
const OPEN_AFTER: usize = 3;
/// Wait before a write is tried again while the circuit is closed.
const RETRY_WAIT: Duration = Duration::from_millis(250);

type Reply = Box<dyn FnOnce(Result<Written, WriteError>) + Send>;

struct Job {
    task: Task,
    /// Try again for as long as the member is unreachable, instead of answering with that error.
    persistent: bool,
    reply: Reply,
}

/// A member cluster that can be written to. Cheap to clone; the last clone ends the worker and its watches.
#[derive(Clone)]
pub struct Member {
    shared: Arc<Shared>,
    tasks: Arc<Tasks>,
}

struct Shared {
    name: Arc<str>,
    client: Client,
    queue: Mutex<Queue<ObjectKey, Job>>,
    wake: Notify,
    open: AtomicBool,
    failures: AtomicUsize,
    failed: Notify,
    metrics: Metrics,
}

struct Tasks {
    shared: Arc<Shared>,
    events: FleetEvents,
    workers: Mutex<JoinSet<()>>,
    watches: Mutex<HashMap<Arc<ResourceType>, AbortHandle>>,
}

impl Drop for Tasks {
    fn drop(&mut self) {
        for watch in lock(&self.watches).values() {
            watch.abort();
        }
        for job in lock(&self.shared.queue).drain() {
            (job.reply)(Err(WriteError::Stopped));
        }
    }
}

impl Member {
    /// Starts the worker of the member `name`. Must be called within a tokio runtime.
    pub(crate) fn start(name: Arc<str>, client: Client, events: FleetEvents, metrics: Metrics) -> Self {
        let shared = Arc::new(Shared {
            name,
            client,
            queue: Mutex::new(Queue::new()),
            wake: Notify::new(),
            open: AtomicBool::new(false),
            failures: AtomicUsize::new(0),
            failed: Notify::new(),
            metrics,
        });
        let mut workers = JoinSet::new();
        for _ in 0..IN_FLIGHT {
            workers.spawn(work(Arc::clone(&shared)));
        }
        let tasks = Tasks {
            shared: Arc::clone(&shared),
            events,
            workers: Mutex::new(workers),
            watches: Mutex::default(),
        };
        Self { shared, tasks: Arc::new(tasks) }
    }

    /// Name of the `MemberCluster`.
    pub fn name(&self) -> &Arc<str> {
        &self.shared.name
    }

    /// A client for reading. Writes go through the worker.
    pub fn client(&self) -> Client {
        self.shared.client.clone()
    }

    /// Starts to watch the copies of a type, once; what is seen arrives as events of the fleet.
    pub fn watch(&self, resource: &Arc<ResourceType>) {
        let mut watches = lock(&self.tasks.watches);
        if watches.contains_key(resource) {
            return;
        }
        let watch = watch_copies(
            Arc::clone(&self.shared.name),
            self.client(),
            Arc::clone(resource),
            self.tasks.events.clone(),
        );
        let handle = lock(&self.tasks.workers).spawn(watch);
        watches.insert(Arc::clone(resource), handle);
    }

    /// Queues a server-side apply; the newest job of an object wins. While the member is unreachable the job waits.
    ///
    /// `force` takes fields over from other managers: for copies that are known to be ours.
    pub fn submit_apply(
        &self,
        manifest: Arc<Manifest>,
        force: bool,
        reply: impl FnOnce(Result<Written, WriteError>) + Send + 'static,
    ) {
        let key = manifest.key.clone();
        self.push(
            key,
            Job { task: Task::Apply { manifest, force }, persistent: true, reply: Box::new(reply) },
        );
    }

    /// Queues a deletion of the object, if it still has this UID (`None`: whatever it is). While the member is unreachable the job waits.
    pub fn submit_delete(
        &self,
        key: ObjectKey,
        uid: Option<String>,
        reply: impl FnOnce(Result<Written, WriteError>) + Send + 'static,
    ) {
        self.push(key, Job { task: Task::Delete { uid }, persistent: true, reply: Box::new(reply) });
    }

    /// Takes back what is queued for an object; a request that is under way is not sent again.
    pub fn cancel(&self, key: &ObjectKey) {
        let job = lock(&self.shared.queue).cancel(key);
        if let Some(job) = job {
            (job.reply)(Err(WriteError::Superseded));
        }
    }

    /// Applies a manifest and waits for the answer: the object as it is now.
    ///
    /// # Errors
    /// What the server or the network says; an unreachable member is an error at once, not a wait.
    pub async fn apply(&self, manifest: Arc<Manifest>, force: bool) -> Result<Arc<Observation>, WriteError> {
        let key = manifest.key.clone();
        match self.call(key, Task::Apply { manifest, force }).await? {
            Written::Applied { observation, .. } => Ok(observation),
            other => Err(WriteError::Protocol(format!("unexpected outcome of an apply: {other:?}"))),
        }
    }

    /// Deletes an object of this UID (`None`: whatever it is) and waits for the answer. An object that is not there is no error.
    ///
    /// # Errors
    /// What the server or the network says.
    pub async fn delete(&self, key: &ObjectKey, uid: Option<String>) -> Result<Written, WriteError> {
        self.call(key.clone(), Task::Delete { uid }).await
    }

    /// Sends a JSON merge patch to an object and waits for the answer.
    ///
    /// # Errors
    /// What the server or the network says.
    pub async fn merge(&self, key: &ObjectKey, patch: Value) -> Result<(), WriteError> {
        self.call(key.clone(), Task::Merge { patch }).await.map(|_| ())
    }

    /// Is the circuit open: did the last writes fail as if the member were away?
    pub(crate) fn is_open(&self) -> bool {
        self.shared.open.load(Ordering::Acquire)
    }

    /// Waits until the circuit opens.
    pub(crate) async fn opened(&self) {
        self.shared.failed.notified().await;
    }

    /// The member answers again: waiting jobs go on.
    pub(crate) fn close_circuit(&self) {
        self.shared.failures.store(0, Ordering::Release);
        self.shared.open.store(false, Ordering::Release);
        self.shared.wake.notify_waiters();
    }

    async fn call(&self, key: ObjectKey, task: Task) -> Result<Written, WriteError> {
        if self.is_open() {
            return Err(WriteError::Unreachable(
                "its last requests failed; waiting for it to answer".to_owned(),
            ));
        }
        let (sender, receiver) = oneshot::channel();
        let reply = Box::new(move |result| drop(sender.send(result)));
        self.push(key, Job { task, persistent: false, reply });
        receiver.await.unwrap_or(Err(WriteError::Stopped))
    }

    fn push(&self, key: ObjectKey, job: Job) {
        let (replaced, depth) = {
            let mut queue = lock(&self.shared.queue);
            (queue.push(key, job), queue.len())
        };
        self.shared.metrics.queue_depth(&self.shared.name, depth);
        if let Some(old) = replaced {
            (old.reply)(Err(WriteError::Superseded));
        }
        self.shared.wake.notify_one();
    }
}

async fn work(shared: Arc<Shared>) {
    loop {
        let wake = shared.wake.notified();
        let next = if shared.open.load(Ordering::Acquire) { None } else { lock(&shared.queue).pop() };
        let Some((key, job)) = next else {
            wake.await;
            continue;
        };
        // Another worker may take the next one: notify_one wakes one worker, and keeps one permit at the most.
        shared.wake.notify_one();
        let started = Instant::now();
        let result = job::run(&shared.client, &key, &job.task).await;
        shared.metrics.wrote(&shared.name, job.task.name(), &result, started.elapsed());
        settle(&shared, key, job, result).await;
    }
}

async fn settle(shared: &Shared, key: ObjectKey, job: Job, result: Result<Written, WriteError>) {
    let unreachable = result.as_ref().err().is_some_and(WriteError::is_unreachable);
    if !unreachable {
        shared.failures.store(0, Ordering::Release);
    } else if shared.failures.fetch_add(1, Ordering::AcqRel) + 1 >= OPEN_AFTER
        && !shared.open.swap(true, Ordering::AcqRel)
    {
        tracing::warn!(cluster = %shared.name, error = ?result.as_ref().err(), "writes are held until the cluster answers");
        shared.failed.notify_one();
    }
    if unreachable && job.persistent {
        if !shared.open.load(Ordering::Acquire) {
            tokio::time::sleep(RETRY_WAIT).await;
        }
        if let Some(old) = lock(&shared.queue).retry(&key, job) {
            (old.reply)(Err(WriteError::Superseded));
        }
        shared.wake.notify_one();
        return;
    }
    let depth = {
        let mut queue = lock(&shared.queue);
        queue.done(&key);
        queue.len()
    };
    shared.metrics.queue_depth(&shared.name, depth);
    (job.reply)(result);
    shared.wake.notify_one();
}

/// A panic elsewhere can't leave these values half changed: every change is one call.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Task {
    /// Name of the operation in metrics.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Apply { .. } => "apply",
            Self::Delete { .. } => "delete",
            Self::Merge { .. } => "merge",
        }
    }
}
