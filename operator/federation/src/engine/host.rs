//! The engine's eyes and hands on the host: watches of type configs and federated objects, writes of finalizers and status.

use crate::{
    engine::Event,
    render::Owner,
    status::replace_status,
    worker::{chain, dynamic_api},
};
use fedistio_crds::{
    ConditionStatus, FederatedStatus, FederatedTypeConfig, FederatedTypeConfigStatus, ResourceType,
    set_condition,
};
use futures::StreamExt as _;
use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, Client, ResourceExt as _,
    api::{DynamicObject, Patch, PatchParams},
    runtime::watcher::{self, Event as WatchEvent},
};
use serde_json::json;
use std::{collections::HashSet, sync::Arc, time::Duration};
use tokio::sync::mpsc;

/// First wait after a failed watch of the host; doubled up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// A federated type whose CRD appears is served within this time.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Objects in one page of a list. A parsed page takes a dozen times the memory of what is kept of it, so many small ones are better.
const PAGE: u32 = 100;

/// A federated object as read from the host.
#[derive(Debug)]
pub(crate) struct HostObject {
    pub(crate) owner: Owner,
    pub(crate) uid: String,
    pub(crate) generation: i64,
    pub(crate) deleting: bool,
    pub(crate) finalizers: Vec<String>,
    pub(crate) resource_version: String,
    pub(crate) spec: Box<str>,
    pub(crate) status: FederatedStatus,
}

impl HostObject {
    pub(crate) fn read(object: DynamicObject, kind: &Arc<str>) -> Self {
        let metadata = &object.metadata;
        // A status that can't be read is written anew; it would be lost otherwise only if a user had edited it.
        let status = object.data.get("status").and_then(|status| serde_json::from_value(status.clone()).ok());
        Self {
            owner: owner(&object, kind),
            uid: metadata.uid.clone().unwrap_or_default(),
            generation: metadata.generation.unwrap_or(0),
            deleting: metadata.deletion_timestamp.is_some(),
            finalizers: metadata.finalizers.clone().unwrap_or_default(),
            resource_version: metadata.resource_version.clone().unwrap_or_default(),
            spec: object.data.get("spec").map_or_else(|| "null".into(), |spec| spec.to_string().into()),
            status: status.unwrap_or_default(),
        }
    }
}

fn owner(object: &DynamicObject, kind: &Arc<str>) -> Owner {
    Owner {
        kind: Arc::clone(kind),
        namespace: object.metadata.namespace.as_deref().unwrap_or("").into(),
        name: object.metadata.name.as_deref().unwrap_or("").into(),
    }
}

