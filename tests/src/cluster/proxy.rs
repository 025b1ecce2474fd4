//! A TCP proxy in front of an API server, for faults of the network.
//!
//! TLS passes through unread, so faults are those of connections: slow, cut, refused, silent. For faults of the server itself there
//! are [`Cluster::pause`](super::Cluster::pause) and [`Cluster::stop`](super::Cluster::stop).

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Bytes that are read at once, and chunks that may be on their way: together the bandwidth-delay product.
const CHUNK: usize = 16 * 1024;
const CHUNKS: usize = 256;

/// What the proxy does with connections, old and new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fault {
    /// Passes everything on.
    #[default]
    None,
    /// Every chunk of bytes arrives later by this, in each direction; the bandwidth stays.
    Delay(Duration),
    /// New connections are closed at once and existing ones are cut.
    Refuse,
    /// Connections stay open but no bytes pass, as when packets are dropped.
    Silence,
}

/// A running proxy; it ends when dropped.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    fault: watch::Sender<Fault>,
    cut: broadcast::Sender<()>,
    accepted: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl FaultProxy {
    /// Listens on `port` of 127.0.0.1 and passes connections on to `target`.
    ///
    /// # Errors
    /// When the port is taken.
    pub async fn start(port: u16, target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
        let listener = listener.with_context(|| format!("cannot listen on 127.0.0.1:{port}"))?;
        let address = listener.local_addr().context("a listener without address")?;
        let (fault, faults) = watch::channel(Fault::None);
        let (cut, _) = broadcast::channel(1);
        let accepted = Arc::new(AtomicU64::new(0));
        let (cut_all, count) = (cut.clone(), Arc::clone(&accepted));
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                if *faults.borrow() == Fault::Refuse {
                    reset(&client);
                    continue;
                }
                tokio::spawn(connection(client, target, faults.clone(), cut_all.subscribe()));
            }
        });
        Ok(Self { address, fault, cut, accepted, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address as the URL of an API server.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Sets what happens from now on. [`Fault::Refuse`] also cuts what is open.
    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
        if fault == Fault::Refuse {
            self.cut();
        }
    }

    /// The present setting.
    pub fn fault(&self) -> Fault {
        *self.fault.borrow()
    }

    /// Cuts all open connections once; new ones are treated as set.
    pub fn cut(&self) {
        self.cut.send(()).ok();
    }

    /// How many connections were accepted so far.
    pub fn connections(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.task.abort();
        self.cut();
    }
}

/// Makes the close that follows a reset rather than an orderly end. Not for connections that carried bytes: a reset also throws
/// away what is still on its way.
fn reset(stream: &TcpStream) {
    stream.set_zero_linger().ok();
}

async fn connection(
    client: TcpStream,
    target: SocketAddr,
    faults: watch::Receiver<Fault>,
    mut cut: broadcast::Receiver<()>,
) {
    let Ok(server) = TcpStream::connect(target).await else {
        reset(&client);
        return;
    };
    client.set_nodelay(true).ok();
    server.set_nodelay(true).ok();
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    tokio::select! {
        // Until both directions have ended; a watch that the server closed still lets the client's bytes through.
        _ = async {
            tokio::join!(
                pipe(client_read, server_write, faults.clone()),
                pipe(server_read, client_write, faults.clone()),
            )
        } => {}
        _ = cut.recv() => {}
    }
}

async fn pipe(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut faults: watch::Receiver<Fault>,
) {
    let (sender, mut receiver) = mpsc::channel::<(Instant, Vec<u8>)>(CHUNKS);
    let delays = faults.clone();
    let read = async move {
        loop {
            let mut chunk = vec![0; CHUNK];
            match from.read(&mut chunk).await {
                Ok(0) | Err(_) => break,
                Ok(length) => chunk.truncate(length),
            }
            let delay = match *delays.borrow() {
                Fault::Delay(delay) => delay,
                _ => Duration::ZERO,
            };
            if sender.send((Instant::now() + delay, chunk)).await.is_err() {
                break;
            }
        }
    };
    let write = async move {
        while let Some((due, chunk)) = receiver.recv().await {
            tokio::time::sleep_until(due).await;
            if faults.wait_for(|fault| *fault != Fault::Silence).await.is_err() {
                break;
            }
            if to.write_all(&chunk).await.is_err() {
                break;
            }
        }
        to.shutdown().await.ok();
    };
    tokio::join!(read, write);
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let proxy = FaultProxy::start(0, echo().await).await.unwrap();
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
}
