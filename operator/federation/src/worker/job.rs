//! Carries out one job against a member: the requests themselves.

use crate::{
    observe::Observation,
    render::{Manifest, ObjectKey, retain::remove_place},
    worker::WriteError,
};
use fedistio_crds::{FIELD_MANAGER, ResourceType};
use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions, ValidationDirective},
};
use serde_json::Value;
use std::{sync::Arc, time::Duration};

/// No write takes longer. API servers end theirs after 60 s; a member that needs more than this is not well.
pub(crate) const WRITE_TIMEOUT: Duration = Duration::from_secs(15);

/// What to do with one object.
#[derive(Clone, Debug)]
pub(crate) enum Task {
    /// Server-side apply. `force` takes fields over from other managers: right for a copy that is ours, not for a stranger.
    Apply { manifest: Arc<Manifest>, force: bool },
    /// Delete, if it still is the object with this UID.
    Delete { uid: Option<String> },
    /// JSON merge patch, for changes to objects that are not copies (a restart of a workload).
    Merge { patch: Value },
}

/// What came of a job.
#[derive(Clone, Debug)]
pub enum Written {
    /// The object as it is now, and whether we own every field that we sent.
    Applied {
        /// What the server answered.
        observation: Arc<Observation>,
        /// The first field that was sent but is not ours, if any.
        missing: Option<String>,
    },
    /// The deletion was accepted; the object may wait for its finalizers.
    Deleting,
    /// The object is not there.
    Gone,
    /// The patch was taken.
    Patched,
}

/// The API of the objects of `resource` in `namespace` (empty: of the cluster).
pub(crate) fn dynamic_api(client: Client, resource: &ResourceType, namespace: &str) -> Api<DynamicObject> {
    let resource = resource.api_resource();
    if namespace.is_empty() {
        Api::all_with(client, &resource)
    } else {
        Api::namespaced_with(client, namespace, &resource)
    }
}

/// Carries out `task`, within [`WRITE_TIMEOUT`].
pub(crate) async fn run(client: &Client, key: &ObjectKey, task: &Task) -> Result<Written, WriteError> {
    match tokio::time::timeout(WRITE_TIMEOUT, run_unbounded(client, key, task)).await {
        Ok(result) => result,
        Err(_) => Err(WriteError::TimedOut(WRITE_TIMEOUT)),
    }
}

async fn run_unbounded(client: &Client, key: &ObjectKey, task: &Task) -> Result<Written, WriteError> {
    let api = dynamic_api(client.clone(), &key.resource, &key.namespace);
    match task {
        Task::Apply { manifest, force } => apply(&api, manifest, *force).await,
        Task::Delete { uid } => delete(&api, key, uid.clone()).await,
        Task::Merge { patch } => {
            let params =
                PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
            api.patch_metadata(&key.name, &params, &Patch::Merge(patch))
                .await
                .map(|_| Written::Patched)
                .map_err(WriteError::from_kube)
        }
    }
}

async fn apply(api: &Api<DynamicObject>, manifest: &Manifest, force: bool) -> Result<Written, WriteError> {
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        // An unknown field would be dropped in silence and then be missed for ever.
        field_validation: Some(ValidationDirective::Strict),
        force,
        ..PatchParams::default()
    };
    let name = &*manifest.key.name;
    let trimmed = without_fields_of_others(api, manifest).await?;
    let object = trimmed.as_ref().unwrap_or(&manifest.object);
    let answer =
        api.patch_metadata(name, &params, &Patch::Apply(object)).await.map_err(WriteError::from_kube)?;
    let (_, observation) = Observation::from_metadata(answer.metadata).ok_or_else(|| {
        WriteError::Protocol("the server's answer lacks our label: a webhook removes it".to_owned())
    })?;
    let missing = observation.owned.first_missing(manifest);
    Ok(Written::Applied { observation: Arc::new(observation), missing })
}

/// The manifest without those retained fields that an existing copy has and that we no longer own.
/// Only types with retained fields pay for the extra read.
async fn without_fields_of_others(
    api: &Api<DynamicObject>,
    manifest: &Manifest,
) -> Result<Option<Value>, WriteError> {
    let places: Vec<_> = manifest.retain.iter().flat_map(|path| path.places(&manifest.object)).collect();
    if places.is_empty() {
        return Ok(None);
    }
    let live = api.get_metadata_opt(&manifest.key.name).await.map_err(WriteError::from_kube)?;
    let Some((_, live)) = live.and_then(|live| Observation::from_metadata(live.metadata)) else {
        return Ok(None);
    };
    let mut object = manifest.object.clone();
    for place in places.iter().filter(|place| !live.owned.owns(&manifest.object, place)) {
        remove_place(&mut object, place);
    }
    Ok(Some(object))
}

async fn delete(
    api: &Api<DynamicObject>,
    key: &ObjectKey,
    uid: Option<String>,
) -> Result<Written, WriteError> {
    let params = DeleteParams {
        preconditions: uid.map(|uid| Preconditions { uid: Some(uid), resource_version: None }),
        ..DeleteParams::background()
    };
    match api.delete(&key.name, &params).await {
        Ok(either) => Ok(if either.is_left() { Written::Deleting } else { Written::Gone }),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Written::Gone),
        // Another object of that name: ours is gone.
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(Written::Gone),
        Err(error) => Err(WriteError::from_kube(error)),
    }
}
