//! The command line: flags, help, and the name under which it was started.

pub(crate) mod connection;
pub(crate) mod values;

use crate::{commands, operator};
use clap::{Command, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use std::ffi::OsString;

/// Name of the program when `kubectl` starts it as a plugin.
const PLUGIN: &str = "kubectl-fedistio";
/// Name of the program otherwise, and in the examples of the help texts.
const PROGRAM: &str = "fedistio";

/// Istio and its resources on many Kubernetes clusters.
///
/// One host cluster holds what you want; members get it. Commands talk to the host of your kubeconfig's current
/// context unless told otherwise.
#[derive(Debug, Parser)]
#[command(name = PROGRAM, version, propagate_version = false, max_term_width = 110, after_help = "\
Examples:
  fedistio manifests --image registry.example/fedistio:0.1.0 | kubectl apply --server-side -f -
  fedistio join east --cluster-context east --labels env=prod
  fedistio clusters -o wide
  fedistio get -A
  fedistio status

Exit codes: 0 done, 1 failed, 2 wrong usage.")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Subcommands,
}

/// What can be done. Each command's help is at its flags.
#[derive(Debug, Subcommand)]
pub(crate) enum Subcommands {
    Join(commands::join::Args),
    Unjoin(commands::unjoin::Args),
    #[command(visible_alias = "members")]
    Clusters(commands::clusters::Args),
    Get(commands::get::Args),
    #[command(visible_alias = "istio")]
    Status(commands::status::Args),
    /// Run the operator
    Operator(Box<operator::Args>),
    Manifests(commands::generate::ManifestsArgs),
    Crds(commands::generate::CrdsArgs),
    Olm(commands::generate::OlmArgs),
    Completion(commands::completion::Args),
    Version(commands::version::Args),
}

/// The name to show in help and errors for a program started as `argv0`: `kubectl fedistio` as a plugin.
fn shown_name(argv0: Option<&OsString>) -> &'static str {
    let stem =
        argv0.map(std::path::Path::new).and_then(|path| path.file_stem()).and_then(|stem| stem.to_str());
    // kubectl finds `kubectl-some_name` for `kubectl some-name`, with or without `.exe`.
    if stem == Some(PLUGIN) { "kubectl fedistio" } else { PROGRAM }
}

/// The command as it is shown under `name`: the examples in the help texts use that name too.
pub(crate) fn command(name: &'static str) -> Command {
    let command = Cli::command();
    if name == PROGRAM { command } else { renamed(command.bin_name(name), name) }
}

fn renamed(command: Command, name: &str) -> Command {
    let rename = |text: String| text.replace("  fedistio ", &format!("  {name} "));
    let after = command.get_after_help().map(|text| rename(text.to_string()));
    let after_long = command.get_after_long_help().map(|text| rename(text.to_string()));
    let mut command = command;
    if let Some(text) = after {
        command = command.after_help(text);
    }
    if let Some(text) = after_long {
        command = command.after_long_help(text);
    }
    command.mut_subcommands(|subcommand| renamed(subcommand, name))
}

/// Parses a command line, the program's name first.
pub(crate) fn parse(line: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let line: Vec<OsString> = line.into_iter().collect();
    let mut command = command(shown_name(line.first()));
    let matches = command.try_get_matches_from_mut(line)?;
    Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_line(line: &str) -> Result<Cli, clap::Error> {
        parse(line.split(' ').map(OsString::from))
    }

    fn help(line: &str) -> String {
        parse_line(line).unwrap_err().to_string()
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
        command("kubectl fedistio").debug_assert();
    }

    #[test]
    fn a_plugin_shows_the_name_that_its_user_typed() {
        for argv0 in ["/usr/local/bin/kubectl-fedistio", "kubectl-fedistio.exe"] {
            let text = help(&format!("{argv0} join --help"));
            assert!(text.contains("Usage: kubectl fedistio join"), "{text}");
            assert!(text.contains("  kubectl fedistio join east"), "{text}");
            assert!(!text.contains("  fedistio join"), "{text}");
        }
        let text = help("/opt/fedistio join --help");
        assert!(text.contains("Usage: fedistio join") && text.contains("  fedistio join east"), "{text}");
    }

    #[test]
    fn every_command_that_people_type_has_examples() {
        for subcommand in Cli::command().get_subcommands() {
            if subcommand.get_name() == "operator" {
                continue;
            }
            let text = help(&format!("fedistio {} --help", subcommand.get_name()));
            assert!(text.contains("Examples:"), "{}", subcommand.get_name());
        }
    }

    #[test]
    fn wrong_usage_has_its_own_exit_code() {
        for line in [
            "fedistio",
            "fedistio nonsense",
            "fedistio join",
            "fedistio join east",
            "fedistio join Not_A_Name --cluster-context c",
            "fedistio join east --cluster-context c --labels env",
            "fedistio join east --cluster-context c --labels a=1,a=2",
            "fedistio join east --cluster-context c --server not a url",
            "fedistio join east --cluster-context c --server ftp://x",
            "fedistio join east --cluster-context c --wait soon",
            "fedistio clusters -o nonsense",
            "fedistio clusters --request-timeout fast",
            "fedistio get fvs -A -n default",
            "fedistio olm",
            "fedistio completion tcsh",
        ] {
            let error = parse_line(line).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
        }
        assert_eq!(parse_line("fedistio --help").unwrap_err().exit_code(), 0);
        assert_eq!(parse_line("fedistio --version").unwrap_err().exit_code(), 0);
    }

    #[test]
    fn right_usage_is_taken() {
        for line in [
            "fedistio join east --cluster-context c",
            "fedistio join east --cluster-kubeconfig f --labels env=prod,tier= --network n1 --wait=0 --dry-run",
            "fedistio join east --cluster-context c --server https://10.0.0.1:6443 --secret-name s --wait 2m",
            "fedistio unjoin east --force",
            "fedistio clusters -o wide --kubeconfig f --context c --request-timeout 5s",
            "fedistio members -o name",
            "fedistio get",
            "fedistio get fvs/reviews -n bookinfo -o yaml",
            "fedistio get federatedvirtualservices reviews",
            "fedistio istio mesh -o json",
            "fedistio olm bundle -o dir --image i",
            "fedistio olm catalog --bundle-image i",
            "fedistio version -o json",
        ] {
            if let Err(error) = parse_line(line) {
                panic!("{line}: {error}");
            }
        }
    }
}
