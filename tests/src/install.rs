//! An installed operator on a bed, made as a user makes it: `fedistio manifests`, then `fedistio operator` as the ServiceAccount of
//! those manifests with exactly their permissions, then `fedistio join`.

use crate::{Cluster, Operator, TestBed, cluster::Route};
use anyhow::{Context as _, Result, bail};
use kube::{
    Api,
    api::{DynamicObject, Patch, PatchParams},
    core::{ApiResource, GroupVersionKind},
    discovery::Scope,
};
use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    process::Output,
    time::Duration,
};

/// Namespace of the operator.
pub const NAMESPACE: &str = "fedistio-system";
/// The operator's user name on host and members.
pub const USER: &str = "system:serviceaccount:fedistio-system:fedistio";
/// Manager of the fields that tests and the demo set by hand.
const MANAGER: &str = "fedistio-tests";
/// Objects of a kind whose CRD was just made are tried again for so long.
const ESTABLISHED: Duration = Duration::from_secs(20);

/// Runs `fedistio` with these arguments; its output, whatever its exit code.
///
/// # Errors
/// When the binary can't be built or run.
pub async fn fedistio(args: &[&str]) -> Result<Output> {
    let program = Operator::binary().await?;
    tokio::process::Command::new(program)
        .args(args)
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| format!("fedistio {} can't be run", args.join(" ")))
}

/// As [`fedistio`], but a failure is an error with what it printed. Returns standard output.
///
/// # Errors
/// When it can't be run or fails.
pub async fn fedistio_ok(args: &[&str]) -> Result<String> {
    let output = fedistio(args).await?;
    if !output.status.success() {
        bail!("fedistio {} failed: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    String::from_utf8(output.stdout).context("fedistio printed what is not UTF-8")
}

/// Applies every document of a YAML text with server-side apply, in order, as `kubectl apply --server-side --force-conflicts -f -` does.
///
/// # Errors
/// YAML that can't be read, a kind that the cluster does not serve within 20 s, and what the API server refuses.
pub async fn apply_yaml(cluster: &Cluster, text: &str) -> Result<Vec<DynamicObject>> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).context("the YAML can't be read")?;
    let mut applied = Vec::new();
    for document in documents.into_iter().filter(|document| !document.is_null()) {
        applied.push(apply(cluster, document).await?);
    }
    Ok(applied)
}

/// Applies one object with server-side apply.
///
/// # Errors
/// As [`apply_yaml`].
pub async fn apply(cluster: &Cluster, object: Value) -> Result<DynamicObject> {
    let object: DynamicObject = serde_json::from_value(object).context("not a Kubernetes object")?;
    let name = object.metadata.name.clone().context("an object without metadata.name")?;
    let api = api_of(cluster, &object).await?;
    let params = PatchParams::apply(MANAGER).force();
    let what = || format!("{} {name} can't be applied in {}", kind(&object), cluster.name());
    api.patch(&name, &params, &Patch::Apply(&object)).await.with_context(what)
}

/// Deletes what [`apply`] made; an object that is not there is no error.
///
/// # Errors
/// What the API server refuses.
pub async fn delete(cluster: &Cluster, object: &DynamicObject) -> Result<()> {
    let api = api_of(cluster, object).await?;
    let name = object.metadata.name.as_deref().unwrap_or_default();
    match api.delete(name, &kube::api::DeleteParams::default()).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error).with_context(|| format!("{name} can't be deleted in {}", cluster.name())),
    }
}

fn kind(object: &DynamicObject) -> &str {
    object.types.as_ref().map_or("", |types| types.kind.as_str())
}

async fn api_of(cluster: &Cluster, object: &DynamicObject) -> Result<Api<DynamicObject>> {
    let types = object.types.as_ref().context("an object without apiVersion and kind")?;
    let gvk = GroupVersionKind::try_from(types).context("an apiVersion that is none")?;
    let (resource, scope) = resolve(cluster, &gvk).await?;
    let namespace = object.metadata.namespace.as_deref().unwrap_or("default");
    Ok(match scope {
        Scope::Cluster => Api::all_with(cluster.client(), &resource),
        Scope::Namespaced => Api::namespaced_with(cluster.client(), namespace, &resource),
    })
}

