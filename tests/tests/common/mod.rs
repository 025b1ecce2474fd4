//! What the end-to-end tests share.
#![allow(dead_code, reason = "each test binary uses its part")]

use anyhow::{Result, ensure};
use fedistio_tests::{Cluster, install::eventually};
use kube::{
    Api,
    api::DynamicObject,
    core::{ApiResource, GroupVersionKind},
};
use serde_json::Value;
use std::time::Duration;

/// Generous: these tests check that things happen, not how fast.
pub(crate) const SOON: Duration = Duration::from_secs(30);
/// A time in which something would have happened that must not.
pub(crate) const QUIET: Duration = Duration::from_secs(3);
/// API version of the generated federated types.
pub(crate) const TYPES: &str = "types.fedistio.io/v1alpha1";
/// API version of the hand-written kinds.
pub(crate) const FEDISTIO: &str = "fedistio.io/v1alpha1";

/// The API of a kind; an empty namespace means objects of the cluster. The plural is guessed from the kind.
pub(crate) fn api(cluster: &Cluster, api_version: &str, kind: &str, namespace: &str) -> Api<DynamicObject> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    if namespace.is_empty() {
        Api::all_with(cluster.client(), &resource)
    } else {
        Api::namespaced_with(cluster.client(), namespace, &resource)
    }
}

/// The status of an object as it is.
pub(crate) async fn status_of(api: &Api<DynamicObject>, name: &str) -> Result<Value> {
    Ok(api.get(name).await?.data["status"].clone())
}

/// Waits until the status of an object speaks of its present generation and fulfils `test`.
pub(crate) async fn wait_status(
    api: &Api<DynamicObject>,
    name: &str,
    what: &str,
    bound: Duration,
    test: impl Fn(&Value) -> bool,
) -> Result<Value> {
    eventually(what, bound, || async {
        let object = api.get(name).await?;
        let status = object.data["status"].clone();
        let current = status["observedGeneration"].as_i64() == object.metadata.generation;
        ensure!(current && test(&status), "status of {name}: {status}");
        Ok(status)
    })
    .await
}

/// The entry of one cluster in `status.clusters`.
pub(crate) fn entry<'a>(status: &'a Value, cluster: &str) -> &'a Value {
    let clusters = status["clusters"].as_array().map(Vec::as_slice).unwrap_or_default();
    clusters.iter().find(|entry| entry["name"] == cluster).unwrap_or(&Value::Null)
}

/// An error while the object is there.
pub(crate) async fn gone(api: &Api<DynamicObject>, name: &str) -> Result<()> {
    ensure!(api.get_opt(name).await?.is_none(), "{name} is still there");
    Ok(())
}
