//! Bytes from one side to the other, as late as the fault has it.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::Fault;

/// Bytes that are read at once, and chunks that may be on their way: together the bandwidth-delay product.
const CHUNK: usize = 16 * 1024;
const CHUNKS: usize = 256;

/// Passes bytes in both directions, until both have ended: what the client still sends reaches a server that has said its last.
pub(super) async fn pass(
    client: impl AsyncRead + AsyncWrite,
    server: impl AsyncRead + AsyncWrite,
    faults: watch::Receiver<Fault>,
) {
    let (client_read, client_write) = tokio::io::split(client);
    let (server_read, server_write) = tokio::io::split(server);
    tokio::join!(
        pipe(client_read, server_write, faults.clone()),
        pipe(server_read, client_write, faults.clone()),
    );
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
