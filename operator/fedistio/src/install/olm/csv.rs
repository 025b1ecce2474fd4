//! The ClusterServiceVersion: what OLM installs, with which permissions, and what a console shows.

use crate::install::{
    NAME, VERSION,
    deployment::{User, deployment_spec},
    manifests::ManifestError,
    olm::{MIN_KUBE_VERSION, OlmError, csv_name, examples::examples},
    permissions::{Place, rules},
};
use fedistio_crds::{OPERATOR_NAMESPACE, all_crds};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Map, Value, json};

const DESCRIPTION: &str = "\
One operator on one host cluster installs Istio on many member clusters, keeps Istio's traffic and security resources, and any
other Kubernetes type, in sync on them, and upgrades Istio live, stage by stage.

* **Join** a cluster: `fedistio join east --cluster-context east --labels env=prod`
* **Install** Istio on all members that a label selects, with one `FederatedIstio`
* **Federate** objects: a template, a placement, and overrides per cluster
* **Upgrade** by a `RolloutStrategy`: canary clusters first; nothing goes on until they are healthy

The operator makes the `FederatedTypeConfig` of every built-in type when it starts and it is missing.
";

/// Annotations that consoles and catalogues show.
fn annotations() -> Result<Value, OlmError> {
    Ok(json!({
        "alm-examples": serde_json::to_string_pretty(&examples())?,
        "capabilities": "Basic Install",
        "categories": "Networking",
        "description": "Istio and its resources on many Kubernetes clusters",
        "operatorframework.io/suggested-namespace": OPERATOR_NAMESPACE,
    }))
}

/// The definitions that the operator owns, each with the description of its schema.
fn owned() -> Value {
    all_crds()
        .iter()
        .map(|crd| {
            json!({
                "name": crd.metadata.name,
                "kind": crd.spec.names.kind,
                "version": crd.spec.versions.first().map(|version| version.name.clone()),
                "displayName": display_name(&crd.spec.names.kind),
                "description": description(crd),
            })
        })
        .collect()
}

fn description(crd: &CustomResourceDefinition) -> String {
    let schema = crd.spec.versions.first().and_then(|version| version.schema.as_ref());
    let schema = schema.and_then(|schema| schema.open_api_v3_schema.as_ref());
    schema.and_then(|schema| schema.description.clone()).unwrap_or_default()
}

/// `FederatedHTTPRoute` as people read it: `Federated HTTP Route`.
fn display_name(kind: &str) -> String {
    let letters: Vec<char> = kind.chars().collect();
    let mut name = String::new();
    for (index, letter) in letters.iter().enumerate() {
        let upper_at = |index: usize| letters.get(index).is_some_and(char::is_ascii_uppercase);
        let lower_at = |index: usize| letters.get(index).is_some_and(char::is_ascii_lowercase);
        let begins_word = index > 0 && upper_at(index) && (lower_at(index - 1) || lower_at(index + 1));
        if begins_word {
            name.push(' ');
        }
        name.push(*letter);
    }
    name
}

fn install(image: &str) -> Result<Value, OlmError> {
    let permission = |place| -> Result<Value, OlmError> {
        Ok(json!([{ "serviceAccountName": NAME, "rules": serde_json::to_value(rules(place))? }]))
    };
    Ok(json!({
        "strategy": "deployment",
        "spec": {
            "clusterPermissions": permission(Place::Host)?,
            "permissions": permission(Place::HostNamespace)?,
            "deployments": [{ "name": NAME, "spec": deployment_spec(image, User::Platform) }],
        },
    }))
}

/// What the ClusterServiceVersion and the catalogue both tell.
pub(super) fn metadata() -> Result<Map<String, Value>, OlmError> {
    let modes = [
        ("OwnNamespace", false),
        ("SingleNamespace", false),
        ("MultiNamespace", false),
        ("AllNamespaces", true),
    ];
    let modes: Vec<_> =
        modes.iter().map(|(type_, supported)| json!({ "type": type_, "supported": supported })).collect();
    let value = json!({
        "annotations": annotations()?,
        "apiServiceDefinitions": {},
        "crdDescriptions": { "owned": owned() },
        "description": DESCRIPTION,
        "displayName": "Federated Istio Operator",
        "installModes": modes,
        "keywords": ["istio", "service mesh", "multi-cluster", "federation"],
        "maturity": "alpha",
        "minKubeVersion": MIN_KUBE_VERSION,
        "provider": { "name": "The Federated Istio Operator authors" },
    });
    match value {
        Value::Object(map) => Ok(map),
        _ => Ok(Map::new()),
    }
}

/// The ClusterServiceVersion of an operator that runs `image`.
pub(super) fn cluster_service_version(image: &str) -> Result<Value, OlmError> {
    let mut spec = metadata()?;
    let mut annotations = spec.remove("annotations").unwrap_or_default();
    annotations["containerImage"] = json!(image);
    spec.remove("apiServiceDefinitions");
    let owned = spec.remove("crdDescriptions");
    spec.insert("customresourcedefinitions".to_owned(), json!(owned));
    spec.insert("install".to_owned(), install(image)?);
    spec.insert("relatedImages".to_owned(), json!([{ "name": NAME, "image": image }]));
    spec.insert("version".to_owned(), json!(VERSION));
    Ok(json!({
        "apiVersion": "operators.coreos.com/v1alpha1",
        "kind": "ClusterServiceVersion",
        "metadata": { "name": csv_name(), "namespace": "placeholder", "annotations": annotations },
        "spec": spec,
    }))
}

/// The definitions themselves, as files of the bundle.
pub(super) fn definitions() -> Result<Vec<Value>, ManifestError> {
    crate::install::manifests::crds()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_become_readable() {
        assert_eq!(display_name("FederatedHTTPRoute"), "Federated HTTP Route");
        assert_eq!(display_name("MemberCluster"), "Member Cluster");
        assert_eq!(display_name("Rollout"), "Rollout");
    }

    #[test]
    fn every_definition_is_owned_and_described() {
        let csv = cluster_service_version("image:1").unwrap();
        let owned = csv["spec"]["customresourcedefinitions"]["owned"].as_array().unwrap();
        assert_eq!(owned.len(), all_crds().len());
        for crd in owned {
            for key in ["name", "kind", "version", "displayName", "description"] {
                assert!(crd[key].as_str().is_some_and(|text| !text.is_empty()), "{key} of {crd}");
            }
        }
    }

    #[test]
    fn permissions_and_deployment_are_those_of_the_manifests() {
        let csv = cluster_service_version("image:1").unwrap();
        let install = &csv["spec"]["install"]["spec"];
        let objects = crate::install::manifests::manifests("ns", "image:1").unwrap();
        let of = |kind: &str| objects.iter().find(|object| object["kind"] == kind).unwrap();
        assert_eq!(install["clusterPermissions"][0]["rules"], of("ClusterRole")["rules"]);
        assert_eq!(install["permissions"][0]["rules"], of("Role")["rules"]);
        let pod = |deployment: &Value| deployment["spec"]["template"]["spec"]["containers"].clone();
        assert_eq!(pod(&install["deployments"][0]), pod(of("Deployment")));
    }
}
