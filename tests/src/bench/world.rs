//! The clusters of a run, the operator in them, and what its process has cost so far.

use super::{
    sight::Sight,
    target::{NAMESPACE, Target},
};
use crate::{
    Cluster, Operator, TestBed,
    install::{self, Installation, USER, eventually},
};
use anyhow::{Context as _, Result, ensure};
use fedistio_federation::cluster::connect;
use futures::future::try_join_all;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Release whose CRDs the members get.
const ISTIO: &str = "1.29.1";
/// Bound of everything that takes seconds.
pub(super) const BOUND: Duration = Duration::from_mins(2);
/// How often the operator's CPU seconds are read while waiting until it is steady.
const SAMPLE: Duration = Duration::from_millis(100);
/// Samples in the window in which a steady operator uses next to nothing.
const WINDOW: usize = 10;
/// What a steady operator may use in that window, CPU seconds: two ticks of the kernel's clock.
const STEADY: f64 = 0.02;

pub(super) struct World {
    pub(super) bed: TestBed,
    /// FederatedVirtualServices of the host.
    pub(super) host: Target,
    /// VirtualServices of each member.
    pub(super) members: Vec<Target>,
    pub(super) sight: Sight,
    /// In flight to the host while objects are created or deleted.
    pub(super) in_flight: usize,
    installation: Installation,
    operator: Option<Operator>,
    runs: u32,
    cpu_of_ended: f64,
    peak_of_ended: u64,
}

impl World {
    /// Starts the clusters and installs the CRDs and permissions, but not the operator.
    pub(super) async fn start(members: usize, in_flight: usize) -> Result<Self> {
        let bed = TestBed::builder().members(members).build().await?;
        try_join_all(bed.members.iter().map(|member| install::apply_istio_crds(member, ISTIO))).await?;
        let installation = Installation::install(&bed).await?;
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
        for cluster in bed.clusters() {
            install::apply(cluster, namespace.clone()).await?;
        }
        let host = Target::federated("host", bare_client(&bed.host).await?);
        let clients: Vec<Client> = try_join_all(bed.members.iter().map(bare_client)).await?;
        let targets: Vec<_> = bed
            .members
            .iter()
            .zip(&clients)
            .map(|(member, client)| Target::virtual_services(member.name(), client.clone()))
            .collect();
        for target in targets.iter().chain([&host]) {
            let list = || target.list(kube::api::ListParams::default().limit(1));
            eventually("the CRDs are served", BOUND, list).await?;
        }
        Ok(Self {
            sight: Sight::open(&clients),
            host,
            members: targets,
            in_flight,
            installation,
            operator: None,
            runs: 0,
            cpu_of_ended: 0.0,
            peak_of_ended: 0,
            bed,
        })
    }

    /// Numbers of all members.
    pub(super) fn everywhere(&self) -> Vec<usize> {
        (0..self.members.len()).collect()
    }

    /// Starts the operator as its service account, with its usual logging.
    pub(super) async fn start_operator(&mut self) -> Result<()> {
        self.runs += 1;
        let log = self.bed.logs().join(format!("operator-{}.log", self.runs));
        let operator = Operator::builder(self.installation.kubeconfig(), log)
            .args(["--metrics-address", "127.0.0.1:0"])
            .start()
            .await?;
        self.operator = Some(operator);
        Ok(())
    }

    /// Ends it with SIGTERM and waits until it has ended.
    pub(super) async fn stop_operator(&mut self) -> Result<()> {
        if let Some(operator) = self.operator.take() {
            self.cpu_of_ended += operator.cpu_seconds()?;
            self.peak_of_ended = self.peak_of_ended.max(operator.peak_rss_bytes()?);
            operator.stop().await?;
        }
        Ok(())
    }

    /// Registers every member with `fedistio join`, straight and not through the fault proxy, as the floor goes.
    pub(super) async fn join(&self) -> Result<()> {
        let host = self.bed.host.kubeconfig_path().display().to_string();
        for member in &self.bed.members {
            let kubeconfig = member.kubeconfig_path().display().to_string();
            let args = ["join", member.name(), "--kubeconfig", &host, "--cluster-kubeconfig", &kubeconfig];
            install::fedistio_ok(&args).await?;
        }
        Ok(())
    }

