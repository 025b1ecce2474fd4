//! Act 4: an application and its traffic rules, federated, with an override in one cluster.

use crate::{
    acts::rollout::revision,
    clusters::FIRST,
    observe,
    show::{self, command, table},
    stage::{Stage, kubectl},
};
use anyhow::{Context as _, Result, ensure};
use fedistio_crds::LABEL_MANAGED;
use fedistio_tests::Cluster;
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Namespace, Service, ServiceAccount},
};
use kube::{
    Api, Resource, ResourceExt as _,
    api::{DynamicObject, ListParams},
};
use std::{fmt::Debug, time::Duration};

const ACT: usize = 4;
/// Namespace of the application.
pub(crate) const NAMESPACE: &str = "bookinfo";
/// How long everything may take to be in every member, with its pods ready.
const EVERYWHERE: Duration = Duration::from_mins(2);

/// Federates bookinfo.
pub(crate) async fn play(stage: &Stage) -> Result<()> {
    show::act(ACT, "bookinfo, federated");
    let mut applied = 0;
    for file in ["bookinfo/namespace.yaml", "bookinfo/workloads.yaml", "bookinfo/traffic.yaml"] {
        applied += stage.apply(file, &[]).await?;
    }
    let complete = async || {
        let mut rows = Vec::new();
        for member in &stage.bed.members {
            rows.push(verify(stage, member, applied).await?);
        }
        Ok(rows)
    };
    let rows = stage.wait("bookinfo is complete in every member", EVERYWHERE, complete).await?;
    table::print(
        [
            "member",
            "Deployments",
            "Services",
            "pods",
            "with sidecar of",
            "reviews go to",
            "connections to ratings",
        ],
        rows,
    );
    command::fedistio(&stage.binary, &["get", "-A", "--kubeconfig", &stage.host_kubeconfig()]).await?;
    let members = stage.bed.members.len();
    stage.verified(ACT, format!("{applied} federated objects have their copies in {members} members"));
    stage.verified(ACT, "the overrides of reviews and ratings are in the canary only");
    stage.verified(ACT, "every pod of bookinfo got its sidecar from the member's own istiod");
    let canary = stage.canary()?;
    show::look_around(&[
        kubectl(&stage.bed.host, "get federated --namespace bookinfo"),
        kubectl(canary, "get pods,virtualservices,destinationrules --namespace bookinfo"),
        kubectl(canary, "get virtualservice reviews --namespace bookinfo -o yaml --show-managed-fields"),
    ]);
    Ok(())
}

async fn verify(stage: &Stage, member: &Cluster, wanted: usize) -> Result<[String; 7]> {
    let deployments = copies::<Deployment>(member).await?;
    let services = copies::<Service>(member).await?;
    let accounts = copies::<ServiceAccount>(member).await?;
    let mut rules = 0;
    for (kind, plural) in [("VirtualService", "virtualservices"), ("DestinationRule", "destinationrules")] {
        let list = observe::networking(member, kind, plural, NAMESPACE).list(&managed()).await;
        rules += list.with_context(|| format!("{plural} of {} can't be listed", member.name()))?.items.len();
    }
    let namespaces = Api::<Namespace>::all(member.client()).list_metadata(&managed()).await;
    let namespaces =
        namespaces.with_context(|| format!("namespaces of {} can't be listed", member.name()))?;
    let namespace = namespaces.items.iter().filter(|one| one.name_any() == NAMESPACE).count();
    let copies = deployments + services + accounts + rules + namespace;
    ensure!(copies == wanted, "{} has {copies} copies of {wanted} objects", member.name());
    let canary = stage.environment(member) == "canary";
    let subset = subset(member).await?;
    let expected = if canary { "v3" } else { "v1" };
    ensure!(subset == expected, "reviews of {} go to {subset}, not {expected}", member.name());
    let connections = connections(member).await?;
    let expected = if canary { 10 } else { 100 };
    ensure!(connections == expected, "ratings of {} take {connections} connections", member.name());
    let ready = observe::pods_ready(member, NAMESPACE).await?;
    let proxies = observe::proxies(member, NAMESPACE).await?;
    let injected = revision(FIRST);
    ensure!(
        ready == deployments && proxies.get(&injected) == Some(&deployments),
        "{} has {ready} pods, with sidecars of {proxies:?}",
        member.name()
    );
    Ok([
        member.name().to_owned(),
        deployments.to_string(),
        services.to_string(),
        ready.to_string(),
        injected,
        subset,
        connections.to_string(),
    ])
}

fn managed() -> ListParams {
    ListParams::default().labels(&format!("{LABEL_MANAGED}=true"))
}

/// How many of our copies of a kind are in the application's namespace.
async fn copies<K>(member: &Cluster) -> Result<usize>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + Debug
        + serde::de::DeserializeOwned,
{
    let list = Api::<K>::namespaced(member.client(), NAMESPACE).list_metadata(&managed()).await;
    let list = list.with_context(|| format!("{} of {} can't be listed", K::plural(&()), member.name()))?;
    Ok(list.items.len())
}

/// Where requests to reviews go in a member.
pub(crate) async fn subset(member: &Cluster) -> Result<String> {
    let api = observe::networking(member, "VirtualService", "virtualservices", NAMESPACE);
    let object = api.get("reviews").await.with_context(|| format!("{} has no reviews", member.name()))?;
    Ok(subset_of(&object).to_owned())
}

/// The subset in the first route of a VirtualService; empty where there is none.
pub(crate) fn subset_of(object: &DynamicObject) -> &str {
    let subset = object.data.pointer("/spec/http/0/route/0/destination/subset");
    subset.and_then(|subset| subset.as_str()).unwrap_or_default()
}

async fn connections(member: &Cluster) -> Result<i64> {
    let api = observe::networking(member, "DestinationRule", "destinationrules", NAMESPACE);
    let object = api.get("ratings").await.with_context(|| format!("{} has no ratings", member.name()))?;
    Ok(connections_of(&object))
}

/// The connection limit of a DestinationRule; 0 where there is none.
pub(crate) fn connections_of(object: &DynamicObject) -> i64 {
    let limit = object.data.pointer("/spec/trafficPolicy/connectionPool/tcp/maxConnections");
    limit.and_then(serde_json::Value::as_i64).unwrap_or(0)
}
