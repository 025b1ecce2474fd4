//! `bench`: the benchmarks.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand, ValueEnum};
use fedistio_tests::bench::{self, Options};

const EXAMPLES: &str = "\
Examples:
  bench propagation                        500 objects to 4 members, about five minutes
  bench propagation --quick -o json        a smaller run, as JSON
  bench propagation --members 8 --objects 1000";

#[derive(Parser)]
#[command(name = "bench", version, about = "Benchmarks on real clusters", after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure how federated VirtualServices reach the members, beside a bare client in the same run
    Propagation(Propagation),
}

#[derive(Args)]
struct Propagation {
    /// Member clusters, at least 2
    #[arg(long, default_value_t = 4)]
    members: usize,
    /// Federated objects, at least 10 [default: 500, with --quick 60]
    #[arg(long)]
    objects: Option<usize>,
    /// Fewer objects, changes and edits, and a short idle time
    #[arg(long)]
    quick: bool,
    /// How to print the result
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    Table,
    Json,
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
    let Command::Propagation(args) = cli.command;
    let objects = args.objects.unwrap_or(if args.quick { 60 } else { 500 });
    let report = bench::run(Options { members: args.members, objects, quick: args.quick }).await?;
    match args.output {
        Output::Table => println!("{}", report.table()),
        Output::Json => println!("{}", serde_json::to_string_pretty(&report)?),
    }
    Ok(())
}
