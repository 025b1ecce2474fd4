//! The pods of a cluster that are real processes of this machine.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::istiod::Ports;
use crate::process::{Process, Spec, Watchdog};

/// How often a process that is not ready yet is asked, and one that is.
const PROBE_FIRST: Duration = Duration::from_millis(250);
const PROBE_LATER: Duration = Duration::from_secs(3);
/// The first wait before a process that ended is started again; it doubles up to the last.
const BACK_OFF_FIRST: Duration = Duration::from_secs(1);
const BACK_OFF_LAST: Duration = Duration::from_secs(30);

/// The processes of one cluster, by pod UID, and which images are held back.
#[derive(Debug, Default)]
pub struct Processes {
    entries: Mutex<HashMap<String, Entry>>,
    held: Mutex<BTreeSet<String>>,
    /// `(namespace, name)` of Services that stand for a port of this machine, whatever they select.
    routes: Mutex<BTreeMap<(String, String), u16>>,
}

/// One pod's process.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) version: String,
    pub(super) image: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) ports: Ports,
    /// `None` while it waits to be started again.
    pub(super) process: Option<Process>,
    pub(super) spec: Spec,
    pub(super) watchdog: Arc<Watchdog>,
    pub(super) healthy: bool,
    pub(super) probed: Instant,
    pub(super) restarts: i32,
    pub(super) retry_at: Instant,
    pub(super) last_exit: String,
    /// Keeps the pod's volumes up to date for as long as it lives.
    pub(super) volumes: JoinSet<()>,
}

/// What others may know of a pod's process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodProcess {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// The version of istiod.
    pub version: String,
    /// Process id; `None` while it waits to be started again.
    pub pid: Option<u32>,
    /// Where it listens.
    pub ports: Ports,
    /// Whether its `/ready` answered 200 when last asked.
    pub healthy: bool,
    /// How often it was started again.
    pub restarts: i32,
    /// Its log.
    pub log: std::path::PathBuf,
}

/// The state that a pod's status is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ProcessState {
    Running { healthy: bool },
    BackOff { last_exit: String },
}

