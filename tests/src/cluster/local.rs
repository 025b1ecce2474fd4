//! The processes of a cluster that the test bed started.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kube::Client;
use tokio::sync::Mutex;

use super::egress::Egress;
use super::kubeconfig::{Credential, client, kubeconfig};
use super::pki::{ClientCert, Pki};
use super::ports::free_port;
use super::proxy::{FaultProxy, Terminator};
use super::server::{Place, apiserver, controller_manager};
use crate::binaries::{Binaries, Kubernetes};
use crate::process::{Process, Signal, Watchdog};
use crate::runner::{NodeRunner, Processes, Setup};

/// How long a server may take to become ready; ten of them may start at once on two cores.
const READY_TIMEOUT: Duration = Duration::from_mins(3);
/// How long a server may take to end before it is ended by force: its data is in etcd, and a test waits.
const GRACE: Duration = Duration::from_secs(3);

/// What a cluster is made from.
#[derive(Debug, Clone)]
pub(crate) struct LocalSetup {
    pub(crate) name: String,
    pub(crate) index: u8,
    pub(crate) region: String,
    pub(crate) nodes: usize,
    pub(crate) version: String,
    pub(crate) etcd: String,
    pub(crate) dir: PathBuf,
    pub(crate) logs: PathBuf,
    pub(crate) watchdog: Arc<Watchdog>,
    pub(crate) binaries: Binaries,
}

/// A running, stopped or paused cluster.
pub(crate) struct Local {
    place: Place,
    pki: Pki,
    admin: ClientCert,
    proxy: FaultProxy,
    servers: Mutex<Servers>,
    runner: Option<NodeRunner>,
    watchdog: Arc<Watchdog>,
    binaries: Binaries,
    controller_kubeconfig: PathBuf,
    _egress: Egress,
}

struct Servers {
    programs: Kubernetes,
    apiserver: Option<Process>,
    controller_manager: Option<Process>,
}

impl std::fmt::Debug for Local {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Local").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Local {
    /// Makes the files and starts the servers; returns when the API server is ready and the nodes are there.
    pub(crate) async fn create(setup: LocalSetup) -> Result<Self> {
        std::fs::create_dir_all(&setup.dir)
            .with_context(|| format!("cannot create {}", setup.dir.display()))?;
        let programs = setup.binaries.kubernetes(&setup.version).await?;
        let place = Place {
            name: setup.name.clone(),
            index: setup.index,
            port: free_port()?,
            etcd: setup.etcd.clone(),
            dir: setup.dir.clone(),
            logs: setup.logs.clone(),
        };
        let pki = Pki::create(&setup.dir.join("pki"), &setup.name)?;
        let admin = pki.client("testbed-admin", Some("system:masters"))?;
        let config = |user: &str, group: Option<&str>| -> Result<String> {
            let cert = Credential::Cert(pki.client(user, group)?);
            Ok(kubeconfig(&setup.name, &place.url(), &pki.ca_pem(), user, &cert))
        };
        let node_client = client(&config("testbed-node", Some("system:masters"))?).await?;
        let controller_kubeconfig = setup.dir.join("controller-manager.kubeconfig");
        super::write_private(&controller_kubeconfig, &config("system:kube-controller-manager", None)?)?;
        let processes = Arc::new(Processes::default());
        let egress = Egress::start(&place.egress_socket(), node_client.clone(), Arc::clone(&processes))?;
        let (server, tls) = (([127, 0, 0, 1], place.port).into(), Terminator::new(&pki)?);
        let proxy = FaultProxy::start(free_port()?, free_port()?, server, tls).await?;
        let runner_setup = Setup {
            cluster: setup.name.clone(),
            index: setup.index,
            region: setup.region,
            nodes: setup.nodes,
            version: setup.version,
            server: place.url(),
            ca: pki.ca_pem(),
            pods: setup.dir.join("pods"),
            logs: setup.logs,
            watchdog: Arc::clone(&setup.watchdog),
            binaries: setup.binaries.clone(),
        };
        let mut local = Self {
            place,
            pki,
            admin,
            proxy,
            servers: Mutex::new(Servers { programs, apiserver: None, controller_manager: None }),
            runner: None,
            watchdog: setup.watchdog,
            binaries: setup.binaries,
            controller_kubeconfig,
            _egress: egress,
        };
        local.start(&node_client).await?;
        local.runner = Some(NodeRunner::start(node_client, runner_setup, processes).await?);
        Ok(local)
    }