    fn operator(&self) -> Result<&Operator> {
        self.operator.as_ref().context("the operator does not run")
    }

    /// The end of the operator's log, for errors.
    pub(super) fn log_tail(&self) -> String {
        self.operator.as_ref().map(|operator| operator.log_tail(40)).unwrap_or_default()
    }

    /// CPU seconds of all processes of the operator in this run.
    pub(super) fn cpu_seconds(&self) -> Result<f64> {
        let now = self.operator.as_ref().map(Operator::cpu_seconds).transpose()?.unwrap_or(0.0);
        Ok(self.cpu_of_ended + now)
    }

    /// Resident memory of the operator now, MB.
    pub(super) fn rss_mb(&self) -> Result<f64> {
        Ok(megabytes(self.operator()?.rss_bytes()?))
    }

    /// The most resident memory of any process of the operator in this run, MB.
    pub(super) fn peak_rss_mb(&self) -> Result<f64> {
        let now = self.operator.as_ref().map(Operator::peak_rss_bytes).transpose()?.unwrap_or(0);
        Ok(megabytes(self.peak_of_ended.max(now)))
    }

    /// Waits until the operator has used next to no CPU for a second; returns when that second began.
    pub(super) async fn steady(&self) -> Result<Instant> {
        let deadline = Instant::now() + BOUND;
        let mut samples: VecDeque<(Instant, f64)> = VecDeque::new();
        loop {
            let used = self.operator()?.cpu_seconds()?;
            samples.push_back((Instant::now(), used));
            if samples.len() > WINDOW
                && let Some((began, before)) = samples.pop_front()
                && used - before <= STEADY
            {
                return Ok(began);
            }
            ensure!(Instant::now() < deadline, "the operator is not steady within {} s", BOUND.as_secs());
            tokio::time::sleep(SAMPLE).await;
        }
    }

    /// Where the members' audit logs end now.
    pub(super) fn marks(&self) -> Result<Vec<crate::AuditMark>> {
        self.bed.members.iter().map(Cluster::audit_mark).collect()
    }

    /// The operator's writes to each member since then, without those to this object.
    pub(super) fn writes_since(&self, marks: &[crate::AuditMark], without: &str) -> Result<Vec<usize>> {
        let members = self.bed.members.iter().zip(marks);
        members
            .map(|(member, mark)| {
                let writes = member.audit_writes_since(*mark, Some(USER))?;
                Ok(writes.iter().filter(|write| write.name != without).count())
            })
            .collect()
    }

    /// The operator's writes to the host since then, without those of its lease.
    pub(super) fn host_writes_since(&self, mark: crate::AuditMark) -> Result<usize> {
        let writes = self.bed.host.audit_writes_since(mark, Some(USER))?;
        Ok(writes.iter().filter(|write| write.resource != "leases").count())
    }

    /// Waits until the status of every object says that it is in sync in all members; returns when that was read.
    pub(super) async fn statuses_in_sync(&self, count: usize) -> Result<Instant> {
        let members = self.members.len();
        let question = || async {
            let objects = self.host.list(kube::api::ListParams::default()).await?;
            let good = |object: &&Value| {
                let status = &object["status"];
                status["observedGeneration"] == object["metadata"]["generation"]
                    && status["summary"]["inSync"] == members
            };
            let done = objects.iter().filter(good).count();
            ensure!(done >= count, "{done} of {count} objects are reported as in sync in {members} members");
            Ok(Instant::now())
        };
        eventually("every status says InSync", BOUND, question).await
    }
}

/// An administrator's client like the operator's own: one that repeats failed requests by itself would wait for longer and longer while a
/// member is away, and see late what is measured.
async fn bare_client(cluster: &Cluster) -> Result<Client> {
    let kubeconfig = Kubeconfig::from_yaml(cluster.kubeconfig()).context("not a kubeconfig")?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.default_retry = false;
    connect(config).context("no client can be made from the kubeconfig")
}

/// Bytes as MB (10⁶), exact to a kilobyte.
fn megabytes(bytes: u64) -> f64 {
    u32::try_from(bytes / 1000).map_or(f64::INFINITY, f64::from) / 1000.0
}

#[cfg(test)]
mod tests {
    #[test]
    fn bytes_become_megabytes() {
        assert!((super::megabytes(40_500_000) - 40.5).abs() < 1e-9);
    }
}
