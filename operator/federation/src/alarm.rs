//! Waiting for a time that may not be set.

use tokio::time::{Instant, sleep_until};

/// Returns at the time, or never where there is none.
pub async fn alarm(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
