//! `FederatedIstio` on real clusters: one bed, one operator with the permissions of its manifests, scenarios in order.

use anyhow::{Context as _, Result};
use fedistio_tests::TestBed;

#[path = "../common/mod.rs"]
mod common;
mod fixtures;
mod installation;
mod sharing;
mod sources;
mod upgrade;

use common::{World, scenarios};
use fixtures::{NEW, NEWER_KUBERNETES, OLD};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_planes_on_real_clusters() -> Result<()> {
    let bed = TestBed::builder().members(3).kubernetes_of("member3", NEWER_KUBERNETES).istio([OLD, NEW]);
    let mut world = World::start(bed).await?;
    world.join(2).await?;
    let world = &mut world;
    scenarios!(world;
        installation::bad_input_has_its_reason_and_stops_nothing_else,
        installation::one_resource_installs_every_cluster,
        installation::sidecars_come_from_the_installed_revision,
        installation::an_idle_minute_and_a_restart_write_nothing,
        installation::drift_of_a_control_plane_is_put_right,
        upgrade::a_new_version_that_is_not_ready_in_time_stops_the_stage,
        upgrade::going_back_leaves_the_old_version_alone_and_healthy,
        upgrade::a_live_upgrade_goes_canary_first_and_takes_the_workloads_along,
        installation::removing_the_resource_removes_the_control_planes,
        sources::each_cluster_has_the_version_that_it_can_have,
        sources::a_changed_chart_is_refused_and_changes_nothing,
        sources::charts_that_were_fetched_before_do_without_their_registry,
        sharing::a_cluster_has_one_control_plane_and_the_next_in_line_gets_it,
        sharing::a_removal_gives_a_cluster_up_when_the_user_says_so,
        sharing::a_cluster_that_leaves_the_placement_is_given_up_in_the_same_way,
    )
}
