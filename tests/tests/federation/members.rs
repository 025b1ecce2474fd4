//! Members that lack a type, go away, are taken out, or can't be reached at all.

use crate::{
    World, cluster_is,
    common::{QUIET, SOON, TYPES, api, entry, gone, status_of, stop_and_wait, wait_event},
    federated, federated_virtual_services, in_sync, route, virtual_services, wait_status,
};
use anyhow::{Context as _, Result, ensure};
use fedistio_tests::install::{self, eventually};
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

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
    let table = install::fedistio_ok(&["clusters", "--kubeconfig", &world.host_kubeconfig()]).await?;
    assert!(table.contains("member1") && table.contains("True"), "{table}");
    Ok(())
}

pub(crate) async fn a_type_that_a_member_lacks_is_reported_and_picked_up(world: &mut World) -> Result<()> {
    let member = &world.bed.members[1];
    let crds = api(member, "apiextensions.k8s.io/v1", "CustomResourceDefinition", "");
    let name = "sidecars.networking.istio.io";
    crds.delete(name, &DeleteParams::default()).await?;
    eventually("the CRD is gone", SOON, || gone(&crds, name)).await?;
    let template = json!({"spec": {"egress": [{"hosts": ["./*"]}]}});
    install::apply(
        &world.bed.host,
        federated("Sidecar", "default", template, json!({"clusterSelector": {}}), json!([])),
    )
    .await?;
    let sidecars = api(&world.bed.host, TYPES, "FederatedSidecar", "bookinfo");
    wait_status(&sidecars, "default", "one member lacks the type", |status| {
        cluster_is("member1", "InSync", "Applied")(status)
            && cluster_is("member2", "Failed", "TypeNotServed")(status)
    })
    .await?;
    install::apply_istio_crds(member, "1.28.2").await?;
    wait_status(&sidecars, "default", "picked up once the type is served", in_sync(2)).await?;
    sidecars.delete("default", &DeleteParams::default()).await?;
    eventually("the federated Sidecar is gone", SOON, || gone(&sidecars, "default")).await
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

pub(crate) async fn an_unreachable_member_stops_nobody_and_catches_up(world: &mut World) -> Result<()> {
    let [first, second] = [&world.bed.members[0], &world.bed.members[1]];
    first.pause().await?;
    let change = |host: &str| {
        federated("VirtualService", "reviews", route(host), json!({"clusterSelector": {}}), json!([]))
    };
    install::apply(&world.bed.host, change("one")).await?;
    eventually("the other member is changed", SOON, || async {
        let copy = virtual_services(second).get("reviews").await?;
        ensure!(copy.data["spec"]["hosts"] == json!(["one"]), "{}", copy.data["spec"]);
        Ok(())
    })
    .await?;
    wait_status(&federated_virtual_services(world), "reviews", "the hung member is reported", |status| {
        cluster_is("member1", "Pending", "ClusterNotReady")(status)
            && cluster_is("member2", "InSync", "Applied")(status)
    })
    .await?;
    install::apply(&world.bed.host, change("two")).await?;
    first.resume().await?;
    wait_status(&federated_virtual_services(world), "reviews", "caught up", in_sync(2)).await?;
    assert_eq!(virtual_services(first).get("reviews").await?.data["spec"]["hosts"], json!(["two"]));
    Ok(())
}

pub(crate) async fn a_copy_leaves_the_ledger_only_when_it_is_gone(world: &mut World) -> Result<()> {
    let first = &world.bed.members[0];
    let object = |placement: Value| {
        federated("ConfigMap", "ledger", json!({"data": {"a": "1"}}), placement, json!([]))
    };
    install::apply(&world.bed.host, object(json!({"clusterSelector": {}}))).await?;
    let maps = api(&world.bed.host, TYPES, "FederatedConfigMap", "bookinfo");
    wait_status(&maps, "ledger", "in both", in_sync(2)).await?;
    first.stop().await?;
    install::apply(&world.bed.host, object(json!({"clusters": [{"name": "member2"}]}))).await?;
    wait_status(&maps, "ledger", "the unreachable copy stays in the ledger", |status| {
        entry(status, "member1")["state"] == "Removing" && entry(status, "member2")["state"] == "InSync"
    })
    .await?;
    // Placement removed while the member is away, then the object deleted: the copy must not leak.
    maps.delete("ledger", &DeleteParams::default()).await?;
    tokio::time::sleep(QUIET).await;
    ensure!(maps.get_opt("ledger").await?.is_some(), "the object went while a copy may still be there");
    first.start().await?;
    eventually("the federated object is gone", SOON, || gone(&maps, "ledger")).await?;
    gone(&api(first, "v1", "ConfigMap", "bookinfo"), "ledger").await
}

pub(crate) async fn a_bound_lets_an_unreachable_member_go(world: &mut World) -> Result<()> {
    let first = &world.bed.members[0];
    let object = |name: &str, placement: Value| {
        let mut object = federated("ConfigMap", name, json!({"data": {"a": "1"}}), placement, json!([]));
        object["spec"]["deletion"] = json!({"unreachableTimeout": "3s"});
        object
    };
    let host = &world.bed.host;
    let maps = api(host, TYPES, "FederatedConfigMap", "bookinfo");
    for name in ["deleted", "moved"] {
        install::apply(host, object(name, json!({"clusterSelector": {}}))).await?;
        wait_status(&maps, name, "in both", in_sync(2)).await?;
    }
    stop_and_wait(host, first).await?;
    maps.delete("deleted", &DeleteParams::default()).await?;
    install::apply(host, object("moved", json!({"clusters": [{"name": "member2"}]}))).await?;
    eventually("the deleted object is gone", SOON, || gone(&maps, "deleted")).await?;
    wait_status(&maps, "moved", "member1 is let go", in_sync(1)).await?;
    for name in ["deleted", "moved"] {
        wait_event(host, "FederatedConfigMap", name, "CopyOrphaned", "member1").await?;
    }
    first.start().await?;
    let copies = api(first, "v1", "ConfigMap", "bookinfo");
    // Somebody still answers for the one, and removes it when it is seen again. The other is an orphan.
    eventually("the copy that has an owner is removed after all", SOON, || gone(&copies, "moved")).await?;
    tokio::time::sleep(QUIET).await;
    let orphan = copies.get("deleted").await.context("the orphan is gone")?;
    copies.delete("deleted", &DeleteParams::default()).await?;
    assert_eq!(orphan.data["data"]["a"], "1");
    maps.delete("moved", &DeleteParams::default()).await?;
    Ok(())
}

pub(crate) async fn a_broken_secret_stops_only_its_cluster(world: &mut World) -> Result<()> {
    let host = &world.bed.host;
    let broken = |name: &str, text: &str| {
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": format!("{name}-kubeconfig"), "namespace": install::NAMESPACE},
            "stringData": {"kubeconfig": text}})
    };
    let exec = "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{name: c, cluster: {server: 'https://127.0.0.1:1'}}]\n\
        contexts: [{name: c, context: {cluster: c, user: u}}]\nusers: [{name: u, user: {exec: {command: sh, apiVersion: client.authentication.k8s.io/v1}}}]\n";
    let member = |name: &str| {
        json!({"apiVersion": "fedistio.io/v1alpha1", "kind": "MemberCluster", "metadata": {"name": name, "labels": {"env": "broken"}},
            "spec": {"access": {"kubeconfig": {"secretRef": {"name": format!("{name}-kubeconfig")}}}}})
    };
    for (name, text, reason) in [
        ("broken", "not: [yaml", "KubeconfigInvalid"),
        ("sneaky", exec, "KubeconfigNotAllowed"),
        ("missing", "", "SecretUnavailable"),
    ] {
        if !text.is_empty() {
            install::apply(host, broken(name, text)).await?;
        }
        let applied = install::apply(host, member(name)).await?;
        let clusters = api(host, "fedistio.io/v1alpha1", "MemberCluster", "");
        eventually("the reason is in its status", SOON, || async {
            let status = status_of(&clusters, name).await?;
            ensure!(status["conditions"][0]["reason"] == reason, "{status}");
            Ok(())
        })
        .await?;
        install::delete(host, &applied).await?;
    }
    let probe =
        federated("ConfigMap", "goes-on", json!({"data": {}}), json!({"clusterSelector": {}}), json!([]));
    install::apply(host, probe).await?;
    wait_status(&api(host, TYPES, "FederatedConfigMap", "bookinfo"), "goes-on", "others go on", in_sync(2))
        .await?;
    Ok(())
}

