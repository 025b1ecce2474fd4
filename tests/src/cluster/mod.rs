//! One cluster, of the test bed or of the user.

mod audit;
mod egress;
pub mod kubeconfig;
mod local;
mod metrics;
pub mod pki;
pub mod ports;
pub mod proxy;
mod server;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

pub use audit::{AuditMark, AuditWrite};
pub use metrics::WriteRequests;
pub use proxy::{Fault, FaultProxy};

pub(crate) use local::{Local, LocalSetup};
pub(crate) use server::etcd;

use crate::runner::NodeRunner;
use kubeconfig::Credential;

/// How long the tokens of [`Cluster::service_account_kubeconfig`] live, in seconds.
const TOKEN_SECONDS: i64 = 24 * 3600;

/// Which address a kubeconfig names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// The API server itself.
    Direct,
    /// The fault proxy in front of it, which passes TLS through unread: every way of authentication works, and faults are those of
    /// connections. The API server itself where there is no proxy (clusters of the user).
    Proxy,
    /// The fault proxy, which ends TLS and passes requests on, so that it can also answer and cut them. Bearer tokens get through,
    /// client certificates do not: use [`Cluster::service_account_kubeconfig`]. The API server itself where there is no proxy.
    Http,
}

/// A cluster with an administrator's access to it.
pub struct Cluster {
    name: String,
    server: String,
    ca: String,
    kubeconfig: String,
    path: PathBuf,
    client: Client,
    local: Option<Local>,
}

impl std::fmt::Debug for Cluster {
    /// Without the kubeconfig, which holds a key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster")
            .field("name", &self.name)
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

impl Cluster {
    pub(crate) async fn from_local(local: Local, path: PathBuf) -> Result<Self> {
        let kubeconfig = local.admin_kubeconfig(&local.url());
        write_private(&path, &kubeconfig)?;
        Ok(Self {
            name: local.name().to_owned(),
            server: local.url(),
            ca: local.ca(),
            client: kubeconfig::client(&kubeconfig).await?,
            kubeconfig,
            path,
            local: Some(local),
        })
    }

    /// A cluster of the user. `kubeconfig` has one context; it is written to `path`.
    pub(crate) async fn external(
        name: String,
        kubeconfig: String,
        server: String,
        ca: String,
        path: PathBuf,
    ) -> Result<Self> {
        write_private(&path, &kubeconfig)?;
        let client = kubeconfig::client(&kubeconfig).await?;
        Ok(Self { name, server, ca, kubeconfig, path, client, local: None })
    }

    /// `host`, `member1`, …, or the name of the user's context.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the test bed started it; the user's own clusters cannot be stopped or slowed down.
    pub fn is_local(&self) -> bool {
        self.local.is_some()
    }

    /// The URL of its API server, not through the proxy.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The PEM text of the CA of its API server.
    pub fn ca(&self) -> &str {
        &self.ca
    }

    /// The administrator's kubeconfig, not through the proxy. Its one context has the cluster's name.
    pub fn kubeconfig(&self) -> &str {
        &self.kubeconfig
    }

    /// The file with [`Cluster::kubeconfig`].
    pub fn kubeconfig_path(&self) -> &Path {
        &self.path
    }

    /// The administrator's kubeconfig by the given route. By [`Route::Http`] the API server of the test bed answers 401 to it: the
    /// administrator has a client certificate.
    pub fn kubeconfig_by(&self, route: Route) -> String {
        match &self.local {
            Some(local) => local.admin_kubeconfig(&self.server_by(route)),
            None => self.kubeconfig.clone(),
        }
    }

    fn server_by(&self, route: Route) -> String {
        match (&self.local, route) {
            (Some(local), Route::Proxy) => local.proxy().url(),
            (Some(local), Route::Http) => local.proxy().http_url(),
            (_, Route::Direct) | (None, _) => self.server.clone(),
        }
    }

