//! Copies go, and nothing is lost of where they are.

use crate::{
    common::{QUIET, SOON, TYPES, World, api, entry, gone, wait_event},
    fixtures::*,
};
use anyhow::{Context as _, Result, ensure};
use fedistio_tests::install::{self, eventually};
use kube::api::DeleteParams;
use serde_json::{Value, json};

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

pub(crate) async fn a_member_that_is_away_is_given_up_when_the_user_says_so(world: &mut World) -> Result<()> {
    let second = &world.bed.members[1];
    let mut object = federated(
        "ConfigMap",
        "given-up",
        json!({"data": {"a": "1"}}),
        json!({"clusterSelector": {}}),
        json!([]),
    );
    object["spec"]["deletion"] = json!({"unreachableTimeout": "5s"});
    install::apply(&world.bed.host, object).await?;
    let maps = api(&world.bed.host, TYPES, "FederatedConfigMap", "bookinfo");
    wait_status(&maps, "given-up", "in both", in_sync(2)).await?;
    second.stop().await?;
    maps.delete("given-up", &DeleteParams::default()).await?;
    wait_status(&maps, "given-up", "the removal waits", |status| {
        entry(status, "member2")["state"] == "Removing"
    })
    .await?;
    eventually("the federated object is gone", SOON, || gone(&maps, "given-up")).await?;
    wait_event(&world.bed.host, "FederatedConfigMap", "given-up", "CopyReleased", "member2").await?;
    gone(&api(&world.bed.members[0], "v1", "ConfigMap", "bookinfo"), "given-up").await?;
    second.start().await?;
    // What was given up stays, also when the member is back.
    tokio::time::sleep(QUIET).await;
    let copies = api(second, "v1", "ConfigMap", "bookinfo");
    copies.delete("given-up", &DeleteParams::default()).await.context("a copy that was given up is gone")?;
    Ok(())
}

pub(crate) async fn a_copy_that_was_given_up_is_removed_while_somebody_answers_for_it(
    world: &mut World,
) -> Result<()> {
    let second = &world.bed.members[1];
    let object = |placement: Value| {
        let mut object = federated("ConfigMap", "moved", json!({"data": {"a": "1"}}), placement, json!([]));
        object["spec"]["deletion"] = json!({"unreachableTimeout": "3s"});
        object
    };
    install::apply(&world.bed.host, object(json!({"clusterSelector": {}}))).await?;
    let maps = api(&world.bed.host, TYPES, "FederatedConfigMap", "bookinfo");
    wait_status(&maps, "moved", "in both", in_sync(2)).await?;
    second.stop().await?;
    install::apply(&world.bed.host, object(json!({"clusters": [{"name": "member1"}]}))).await?;
    wait_status(&maps, "moved", "the second is given up", in_sync(1)).await?;
    wait_event(&world.bed.host, "FederatedConfigMap", "moved", "CopyReleased", "member2").await?;
    second.start().await?;
    let copies = api(second, "v1", "ConfigMap", "bookinfo");
    eventually("the copy is removed when it is seen again", SOON, || gone(&copies, "moved")).await?;
    maps.delete("moved", &DeleteParams::default()).await.map(drop).map_err(Into::into)
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
    install::fedistio_ok(&["unjoin", "member2", "--force", "--kubeconfig", &host_kubeconfig(world)]).await?;
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

pub(crate) async fn deleting_everything_leaves_no_copy(world: &mut World) -> Result<()> {
    let kinds = [
        "VirtualService",
        "DestinationRule",
        "Gateway",
        "AuthorizationPolicy",
        "PeerAuthentication",
        "Deployment",
        "Service",
        "ServiceAccount",
        "ConfigMap",
        "Secret",
    ];
    for kind in kinds {
        let objects = api(&world.bed.host, TYPES, &format!("Federated{kind}"), "bookinfo");
        objects.delete_collection(&DeleteParams::default(), &kube::api::ListParams::default()).await?;
        eventually(&format!("every Federated{kind} is gone"), SOON, || async {
            let left = objects.list_metadata(&kube::api::ListParams::default()).await?.items.len();
            ensure!(left == 0, "{left} left");
            Ok(())
        })
        .await?;
    }
    for member in &world.bed.members {
        let left = virtual_services(member).list(&kube::api::ListParams::default()).await?.items;
        assert!(left.is_empty(), "left in {}: {left:?}", member.name());
    }
    Ok(())
}
