//! What planning needs to know of a member cluster.

use k8s_openapi::jiff::Timestamp;
use semver::Version;
use std::collections::BTreeMap;

/// A snapshot of a member cluster, as the pure stages take it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterView {
    /// Name of the `MemberCluster`.
    pub name: String,
    /// Labels of the `MemberCluster`.
    pub labels: BTreeMap<String, String>,
    /// Istio network of the cluster.
    pub network: Option<String>,
    /// Does its API server answer, with our credential?
    pub ready: bool,
    /// Why it is not ready; empty when it is.
    pub not_ready_message: String,
    /// Since when it is not ready, as its `MemberCluster` says: the time goes on over restarts. None while it is ready, or while nobody
    /// knows.
    pub not_ready_since: Option<Timestamp>,
    /// Version of its API server, once that is known.
    pub kubernetes_version: Option<Version>,
}

/// Reads the version of an API server (`v1.34.4`, `v1.31.2-gke.1500`), without its vendor's suffix:
/// semver would take `-gke.1` for a pre-release, which no range matches.
pub fn parse_kubernetes_version(git_version: &str) -> Option<Version> {
    let plain = git_version.trim_start_matches('v');
    let core = plain.split(['-', '+']).next()?;
    Version::parse(core).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vendor_suffixes_are_not_pre_releases() {
        assert_eq!(parse_kubernetes_version("v1.31.2-gke.1500"), Some(Version::new(1, 31, 2)));
        assert_eq!(parse_kubernetes_version("v1.34.4"), Some(Version::new(1, 34, 4)));
        assert_eq!(parse_kubernetes_version("v1.34.4+k3s1"), Some(Version::new(1, 34, 4)));
        assert_eq!(parse_kubernetes_version("new"), None);
    }
}
