//! Looks at a member through its own API server, as its administrator: nothing here asks the operator.

use anyhow::{Context as _, Result};
use fedistio_tests::Cluster;
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration},
        apps::v1::Deployment,
        core::v1::{ConfigMap, Pod, Service, ServiceAccount},
    },
    jiff::Timestamp,
};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{ApiResource, DynamicObject, ListParams},
};
use serde::de::DeserializeOwned;
use std::{collections::BTreeMap, fmt::Debug};

/// Namespace of the control planes.
pub(crate) const ISTIO: &str = "istio-system";
/// Label and annotation that name a revision.
const REVISION: &str = "istio.io/rev";
/// Label that names a revision tag.
const TAG: &str = "istio.io/tag";

/// One control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Istiod {
    /// Its revision, for example `1-29-1`.
    pub(crate) revision: String,
    /// The tag of its image: its version.
    pub(crate) version: String,
    /// Is every replica of the current template available?
    pub(crate) ready: bool,
    /// When its Deployment was made, by the member's clock (whole seconds).
    pub(crate) created: Option<Timestamp>,
}

/// The control planes of a member, by revision.
pub(crate) async fn istiods(member: &Cluster) -> Result<Vec<Istiod>> {
    let api = Api::<Deployment>::namespaced(member.client(), ISTIO);
    let list = api.list(&ListParams::default().labels("app=istiod")).await;
    let list = list.with_context(|| format!("istiod can't be listed in {}", member.name()))?;
    let mut istiods: Vec<Istiod> = list.items.iter().map(istiod).collect();
    istiods.sort_by(|a, b| a.revision.cmp(&b.revision));
    Ok(istiods)
}

fn istiod(deployment: &Deployment) -> Istiod {
    let spec = deployment.spec.as_ref();
    let containers = spec.and_then(|spec| spec.template.spec.as_ref()).map(|pod| pod.containers.as_slice());
    let image = containers
        .unwrap_or_default()
        .first()
        .and_then(|container| container.image.clone())
        .unwrap_or_default();
    let status = deployment.status.clone().unwrap_or_default();
    let replicas = spec.and_then(|spec| spec.replicas).unwrap_or(1);
    Istiod {
        revision: deployment.labels().get(REVISION).cloned().unwrap_or_default(),
        version: image.rsplit_once(':').map_or("", |(_, tag)| tag).to_owned(),
        ready: status.observed_generation >= deployment.metadata.generation
            && status.updated_replicas.unwrap_or(0) >= replicas
            && status.available_replicas.unwrap_or(0) >= replicas,
        created: deployment.creation_timestamp().map(|time| time.0),
    }
}

/// Where the revision tag points to, and whether istiod has put its certificate into the tag's webhook.
pub(crate) async fn tag(member: &Cluster, tag: &str) -> Result<Option<(String, bool)>> {
    let api = Api::<MutatingWebhookConfiguration>::all(member.client());
    let list = api.list(&ListParams::default().labels(&format!("{TAG}={tag}"))).await;
    let list = list.with_context(|| format!("webhooks can't be listed in {}", member.name()))?;
    Ok(list.items.into_iter().next().map(|webhook| {
        let revision = webhook.labels().get(REVISION).cloned().unwrap_or_default();
        let webhooks = webhook.webhooks.unwrap_or_default();
        let trusted = !webhooks.is_empty()
            && webhooks
                .iter()
                .all(|one| one.client_config.ca_bundle.as_ref().is_some_and(|ca| !ca.0.is_empty()));
        (revision, trusted)
    }))
}

/// The pods of a namespace by the revision that injected their sidecar; pods without one count for the empty revision.
pub(crate) async fn proxies(member: &Cluster, namespace: &str) -> Result<BTreeMap<String, usize>> {
    let pods = Api::<Pod>::namespaced(member.client(), namespace).list(&ListParams::default()).await;
    let pods = pods.with_context(|| format!("pods can't be listed in {}", member.name()))?;
    let mut proxies = BTreeMap::new();
    for pod in pods.items.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
        *proxies.entry(proxy(pod)).or_insert(0) += 1;
    }
    Ok(proxies)
}

fn proxy(pod: &Pod) -> String {
    // Newer releases inject the sidecar as an init container that keeps running.
    let containers =
        pod.spec.iter().flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
    let injected = containers.into_iter().any(|container| container.name == "istio-proxy");
    let revision = pod.annotations().get(REVISION).filter(|_| injected);
    revision.cloned().unwrap_or_default()
}

