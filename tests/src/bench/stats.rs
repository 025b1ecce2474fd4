//! Percentiles.

use std::time::Duration;

/// Times of the same thing, measured again and again.
#[derive(Debug, Clone, Default)]
pub(super) struct Latencies(Vec<Duration>);

impl Latencies {
    pub(super) fn add(&mut self, latency: Duration) {
        self.0.push(latency);
    }

    /// Nearest rank, in milliseconds; 0 where nothing was measured.
    pub(super) fn percentile_ms(&self, percent: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
        sorted.get(rank).map_or(0.0, |latency| latency.as_secs_f64() * 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_nearest_rank() {
        let mut latencies = Latencies::default();
        assert!(latencies.percentile_ms(50).abs() < 1e-9);
        for milliseconds in (1..=100).rev() {
            latencies.add(Duration::from_millis(milliseconds));
        }
        for (percent, expected) in [(50, 50.0), (99, 99.0), (100, 100.0), (0, 1.0)] {
            assert!((latencies.percentile_ms(percent) - expected).abs() < 1e-9, "p{percent}");
        }
        let mut one = Latencies::default();
        one.add(Duration::from_millis(7));
        assert!((one.percentile_ms(99) - 7.0).abs() < 1e-9);
    }
}