impl Processes {
    fn entries(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn held(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Pods with an image that contains `part` are not reported ready from now on.
    pub(super) fn hold(&self, part: &str) {
        self.held().insert(part.to_owned());
    }

    /// Takes back [`Processes::hold`].
    pub(super) fn release(&self, part: &str) {
        self.held().remove(part);
    }

    pub(super) fn is_held(&self, image: &str) -> bool {
        self.held().iter().any(|part| image.contains(part.as_str()))
    }

    /// Connections to this Service go to a loopback port from now on.
    pub(crate) fn route(&self, namespace: &str, service: &str, port: u16) {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        routes.insert((namespace.to_owned(), service.to_owned()), port);
    }

    /// The port of [`Processes::route`].
    pub(crate) fn routed(&self, namespace: &str, service: &str) -> Option<u16> {
        let routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        routes.get(&(namespace.to_owned(), service.to_owned())).copied()
    }

    /// All of them, by namespace and name.
    pub fn list(&self) -> Vec<PodProcess> {
        let mut all: Vec<_> = self
            .entries()
            .values()
            .map(|entry| PodProcess {
                namespace: entry.namespace.clone(),
                name: entry.name.clone(),
                version: entry.version.clone(),
                pid: entry.process.as_ref().map(Process::pid),
                ports: entry.ports,
                healthy: entry.healthy,
                restarts: entry.restarts,
                log: entry.spec.log.clone(),
            })
            .collect();
        all.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        all
    }

    /// The loopback port behind `target` of a ready pod with these labels, in turn where there are several.
    pub(crate) fn port_of_ready(
        &self,
        namespace: &str,
        selector: &BTreeMap<String, String>,
        target: &IntOrString,
    ) -> Option<u16> {
        if selector.is_empty() {
            return None;
        }
        let entries = self.entries();
        let mut fitting: Vec<_> = entries
            .values()
            .filter(|entry| entry.namespace == namespace && entry.healthy && !self.is_held(&entry.image))
            .filter(|entry| selector.iter().all(|(key, value)| entry.labels.get(key) == Some(value)))
            .filter_map(|entry| entry.ports.of(target))
            .collect();
        fitting.sort_unstable();
        let turn = usize::try_from(jiff::Timestamp::now().as_microsecond().unsigned_abs()).unwrap_or(0);
        (!fitting.is_empty()).then(|| fitting[turn % fitting.len()])
    }

    pub(super) fn state(&self, uid: &str) -> Option<(ProcessState, i32)> {
        self.entries().get(uid).map(|entry| {
            let state = match entry.process {
                Some(_) => ProcessState::Running { healthy: entry.healthy },
                None => ProcessState::BackOff { last_exit: entry.last_exit.clone() },
            };
            (state, entry.restarts)
        })
    }

    pub(super) fn insert(&self, uid: &str, entry: Entry) {
        self.entries().insert(uid.to_owned(), entry);
    }

    /// Takes a pod's process out of the table, so that no traffic goes to it any more.
    pub(super) fn take(&self, uid: &str) -> Option<Entry> {
        self.entries().remove(uid)
    }

    /// Ends all, as their nodes are gone.
    pub(super) fn end_all(&self) {
        self.entries().clear();
    }

    /// The UIDs of pods with a process, with their namespaces and names.
    pub(super) fn pods(&self) -> Vec<(String, String, String)> {
        let pods = self.entries();
        pods.iter().map(|(uid, entry)| (uid.clone(), entry.namespace.clone(), entry.name.clone())).collect()
    }

    /// Looks after all processes once: asks those that are due, notes ends, starts again. True when the
    /// state of any has changed.
    pub(super) async fn tend(&self) -> bool {
        let now = Instant::now();
        let mut changed = false;
        let mut due = Vec::new();
        for (uid, entry) in self.entries().iter_mut() {
            changed |= tend_one(entry, now);
            let interval = if entry.healthy { PROBE_LATER } else { PROBE_FIRST };
            if entry.process.is_some() && now.duration_since(entry.probed) >= interval {
                entry.probed = now;
                due.push((uid.clone(), entry.ports.http));
            }
        }
        let answers = futures::future::join_all(
            due.into_iter().map(|(uid, port)| async move { (uid, ready(port).await) }),
        );
        for (uid, healthy) in answers.await {
            if let Some(entry) = self.entries().get_mut(&uid)
                && entry.process.is_some()
                && entry.healthy != healthy
            {
                entry.healthy = healthy;
                changed = true;
            }
        }
        changed
    }
}

/// Notes an end and starts again when its time has come; true when something changed.
fn tend_one(entry: &mut Entry, now: Instant) -> bool {
    if let Some(process) = &mut entry.process {
        let Some(status) = process.ended() else { return false };
        let wait = BACK_OFF_FIRST * 2u32.saturating_pow(u32::try_from(entry.restarts).unwrap_or(0).min(10));
        entry.last_exit = format!("{status}; its log is {}", entry.spec.log.display());
        entry.retry_at = now + wait.min(BACK_OFF_LAST);
        entry.process = None;
        entry.healthy = false;
        return true;
    }
    if now < entry.retry_at {
        return false;
    }
    match Process::start(entry.spec.clone(), Some(Arc::clone(&entry.watchdog))) {
        Ok(process) => {
            entry.process = Some(process);
            entry.restarts += 1;
        }
        Err(error) => {
            entry.last_exit = format!("{error:#}");
            entry.retry_at = now + BACK_OFF_LAST;
        }
    }
    true
}

/// Whether `GET /ready` on a loopback port answers 200 within a second.
async fn ready(port: u16) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.write_all(b"GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
        let mut head = [0; 12];
        stream.read_exact(&mut head).await?;
        Ok::<_, std::io::Error>(head.ends_with(b" 200"))
    };
    matches!(tokio::time::timeout(Duration::from_secs(1), ask).await, Ok(Ok(true)))
}
