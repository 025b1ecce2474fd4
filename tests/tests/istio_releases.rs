//! Releases, charts and claims on real clusters: a Kubernetes that a release does not support, a version for one cluster, a registry that is
//! down, a wrong digest, two `FederatedIstio`s that want the same cluster, and a deletion that does not wait for ever.

use anyhow::{Context as _, Result, ensure};
use fedistio_tests::{
    Cluster, TestBed, charts,
    install::{self, USER, eventually},
};
use kube::{
    Api,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use std::time::Duration;

mod common;
use common::{
    FEDISTIO, QUIET, SOON, World, api, entry, gone, scenarios, stop_and_wait, wait_event, wait_status,
};

/// A control plane of a slow machine: charts, CRDs, istiod's start, its certificates; for an upgrade twice.
const INSTALLED: Duration = Duration::from_mins(4);
/// Sources are asked again every 15 s.
const ASKED_AGAIN: Duration = Duration::from_mins(1);

const OLD: &str = "1.28.2";
const NEW: &str = "1.29.1";
/// Newer than both support.
const TOO_NEW: &str = "v1.36.3";
const NAMESPACE: &str = "istio-system";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn releases_and_claims_on_real_clusters() -> Result<()> {
    let bed =
        TestBed::builder().members(3).kubernetes_of("member3", TOO_NEW).istio([OLD, NEW]).build().await?;
    let mut world = World::start(bed, &["one", "two", "three"]).await?;
    let result = in_order(&mut world).await;
    world.explain(result)
}

async fn in_order(world: &mut World) -> Result<()> {
    scenarios! { world:
        a_kubernetes_that_the_release_does_not_support_is_left_out_and_the_others_proceed,
        charts_of_a_registry_that_is_down_come_from_the_cache_after_a_restart,
        a_version_for_one_cluster_waits_for_the_registry_and_runs_beside_the_others,
        a_wrong_digest_touches_nothing_and_heals_when_it_is_corrected,
        a_second_mesh_is_refused_where_the_first_is_and_goes_on_elsewhere,
        it_takes_the_cluster_over_when_the_first_leaves,
        a_deletion_waits_for_an_unreachable_member_as_long_as_the_user_says,
        a_placement_lets_an_unreachable_member_go_in_the_same_way,
    }
}

fn meshes(world: &World) -> Api<DynamicObject> {
    api(&world.bed.host, FEDISTIO, "FederatedIstio", "")
}

/// A release with the charts of the bed's registry.
fn release(world: &World, version: &str, newest_kubernetes: &str) -> Value {
    let chart =
        |name: &str| json!({"name": name, "sources": [format!("{}/{name}", world.bed.registry.oci_url())]});
    let (min, predecessors) =
        if version == OLD { ("1.30", ["1.27", "1.26"]) } else { ("1.31", ["1.28", "1.27"]) };
    json!({"apiVersion": FEDISTIO, "kind": "IstioRelease", "metadata": {"name": version}, "spec": {
        "version": version, "kubernetes": {"min": min, "max": newest_kubernetes}, "predecessors": predecessors,
        "charts": [chart("base"), chart("istiod")]}})
}

/// A mesh of the old version on these clusters.
fn mesh(name: &str, clusters: &[&str], overrides: Value) -> Value {
    let clusters: Vec<_> = clusters.iter().map(|cluster| json!({"name": cluster})).collect();
    json!({"apiVersion": FEDISTIO, "kind": "FederatedIstio", "metadata": {"name": name}, "spec": {
        "template": {"version": OLD, "upgrade": {"restartWorkloads": true}},
        "placement": {"clusters": clusters}, "overrides": overrides}})
}

/// The override that gives one cluster the new version.
fn new_in(cluster: &str) -> Value {
    json!([{"clusterName": cluster, "clusterOverrides": [{"op": "replace", "path": "/version", "value": NEW}]}])
}

fn is_healthy(status: &Value, cluster: &str, version: &str) -> bool {
    let one = entry(status, cluster);
    one["phase"] == "Healthy" && one["ready"] == true && one["version"] == version
}

fn reason_is(status: &Value, cluster: &str, reason: &str) -> bool {
    entry(status, cluster)["reason"] == reason
}

fn message<'a>(status: &'a Value, cluster: &str) -> &'a str {
    entry(status, cluster)["message"].as_str().unwrap_or_default()
}

