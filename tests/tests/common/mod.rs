//! What the end-to-end tests share.
#![allow(dead_code, reason = "each test binary uses its part")]

use anyhow::{Result, ensure};
use fedistio_tests::{
    BedBuilder, Cluster, Operator, TestBed,
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

/// A bed with an installed operator. The scenarios of a file share one, and run in order.
pub(crate) struct World {
    pub(crate) bed: TestBed,
    pub(crate) installation: Installation,
    /// None while a scenario has stopped it.
    pub(crate) operator: Option<Operator>,
}

impl World {
    /// Starts the clusters and the operator; no member is joined yet.
    pub(crate) async fn start(bed: BedBuilder) -> Result<Self> {
        let bed = bed.build().await?;
        let installation = Installation::install(&bed).await?;
        let operator = installation.start().await?;
        Ok(Self { bed, installation, operator: Some(operator) })
    }

    /// Joins the first `count` members, the first of them as `env=canary`, the others as `env=prod`.
    pub(crate) async fn join(&self, count: usize) -> Result<()> {
        for (number, member) in self.bed.members.iter().take(count).enumerate() {
            let env = if number == 0 { "canary" } else { "prod" };
            install::join(&self.bed, member, &format!("env={env}")).await?;
        }
        Ok(())
    }

    /// Gives the result on, and shows the end of the operator's log where it is an error.
    pub(crate) fn explain(&self, result: Result<()>) -> Result<()> {
        if let (Err(_), Some(operator)) = (&result, &self.operator) {
            eprintln!("the operator's log ends with\n{}", operator.log_tail(80));
        }
        result
    }
}

/// Runs scenarios of a world, one after the other; an error says in which it was.
macro_rules! scenarios {
    ($world:expr; $($scenario:path),+ $(,)?) => {{
        async fn run(world: &mut World) -> Result<()> {
            $(
                eprintln!("scenario {}", stringify!($scenario));
                Box::pin($scenario(world)).await.context(stringify!($scenario))?;
            )+
            Ok(())
        }
        let result = run($world).await;
        $world.explain(result)
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
