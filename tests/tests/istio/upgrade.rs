//! Live upgrades with real istiods: a stage that stops, the way back, the whole way.

use crate::{
    common::{SOON, World, api, entry, wait_status},
    fixtures::*,
};
use anyhow::{Result, ensure};
use fedistio_tests::install::{self, eventually};
use serde_json::{Value, json};

/// Phases of an upgrade, in order.
const PHASES: [&str; 6] =
    ["Installing", "WaitingForIstiod", "MovingTag", "MovingWorkloads", "RemovingOldRevision", "Healthy"];

pub(crate) async fn a_new_version_that_is_not_ready_in_time_stops_the_stage(world: &mut World) -> Result<()> {
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

pub(crate) async fn going_back_leaves_the_old_version_alone_and_healthy(world: &mut World) -> Result<()> {
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

pub(crate) async fn a_live_upgrade_goes_canary_first_and_takes_the_workloads_along(
    world: &mut World,
) -> Result<()> {
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
