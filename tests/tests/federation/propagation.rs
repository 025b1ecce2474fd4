//! Copies come, follow, and are put right.

use crate::{
    common::{QUIET, SOON, TYPES, World, api, entry, gone, status_of},
    fixtures::*,
};
use anyhow::{Context as _, Result, ensure};
use fedistio_tests::{
    Cluster,
    install::{self, USER, eventually},
};
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

pub(crate) async fn members_become_ready_with_version_region_and_zones(world: &mut World) -> Result<()> {
    let clusters = api(&world.bed.host, "fedistio.io/v1alpha1", "MemberCluster", "");
    for member in &world.bed.members {
        let status = eventually("the member is ready", SOON, || async {
            let status = status_of(&clusters, member.name()).await?;
            let ready =
                status["conditions"][0]["type"] == "Ready" && status["conditions"][0]["status"] == "True";
            ensure!(ready && status["region"].is_string(), "status of {}: {status}", member.name());
            Ok(status)
        })
        .await?;
        assert_eq!(status["kubernetesVersion"], member.version().await?.as_str());
        assert_eq!(status["zones"].as_array().map(Vec::len), Some(2), "{status}");
    }
    let table = install::fedistio_ok(&["clusters", "--kubeconfig", &host_kubeconfig(world)]).await?;
    assert!(table.contains("member1") && table.contains("True"), "{table}");
    Ok(())
}

pub(crate) async fn a_namespace_and_its_objects_reach_every_placed_cluster(world: &mut World) -> Result<()> {
    let everywhere = json!({"clusterSelector": {}});
    let template = json!({"metadata": {"labels": {"istio-injection": "enabled"}}});
    let host = &world.bed.host;
    install::apply(host, json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "bookinfo"}}))
        .await?;
    // The objects first: they have to wait for their namespace, not fail for good.
    install::apply(
        host,
        federated("VirtualService", "reviews", route("reviews"), everywhere.clone(), json!([])),
    )
    .await?;
    install::apply(host, federated("Namespace", "bookinfo", template, everywhere, json!([]))).await?;
    wait_status(&federated_virtual_services(world), "reviews", "in sync in both", in_sync(2)).await?;
    for member in &world.bed.members {
        let copy = virtual_services(member).get("reviews").await?;
        assert_eq!(copy.data["spec"]["hosts"], json!(["reviews"]));
        let namespace = api(member, "v1", "Namespace", "").get("bookinfo").await?;
        let labels = namespace.metadata.labels.unwrap_or_default();
        assert_eq!(labels.get("istio-injection").map(String::as_str), Some("enabled"));
    }
    Ok(())
}

pub(crate) async fn an_override_changes_one_cluster_and_sends_nothing_to_the_others(
    world: &mut World,
) -> Result<()> {
    let [first, second] = [&world.bed.members[0], &world.bed.members[1]];
    let mark = first.audit_mark()?;
    let overrides = json!([{"clusterName": "member2",
        "clusterOverrides": [{"op": "replace", "path": "/spec/hosts/0", "value": "reviews.member2.example"}]}]);
    let object =
        federated("VirtualService", "reviews", route("reviews"), json!({"clusterSelector": {}}), overrides);
    install::apply(&world.bed.host, object).await?;
    wait_status(&federated_virtual_services(world), "reviews", "in sync in both", in_sync(2)).await?;
    assert_eq!(
        virtual_services(second).get("reviews").await?.data["spec"]["hosts"],
        json!(["reviews.member2.example"])
    );
    assert_eq!(virtual_services(first).get("reviews").await?.data["spec"]["hosts"], json!(["reviews"]));
    assert_eq!(
        first.audit_writes_since(mark, Some(USER))?,
        [],
        "an override for one cluster wrote to another"
    );
    Ok(())
}

