//! The built `fedistio` binary as a child process, as a user runs it outside of a cluster.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::process::{Process, Signal, Spec, Watchdog, last_lines};

/// How long the operator may take to end after it was asked to.
const GRACE: Duration = Duration::from_secs(15);
/// Clock ticks a second in `/proc/PID/stat`: 100 on every Linux that Rust runs on (`getconf CLK_TCK`).
const TICKS: f64 = 100.0;

/// How an operator is started. Made by [`Operator::builder`].
#[derive(Debug, Clone)]
pub struct OperatorBuilder {
    kubeconfig: PathBuf,
    args: Vec<String>,
    env: Vec<(String, String)>,
    log: PathBuf,
}

/// A running operator; it is ended when dropped.
#[derive(Debug)]
pub struct Operator {
    process: Process,
    log: PathBuf,
}

impl Operator {
    /// An operator whose host cluster is that of the kubeconfig, writing to the given log.
    pub fn builder(kubeconfig: impl Into<PathBuf>, log: impl Into<PathBuf>) -> OperatorBuilder {
        OperatorBuilder { kubeconfig: kubeconfig.into(), args: Vec::new(), env: Vec::new(), log: log.into() }
    }

    /// The `fedistio` binary: `$FEDISTIO_BIN`, else what `cargo build -p fedistio` makes in the profile of this build.
    ///
    /// # Errors
    /// A `FEDISTIO_BIN` that is no file, or a build that fails.
    pub async fn binary() -> Result<PathBuf> {
        if let Some(path) = std::env::var_os("FEDISTIO_BIN").map(PathBuf::from) {
            return if path.is_file() {
                Ok(path)
            } else {
                bail!("FEDISTIO_BIN is {}, which is no file", path.display())
            };
        }
        let manifest =
            Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).join("Cargo.toml");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
        let mut command = tokio::process::Command::new(cargo);
        command.args([
            "build",
            "--quiet",
            "--package",
            "fedistio",
            "--bin",
            "fedistio",
            "--message-format",
            "json-render-diagnostics",
        ]);
        command.arg("--manifest-path").arg(&manifest);
        if !cfg!(debug_assertions) {
            command.arg("--release");
        }
        // Cargo decides whether anything is stale; it says where the binary is, whatever the target folder.
        let output = command.stderr(std::process::Stdio::inherit()).kill_on_drop(true).output().await;
        let output = output.context("cannot run cargo to build fedistio; set FEDISTIO_BIN to a built one")?;
        if !output.status.success() {
            bail!("cargo build -p fedistio failed; its messages are above");
        }
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        executable(&text).context("cargo built no fedistio binary")
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Its log.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// The last lines of its log.
    pub fn log_tail(&self, lines: usize) -> String {
        last_lines(&self.log, lines)
    }

    /// `Some` once it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.process.ended()
    }

    /// Asks it to end (SIGTERM) and waits; by force after 15 seconds.
    ///
    /// # Errors
    /// An error of the operating system.
    pub async fn stop(mut self) -> Result<ExitStatus> {
        self.process.stop(GRACE).await
    }

    /// Ends it at once (SIGKILL) and waits.
    ///
    /// # Errors
    /// An error of the operating system.
    pub async fn kill(mut self) -> Result<ExitStatus> {
        if self.process.ended().is_none() {
            self.process.signal(Signal::Kill)?;
        }
        self.process.wait().await
    }

    /// CPU seconds, user and system, since its start.
    ///
    /// # Errors
    /// Where there is no `/proc`, or it has ended.
    pub fn cpu_seconds(&self) -> Result<f64> {
        cpu_seconds(self.pid())
    }

    /// Resident memory now, bytes.
    ///
    /// # Errors
    /// As [`Operator::cpu_seconds`].
    pub fn rss_bytes(&self) -> Result<u64> {
        memory(self.pid(), "VmRSS:")
    }

    /// The most resident memory that it ever had, bytes.
    ///
    /// # Errors
    /// As [`Operator::cpu_seconds`].
    pub fn peak_rss_bytes(&self) -> Result<u64> {
        memory(self.pid(), "VmHWM:")
    }
}

impl OperatorBuilder {
    /// One more argument after `operator --kubeconfig FILE`.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// More arguments.
    #[must_use]
    pub fn args<I: IntoIterator<Item = S>, S: Into<String>>(mut self, args: I) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// An environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Builds the binary if need be and starts it.
    ///
    /// # Errors
    /// As [`Operator::binary`], or when it cannot be started.
    pub async fn start(self) -> Result<Operator> {
        let program = Operator::binary().await?;
        let mut args =
            vec!["operator".to_owned(), "--kubeconfig".to_owned(), self.kubeconfig.display().to_string()];
        args.extend(self.args);
        let spec = Spec {
            name: "fedistio operator".to_owned(),
            program,
            args,
            env: self.env,
            dir: None,
            log: self.log.clone(),
        };
        let watchdog: Arc<Watchdog> = Watchdog::start()?;
        Ok(Operator { process: Process::start(spec, Some(watchdog))?, log: self.log })
    }
}

/// CPU seconds, user and system, of a process since its start.
///
/// # Errors
/// Where there is no `/proc`, or it has ended.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))
        .with_context(|| format!("no process {pid} in /proc"))?;
    ticks(&text)
        .map(|ticks| f64::from(ticks) / TICKS)
        .with_context(|| format!("/proc/{pid}/stat cannot be read"))
}

/// Resident memory of a process, bytes.
///
/// # Errors
/// As [`cpu_seconds`].
pub fn rss_bytes(pid: u32) -> Result<u64> {
    memory(pid, "VmRSS:")
}

/// utime + stime: fields 14 and 15, counted after the command's name, which may have spaces.
fn ticks(stat: &str) -> Option<u32> {
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let user: u32 = fields.nth(11)?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    user.checked_add(system)
}

fn memory(pid: u32, key: &str) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).with_context(|| format!("no process {pid} in /proc"))?;
    let kilobytes =
        text.lines().find_map(|line| line.strip_prefix(key)?.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.map(|kilobytes| kilobytes * 1024).with_context(|| format!("{path} has no {key}"))
}

/// The path of the binary in cargo's JSON messages.
fn executable(messages: &str) -> Option<PathBuf> {
    messages.lines().rev().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        (message["target"]["name"] == "fedistio").then_some(())?;
        message["executable"].as_str().map(PathBuf::from)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_proc() {
        let stat = "42 (a b) c) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 8 0 1000 1 2";
        assert_eq!(ticks(stat), Some(300));
        assert_eq!(ticks("nothing"), None);
        let own = std::process::id();
        assert!(memory(own, "VmHWM:").unwrap() >= 1 << 20);
        assert!(cpu_seconds(own).is_ok());
        assert!(cpu_seconds(u32::MAX).is_err());
    }

    #[test]
    fn finds_the_binary_in_cargos_messages() {
        let text = "{\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"fedistio\"},\"executable\":\"/t/debug/fedistio\"}\n\
                    {\"reason\":\"build-finished\",\"success\":true}\n";
        assert_eq!(executable(text), Some(PathBuf::from("/t/debug/fedistio")));
        assert_eq!(executable("no json"), None);
    }
}
