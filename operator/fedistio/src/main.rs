//! `fedistio`: the Federated Istio Operator and its command line.

mod cli;
mod commands;
mod install;
mod operator;
mod output;

use cli::Subcommands;
use std::process::ExitCode;

fn main() -> ExitCode {
    // Only the first provider counts; another one would have been installed by nobody else.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cli = match cli::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to standard output with 0, wrong usage to standard error with 2. A reader that has gone away
            // is told nothing.
            let _ = error.print();
            return u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from);
        }
    };
    match start(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::note(&format!("error: {}", output::chain(error.as_ref())));
            ExitCode::FAILURE
        }
    }
}

fn start(command: Subcommands) -> anyhow::Result<()> {
    log_to_stderr(matches!(command, Subcommands::Operator(_)));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(command))
}

async fn run(command: Subcommands) -> anyhow::Result<()> {
    match command {
        Subcommands::Join(args) => commands::join::run(args).await?,
        Subcommands::Unjoin(args) => commands::unjoin::run(args).await?,
        Subcommands::Clusters(args) => commands::clusters::run(args).await?,
        Subcommands::Get(args) => commands::get::run(args).await?,
        Subcommands::Status(args) => commands::status::run(args).await?,
        Subcommands::Operator(args) => operator::run(*args).await?,
        Subcommands::Manifests(args) => commands::generate::manifests(&args)?,
        Subcommands::Crds(args) => commands::generate::crds(&args)?,
        Subcommands::Olm(args) => commands::generate::olm(&args)?,
        Subcommands::Completion(args) => commands::completion::run(&args)?,
        Subcommands::Version(args) => commands::version::run(&args)?,
    }
    Ok(())
}

/// The operator logs what it does; other commands log only what `RUST_LOG` asks for.
fn log_to_stderr(operator: bool) {
    use tracing_subscriber::EnvFilter;
    let default = if operator { "info" } else { "off" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .init();
}