/// Reason of a condition.
fn condition<'a>(status: &'a Value, type_: &str) -> &'a str {
    let conditions = status["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let found = conditions.iter().find(|condition| condition["type"] == type_);
    found.and_then(|condition| condition["reason"].as_str()).unwrap_or_default()
}

/// Names of the istiod Deployments in a member, as its API server says.
async fn istiods(member: &Cluster) -> Result<Vec<String>> {
    let deployments = api(member, "apps/v1", "Deployment", NAMESPACE);
    let list = deployments.list_metadata(&ListParams::default().labels("app=istiod")).await?;
    Ok(list.items.into_iter().filter_map(|object| object.metadata.name).collect())
}

async fn a_kubernetes_that_the_release_does_not_support_is_left_out_and_the_others_proceed(
    world: &mut World,
) -> Result<()> {
    let [host, third] = [&world.bed.host, &world.bed.members[2]];
    ensure!(third.version().await? == TOO_NEW, "member3 is {}", third.version().await?);
    install::apply(host, release(world, OLD, "1.34")).await?;
    install::apply(host, mesh("mesh", &["member1", "member2", "member3"], json!([]))).await?;
    let status = wait_status(&meshes(world), "mesh", "two are healthy", INSTALLED, |status| {
        ["member1", "member2"].iter().all(|name| is_healthy(status, name, OLD))
            && reason_is(status, "member3", "KubernetesNotSupported")
    })
    .await?;
    for part in ["1.30 to 1.34", "1.36.3"] {
        assert!(message(&status, "member3").contains(part), "{status}");
    }
    assert_eq!(status["summary"], json!({"clusters": 3, "inSync": 2, "failed": 1}));
    assert_eq!(condition(&status, "Ready"), "KubernetesNotSupported");
    assert!(istiods(third).await?.is_empty(), "something was installed in member3");
    wait_event(host, "FederatedIstio", "mesh", "KubernetesNotSupported", "member3").await
}

async fn charts_of_a_registry_that_is_down_come_from_the_cache_after_a_restart(
    world: &mut World,
) -> Result<()> {
    world.bed.registry.set_down(true);
    let marks: Vec<_> = world.bed.members.iter().map(Cluster::audit_mark).collect::<Result<_>>()?;
    world.restart().await?;
    let status = wait_status(&meshes(world), "mesh", "the cache is used, and it says so", SOON, |status| {
        let said = status["conditions"].to_string();
        condition(status, "ChartSourcesAvailable") == "CachedChartsUsed"
            && ["base-1.28.2", "istiod-1.28.2", "503"].iter().all(|part| said.contains(part))
    })
    .await?;
    assert!(is_healthy(&status, "member1", OLD) && is_healthy(&status, "member2", OLD), "{status}");
    wait_event(&world.bed.host, "FederatedIstio", "mesh", "CachedChartsUsed", "503").await?;
    for (member, mark) in world.bed.members.iter().zip(marks) {
        let writes = member.audit_writes_since(mark, Some(USER))?;
        assert!(writes.is_empty(), "the cached charts are others in {}: {writes:?}", member.name());
    }
    // They are good for work, too.
    let member = &world.bed.members[0];
    let maps = api(member, "v1", "ConfigMap", NAMESPACE);
    maps.delete("istio-1-28-2", &DeleteParams::default()).await?;
    eventually("the ConfigMap is back", SOON, || async { Ok(maps.get("istio-1-28-2").await.map(drop)?) })
        .await
}

