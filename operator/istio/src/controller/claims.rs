//! Which `FederatedIstio` has a cluster when several select it: two control planes would both claim its default validator. Pure.

use k8s_openapi::jiff::Timestamp;

/// One `FederatedIstio` that selects a cluster, or has something there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claim<'a> {
    /// Its name.
    pub(crate) mesh: &'a str,
    /// When it was made.
    pub(crate) created: Option<Timestamp>,
    /// Does it have the cluster already: did its control plane come there, and has it not gone yet?
    pub(crate) holds: bool,
}

/// The name of the one that has the cluster: who holds it keeps it; among others the oldest wins, then the first by name.
pub(crate) fn holder<'a>(claims: impl IntoIterator<Item = Claim<'a>>) -> Option<&'a str> {
    let rank = |claim: &Claim<'a>| (!claim.holds, claim.created.unwrap_or(Timestamp::MAX), claim.mesh);
    claims.into_iter().min_by_key(rank).map(|claim| claim.mesh)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(mesh: &str, second: i64, holds: bool) -> Claim<'_> {
        Claim { mesh, created: Timestamp::from_second(second).ok(), holds }
    }

    #[test]
    fn the_holder_keeps_it_and_the_oldest_gets_it() {
        assert_eq!(holder([]), None);
        assert_eq!(holder([claim("b", 1, false), claim("a", 2, false)]), Some("b"));
        assert_eq!(holder([claim("b", 1, false), claim("a", 2, true)]), Some("a"));
        assert_eq!(holder([claim("b", 1, false), claim("a", 1, false)]), Some("a"));
        assert_eq!(holder([claim("b", 1, true), claim("a", 2, true)]), Some("b"));
    }
}
