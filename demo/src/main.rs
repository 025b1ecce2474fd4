//! The demo: real clusters, Istio on all of them, federated traffic rules, a repaired edit, and a live upgrade.
//!
//! It uses the built `fedistio` binary and the manifests in `demo/manifests`, as a person would, and believes nothing that the
//! members' own API servers do not confirm.

mod acts;
mod clusters;
mod observe;
mod show;
mod stage;

use clap::Parser as _;
use std::process::ExitCode;

/// Shows Istio on several clusters, from nothing to a live upgrade, and checks every step.
#[derive(Debug, clap::Parser)]
#[command(name = "fedistio-demo", version)]
struct Args {
    /// Leave everything running at the end until Ctrl-C, and print how to look around.
    #[arg(long)]
    keep: bool,
    /// How many member clusters to start; the first one is the canary.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=8), conflicts_with = "kubeconfig")]
    members: u8,
    /// A kubeconfig with clusters of your own (kind, k3d, anything) instead of the ones that the demo starts.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<std::path::PathBuf>,
    /// Context of the host cluster in that kubeconfig; its current context where not given.
    #[arg(long, value_name = "CONTEXT", requires = "kubeconfig")]
    host_context: Option<String>,
    /// Context of a member cluster in that kubeconfig, the canary first; every context but the host's where not given.
    #[arg(long = "member-context", value_name = "CONTEXT", requires = "kubeconfig")]
    member_contexts: Vec<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let played = tokio::select! {
        played = acts::play(&args) => played,
        interrupted = tokio::signal::ctrl_c() => {
            // Dropping the acts ends every process that they started.
            eprintln!("\ninterrupted{}", interrupted.err().map(|error| format!(": {error}")).unwrap_or_default());
            return ExitCode::from(130);
        }
    };
    // On the heap: the stage with all its clusters is large.
    match Box::pin(finish(played, args.keep)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nThe demo has failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Stays, where asked to, and ends what was started.
async fn finish(played: anyhow::Result<stage::Stage>, keep: bool) -> anyhow::Result<()> {
    let stage = played?;
    let kept = if keep { acts::keep(&stage).await } else { Ok(()) };
    stage.clear().await;
    kept
}
