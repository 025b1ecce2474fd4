//! Child processes that never outlive their owner.

use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::process::{Child, Command};

/// The end of a log that is read for error messages, in bytes.
const TAIL_BYTES: u64 = 64 * 1024;

/// The last `count` lines of a file, or why it cannot be read.
pub fn last_lines(path: &Path, count: usize) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = fs::File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    match read() {
        Ok(text) => {
            let lines: Vec<&str> = text.lines().collect();
            lines[lines.len().saturating_sub(count)..].join("\n")
        }
        Err(error) => format!("({} cannot be read: {error})", path.display()),
    }
}

/// Variables of this process that children get.
pub const INHERITED: [&str; 4] = ["HOME", "PATH", "TMPDIR", "TZ"];

/// What to run.
#[derive(Debug, Clone, Default)]
pub struct Spec {
    /// A name for messages, for example `member1 kube-apiserver`.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its environment variables; of ours it gets [`INHERITED`] only, so that a proxy setting or a KUBECONFIG of the caller's
    /// shell changes nothing.
    pub env: Vec<(String, String)>,
    /// Its working folder; `None`: ours.
    pub dir: Option<PathBuf>,
    /// Where stdout and stderr go (appended).
    pub log: PathBuf,
}

/// A signal that the test bed sends to its own children.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Asks to end.
    Term,
    /// Freezes.
    Stop,
    /// Continues after [`Signal::Stop`].
    Continue,
    /// Ends at once.
    Kill,
}

/// A process started from a [`Spec`]; it is ended when this value is dropped.
#[derive(Debug)]
pub struct Process {
    spec: Spec,
    child: Child,
    pid: u32,
    watchdog: Option<Arc<Watchdog>>,
}

impl Process {
    /// Starts it in a process group of its own, so that Ctrl-C reaches the owner only, which then ends its children in order.
    ///
    /// # Errors
    /// When the log cannot be opened or the program cannot be started.
    pub fn start(spec: Spec, watchdog: Option<Arc<Watchdog>>) -> Result<Self> {
        if let Some(parent) = spec.log.parent() {
            fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
        }
        let log = OpenOptions::new().create(true).append(true).open(&spec.log);
        let log = log.with_context(|| format!("cannot open {}", spec.log.display()))?;
        let mut command = Command::new(&spec.program);
        command.args(&spec.args).env_clear();
        command.envs(INHERITED.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        command.envs(spec.env.iter().map(|(name, value)| (name, value)));
        if let Some(dir) = &spec.dir {
            command.current_dir(dir);
        }
        command.stdin(Stdio::null()).stdout(log.try_clone().context("cannot share a log")?).stderr(log);
        let child = command
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {} ({})", spec.name, spec.program.display()))?;
        let pid = child.id().with_context(|| format!("{} ended at once", spec.name))?;
        if let Some(watchdog) = &watchdog {
            watchdog.add(pid);
        }
        Ok(Self { spec, child, pid, watchdog })
    }

    /// What it was started from.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// `Some` once it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// An error of the operating system.
    pub async fn wait(&mut self) -> Result<ExitStatus> {
        self.child.wait().await.with_context(|| format!("cannot wait for {}", self.spec.name))
    }

    /// Sends a signal to this child.
    ///
    /// # Errors
    /// When it has ended already, or `kill` cannot be run.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if let Some(status) = self.ended() {
            bail!("{} has ended already ({status})", self.spec.name);
        }
        let flag = match signal {
            Signal::Term => "-TERM",
            Signal::Stop => "-STOP",
            Signal::Continue => "-CONT",
            Signal::Kill => "-KILL",
        };
        // Not reaped yet, so the id still is this child's.
        let status = std::process::Command::new("kill").args([flag, &self.pid.to_string()]).status();
        match status.context("cannot run kill")? {
            status if status.success() => Ok(()),
            status => bail!("kill {flag} {} ({}) ended with {status}", self.pid, self.spec.name),
        }
    }

    /// Asks it to end, ends it by force after `grace`, and returns when it is gone.
    ///
    /// # Errors
    /// When it cannot be signalled or waited for.
    pub async fn stop(&mut self, grace: Duration) -> Result<ExitStatus> {
        if let Some(status) = self.ended() {
            return Ok(status);
        }
        // A frozen process cannot act on the request.
        self.signal(Signal::Continue).ok();
        self.signal(Signal::Term).ok();
        if let Ok(status) = tokio::time::timeout(grace, self.wait()).await {
            return status;
        }
        self.child.start_kill().ok();
        self.wait().await
    }

    /// Ends it by force and returns when it is gone.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub async fn kill(&mut self) -> Result<ExitStatus> {
        self.child.start_kill().ok();
        self.wait().await
    }

    /// An error that says that it ended, with the end of its log.
    pub fn failure(&self, what: &str) -> anyhow::Error {
        anyhow::anyhow!(
            "{} {what}; the end of {}:\n{}",
            self.spec.name,
            self.spec.log.display(),
            last_lines(&self.spec.log, 20)
        )
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended().is_none() {
            self.child.start_kill().ok();
        }
        if let Some(watchdog) = &self.watchdog {
            watchdog.remove(self.pid);
        }
    }
}