pub(crate) async fn taking_a_member_out_releases_its_copies(world: &mut World) -> Result<()> {
    let second = &world.bed.members[1];
    let maps = api(&world.bed.host, TYPES, "FederatedConfigMap", "bookinfo");
    let everywhere = federated(
        "ConfigMap",
        "kept",
        json!({"data": {"a": "1"}}),
        json!({"clusterSelector": {}}),
        json!([]),
    );
    install::apply(&world.bed.host, everywhere).await?;
    wait_status(&maps, "kept", "in both", in_sync(2)).await?;
    install::fedistio_ok(&["unjoin", "member2", "--force", "--kubeconfig", &world.host_kubeconfig()]).await?;
    wait_status(&maps, "kept", "the member is no longer listed", |status| {
        entry(status, "member2").is_null() && entry(status, "member1")["state"] == "InSync"
    })
    .await?;
    let copy = api(second, "v1", "ConfigMap", "bookinfo")
        .get("kept")
        .await
        .context("a released copy was deleted")?;
    assert_eq!(copy.data["data"]["a"], "1");
    install::join(&world.bed, second, "env=prod").await?;
    wait_status(&maps, "kept", "taken in again", in_sync(2)).await?;
    // A placement that selects nobody leaves an empty list, not the last one.
    clusters_label(world, "member1", "nobody").await?;
    let narrow = federated(
        "ConfigMap",
        "kept",
        json!({"data": {"a": "1"}}),
        json!({"clusterSelector": {"matchLabels": {"env": "canary"}}}),
        json!([]),
    );
    install::apply(&world.bed.host, narrow).await?;
    wait_status(&maps, "kept", "nobody is listed", |status| {
        status["summary"]["clusters"] == 0 && status["clusters"].as_array().is_none_or(Vec::is_empty)
    })
    .await?;
    clusters_label(world, "member1", "canary").await
}

async fn clusters_label(world: &World, cluster: &str, env: &str) -> Result<()> {
    let clusters = api(&world.bed.host, "fedistio.io/v1alpha1", "MemberCluster", "");
    let patch = Patch::Merge(json!({"metadata": {"labels": {"env": env}}}));
    clusters.patch(cluster, &PatchParams::default(), &patch).await?;
    Ok(())
}
