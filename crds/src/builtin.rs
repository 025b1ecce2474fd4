//! The types that are federated from the start.

use crate::{
    FederatedTypeConfig, FederatedTypeConfigSpec, Propagation, ResourceScope, ResourceType, TYPES_GROUP,
    VERSION,
};

/// A type that is federated from the start.
#[derive(Clone, Copy, Debug)]
pub struct BuiltinType {
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
    scope: ResourceScope,
    /// Kind of the federated type without its `Federated` prefix: the target's, but where two targets share a kind.
    federated_kind: &'static str,
    federated_plural: &'static str,
    retain: &'static [&'static str],
}

const fn namespaced(
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
) -> BuiltinType {
    BuiltinType {
        group,
        version,
        kind,
        plural,
        scope: ResourceScope::Namespaced,
        federated_kind: kind,
        federated_plural: plural,
        retain: &[],
    }
}

const NETWORKING: &str = "networking.istio.io";
const SECURITY: &str = "security.istio.io";
const GATEWAY_API: &str = "gateway.networking.k8s.io";

/// Every kind of Istio's four groups (as 1.28 and 1.29 serve them), Gateway API's Gateway and HTTPRoute, and the core kinds
/// of an ordinary application.
const BUILTIN: &[BuiltinType] = &[
    namespaced(NETWORKING, "v1", "VirtualService", "virtualservices"),
    namespaced(NETWORKING, "v1", "DestinationRule", "destinationrules"),
    namespaced(NETWORKING, "v1", "Gateway", "gateways"),
    namespaced(NETWORKING, "v1", "ServiceEntry", "serviceentries"),
    namespaced(NETWORKING, "v1", "Sidecar", "sidecars"),
    namespaced(NETWORKING, "v1", "WorkloadEntry", "workloadentries"),
    namespaced(NETWORKING, "v1", "WorkloadGroup", "workloadgroups"),
    namespaced(NETWORKING, "v1alpha3", "EnvoyFilter", "envoyfilters"),
    namespaced(NETWORKING, "v1beta1", "ProxyConfig", "proxyconfigs"),
    namespaced(SECURITY, "v1", "AuthorizationPolicy", "authorizationpolicies"),
    namespaced(SECURITY, "v1", "PeerAuthentication", "peerauthentications"),
    namespaced(SECURITY, "v1", "RequestAuthentication", "requestauthentications"),
    namespaced("telemetry.istio.io", "v1", "Telemetry", "telemetries"),
    namespaced("extensions.istio.io", "v1alpha1", "WasmPlugin", "wasmplugins"),
    // Shares its kind with Istio's Gateway, which came first.
    BuiltinType {
        federated_kind: "KubernetesGateway",
        federated_plural: "kubernetesgateways",
        ..namespaced(GATEWAY_API, "v1", "Gateway", "gateways")
    },
    namespaced(GATEWAY_API, "v1", "HTTPRoute", "httproutes"),
    BuiltinType { scope: ResourceScope::Cluster, ..namespaced("", "v1", "Namespace", "namespaces") },
    namespaced("apps", "v1", "Deployment", "deployments"),
    BuiltinType {
        retain: &[
            "/spec/clusterIP",
            "/spec/clusterIPs",
            "/spec/healthCheckNodePort",
            "/spec/ports/*/nodePort",
        ],
        ..namespaced("", "v1", "Service", "services")
    },
    BuiltinType { retain: &["/secrets"], ..namespaced("", "v1", "ServiceAccount", "serviceaccounts") },
    namespaced("", "v1", "ConfigMap", "configmaps"),
    namespaced("", "v1", "Secret", "secrets"),
];

/// The types that are federated from the start, in a stable order.
pub fn builtin_types() -> &'static [BuiltinType] {
    BUILTIN
}

impl BuiltinType {
    /// The type config that makes this type federated.
    pub fn config(&self) -> FederatedTypeConfig {
        let target = ResourceType {
            group: self.group.to_owned(),
            version: self.version.to_owned(),
            kind: self.kind.to_owned(),
            plural: self.plural.to_owned(),
            scope: self.scope,
        };
        let federated = ResourceType {
            group: TYPES_GROUP.to_owned(),
            version: VERSION.to_owned(),
            kind: format!("Federated{}", self.federated_kind),
            plural: format!("federated{}", self.federated_plural),
            scope: self.scope,
        };
        FederatedTypeConfig::new(
            &target.qualified_name(),
            FederatedTypeConfigSpec {
                target,
                federated,
                propagation: Propagation::Enabled,
                retain: self.retain.iter().map(|path| (*path).to_owned()).collect(),
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique() {
        let names: BTreeSet<_> =
            BUILTIN.iter().filter_map(|builtin| builtin.config().metadata.name).collect();
        let kinds: BTreeSet<_> = BUILTIN.iter().map(|builtin| builtin.config().spec.federated.kind).collect();
        let short: BTreeSet<_> =
            BUILTIN.iter().map(|builtin| crate::federated_crd::short_name(&builtin.config().spec)).collect();
        assert_eq!(names.len(), BUILTIN.len());
        assert_eq!(kinds.len(), BUILTIN.len());
        assert_eq!(short.len(), BUILTIN.len());
    }
}
