//! Keeps one member connected: makes its client, starts its worker, probes its health, and writes its status.

use crate::{
    cluster::{
        Fleet,
        access::{make_client, read_kubeconfig},
        health::Health,
        view::parse_kubernetes_version,
    },
    metrics::Metrics,
    status::replace_status,
    worker::{Member, chain},
};
use fedistio_crds::{ConditionStatus, MemberCluster, MemberClusterStatus, set_condition};
use futures::TryStreamExt as _;
use k8s_openapi::{
    api::core::v1::Node,
    apimachinery::pkg::{apis::meta::v1::Time, version::Info},
    jiff::Timestamp,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ListParams, PatchParams},
};
use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};
use tokio::time::{Instant, sleep, timeout};

/// Time between probes of a member that answers.
const PROBE_PERIOD: Duration = Duration::from_secs(10);
/// Time between probes of one that has just stopped to answer: three in a row make it not ready.
const DOUBT_PERIOD: Duration = Duration::from_secs(1);
/// Time between probes of one that is not ready: it is caught up soon after it is back.
const RECOVERY_PERIOD: Duration = Duration::from_millis(500);
/// A probe without an answer by then has failed.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);
/// Region, zones and version are read again this often.
const FACTS_PERIOD: Duration = Duration::from_mins(10);
/// Nodes per page; only their metadata is read.
const NODES_PER_PAGE: u32 = 500;

/// Facts about a cluster that change rarely.
#[derive(Clone, Debug, Default, PartialEq)]
struct Facts {
    version: Option<String>,
    region: Option<String>,
    zones: Vec<String>,
}

/// The monitor of one member.
pub(crate) struct Monitor {
    pub(crate) host: Client,
    pub(crate) fleet: Fleet,
    pub(crate) metrics: Metrics,
    pub(crate) cluster: MemberCluster,
    /// Generation of the `MemberCluster` as the registry saw it last: changes that need no new connection move it on.
    pub(crate) generation: Arc<AtomicI64>,
}

/// Why a member is not ready, as condition reason and message.
struct NotReady {
    reason: &'static str,
    message: String,
    reachable: ConditionStatus,
}

impl Monitor {
    /// Runs until it is aborted.
    pub(crate) async fn run(mut self) {
        let name = self.cluster.name_any();
        let mut wait = RECOVERY_PERIOD;
        loop {
            match read_kubeconfig(&self.host, &self.cluster.spec.access).await {
                Ok((text, kubeconfig)) => {
                    let context = self.cluster.spec.access.kubeconfig.context.clone();
                    match make_client(kubeconfig, context).await {
                        Ok(client) => {
                            self.serve(&name, client, &text).await;
                            wait = RECOVERY_PERIOD;
                            continue;
                        }
                        Err(error) => self.access_failed(&name, (&error).into(), error.to_string()).await,
                    }
                }
                Err(error) => self.access_failed(&name, (&error).into(), error.to_string()).await,
            }
            sleep(wait).await;
            // A missing secret is looked for often at first: join writes secret and MemberCluster together.
            wait = (wait * 2).min(PROBE_PERIOD);
        }
    }

    async fn access_failed(&mut self, name: &str, reason: &'static str, message: String) {
        tracing::warn!(cluster = name, %message, "no access");
        self.publish(name, Err(NotReady { reason, message, reachable: ConditionStatus::Unknown }), None)
            .await;
    }

    /// Serves one client for as long as the secret holds the same kubeconfig.
    async fn serve(&mut self, name: &str, client: Client, text: &str) {
        let member = Member::start(name.into(), client.clone(), self.fleet.events(), self.metrics.clone());
        self.fleet.replace_worker(name, Some(member.clone()));
        let mut health = Health::default();
        let mut facts: Option<Facts> = None;
        let mut facts_due = Instant::now();
        loop {
            let probe = probe(&client).await;
            if probe.is_ok() && member.is_open() {
                member.close_circuit();
            }
            if probe.is_ok() && Instant::now() >= facts_due {
                match timeout(PROBE_TIMEOUT, read_facts(&client)).await {
                    Ok(Ok(read)) => {
                        facts = Some(read);
                        facts_due = Instant::now() + FACTS_PERIOD;
                    }
                    Ok(Err(error)) => {
                        tracing::warn!(cluster = name, error = %chain(&error), "version and nodes can't be read");
                        facts_due = Instant::now() + PROBE_PERIOD;
                    }
                    Err(_) => facts_due = Instant::now() + PROBE_PERIOD,
                }
            }
            let answers = probe.is_ok();
            health.probed(answers);
            let result = match probe {
                Ok(()) => Ok(()),
                Err(_) if health.is_ready() => Ok(()),
                Err(not_ready) => Err(not_ready),
            };
            let lost = result.is_err();
            self.publish(name, result, facts.as_ref()).await;
            if lost && self.kubeconfig_changed(text).await {
                tracing::info!(cluster = name, "the kubeconfig secret has changed: connecting anew");
                return;
            }
            let period = match (answers, health.is_ready()) {
                (true, _) => PROBE_PERIOD,
                (false, true) => DOUBT_PERIOD,
                (false, false) => RECOVERY_PERIOD,
            };
            tokio::select! {
                () = sleep(period) => {}
                () = member.opened() => {}
            }
        }
    }

