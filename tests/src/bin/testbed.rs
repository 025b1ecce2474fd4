//! `testbed`: the test bed for people.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use fedistio_tests::binaries::{DEFAULT_KUBERNETES, ISTIO_VERSIONS};
use fedistio_tests::{Binaries, TestBed, charts};
use tokio::signal::unix::{SignalKind, signal};

const LONG_ABOUT: &str = "\
Real Kubernetes API servers and real istiod on this machine, without containers and without root.

A host cluster and N members start on 127.0.0.1: one etcd, and for each cluster a kube-apiserver and a kube-controller-manager. \
Nodes are small tasks in this program: they report pods as running, and run istiod for pods of the image .../pilot:VERSION.

What is needed is built from source once, with Go >= 1.26, and kept in $FEDISTIO_CACHE (else ~/.cache/fedistio).";

const EXAMPLES: &str = "\
Examples:
  testbed up                                      a host and three members
  testbed up --members 2 --istio 1.28.2,1.29.1    with istiod of two versions and their charts
  testbed build --istio 1.28.2                    only build, for example before going offline
  testbed charts --istio 1.28.2                   only package the charts and say where they are

While it runs, use the printed kubeconfigs from another terminal:
  kubectl --kubeconfig FILE get nodes
Ctrl-C ends everything; nothing is left behind but the cache and target/testbed/logs.";

#[derive(Parser)]
#[command(name = "testbed", version, about = "Real clusters for tests and demos", long_about = LONG_ABOUT, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start clusters, print their kubeconfigs, and stay until Ctrl-C
    Up {
        /// How many members to start beside the host
        #[arg(long, default_value_t = 3)]
        members: usize,
        #[command(flatten)]
        versions: Versions,
    },
    /// Build the servers that are missing in the cache
    Build {
        #[command(flatten)]
        versions: Versions,
        /// Also build helm, which only comparisons of chart rendering need
        #[arg(long)]
        helm: bool,
    },
    /// Package the upstream Istio charts and print where they are
    Charts {
        /// Istio versions, separated by commas [default: all that are known]
        #[arg(long, value_delimiter = ',')]
        istio: Vec<String>,
    },
}

#[derive(Args)]
struct Versions {
    /// Kubernetes version of all clusters
    #[arg(long, default_value = DEFAULT_KUBERNETES)]
    kubernetes: String,
    /// Istio versions whose istiod can run and whose charts are served, separated by commas
    #[arg(long, value_delimiter = ',')]
    istio: Vec<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "off".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match run(Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> Result<()> {
    // Whatever runs is dropped, and with it every child, when a signal arrives.
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let work = async {
        match cli.command {
            Command::Up { members, versions } => up(members, versions).await,
            Command::Build { versions, helm } => build(versions, helm).await,
            Command::Charts { istio } => package(istio).await,
        }
    };
    tokio::select! {
        result = work => result,
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    }
}

async fn up(members: usize, versions: Versions) -> Result<()> {
    let started = std::time::Instant::now();
    let bed = TestBed::builder()
        .members(members)
        .kubernetes(&versions.kubernetes)
        .istio(&versions.istio)
        .build()
        .await?;
    println!("{}", clusters_table(&bed).await?);
    if !versions.istio.is_empty() {
        println!("Istio charts: {} and {}", bed.registry.oci_url(), bed.registry.repository_url());
    }
    println!("Logs: {}", bed.logs().display());
    println!("Ready after {}. Ctrl-C ends all clusters.", fedistio_tests::progress::human(started.elapsed()));
    println!("  kubectl --kubeconfig {} get nodes", bed.host.kubeconfig_path().display());
    std::future::pending::<()>().await;
    Ok(())
}

async fn clusters_table(bed: &TestBed) -> Result<Table> {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(["CLUSTER", "VERSION", "SERVER", "PROXY", "KUBECONFIG"]);
    for cluster in bed.clusters() {
        table.add_row([
            cluster.name().to_owned(),
            cluster.version().await?,
            cluster.server().to_owned(),
            cluster.proxy()?.url(),
            cluster.kubeconfig_path().display().to_string(),
        ]);
    }
    Ok(table)
}

async fn build(versions: Versions, helm: bool) -> Result<()> {
    let binaries = Binaries::user()?;
    println!("etcd: {}", binaries.etcd().await?.display());
    let kubernetes = binaries.kubernetes(&versions.kubernetes).await?;
    println!("kube-apiserver: {}", kubernetes.apiserver.display());
    println!("kube-controller-manager: {}", kubernetes.controller_manager.display());
    for version in &versions.istio {
        println!("istiod {version}: {}", binaries.istiod(version).await?.display());
    }
    if helm {
        println!("helm: {}", binaries.helm().await?.display());
    }
    Ok(())
}

async fn package(istio: Vec<String>) -> Result<()> {
    let binaries = Binaries::user()?;
    let all = || ISTIO_VERSIONS.iter().map(|known| known.version.to_owned()).collect();
    let versions: Vec<String> = if istio.is_empty() { all() } else { istio };
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(["CHART", "VERSION", "SHA-256", "FILE"]);
    for version in &versions {
        let packaged = charts::charts(&binaries, version).await;
        for chart in packaged.with_context(|| format!("no charts of Istio {version}"))? {
            table.add_row([chart.name, chart.version, chart.sha256, chart.path.display().to_string()]);
        }
    }
    println!("{table}");
    Ok(())
}
