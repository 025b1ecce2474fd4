//! The acts, one file each, in the order in which they are played.

mod bookinfo;
mod clusters;
mod drift;
mod figures;
mod install;
mod istio;
mod rollout;
mod upgrade;

use crate::{Args, show, stage::Stage};
use anyhow::{Context as _, Result};
use std::time::Instant;

/// Lines of the operator's log that a failure shows.
const LOG_LINES: usize = 25;

/// Plays all acts. Ends with an error as soon as something could not be verified; the stage is cleared then.
pub(crate) async fn play(args: &Args) -> Result<Stage> {
    let started = Instant::now();
    let stage = clusters::play(args).await.context("act 1, clusters")?;
    if let Err(error) = rest(&stage, started).await {
        tell_failure(&stage);
        stage.clear().await;
        return Err(error);
    }
    Ok(stage)
}

async fn rest(stage: &Stage, started: Instant) -> Result<()> {
    install::play(stage).await.context("act 2, installation")?;
    istio::play(stage).await.context("act 3, Istio")?;
    bookinfo::play(stage).await.context("act 4, bookinfo")?;
    drift::play(stage).await.context("act 5, drift")?;
    upgrade::play(stage).await.context("act 6, live upgrade")?;
    figures::play(stage, started).await.context("act 7, figures")
}

fn tell_failure(stage: &Stage) {
    if let Some((path, tail)) = stage.operator_log(LOG_LINES) {
        eprintln!("\nThe operator's last lines ({}):\n{tail}", show::path(&path));
    }
    eprintln!("\nAll logs are in {}", show::path(stage.bed.logs()));
}

/// Leaves everything running until Ctrl-C, or until the operator ends by itself.
pub(crate) async fn keep(stage: &Stage) -> Result<()> {
    show::say("\nEverything keeps running until Ctrl-C. The administrators' kubeconfigs:");
    for cluster in stage.bed.clusters() {
        show::say(&format!("  {:10} {}", cluster.name(), show::path(cluster.kubeconfig_path())));
    }
    show::say(&format!("and the logs: {}", show::path(stage.bed.logs())));
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted.context("cannot wait for Ctrl-C"),
        ended = operator_ends(stage) => ended,
    }
}

async fn operator_ends(stage: &Stage) -> Result<()> {
    loop {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        if let Err(error) = stage.operator_runs() {
            tell_failure(stage);
            return Err(error);
        }
    }
}
