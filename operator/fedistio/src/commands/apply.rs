//! Server-side apply of objects that commands make.

use crate::cli::connection::{Cluster, RequestError};
use fedistio_crds::FIELD_MANAGER;
use kube::{
    Api,
    api::{DynamicObject, Patch, PatchParams},
    core::ApiResource,
};
use serde_json::Value;

/// The plural of a kind that commands apply: all of them are regular but for `Ingress` and such, of which there are none.
fn resource(object: &Value) -> ApiResource {
    let text = |key: &str| object[key].as_str().unwrap_or_default().to_owned();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
    ApiResource {
        plural: format!("{}s", kind.to_lowercase()),
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: api_version.clone(),
        kind,
    }
}

/// `Kind name`, for messages.
pub(crate) fn title(object: &Value) -> String {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    format!("{} {name}", object["kind"].as_str().unwrap_or_default())
}

/// The API for the type and namespace of `object`.
pub(crate) fn api(cluster: &Cluster, object: &Value) -> Api<DynamicObject> {
    let resource = resource(object);
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => Api::namespaced_with(cluster.client.clone(), namespace, &resource),
        None => Api::all_with(cluster.client.clone(), &resource),
    }
}

/// Applies the object. Forced: these objects are this program's own, whoever changed them in between.
pub(crate) async fn apply(cluster: &Cluster, object: &Value) -> Result<DynamicObject, RequestError> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let (api, params) = (api(cluster, object), PatchParams::apply(FIELD_MANAGER).force());
    let patch = Patch::Apply(object);
    cluster.call(&format!("applying {}", title(object)), api.patch(name, &params, &patch)).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn types_are_taken_from_the_object() {
        let core = resource(&json!({ "apiVersion": "v1", "kind": "ServiceAccount" }));
        assert_eq!(
            (core.group.as_str(), core.version.as_str(), core.plural.as_str()),
            ("", "v1", "serviceaccounts")
        );
        let own = resource(&json!({ "apiVersion": "fedistio.io/v1alpha1", "kind": "MemberCluster" }));
        assert_eq!((own.group.as_str(), own.plural.as_str()), ("fedistio.io", "memberclusters"));
    }
}
