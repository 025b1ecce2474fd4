//! Writes to the host: the finalizer and the status of a `FederatedIstio`.

use fedistio_crds::{FIELD_MANAGER, FINALIZER, FederatedIstio, FederatedIstioStatus};
use kube::{
    Api, Client, Resource as _,
    api::{Patch, PatchParams},
};
use serde_json::json;
use std::time::Duration;

/// No request to the host takes longer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Sets or removes our finalizer; leaves those of others.
pub(crate) async fn set_finalizer(
    host: &Client,
    object: &FederatedIstio,
    present: bool,
) -> Result<(), String> {
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let mut finalizers = object.metadata.finalizers.clone().unwrap_or_default();
    finalizers.retain(|finalizer| finalizer != FINALIZER);
    if present {
        finalizers.push(FINALIZER.to_owned());
    }
    // With the version that was read: a finalizer that somebody added since is not lost.
    let patch =
        json!({"metadata": {"finalizers": finalizers, "resourceVersion": object.metadata.resource_version}});
    let api: Api<FederatedIstio> = Api::all(host.clone());
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    match bounded(api.patch_metadata(name, &params, &Patch::Merge(patch))).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error.to_string()),
        Ok(_) => Ok(()),
    }
}

/// Writes the status; what is no longer in it goes.
pub(crate) async fn write_status(
    host: &Client,
    name: &str,
    status: &FederatedIstioStatus,
) -> Result<(), String> {
    let api: Api<FederatedIstio> = Api::all(host.clone());
    let object = json!({
        "apiVersion": FederatedIstio::api_version(&()),
        "kind": FederatedIstio::kind(&()),
        "metadata": {"name": name},
        "status": status,
    });
    let params = PatchParams::apply(FIELD_MANAGER).force();
    match bounded(api.patch_status(name, &params, &Patch::Apply(object))).await {
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

async fn bounded<T>(request: impl Future<Output = kube::Result<T>>) -> kube::Result<T> {
    match tokio::time::timeout(TIMEOUT, request).await {
        Ok(result) => result,
        Err(elapsed) => Err(kube::Error::Service(Box::new(elapsed))),
    }
}
