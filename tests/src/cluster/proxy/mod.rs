//! A proxy in front of an API server, for faults of the network and of the server's answers.
//!
//! It listens twice. On one port TLS passes through unread, so clients authenticate as they like and faults are those of
//! connections: slow, cut, refused, silent. On the other one TLS ends in the proxy, which can answer requests itself and cut
//! responses; there only bearer tokens get through, as a client certificate is worth nothing without its key.
//! For a server that hangs or is gone there are [`Cluster::pause`](super::Cluster::pause) and [`Cluster::stop`](super::Cluster::stop).

mod fault;
mod http;
mod pipe;
mod tls;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, watch};
use tokio::task::JoinHandle;

pub use fault::Fault;
pub(crate) use tls::Terminator;

use fault::Verdict;

/// What may wait between the client's connection and the TLS that ends in the proxy, in bytes.
const BUFFER: usize = 64 * 1024;

/// A running proxy; it ends when dropped.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    http_address: SocketAddr,
    state: Arc<State>,
    tasks: [JoinHandle<()>; 2],
}

/// What both listeners and their connections share.
#[derive(Debug)]
struct State {
    target: SocketAddr,
    tls: Terminator,
    fault: watch::Sender<Fault>,
    cut: broadcast::Sender<()>,
    accepted: AtomicU64,
    /// Requests that the present fault means.
    meant: AtomicU64,
    injected: AtomicU64,
}

impl FaultProxy {
    /// Listens on two ports of 127.0.0.1 and passes on to `target`: from `port` connections, from `http_port` requests.
    ///
    /// # Errors
    /// When a port is taken.
    pub(crate) async fn start(
        port: u16,
        http_port: u16,
        target: SocketAddr,
        tls: Terminator,
    ) -> Result<Self> {
        let (listener, address) = listen(port).await?;
        let (http_listener, http_address) = listen(http_port).await?;
        let state = Arc::new(State {
            target,
            tls,
            fault: watch::channel(Fault::None).0,
            cut: broadcast::channel(1).0,
            accepted: AtomicU64::new(0),
            meant: AtomicU64::new(0),
            injected: AtomicU64::new(0),
        });
        let tasks = [
            tokio::spawn(accept(listener, Arc::clone(&state), Side::Bytes)),
            tokio::spawn(accept(http_listener, Arc::clone(&state), Side::Requests)),
        ];
        Ok(Self { address, http_address, state, tasks })
    }

    /// Where it passes connections on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// [`FaultProxy::address`] as the URL of an API server.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Where it passes requests on, as the URL of an API server. Clients with a bearer token can use it; to one with a client
    /// certificate the API server answers 401, as the proxy has not the key for it.
    pub fn http_url(&self) -> String {
        format!("https://{}", self.http_address)
    }

    /// Sets what happens from now on, on both ports; every n-th request is counted from here. [`Fault::Refuse`] also cuts what is
    /// open. Responses that have begun are not cut by [`Fault::CutBody`], see [`FaultProxy::cut`].
    pub fn set(&self, fault: Fault) {
        self.state.meant.store(0, Ordering::Relaxed);
        self.state.fault.send_replace(fault);
        if fault == Fault::Refuse {
            self.cut();
        }
    }

    /// The present setting.
    pub fn fault(&self) -> Fault {
        *self.state.fault.borrow()
    }

    /// Cuts all open connections once; new ones are treated as set.
    pub fn cut(&self) {
        self.state.cut.send(()).ok();
    }

    /// How many connections were accepted so far, on both ports.
    pub fn connections(&self) -> u64 {
        self.state.accepted.load(Ordering::Relaxed)
    }

    /// How many requests so far were chosen by [`Fault::Answer`] and [`Fault::CutBody`].
    pub fn injected(&self) -> u64 {
        self.state.injected.load(Ordering::Relaxed)
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        self.cut();
    }
}

/// What a listener passes on.
#[derive(Debug, Clone, Copy)]
enum Side {
    Bytes,
    Requests,
}

impl State {
    /// What happens to a request.
    fn judge(&self, writes: bool) -> Verdict {
        let fault = *self.fault.borrow();
        let verdict = fault.verdict(writes, || self.meant.fetch_add(1, Ordering::Relaxed) + 1);
        if verdict != Verdict::Pass {
            self.injected.fetch_add(1, Ordering::Relaxed);
        }
        verdict
    }

