//! An example of each built-in federated kind for `alm-examples`: the smallest object that does something useful.

use fedistio_crds::BuiltinType;
use serde_json::{Value, json};

/// An example of the type's federated kind; none where nobody has written one yet.
pub(super) fn sample(builtin: &BuiltinType) -> Option<Value> {
    let config = builtin.config();
    let (federated, target) = (config.spec.federated, config.spec.target);
    let template = template(&federated.kind)?;
    let namespace = target.namespaced().then_some("bookinfo");
    let name = if target.kind == "Namespace" { "bookinfo" } else { "reviews" };
    // A federated Namespace lives in the namespace that it federates.
    let namespace = namespace.or((target.kind == "Namespace").then_some("bookinfo"));
    let mut metadata = json!({ "name": name });
    if let Some(namespace) = namespace {
        metadata["namespace"] = json!(namespace);
    }
    Some(json!({
        "apiVersion": federated.api_version(),
        "kind": federated.kind,
        "metadata": metadata,
        "spec": { "template": template, "placement": { "clusterSelector": { "matchLabels": { "env": "prod" } } } },
    }))
}

fn template(federated_kind: &str) -> Option<Value> {
    let reviews = json!({ "app": "reviews" });
    let selector = json!({ "matchLabels": reviews });
    let spec = match federated_kind {
        "FederatedDestinationRule" => json!({
            "host": "reviews",
            "subsets": [{ "name": "v1", "labels": { "version": "v1" } }],
        }),
        "FederatedGateway" => json!({
            "selector": { "istio": "ingressgateway" },
            "servers": [{ "port": { "number": 80, "name": "http", "protocol": "HTTP" }, "hosts": ["reviews.example"] }],
        }),
        "FederatedServiceEntry" => json!({
            "hosts": ["ratings.example"],
            "location": "MESH_EXTERNAL",
            "ports": [{ "number": 443, "name": "https", "protocol": "HTTPS" }],
            "resolution": "DNS",
        }),
        "FederatedSidecar" => json!({ "egress": [{ "hosts": ["./*", "istio-system/*"] }] }),
        "FederatedWorkloadEntry" => json!({ "address": "192.0.2.7", "labels": reviews }),
        "FederatedWorkloadGroup" => json!({
            "metadata": { "labels": reviews },
            "template": { "serviceAccount": "reviews" },
        }),
        "FederatedEnvoyFilter" => json!({
            "workloadSelector": { "labels": reviews },
            "configPatches": [{
                "applyTo": "CLUSTER",
                "match": { "context": "SIDECAR_OUTBOUND" },
                "patch": { "operation": "MERGE", "value": { "respect_dns_ttl": true } },
            }],
        }),
        "FederatedProxyConfig" => json!({ "selector": selector, "concurrency": 2 }),
        "FederatedAuthorizationPolicy" => json!({
            "selector": selector,
            "rules": [{ "to": [{ "operation": { "methods": ["GET"] } }] }],
        }),
        "FederatedPeerAuthentication" => json!({ "mtls": { "mode": "STRICT" } }),
        "FederatedRequestAuthentication" => json!({
            "selector": selector,
            "jwtRules": [{ "issuer": "issuer.example", "jwksUri": "https://issuer.example/jwks.json" }],
        }),
        "FederatedTelemetry" => json!({ "accessLogging": [{ "providers": [{ "name": "envoy" }] }] }),
        "FederatedWasmPlugin" => {
            json!({ "selector": selector, "url": "oci://registry.example/plugins/header:1.0" })
        }
        "FederatedKubernetesGateway" => json!({
            "gatewayClassName": "istio",
            "listeners": [{ "name": "http", "port": 80, "protocol": "HTTP" }],
        }),
        "FederatedHTTPRoute" => json!({
            "parentRefs": [{ "name": "reviews" }],
            "rules": [{ "backendRefs": [{ "name": "reviews", "port": 9080 }] }],
        }),
        "FederatedDeployment" => json!({
            "replicas": 1,
            "selector": selector,
            "template": {
                "metadata": { "labels": reviews },
                "spec": { "containers": [{ "name": "reviews", "image": "registry.example/reviews:v1" }] },
            },
        }),
        "FederatedService" => json!({ "selector": reviews, "ports": [{ "name": "http", "port": 9080 }] }),
        "FederatedNamespace" => {
            return Some(json!({ "metadata": { "labels": { "istio-injection": "enabled" } } }));
        }
        "FederatedServiceAccount" => return Some(json!({ "metadata": { "labels": reviews } })),
        "FederatedConfigMap" => return Some(json!({ "data": { "stars": "5" } })),
        "FederatedSecret" => return Some(json!({ "stringData": { "user": "reader" } })),
        _ => return None,
    };
    Some(json!({ "spec": spec }))
}
