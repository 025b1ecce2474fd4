//! When a member counts as ready: thresholds over consecutive probes. Pure.

/// Failed probes in a row after which a ready member is no longer ready. One lost packet must not flip a long-ready cluster.
pub const FAILURE_THRESHOLD: u32 = 3;

/// Health of one member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    failures: u32,
    known: Option<bool>,
}

impl Health {
    /// Takes the result of a probe; returns whether the member is ready now, `None` while nobody knows.
    ///
    /// One success makes ready. A member that was never ready is not ready from its first failure.
    pub fn probed(&mut self, success: bool) -> Option<bool> {
        if success {
            self.failures = 0;
            self.known = Some(true);
        } else {
            self.failures = self.failures.saturating_add(1);
            if self.failures >= FAILURE_THRESHOLD || self.known.is_none() {
                self.known = Some(false);
            }
        }
        self.known
    }

    /// Is it ready?
    pub fn is_ready(&self) -> bool {
        self.known == Some(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_failed_probe_does_not_flip_a_ready_member() {
        let mut health = Health::default();
        for _ in 0..100 {
            assert_eq!(health.probed(true), Some(true));
        }
        assert_eq!(health.probed(false), Some(true));
        assert_eq!(health.probed(true), Some(true));
        assert_eq!(health.probed(false), Some(true));
        assert_eq!(health.probed(false), Some(true));
        assert_eq!(health.probed(false), Some(false));
        assert_eq!(health.probed(true), Some(true));
    }

    #[test]
    fn a_new_member_that_fails_is_not_ready_at_once() {
        assert_eq!(Health::default().probed(false), Some(false));
    }
}