pub(crate) async fn drift_is_put_right_and_foreign_fields_stay(world: &mut World) -> Result<()> {
    let copies = virtual_services(&world.bed.members[0]);
    let edit = json!({"metadata": {"labels": {"team": "blue"}}, "spec": {"hosts": ["hijacked"]}});
    let params = PatchParams { field_manager: Some("somebody".to_owned()), ..PatchParams::default() };
    copies.patch("reviews", &params, &Patch::Merge(&edit)).await?;
    eventually("the edit is put right", SOON, || async {
        let copy = copies.get("reviews").await?;
        ensure!(copy.data["spec"]["hosts"] == json!(["reviews"]), "{}", copy.data["spec"]);
        let labels = copy.metadata.labels.unwrap_or_default();
        ensure!(
            labels.get("team").map(String::as_str) == Some("blue"),
            "a label that is not ours was removed"
        );
        Ok(())
    })
    .await?;
    // Removing a field that we own is drift as well.
    copies.patch("reviews", &params, &Patch::Merge(json!({"spec": {"http": null}}))).await?;
    eventually("the removed field is back", SOON, || async {
        let copy = copies.get("reviews").await?;
        ensure!(copy.data["spec"]["http"].is_array(), "{}", copy.data["spec"]);
        Ok(())
    })
    .await
}

pub(crate) async fn a_deleted_copy_comes_back(world: &mut World) -> Result<()> {
    let copies = virtual_services(&world.bed.members[1]);
    copies.delete("reviews", &DeleteParams::default()).await?;
    eventually("the copy is back", SOON, || async { Ok(copies.get("reviews").await.map(drop)?) }).await
}