/// Are all pods of the namespace ready?
pub(crate) async fn pods_ready(member: &Cluster, namespace: &str) -> Result<usize> {
    let pods = Api::<Pod>::namespaced(member.client(), namespace).list(&ListParams::default()).await;
    let pods = pods.with_context(|| format!("pods can't be listed in {}", member.name()))?.items;
    let ready = |pod: &Pod| {
        let conditions = pod.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
        conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
    };
    match pods.iter().find(|pod| !ready(pod)) {
        Some(pod) => anyhow::bail!("pod {} is not ready in {}", pod.name_any(), member.name()),
        None => Ok(pods.len()),
    }
}

/// What is left of a revision: `Kind name` of every object that carries its label.
pub(crate) async fn leftovers(member: &Cluster, revision: &str) -> Result<Vec<String>> {
    let client = member.client();
    let mut left = Vec::new();
    left.extend(labelled(Api::<MutatingWebhookConfiguration>::all(client.clone()), revision).await?);
    left.extend(labelled(Api::<ValidatingWebhookConfiguration>::all(client.clone()), revision).await?);
    left.extend(labelled(in_istio::<Deployment>(&client), revision).await?);
    left.extend(labelled(in_istio::<Service>(&client), revision).await?);
    left.extend(labelled(in_istio::<ConfigMap>(&client), revision).await?);
    left.extend(labelled(in_istio::<ServiceAccount>(&client), revision).await?);
    left.extend(labelled(in_istio::<Pod>(&client), revision).await?);
    Ok(left)
}

fn in_istio<K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>>(client: &Client) -> Api<K> {
    Api::namespaced(client.clone(), ISTIO)
}

async fn labelled<K>(api: Api<K>, revision: &str) -> Result<Vec<String>>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let kind = K::kind(&());
    let list = api.list_metadata(&ListParams::default().labels(&format!("{REVISION}={revision}"))).await;
    let list = list.with_context(|| format!("objects of kind {kind} can't be listed"))?;
    Ok(list.items.iter().map(|object| format!("{kind} {}", object.name_any())).collect())
}

/// The mesh configuration that a revision's istiod reads.
pub(crate) async fn mesh_config(member: &Cluster, revision: &str) -> Result<String> {
    let name = format!("istio-{revision}");
    let map = in_istio::<ConfigMap>(&member.client()).get(&name).await;
    let map = map.with_context(|| format!("ConfigMap {name} can't be read in {}", member.name()))?;
    Ok(map.data.unwrap_or_default().remove("mesh").unwrap_or_default())
}

/// An API for a kind of Istio's networking group in a namespace.
pub(crate) fn networking(member: &Cluster, kind: &str, plural: &str, namespace: &str) -> Api<DynamicObject> {
    let resource = ApiResource {
        group: "networking.istio.io".to_owned(),
        version: "v1".to_owned(),
        api_version: "networking.istio.io/v1".to_owned(),
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    };
    Api::namespaced_with(member.client(), namespace, &resource)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_deployment_on_its_way_is_not_ready() {
        let deployment = |observed: i64, updated: i32, available: i32| -> Deployment {
            serde_json::from_value(json!({
                "metadata": {"name": "istiod-1-29-1", "generation": 2, "labels": {"istio.io/rev": "1-29-1"}},
                "spec": {"replicas": 1, "selector": {}, "template": {"spec": {"containers": [
                    {"name": "discovery", "image": "docker.io/istio/pilot:1.29.1"}]}}},
                "status": {"observedGeneration": observed, "updatedReplicas": updated, "availableReplicas": available},
            }))
            .unwrap()
        };
        let good = istiod(&deployment(2, 1, 1));
        assert_eq!((good.revision.as_str(), good.version.as_str(), good.ready), ("1-29-1", "1.29.1", true));
        assert!(!istiod(&deployment(1, 1, 1)).ready);
        assert!(!istiod(&deployment(2, 0, 1)).ready);
        assert!(!istiod(&deployment(2, 1, 0)).ready);
    }

    #[test]
    fn a_proxy_counts_only_with_its_container() {
        let pod = |containers: serde_json::Value, init: serde_json::Value| -> Pod {
            serde_json::from_value(json!({
                "metadata": {"name": "a", "annotations": {"istio.io/rev": "1-29-1"}},
                "spec": {"containers": containers, "initContainers": init},
            }))
            .unwrap()
        };
        let (app, sidecar) = (json!({"name": "app"}), json!({"name": "istio-proxy"}));
        assert_eq!(proxy(&pod(json!([app, sidecar]), json!([]))), "1-29-1");
        assert_eq!(proxy(&pod(json!([app]), json!([sidecar]))), "1-29-1");
        assert_eq!(proxy(&pod(json!([app]), json!([]))), "");
    }
}
