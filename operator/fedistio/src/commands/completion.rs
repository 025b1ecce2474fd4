//! `fedistio completion`: shell completion.

use crate::{
    cli,
    output::{self, OutputError},
};
use clap_complete::{Shell, generate};

/// Prints the script that completes commands and flags in a shell.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  source <(fedistio completion bash)
  fedistio completion zsh > \"${fpath[1]}/_fedistio\"
  fedistio completion fish > ~/.config/fish/completions/fedistio.fish")]
pub(crate) struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Choice,
}

/// Shells that completion is made for.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Choice {
    Bash,
    Zsh,
    Fish,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<(), OutputError> {
    output::print(&script(args.shell))
}

fn script(choice: Choice) -> String {
    let shell = match choice {
        Choice::Bash => Shell::Bash,
        Choice::Zsh => Shell::Zsh,
        Choice::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    generate(shell, &mut cli::command("fedistio"), "fedistio", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_gets_a_script_that_knows_the_commands() {
        for shell in [Choice::Bash, Choice::Zsh, Choice::Fish] {
            let script = script(shell);
            for word in ["unjoin", "cluster-context", "manifests"] {
                assert!(script.contains(word), "{shell:?} lacks {word}");
            }
        }
    }
}
