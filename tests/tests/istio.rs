//! `FederatedIstio` on real clusters: installation, idleness, bad input, staged live upgrades with real istiods, a stopped stage,
//! removal.

use anyhow::{Context as _, Result, ensure};
use fedistio_tests::{
    Cluster, TestBed,
    install::{self, USER, eventually},
};
use kube::{
    Api,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use std::time::Duration;

mod common;
use common::{FEDISTIO, SOON, World, api, entry, gone, scenarios, wait_status};

/// A control plane of a slow machine: charts, CRDs, istiod's start, its certificates.
const INSTALLED: Duration = Duration::from_mins(3);
/// Everything of an upgrade in one cluster, with restarts of its workloads.
const UPGRADED: Duration = Duration::from_mins(4);
/// How long nothing may be written.
const IDLE: Duration = Duration::from_mins(1);

const OLD: &str = "1.28.2";
const NEW: &str = "1.29.1";
const NAMESPACE: &str = "istio-system";
/// Phases of an upgrade, in order.
const PHASES: [&str; 6] =
    ["Installing", "WaitingForIstiod", "MovingTag", "MovingWorkloads", "RemovingOldRevision", "Healthy"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_planes_on_real_clusters() -> Result<()> {
    let bed = TestBed::builder().members(2).istio([OLD, NEW]).build().await?;
    let mut world = World::start(bed, &["canary", "prod"]).await?;
    let result = in_order(&mut world).await;
    world.explain(result)
}

async fn in_order(world: &mut World) -> Result<()> {
    scenarios! { world:
        bad_input_has_its_reason_and_stops_nothing_else,
        one_resource_installs_every_cluster,
        sidecars_come_from_the_installed_revision,
        an_idle_minute_and_a_restart_write_nothing,
        drift_of_a_control_plane_is_put_right,
        a_new_version_that_is_not_ready_in_time_stops_the_stage,
        going_back_leaves_the_old_version_alone_and_healthy,
        a_live_upgrade_goes_canary_first_and_takes_the_workloads_along,
        removing_the_resource_removes_the_control_planes,
    }
}

fn meshes(world: &World) -> Api<DynamicObject> {
    api(&world.bed.host, FEDISTIO, "FederatedIstio", "")
}

/// A release whose charts are those of the bed's registry.
fn release(world: &World, version: &str) -> Value {
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

fn mesh(name: &str, version: &str) -> Value {
    json!({"apiVersion": FEDISTIO, "kind": "FederatedIstio", "metadata": {"name": name},
        "spec": {"template": {"version": version, "upgrade": {"restartWorkloads": true}},
            "placement": {"clusterSelector": {}}, "strategyRef": {"name": "canary-first"}}})
}

fn strategy(deadline: &str) -> Value {
    json!({"apiVersion": FEDISTIO, "kind": "RolloutStrategy", "metadata": {"name": "canary-first"}, "spec": {"stages": [
        {"name": "canary", "clusterSelector": {"matchLabels": {"env": "canary"}}, "progressDeadline": deadline},
        {"name": "rest", "clusterSelector": {}, "progressDeadline": deadline}]}})
}

fn healthy_on(version: &'static str) -> impl Fn(&Value) -> bool {
    move |status| {
        let clusters = status["clusters"].as_array().map(Vec::as_slice).unwrap_or_default();
        clusters.len() == 2
            && clusters
                .iter()
                .all(|one| one["ready"] == true && one["version"] == version && one["phase"] == "Healthy")
    }
}

/// The revision that the default tag points to in a member, as the API server there says.
async fn tag_of(member: &Cluster) -> Result<Option<String>> {
    let webhooks = api(member, "admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration", "");
    let list = webhooks.list(&ListParams::default().labels("istio.io/tag=default")).await?;
    let revision = |object: &DynamicObject| object.metadata.labels.as_ref()?.get("istio.io/rev").cloned();
    Ok(list.items.first().and_then(revision))
}

/// Names of the istiod Deployments in a member.
async fn istiods(member: &Cluster) -> Result<Vec<String>> {
    let deployments = api(member, "apps/v1", "Deployment", NAMESPACE);
    let list = deployments.list_metadata(&ListParams::default().labels("app=istiod")).await?;
    Ok(list.items.into_iter().filter_map(|object| object.metadata.name).collect())
}

async fn bad_input_has_its_reason_and_stops_nothing_else(world: &mut World) -> Result<()> {
    let host = &world.bed.host;
    install::apply(host, strategy("120s")).await?;
    for version in [OLD, NEW] {
        install::apply(host, release(world, version)).await?;
    }
    let unreachable = json!({"apiVersion": FEDISTIO, "kind": "IstioRelease", "metadata": {"name": "1.28.99"},
        "spec": {"version": "1.28.99", "charts": [
            {"name": "base", "sources": ["oci://127.0.0.1:1/istio/base"]}, {"name": "istiod", "sources": ["oci://127.0.0.1:1/istio/istiod"]}]}});
    install::apply(host, unreachable).await?;
    let bad_override = json!([{"clusterName": "member1", "clusterOverrides": [{"path": "/values/none/deeper", "value": 1}]}]);
    let cases = [
        ("unknown-version", "9.9.9", json!([]), "UnknownVersion", "9.9.9"),
        ("no-charts", "1.28.99", json!([]), "ChartUnavailable", "127.0.0.1:1"),
        ("bad-override", OLD, bad_override, "OverrideFailed", "/values/none/deeper"),
    ];
    for (name, version, overrides, reason, part) in cases {
        let mut object = mesh(name, version);
        object["spec"]["overrides"] = overrides;
        object["spec"]["placement"] = json!({"clusters": [{"name": "member1"}]});
        object["spec"]["template"]["namespace"] = json!(format!("istio-{name}"));
        let object = install::apply(host, object).await?;
        let status = wait_status(&meshes(world), name, reason, SOON, |status| {
            entry(status, "member1")["reason"] == reason
        })
        .await?;
        let message = entry(&status, "member1")["message"].as_str().unwrap_or_default();
        assert!(message.contains(part), "{name}: {message}");
        install::delete(host, &object).await?;
        eventually("the bad mesh is gone", SOON, || async { gone(&meshes(world), name).await }).await?;
    }
    Ok(())
}

async fn one_resource_installs_every_cluster(world: &mut World) -> Result<()> {
    install::apply(&world.bed.host, mesh("mesh", OLD)).await?;
    let status =
        wait_status(&meshes(world), "mesh", "every cluster is healthy", INSTALLED, healthy_on(OLD)).await?;
    assert_eq!(status["summary"], json!({"clusters": 2, "inSync": 2, "failed": 0}));
    for member in &world.bed.members {
        assert_eq!(tag_of(member).await?.as_deref(), Some("1-28-2"), "{}", member.name());
        assert_eq!(istiods(member).await?, ["istiod-1-28-2"]);
        // The webhook of the real istiod refuses a VirtualService without routes.
        let bad = json!({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "metadata": {"name": "bad", "namespace": "default"}, "spec": {"hosts": ["a"]}});
        eventually("istiod validates", SOON, || async {
            let error = install::apply(member, bad.clone())
                .await
                .err()
                .context("an invalid VirtualService was accepted")?;
            ensure!(format!("{error:#}").contains("must be provided"), "{error:#}");
            Ok(())
        })
        .await?;
    }
    let table = install::fedistio_ok(&["status", "--kubeconfig", &world.host_kubeconfig()]).await?;
    assert!(table.contains("member1") && table.contains(OLD), "{table}");
    Ok(())
}

async fn sidecars_come_from_the_installed_revision(world: &mut World) -> Result<()> {
    let labels = json!({"app": "web"});
    let workload = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "shop"}, "spec": {
        "replicas": 2, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": {
            "containers": [{"name": "web", "image": "docker.io/library/web:1"}]}}}});
    for member in &world.bed.members {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "labels": {"istio-injection": "enabled"}}});
        install::apply(member, namespace).await?;
        install::apply(member, workload.clone()).await?;
        eventually("both pods have a sidecar of 1-28-2", SOON, || proxies_are(member, "1-28-2")).await?;
    }
    let proxies = json!({"1-28-2": 2});
    wait_status(&meshes(world), "mesh", "proxies are counted", SOON, |status| {
        ["member1", "member2"].iter().all(|name| entry(status, name)["proxies"] == proxies)
    })
    .await?;
    Ok(())
}

