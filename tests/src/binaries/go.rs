//! Runs the Go command: downloads modules and builds programs of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, anyhow, bail};
use serde::Deserialize;
use tokio::process::Command;

use crate::cache::Cache;
use crate::process::last_lines;
use crate::progress::Progress;

/// What a user reads when there is no usable Go.
pub const GO_NEEDED: &str = "install Go >= 1.26 (https://go.dev/dl/) so that the test bed can build its servers, \
     or pass --kubeconfig FILE with contexts of your own clusters (for tests: FEDISTIO_KUBECONFIG=FILE)";

/// One program or set of programs that one `go build` makes.
#[derive(Debug)]
pub(super) struct Stack<'a> {
    /// Folder name in the cache, for example `etcd-v3.7.3`.
    pub(super) name: &'a str,
    /// The text of `go.mod`.
    pub(super) go_mod: String,
    /// A `go.sum` to begin with.
    pub(super) go_sum: Option<PathBuf>,
    /// Go packages to build and the names of their binaries.
    pub(super) packages: &'a [(&'a str, &'a str)],
    /// `-X` settings for the linker: variable and value.
    pub(super) linker: BTreeMap<String, String>,
    /// How long it takes the first time, for the message.
    pub(super) takes: &'a str,
}

/// What `go mod download -json` prints.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Download {
    dir: Option<PathBuf>,
    error: Option<String>,
}

/// Downloads a module and returns its folder in Go's module cache (read only).
///
/// # Errors
/// Missing Go, or what Go says about the module.
pub async fn module_dir(module: &str, version: &str) -> Result<PathBuf> {
    let output =
        go(&["mod", "download", "-json", &format!("{module}@{version}")], Path::new("/")).output().await;
    let output = output.map_err(missing_go)?;
    let parsed: Download = serde_json::from_slice(&output.stdout).with_context(|| {
        format!("go cannot download {module}@{version}: {}", String::from_utf8_lossy(&output.stderr).trim())
    })?;
    match (parsed.dir, parsed.error) {
        (Some(dir), None) => Ok(dir),
        (_, error) => Err(anyhow!("go cannot download {module}@{version}: {}", error.unwrap_or_default())),
    }
}

/// The `go` line of a module's go.mod, for example `1.24.0`.
pub(super) fn go_line(go_mod: &str) -> Result<&str> {
    go_mod.lines().find_map(|line| line.strip_prefix("go ")).map(str::trim).context("go.mod has no go line")
}

/// The folder with the stack's binaries, built if it is not there yet.
pub(super) async fn build(cache: &Cache, progress: &Progress, stack: Stack<'_>) -> Result<PathBuf> {
    let work = cache.work_dir("go", stack.name);
    let name = stack.name;
    cache
        .get_or_make("bin", name, progress, |out| async move {
            check_go().await?;
            let step = progress
                .step(&format!("building {name} from source (first time only, about {})", stack.takes));
            run_build(&work, &out, stack).await?;
            step.done();
            fs::remove_dir_all(&work).ok();
            Ok(())
        })
        .await
}

async fn run_build(work: &Path, out: &Path, stack: Stack<'_>) -> Result<()> {
    fs::create_dir_all(work).with_context(|| format!("cannot create {}", work.display()))?;
    fs::write(work.join("go.mod"), &stack.go_mod).context("cannot write go.mod")?;
    if let Some(sum) = &stack.go_sum {
        // Read and written rather than copied: files of Go's module cache are read only, and the copy must not be.
        let text = fs::read(sum).with_context(|| format!("cannot read {}", sum.display()))?;
        fs::write(work.join("go.sum"), text).context("cannot write go.sum")?;
    }
    let mut linker = String::from("-s -w");
    for (variable, value) in &stack.linker {
        write!(linker, " -X {variable}={value}")?;
    }
    let log_path = work.join("build.log");
    let log = fs::File::create(&log_path).with_context(|| format!("cannot create {}", log_path.display()))?;
    let target = format!("{}/", out.display());
    let mut args = vec!["build", "-trimpath", "-ldflags", &linker, "-o", &target];
    args.extend(stack.packages.iter().map(|(package, _)| *package));
    let status = go(&args, work)
        .stdout(log.try_clone().context("cannot share the build's log")?)
        .stderr(log)
        .kill_on_drop(true)
        .status()
        .await
        .map_err(missing_go)?;
    if !status.success() {
        bail!(
            "go could not build {}; the log is {}:\n{}",
            stack.name,
            log_path.display(),
            last_lines(&log_path, 30)
        );
    }
    for (package, binary) in stack.packages {
        let built = package.rsplit('/').next().unwrap_or(package);
        let from = out.join(built);
        // `…/server/v3` makes a binary called `server`: Go leaves a version suffix out of the name.
        let from = if from.is_file() { from } else { out.join(base_name(package)) };
        let to = out.join(binary);
        if from != to {
            fs::rename(&from, &to).with_context(|| format!("go built no {binary} from {package}"))?;
        }
    }
    Ok(())
}

/// The name that Go gives a package's program: the last part of its path that is not a major version.
fn base_name(package: &str) -> &str {
    let is_major = |part: &str| part.strip_prefix('v').is_some_and(|n| n.chars().all(|c| c.is_ascii_digit()));
    package.rsplit('/').find(|part| !is_major(part)).unwrap_or(package)
}

async fn check_go() -> Result<()> {
    let output = go(&["env", "GOVERSION"], Path::new("/")).output().await.map_err(missing_go)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.trim().trim_start_matches("go");
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let (major, minor) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    // A toolchain can fetch a newer one of itself from 1.21 on; below that it does not know how.
    if (major, minor) < (1, 21) {
        bail!("this machine's Go is {version}, which is too old: {GO_NEEDED}");
    }
    Ok(())
}

fn missing_go(error: std::io::Error) -> anyhow::Error {
    if error.kind() == std::io::ErrorKind::NotFound {
        anyhow!("the go command is not on the PATH: {GO_NEEDED}")
    } else {
        anyhow::Error::new(error).context("cannot run the go command")
    }
}

fn go(args: &[&str], dir: &Path) -> Command {
    let mut command = Command::new("go");
    command.args(args).current_dir(dir).stdin(Stdio::null());
    // A workspace or vendor folder of the caller must not change what is built here.
    command.env("GOFLAGS", "-buildvcs=false -mod=mod").env("GOWORK", "off");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_programs() {
        assert_eq!(base_name("go.etcd.io/etcd/server/v3"), "server");
        assert_eq!(base_name("helm.sh/helm/v3/cmd/helm"), "helm");
        assert_eq!(base_name("istio.io/istio/pilot/cmd/pilot-discovery"), "pilot-discovery");
    }

    #[test]
    fn go_line_of_a_module() {
        assert_eq!(go_line("module a\n\ngo 1.24.0\n").unwrap(), "1.24.0");
        assert!(go_line("module a\n").is_err());
    }
}
