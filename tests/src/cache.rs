//! The user's cache folder: what takes minutes to make is made once and kept by version.
//!
//! The folder is `$FEDISTIO_CACHE`, else `$XDG_CACHE_HOME/fedistio`, else `~/.cache/fedistio`. Every entry is a folder
//! that appears by one rename after it is complete, under a lock that other processes wait for.

use std::env;
use std::fs::{self, File, TryLockError};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::progress::Progress;

/// How often a process that waits for another one's lock looks again.
const LOCK_POLL: Duration = Duration::from_millis(300);

/// A cache folder.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// The cache of this user, see the module's text for the rule.
    ///
    /// # Errors
    /// When none of `FEDISTIO_CACHE`, `XDG_CACHE_HOME` and `HOME` is set.
    pub fn user() -> Result<Self> {
        let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let root = set("FEDISTIO_CACHE")
            .or_else(|| set("XDG_CACHE_HOME").map(|dir| dir.join("fedistio")))
            .or_else(|| set("HOME").map(|dir| dir.join(".cache/fedistio")));
        match root {
            Some(root) => Ok(Self { root }),
            None => bail!("no cache folder: set FEDISTIO_CACHE to a folder that can be written"),
        }
    }

    /// A cache in the given folder.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The cache's folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The path of an entry, whether it exists or not. `kind` is a folder such as `bin` or `charts`.
    pub fn path(&self, kind: &str, name: &str) -> PathBuf {
        self.root.join(kind).join(name)
    }

    /// The folder in which the entry is made; kept after a failure for its log.
    pub fn work_dir(&self, kind: &str, name: &str) -> PathBuf {
        self.root.join("build").join(format!("{kind}-{name}"))
    }

    /// The folder `<root>/<kind>/<name>`. Where it is missing, `make` fills an empty folder that is then renamed into
    /// place; a second process waits meanwhile.
    ///
    /// # Errors
    /// What `make` returns, or an I/O error with its path.
    pub async fn get_or_make<F, Fut>(
        &self,
        kind: &str,
        name: &str,
        progress: &Progress,
        make: F,
    ) -> Result<PathBuf>
    where
        F: FnOnce(PathBuf) -> Fut,
        Fut: Future<Output = Result<()>>,
    {
        let target = self.path(kind, name);
        if target.is_dir() {
            return Ok(target);
        }
        let _lock = self.lock(kind, name, progress).await?;
        if target.is_dir() {
            return Ok(target);
        }
        let parent = self.root.join(kind);
        fs::create_dir_all(&parent).with_context(|| format!("cannot create {}", parent.display()))?;
        let fresh = tempfile::Builder::new()
            .prefix(&format!(".{name}-"))
            .tempdir_in(&parent)
            .with_context(|| format!("cannot create a folder in {}", parent.display()))?;
        make(fresh.path().to_path_buf()).await?;
        fs::rename(fresh.keep(), &target)
            .with_context(|| format!("cannot put {} in place", target.display()))?;
        Ok(target)
    }

    async fn lock(&self, kind: &str, name: &str, progress: &Progress) -> Result<File> {
        let dir = self.root.join("locks");
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let path = dir.join(format!("{kind}-{name}.lock"));
        let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        let mut told = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) => {
                    if !told {
                        progress.note(&format!("another process is making {name}; waiting for it"));
                        told = true;
                    }
                    tokio::time::sleep(LOCK_POLL).await;
                }
                Err(TryLockError::Error(error)) => {
                    return Err(error).with_context(|| format!("cannot lock {}", path.display()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn makes_once_and_not_at_all_on_failure() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path());
        let progress = Progress::quiet();
        let failed = cache.get_or_make("bin", "a-1", &progress, |_| async { bail!("no") }).await;
        assert!(failed.is_err());
        assert!(!cache.path("bin", "a-1").exists());
        assert_eq!(fs::read_dir(dir.path().join("bin")).unwrap().count(), 0, "nothing half made is left");
        let make = |text: &'static str| {
            move |to: PathBuf| async move { fs::write(to.join("x"), text).context("write") }
        };
        let entry = cache.get_or_make("bin", "a-1", &progress, make("first")).await.unwrap();
        let again = cache.get_or_make("bin", "a-1", &progress, make("second")).await.unwrap();
        assert_eq!(entry, again);
        assert_eq!(fs::read_to_string(entry.join("x")).unwrap(), "first");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn two_at_the_same_time_make_one() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path());
        let progress = Progress::quiet();
        let slow = |to: PathBuf| async move {
            tokio::time::sleep(Duration::from_millis(400)).await;
            fs::write(to.join("made"), "by one").context("write")
        };
        let never = |_: PathBuf| async { bail!("made twice") };
        let first = cache.get_or_make("bin", "b", &progress, slow);
        let second = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            cache.get_or_make("bin", "b", &progress, never).await
        };
        let (first, second) = tokio::join!(first, second);
        assert_eq!(first.unwrap(), second.unwrap());
    }
}