/// A shell that ends our children when this process is gone without having done so (SIGKILL, abort, Ctrl-C in `cargo test`).
///
/// It reads the children's ids from a pipe; the pipe's end is the end of this process, however that came. A child is named by
/// its id and its start time in `/proc`, so an id that was given to another process since is left alone. Without `/proc` it does
/// nothing.
#[derive(Debug)]
pub struct Watchdog {
    stdin: Mutex<std::process::ChildStdin>,
    shell: Mutex<std::process::Child>,
}

const WATCHDOG_SCRIPT: &str = r#"
all=""
while read -r sign pid start; do
  if [ "$sign" = + ]; then all="$all $pid:$start"; else
    rest=""
    for one in $all; do [ "${one%%:*}" = "$pid" ] || rest="$rest $one"; done
    all="$rest"
  fi
done
for one in $all; do
  pid="${one%%:*}"
  [ "$(cut -d' ' -f22 "/proc/$pid/stat" 2>/dev/null)" = "${one##*:}" ] && kill -KILL "$pid"
done
exit 0
"#;

impl Watchdog {
    /// Starts the shell.
    ///
    /// # Errors
    /// When `sh` cannot be started.
    pub fn start() -> Result<Arc<Self>> {
        use std::os::unix::process::CommandExt as _;
        let mut shell = std::process::Command::new("sh")
            .args(["-c", WATCHDOG_SCRIPT])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("cannot start sh")?;
        let stdin = shell.stdin.take().context("the shell has no stdin")?;
        Ok(Arc::new(Self { stdin: Mutex::new(stdin), shell: Mutex::new(shell) }))
    }

    fn add(&self, pid: u32) {
        if let Some(start) = start_time(pid) {
            self.write(&format!("+ {pid} {start}\n"));
        }
    }

    fn remove(&self, pid: u32) {
        self.write(&format!("- {pid} 0\n"));
    }

    fn write(&self, line: &str) {
        let mut stdin = self.stdin.lock().unwrap_or_else(PoisonError::into_inner);
        stdin.write_all(line.as_bytes()).ok();
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        // The pipe closes only after this, so the shell is ended rather than waited for; its list is empty by now because
        // every process holds a reference to it.
        let mut shell = self.shell.lock().unwrap_or_else(PoisonError::into_inner);
        shell.kill().ok();
        shell.wait().ok();
    }
}

/// The start time of a process in clock ticks since boot: field 22 of `/proc/PID/stat`, with spaces in the second field
/// counted as the shell's `cut` counts them.
fn start_time(pid: u32) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    text.split(' ').nth(21).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper(dir: &Path) -> Spec {
        Spec {
            name: "sleeper".into(),
            program: "sleep".into(),
            args: vec!["600".into()],
            log: dir.join("log"),
            ..Spec::default()
        }
    }

    fn state(pid: u32) -> Option<String> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        text.split(' ').nth(2).map(str::to_owned)
    }

    #[tokio::test]
    async fn stops_freezes_and_ends_on_drop() {
        let dir = tempfile::tempdir().unwrap();
        let mut process = Process::start(sleeper(dir.path()), None).unwrap();
        process.signal(Signal::Stop).unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(state(process.pid()).as_deref(), Some("T"));
        let status = process.stop(Duration::from_secs(5)).await.unwrap();
        assert!(!status.success());
        assert!(process.signal(Signal::Term).is_err(), "no signal goes to an id that is free again");
        let process = Process::start(sleeper(dir.path()), None).unwrap();
        let pid = process.pid();
        drop(process);
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(matches!(state(pid).as_deref(), None | Some("Z")));
    }

    #[tokio::test]
    async fn watchdog_ends_what_its_owner_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        let watchdog = Watchdog::start().unwrap();
        let kept = Process::start(sleeper(dir.path()), Some(watchdog.clone())).unwrap();
        let gone = Process::start(sleeper(dir.path()), Some(watchdog.clone())).unwrap();
        drop(gone);
        // As when this process died: the pipe closes and nobody has ended the child.
        let mut shell = std::process::Command::new("sh");
        let pid = kept.pid();
        let start = start_time(pid).unwrap();
        let mut other = shell.args(["-c", WATCHDOG_SCRIPT]).stdin(Stdio::piped()).spawn().unwrap();
        let mut pipe = other.stdin.take().unwrap();
        writeln!(pipe, "+ {pid} {start}\n+ {} 1", std::process::id()).unwrap();
        drop(pipe);
        other.wait().unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(matches!(state(pid).as_deref(), None | Some("Z")), "ended by the watchdog");
    }

    #[test]
    fn last_lines_of_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        fs::write(&path, "a\nb\nc\n").unwrap();
        assert_eq!(last_lines(&path, 2), "b\nc");
        assert!(last_lines(&dir.path().join("none"), 2).contains("cannot be read"));
    }
}
