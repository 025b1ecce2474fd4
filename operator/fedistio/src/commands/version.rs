//! `fedistio version`.

use crate::{
    install::VERSION,
    output::{self, OutputError, to_json, yaml},
};
use serde_json::json;

/// Prints the version of this program.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  fedistio version
  fedistio version -o json")]
pub(crate) struct Args {
    /// Output format; without it one line
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<Choice>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Choice {
    Json,
    Yaml,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<(), OutputError> {
    let value = json!({
        "clientVersion": {
            "version": VERSION,
            "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
        },
    });
    output::print(&match args.output {
        None => format!("fedistio {VERSION}\n"),
        Some(Choice::Json) => to_json(&value)?,
        Some(Choice::Yaml) => yaml::to_yaml(&value)?,
    })
}