async fn a_version_for_one_cluster_waits_for_the_registry_and_runs_beside_the_others(
    world: &mut World,
) -> Result<()> {
    let host = &world.bed.host;
    install::apply(host, release(world, NEW, "1.35")).await?;
    install::apply(host, mesh("mesh", &["member1", "member2"], new_in("member2"))).await?;
    let status =
        wait_status(&meshes(world), "mesh", "the charts were never fetched", ASKED_AGAIN, |status| {
            reason_is(status, "member2", "ChartUnavailable") && is_healthy(status, "member1", OLD)
        })
        .await?;
    let text = message(&status, "member2");
    assert!(text.contains("base-1.29.1") && text.contains("503"), "{text}");
    assert_eq!(istiods(&world.bed.members[1]).await?, ["istiod-1-28-2"], "what runs was touched");
    world.bed.registry.set_down(false);
    let status = wait_status(&meshes(world), "mesh", "each has its version", INSTALLED, |status| {
        is_healthy(status, "member1", OLD) && is_healthy(status, "member2", NEW)
    })
    .await?;
    assert_eq!(entry(&status, "member1")["revision"], "1-28-2");
    assert_eq!(entry(&status, "member2")["revision"], "1-29-1");
    for (member, name) in world.bed.members.iter().zip(["istiod-1-28-2", "istiod-1-29-1"]) {
        assert_eq!(istiods(member).await?, [name], "{}", member.name());
        // A pod of the old revision may still be on its way out.
        let version = name.trim_start_matches("istiod-").replace('-', ".");
        eventually("only istiod of that version runs", SOON, || async {
            let versions: Vec<_> =
                member.runner()?.processes().into_iter().map(|process| process.version).collect();
            ensure!(!versions.is_empty() && versions.iter().all(|one| *one == version), "{versions:?}");
            Ok(())
        })
        .await?;
    }
    wait_status(&meshes(world), "mesh", "the sources answer again", ASKED_AGAIN, |status| {
        condition(status, "ChartSourcesAvailable") == "SourcesAnswer" && condition(status, "Ready") == "Ready"
    })
    .await?;
    wait_event(host, "FederatedIstio", "mesh", "ChartSourcesAvailable", "again").await
}

async fn a_wrong_digest_touches_nothing_and_heals_when_it_is_corrected(world: &mut World) -> Result<()> {
    let [host, second] = [&world.bed.host, &world.bed.members[1]];
    let archives = charts::charts(&fedistio_tests::Binaries::user()?, NEW).await?;
    let archive = archives.iter().find(|archive| archive.name == "istiod").context("no istiod chart")?;
    let right = format!("sha256:{}", archive.sha256);
    let wrong = format!("sha256:{}", "0".repeat(64));
    let with_digest = |digest: &str| {
        let mut release = release(world, NEW, "1.35");
        release["spec"]["charts"][1]["digest"] = json!(digest);
        release
    };
    let mark = second.audit_mark()?;
    install::apply(host, with_digest(&wrong)).await?;
    let status = wait_status(&meshes(world), "mesh", "the digest is refused", SOON, |status| {
        reason_is(status, "member2", "ChartDigestMismatch") && is_healthy(status, "member1", OLD)
    })
    .await?;
    let text = message(&status, "member2");
    assert!(text.contains(&right) && text.contains(&wrong), "{text}");
    wait_event(host, "FederatedIstio", "mesh", "ChartDigestMismatch", "member2").await?;
    tokio::time::sleep(QUIET).await;
    let writes = second.audit_writes_since(mark, Some(USER))?;
    assert!(writes.is_empty(), "the running control plane was touched: {writes:?}");
    assert_eq!(istiods(second).await?, ["istiod-1-29-1"]);
    install::apply(host, with_digest(&right)).await?;
    wait_status(&meshes(world), "mesh", "the right digest heals", SOON, |status| {
        is_healthy(status, "member1", OLD) && is_healthy(status, "member2", NEW)
    })
    .await?;
    let writes = second.audit_writes_since(mark, Some(USER))?;
    assert!(writes.is_empty(), "the same chart was applied anew: {writes:?}");
    Ok(())
}

