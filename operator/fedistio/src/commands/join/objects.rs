//! The objects that joining makes, in the member and on the host.

use crate::install::{
    NAME,
    permissions::{Place, rules},
};
use fedistio_crds::{
    ClusterAccess, GROUP, KubeconfigAccess, MemberCluster, MemberClusterSpec, OPERATOR_NAMESPACE,
    SecretKeyReference,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Name of the ClusterRole and its binding in a member.
pub(crate) const MEMBER_ROLE: &str = "fedistio-member";
/// Name of the secret in a member that holds the service account's token.
pub(crate) const TOKEN_SECRET: &str = "fedistio-token";
/// Label on a namespace that joining made, and leaving may therefore remove.
pub(crate) const MADE_BY: &str = "fedistio.io/made-by";
/// Value of [`MADE_BY`].
pub(crate) const MADE_BY_JOIN: &str = "join";
/// Key of the kubeconfig in the host's secret.
const KUBECONFIG_KEY: &str = "kubeconfig";

fn labels() -> Value {
    json!({ "app.kubernetes.io/part-of": NAME, MADE_BY: MADE_BY_JOIN })
}

/// A namespace that leaving may remove.
pub(crate) fn namespace(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name, "labels": labels() } })
}

/// What the operator needs in a member besides its namespace, in the order in which it is applied.
pub(crate) fn member_objects() -> Result<Vec<Value>, serde_json::Error> {
    let rbac = "rbac.authorization.k8s.io";
    Ok(vec![
        json!({
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": { "name": NAME, "namespace": OPERATOR_NAMESPACE, "labels": labels() },
        }),
        json!({
            "apiVersion": format!("{rbac}/v1"),
            "kind": "ClusterRole",
            "metadata": { "name": MEMBER_ROLE, "labels": labels() },
            "rules": serde_json::to_value(rules(Place::Member))?,
        }),
        json!({
            "apiVersion": format!("{rbac}/v1"),
            "kind": "ClusterRoleBinding",
            "metadata": { "name": MEMBER_ROLE, "labels": labels() },
            "roleRef": { "apiGroup": rbac, "kind": "ClusterRole", "name": MEMBER_ROLE },
            "subjects": [{ "kind": "ServiceAccount", "name": NAME, "namespace": OPERATOR_NAMESPACE }],
        }),
        json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": TOKEN_SECRET,
                "namespace": OPERATOR_NAMESPACE,
                "labels": labels(),
                "annotations": { "kubernetes.io/service-account.name": NAME },
            },
            "type": "kubernetes.io/service-account-token",
        }),
    ])
}

/// The host's secret with the kubeconfig of the member `cluster`.
pub(crate) fn kubeconfig_secret(cluster: &str, namespace: &str, name: &str, kubeconfig: &str) -> Value {
    let mut labels = labels();
    labels[format!("{GROUP}/cluster")] = json!(cluster);
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "name": name, "namespace": namespace, "labels": labels },
        "type": "Opaque",
        "stringData": { KUBECONFIG_KEY: kubeconfig },
    })
}

/// The `MemberCluster` that points to the secret.
pub(crate) fn member_cluster(
    cluster: &str,
    namespace: &str,
    secret: &str,
    labels: &BTreeMap<String, String>,
    network: Option<&str>,
) -> Result<Value, serde_json::Error> {
    let mut object = MemberCluster::new(
        cluster,
        MemberClusterSpec {
            access: ClusterAccess {
                kubeconfig: KubeconfigAccess {
                    secret_ref: SecretKeyReference {
                        name: secret.to_owned(),
                        namespace: namespace.to_owned(),
                        key: KUBECONFIG_KEY.to_owned(),
                    },
                    context: None,
                },
            },
            network: network.map(str::to_owned),
        },
    );
    object.metadata.labels = (!labels.is_empty()).then(|| labels.clone());
    serde_json::to_value(object)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};

    #[test]
    fn the_members_role_is_the_tables_and_is_bound_to_the_service_account() {
        let objects = member_objects().unwrap();
        let role: ClusterRole = serde_json::from_value(objects[1].clone()).unwrap();
        assert_eq!(role.rules, Some(rules(Place::Member)));
        let binding: ClusterRoleBinding = serde_json::from_value(objects[2].clone()).unwrap();
        assert_eq!(binding.role_ref.name, role.metadata.name.unwrap());
        let subject = &binding.subjects.unwrap()[0];
        assert_eq!(objects[0]["metadata"]["name"], subject.name);
        assert_eq!(objects[0]["metadata"]["namespace"], subject.namespace.clone().unwrap());
        assert_eq!(objects[3]["metadata"]["annotations"]["kubernetes.io/service-account.name"], subject.name);
    }

    #[test]
    fn the_member_cluster_points_to_the_secret() {
        let labels = BTreeMap::from([("env".to_owned(), "prod".to_owned())]);
        let secret = kubeconfig_secret("east", "ns", "s", "text");
        let object = member_cluster("east", "ns", "s", &labels, Some("n1")).unwrap();
        let member: MemberCluster = serde_json::from_value(object.clone()).unwrap();
        let reference = member.spec.access.kubeconfig.secret_ref;
        assert_eq!(secret["metadata"]["name"], reference.name);
        assert_eq!(secret["metadata"]["namespace"], reference.namespace);
        assert!(secret["stringData"][&reference.key].is_string());
        assert_eq!(object["spec"]["network"], "n1");
        assert_eq!(object["metadata"]["labels"]["env"], "prod");
        let plain = member_cluster("east", "ns", "s", &BTreeMap::new(), None).unwrap();
        assert!(plain["metadata"]["labels"].is_null() && plain["spec"]["network"].is_null());
    }
}
