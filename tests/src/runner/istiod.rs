//! A pod of istiod becomes the unmodified `pilot-discovery` of its version.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::{ConfigMap, Container, Pod, Secret};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{Api, Client};

use super::env::{KeyRef, env};
use super::processes::Entry;
use super::volumes;
use crate::cluster::kubeconfig::{Credential, kubeconfig};
use crate::cluster::ports::free_port;
use crate::process::{Process, Spec, Watchdog};

/// The loopback ports of one istiod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// Container port 8080: `/ready` and `/debug/…`.
    pub http: u16,
    /// 15017: injection and validation webhooks.
    pub https: u16,
    /// 15010: plain xDS.
    pub grpc: u16,
    /// 15012: xDS and CA over TLS.
    pub secure_grpc: u16,
    /// 15014: metrics.
    pub monitoring: u16,
}

impl Ports {
    fn free() -> Result<Self> {
        Ok(Self {
            http: free_port()?,
            https: free_port()?,
            grpc: free_port()?,
            secure_grpc: free_port()?,
            monitoring: free_port()?,
        })
    }

    /// The loopback port that stands for a container port, by number or by the name that the charts give it.
    pub(super) fn of(&self, target: &IntOrString) -> Option<u16> {
        match target {
            IntOrString::Int(8080) => Some(self.http),
            IntOrString::Int(15017) => Some(self.https),
            IntOrString::Int(15010) => Some(self.grpc),
            IntOrString::Int(15012) => Some(self.secure_grpc),
            IntOrString::Int(15014) => Some(self.monitoring),
            IntOrString::Int(_) => None,
            IntOrString::String(name) => match name.as_str() {
                "http-debug" => Some(self.http),
                "https-webhooks" => Some(self.https),
                "grpc-xds" => Some(self.grpc),
                "tls-xds" => Some(self.secure_grpc),
                "http-monitoring" => Some(self.monitoring),
                _ => None,
            },
        }
    }
}

/// What a cluster gives to its istiods.
#[derive(Debug, Clone)]
pub(super) struct Home {
    pub(super) cluster: String,
    /// URL of the API server.
    pub(super) server: String,
    pub(super) ca: String,
    /// Folder for the pods' root folders.
    pub(super) pods: PathBuf,
    pub(super) logs: PathBuf,
    pub(super) watchdog: std::sync::Arc<Watchdog>,
}

/// Starts the process of a pod.
///
/// # Errors
/// What a kubelet would report as a container that cannot be started.
pub(super) async fn start(
    client: &Client,
    home: &Home,
    pod: &Pod,
    version: &str,
    binary: &Path,
) -> Result<Entry> {
    let spec = pod.spec.as_ref().context("a pod without spec")?;
    let container = spec.containers.first().context("a pod without containers")?;
    let (namespace, name) =
        (pod.metadata.namespace.clone().unwrap_or_default(), pod.metadata.name.clone().unwrap_or_default());
    let root = home.pods.join(pod.metadata.uid.as_deref().unwrap_or(&name));
    std::fs::create_dir_all(&root).with_context(|| format!("cannot create {}", root.display()))?;
    let volumes = volumes::mount(client, pod, container, &root).await?;
    let credential = Credential::Token(volumes::token(client, pod, None).await?);
    let text = kubeconfig(&home.cluster, &home.server, &home.ca, "istiod", &credential);
    std::fs::write(root.join("kubeconfig"), text).context("cannot write the pod's kubeconfig")?;
    let ports = Ports::free()?;
    let process = Spec {
        name: format!("{} pod {namespace}/{name}", home.cluster),
        program: binary.to_path_buf(),
        args: arguments(container, ports, &root),
        env: environment(client, pod, container).await?,
        dir: Some(root),
        log: home.logs.join(format!("{}-{name}.log", home.cluster)),
    };
    Ok(Entry {
        process: Some(Process::start(process.clone(), Some(home.watchdog.clone()))?),
        namespace,
        name,
        version: version.to_owned(),
        image: container.image.clone().unwrap_or_default(),
        labels: pod.metadata.labels.clone().unwrap_or_default(),
        ports,
        spec: process,
        watchdog: home.watchdog.clone(),
        healthy: false,
        probed: Instant::now(),
        restarts: 0,
        retry_at: Instant::now(),
        last_exit: String::new(),
        volumes,
    })
}

/// The container's own arguments, then ours: the last of a flag wins.
fn arguments(container: &Container, ports: Ports, root: &Path) -> Vec<String> {
    let mut args = container.args.clone().unwrap_or_else(|| vec!["discovery".to_owned()]);
    // A control plane for another cluster brings that cluster's kubeconfig in this volume.
    let remote = root.join("var/run/secrets/remote/config");
    let config = if remote.is_file() { remote } else { root.join("kubeconfig") };
    let address = |port: u16| format!("127.0.0.1:{port}");
    for (flag, value) in [
        ("--kubeconfig", config.display().to_string()),
        ("--httpAddr", address(ports.http)),
        ("--httpsAddr", address(ports.https)),
        ("--grpcAddr", address(ports.grpc)),
        ("--secureGRPCAddr", address(ports.secure_grpc)),
        ("--monitoringAddr", address(ports.monitoring)),
        ("--ctrlz_port", "0".to_owned()),
    ] {
        args.push(format!("{flag}={value}"));
    }
    args
}

async fn environment(client: &Client, pod: &Pod, container: &Container) -> Result<Vec<(String, String)>> {
    let (mut values, refs) = env(pod, container);
    // The path is one of the container; the flag says where the file is here.
    values.retain(|(name, _)| name != "KUBECONFIG");
    for reference in refs {
        if let Some(value) = referenced(client, pod, &reference).await? {
            values.push((reference.variable, value));
        }
    }
    Ok(values)
}

async fn referenced(client: &Client, pod: &Pod, reference: &KeyRef) -> Result<Option<String>> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let value = if reference.secret {
        let secret = Api::<Secret>::namespaced(client.clone(), namespace).get_opt(&reference.object).await;
        let data = secret.context("cannot read a secret")?.and_then(|secret| secret.data).unwrap_or_default();
        data.get(&reference.key).map(|value| String::from_utf8_lossy(&value.0).into_owned())
    } else {
        let map = Api::<ConfigMap>::namespaced(client.clone(), namespace).get_opt(&reference.object).await;
        let data: BTreeMap<_, _> =
            map.context("cannot read a config map")?.and_then(|map| map.data).unwrap_or_default();
        data.get(&reference.key).cloned()
    };
    if value.is_none() && !reference.optional {
        bail!("couldn't find key {} in {namespace}/{}", reference.key, reference.object);
    }
    Ok(value)
}
