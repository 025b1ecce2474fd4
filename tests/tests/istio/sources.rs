//! Versions of one's own, other Kubernetes versions, changed charts, a registry that is down.

use crate::{
    common::{SOON, World, entry, wait_event, wait_status},
    fixtures::*,
};
use anyhow::{Context as _, Result, ensure};
use fedistio_tests::{
    Cluster,
    install::{self, eventually},
};
use serde_json::{Value, json};

/// The mesh of these scenarios: the new version, and the old one in the second member.
fn two_versions() -> Value {
    let mut object = mesh("mesh", NEW);
    object["spec"]["overrides"] =
        json!([{"clusterName": "member2", "clusterOverrides": [{"path": "/version", "value": OLD}]}]);
    object["spec"].as_object_mut().map(|spec| spec.remove("strategyRef"));
    object
}

pub(crate) async fn each_cluster_has_the_version_that_it_can_have(world: &mut World) -> Result<()> {
    let [first, second, newer] = [&world.bed.members[0], &world.bed.members[1], &world.bed.members[2]];
    ensure!(newer.version().await? == NEWER_KUBERNETES, "the third member is no newer cluster");
    install::join(&world.bed, newer, "env=new").await?;
    install::apply(&world.bed.host, two_versions()).await?;
    let status = wait_status(&meshes(world), "mesh", "every cluster has its verdict", INSTALLED, |status| {
        let healthy = |cluster, version| {
            entry(status, cluster)["phase"] == "Healthy" && entry(status, cluster)["version"] == version
        };
        healthy("member1", NEW)
            && healthy("member2", OLD)
            && entry(status, "member3")["reason"] == "KubernetesNotSupported"
    })
    .await?;
    let message = entry(&status, "member3")["message"].as_str().unwrap_or_default();
    assert!(message.contains("1.31 to 1.35") && message.contains("1.36.3"), "{message}");
    assert_eq!(istiods(first).await?, ["istiod-1-29-1"]);
    assert_eq!(istiods(second).await?, ["istiod-1-28-2"]);
    assert!(istiods(newer).await?.is_empty(), "Istio came to a Kubernetes that it does not support");
    install::fedistio_ok(&[
        "unjoin",
        newer.name(),
        "--force",
        "--kubeconfig",
        &world.bed.host.kubeconfig_path().display().to_string(),
    ])
    .await?;
    Ok(())
}

/// UID of a Deployment of istiod: another one was made anew.
async fn uid(member: &Cluster, name: &str) -> Result<Option<String>> {
    let deployments = crate::common::api(member, "apps/v1", "Deployment", NAMESPACE);
    Ok(deployments.get_metadata(name).await?.metadata.uid)
}

pub(crate) async fn a_changed_chart_is_refused_and_changes_nothing(world: &mut World) -> Result<()> {
    let first = &world.bed.members[0];
    let before = uid(first, "istiod-1-29-1").await?;
    let mut wrong = release(world, NEW);
    wrong["spec"]["charts"][1]["digest"] = json!(format!("sha256:{}", "0".repeat(64)));
    install::apply(&world.bed.host, wrong).await?;
    // Nothing is rendered anew for what has not changed: only a change asks for the chart again.
    let mut changed = two_versions();
    changed["spec"]["template"]["values"] = json!({"meshConfig": {"accessLogFile": "/dev/stdout"}});
    install::apply(&world.bed.host, changed.clone()).await?;
    let status = wait_status(&meshes(world), "mesh", "the digest is checked", SOON, |status| {
        entry(status, "member1")["reason"] == "ChartDigestMismatch"
            && entry(status, "member2")["phase"] == "Healthy"
    })
    .await?;
    let message = entry(&status, "member1")["message"].as_str().unwrap_or_default();
    assert!(message.contains(&"0".repeat(64)), "{message}");
    wait_event(&world.bed.host, "FederatedIstio", "mesh", "ChartDigestMismatch", "member1").await?;
    assert_eq!(uid(first, "istiod-1-29-1").await?, before);
    assert_eq!(tag_of(first).await?.as_deref(), Some("1-29-1"));
    install::apply(&world.bed.host, release(world, NEW)).await?;
    wait_status(&meshes(world), "mesh", "the corrected release is taken", INSTALLED, |status| {
        ["member1", "member2"].iter().all(|name| entry(status, name)["phase"] == "Healthy")
    })
    .await?;
    assert_eq!(uid(first, "istiod-1-29-1").await?, before, "the Deployment was made anew");
    Ok(())
}

pub(crate) async fn charts_that_were_fetched_before_do_without_their_registry(
    world: &mut World,
) -> Result<()> {
    world.bed.registry.set_down(true);
    if let Some(operator) = world.operator.take() {
        operator.stop().await?;
    }
    world.operator = Some(world.installation.start().await?);
    let asked = world.bed.registry.requests();
    let mut changed = two_versions();
    changed["spec"]["template"]["values"] = json!({"meshConfig": {"accessLogFile": "/dev/stderr"}});
    install::apply(&world.bed.host, changed).await?;
    for (member, revision) in world.bed.members.iter().zip(["1-29-1", "1-28-2"]) {
        let maps = crate::common::api(member, "v1", "ConfigMap", NAMESPACE);
        eventually("the change has come", INSTALLED, || async {
            let map = maps.get(&format!("istio-{revision}")).await?;
            let text = map.data["data"]["mesh"].as_str().context("no mesh configuration")?;
            ensure!(text.contains("/dev/stderr"), "{text}");
            Ok(())
        })
        .await?;
    }
    ensure!(world.bed.registry.requests() > asked, "the registry was not even asked");
    wait_status(&meshes(world), "mesh", "it says where the charts are from", SOON, |status| {
        let said = condition(status, "ChartSourcesAvailable");
        let charts = ["base-1.29.1", "istiod-1.29.1", "istiod-1.28.2", "503"];
        said["reason"] == "CachedChartsUsed" && charts.iter().all(|part| said.to_string().contains(part))
    })
    .await?;
    wait_event(&world.bed.host, "FederatedIstio", "mesh", "CachedChartsUsed", "503").await?;
    // From this source the chart was never fetched: it can't be had, and comes by itself when the source is back.
    let mut elsewhere = release(world, NEW);
    elsewhere["spec"]["charts"][1]["sources"] = json!([world.bed.registry.repository_url()]);
    install::apply(&world.bed.host, elsewhere).await?;
    wait_status(&meshes(world), "mesh", "the chart can't be had", SOON, |status| {
        entry(status, "member1")["reason"] == "ChartUnavailable"
            && entry(status, "member2")["phase"] == "Healthy"
    })
    .await?;
    assert_eq!(istiods(&world.bed.members[0]).await?, ["istiod-1-29-1"]);
    world.bed.registry.set_down(false);
    wait_status(&meshes(world), "mesh", "all is well again by itself", INSTALLED, |status| {
        ["member1", "member2"].iter().all(|name| entry(status, name)["phase"] == "Healthy")
            && condition(status, "ChartSourcesAvailable")["reason"] == "SourcesAnswer"
    })
    .await?;
    wait_event(&world.bed.host, "FederatedIstio", "mesh", "ChartSourcesAvailable", "again").await?;
    install::apply(&world.bed.host, release(world, NEW)).await.map(drop)
}

/// A condition of a status.
fn condition<'a>(status: &'a Value, type_: &str) -> &'a Value {
    let conditions = status["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    conditions.iter().find(|condition| condition["type"] == type_).unwrap_or(&Value::Null)
}
