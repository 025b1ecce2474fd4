//! Free TCP ports on loopback.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Mutex, PoisonError};

use anyhow::{Result, bail};

/// Below the ephemeral range of Linux (32768 on), so that no outgoing connection takes a port between choice and use.
const FIRST: u16 = 20_000;
const LAST: u16 = 32_000;

static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A port that nothing listens on and that this process has not given out before.
///
/// # Errors
/// When every port of the range is taken.
pub fn free_port() -> Result<u16> {
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let span = u32::from(LAST - FIRST);
    // Processes that start at the same moment look from different places on.
    let seed = std::process::id().wrapping_mul(2_654_435_761) % span;
    for step in 0..span {
        let offset = u16::try_from((seed + step) % span).unwrap_or(0);
        let port = FIRST + offset;
        if !given.contains(&port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            given.insert(port);
            return Ok(port);
        }
    }
    bail!("no free port between {FIRST} and {LAST} on 127.0.0.1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_twice() {
        let ports: BTreeSet<u16> = (0..20).map(|_| free_port().unwrap()).collect();
        assert_eq!(ports.len(), 20);
    }
}
