//! The federation core on real API servers: one bed, one operator with the permissions of its manifests, scenarios in order.

use anyhow::{Context as _, Result};
use fedistio_tests::{Cluster, TestBed, install};
use kube::{Api, api::DynamicObject};
use serde_json::{Value, json};

#[path = "../common/mod.rs"]
mod common;
mod copies;
mod members;

use common::{SOON, TYPES, World, api, entry, scenarios};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn federation_on_real_clusters() -> Result<()> {
    let bed = TestBed::builder().members(2).build().await?;
    for member in &bed.members {
        install::apply_istio_crds(member, "1.28.2").await?;
    }
    let mut world = World::start(bed, &["canary", "prod"]).await?;
    let result = in_order(&mut world).await;
    world.explain(result)
}

async fn in_order(world: &mut World) -> Result<()> {
    scenarios! { world:
        members::members_become_ready_with_version_region_and_zones,
        copies::a_namespace_and_its_objects_reach_every_placed_cluster,
        copies::an_override_changes_one_cluster_and_sends_nothing_to_the_others,
        copies::drift_is_put_right_and_foreign_fields_stay,
        copies::a_deleted_copy_comes_back,
        copies::every_builtin_core_kind_is_in_sync,
        copies::a_restart_writes_nothing_to_members,
        copies::bad_overrides_and_templates_stay_with_their_object_and_cluster,
        copies::an_object_that_is_not_ours_is_not_taken_over,
        members::a_type_that_a_member_lacks_is_reported_and_picked_up,
        members::relabelling_a_cluster_moves_copies,
        members::an_unreachable_member_stops_nobody_and_catches_up,
        members::a_copy_leaves_the_ledger_only_when_it_is_gone,
        members::a_bound_lets_an_unreachable_member_go,
        members::a_broken_secret_stops_only_its_cluster,
        members::taking_a_member_out_releases_its_copies,
        copies::two_hundred_objects_come_and_go,
        copies::deleting_everything_leaves_no_copy,
    }
}

const NETWORKING: &str = "networking.istio.io/v1";

fn virtual_services(cluster: &Cluster) -> Api<DynamicObject> {
    api(cluster, NETWORKING, "VirtualService", "bookinfo")
}

fn federated_virtual_services(world: &World) -> Api<DynamicObject> {
    api(&world.bed.host, TYPES, "FederatedVirtualService", "bookinfo")
}

fn federated(kind: &str, name: &str, template: Value, placement: Value, overrides: Value) -> Value {
    let mut object = json!({
        "apiVersion": TYPES, "kind": format!("Federated{kind}"),
        "metadata": {"name": name, "namespace": "bookinfo"},
        "spec": {"template": template, "placement": placement, "overrides": overrides},
    });
    if kind == "Namespace" {
        object["metadata"] = json!({"name": name});
    }
    object
}

fn route(host: &str) -> Value {
    json!({"spec": {"hosts": [host], "http": [{"route": [{"destination": {"host": host}}]}]}})
}

async fn wait_status(
    api: &Api<DynamicObject>,
    name: &str,
    what: &str,
    test: impl Fn(&Value) -> bool,
) -> Result<Value> {
    common::wait_status(api, name, what, SOON, test).await
}

fn in_sync(count: i64) -> impl Fn(&Value) -> bool {
    move |status| status["summary"]["inSync"] == count && status["summary"]["clusters"] == count
}

fn cluster_is<'a>(cluster: &'a str, state: &'a str, reason: &'a str) -> impl Fn(&Value) -> bool + 'a {
    move |status| entry(status, cluster)["state"] == state && entry(status, cluster)["reason"] == reason
}
