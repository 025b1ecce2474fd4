//! Prometheus metrics of the federation core.

use crate::worker::{WriteError, Written};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use std::{sync::Arc, time::Duration};

/// Handles of the core's metrics; cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    writes: Family<WriteLabels, Counter>,
    latency: Family<ClusterLabels, Histogram, fn() -> Histogram>,
    queue: Family<ClusterLabels, Gauge>,
    ready: Family<ClusterLabels, Gauge>,
    drift: Family<ClusterLabels, Counter>,
    host_writes: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WriteLabels {
    cluster: String,
    operation: &'static str,
    result: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClusterLabels {
    cluster: String,
}

/// Seconds; from a fast local apply to the write timeout.
const BUCKETS: [f64; 10] = [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 15.0];

impl Metrics {
    /// Registers the metrics in `registry`.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            writes: Family::default(),
            latency: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            queue: Family::default(),
            ready: Family::default(),
            drift: Family::default(),
            host_writes: Counter::default(),
        };
        registry.register(
            "fedistio_member_writes",
            "Writes to members by operation and result",
            metrics.writes.clone(),
        );
        registry.register(
            "fedistio_member_write_seconds",
            "Time of a write to a member",
            metrics.latency.clone(),
        );
        registry.register(
            "fedistio_member_queue_depth",
            "Objects waiting or in flight",
            metrics.queue.clone(),
        );
        registry.register("fedistio_member_ready", "1 where the member is ready", metrics.ready.clone());
        registry.register("fedistio_drift", "Copies found changed by somebody else", metrics.drift.clone());
        registry.register("fedistio_host_writes", "Writes to the host", metrics.host_writes.clone());
        metrics
    }

    pub(crate) fn wrote(
        &self,
        cluster: &Arc<str>,
        operation: &'static str,
        result: &Result<Written, WriteError>,
        took: Duration,
    ) {
        let result = match result {
            Ok(_) => "Ok".to_owned(),
            Err(error) => error.copy_reason().to_string(),
        };
        let cluster = cluster.to_string();
        self.latency.get_or_create(&ClusterLabels { cluster: cluster.clone() }).observe(took.as_secs_f64());
        self.writes.get_or_create(&WriteLabels { cluster, operation, result }).inc();
    }

    pub(crate) fn queue_depth(&self, cluster: &Arc<str>, depth: usize) {
        let depth = i64::try_from(depth).unwrap_or(i64::MAX);
        self.queue.get_or_create(&ClusterLabels { cluster: cluster.to_string() }).set(depth);
    }

    pub(crate) fn ready(&self, cluster: &str, ready: bool) {
        self.ready.get_or_create(&ClusterLabels { cluster: cluster.to_owned() }).set(i64::from(ready));
    }

    pub(crate) fn drifted(&self, cluster: &str) {
        self.drift.get_or_create(&ClusterLabels { cluster: cluster.to_owned() }).inc();
    }

    pub(crate) fn wrote_host(&self) {
        self.host_writes.inc();
    }
}