    async fn kubeconfig_changed(&self, text: &str) -> bool {
        matches!(read_kubeconfig(&self.host, &self.cluster.spec.access).await, Ok((now, _)) if now != text)
    }

    /// Brings the view, the metric and the `MemberCluster`'s status up to date; writes only what has changed.
    async fn publish(&mut self, name: &str, result: Result<(), NotReady>, facts: Option<&Facts>) {
        let ready = result.is_ok();
        self.metrics.ready(name, ready);
        let message = result.as_ref().err().map(|not| not.message.clone()).unwrap_or_default();
        self.cluster.metadata.generation = Some(self.generation.load(Ordering::Acquire));
        let status = next_status(&self.cluster, result, facts, Timestamp::now());
        let since = status.last_transition_time.as_ref().map(|time| time.0);
        self.fleet.update(name, |view| {
            view.ready = ready;
            view.not_ready_message = message;
            view.not_ready_since = since.filter(|_| !ready);
            if let Some(facts) = facts {
                view.kubernetes_version = facts.version.as_deref().and_then(parse_kubernetes_version);
            }
        });
        if self.cluster.status.as_ref() == Some(&status) {
            return;
        }
        let api: Api<MemberCluster> = Api::all(self.host.clone());
        let written = match replace_status(&status).map_err(kube::Error::SerdeError) {
            Ok(patch) => api.patch_status(name, &PatchParams::default(), &patch).await,
            Err(error) => Err(error),
        };
        match written {
            Ok(_) => {
                self.metrics.wrote_host();
                self.cluster.status = Some(status);
            }
            Err(error) => tracing::warn!(cluster = name, error = %chain(&error), "status can't be written"),
        }
    }
}

fn next_status(
    cluster: &MemberCluster,
    result: Result<(), NotReady>,
    facts: Option<&Facts>,
    now: Timestamp,
) -> MemberClusterStatus {
    let mut status = cluster.status.clone().unwrap_or_default();
    let generation = cluster.metadata.generation;
    status.observed_generation = generation;
    if let Some(facts) = facts {
        status.kubernetes_version.clone_from(&facts.version);
        status.region.clone_from(&facts.region);
        status.zones.clone_from(&facts.zones);
    }
    let was_ready =
        status.conditions.iter().find(|condition| condition.type_ == "Ready").map(|c| c.status.clone());
    let (ready, reachable, reason, message) = match result {
        Ok(()) => {
            (ConditionStatus::True, ConditionStatus::True, "ClusterReady", "/readyz answers ok".to_owned())
        }
        Err(not) => (ConditionStatus::False, not.reachable, not.reason, not.message),
    };
    set_condition(&mut status.conditions, "Ready", ready, reason, &message, generation, now);
    let answer = match reachable {
        ConditionStatus::True => "the API server answers",
        ConditionStatus::False => "the API server does not answer",
        ConditionStatus::Unknown => "there is no access to ask with",
    };
    let reason = if reachable == ConditionStatus::True { "ClusterReachable" } else { "ClusterNotReachable" };
    set_condition(&mut status.conditions, "Reachable", reachable, reason, answer, generation, now);
    if was_ready.as_deref() != Some(ready.as_str()) {
        status.last_transition_time = Some(Time(now));
    }
    status
}

