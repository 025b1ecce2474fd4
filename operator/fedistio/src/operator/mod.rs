//! `fedistio operator`: wires the federation core and the Istio controllers together and runs them under a lease.

mod http;
mod leader;
mod types;

use anyhow::Context as _;
use fedistio_federation::{Metrics, cluster::Fleet};
use fedistio_istio::IstioOptions;
use kube::{Client, Config, config::KubeConfigOptions, config::Kubeconfig};
use prometheus_client::registry::Registry;
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// Flags of `fedistio operator`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Kubeconfig of the host cluster; without it $KUBECONFIG, ~/.kube/config, or the pod's service account.
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig.
    #[arg(long)]
    pub(crate) context: Option<String>,
    /// Namespace of the operator: its lease, its revisions, and the secrets of members.
    #[arg(long, short, default_value = fedistio_crds::OPERATOR_NAMESPACE, env = "FEDISTIO_NAMESPACE")]
    pub(crate) namespace: String,
    /// Where /metrics, /healthz and /readyz are served. Port 0 picks a free one and logs it.
    #[arg(long, default_value = "127.0.0.1:8080", env = "FEDISTIO_METRICS_ADDRESS")]
    pub(crate) metrics_address: SocketAddr,
    /// Whether to wait for the lease before writing anything. Turn it off only where a second replica can't exist.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    pub(crate) leader_elect: bool,
    /// Folder in which downloaded charts are kept; a temporary one where not given.
    #[arg(long, value_name = "DIR", env = "FEDISTIO_CHART_CACHE")]
    pub(crate) cache_dir: Option<PathBuf>,
}

/// Runs the operator until SIGTERM or SIGINT. A clean stop gives the lease back, so that a successor starts at once.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let client = host_client(&args).await?;
    let mut registry = Registry::default();
    let metrics = Metrics::new(&mut registry);
    let ready = watch::Sender::new(false);
    let served = http::serve(args.metrics_address, Arc::new(registry), ready.subscribe()).await?;
    tracing::info!(address = %served, version = env!("CARGO_PKG_VERSION"), "metrics and probes are served");

    let stop = stop_signal()?;
    let lease = if args.leader_elect {
        let election = leader::Election::new(client.clone(), &args.namespace);
        // A replica that waits for the lease is as ready as it will be: a rolling update must not wait for it to lead.
        ready.send_replace(true);
        tokio::select! {
            lease = election.acquire() => Some(lease),
            () = stop.clone().wait() => return Ok(()),
        }
    } else {
        None
    };

    let result = tokio::select! {
        result = lead(&args, client, metrics, &ready) => result,
        error = lost(lease.as_ref()) => Err(error),
        () = stop.wait() => Ok(()),
    };
    tracing::info!("stopping");
    if let (Some(lease), true) = (lease, result.is_ok()) {
        lease.release().await;
    }
    result
}

async fn lost(lease: Option<&leader::Lease>) -> anyhow::Error {
    match lease {
        Some(lease) => lease.lost().await.into(),
        None => std::future::pending().await,
    }
}

/// Everything that only the leader does.
async fn lead(
    args: &Args,
    client: Client,
    metrics: Metrics,
    ready: &watch::Sender<bool>,
) -> anyhow::Result<()> {
    types::ensure_builtin_types(&client)
        .await
        .context("the built-in FederatedTypeConfigs can't be applied")?;
    let fleet = Fleet::default();
    let started = watch::Sender::new(false);
    let mut after_start = started.subscribe();
    let announce = async {
        // The channel lives as long as the engine, which is in the same select.
        let _ = after_start.wait_for(|started| *started).await;
        ready.send_replace(true);
        std::future::pending::<()>().await;
    };
    let charts = chart_folder(args)?;
    let options = IstioOptions { cache_dir: charts.path().to_owned() };
    let istio = fedistio_istio::run(client.clone(), fleet.clone(), options, started.subscribe());
    tokio::select! {
        () = fedistio_federation::cluster::run_registry(client.clone(), fleet.clone(), metrics.clone()) => {
            anyhow::bail!("the watch of MemberClusters has ended")
        }
        () = fedistio_federation::run_engine(client, fleet, metrics, started) => {
            anyhow::bail!("the federation engine has ended")
        }
        result = istio => {
            result?;
            anyhow::bail!("the Istio controllers have ended")
        }
        () = announce => Ok(()),
    }
}

/// The folder for charts; a temporary one is removed at the end.
enum ChartFolder {
    Given(PathBuf),
    Temporary(PathBuf),
}

impl ChartFolder {
    fn path(&self) -> &Path {
        match self {
            Self::Given(path) | Self::Temporary(path) => path,
        }
    }
}

impl Drop for ChartFolder {
    fn drop(&mut self) {
        if let Self::Temporary(path) = self {
            // It holds only what can be fetched again; the system's own cleaning takes what is left.
            let _ = std::fs::remove_dir_all(path);
        }
    }
}

fn chart_folder(args: &Args) -> anyhow::Result<ChartFolder> {
    if let Some(path) = &args.cache_dir {
        return Ok(ChartFolder::Given(path.clone()));
    }
    let path = std::env::temp_dir().join(format!("fedistio-charts-{}", std::process::id()));
    std::fs::create_dir_all(&path)
        .with_context(|| format!("{} can't be made; give a folder with --cache-dir", path.display()))?;
    Ok(ChartFolder::Temporary(path))
}

async fn host_client(args: &Args) -> anyhow::Result<Client> {
    let options = KubeConfigOptions { context: args.context.clone(), ..KubeConfigOptions::default() };
    let config = match &args.kubeconfig {
        Some(path) => {
            let kubeconfig = Kubeconfig::read_from(path).with_context(|| {
                format!(
                    "{} can't be read as a kubeconfig; give another file with --kubeconfig",
                    path.display()
                )
            })?;
            Config::from_custom_kubeconfig(kubeconfig, &options).await?
        }
        None if args.context.is_some() => Config::from_kubeconfig(&options).await?,
        None => Config::infer()
            .await
            .context("no host cluster: give --kubeconfig, set KUBECONFIG, or run in a pod")?,
    };
    Ok(fedistio_federation::cluster::connect(config)?)
}

/// Becomes ready when the process is asked to stop.
#[derive(Clone)]
struct Stop(watch::Receiver<bool>);

impl Stop {
    async fn wait(mut self) {
        // The sender lives in a task of its own until the signal comes.
        let _ = self.0.wait_for(|stop| *stop).await;
    }
}

fn stop_signal() -> anyhow::Result<Stop> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        sender.send_replace(true);
    });
    Ok(Stop(receiver))
}
