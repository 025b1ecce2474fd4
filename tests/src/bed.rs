//! The test bed: a host cluster, member clusters, and a registry with the Istio charts.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use futures::future::try_join_all;
use tempfile::TempDir;

use crate::binaries::{Binaries, DEFAULT_KUBERNETES, Kubernetes};
use crate::cluster::{Cluster, Local, LocalSetup, etcd};
use crate::process::{Process, Watchdog};
use crate::registry::Registry;

/// Regions of members, in turn.
const REGIONS: [&str; 6] = ["eu-central-1", "us-east-1", "ap-south-1", "eu-west-1", "us-west-2", "sa-east-1"];
/// The host's region.
const HOST_REGION: &str = "eu-north-1";
/// More members than this are not what two cores are for; addresses are made from one byte too.
const MAX_MEMBERS: usize = 32;
/// Logs of this many runs are kept.
const KEPT_RUNS: usize = 10;

/// How a bed is to be. Made by [`TestBed::builder`].
#[derive(Debug, Clone)]
pub struct BedBuilder {
    members: Vec<String>,
    kubernetes: String,
    versions: Vec<(String, String)>,
    istio: Vec<String>,
    binaries: Option<Binaries>,
}

/// Running clusters. Everything ends when it is dropped.
#[derive(Debug)]
pub struct TestBed {
    /// The cluster that the operator runs on.
    pub host: Cluster,
    /// The clusters that it manages.
    pub members: Vec<Cluster>,
    /// Istio's charts on loopback.
    pub registry: Registry,
    logs: PathBuf,
    // Fields are dropped in this order: etcd after the clusters, the folder last.
    etcd: Option<Process>,
    dir: TempDir,
}

impl BedBuilder {
    /// That many members, called `member1`, `member2`, … (at most 32).
    #[must_use]
    pub fn members(mut self, count: usize) -> Self {
        self.members = (1..=count).map(|number| format!("member{number}")).collect();
        self
    }

    /// Members of these names.
    #[must_use]
    pub fn member_names<I: IntoIterator<Item = S>, S: Into<String>>(mut self, names: I) -> Self {
        self.members = names.into_iter().map(Into::into).collect();
        self
    }

    /// The Kubernetes version of all clusters, [`DEFAULT_KUBERNETES`] unless set.
    #[must_use]
    pub fn kubernetes(mut self, version: &str) -> Self {
        version.clone_into(&mut self.kubernetes);
        self
    }

    /// The Kubernetes version of one cluster.
    #[must_use]
    pub fn kubernetes_of(mut self, cluster: &str, version: &str) -> Self {
        self.versions.push((cluster.to_owned(), version.to_owned()));
        self
    }

    /// The Istio versions whose istiod is built and whose charts are served. None unless set.
    #[must_use]
    pub fn istio<I: IntoIterator<Item = S>, S: Into<String>>(mut self, versions: I) -> Self {
        self.istio = versions.into_iter().map(Into::into).collect();
        self
    }

    /// Where binaries come from and progress goes; the user's cache and stderr unless set.
    #[must_use]
    pub fn binaries(mut self, binaries: Binaries) -> Self {
        self.binaries = Some(binaries);
        self
    }

    fn version_of(&self, cluster: &str) -> String {
        let own = self.versions.iter().find(|(name, _)| name == cluster);
        own.map_or_else(|| self.kubernetes.clone(), |(_, version)| version.clone())
    }

    /// The user's own clusters where `FEDISTIO_KUBECONFIG` names a file (with `FEDISTIO_HOST_CONTEXT` for the host's context, else the
    /// current one), or [`BedBuilder::build`].
    ///
    /// # Errors
    /// As [`TestBed::external`] and [`BedBuilder::build`].
    pub async fn build_or_external(self) -> Result<TestBed> {
        match std::env::var_os("FEDISTIO_KUBECONFIG") {
            Some(path) => {
                let host = std::env::var("FEDISTIO_HOST_CONTEXT").ok();
                TestBed::external(Path::new(&path), host.as_deref(), &self.istio).await
            }
            None => self.build().await,
        }
    }

