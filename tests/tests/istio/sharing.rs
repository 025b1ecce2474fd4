//! Several `FederatedIstio`s, and removals that do not wait for ever.

use crate::{
    common::{QUIET, SOON, World, entry, gone, wait_event, wait_status},
    fixtures::*,
};
use anyhow::Result;
use fedistio_tests::install::{self, eventually};
use kube::api::DeleteParams;
use serde_json::json;

pub(crate) async fn a_cluster_has_one_control_plane_and_the_next_in_line_gets_it(
    world: &mut World,
) -> Result<()> {
    let mut rival = mesh("rival", OLD);
    rival["spec"].as_object_mut().map(|spec| spec.remove("strategyRef"));
    rival["spec"]["placement"] = json!({"clusters": [{"name": "member2"}]});
    install::apply(&world.bed.host, rival).await?;
    let status = wait_status(&meshes(world), "rival", "the cluster is taken", SOON, |status| {
        entry(status, "member2")["reason"] == "ClusterTaken"
    })
    .await?;
    let message = entry(&status, "member2")["message"].as_str().unwrap_or_default();
    assert!(message.contains("FederatedIstio mesh"), "{message}");
    wait_event(&world.bed.host, "FederatedIstio", "rival", "ClusterTaken", "member2").await?;
    assert_eq!(entry(&meshes(world).get("mesh").await?.data["status"], "member2")["phase"], "Healthy");
    // The first one leaves this cluster only.
    let mut rest = mesh("mesh", NEW);
    rest["spec"].as_object_mut().map(|spec| spec.remove("strategyRef"));
    rest["spec"]["placement"] = json!({"clusters": [{"name": "member1"}]});
    install::apply(&world.bed.host, rest).await?;
    wait_status(&meshes(world), "rival", "the rival has it", INSTALLED, |status| {
        entry(status, "member2")["phase"] == "Healthy" && entry(status, "member2")["version"] == OLD
    })
    .await?;
    let status = meshes(world).get("mesh").await?.data["status"].clone();
    assert_eq!(
        (&entry(&status, "member1")["phase"], entry(&status, "member2").is_null()),
        (&json!("Healthy"), true)
    );
    Ok(())
}

pub(crate) async fn a_removal_gives_a_cluster_up_when_the_user_says_so(world: &mut World) -> Result<()> {
    let second = &world.bed.members[1];
    let mut rival = mesh("rival", OLD);
    rival["spec"].as_object_mut().map(|spec| spec.remove("strategyRef"));
    rival["spec"]["placement"] = json!({"clusters": [{"name": "member2"}]});
    rival["spec"]["deletion"] = json!({"unreachableTimeout": "5s"});
    install::apply(&world.bed.host, rival).await?;
    second.stop().await?;
    meshes(world).delete("rival", &DeleteParams::default()).await?;
    wait_status(&meshes(world), "rival", "the removal waits", SOON, |status| {
        entry(status, "member2")["phase"] == "Removing"
    })
    .await?;
    eventually("the mesh is gone", SOON, || async { gone(&meshes(world), "rival").await }).await?;
    wait_event(&world.bed.host, "FederatedIstio", "rival", "ControlPlaneReleased", "member2").await?;
    second.start().await?;
    tokio::time::sleep(QUIET).await;
    assert_eq!(istiods(second).await?, ["istiod-1-28-2"], "what was given up must stay as it is");
    Ok(())
}

pub(crate) async fn a_cluster_that_leaves_the_placement_is_given_up_in_the_same_way(
    world: &mut World,
) -> Result<()> {
    let first = &world.bed.members[0];
    let mut moved = mesh("mesh", NEW);
    moved["spec"].as_object_mut().map(|spec| spec.remove("strategyRef"));
    moved["spec"]["placement"] = json!({"clusters": [{"name": "member2"}]});
    first.stop().await?;
    install::apply(&world.bed.host, moved.clone()).await?;
    // Without a bound it waits, and says what would end the wait.
    wait_status(
        &meshes(world),
        "mesh",
        "it waits for member1, and has come to member2",
        INSTALLED,
        |status| {
            let message = entry(status, "member1")["message"].as_str().unwrap_or_default();
            message.contains("unjoin --force") && entry(status, "member2")["phase"] == "Healthy"
        },
    )
    .await?;
    moved["spec"]["deletion"] = json!({"unreachableTimeout": "5s"});
    install::apply(&world.bed.host, moved).await?;
    wait_status(&meshes(world), "mesh", "member1 is given up", SOON, |status| {
        entry(status, "member1").is_null() && entry(status, "member2")["phase"] == "Healthy"
    })
    .await?;
    wait_event(&world.bed.host, "FederatedIstio", "mesh", "ControlPlaneReleased", "member1").await?;
    first.start().await
}
