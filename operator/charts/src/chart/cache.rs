//! Packaged charts on disk, by their digest.

use std::{
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use sha2::{Digest as _, Sha256};

use crate::functions::hex;

/// A folder of chart archives named by their SHA-256. Any number of processes may share it: files appear whole or not at all.
#[derive(Clone, Debug)]
pub struct ChartCache {
    dir: PathBuf,
}

impl ChartCache {
    /// A cache in this folder, which is made when the first chart is stored.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn path(&self, digest: &str) -> Option<PathBuf> {
        let name = digest.strip_prefix("sha256:").unwrap_or(digest);
        let valid = name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit());
        valid.then(|| self.dir.join("sha256").join(format!("{}.tgz", name.to_ascii_lowercase())))
    }

    /// The archive with this digest (`sha256:…`), if it is there and unharmed. A damaged file is removed.
    pub async fn get(&self, digest: &str) -> Option<Vec<u8>> {
        let path = self.path(digest)?;
        let bytes = tokio::fs::read(&path).await.ok()?;
        if same_digest(&sha256(&bytes), digest) {
            return Some(bytes);
        }
        tracing::warn!(path = %path.display(), "a cached chart is damaged and is fetched again");
        let _ = tokio::fs::remove_file(&path).await;
        None
    }

    /// Stores an archive and returns its digest.
    pub async fn put(&self, bytes: &[u8]) -> io::Result<String> {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        let digest = sha256(bytes);
        let Some(path) = self.path(&digest) else { return Ok(digest) };
        let Some(parent) = path.parent() else { return Ok(digest) };
        tokio::fs::create_dir_all(parent).await?;
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let fresh = parent.join(format!(".{}-{serial}", std::process::id()));
        tokio::fs::write(&fresh, bytes).await?;
        // A rename within a folder is atomic, so a reader never sees half a file.
        let renamed = tokio::fs::rename(&fresh, &path).await;
        if renamed.is_err() {
            let _ = tokio::fs::remove_file(&fresh).await;
        }
        renamed.map(|()| digest)
    }
}

/// `sha256:…` of bytes.
pub(super) fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(bytes)))
}

/// Compares digests; a bare one in hexadecimal counts as SHA-256.
pub(super) fn same_digest(a: &str, b: &str) -> bool {
    let bare = |digest: &str| digest.strip_prefix("sha256:").unwrap_or(digest).to_ascii_lowercase();
    bare(a) == bare(b)
}
