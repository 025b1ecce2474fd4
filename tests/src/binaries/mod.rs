//! The servers of the test bed: found on this machine where the version fits, else built once from Go modules.
//!
//! No Go code of ours: a `go.mod` per stack is generated into the cache's build folder.

mod etcd;
mod go;
mod helm;
mod istio;
mod kubernetes;
mod olm;

use std::path::{Path, PathBuf};

use anyhow::Result;

pub use go::{GO_NEEDED, module_dir};
pub use istio::{ISTIO_VERSIONS, IstioModule, istio_module};

use crate::cache::Cache;
use crate::progress::Progress;

/// The Kubernetes version that is used unless another is asked for: both Istio 1.28 and 1.29 support it.
pub const DEFAULT_KUBERNETES: &str = "v1.34.4";
/// The etcd version that is built.
pub const ETCD: &str = "v3.7.3";
/// The helm version that is built, only to compare renderings with.
pub const HELM: &str = "v3.22.0";

/// The two servers of a Kubernetes control plane.
#[derive(Debug, Clone)]
pub struct Kubernetes {
    /// `kube-apiserver`.
    pub apiserver: PathBuf,
    /// `kube-controller-manager`.
    pub controller_manager: PathBuf,
}

/// Finds or builds the servers.
#[derive(Debug, Clone)]
pub struct Binaries {
    cache: Cache,
    progress: Progress,
}

impl Binaries {
    /// Binaries in the given cache.
    pub fn new(cache: Cache, progress: Progress) -> Self {
        Self { cache, progress }
    }

    /// Binaries in the user's cache, with progress on stderr.
    ///
    /// # Errors
    /// As [`Cache::user`].
    pub fn user() -> Result<Self> {
        Ok(Self::new(Cache::user()?, Progress::stderr()))
    }

    /// The cache that is used.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Where progress is shown.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// kube-apiserver and kube-controller-manager of a version such as `v1.34.4` or `1.34.4`.
    ///
    /// # Errors
    /// A version that is not `vMAJOR.MINOR.PATCH`, missing Go, or a failed build with the end of its log.
    pub async fn kubernetes(&self, version: &str) -> Result<Kubernetes> {
        kubernetes::get(self, version).await
    }

    /// etcd: any 3.5 to 3.7 of the machine, else [`ETCD`] is built.
    ///
    /// # Errors
    /// Missing Go, or a failed build with the end of its log.
    pub async fn etcd(&self) -> Result<PathBuf> {
        etcd::get(self).await
    }

    /// istiod's binary `pilot-discovery` of an Istio version such as `1.28.2`.
    ///
    /// # Errors
    /// A version that has no entry in [`ISTIO_VERSIONS`] or is known not to build, missing Go, or a failed build.
    pub async fn istiod(&self, version: &str) -> Result<PathBuf> {
        istio::get(self, version).await
    }

    /// The path at which [`Binaries::istiod`] puts its binary, when it is there already.
    pub fn istiod_if_built(&self, version: &str) -> Option<PathBuf> {
        istio::built(self, version)
    }

    /// The helm command, for comparisons.
    ///
    /// # Errors
    /// Missing Go, or a failed build with the end of its log.
    pub async fn helm(&self) -> Result<PathBuf> {
        helm::get(self).await
    }

    /// `operator-verify`: OLM's own validation of a bundle's manifests.
    ///
    /// # Errors
    /// Missing Go, or a failed build with the end of its log.
    pub async fn operator_verify(&self) -> Result<PathBuf> {
        olm::get(self).await
    }
}

/// Folders in which a user may already have a server: `KUBEBUILDER_ASSETS` first, then `PATH`.
fn search_path() -> Vec<PathBuf> {
    let assets = std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    assets.into_iter().chain(std::env::split_paths(&path)).collect()
}

/// The first `name` on the search path whose output for `args` passes `fits`.
async fn find_fitting(name: &str, args: &[&str], fits: impl Fn(&str) -> bool) -> Option<PathBuf> {
    for dir in search_path() {
        let candidate = dir.join(name);
        if candidate.is_file()
            && let Some(text) = output_of(&candidate, args).await
            && fits(&text)
        {
            return Some(candidate);
        }
    }
    None
}

async fn output_of(program: &Path, args: &[&str]) -> Option<String> {
    let output = tokio::process::Command::new(program).args(args).kill_on_drop(true).output();
    let output = tokio::time::timeout(std::time::Duration::from_secs(20), output).await.ok()?.ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