async fn probe(client: &Client) -> Result<(), NotReady> {
    let request = http_get("/readyz").map_err(|error| NotReady {
        reason: "ProbeFailed",
        message: error,
        reachable: ConditionStatus::Unknown,
    })?;
    match timeout(PROBE_TIMEOUT, client.request_text(request)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(kube::Error::Api(status))) if matches!(status.code, 401 | 403) => Err(NotReady {
            reason: "CredentialRefused",
            message: format!(
                "the API server refuses the credential: {}; join the cluster again to renew it",
                status.message
            ),
            reachable: ConditionStatus::True,
        }),
        Ok(Err(kube::Error::Api(status))) => Err(NotReady {
            reason: "ClusterNotReady",
            message: format!("/readyz answers {}: {}", status.code, status.message),
            reachable: ConditionStatus::True,
        }),
        Ok(Err(error)) => Err(NotReady {
            reason: "ClusterNotReachable",
            message: format!("the API server can't be reached: {}", chain(&error)),
            reachable: ConditionStatus::False,
        }),
        Err(_) => Err(NotReady {
            reason: "ClusterNotReachable",
            message: format!("the API server does not answer within {} s", PROBE_TIMEOUT.as_secs()),
            reachable: ConditionStatus::False,
        }),
    }
}

fn http_get(path: &str) -> Result<http::Request<Vec<u8>>, String> {
    http::Request::get(path).body(Vec::new()).map_err(|error| error.to_string())
}

async fn read_facts(client: &Client) -> Result<Facts, kube::Error> {
    let info: Info = client.apiserver_version().await?;
    let nodes: Api<Node> = Api::all(client.clone());
    let mut regions = BTreeSet::new();
    let mut zones = BTreeSet::new();
    let mut pages = std::pin::pin!(node_labels(nodes));
    while let Some(mut labels) = pages.try_next().await? {
        regions.extend(labels.remove("topology.kubernetes.io/region"));
        zones.extend(labels.remove("topology.kubernetes.io/zone"));
    }
    // Nodes of several regions: the cluster has no region of its own.
    let region = if regions.len() == 1 { regions.pop_first() } else { None };
    Ok(Facts { version: Some(info.git_version), region, zones: zones.into_iter().collect() })
}

fn node_labels(
    nodes: Api<Node>,
) -> impl futures::Stream<Item = Result<std::collections::BTreeMap<String, String>, kube::Error>> {
    let first = Some(ListParams::default().limit(NODES_PER_PAGE));
    futures::stream::try_unfold((nodes, first), |(nodes, params)| async move {
        let Some(params) = params else { return Ok(None) };
        let page = nodes.list_metadata(&params).await?;
        let next = page.metadata.continue_.filter(|token| !token.is_empty());
        let next = next.map(|token| ListParams::default().limit(NODES_PER_PAGE).continue_token(&token));
        let labels: Vec<Result<_, kube::Error>> =
            page.items.into_iter().map(|node| Ok(node.metadata.labels.unwrap_or_default())).collect();
        Ok::<_, kube::Error>(Some((futures::stream::iter(labels), (nodes, next))))
    })
    .try_flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster() -> MemberCluster {
        let spec = serde_json::json!({"access": {"kubeconfig": {"secretRef": {"name": "a"}}}});
        let mut cluster = MemberCluster::new("a", serde_json::from_value(spec).unwrap());
        cluster.metadata.generation = Some(2);
        cluster
    }

    fn lost() -> NotReady {
        NotReady {
            reason: "ClusterNotReachable",
            message: "gone".to_owned(),
            reachable: ConditionStatus::False,
        }
    }

    #[test]
    fn an_unchanged_cluster_has_an_unchanged_status() {
        let mut cluster = cluster();
        let facts = Facts {
            version: Some("v1.34.4".to_owned()),
            region: Some("eu".to_owned()),
            zones: vec!["eu-a".to_owned()],
        };
        let first = next_status(&cluster, Ok(()), Some(&facts), Timestamp::UNIX_EPOCH);
        cluster.status = Some(first.clone());
        let later = Timestamp::from_second(100).unwrap();
        assert_eq!(next_status(&cluster, Ok(()), None, later), first);
        let lost = next_status(&cluster, Err(lost()), None, later);
        assert_eq!(lost.last_transition_time, Some(Time(later)));
        assert_eq!(lost.kubernetes_version.as_deref(), Some("v1.34.4"));
        assert_eq!(lost.conditions[0].reason, "ClusterNotReachable");
        assert_eq!(lost.conditions[1].status, "False");
    }
}
