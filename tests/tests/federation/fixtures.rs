//! What the scenarios make, and what they wait for.

use crate::common::{self, SOON, TYPES, World, api, entry};
use anyhow::Result;
use fedistio_tests::Cluster;
use kube::{
    Api,
    api::{DynamicObject, Patch, PatchParams},
};
use serde_json::{Value, json};

pub(crate) const NETWORKING: &str = "networking.istio.io/v1";

pub(crate) fn virtual_services(cluster: &Cluster) -> Api<DynamicObject> {
    api(cluster, NETWORKING, "VirtualService", "bookinfo")
}

pub(crate) fn federated_virtual_services(world: &World) -> Api<DynamicObject> {
    api(&world.bed.host, TYPES, "FederatedVirtualService", "bookinfo")
}

pub(crate) fn federated(
    kind: &str,
    name: &str,
    template: Value,
    placement: Value,
    overrides: Value,
) -> Value {
    let mut object = json!({
        "apiVersion": TYPES, "kind": format!("Federated{kind}"),
        "metadata": {"name": name, "namespace": "bookinfo"},
        "spec": {"template": template, "placement": placement, "overrides": overrides},
    });
    if kind == "Namespace" {
        object["metadata"] = json!({"name": name});
    }
    object
}

pub(crate) fn route(host: &str) -> Value {
    json!({"spec": {"hosts": [host], "http": [{"route": [{"destination": {"host": host}}]}]}})
}

pub(crate) async fn wait_status(
    api: &Api<DynamicObject>,
    name: &str,
    what: &str,
    test: impl Fn(&Value) -> bool,
) -> Result<Value> {
    common::wait_status(api, name, what, SOON, test).await
}

pub(crate) fn in_sync(count: i64) -> impl Fn(&Value) -> bool {
    move |status| status["summary"]["inSync"] == count && status["summary"]["clusters"] == count
}

pub(crate) fn cluster_is<'a>(
    cluster: &'a str,
    state: &'a str,
    reason: &'a str,
) -> impl Fn(&Value) -> bool + 'a {
    move |status| entry(status, cluster)["state"] == state && entry(status, cluster)["reason"] == reason
}

pub(crate) fn host_kubeconfig(world: &World) -> String {
    world.bed.host.kubeconfig_path().display().to_string()
}

pub(crate) async fn clusters_label(world: &World, cluster: &str, env: &str) -> Result<()> {
    let clusters = api(&world.bed.host, "fedistio.io/v1alpha1", "MemberCluster", "");
    let patch = Patch::Merge(json!({"metadata": {"labels": {"env": env}}}));
    clusters.patch(cluster, &PatchParams::default(), &patch).await?;
    Ok(())
}
