//! The one YAML that installs the operator on a host.

use crate::install::{
    NAME,
    deployment::{METRICS_PORT, User, deployment_spec},
    labels,
    permissions::{Place, rules},
    selector,
};
use fedistio_crds::{all_crds, builtin_types};
use serde::Serialize;
use serde_json::{Value, json};

const RBAC: &str = "rbac.authorization.k8s.io/v1";

/// Why the manifests can't be made.
#[derive(Debug, thiserror::Error)]
#[error("can't encode the {what}")]
pub(crate) struct ManifestError {
    what: String,
    #[source]
    source: serde_json::Error,
}

fn encode<T: Serialize>(what: &str, value: &T) -> Result<Value, ManifestError> {
    serde_json::to_value(value).map_err(|source| ManifestError { what: what.to_owned(), source })
}

/// Every CRD, in a stable order, as objects to apply.
pub(crate) fn crds() -> Result<Vec<Value>, ManifestError> {
    all_crds().iter().map(|crd| encode("custom resource definitions", crd)).collect()
}

/// The type configs of the built-in types.
pub(crate) fn type_configs() -> Result<Vec<Value>, ManifestError> {
    builtin_types().iter().map(|builtin| encode("type configs", &builtin.config())).collect()
}

/// Everything that the operator needs on its host, in the order in which it can be applied, without the type configs.
pub(crate) fn manifests(namespace: &str, image: &str) -> Result<Vec<Value>, ManifestError> {
    let mut objects = vec![namespace_object(namespace)];
    objects.extend(crds()?);
    objects.push(json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": { "name": NAME, "namespace": namespace, "labels": labels() },
    }));
    objects.extend(host_roles(namespace)?);
    objects.push(metrics_service(Some(namespace)));
    objects.push(json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": NAME, "namespace": namespace, "labels": labels() },
        "spec": deployment_spec(image, User::Fixed),
    }));
    Ok(objects)
}

fn namespace_object(namespace: &str) -> Value {
    let mut labels = labels();
    labels["pod-security.kubernetes.io/enforce"] = json!("restricted");
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace, "labels": labels } })
}

fn host_roles(namespace: &str) -> Result<[Value; 4], ManifestError> {
    let subjects = json!([{ "kind": "ServiceAccount", "name": NAME, "namespace": namespace }]);
    let reference =
        |kind: &str| json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": NAME });
    Ok([
        json!({
            "apiVersion": RBAC,
            "kind": "ClusterRole",
            "metadata": { "name": NAME, "labels": labels() },
            "rules": encode("host's rules", &rules(Place::Host))?,
        }),
        json!({
            "apiVersion": RBAC,
            "kind": "ClusterRoleBinding",
            "metadata": { "name": NAME, "labels": labels() },
            "roleRef": reference("ClusterRole"),
            "subjects": subjects,
        }),
        json!({
            "apiVersion": RBAC,
            "kind": "Role",
            "metadata": { "name": NAME, "namespace": namespace, "labels": labels() },
            "rules": encode("namespace's rules", &rules(Place::HostNamespace))?,
        }),
        json!({
            "apiVersion": RBAC,
            "kind": "RoleBinding",
            "metadata": { "name": NAME, "namespace": namespace, "labels": labels() },
            "roleRef": reference("Role"),
            "subjects": subjects,
        }),
    ])
}

/// The Service through which metrics are scraped; OLM wants it without a namespace.
pub(crate) fn metrics_service(namespace: Option<&str>) -> Value {
    let mut service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": format!("{NAME}-metrics"), "labels": labels() },
        "spec": {
            "selector": selector(),
            "ports": [{ "name": "metrics", "port": METRICS_PORT, "targetPort": "metrics", "protocol": "TCP" }],
        },
    });
    if let Some(namespace) = namespace {
        service["metadata"]["namespace"] = json!(namespace);
    }
    service
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::{
        apps::v1::Deployment,
        core::v1::{Namespace, Service, ServiceAccount},
        rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding},
    };
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
    use serde::de::DeserializeOwned;

    fn faithful<T: Serialize + DeserializeOwned>(value: &Value) {
        let typed: T = serde_json::from_value(value.clone()).unwrap();
        assert_eq!(&serde_json::to_value(typed).unwrap(), value);
    }

    #[test]
    fn every_object_is_what_kubernetes_expects() {
        for object in manifests("elsewhere", "registry.example/fedistio:9").unwrap() {
            match object["kind"].as_str().unwrap() {
                "Namespace" => faithful::<Namespace>(&object),
                "CustomResourceDefinition" => faithful::<CustomResourceDefinition>(&object),
                "ServiceAccount" => faithful::<ServiceAccount>(&object),
                "ClusterRole" => faithful::<ClusterRole>(&object),
                "ClusterRoleBinding" => faithful::<ClusterRoleBinding>(&object),
                "Role" => faithful::<Role>(&object),
                "RoleBinding" => faithful::<RoleBinding>(&object),
                "Service" => faithful::<Service>(&object),
                "Deployment" => faithful::<Deployment>(&object),
                other => panic!("{other} is not expected"),
            }
        }
    }

    #[test]
    fn namespace_and_image_reach_every_object() {
        let objects = manifests("elsewhere", "registry.example/fedistio:9").unwrap();
        let text = serde_json::to_string(&objects).unwrap();
        assert!(text.contains("registry.example/fedistio:9"));
        for object in &objects {
            let namespace = &object["metadata"]["namespace"];
            assert!(namespace.is_null() || namespace == "elsewhere", "{object}");
            for subject in object["subjects"].as_array().into_iter().flatten() {
                assert_eq!(subject["namespace"], "elsewhere");
            }
        }
    }

    #[test]
    fn bindings_name_roles_that_are_there() {
        let objects = manifests("ns", "image").unwrap();
        for binding in objects.iter().filter(|object| !object["roleRef"].is_null()) {
            let reference = &binding["roleRef"];
            assert!(objects.iter().any(|object| {
                object["kind"] == reference["kind"]
                    && object["metadata"]["name"] == reference["name"]
                    && object["metadata"]["namespace"] == binding["metadata"]["namespace"]
            }));
        }
    }
}