async fn resolve(cluster: &Cluster, gvk: &GroupVersionKind) -> Result<(ApiResource, Scope)> {
    let deadline = tokio::time::Instant::now() + ESTABLISHED;
    loop {
        match kube::discovery::pinned_kind(&cluster.client(), gvk).await {
            Ok((resource, capabilities)) => return Ok((resource, capabilities.scope)),
            Err(error) if tokio::time::Instant::now() >= deadline => {
                return Err(error).with_context(|| format!("{} does not serve {}", cluster.name(), gvk.kind));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// An installed operator, and what it takes to start it again.
#[derive(Debug)]
pub struct Installation {
    kubeconfig: PathBuf,
    charts: PathBuf,
    logs: PathBuf,
    runs: std::cell::Cell<u32>,
}

impl Installation {
    /// Applies `fedistio manifests` to the bed's host. The manifests' own Deployment stays without pods on a bed whose nodes have no
    /// such image; the operator is started by [`Self::start`].
    ///
    /// # Errors
    /// What `fedistio` or the API server refuses.
    pub async fn install(bed: &TestBed) -> Result<Self> {
        let manifests = fedistio_ok(&["manifests"]).await?;
        let documents: Vec<Value> =
            serde_saphyr::from_multiple(&manifests).context("the manifests can't be read")?;
        // The Deployment would start an operator from an image that a bed has not.
        for document in documents.into_iter().filter(|document| document["kind"] != "Deployment") {
            apply(&bed.host, document).await?;
        }
        let text = bed.host.service_account_kubeconfig(NAMESPACE, "fedistio", Route::Direct).await?;
        let kubeconfig = bed.dir().join("operator.kubeconfig");
        write_private(&kubeconfig, &text)?;
        let charts = bed.dir().join("charts");
        Ok(Self { kubeconfig, charts, logs: bed.logs().to_owned(), runs: std::cell::Cell::new(0) })
    }

    /// Starts the operator as its ServiceAccount. Each start has a log of its own; the downloaded charts are those of the last one.
    ///
    /// # Errors
    /// When the binary can't be built or started.
    pub async fn start(&self) -> Result<Operator> {
        let run = self.runs.get() + 1;
        self.runs.set(run);
        Operator::builder(&self.kubeconfig, self.logs.join(format!("operator-{run}.log")))
            .args(["--metrics-address", "127.0.0.1:0", "--cache-dir", &self.charts.display().to_string()])
            .env("RUST_LOG", "info,fedistio=debug,fedistio_federation=debug,fedistio_istio=debug")
            .start()
            .await
    }

    /// The kubeconfig of the operator's ServiceAccount on the host.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }
}

/// Joins a member with `fedistio join` through its fault proxy, with these labels (`env=prod,ring=1`).
///
/// # Errors
/// What `fedistio join` says.
pub async fn join(bed: &TestBed, member: &Cluster, labels: &str) -> Result<()> {
    let host = bed.host.kubeconfig_path().display().to_string();
    let path = bed.dir().join(format!("{}-by-proxy.kubeconfig", member.name()));
    write_private(&path, &member.kubeconfig_by(Route::Proxy))?;
    let path = path.display().to_string();
    let mut args = vec!["join", member.name(), "--kubeconfig", &host, "--cluster-kubeconfig", &path];
    if !labels.is_empty() {
        args.extend(["--labels", labels]);
    }
    fedistio_ok(&args).await.map(drop)
}

fn write_private(path: &Path, text: &str) -> Result<()> {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    file.write_all(text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))
}

/// Asks `question` every 20 ms until it answers with a value, or `bound` has passed.
///
/// # Errors
/// After `bound`, with `what` and the last answer of the question.
pub async fn eventually<T, F>(what: &str, bound: Duration, mut question: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let deadline = tokio::time::Instant::now() + bound;
    loop {
        match question().await {
            Ok(answer) => return Ok(answer),
            Err(error) if tokio::time::Instant::now() >= deadline => {
                return Err(error).with_context(|| format!("not within {} s: {what}", bound.as_secs()));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// Applies Istio's CRDs of a version, from its base chart, to a cluster: enough for federated Istio resources without a control plane.
///
/// # Errors
/// A chart that can't be packaged, and what the API server refuses.
pub async fn apply_istio_crds(cluster: &Cluster, version: &str) -> Result<()> {
    let archives = crate::charts::charts(&crate::Binaries::user()?, version).await?;
    let base = archives.iter().find(|archive| archive.name == "base").context("the charts have no base")?;
    let file =
        std::fs::File::open(&base.path).with_context(|| format!("cannot read {}", base.path.display()))?;
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
    for entry in archive.entries()? {
        let mut entry = entry?;
        if entry.path()?.ends_with("files/crd-all.gen.yaml") {
            let mut text = String::new();
            std::io::Read::read_to_string(&mut entry, &mut text)?;
            apply_yaml(cluster, &text).await?;
            return Ok(());
        }
    }
    bail!("{} has no files/crd-all.gen.yaml", base.path.display())
}
