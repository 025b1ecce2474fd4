//! Installation, idleness, drift, bad input, removal.

use crate::{
    common::{FEDISTIO, SOON, World, api, entry, gone, wait_status},
    fixtures::*,
};
use anyhow::{Context as _, Result, ensure};
use fedistio_tests::{
    Cluster,
    install::{self, USER, eventually},
};
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;
use std::time::Duration;

pub(crate) async fn bad_input_has_its_reason_and_stops_nothing_else(world: &mut World) -> Result<()> {
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

pub(crate) async fn one_resource_installs_every_cluster(world: &mut World) -> Result<()> {
    install::apply(&world.bed.host, mesh("mesh", OLD)).await?;
    let status =
        wait_status(&meshes(world), "mesh", "every cluster is healthy", INSTALLED, healthy_on(OLD)).await?;
    assert_eq!(status["summary"], json!({"clusters": 2, "inSync": 2, "failed": 0}));
    for member in world.bed.members.iter().take(2) {
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
    let table = install::fedistio_ok(&[
        "status",
        "--kubeconfig",
        &world.bed.host.kubeconfig_path().display().to_string(),
    ])
    .await?;
    assert!(table.contains("member1") && table.contains(OLD), "{table}");
    Ok(())
}

pub(crate) async fn sidecars_come_from_the_installed_revision(world: &mut World) -> Result<()> {
    let labels = json!({"app": "web"});
    let workload = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "shop"}, "spec": {
        "replicas": 2, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": {
            "containers": [{"name": "web", "image": "docker.io/library/web:1"}]}}}});
    for member in world.bed.members.iter().take(2) {
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

pub(crate) async fn an_idle_minute_and_a_restart_write_nothing(world: &mut World) -> Result<()> {
    // Whatever the last scenario set going has to end first.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let marks: Vec<_> = world.bed.members.iter().take(2).map(Cluster::audit_mark).collect::<Result<_>>()?;
    tokio::time::sleep(IDLE).await;
    if let Some(operator) = world.operator.take() {
        operator.stop().await?;
    }
    world.operator = Some(world.installation.start().await?);
    wait_status(&meshes(world), "mesh", "still healthy", SOON, healthy_on(OLD)).await?;
    tokio::time::sleep(Duration::from_secs(15)).await;
    for (member, mark) in world.bed.members.iter().zip(marks) {
        let writes = member.audit_writes_since(mark, Some(USER))?;
        assert!(writes.is_empty(), "writes to {} in an idle minute and a restart: {writes:?}", member.name());
    }
    Ok(())
}

pub(crate) async fn drift_of_a_control_plane_is_put_right(world: &mut World) -> Result<()> {
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

pub(crate) async fn removing_the_resource_removes_the_control_planes(world: &mut World) -> Result<()> {
    meshes(world).delete("mesh", &DeleteParams::default()).await?;
    eventually("the FederatedIstio is gone", INSTALLED, || async { gone(&meshes(world), "mesh").await })
        .await?;
    for member in world.bed.members.iter().take(2) {
        assert!(istiods(member).await?.is_empty());
        assert_eq!(tag_of(member).await?, None);
        // CRDs stay, as with helm: deleting them would delete every Istio resource of the cluster.
        let crds = api(member, "apiextensions.k8s.io/v1", "CustomResourceDefinition", "");
        assert!(crds.get_opt("virtualservices.networking.istio.io").await?.is_some());
    }
    Ok(())
}
