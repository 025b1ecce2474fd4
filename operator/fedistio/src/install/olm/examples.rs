//! Examples that a console offers to somebody who makes an object (`alm-examples`).

use crate::install::olm::samples::sample;
use fedistio_crds::builtin_types;
use serde_json::{Value, json};

/// One object of each kind.
pub(super) fn examples() -> Vec<Value> {
    own_kinds().into_iter().chain(builtin_types().iter().filter_map(sample)).collect()
}

fn own_kinds() -> Vec<Value> {
    let own = "fedistio.io/v1alpha1";
    vec![
        json!({
            "apiVersion": own,
            "kind": "MemberCluster",
            "metadata": { "name": "east", "labels": { "env": "prod" } },
            "spec": { "access": { "kubeconfig": { "secretRef": { "name": "east-kubeconfig" } } }, "network": "net-east" },
        }),
        json!({
            "apiVersion": own,
            "kind": "FederatedTypeConfig",
            "metadata": { "name": "jobs.batch" },
            "spec": {
                "target": {
                    "group": "batch", "version": "v1", "kind": "Job", "plural": "jobs", "scope": "Namespaced",
                },
                "federated": {
                    "group": "types.fedistio.io", "version": "v1alpha1", "kind": "FederatedJob",
                    "plural": "federatedjobs", "scope": "Namespaced",
                },
                "propagation": "Enabled",
            },
        }),
        json!({
            "apiVersion": own,
            "kind": "FederatedIstio",
            "metadata": { "name": "mesh" },
            "spec": {
                "template": { "version": "1.29.1", "namespace": "istio-system", "profile": "default" },
                "placement": { "clusterSelector": { "matchLabels": { "env": "prod" } } },
                "strategyRef": { "name": "canary-then-all" },
            },
        }),
        json!({
            "apiVersion": own,
            "kind": "IstioRelease",
            "metadata": { "name": "1.29.1" },
            "spec": {
                "version": "1.29.1",
                "kubernetes": { "min": "1.31", "max": "1.35" },
                "charts": [{ "name": "istiod", "sources": ["oci://registry.example/charts/istiod"] }],
                "predecessors": ["1.28", "1.27"],
            },
        }),
        json!({
            "apiVersion": own,
            "kind": "RolloutStrategy",
            "metadata": { "name": "canary-then-all" },
            "spec": {
                "stages": [
                    { "name": "canary", "clusters": [{ "name": "east" }], "progressDeadline": "10m" },
                    { "name": "rest", "clusterSelector": {}, "progressDeadline": "20m" },
                ],
            },
        }),
        json!({
            "apiVersion": "types.fedistio.io/v1alpha1",
            "kind": "FederatedVirtualService",
            "metadata": { "name": "reviews", "namespace": "bookinfo" },
            "spec": {
                "template": {
                    "spec": {
                        "hosts": ["reviews"],
                        "http": [{ "route": [{ "destination": { "host": "reviews", "subset": "v1" } }] }],
                    },
                },
                "placement": { "clusterSelector": { "matchLabels": { "env": "prod" } } },
                "overrides": [{
                    "clusterName": "east",
                    "clusterOverrides": [
                        { "op": "replace", "path": "/spec/http/0/route/0/destination/subset", "value": "v2" },
                    ],
                }],
            },
        }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use fedistio_crds::{
        FederatedIstio, FederatedSpec, FederatedTypeConfig, IstioRelease, MemberCluster, RolloutStrategy,
        all_crds,
    };

    /// The types refuse unknown fields, so that decoding finds misspelt ones.
    fn decodes<T: serde::de::DeserializeOwned>(example: &Value) {
        if let Err(error) = serde_json::from_value::<T>(example.clone()) {
            panic!("{error}: {example}");
        }
    }

    #[test]
    fn every_kind_has_an_example_that_its_type_takes() {
        let mut kinds: Vec<String> = all_crds().into_iter().map(|crd| crd.spec.names.kind).collect();
        for example in examples() {
            let kind = example["kind"].as_str().unwrap();
            match kind {
                "MemberCluster" => decodes::<MemberCluster>(&example),
                "FederatedTypeConfig" => decodes::<FederatedTypeConfig>(&example),
                "FederatedIstio" => decodes::<FederatedIstio>(&example),
                "IstioRelease" => decodes::<IstioRelease>(&example),
                "RolloutStrategy" => decodes::<RolloutStrategy>(&example),
                _ => decodes::<FederatedSpec>(&example["spec"]),
            }
            kinds.retain(|other| other != kind);
        }
        assert!(kinds.is_empty(), "no example of {kinds:?}");
    }
}