    /// The administrator's client, not through the proxy.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// A kubeconfig of a service account with a token of one day. Namespace and account are created where they are missing;
    /// permissions are the caller's business.
    ///
    /// # Errors
    /// Errors of the API.
    pub async fn service_account_kubeconfig(
        &self,
        namespace: &str,
        name: &str,
        route: Route,
    ) -> Result<String> {
        let apply = PatchParams::apply("testbed").force();
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        Api::<Namespace>::all(self.client())
            .patch(namespace, &apply, &Patch::Apply(&object))
            .await
            .with_context(|| format!("cannot create namespace {namespace} in {}", self.name))?;
        let accounts = Api::<ServiceAccount>::namespaced(self.client(), namespace);
        let object = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}});
        accounts
            .patch(name, &apply, &Patch::Apply(&object))
            .await
            .with_context(|| format!("cannot create service account {namespace}/{name} in {}", self.name))?;
        let request = TokenRequest {
            spec: TokenRequestSpec { expiration_seconds: Some(TOKEN_SECONDS), ..TokenRequestSpec::default() },
            ..TokenRequest::default()
        };
        let answer = accounts.create_token_request(name, &PostParams::default(), &request).await;
        let token = answer
            .with_context(|| format!("no token for {namespace}/{name} in {}", self.name))?
            .status
            .context("an answer without token")?
            .token;
        let server = self.server_by(route);
        Ok(kubeconfig::kubeconfig(&self.name, &server, &self.ca, name, &Credential::Token(token)))
    }

    /// A client as a service account, see [`Cluster::service_account_kubeconfig`].
    ///
    /// # Errors
    /// Errors of the API.
    pub async fn client_as_service_account(&self, namespace: &str, name: &str) -> Result<Client> {
        let text = self.service_account_kubeconfig(namespace, name, Route::Direct).await?;
        kubeconfig::client(&text).await
    }

    /// The version that it reports, for example `v1.34.4`.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn version(&self) -> Result<String> {
        let info = self.client.apiserver_version().await;
        Ok(info.with_context(|| format!("{} does not answer", self.name))?.git_version)
    }

    /// Writes since the API server's start, from its metrics. Those that were refused for lack of permission are not in it.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn write_requests(&self) -> Result<WriteRequests> {
        let request = hyper::Request::get("/metrics").body(Vec::new()).context("a bad request")?;
        let text = self.client.request_text(request).await;
        Ok(metrics::write_requests(&text.with_context(|| format!("{} does not answer", self.name))?))
    }

    fn local(&self) -> Result<&Local> {
        self.local
            .as_ref()
            .ok_or_else(|| anyhow!("{} is your own cluster: only the test bed's can do this", self.name))
    }

    /// Ends the API server and the controller manager; data, ports and running pods stay.
    ///
    /// # Errors
    /// For a cluster of the user.
    pub async fn stop(&self) -> Result<()> {
        self.local()?.stop().await
    }

    /// Starts it again after [`Cluster::stop`] and waits until it is ready. Does nothing while it runs.
    ///
    /// # Errors
    /// For a cluster of the user, or when it does not become ready, with the end of its log.
    pub async fn start(&self) -> Result<()> {
        self.local()?.start(&self.client).await
    }

    /// Freezes the API server and the controller manager (SIGSTOP): connections stay open and nobody answers.
    ///
    /// # Errors
    /// For a cluster of the user or one that is stopped.
    pub async fn pause(&self) -> Result<()> {
        self.local()?.signal(crate::process::Signal::Stop).await
    }

    /// Continues after [`Cluster::pause`].
    ///
    /// # Errors
    /// For a cluster of the user or one that is stopped.
    pub async fn resume(&self) -> Result<()> {
        self.local()?.signal(crate::process::Signal::Continue).await
    }

    /// Restarts it as another Kubernetes version, which is built if need be.
    ///
    /// # Errors
    /// For a cluster of the user, a version that cannot be built, or a server that does not become ready.
    pub async fn set_version(&self, version: &str) -> Result<()> {
        self.local()?.set_version(version, &self.client).await
    }

    /// The proxy in front of the API server.
    ///
    /// # Errors
    /// For a cluster of the user.
    pub fn proxy(&self) -> Result<&FaultProxy> {
        Ok(self.local()?.proxy())
    }

    /// The nodes, for holding back readiness and for the real processes.
    ///
    /// # Errors
    /// For a cluster of the user.
    pub fn runner(&self) -> Result<&NodeRunner> {
        self.local()?.runner()
    }

    /// The present end of the audit log.
    ///
    /// # Errors
    /// For a cluster of the user.
    pub fn audit_mark(&self) -> Result<AuditMark> {
        Ok(audit::mark(&self.local()?.audit_log()))
    }

    /// The writes since the mark, refused ones too; of one user where `user` is given
    /// (`system:serviceaccount:NAMESPACE:NAME`, `testbed-admin`).
    ///
    /// # Errors
    /// For a cluster of the user, or when the log cannot be read.
    pub fn audit_writes_since(&self, mark: AuditMark, user: Option<&str>) -> Result<Vec<AuditWrite>> {
        let mut writes = audit::since(&self.local()?.audit_log(), mark)?;
        writes.retain(|write| user.is_none_or(|user| write.user == user));
        Ok(writes)
    }

    /// Process ids of the API server and the controller manager, where they run.
    pub async fn pids(&self) -> Vec<u32> {
        match &self.local {
            Some(local) => local.pids().await,
            None => Vec::new(),
        }
    }

    pub(crate) async fn shutdown(&mut self) {
        if let Some(local) = &mut self.local {
            local.shutdown().await;
        }
    }
}

/// Writes a file that only the user can read.
fn write_private(path: &Path, text: &str) -> Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let file = std::fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))
}
