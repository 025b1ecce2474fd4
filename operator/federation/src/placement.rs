//! Which clusters get a copy. Pure.

use crate::cluster::ClusterView;
use fedistio_crds::{Constraints, Placement};
use semver::VersionReq;
use std::collections::{BTreeMap, BTreeSet};

/// What placement decided for one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The cluster gets a copy.
    Placed,
    /// The placement names a cluster that is not registered.
    NotRegistered,
    /// The cluster is selected, but a constraint keeps it out.
    ConstraintNotMet(String),
    /// The cluster is selected, but what a constraint asks about is not known yet.
    ConstraintUnknown(String),
}

/// Decides for every cluster that the placement selects, keyed by name.
///
/// `clusters` wins over `clusterSelector`; an empty list selects none, an empty selector all, neither none (KubeFed's rules).
/// Unlike there, a name that is not registered is reported instead of dropped.
pub fn place(placement: &Placement, clusters: &BTreeMap<String, ClusterView>) -> BTreeMap<String, Decision> {
    let selected: BTreeSet<&str> = match (&placement.clusters, &placement.cluster_selector) {
        (Some(names), _) => names.iter().map(|cluster| cluster.name.as_str()).collect(),
        (None, Some(selector)) => clusters
            .values()
            .filter(|cluster| selector.matches(&cluster.labels))
            .map(|cluster| cluster.name.as_str())
            .collect(),
        (None, None) => BTreeSet::new(),
    };
    selected
        .into_iter()
        .map(|name| {
            let decision = match (clusters.get(name), &placement.constraints) {
                (None, _) => Decision::NotRegistered,
                (Some(_), None) => Decision::Placed,
                (Some(cluster), Some(constraints)) => check(constraints, cluster),
            };
            (name.to_owned(), decision)
        })
        .collect()
}

fn check(constraints: &Constraints, cluster: &ClusterView) -> Decision {
    let Some(range) = &constraints.kubernetes else { return Decision::Placed };
    let Ok(requirement) = VersionReq::parse(range) else {
        return Decision::ConstraintNotMet(format!(
            "constraints.kubernetes: {range:?} is not a version range; write for example \">=1.31, <1.36\""
        ));
    };
    match &cluster.kubernetes_version {
        None => Decision::ConstraintUnknown("the cluster's Kubernetes version is not known yet".to_owned()),
        Some(version) if requirement.matches(version) => Decision::Placed,
        Some(version) => Decision::ConstraintNotMet(format!("Kubernetes {version} is not in {range}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fedistio_crds::{ClusterName, ClusterSelector};
    use semver::Version;

    fn clusters() -> BTreeMap<String, ClusterView> {
        [("a", "prod", 34), ("b", "prod", 30), ("c", "dev", 34)]
            .into_iter()
            .map(|(name, env, minor)| {
                let view = ClusterView {
                    name: name.to_owned(),
                    labels: [("env".to_owned(), env.to_owned())].into(),
                    kubernetes_version: Some(Version::new(1, minor, 0)),
                    ..ClusterView::default()
                };
                (name.to_owned(), view)
            })
            .collect()
    }

    fn names(list: &[&str]) -> Option<Vec<ClusterName>> {
        Some(list.iter().map(|name| ClusterName { name: (*name).to_owned() }).collect())
    }

    fn selector(env: &str) -> Option<ClusterSelector> {
        Some(ClusterSelector {
            match_labels: [("env".to_owned(), env.to_owned())].into(),
            ..ClusterSelector::default()
        })
    }

    fn placed(placement: &Placement) -> Vec<String> {
        place(placement, &clusters())
            .into_iter()
            .filter(|(_, d)| *d == Decision::Placed)
            .map(|(name, _)| name)
            .collect()
    }

    #[test]
    fn names_win_over_the_selector() {
        let placement =
            Placement { clusters: names(&["c"]), cluster_selector: selector("prod"), constraints: None };
        assert_eq!(placed(&placement), ["c"]);
    }

    #[test]
    fn empty_and_missing_select_as_kubefed_did() {
        assert!(placed(&Placement::default()).is_empty());
        assert!(
            placed(&Placement {
                clusters: Some(vec![]),
                cluster_selector: selector("prod"),
                constraints: None
            })
            .is_empty()
        );
        let all = Placement { cluster_selector: Some(ClusterSelector::default()), ..Placement::default() };
        assert_eq!(placed(&all), ["a", "b", "c"]);
        assert_eq!(
            placed(&Placement { cluster_selector: selector("prod"), ..Placement::default() }),
            ["a", "b"]
        );
    }

    #[test]
    fn an_unknown_name_is_reported() {
        let placement = Placement { clusters: names(&["a", "zebra"]), ..Placement::default() };
        assert_eq!(place(&placement, &clusters())["zebra"], Decision::NotRegistered);
    }

    #[test]
    fn constraints_keep_a_cluster_out_with_a_reason() {
        let mut placement = Placement { cluster_selector: selector("prod"), ..Placement::default() };
        placement.constraints = Some(Constraints { kubernetes: Some(">=1.31".to_owned()) });
        assert_eq!(placed(&placement), ["a"]);
        let Decision::ConstraintNotMet(message) = &place(&placement, &clusters())["b"] else {
            panic!("b is placed")
        };
        assert!(message.contains("1.30.0"), "{message}");
        placement.constraints = Some(Constraints { kubernetes: Some("newest".to_owned()) });
        assert!(placed(&placement).is_empty());
    }
}
