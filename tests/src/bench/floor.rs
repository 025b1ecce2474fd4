//! The floor: what a bare client needs for the same requests to the same servers.

use super::{
    report::Floor,
    stats::Latencies,
    target::{Target, federated, for_each, names, virtual_service},
    world::{BOUND, World},
};
use crate::operator::cpu_seconds;
use anyhow::{Context as _, Result};
use futures::future::try_join_all;
use kube::api::ListParams;
use serde_json::{Value, json};
use std::{sync::Arc, time::Instant};
use tokio::{sync::Semaphore, task::JoinHandle};

/// Objects that warm the servers up, so that the first measured run is not the slow one.
const WARM_UP: usize = 20;

/// Measures the floor of everything with `objects` objects and `changes` changes. Tries each of these numbers of requests in flight for a
/// member, and keeps the best.
///
/// # Errors
/// What a server refuses or does not answer in time.
pub(super) async fn measure(
    world: &mut World,
    objects: usize,
    changes: usize,
    in_flight: &[usize],
) -> Result<Floor> {
    let mut floor = Floor { bulk_seconds: f64::INFINITY, ..Floor::default() };
    let warm = names("warm", WARM_UP);
    bulk(world, &warm, 1, 16).await?;
    delete(world, &warm, 16).await?;
    for &in_flight in in_flight {
        let objects = names(&format!("floor{in_flight}"), objects);
        let before = cpu_seconds(std::process::id())?;
        let seconds = bulk(world, &objects, 1, in_flight).await?;
        let cpu = cpu_seconds(std::process::id())? - before;
        if seconds < floor.bulk_seconds {
            floor.bulk_seconds = seconds;
            floor.bulk_cpu_seconds = cpu;
            floor.in_flight_per_member = in_flight;
        }
        if floor.change.is_none() {
            floor.change = Some(change_latency(world, &objects, changes).await?.into());
        }
        let seconds = delete(world, &objects, in_flight).await?;
        floor.delete_seconds = Some(floor.delete_seconds.map_or(seconds, |best| best.min(seconds)));
    }
    let objects = names("floorhost", objects);
    floor.bulk_with_host_seconds = bulk_with_host(world, &objects, floor.in_flight_per_member).await?;
    floor.delete_with_host_seconds = delete_with_host(world, &objects, floor.in_flight_per_member).await?;
    Ok(floor)
}

/// Does `work` for every object in every member, each member in a task of its own.
async fn in_members<F>(
    world: &World,
    names: &[String],
    in_flight: usize,
    work: impl Fn(Target, String) -> F + Clone + Send + Sync + 'static,
) -> Result<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let tasks = world.members.iter().map(|member| {
        let (member, names, work) = (member.clone(), names.to_vec(), work.clone());
        tokio::spawn(async move { for_each(in_flight, names, |name| work(member.clone(), name)).await })
    });
    finish(tasks.collect()).await
}

async fn finish(tasks: Vec<JoinHandle<Result<()>>>) -> Result<()> {
    for result in try_join_all(tasks).await.context("a task of the benchmark was ended")? {
        result?;
    }
    Ok(())
}

/// Server-side applies only: seconds from the first to the last object seen in the last member.
async fn bulk(world: &mut World, names: &[String], round: u64, in_flight: usize) -> Result<f64> {
    let started = Instant::now();
    in_members(world, names, in_flight, move |member, name| async move {
        member.apply(&name, &virtual_service(&name, round)).await
    })
    .await?;
    let everywhere = world.everywhere();
    let seen = world.sight.at_round(BOUND, &everywhere, names, round).await?;
    Ok((seen - started).as_secs_f64())
}

async fn delete(world: &mut World, names: &[String], in_flight: usize) -> Result<f64> {
    let started = Instant::now();
    in_members(world, names, in_flight, |member, name| async move { member.delete(&name).await }).await?;
    let everywhere = world.everywhere();
    let gone = world.sight.gone(BOUND, &everywhere, names).await?;
    Ok((gone - started).as_secs_f64())
}

async fn change_latency(world: &mut World, names: &[String], changes: usize) -> Result<Latencies> {
    let everywhere = world.everywhere();
    let mut latencies = Latencies::default();
    for (round, name) in (2_u64..).zip(names.iter().cycle()).take(changes) {
        let body = virtual_service(name, round);
        let started = Instant::now();
        try_join_all(world.members.iter().map(|member| member.apply(name, &body))).await?;
        let one = std::slice::from_ref(name);
        let seen = world.sight.at_round(BOUND, &everywhere, one, round).await?;
        latencies.add(seen - started);
    }
    Ok(latencies)
}

/// For every object: a create on the host, an apply in every member, and one write of its status.
async fn bulk_with_host(world: &mut World, names: &[String], in_flight: usize) -> Result<f64> {
    let status = status(world);
    let host = (world.host.clone(), Arc::new(Semaphore::new(world.in_flight)));
    let members: Vec<_> =
        world.members.iter().map(|member| (member.clone(), Arc::new(Semaphore::new(in_flight)))).collect();
    let started = Instant::now();
    let tasks = names.iter().map(|name| {
        let (name, status, host, members) = (name.clone(), status.clone(), host.clone(), members.clone());
        tokio::spawn(async move {
            let permit = host.1.acquire().await?;
            host.0.create(&name, &federated(&name, 1)).await?;
            drop(permit);
            let body = virtual_service(&name, 1);
            try_join_all(members.iter().map(|(member, permits)| async {
                let _permit = permits.acquire().await?;
                member.apply(&name, &body).await
            }))
            .await?;
            let _permit = host.1.acquire().await?;
            host.0.merge_status(&name, &status).await
        })
    });
    finish(tasks.collect()).await?;
    let everywhere = world.everywhere();
    let seen = world.sight.at_round(BOUND, &everywhere, names, 1).await?;
    Ok((seen - started).as_secs_f64())
}

/// A status as the operator writes it when all members are in sync.
fn status(world: &World) -> Value {
    let members = world.members.len();
    let copies: Vec<_> = world
        .members
        .iter()
        .map(|member| json!({"name": member.cluster(), "state": "InSync", "reason": "Applied"}))
        .collect();
    json!({
        "observedGeneration": 1,
        "summary": {"clusters": members, "inSync": members, "failed": 0},
        "clusters": copies,
    })
}

/// Deletes on the host and in all members.
async fn delete_with_host(world: &mut World, names: &[String], in_flight: usize) -> Result<f64> {
    let (host, at_once, own) = (world.host.clone(), world.in_flight, names.to_vec());
    let started = Instant::now();
    let task =
        tokio::spawn(async move { for_each(at_once, own, |name| delete_one(host.clone(), name)).await });
    in_members(world, names, in_flight, |member, name| async move { member.delete(&name).await }).await?;
    let everywhere = world.everywhere();
    let gone = world.sight.gone(BOUND, &everywhere, names).await?;
    finish(vec![task]).await?;
    anyhow::ensure!(
        world.host.list(ListParams::default().limit(1)).await?.is_empty(),
        "objects stay on the host although nothing holds them"
    );
    Ok((gone.max(Instant::now()) - started).as_secs_f64())
}

async fn delete_one(host: Target, name: String) -> Result<()> {
    host.delete(&name).await
}