    async fn connection(&self, client: TcpStream, side: Side) {
        match side {
            Side::Bytes => {
                let Ok(server) = TcpStream::connect(self.target).await else {
                    reset(&client);
                    return;
                };
                client.set_nodelay(true).ok();
                server.set_nodelay(true).ok();
                pipe::pass(client, server, self.fault.subscribe()).await;
            }
            Side::Requests => {
                client.set_nodelay(true).ok();
                let (outer, inner) = tokio::io::duplex(BUFFER);
                let serve = async {
                    if let Err(error) =
                        http::serve(inner, self.target, &self.tls, |writes| self.judge(writes)).await
                    {
                        tracing::debug!("fault proxy: {error:#}");
                    }
                };
                tokio::join!(pipe::pass(client, outer, self.fault.subscribe()), serve);
            }
        }
    }
}

async fn listen(port: u16) -> Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
    let listener = listener.with_context(|| format!("cannot listen on 127.0.0.1:{port}"))?;
    let address = listener.local_addr().context("a listener without address")?;
    Ok((listener, address))
}

async fn accept(listener: TcpListener, state: Arc<State>, side: Side) {
    while let Ok((client, _)) = listener.accept().await {
        state.accepted.fetch_add(1, Ordering::Relaxed);
        // Before the look at the fault, so that no connection slips between that and the cut which comes with a refusal.
        let mut cut = state.cut.subscribe();
        if *state.fault.borrow() == Fault::Refuse {
            reset(&client);
            continue;
        }
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            tokio::select! {
                () = state.connection(client, side) => {}
                _ = cut.recv() => {}
            }
        });
    }
}

/// Makes the close that follows a reset rather than an orderly end. Not for connections that carried bytes: a reset also throws
/// away what is still on its way.
fn reset(stream: &TcpStream) {
    stream.set_zero_linger().ok();
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::cluster::pki::Pki;

    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    tokio::io::copy(&mut read, &mut write).await.ok();
                });
            }
        });
        address
    }

    async fn ping(stream: &mut TcpStream) -> std::io::Result<Duration> {
        let started = Instant::now();
        stream.write_all(b"ping").await?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await?;
        Ok(started.elapsed())
    }

    #[tokio::test]
    async fn passes_delays_silences_cuts_and_refuses() {
        let dir = tempfile::tempdir().unwrap();
        let tls = Terminator::new(&Pki::create(dir.path(), "a").unwrap()).unwrap();
        let proxy = FaultProxy::start(0, 0, echo().await, tls).await.unwrap();
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert!(ping(&mut stream).await.unwrap() < Duration::from_millis(100));
        proxy.set(Fault::Delay(Duration::from_millis(80)));
        let took = ping(&mut stream).await.unwrap();
        assert!(took >= Duration::from_millis(160), "both directions are late: {took:?}");
        proxy.set(Fault::Silence);
        let silent = tokio::time::timeout(Duration::from_millis(200), ping(&mut stream)).await;
        assert!(silent.is_err(), "nothing passes");
        proxy.set(Fault::None);
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await.unwrap();
        proxy.cut();
        assert!(ping(&mut stream).await.is_err());
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert!(ping(&mut stream).await.is_ok(), "a cut happens once");
        proxy.set(Fault::Refuse);
        assert!(ping(&mut stream).await.is_err(), "refusal cuts what is open");
        if let Ok(mut stream) = TcpStream::connect(proxy.address()).await {
            assert!(ping(&mut stream).await.is_err());
        }
        assert!(proxy.connections() >= 2);
    }

    /// What a server of one connection has seen: the request's head, and the end of the connection.
    async fn endless(tls: Terminator) -> (SocketAddr, JoinHandle<String>) {
        let (listener, address) = listen(0).await.unwrap();
        let seen = tokio::spawn(async move {
            let mut stream = tls.accept(listener.accept().await.unwrap().0).await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nevent\r\n")
                .await
                .unwrap();
            stream.read_to_end(&mut head).await.ok();
            String::from_utf8(head).unwrap()
        });
        (address, seen)
    }

    #[tokio::test]
    async fn a_watch_streams_and_ends_with_its_client() {
        let dir = tempfile::tempdir().unwrap();
        let tls = Terminator::new(&Pki::create(dir.path(), "a").unwrap()).unwrap();
        let (target, seen) = endless(tls.clone()).await;
        let proxy = FaultProxy::start(0, 0, target, tls.clone()).await.unwrap();
        let stream = TcpStream::connect(proxy.http_address).await.unwrap();
        let mut stream = tls.connect(stream).await.unwrap();
        stream.write_all(b"GET /watch HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer b\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"event") {
            answer.push(stream.read_u8().await.unwrap());
        }
        assert!(!seen.is_finished(), "the response goes on");
        drop(stream);
        let seen = tokio::time::timeout(Duration::from_secs(10), seen).await.expect("still open").unwrap();
        assert!(seen.starts_with("GET /watch HTTP/1.1\r\n"), "{seen}");
        assert!(seen.to_lowercase().contains("\r\nauthorization: bearer b\r\n"), "{seen}");
    }
}