pub(crate) async fn every_builtin_core_kind_is_in_sync(world: &mut World) -> Result<()> {
    let everywhere = json!({"clusterSelector": {}});
    let labels = json!({"app": "web"});
    let container =
        json!({"name": "web", "image": "docker.io/library/web:1", "ports": [{"containerPort": 8080}]});
    let objects = [
        ("v1", "ServiceAccount", json!({})),
        ("v1", "ConfigMap", json!({"data": {"a": "1"}})),
        ("v1", "Secret", json!({"stringData": {"password": "x"}})),
        ("v1", "Service", json!({"spec": {"selector": labels, "ports": [{"port": 80, "targetPort": 8080}]}})),
        (
            "apps/v1",
            "Deployment",
            json!({"spec": {"replicas": 1, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"serviceAccountName": "web", "containers": [container]}}}}),
        ),
        (
            NETWORKING,
            "DestinationRule",
            json!({"spec": {"host": "web", "subsets": [{"name": "v1", "labels": {"version": "v1"}}]}}),
        ),
        (
            NETWORKING,
            "Gateway",
            json!({"spec": {"selector": {"istio": "ingressgateway"},
            "servers": [{"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}]}}),
        ),
        ("security.istio.io/v1", "AuthorizationPolicy", json!({"spec": {"action": "ALLOW", "rules": [{}]}})),
        ("security.istio.io/v1", "PeerAuthentication", json!({"spec": {"mtls": {"mode": "STRICT"}}})),
    ];
    for (_, kind, template) in &objects {
        let object = federated(kind, "web", template.clone(), everywhere.clone(), json!([]));
        install::apply(&world.bed.host, object).await?;
    }
    for (api_version, kind, _) in &objects {
        let kind_federated = format!("Federated{kind}");
        let federated = api(&world.bed.host, TYPES, &kind_federated, "bookinfo");
        wait_status(&federated, "web", &kind_federated, in_sync(2)).await?;
        for member in &world.bed.members {
            api(member, api_version, kind, "bookinfo")
                .get("web")
                .await
                .with_context(|| format!("{kind} in {}", member.name()))?;
        }
    }
    Ok(())
}

pub(crate) async fn a_restart_writes_nothing_to_members(world: &mut World) -> Result<()> {
    // Whatever is still on its way from the scenarios before has to be done.
    tokio::time::sleep(QUIET).await;
    let marks: Vec<_> = world.bed.members.iter().map(Cluster::audit_mark).collect::<Result<_>>()?;
    if let Some(operator) = world.operator.take() {
        operator.stop().await?;
    }
    world.operator = Some(world.installation.start().await?);
    // A change after the restart shows that the operator is at work, so that silence is not just absence.
    let probe = federated(
        "ConfigMap",
        "after-restart",
        json!({"data": {"a": "1"}}),
        json!({"clusterSelector": {}}),
        json!([]),
    );
    install::apply(&world.bed.host, probe).await?;
    let federated_maps = api(&world.bed.host, TYPES, "FederatedConfigMap", "bookinfo");
    wait_status(&federated_maps, "after-restart", "in sync after the restart", in_sync(2)).await?;
    tokio::time::sleep(QUIET).await;
    for (member, mark) in world.bed.members.iter().zip(marks) {
        let writes = member.audit_writes_since(mark, Some(USER))?;
        let others: Vec<_> = writes.iter().filter(|write| write.name != "after-restart").collect();
        assert!(others.is_empty(), "writes to {} by a restart: {others:?}", member.name());
        assert_eq!(writes.len(), 1, "one write makes one copy: {writes:?}");
    }
    Ok(())
}

pub(crate) async fn relabelling_a_cluster_moves_copies(world: &mut World) -> Result<()> {
    let canary = json!({"clusterSelector": {"matchLabels": {"env": "canary"}}});
    install::apply(
        &world.bed.host,
        federated("ConfigMap", "moving", json!({"data": {"a": "1"}}), canary, json!([])),
    )
    .await?;
    let maps = api(&world.bed.host, TYPES, "FederatedConfigMap", "bookinfo");
    wait_status(&maps, "moving", "in the canary only", in_sync(1)).await?;
    let clusters = api(&world.bed.host, "fedistio.io/v1alpha1", "MemberCluster", "");
    let label = |env: &str| Patch::Merge(json!({"metadata": {"labels": {"env": env}}}));
    clusters.patch("member1", &PatchParams::default(), &label("prod")).await?;
    clusters.patch("member2", &PatchParams::default(), &label("canary")).await?;
    wait_status(&maps, "moving", "moved", |status| {
        cluster_is("member2", "InSync", "Applied")(status) && entry(status, "member1").is_null()
    })
    .await?;
    gone(&api(&world.bed.members[0], "v1", "ConfigMap", "bookinfo"), "moving").await?;
    clusters.patch("member1", &PatchParams::default(), &label("canary")).await?;
    clusters.patch("member2", &PatchParams::default(), &label("prod")).await?;
    wait_status(&maps, "moving", "moved back", cluster_is("member1", "InSync", "Applied")).await?;
    maps.delete("moving", &DeleteParams::default()).await?;
    Ok(())
}

pub(crate) async fn two_hundred_objects_come_and_go(world: &mut World) -> Result<()> {
    let maps = api(&world.bed.host, TYPES, "FederatedConfigMap", "bookinfo");
    for number in 0..200 {
        let name = format!("many-{number}");
        let map = federated(
            "ConfigMap",
            &name,
            json!({"data": {"a": "1"}}),
            json!({"clusterSelector": {}}),
            json!([]),
        );
        let map = serde_json::from_value(map)?;
        maps.create(&kube::api::PostParams::default(), &map).await?;
    }
    // Deleted while the last statuses are being written: finalizers and statuses must not get into each other's way.
    maps.delete_collection(&DeleteParams::default(), &kube::api::ListParams::default()).await?;
    eventually("all are gone", SOON, || async {
        let left = maps.list_metadata(&kube::api::ListParams::default()).await?.items.len();
        ensure!(left == 0, "{left} left");
        Ok(())
    })
    .await?;
    for member in &world.bed.members {
        let copies = api(member, "v1", "ConfigMap", "bookinfo");
        let left = copies
            .list_metadata(&kube::api::ListParams::default().labels("fedistio.io/managed=true"))
            .await?
            .items;
        ensure!(left.is_empty(), "{} copies left in {}", left.len(), member.name());
    }
    Ok(())
}
