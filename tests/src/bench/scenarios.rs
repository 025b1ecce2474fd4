//! What is measured of the operator, one function a scenario.

use super::{
    report::{Absent, Bulk, Delete, Drift, Latency, Restart},
    stats::Latencies,
    target::{change, federated, for_each},
    world::{BOUND, World},
};
use crate::install::eventually;
use anyhow::{Result, ensure};
use kube::api::ListParams;
use serde_json::json;
use std::time::{Duration, Instant};

/// How long a member is away before anything is measured: its watches have noticed by then.
const AWAY: Duration = Duration::from_secs(2);

/// Counts changes, so that every one can be told from those before.
pub(super) struct Rounds(u64);

impl Rounds {
    pub(super) fn new() -> Self {
        Self(1)
    }

    fn next(&mut self) -> u64 {
        self.0 += 1;
        self.0
    }
}

/// Creates all objects on the host.
pub(super) async fn bulk(world: &mut World, names: &[String]) -> Result<Bulk> {
    let (marks, host_mark) = (world.marks()?, world.bed.host.audit_mark()?);
    let cpu = world.cpu_seconds()?;
    let everywhere = world.everywhere();
    let (host, in_flight, own) = (world.host.clone(), world.in_flight, names.to_vec());
    let started = Instant::now();
    let creates = tokio::spawn(async move {
        for_each(in_flight, own, |name| {
            let host = host.clone();
            async move { host.create(&name, &federated(&name, 1)).await }
        })
        .await?;
        anyhow::Ok(Instant::now())
    });
    let seen = world.sight.at_round(BOUND, &everywhere, names, 1).await?;
    let all_made = creates.await??;
    let reported = world.statuses_in_sync(names.len()).await?;
    world.steady().await?;
    Ok(Bulk {
        seconds: (seen - started).as_secs_f64(),
        create_seconds: (all_made - started).as_secs_f64(),
        status_seconds: (reported - started).as_secs_f64(),
        cpu_seconds: world.cpu_seconds()? - cpu,
        peak_rss_mb: world.peak_rss_mb()?,
        member_writes: world.writes_since(&marks, "")?,
        host_writes: world.host_writes_since(host_mark)?,
        ..Bulk::default()
    })
}

async fn one_change(world: &mut World, members: &[usize], name: &str, round: u64) -> Result<Duration> {
    let started = Instant::now();
    world.host.merge(name, &change(name, round)).await?;
    let names = [name.to_owned()];
    Ok(world.sight.at_round(BOUND, members, &names, round).await? - started)
}

/// One change after the other, each of another object.
pub(super) async fn changes(
    world: &mut World,
    names: &[String],
    count: usize,
    members: &[usize],
    rounds: &mut Rounds,
) -> Result<Latency> {
    let mut latencies = Latencies::default();
    for name in names.iter().cycle().take(count) {
        latencies.add(one_change(world, members, name, rounds.next()).await?);
    }
    Ok(latencies.into())
}

/// Two changes of one object within a second: the latency of the second.
pub(super) async fn second_changes(
    world: &mut World,
    names: &[String],
    count: usize,
    rounds: &mut Rounds,
) -> Result<Latency> {
    let everywhere = world.everywhere();
    let mut latencies = Latencies::default();
    for name in names.iter().rev().cycle().take(count) {
        one_change(world, &everywhere, name, rounds.next()).await?;
        latencies.add(one_change(world, &everywhere, name, rounds.next()).await?);
    }
    Ok(latencies.into())
}

/// Somebody else changes a field of a copy.
pub(super) async fn drift(world: &mut World, names: &[String], count: usize) -> Result<Drift> {
    let mut after_answer = Latencies::default();
    let mut after_send = Latencies::default();
    for (number, name) in names.iter().cycle().take(count).enumerate() {
        let member = number % world.members.len();
        let before = world.members[member].get(name).await?;
        let edit = json!({"spec": {"hosts": ["hijacked.example"]}});
        let sent = Instant::now();
        let edited = world.members[member].merge(name, &edit).await?;
        let answered = Instant::now();
        let generation = edited["metadata"]["generation"].as_i64().unwrap_or(i64::MAX);
        let one = std::slice::from_ref(name);
        let right = world
            .sight
            .until("drift is put right", BOUND, &[member], one, |seen| seen.generation > generation)
            .await?;
        after_answer.add(right.saturating_duration_since(answered));
        after_send.add(right - sent);
        let now = world.members[member].get(name).await?;
        ensure!(
            now["spec"] == before["spec"],
            "{name} was written again but is not as it was: {}",
            now["spec"]
        );
    }
    Ok(Drift {
        p50_ms: after_answer.percentile_ms(50),
        p99_ms: after_answer.percentile_ms(99),
        with_edit_p50_ms: after_send.percentile_ms(50),
        edits: count,
    })
}

