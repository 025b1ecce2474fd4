//! What goes wrong stays with its object and its cluster.

use crate::{
    common::{SOON, TYPES, World, api, entry, gone, status_of},
    fixtures::*,
};
use anyhow::{Context as _, Result, ensure};
use fedistio_tests::install::{self, eventually};
use kube::api::DeleteParams;
use serde_json::json;

pub(crate) async fn bad_overrides_and_templates_stay_with_their_object_and_cluster(
    world: &mut World,
) -> Result<()> {
    let everywhere = json!({"clusterSelector": {}});
    let overrides =
        json!([{"clusterName": "member1", "clusterOverrides": [{"path": "/spec/none/0", "value": 1}]}]);
    let host = &world.bed.host;
    install::apply(
        host,
        federated("VirtualService", "bad-override", route("a"), everywhere.clone(), overrides),
    )
    .await?;
    let wrong_kind = json!({"apiVersion": "v1", "kind": "ConfigMap"});
    install::apply(
        host,
        federated("VirtualService", "wrong-kind", wrong_kind, everywhere.clone(), json!([])),
    )
    .await?;
    let unknown_field = json!({"spec": {"hosts": ["a"], "htpp": []}});
    install::apply(
        host,
        federated("VirtualService", "unknown-field", unknown_field, everywhere.clone(), json!([])),
    )
    .await?;

    let federated_services = federated_virtual_services(world);
    let status = wait_status(&federated_services, "bad-override", "one cluster failed", |status| {
        cluster_is("member1", "Failed", "OverrideFailed")(status)
            && cluster_is("member2", "InSync", "Applied")(status)
    })
    .await?;
    let message = entry(&status, "member1")["message"].as_str().unwrap_or_default();
    assert!(
        message.contains("overrides[0].clusterOverrides[0]") && message.contains("/spec/none/0"),
        "{message}"
    );

    let status = wait_status(
        &federated_services,
        "wrong-kind",
        "refused",
        cluster_is("member1", "Failed", "TemplateInvalid"),
    )
    .await?;
    let message = status["conditions"][0]["message"].as_str().unwrap_or_default();
    assert!(message.contains("v1 ConfigMap") && message.contains("VirtualService"), "{message}");

    let status = wait_status(
        &federated_services,
        "unknown-field",
        "refused",
        cluster_is("member1", "Failed", "Invalid"),
    )
    .await?;
    let message = status["conditions"][0]["message"].as_str().unwrap_or_default();
    assert!(message.contains("htpp"), "{message}");

    // Malformed specs are refused by the CRD itself.
    let both = json!([{"clusterName": "a", "clusterSelector": {}, "clusterOverrides": []}]);
    let error =
        install::apply(host, federated("VirtualService", "refused", route("a"), everywhere, both)).await;
    let message =
        format!("{:#}", error.err().context("clusterName and clusterSelector were taken together")?);
    assert!(message.contains("either clusterName or clusterSelector"), "{message}");
    for name in ["bad-override", "wrong-kind", "unknown-field"] {
        federated_services.delete(name, &DeleteParams::default()).await?;
    }
    Ok(())
}

pub(crate) async fn an_object_that_is_not_ours_is_not_taken_over(world: &mut World) -> Result<()> {
    let member = &world.bed.members[0];
    let theirs = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "theirs", "namespace": "bookinfo"},
        "data": {"owner": "them"}});
    let theirs = install::apply(member, theirs).await?;
    let ours = federated(
        "ConfigMap",
        "theirs",
        json!({"data": {"owner": "us"}}),
        json!({"clusterSelector": {}}),
        json!([]),
    );
    install::apply(&world.bed.host, ours).await?;
    let maps = api(&world.bed.host, TYPES, "FederatedConfigMap", "bookinfo");
    let status = wait_status(&maps, "theirs", "a conflict", |status| {
        cluster_is("member1", "Failed", "Conflict")(status)
            && cluster_is("member2", "InSync", "Applied")(status)
    })
    .await?;
    let message = entry(&status, "member1")["message"].as_str().unwrap_or_default();
    assert!(message.contains("fedistio-tests") && message.contains("owner"), "{message}");
    maps.delete("theirs", &DeleteParams::default()).await?;
    eventually("the federated object is gone", SOON, || gone(&maps, "theirs")).await?;
    let copy = api(member, "v1", "ConfigMap", "bookinfo")
        .get("theirs")
        .await
        .context("an object that is not ours was deleted")?;
    assert_eq!(copy.data["data"]["owner"], "them");
    install::delete(member, &theirs).await
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