    pub(super) fn name(&self) -> &str {
        &self.place.name
    }

    pub(super) fn url(&self) -> String {
        self.place.url()
    }

    pub(super) fn ca(&self) -> String {
        self.pki.ca_pem()
    }

    pub(super) fn proxy(&self) -> &FaultProxy {
        &self.proxy
    }

    pub(super) fn runner(&self) -> Result<&NodeRunner> {
        self.runner.as_ref().context("the nodes are gone")
    }

    pub(super) fn audit_log(&self) -> PathBuf {
        self.place.audit_log()
    }

    pub(super) fn admin_kubeconfig(&self, server: &str) -> String {
        kubeconfig(
            &self.place.name,
            server,
            &self.pki.ca_pem(),
            "testbed-admin",
            &Credential::Cert(self.admin.clone()),
        )
    }

    pub(super) async fn start(&self, client: &Client) -> Result<()> {
        let mut servers = self.servers.lock().await;
        let running = servers.apiserver.as_mut().is_some_and(|server| server.ended().is_none());
        if !running {
            let spec = apiserver(&servers.programs.apiserver, &self.place, &self.pki)?;
            servers.apiserver = Some(Process::start(spec, Some(Arc::clone(&self.watchdog)))?);
        }
        if let Some(server) = &mut servers.apiserver {
            wait_ready(server, client).await?;
        }
        let running = servers.controller_manager.as_mut().is_some_and(|server| server.ended().is_none());
        if !running {
            let program = &servers.programs.controller_manager;
            let spec = controller_manager(program, &self.place, &self.pki, &self.controller_kubeconfig);
            servers.controller_manager = Some(Process::start(spec, Some(Arc::clone(&self.watchdog)))?);
        }
        Ok(())
    }

    pub(super) async fn stop(&self) -> Result<()> {
        let mut servers = self.servers.lock().await;
        // The manager first: without its server it would only write errors to its log.
        for server in [servers.controller_manager.take(), servers.apiserver.take()].into_iter().flatten() {
            let mut server = server;
            server.stop(GRACE).await?;
        }
        Ok(())
    }

    pub(super) async fn signal(&self, signal: Signal) -> Result<()> {
        let mut servers = self.servers.lock().await;
        let servers = &mut *servers;
        for server in [&mut servers.apiserver, &mut servers.controller_manager] {
            let server = server.as_mut().with_context(|| format!("{} is stopped", self.place.name))?;
            server.signal(signal)?;
        }
        Ok(())
    }

    pub(super) async fn set_version(&self, version: &str, client: &Client) -> Result<()> {
        let programs = self.binaries.kubernetes(version).await?;
        self.stop().await?;
        self.servers.lock().await.programs = programs;
        self.start(client).await
    }

    pub(super) async fn pids(&self) -> Vec<u32> {
        let servers = self.servers.lock().await;
        [&servers.apiserver, &servers.controller_manager].into_iter().flatten().map(Process::pid).collect()
    }

    pub(super) async fn shutdown(&mut self) {
        self.runner = None;
        let mut servers = self.servers.lock().await;
        // Nothing that they hold is kept, so they need not end in good order.
        for mut server in [servers.controller_manager.take(), servers.apiserver.take()].into_iter().flatten()
        {
            server.kill().await.ok();
        }
    }
}

/// Waits until `/readyz` answers.
async fn wait_ready(server: &mut Process, client: &Client) -> Result<()> {
    let started = Instant::now();
    let mut last = String::new();
    while started.elapsed() < READY_TIMEOUT {
        if let Some(status) = server.ended() {
            return Err(server.failure(&format!("ended with {status}")));
        }
        let request = hyper::Request::get("/readyz").body(Vec::new()).context("a bad request")?;
        match tokio::time::timeout(Duration::from_secs(5), client.request_text(request)).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => last = error.to_string(),
            Err(_) => "it does not answer".clone_into(&mut last),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err(server.failure(&format!("was not ready after {} s ({last})", READY_TIMEOUT.as_secs())))
}
