//! What is written where: one collection of one cluster, and the objects of the benchmark.

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::{
    Client,
    api::{DeleteParams, GetParams, ListParams, Patch, PatchParams, PostParams},
    core::Request,
};
use serde_json::{Value, json};
use std::time::Duration;

/// Namespace of everything that the benchmark makes.
pub(super) const NAMESPACE: &str = "bench";
/// Label that says which change of an object this is. Metadata-only watches see it.
pub(super) const ROUND: &str = "bench.fedistio.io/round";
/// No single request of the benchmark takes longer, unless its server hangs.
const REQUEST: Duration = Duration::from_secs(30);

/// One collection of one cluster, written to without decoding the answers: the least work that a client can do.
#[derive(Clone)]
pub(super) struct Target {
    cluster: String,
    client: Client,
    collection: Request,
}

impl Target {
    /// The collection at `path`, for example `/apis/GROUP/VERSION/namespaces/NAMESPACE/PLURAL`.
    pub(super) fn new(cluster: &str, client: Client, path: &str) -> Self {
        Self { cluster: cluster.to_owned(), client, collection: Request::new(path) }
    }

    pub(super) fn virtual_services(cluster: &str, client: Client) -> Self {
        let path = format!("/apis/networking.istio.io/v1/namespaces/{NAMESPACE}/virtualservices");
        Self::new(cluster, client, &path)
    }

    pub(super) fn federated(cluster: &str, client: Client) -> Self {
        let path =
            format!("/apis/types.fedistio.io/v1alpha1/namespaces/{NAMESPACE}/federatedvirtualservices");
        Self::new(cluster, client, &path)
    }

    /// The cluster's name.
    pub(super) fn cluster(&self) -> &str {
        &self.cluster
    }

    /// Server-side apply of a whole object.
    pub(super) async fn apply(&self, name: &str, object: &Value) -> Result<()> {
        let params = PatchParams::apply("fedistio-bench").force();
        let request = self.collection.patch(name, &params, &Patch::Apply(object));
        self.send("apply", name, request).await.map(drop)
    }

    pub(super) async fn create(&self, name: &str, object: &Value) -> Result<()> {
        let body = serde_json::to_vec(object).context("an object that can't be encoded")?;
        self.send("create", name, self.collection.create(&PostParams::default(), body)).await.map(drop)
    }

    /// JSON merge patch by a field manager of its own; the object as it is then.
    pub(super) async fn merge(&self, name: &str, patch: &Value) -> Result<Value> {
        let params =
            PatchParams { field_manager: Some("somebody-else".to_owned()), ..PatchParams::default() };
        let text = self.send("patch", name, self.collection.patch(name, &params, &Patch::Merge(patch)));
        serde_json::from_str(&text.await?).context("an answer that is not JSON")
    }

    /// JSON merge patch of the status.
    pub(super) async fn merge_status(&self, name: &str, status: &Value) -> Result<()> {
        let patch = Patch::Merge(json!({"status": status}));
        let request = self.collection.patch_subresource("status", name, &PatchParams::default(), &patch);
        self.send("patch the status of", name, request).await.map(drop)
    }

    /// An object that is not there is no error.
    pub(super) async fn delete(&self, name: &str) -> Result<()> {
        let request = self.collection.delete(name, &DeleteParams::default());
        match self.send("delete", name, request).await {
            Err(error) if is_not_found(&error) => Ok(()),
            other => other.map(drop),
        }
    }

    pub(super) async fn get(&self, name: &str) -> Result<Value> {
        let text = self.send("get", name, self.collection.get(name, &GetParams::default())).await?;
        serde_json::from_str(&text).context("an answer that is not JSON")
    }

    pub(super) async fn list(&self, params: ListParams) -> Result<Vec<Value>> {
        let text = self.send("list", "objects", self.collection.list(&params)).await?;
        let list: Value = serde_json::from_str(&text).context("an answer that is not JSON")?;
        Ok(list["items"].as_array().cloned().unwrap_or_default())
    }

    async fn send(
        &self,
        verb: &str,
        name: &str,
        request: Result<hyper::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<String> {
        let what = || format!("{} can't {verb} {name}", self.cluster);
        let request = request.with_context(what)?;
        tokio::time::timeout(REQUEST, self.client.request_text(request))
            .await
            .with_context(|| format!("no answer within {} s", REQUEST.as_secs()))
            .with_context(what)?
            .with_context(what)
    }
}

fn is_not_found(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref::<kube::Error>(), Some(kube::Error::Api(status)) if status.code == 404)
}

/// Does `work` for every item, with so many at once.
pub(super) async fn for_each<I, T, F>(in_flight: usize, items: I, work: impl FnMut(T) -> F) -> Result<()>
where
    I: IntoIterator<Item = T>,
    F: Future<Output = Result<()>>,
{
    stream::iter(items).map(work).buffer_unordered(in_flight).try_collect().await
}

/// `PREFIX-0`, `PREFIX-1`, ….
pub(super) fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}-{number}")).collect()
}

/// The part of a VirtualService that a template holds: a route with a canary, as small as they are in practice.
pub(super) fn template(name: &str, round: u64) -> Value {
    json!({
        "metadata": {"labels": {ROUND: round.to_string()}},
        "spec": {
            "hosts": [format!("{name}.example")],
            "http": [{"name": "all", "timeout": format!("{}s", round + 1), "route": [
                {"destination": {"host": name, "subset": "v1"}, "weight": 90},
                {"destination": {"host": name, "subset": "v2"}, "weight": 10},
            ]}],
        },
    })
}

/// A whole VirtualService, with as much metadata as a copy has.
pub(super) fn virtual_service(name: &str, round: u64) -> Value {
    let mut object = template(name, round);
    object["apiVersion"] = "networking.istio.io/v1".into();
    object["kind"] = "VirtualService".into();
    object["metadata"]["name"] = name.into();
    object["metadata"]["namespace"] = NAMESPACE.into();
    object["metadata"]["annotations"] = json!({
        "bench.fedistio.io/hash": "0123456789abcdef",
        "bench.fedistio.io/owner": format!("FederatedVirtualService/{NAMESPACE}/{name}"),
    });
    object
}

/// A FederatedVirtualService for all clusters.
pub(super) fn federated(name: &str, round: u64) -> Value {
    json!({
        "apiVersion": "types.fedistio.io/v1alpha1",
        "kind": "FederatedVirtualService",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"template": template(name, round), "placement": {"clusterSelector": {}}},
    })
}

/// A change of a FederatedVirtualService: both the label, by which it is seen, and the spec.
pub(super) fn change(name: &str, round: u64) -> Value {
    json!({"spec": {"template": template(name, round)}})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_changes_label_and_spec() {
        let (before, after) = (virtual_service("a", 1), virtual_service("a", 2));
        assert_ne!(before["metadata"]["labels"], after["metadata"]["labels"]);
        assert_ne!(before["spec"], after["spec"]);
        assert_eq!(change("a", 2)["spec"]["template"], federated("a", 2)["spec"]["template"]);
        assert_eq!(names("x", 2), ["x-0", "x-1"]);
    }

    #[tokio::test]
    async fn for_each_stops_at_an_error() {
        let result = for_each(2, 0..10, |number| async move {
            anyhow::ensure!(number != 3, "three");
            Ok(())
        });
        assert_eq!(result.await.unwrap_err().to_string(), "three");
        assert!(for_each(4, 0..10, |_| async { Ok(()) }).await.is_ok());
    }
}