    /// Builds what is missing, starts everything and waits until it is ready.
    ///
    /// # Errors
    /// A binary that cannot be built, a server that does not start (with the end of its log), bad names or counts.
    pub async fn build(self) -> Result<TestBed> {
        if self.members.len() > MAX_MEMBERS {
            bail!("{} members are too many for one machine: at most {MAX_MEMBERS}", self.members.len());
        }
        for (index, name) in self.members.iter().enumerate() {
            let plain = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
            if name.is_empty() || name == "host" || !plain || self.members[..index].contains(name) {
                bail!(
                    "'{name}' cannot be a member's name: lower-case letters, digits and '-', each once, and not 'host'"
                );
            }
        }
        let binaries = match self.binaries.clone() {
            Some(binaries) => binaries,
            None => Binaries::user()?,
        };
        // One after the other: a Go build uses all cores by itself.
        let etcd_program = binaries.etcd().await?;
        for name in ["host"].into_iter().chain(self.members.iter().map(String::as_str)) {
            let Kubernetes { .. } = binaries.kubernetes(&self.version_of(name)).await?;
        }
        for version in &self.istio {
            binaries.istiod(version).await?;
        }
        let registry = Registry::start(&binaries, &self.istio).await?;
        let logs = run_logs()?;
        let dir = tempfile::Builder::new()
            .prefix("fedistio-")
            .tempdir()
            .context("cannot create a temporary folder")?;
        let watchdog = Watchdog::start()?;
        let (spec, etcd_url) = etcd(&etcd_program, dir.path(), &logs.join("etcd.log"))?;
        let etcd = Process::start(spec, Some(Arc::clone(&watchdog)))?;
        let names = std::iter::once("host".to_owned()).chain(self.members.iter().cloned());
        let clusters = names.enumerate().map(|(index, name)| {
            let setup = LocalSetup {
                index: u8::try_from(index).unwrap_or(u8::MAX),
                region: if index == 0 { HOST_REGION } else { REGIONS[(index - 1) % REGIONS.len()] }
                    .to_owned(),
                nodes: if index == 0 { 1 } else { 2 },
                version: self.version_of(&name),
                etcd: etcd_url.clone(),
                dir: dir.path().join(&name),
                logs: logs.clone(),
                watchdog: Arc::clone(&watchdog),
                binaries: binaries.clone(),
                name,
            };
            let path = dir.path().join(format!("{}.kubeconfig", setup.name));
            async move { Cluster::from_local(Local::create(setup).await?, path).await }
        });
        let mut clusters = try_join_all(clusters).await?.into_iter();
        let host = clusters.next().context("no host cluster")?;
        Ok(TestBed { host, members: clusters.collect(), registry, logs, etcd: Some(etcd), dir })
    }
}

impl TestBed {
    /// A bed with three members of [`DEFAULT_KUBERNETES`] and no Istio, unless told otherwise.
    pub fn builder() -> BedBuilder {
        let builder = BedBuilder {
            members: Vec::new(),
            kubernetes: DEFAULT_KUBERNETES.to_owned(),
            versions: Vec::new(),
            istio: Vec::new(),
            binaries: None,
        };
        builder.members(3)
    }

    /// Clusters of the user instead: a kubeconfig with a context for each.
    ///
    /// # Errors
    /// A file that is no kubeconfig, a context that is not there, or charts that cannot be packaged.
    pub async fn external(kubeconfig: &Path, host_context: Option<&str>, istio: &[String]) -> Result<Self> {
        let binaries = Binaries::user()?;
        let registry = Registry::start(&binaries, istio).await?;
        let logs = run_logs()?;
        let dir = tempfile::Builder::new()
            .prefix("fedistio-")
            .tempdir()
            .context("cannot create a temporary folder")?;
        let (host, members) = crate::external::clusters(kubeconfig, host_context, dir.path()).await?;
        Ok(Self { host, members, registry, logs, etcd: None, dir })
    }

    /// A member by its name.
    ///
    /// # Errors
    /// When there is none; the message names those there are.
    pub fn member(&self, name: &str) -> Result<&Cluster> {
        self.members.iter().find(|member| member.name() == name).with_context(|| {
            let names: Vec<_> = self.members.iter().map(Cluster::name).collect();
            format!("no member '{name}'; there are {}", names.join(", "))
        })
    }

    /// The host and all members.
    pub fn clusters(&self) -> impl Iterator<Item = &Cluster> {
        std::iter::once(&self.host).chain(&self.members)
    }

    /// Where this run's logs are.
    pub fn logs(&self) -> &Path {
        &self.logs
    }

    /// A folder for files that go with the bed.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Process id of etcd, where the bed has one.
    pub fn etcd_pid(&self) -> Option<u32> {
        self.etcd.as_ref().map(Process::pid)
    }

    /// Ends everything and waits for it. Dropping does the same without waiting.
    pub async fn shutdown(mut self) {
        self.host.shutdown().await;
        for member in &mut self.members {
            member.shutdown().await;
        }
        if let Some(etcd) = &mut self.etcd {
            etcd.kill().await.ok();
        }
    }
}

/// A fresh folder for logs below `target/testbed/logs`; folders of old runs are removed.
fn run_logs() -> Result<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).join("target"),
        PathBuf::from,
    );
    let root = target.join("testbed/logs");
    std::fs::create_dir_all(&root).with_context(|| format!("cannot create {}", root.display()))?;
    let mut runs: Vec<_> = std::fs::read_dir(&root)
        .with_context(|| format!("cannot read {}", root.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    runs.sort();
    for old in runs.iter().rev().skip(KEPT_RUNS - 1) {
        std::fs::remove_dir_all(old).ok();
    }
    let stamp = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S");
    let logs = root.join(format!("{stamp}-{}", std::process::id()));
    // Two beds of one process may begin within a second.
    let logs = (0..100).map(|n| if n == 0 { logs.clone() } else { logs.with_extension(n.to_string()) });
    for logs in logs {
        match std::fs::create_dir(&logs) {
            Ok(()) => return Ok(logs),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| format!("cannot create {}", logs.display())),
        }
    }
    bail!("no free name for a log folder in {}", root.display())
}
