//! What the end-to-end tests share.
#![allow(dead_code, reason = "each test binary uses its part")]

use anyhow::{Result, ensure};
use fedistio_tests::{
    Cluster, Operator, TestBed,
    install::{self, Installation, eventually},
};
use kube::{
    Api,
    api::{DynamicObject, ListParams},
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

/// Clusters with an operator that runs with the permissions of its manifests.
pub(crate) struct World {
    pub(crate) bed: TestBed,
    installation: Installation,
    operator: Option<Operator>,
}

impl World {
    /// Installs and starts the operator and joins the members, each with its label `env`.
    pub(crate) async fn start(bed: TestBed, envs: &[&str]) -> Result<Self> {
        let installation = Installation::install(&bed).await?;
        let operator = Some(installation.start().await?);
        for (member, env) in bed.members.iter().zip(envs) {
            install::join(&bed, member, &format!("env={env}")).await?;
        }
        Ok(Self { bed, installation, operator })
    }

    /// Stops the operator and starts it again.
    pub(crate) async fn restart(&mut self) -> Result<()> {
        if let Some(operator) = self.operator.take() {
            operator.stop().await?;
        }
        self.operator = Some(self.installation.start().await?);
        Ok(())
    }

    /// Passes a result on; shows the end of the operator's log where it is an error.
    pub(crate) fn explain(&self, result: Result<()>) -> Result<()> {
        if let (Err(_), Some(operator)) = (&result, &self.operator) {
            eprintln!("the operator's log ends with\n{}", operator.log_tail(80));
        }
        result
    }

    /// The kubeconfig of the host, as an argument of `fedistio`.
    pub(crate) fn host_kubeconfig(&self) -> String {
        self.bed.host.kubeconfig_path().display().to_string()
    }
}

/// Runs scenarios one after the other, up to the first that fails.
macro_rules! scenarios {
    ($world:ident: $($scenario:path),+ $(,)?) => {{
        $(
            eprintln!("scenario {}", stringify!($scenario));
            Box::pin($scenario($world)).await.context(stringify!($scenario))?;
        )+
        Ok(())
    }};
}
pub(crate) use scenarios;

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

/// Reasons and notes of the Events about an object of the host.
pub(crate) async fn events_about(host: &Cluster, kind: &str, name: &str) -> Result<Vec<(String, String)>> {
    let list = api(host, "events.k8s.io/v1", "Event", "").list(&ListParams::default()).await?;
    let about = |event: &&DynamicObject| {
        event.data["regarding"]["kind"] == kind && event.data["regarding"]["name"] == name
    };
    let text = |event: &DynamicObject, field: &str| event.data[field].as_str().unwrap_or_default().to_owned();
    Ok(list.items.iter().filter(about).map(|event| (text(event, "reason"), text(event, "note"))).collect())
}

/// Waits for an Event about an object of the host whose note contains `part`.
pub(crate) async fn wait_event(
    host: &Cluster,
    kind: &str,
    name: &str,
    reason: &str,
    part: &str,
) -> Result<()> {
    eventually(&format!("an Event {reason} about {kind} {name}"), SOON, || async {
        let events = events_about(host, kind, name).await?;
        let found = events.iter().any(|(of, note)| of == reason && note.contains(part));
        ensure!(found, "Events: {events:?}");
        Ok(())
    })
    .await
}

/// Stops a member and waits until the operator has noticed: nothing more is sent there, not even later.
pub(crate) async fn stop_and_wait(host: &Cluster, member: &Cluster) -> Result<()> {
    member.stop().await?;
    let clusters = api(host, FEDISTIO, "MemberCluster", "");
    eventually("the operator notices that the member is away", SOON, || async {
        let status = status_of(&clusters, member.name()).await?;
        ensure!(status["conditions"][0]["status"] == "False", "{status}");
        Ok(())
    })
    .await
}
