//! Plans the writes of one cluster: desired objects × observed objects → what to send, what to delete, what is missing. Pure.

use crate::control_plane::{ControlPlane, wave};
use fedistio_federation::render::{Manifest, ObjectKey};
use std::sync::Arc;

/// One object as it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// As desired, and ours.
    InSync,
    /// Not there, or not as desired.
    Differs,
    /// On its way out: it can be made again when it is gone.
    Deleting,
}

/// What to do.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    /// Send these.
    pub(crate) apply: Vec<Arc<Manifest>>,
    /// Delete these.
    pub(crate) delete: Vec<ObjectKey>,
    /// The CRDs are applied, and must be established before anything else is sent.
    pub(crate) waits_for_crds: bool,
    /// What is not in place; empty when everything is.
    pub(crate) missing: String,
}

/// Plans wave by wave: a wave is sent when the one before is in place, and what is no longer desired goes when everything desired is there.
///
/// `established`: are the CRDs of wave 0 served? `surplus`: objects of this control plane that nothing desires or keeps.
pub(crate) fn plan(
    plane: &ControlPlane,
    mut seen: impl FnMut(&Manifest) -> Seen,
    established: bool,
    surplus: Vec<ObjectKey>,
) -> Plan {
    for (number, manifests) in plane.waves.iter().enumerate() {
        let differing: Vec<(&Arc<Manifest>, Seen)> = manifests
            .iter()
            .map(|manifest| (manifest, seen(manifest)))
            .filter(|(_, state)| *state != Seen::InSync)
            .collect();
        let Some((first, _)) = differing.first() else { continue };
        if number > 0 && !established {
            return Plan {
                waits_for_crds: true,
                missing: "CRDs are not established yet".to_owned(),
                ..Plan::default()
            };
        }
        let what = ["namespace and CRDs", "cluster-wide objects", "objects of the namespace"][number.min(2)];
        let missing = format!(
            "{} of {} {what} are not in place, among them {}",
            differing.len(),
            manifests.len(),
            first.key
        );
        let apply = differing
            .into_iter()
            .filter(|(_, state)| *state == Seen::Differs)
            .map(|(manifest, _)| Arc::clone(manifest))
            .collect();
        return Plan { apply, missing, ..Plan::default() };
    }
    Plan { delete: removal(surplus), ..Plan::default() }
}

/// Which of these objects to delete first: those of the last wave that has any.
pub(crate) fn removal(surplus: Vec<ObjectKey>) -> Vec<ObjectKey> {
    let last = surplus.iter().map(wave).max().unwrap_or(0);
    surplus.into_iter().filter(|key| wave(key) == last).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control_plane::{Origin, RenderedChart, assemble, chart_manifests, owner};
    use serde_json::json;

    fn plane() -> ControlPlane {
        let objects = [
            json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "crd"}}),
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "role"}}),
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "map"}}),
        ];
        let chart = RenderedChart { origin: Origin::Base, version: "1.29.1", objects: &objects };
        let manifests = chart_manifests(&chart, "istio-system", &owner("m")).unwrap();
        assemble([manifests.as_slice()], "istio-system", None).unwrap()
    }

    fn run(in_sync: &[&str], established: bool) -> (Vec<String>, Vec<String>, bool) {
        let surplus = plane().waves[1].iter().chain(&plane().waves[2]).map(|one| one.key.clone()).collect();
        let seen =
            |one: &Manifest| if in_sync.contains(&&*one.key.name) { Seen::InSync } else { Seen::Differs };
        let plan = plan(&plane(), seen, established, surplus);
        let names = |keys: Vec<&ObjectKey>| keys.iter().map(|key| key.name.to_string()).collect();
        (
            names(plan.apply.iter().map(|one| &one.key).collect()),
            names(plan.delete.iter().collect()),
            plan.waits_for_crds,
        )
    }

    #[test]
    fn waves_are_sent_in_order_and_removal_comes_last() {
        let none: Vec<String> = Vec::new();
        assert_eq!(run(&[], false), (vec!["istio-system".into(), "crd".into()], none.clone(), false));
        assert_eq!(run(&["istio-system", "crd"], false), (none.clone(), none.clone(), true));
        assert_eq!(run(&["istio-system", "crd"], true), (vec!["role".into()], none.clone(), false));
        assert_eq!(run(&["istio-system", "crd", "role"], true), (vec!["map".into()], none.clone(), false));
        // With everything in place nobody asks whether the CRDs are established, and the last wave goes first.
        assert_eq!(run(&["istio-system", "crd", "role", "map"], false), (none, vec!["map".into()], false));
    }

    #[test]
    fn what_is_being_deleted_is_waited_for() {
        let plan = plan(&plane(), |_| Seen::Deleting, true, Vec::new());
        assert!(plan.apply.is_empty() && plan.missing.contains("2 of 2"), "{}", plan.missing);
    }
}
