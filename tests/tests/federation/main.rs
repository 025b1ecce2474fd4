//! The federation core on real API servers: one bed, one operator with the permissions of its manifests, scenarios in order.

use anyhow::{Context as _, Result};
use fedistio_tests::{TestBed, install};

#[path = "../common/mod.rs"]
mod common;
mod faults;
mod fixtures;
mod propagation;
mod removal;

use common::{World, scenarios};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn federation_on_real_clusters() -> Result<()> {
    let mut world = World::start(TestBed::builder().members(2)).await?;
    for member in &world.bed.members {
        install::apply_istio_crds(member, "1.28.2").await?;
    }
    world.join(2).await?;
    let world = &mut world;
    scenarios!(world;
        propagation::members_become_ready_with_version_region_and_zones,
        propagation::a_namespace_and_its_objects_reach_every_placed_cluster,
        propagation::an_override_changes_one_cluster_and_sends_nothing_to_the_others,
        propagation::drift_is_put_right_and_foreign_fields_stay,
        propagation::a_deleted_copy_comes_back,
        propagation::every_builtin_core_kind_is_in_sync,
        propagation::a_restart_writes_nothing_to_members,
        faults::bad_overrides_and_templates_stay_with_their_object_and_cluster,
        faults::an_object_that_is_not_ours_is_not_taken_over,
        faults::a_type_that_a_member_lacks_is_reported_and_picked_up,
        propagation::relabelling_a_cluster_moves_copies,
        faults::an_unreachable_member_stops_nobody_and_catches_up,
        removal::a_copy_leaves_the_ledger_only_when_it_is_gone,
        faults::a_broken_secret_stops_only_its_cluster,
        removal::a_member_that_is_away_is_given_up_when_the_user_says_so,
        removal::a_copy_that_was_given_up_is_removed_while_somebody_answers_for_it,
        removal::taking_a_member_out_releases_its_copies,
        propagation::two_hundred_objects_come_and_go,
        removal::deleting_everything_leaves_no_copy,
    )
}