/// Stops and starts the operator twice: once to see what it does by itself, once with a new object at once.
pub(super) async fn restart(world: &mut World) -> Result<Restart> {
    let everywhere = world.everywhere();
    world.steady().await?;
    let (marks, host_mark) = (world.marks()?, world.bed.host.audit_mark()?);
    let stopping = Instant::now();
    world.stop_operator().await?;
    let stop_seconds = stopping.elapsed().as_secs_f64();
    let started = Instant::now();
    world.start_operator().await?;
    let steady = world.steady().await?;
    let host_writes = world.host_writes_since(host_mark)?;
    // Only an operator that works proves by its silence that nothing was to be done.
    world.host.create("after-restart", &federated("after-restart", 1)).await?;
    world.sight.at_round(BOUND, &everywhere, &["after-restart".to_owned()], 1).await?;
    world.steady().await?;
    let writes = world.writes_since(&marks, "after-restart")?;
    world.stop_operator().await?;
    let again = Instant::now();
    world.start_operator().await?;
    world.host.create("fresh", &federated("fresh", 1)).await?;
    let fresh = world.sight.at_round(BOUND, &everywhere, &["fresh".to_owned()], 1).await?;
    Ok(Restart {
        member_writes: writes.iter().sum(),
        host_writes,
        seconds_to_stop: stop_seconds,
        seconds_to_steady: (steady - started).as_secs_f64(),
        seconds_to_fresh_object: (fresh - again).as_secs_f64(),
    })
}

/// How a member goes away.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Away {
    /// Its API server has ended: connections are refused.
    Stopped,
    /// Its API server is frozen: connections stay open and nobody answers.
    Hung,
}

/// Changes while the last member is away, and how long it is behind once it is back.
pub(super) async fn absent(
    world: &mut World,
    names: &[String],
    count: usize,
    away: Away,
    rounds: &mut Rounds,
) -> Result<Absent> {
    let absent = world.members.len() - 1;
    let others: Vec<_> = (0..absent).collect();
    match away {
        Away::Stopped => world.bed.members[absent].stop().await?,
        Away::Hung => world.bed.members[absent].pause().await?,
    }
    tokio::time::sleep(AWAY).await;
    let first = rounds.0 + 1;
    let latency = changes(world, names, count, &others, rounds).await;
    let back = match away {
        Away::Stopped => {
            let member = &world.bed.members[absent];
            let (started, answers) = tokio::join!(member.start(), first_answer(member));
            started?;
            answers?
        }
        Away::Hung => {
            world.bed.members[absent].resume().await?;
            Instant::now()
        }
    };
    let changed = &names[..count.min(names.len())];
    let caught_up = world.sight.at_round(BOUND, &[absent], changed, first).await?;
    let latency = latency?;
    Ok(Absent {
        p50_ms: latency.p50_ms,
        p99_ms: latency.p99_ms,
        caught_up_seconds: caught_up.saturating_duration_since(back).as_secs_f64(),
    })
}

/// When a server that is starting answers for the first time.
async fn first_answer(member: &crate::Cluster) -> Result<Instant> {
    eventually("the member answers again", BOUND, || async {
        member.version().await?;
        Ok(Instant::now())
    })
    .await
}

/// Deletes everything on the host.
pub(super) async fn delete(world: &mut World, names: &[String]) -> Result<Delete> {
    let everywhere = world.everywhere();
    let (host, in_flight, own) = (world.host.clone(), world.in_flight, names.to_vec());
    let cpu = world.cpu_seconds()?;
    let started = Instant::now();
    let deletes = tokio::spawn(async move {
        for_each(in_flight, own, |name| {
            let host = host.clone();
            async move { host.delete(&name).await }
        })
        .await
    });
    let gone = world.sight.gone(BOUND, &everywhere, names).await?;
    deletes.await??;
    let host = &world.host;
    let finished = eventually("the objects are gone from the host", BOUND, || async {
        let left = host.list(ListParams::default().limit(1)).await?;
        ensure!(left.is_empty(), "the host still has {}", left[0]["metadata"]["name"]);
        Ok(Instant::now())
    })
    .await?;
    Ok(Delete {
        member_seconds: (gone - started).as_secs_f64(),
        seconds: (finished - started).as_secs_f64(),
        cpu_seconds: world.cpu_seconds()? - cpu,
        ..Delete::default()
    })
}
