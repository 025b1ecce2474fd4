//! Commands as a person would type them: shown, then done.

use crate::show;
use anyhow::{Context as _, Result, bail};
use std::path::Path;

/// Shows a command line.
pub(crate) fn prompt(line: &str) {
    println!("$ {line}");
}

/// Runs the built `fedistio` with these arguments, shows the command and what it prints, and returns its standard output.
///
/// Fails when it can't be run or ends with another code than 0; the error has what it said.
pub(crate) async fn fedistio(binary: &Path, args: &[&str]) -> Result<String> {
    prompt(&line(args));
    let output = quietly(binary, args).await?;
    print!("{output}");
    Ok(output)
}

/// As [`fedistio`], but shows nothing.
pub(crate) async fn quietly(binary: &Path, args: &[&str]) -> Result<String> {
    let output = tokio::process::Command::new(binary)
        .args(args)
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| format!("{} can't be run", binary.display()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` ended with {}: {}", line(args), output.status, said.trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{}` printed what is not UTF-8", line(args)))
}

/// The command line, with the folders of files left out where they are below the working folder.
pub(crate) fn line(args: &[&str]) -> String {
    let mut line = "fedistio".to_owned();
    for arg in args {
        line.push(' ');
        if arg.starts_with('/') { line.push_str(&show::path(Path::new(arg))) } else { line.push_str(arg) }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failure_tells_what_the_program_said() {
        let error =
            quietly(Path::new("/bin/sh"), &["-c", "echo no luck >&2; exit 3"]).await.unwrap_err().to_string();
        assert!(error.contains("no luck") && error.contains('3'), "{error}");
        assert!(quietly(Path::new("/nowhere/fedistio"), &[]).await.is_err());
        assert_eq!(quietly(Path::new("/bin/sh"), &["-c", "echo fine"]).await.unwrap(), "fine\n");
    }
}
