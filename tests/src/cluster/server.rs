//! How etcd, kube-apiserver and kube-controller-manager are started.

use std::path::Path;

use anyhow::{Context, Result};

use super::pki::Pki;
use super::ports::free_port;
use super::{audit, egress};
use crate::process::Spec;

/// Controllers that something of the test bed, Istio or a federated object needs. The others only cost time: there are no volumes, no
/// certificates to sign, no cloud, and nodes do not fail.
const CONTROLLERS: [&str; 20] = [
    "clusterrole-aggregation-controller",
    "cronjob-controller",
    "daemonset-controller",
    "deployment-controller",
    "disruption-controller",
    "endpoints-controller",
    "endpointslice-controller",
    "endpointslice-mirroring-controller",
    "garbage-collector-controller",
    "horizontal-pod-autoscaler-controller",
    "job-controller",
    "namespace-controller",
    "replicaset-controller",
    "resourcequota-controller",
    "root-ca-certificate-publisher-controller",
    "serviceaccount-controller",
    "serviceaccount-token-controller",
    "statefulset-controller",
    "ttl-after-finished-controller",
    "validatingadmissionpolicy-status-controller",
];

/// etcd for all clusters of a bed: no fsync, as its data is thrown away, and a slow clock, as it has no peers.
pub(crate) fn etcd(program: &Path, dir: &Path, log: &Path) -> Result<(Spec, String)> {
    let url = format!("http://127.0.0.1:{}", free_port()?);
    let peer = format!("http://127.0.0.1:{}", free_port()?);
    let args = [
        "--unsafe-no-fsync".to_owned(),
        "--log-level=error".to_owned(),
        format!("--data-dir={}", dir.join("etcd").display()),
        format!("--listen-client-urls={url}"),
        format!("--advertise-client-urls={url}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
        "--heartbeat-interval=500".to_owned(),
        "--election-timeout=5000".to_owned(),
        "--initial-election-tick-advance=true".to_owned(),
    ];
    let spec = Spec {
        name: "etcd".to_owned(),
        program: program.to_path_buf(),
        args: args.into(),
        log: log.to_path_buf(),
        ..Spec::default()
    };
    Ok((spec, url))
}

/// Where a cluster's API server and its files are.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) name: String,
    pub(super) index: u8,
    pub(super) port: u16,
    pub(super) etcd: String,
    pub(super) dir: std::path::PathBuf,
    pub(super) logs: std::path::PathBuf,
}

impl Place {
    pub(super) fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    pub(super) fn audit_log(&self) -> std::path::PathBuf {
        self.logs.join(format!("{}-audit.log", self.name))
    }

    pub(super) fn egress_socket(&self) -> std::path::PathBuf {
        self.dir.join("egress.sock")
    }
}

/// The API server's command line, with the files that it reads.
pub(super) fn apiserver(program: &Path, place: &Place, pki: &Pki) -> Result<Spec> {
    let egress_config = place.dir.join("egress.yaml");
    let policy = place.dir.join("audit-policy.yaml");
    std::fs::write(&egress_config, egress::selector_config(&place.egress_socket()))
        .context("cannot write egress.yaml")?;
    std::fs::write(&policy, audit::POLICY).context("cannot write audit-policy.yaml")?;
    let args = [
        format!("--secure-port={}", place.port),
        "--bind-address=127.0.0.1".to_owned(),
        "--advertise-address=127.0.0.1".to_owned(),
        format!("--etcd-servers={}", place.etcd),
        format!("--etcd-prefix=/{}", place.name),
        format!("--client-ca-file={}", pki.file("ca.crt")),
        format!("--tls-cert-file={}", pki.file("server.crt")),
        format!("--tls-private-key-file={}", pki.file("server.key")),
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
        format!("--service-account-key-file={}", pki.file("service-account.pub")),
        format!("--service-account-signing-key-file={}", pki.file("service-account.key")),
        "--authorization-mode=RBAC".to_owned(),
        "--anonymous-auth=false".to_owned(),
        format!("--service-cluster-ip-range=10.{}.0.0/16", 100_u8.saturating_add(place.index)),
        format!("--egress-selector-config-file={}", egress_config.display()),
        format!("--audit-policy-file={}", policy.display()),
        format!("--audit-log-path={}", place.audit_log().display()),
        // A log that rolls over would lose the place that a test has marked.
        "--audit-log-maxsize=4096".to_owned(),
        "--allow-privileged=true".to_owned(),
        "--profiling=false".to_owned(),
        // One server, so nothing to agree on with others; each of these costs writes for ever.
        "--endpoint-reconciler-type=none".to_owned(),
        "--feature-gates=APIServerIdentity=false,UnknownVersionInteroperabilityProxy=false".to_owned(),
        "--shutdown-delay-duration=0s".to_owned(),
        "--event-ttl=10m".to_owned(),
        "--v=0".to_owned(),
    ];
    Ok(Spec {
        name: format!("{} kube-apiserver", place.name),
        program: program.to_path_buf(),
        args: args.into(),
        // Twice the heap before a collection: memory is there, and two cores serve all clusters.
        env: vec![("GOGC".to_owned(), "200".to_owned())],
        dir: Some(place.dir.clone()),
        log: place.logs.join(format!("{}-apiserver.log", place.name)),
    })
}

/// The controller manager's command line. `kubeconfig` is a file.
pub(super) fn controller_manager(program: &Path, place: &Place, pki: &Pki, kubeconfig: &Path) -> Spec {
    let args = [
        format!("--kubeconfig={}", kubeconfig.display()),
        format!("--service-account-private-key-file={}", pki.file("service-account.key")),
        format!("--root-ca-file={}", pki.file("ca.crt")),
        "--use-service-account-credentials".to_owned(),
        "--leader-elect=false".to_owned(),
        "--secure-port=0".to_owned(),
        format!("--controllers={}", CONTROLLERS.join(",")),
        // There are no metrics to scale by.
        "--horizontal-pod-autoscaler-sync-period=60s".to_owned(),
        "--kube-api-qps=100".to_owned(),
        "--kube-api-burst=200".to_owned(),
        "--profiling=false".to_owned(),
        "--v=0".to_owned(),
    ];
    Spec {
        name: format!("{} kube-controller-manager", place.name),
        program: program.to_path_buf(),
        args: args.into(),
        dir: Some(place.dir.clone()),
        log: place.logs.join(format!("{}-controller-manager.log", place.name)),
        ..Spec::default()
    }
}