async fn a_second_mesh_is_refused_where_the_first_is_and_goes_on_elsewhere(world: &mut World) -> Result<()> {
    let [host, second, third] = [&world.bed.host, &world.bed.members[1], &world.bed.members[2]];
    // Whoever writes an IstioRelease decides what it supports.
    install::apply(host, release(world, NEW, "1.36")).await?;
    let mut object = mesh("second", &["member2", "member3"], json!([]));
    object["spec"]["template"]["version"] = json!(NEW);
    let mark = second.audit_mark()?;
    install::apply(host, object).await?;
    let status = wait_status(&meshes(world), "second", "healthy where it is alone", INSTALLED, |status| {
        reason_is(status, "member2", "ClusterTaken") && is_healthy(status, "member3", NEW)
    })
    .await?;
    assert!(message(&status, "member2").contains("FederatedIstio mesh"), "{status}");
    assert_eq!(istiods(third).await?, ["istiod-1-29-1"]);
    let writes = second.audit_writes_since(mark, Some(USER))?;
    assert!(writes.is_empty(), "the refused mesh wrote to member2: {writes:?}");
    let first = meshes(world).get("mesh").await?.data["status"].clone();
    assert!(is_healthy(&first, "member2", NEW), "{first}");
    wait_event(host, "FederatedIstio", "second", "ClusterTaken", "member2").await
}

async fn it_takes_the_cluster_over_when_the_first_leaves(world: &mut World) -> Result<()> {
    let second = &world.bed.members[1];
    install::apply(&world.bed.host, mesh("mesh", &["member1"], json!([]))).await?;
    wait_status(&meshes(world), "mesh", "it has left", INSTALLED, |status| {
        entry(status, "member2").is_null() && is_healthy(status, "member1", OLD)
    })
    .await?;
    wait_status(&meshes(world), "second", "it has both", INSTALLED, |status| {
        is_healthy(status, "member2", NEW) && is_healthy(status, "member3", NEW)
    })
    .await?;
    let deployment = api(second, "apps/v1", "Deployment", NAMESPACE).get("istiod-1-29-1").await?;
    let owner = deployment.metadata.annotations.unwrap_or_default().remove("fedistio.io/owner");
    assert_eq!(owner.as_deref(), Some("FederatedIstio//second"));
    Ok(())
}

async fn a_deletion_waits_for_an_unreachable_member_as_long_as_the_user_says(
    world: &mut World,
) -> Result<()> {
    let [host, second, third] = [&world.bed.host, &world.bed.members[1], &world.bed.members[2]];
    stop_and_wait(host, third).await?;
    meshes(world).delete("second", &DeleteParams::default()).await?;
    wait_status(&meshes(world), "second", "it waits for member3", INSTALLED, |status| {
        let third = entry(status, "member3");
        entry(status, "member2").is_null()
            && third["phase"] == "Removing"
            && message(status, "member3").contains("unjoin --force")
    })
    .await?;
    assert!(istiods(second).await?.is_empty(), "the member that answers is not held up");
    tokio::time::sleep(QUIET).await;
    ensure!(meshes(world).get_opt("second").await?.is_some(), "it went without a bound");
    let bound = json!({"spec": {"deletion": {"unreachableTimeout": "5s"}}});
    meshes(world).patch("second", &PatchParams::default(), &Patch::Merge(bound)).await?;
    eventually("it is released", SOON, || async { gone(&meshes(world), "second").await }).await?;
    wait_event(host, "FederatedIstio", "second", "ControlPlaneOrphaned", "member3").await?;
    third.start().await?;
    tokio::time::sleep(QUIET).await;
    assert_eq!(istiods(third).await?, ["istiod-1-29-1"], "what was left is there");
    Ok(())
}

async fn a_placement_lets_an_unreachable_member_go_in_the_same_way(world: &mut World) -> Result<()> {
    let [host, first] = [&world.bed.host, &world.bed.members[0]];
    stop_and_wait(host, first).await?;
    let mut object = mesh("mesh", &["member2"], json!([]));
    object["spec"]["deletion"] = json!({"unreachableTimeout": "10s"});
    install::apply(host, object).await?;
    wait_status(&meshes(world), "mesh", "member1 is given its time", SOON, |status| {
        message(status, "member1").contains("unreachableTimeout")
    })
    .await?;
    wait_status(&meshes(world), "mesh", "member1 is let go, member2 has come", INSTALLED, |status| {
        entry(status, "member1").is_null() && is_healthy(status, "member2", OLD)
    })
    .await?;
    wait_event(host, "FederatedIstio", "mesh", "ControlPlaneOrphaned", "member1").await?;
    first.start().await
}
