//! The way from an API server to the Services of its cluster (webhooks), without a network of its own.
//!
//! The server's egress selector sends `CONNECT HOST:PORT` on a Unix socket; the Service behind the host is looked up and the connection
//! goes to the process that stands for one of its ready pods.
//! <https://kubernetes.io/docs/tasks/extend-kubernetes/setup-konnectivity/>

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::ListParams;
use kube::{Api, Client};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::task::JoinHandle;

use crate::runner::Processes;

/// The longest request head that is read, in bytes.
const MAX_HEAD: usize = 8 * 1024;

/// The text of the file for `--egress-selector-config-file`.
pub(super) fn selector_config(socket: &Path) -> String {
    format!(
        "apiVersion: apiserver.k8s.io/v1beta1\nkind: EgressSelectorConfiguration\negressSelections:\n- name: cluster\n  connection:\n    \
         proxyProtocol: HTTPConnect\n    transport:\n      uds:\n        udsName: {}\n",
        socket.display()
    )
}

/// The running proxy; it ends when dropped.
#[derive(Debug)]
pub(super) struct Egress {
    task: JoinHandle<()>,
}

impl Egress {
    /// Listens on `socket`.
    pub(super) fn start(socket: &Path, client: Client, processes: Arc<Processes>) -> Result<Self> {
        let listener =
            UnixListener::bind(socket).with_context(|| format!("cannot listen on {}", socket.display()))?;
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (client, processes) = (client.clone(), Arc::clone(&processes));
                tokio::spawn(async move {
                    if let Err(error) = serve(stream, &client, &processes).await {
                        tracing::debug!("egress: {error:#}");
                    }
                });
            }
        });
        Ok(Self { task })
    }
}

impl Drop for Egress {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(stream: UnixStream, client: &Client, processes: &Processes) -> Result<()> {
    let mut stream = BufReader::new(stream);
    let head = read_head(&mut stream).await?;
    let target = match connect_target(&head) {
        Ok((host, port)) => resolve(&host, port, client, processes).await,
        Err(error) => Err(error),
    };
    let connected = match target {
        Ok(port) => {
            TcpStream::connect(("127.0.0.1", port)).await.context("the process does not accept connections")
        }
        Err(error) => Err(error),
    };
    match connected {
        Ok(mut upstream) => {
            stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
            // Fails when either side goes away, which is how connections end.
            tokio::io::copy_bidirectional(&mut stream, &mut upstream).await.ok();
            Ok(())
        }
        Err(error) => {
            let text = format!("{error:#}");
            let answer =
                format!("HTTP/1.1 503 Service Unavailable\r\nContent-Length: {}\r\n\r\n{text}", text.len());
            stream.write_all(answer.as_bytes()).await?;
            Err(error)
        }
    }
}

async fn read_head(stream: &mut BufReader<UnixStream>) -> Result<String> {
    let mut head = String::new();
    loop {
        let before = head.len();
        stream.read_line(&mut head).await.context("no request")?;
        if head.len() == before || head.len() > MAX_HEAD {
            bail!("not a CONNECT request");
        }
        if head.ends_with("\r\n\r\n") {
            return Ok(head);
        }
    }
}

/// Host and port of `CONNECT host:port HTTP/1.1`.
fn connect_target(head: &str) -> Result<(String, u16)> {
    let mut words = head.split_whitespace();
    let (Some("CONNECT"), Some(target)) = (words.next(), words.next()) else {
        bail!("not a CONNECT request")
    };
    let (host, port) = target.rsplit_once(':').context("a target without a port")?;
    let port = port.parse().with_context(|| format!("'{port}' is not a port"))?;
    Ok((host.trim_matches(['[', ']']).to_owned(), port))
}

/// The loopback port of a process that is a ready pod of the Service `host`, a cluster IP or `name.namespace.svc…`.
async fn resolve(host: &str, port: u16, client: &Client, processes: &Processes) -> Result<u16> {
    let service = if host.parse::<std::net::IpAddr>().is_ok() {
        let by_ip = ListParams::default().fields(&format!("spec.clusterIP={host}"));
        let found = Api::<Service>::all(client.clone()).list(&by_ip).await.context("cannot list services")?;
        found.items.into_iter().next().with_context(|| format!("no service has the address {host}"))?
    } else {
        let mut labels = host.split('.');
        let (Some(name), Some(namespace)) = (labels.next(), labels.next()) else {
            bail!("'{host}' is no service")
        };
        Api::<Service>::namespaced(client.clone(), namespace)
            .get(name)
            .await
            .with_context(|| format!("no service {namespace}/{name}"))?
    };
    let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
    let name = service.metadata.name.as_deref().unwrap_or_default();
    if let Some(port) = processes.routed(namespace, name) {
        return Ok(port);
    }
    let spec = service.spec.as_ref().with_context(|| format!("service {namespace}/{name} has no spec"))?;
    let ports = spec.ports.as_deref().unwrap_or_default();
    let of_port = ports.iter().find(|candidate| candidate.port == i32::from(port));
    let of_port = of_port.with_context(|| format!("service {namespace}/{name} has no port {port}"))?;
    let selector = spec.selector.clone().unwrap_or_default();
    processes
        .port_of_ready(namespace, &selector, &target_port(of_port))
        .ok_or_else(|| anyhow!("service {namespace}/{name} has no ready pod that is a real process"))
}

/// The port of the pods; the Service's own where none is named.
fn target_port(port: &ServicePort) -> IntOrString {
    port.target_port.clone().unwrap_or(IntOrString::Int(port.port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_of_connect() {
        assert_eq!(
            connect_target("CONNECT 10.0.0.1:443 HTTP/1.1\r\n\r\n").unwrap(),
            ("10.0.0.1".into(), 443)
        );
        assert_eq!(
            connect_target("CONNECT [fd00::1]:443 HTTP/1.1\r\n\r\n").unwrap(),
            ("fd00::1".into(), 443)
        );
        for bad in [
            "",
            "GET / HTTP/1.1\r\n\r\n",
            "CONNECT a HTTP/1.1",
            "CONNECT a:b HTTP/1.1",
            "CONNECT a:99999 HTTP/1.1",
        ] {
            assert!(connect_target(bad).is_err(), "{bad}");
        }
    }
}
