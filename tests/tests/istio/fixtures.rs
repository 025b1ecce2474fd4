//! What the scenarios make, and what they look at in the members.

use crate::common::{FEDISTIO, World, api};
use anyhow::{Result, ensure};
use fedistio_tests::Cluster;
use kube::{
    Api,
    api::{DynamicObject, ListParams},
};
use serde_json::{Value, json};
use std::time::Duration;

/// A control plane of a slow machine: charts, CRDs, istiod's start, its certificates.
pub(crate) const INSTALLED: Duration = Duration::from_mins(3);
/// Everything of an upgrade in one cluster, with restarts of its workloads.
pub(crate) const UPGRADED: Duration = Duration::from_mins(4);
/// How long nothing may be written.
pub(crate) const IDLE: Duration = Duration::from_mins(1);

pub(crate) const OLD: &str = "1.28.2";
pub(crate) const NEW: &str = "1.29.1";
/// Newer than both releases support.
pub(crate) const NEWER_KUBERNETES: &str = "v1.36.3";
pub(crate) const NAMESPACE: &str = "istio-system";

pub(crate) fn meshes(world: &World) -> Api<DynamicObject> {
    api(&world.bed.host, FEDISTIO, "FederatedIstio", "")
}

/// A release whose charts are those of the bed's registry.
pub(crate) fn release(world: &World, version: &str) -> Value {
    let chart =
        |name: &str| json!({"name": name, "sources": [format!("{}/{name}", world.bed.registry.oci_url())]});
    let range = if version == OLD {
        json!({"min": "1.30", "max": "1.34"})
    } else {
        json!({"min": "1.31", "max": "1.35"})
    };
    let predecessors = if version == OLD { json!(["1.27", "1.26"]) } else { json!(["1.28", "1.27"]) };
    json!({"apiVersion": FEDISTIO, "kind": "IstioRelease", "metadata": {"name": version},
        "spec": {"version": version, "kubernetes": range, "predecessors": predecessors, "charts": [chart("base"), chart("istiod")]}})
}

pub(crate) fn mesh(name: &str, version: &str) -> Value {
    json!({"apiVersion": FEDISTIO, "kind": "FederatedIstio", "metadata": {"name": name},
        "spec": {"template": {"version": version, "upgrade": {"restartWorkloads": true}},
            "placement": {"clusterSelector": {}}, "strategyRef": {"name": "canary-first"}}})
}

pub(crate) fn strategy(deadline: &str) -> Value {
    json!({"apiVersion": FEDISTIO, "kind": "RolloutStrategy", "metadata": {"name": "canary-first"}, "spec": {"stages": [
        {"name": "canary", "clusterSelector": {"matchLabels": {"env": "canary"}}, "progressDeadline": deadline},
        {"name": "rest", "clusterSelector": {}, "progressDeadline": deadline}]}})
}

pub(crate) fn healthy_on(version: &'static str) -> impl Fn(&Value) -> bool {
    move |status| {
        let clusters = status["clusters"].as_array().map(Vec::as_slice).unwrap_or_default();
        clusters.len() == 2
            && clusters
                .iter()
                .all(|one| one["ready"] == true && one["version"] == version && one["phase"] == "Healthy")
    }
}

/// The revision that the default tag points to in a member, as the API server there says.
pub(crate) async fn tag_of(member: &Cluster) -> Result<Option<String>> {
    let webhooks = api(member, "admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration", "");
    let list = webhooks.list(&ListParams::default().labels("istio.io/tag=default")).await?;
    let revision = |object: &DynamicObject| object.metadata.labels.as_ref()?.get("istio.io/rev").cloned();
    Ok(list.items.first().and_then(revision))
}

/// Names of the istiod Deployments in a member.
pub(crate) async fn istiods(member: &Cluster) -> Result<Vec<String>> {
    let deployments = api(member, "apps/v1", "Deployment", NAMESPACE);
    let list = deployments.list_metadata(&ListParams::default().labels("app=istiod")).await?;
    Ok(list.items.into_iter().filter_map(|object| object.metadata.name).collect())
}

/// Are there two running pods in the shop, both injected by this revision?
pub(crate) async fn proxies_are(member: &Cluster, revision: &str) -> Result<()> {
    let pods = api(member, "v1", "Pod", "shop").list(&ListParams::default()).await?.items;
    let live: Vec<_> = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect();
    let of = |pod: &DynamicObject| {
        let annotation = pod.metadata.annotations.as_ref()?.get("sidecar.istio.io/status")?.clone();
        serde_json::from_str::<Value>(&annotation).ok()?["revision"].as_str().map(str::to_owned)
    };
    let revisions: Vec<_> = live.iter().map(|pod| of(pod)).collect();
    ensure!(
        revisions.len() == 2 && revisions.iter().all(|found| found.as_deref() == Some(revision)),
        "{revisions:?}"
    );
    Ok(())
}