/// Are there two running pods in the shop, both injected by this revision?
async fn proxies_are(member: &Cluster, revision: &str) -> Result<()> {
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

async fn an_idle_minute_and_a_restart_write_nothing(world: &mut World) -> Result<()> {
    // Whatever the last scenario set going has to end first.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let marks: Vec<_> = world.bed.members.iter().map(Cluster::audit_mark).collect::<Result<_>>()?;
    tokio::time::sleep(IDLE).await;
    world.restart().await?;
    wait_status(&meshes(world), "mesh", "still healthy", SOON, healthy_on(OLD)).await?;
    tokio::time::sleep(Duration::from_secs(15)).await;
    for (member, mark) in world.bed.members.iter().zip(marks) {
        let writes = member.audit_writes_since(mark, Some(USER))?;
        assert!(writes.is_empty(), "writes to {} in an idle minute and a restart: {writes:?}", member.name());
    }
    Ok(())
}

async fn drift_of_a_control_plane_is_put_right(world: &mut World) -> Result<()> {
    let member = &world.bed.members[0];
    let deployments = api(member, "apps/v1", "Deployment", NAMESPACE);
    let edit = json!({"metadata": {"labels": {"istio.io/rev": "hijacked"}}});
    let params = PatchParams { field_manager: Some("somebody".to_owned()), ..PatchParams::default() };
    deployments.patch("istiod-1-28-2", &params, &Patch::Merge(edit)).await?;
    eventually("the label is put right", SOON, || async {
        let labels = deployments.get_metadata("istiod-1-28-2").await?.metadata.labels.unwrap_or_default();
        ensure!(labels.get("istio.io/rev").map(String::as_str) == Some("1-28-2"), "{labels:?}");
        Ok(())
    })
    .await?;
    let config_maps = api(member, "v1", "ConfigMap", NAMESPACE);
    config_maps.delete("istio-1-28-2", &DeleteParams::default()).await?;
    eventually("the ConfigMap is back", SOON, || async {
        Ok(config_maps.get("istio-1-28-2").await.map(drop)?)
    })
    .await
}

async fn a_new_version_that_is_not_ready_in_time_stops_the_stage(world: &mut World) -> Result<()> {
    let [canary, rest] = [&world.bed.members[0], &world.bed.members[1]];
    canary.runner()?.hold_ready(NEW);
    install::apply(&world.bed.host, strategy("20s")).await?;
    install::apply(&world.bed.host, mesh("mesh", NEW)).await?;
    let status = wait_status(&meshes(world), "mesh", "the stage stops", INSTALLED, |status| {
        status["rollout"]["stages"][0]["state"] == "Stopped"
    })
    .await?;
    let message = status["rollout"]["stages"][0]["message"].as_str().unwrap_or_default();
    assert!(message.contains("member1"), "{message}");
    assert_eq!(status["rollout"]["stages"][1]["state"], "Waiting", "{status}");
    assert_eq!(
        tag_of(canary).await?.as_deref(),
        Some("1-28-2"),
        "the tag moved to a revision that is not ready"
    );
    assert_eq!(istiods(rest).await?, ["istiod-1-28-2"], "the second stage started");
    proxies_are(canary, "1-28-2").await
}

async fn going_back_leaves_the_old_version_alone_and_healthy(world: &mut World) -> Result<()> {
    install::apply(&world.bed.host, mesh("mesh", OLD)).await?;
    wait_status(&meshes(world), "mesh", "back on the old version", INSTALLED, healthy_on(OLD)).await?;
    let canary = &world.bed.members[0];
    eventually("the new istiod is gone", SOON, || async {
        let names = istiods(canary).await?;
        ensure!(names == ["istiod-1-28-2"], "{names:?}");
        Ok(())
    })
    .await?;
    canary.runner()?.release(NEW);
    install::apply(&world.bed.host, strategy("180s")).await?;
    proxies_are(canary, "1-28-2").await
}

async fn a_live_upgrade_goes_canary_first_and_takes_the_workloads_along(world: &mut World) -> Result<()> {
    let [canary, rest] = [&world.bed.members[0], &world.bed.members[1]];
    install::apply(&world.bed.host, mesh("mesh", NEW)).await?;
    // For as long as the canary is not through, the rest must not have begun.
    let phases = std::cell::RefCell::new(Vec::new());
    eventually("the canary is through", UPGRADED, || async {
        let status = meshes(world).get("mesh").await?.data["status"].clone();
        if entry(&status, "member1")["version"] == NEW {
            phases.borrow_mut().push(entry(&status, "member1")["phase"].clone());
        }
        let through =
            entry(&status, "member1")["phase"] == "Healthy" && entry(&status, "member1")["version"] == NEW;
        if !through {
            let names = istiods(rest).await?;
            assert_eq!(names, ["istiod-1-28-2"], "the rest began before the canary was healthy: {status}");
        }
        ensure!(through, "{status}");
        Ok(())
    })
    .await?;
    let mut phases = phases.into_inner();
    phases.dedup();
    let place = |phase: &Value| PHASES.iter().position(|one| phase == one);
    assert!(phases.iter().map(place).is_sorted(), "phases went back: {phases:?}");
    assert!(phases.contains(&json!("MovingWorkloads")), "{phases:?}");
    proxies_are(canary, "1-29-1").await?;
    wait_status(&meshes(world), "mesh", "every cluster is on the new version", UPGRADED, healthy_on(NEW))
        .await?;
    for member in [canary, rest] {
        assert_eq!(tag_of(member).await?.as_deref(), Some("1-29-1"));
        assert_eq!(
            istiods(member).await?,
            ["istiod-1-29-1"],
            "the old revision is still in {}",
            member.name()
        );
        proxies_are(member, "1-29-1").await?;
        let left = api(member, "v1", "ConfigMap", NAMESPACE).get_opt("istio-1-28-2").await?;
        assert!(left.is_none(), "objects of the old revision are left in {}", member.name());
    }
    Ok(())
}

async fn removing_the_resource_removes_the_control_planes(world: &mut World) -> Result<()> {
    meshes(world).delete("mesh", &DeleteParams::default()).await?;
    eventually("the FederatedIstio is gone", INSTALLED, || async { gone(&meshes(world), "mesh").await })
        .await?;
    for member in &world.bed.members {
        assert!(istiods(member).await?.is_empty());
        assert_eq!(tag_of(member).await?, None);
        // CRDs stay, as with helm: deleting them would delete every Istio resource of the cluster.
        let crds = api(member, "apiextensions.k8s.io/v1", "CustomResourceDefinition", "");
        assert!(crds.get_opt("virtualservices.networking.istio.io").await?.is_some());
    }
    Ok(())
}
