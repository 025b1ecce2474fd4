//! The kinds that Istio's charts render: how they are addressed, and which of their fields others change. Pure data.

use fedistio_crds::{ResourceScope, ResourceType};
use fedistio_federation::render::RetainPath;
use std::sync::{Arc, LazyLock};

/// A kind of the charts.
#[derive(Debug)]
pub(crate) struct Kind {
    /// How it is addressed.
    pub(crate) resource: Arc<ResourceType>,
    /// Fields that are sent on creation and left alone once somebody else owns them.
    pub(crate) retain: Arc<[RetainPath]>,
}

const ADMISSION: &str = "admissionregistration.k8s.io";
const RBAC: &str = "rbac.authorization.k8s.io";

/// Group, version, kind, plural, namespaced, retained paths.
type Row = (&'static str, &'static str, &'static str, &'static str, bool, &'static [&'static str]);

/// Every kind of the charts base, istiod, cni and ztunnel, from 1.24 on.
const ROWS: &[Row] = &[
    ("", "v1", "Namespace", "namespaces", false, &[]),
    (
        "apiextensions.k8s.io",
        "v1",
        "CustomResourceDefinition",
        "customresourcedefinitions",
        false,
        &["/spec/conversion"],
    ),
    (RBAC, "v1", "ClusterRole", "clusterroles", false, &[]),
    (RBAC, "v1", "ClusterRoleBinding", "clusterrolebindings", false, &[]),
    // istiod writes caBundle, and turns failurePolicy from Ignore to Fail when its webhook answers. Cloud providers
    // (AKS) add requirements to the namespaceSelector of mutating webhooks.
    (
        ADMISSION,
        "v1",
        "MutatingWebhookConfiguration",
        "mutatingwebhookconfigurations",
        false,
        &["/webhooks/*/clientConfig/caBundle", "/webhooks/*/namespaceSelector"],
    ),
    (
        ADMISSION,
        "v1",
        "ValidatingWebhookConfiguration",
        "validatingwebhookconfigurations",
        false,
        &["/webhooks/*/clientConfig/caBundle", "/webhooks/*/failurePolicy"],
    ),
    (ADMISSION, "v1", "ValidatingAdmissionPolicy", "validatingadmissionpolicies", false, &[]),
    (ADMISSION, "v1", "ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings", false, &[]),
    ("", "v1", "ServiceAccount", "serviceaccounts", true, &["/secrets", "/imagePullSecrets"]),
    ("", "v1", "ConfigMap", "configmaps", true, &[]),
    ("", "v1", "ResourceQuota", "resourcequotas", true, &[]),
    (RBAC, "v1", "Role", "roles", true, &[]),
    (RBAC, "v1", "RoleBinding", "rolebindings", true, &[]),
    (
        "",
        "v1",
        "Service",
        "services",
        true,
        &[
            "/spec/clusterIP",
            "/spec/clusterIPs",
            "/spec/healthCheckNodePort",
            "/spec/ipFamilies",
            "/spec/ipFamilyPolicy",
            "/spec/ports/*/nodePort",
        ],
    ),
    ("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", true, &[]),
    ("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies", true, &["/spec/policyTypes"]),
    ("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", true, &[]),
    ("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers", true, &[]),
    ("apps", "v1", "Deployment", "deployments", true, &["/spec/replicas"]),
    ("apps", "v1", "DaemonSet", "daemonsets", true, &[]),
];

static KINDS: LazyLock<Vec<Kind>> = LazyLock::new(|| {
    ROWS.iter()
        .map(|&(group, version, kind, plural, namespaced, retain)| Kind {
            resource: Arc::new(ResourceType {
                group: group.to_owned(),
                version: version.to_owned(),
                kind: kind.to_owned(),
                plural: plural.to_owned(),
                scope: if namespaced { ResourceScope::Namespaced } else { ResourceScope::Cluster },
            }),
            retain: retain.iter().filter_map(|path| RetainPath::parse(path).ok()).collect(),
        })
        .collect()
});

/// The kind of an object, if the charts are known to render it.
pub(crate) fn find(api_version: &str, kind: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|known| known.resource.kind == kind && known.resource.api_version() == api_version)
}

/// Every type that a control plane may consist of: what the operator watches in a member, and needs permission for.
pub fn resource_types() -> impl Iterator<Item = Arc<ResourceType>> {
    KINDS.iter().map(|kind| Arc::clone(&kind.resource))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_is_a_path_and_every_kind_is_there_once() {
        for (row, kind) in ROWS.iter().zip(KINDS.iter()) {
            assert_eq!(row.5.len(), kind.retain.len(), "{}", row.2);
            let api_version =
                if row.0.is_empty() { row.1.to_owned() } else { format!("{}/{}", row.0, row.1) };
            assert!(std::ptr::eq(find(&api_version, row.2).unwrap(), kind), "{}", row.2);
        }
        assert!(find("v1", "Pod").is_none());
    }
}