/// Watches the type configs, forever.
pub(crate) async fn watch_types(host: Client, events: mpsc::UnboundedSender<Event>) {
    let api: Api<FederatedTypeConfig> = Api::all(host);
    let mut stream = std::pin::pin!(watcher::watcher(api, watcher::Config::default()));
    let (mut wait, mut listed, mut known) = (FIRST_WAIT, HashSet::new(), HashSet::new());
    while let Some(event) = stream.next().await {
        let sent = match event {
            Ok(event) => {
                wait = FIRST_WAIT;
                match event {
                    WatchEvent::Init => {
                        listed.clear();
                        Ok(())
                    }
                    WatchEvent::InitApply(config) => {
                        listed.insert(config.name_any());
                        known.insert(config.name_any());
                        events.send(Event::TypeApplied(Box::new(config)))
                    }
                    WatchEvent::InitDone => {
                        for name in known.extract_if(|name| !listed.contains(name)) {
                            let _ = events.send(Event::TypeDeleted(name));
                        }
                        events.send(Event::TypesListed)
                    }
                    WatchEvent::Apply(config) => {
                        known.insert(config.name_any());
                        events.send(Event::TypeApplied(Box::new(config)))
                    }
                    WatchEvent::Delete(config) => {
                        known.remove(&config.name_any());
                        events.send(Event::TypeDeleted(config.name_any()))
                    }
                }
            }
            Err(error) => {
                tracing::warn!(error = %chain(&error), "the watch of FederatedTypeConfigs failed; it is tried again");
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(LONGEST_WAIT);
                Ok(())
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

/// Watches the federated objects of one type, forever. The first list ends with `ObjectsListed`.
pub(crate) async fn watch_objects(
    host: Client,
    type_name: Arc<str>,
    federated: ResourceType,
    events: mpsc::UnboundedSender<Event>,
) {
    let kind: Arc<str> = federated.kind.as_str().into();
    let api: Api<DynamicObject> = Api::all_with(host, &federated.api_resource());
    let mut stream = std::pin::pin!(watcher::watcher(api, watcher::Config::default().page_size(PAGE)));
    let (mut wait, mut listed, mut known) = (FIRST_WAIT, HashSet::new(), HashSet::new());
    let mut failing = false;
    while let Some(event) = stream.next().await {
        let sent = match event {
            Ok(event) => {
                (wait, failing) = (FIRST_WAIT, false);
                match event {
                    WatchEvent::Init => {
                        listed.clear();
                        Ok(())
                    }
                    WatchEvent::InitApply(object) => {
                        let object = HostObject::read(object, &kind);
                        listed.insert(object.owner.clone());
                        known.insert(object.owner.clone());
                        events.send(Event::ObjectApplied(Arc::clone(&type_name), Box::new(object)))
                    }
                    WatchEvent::InitDone => {
                        for owner in known.extract_if(|owner| !listed.contains(owner)) {
                            let _ = events.send(Event::ObjectDeleted(owner));
                        }
                        listed.clear();
                        events.send(Event::ObjectsListed(Arc::clone(&type_name), Ok(())))
                    }
                    WatchEvent::Apply(object) => {
                        let object = HostObject::read(object, &kind);
                        known.insert(object.owner.clone());
                        events.send(Event::ObjectApplied(Arc::clone(&type_name), Box::new(object)))
                    }
                    WatchEvent::Delete(object) => {
                        let owner = owner(&object, &kind);
                        known.remove(&owner);
                        events.send(Event::ObjectDeleted(owner))
                    }
                }
            }
            Err(error) => {
                let message = chain(&error);
                let first = !std::mem::replace(&mut failing, true);
                if first {
                    tracing::warn!(kind = %kind, error = %message, "the watch of federated objects failed; it is tried again");
                }
                let sent = if first {
                    events.send(Event::ObjectsListed(Arc::clone(&type_name), Err(message)))
                } else {
                    Ok(())
                };
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(LONGEST_WAIT);
                sent
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

/// Writes the finalizers of a federated object, if it is still the version that was seen; false where it is not, and the caller has to
/// decide anew. An object that is gone needs no finalizers.
pub(crate) async fn write_finalizers(
    host: &Client,
    federated: &ResourceType,
    owner: &Owner,
    resource_version: &str,
    finalizers: &[String],
) -> Result<bool, kube::Error> {
    let api = dynamic_api(host.clone(), federated, &owner.namespace);
    let patch = json!({"metadata": {"resourceVersion": resource_version, "finalizers": finalizers}});
    match api.patch_metadata(&owner.name, &PatchParams::default(), &Patch::Merge(&patch)).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}

/// Writes the status of a federated object. The object may be gone: then there is nothing to write.
pub(crate) async fn write_status(
    host: &Client,
    federated: &ResourceType,
    owner: &Owner,
    status: &FederatedStatus,
) -> Result<(), kube::Error> {
    let api = dynamic_api(host.clone(), federated, &owner.namespace);
    let patch = replace_status(status).map_err(kube::Error::SerdeError)?;
    match api.patch_status(&owner.name, &PatchParams::default(), &patch).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error),
    }
}

/// Writes the condition `Running` of a type config, if it says something else.
pub(crate) async fn write_type_status(
    host: &Client,
    config: &FederatedTypeConfig,
    running: Result<(), String>,
) -> Result<(), kube::Error> {
    let mut status: FederatedTypeConfigStatus = config.status.clone().unwrap_or_default();
    status.observed_generation = config.metadata.generation;
    let (holds, reason, message) = match running {
        Ok(()) => {
            (ConditionStatus::True, "Watching", "federated objects of this type are watched".to_owned())
        }
        Err(message) => (ConditionStatus::False, "NotWatching", message),
    };
    let generation = config.metadata.generation;
    set_condition(&mut status.conditions, "Running", holds, reason, &message, generation, Timestamp::now());
    if config.status.as_ref() == Some(&status) {
        return Ok(());
    }
    let api: Api<FederatedTypeConfig> = Api::all(host.clone());
    let patch = replace_status(&status).map_err(kube::Error::SerdeError)?;
    api.patch_status(&config.name_any(), &PatchParams::default(), &patch).await.map(|_| ())
}
