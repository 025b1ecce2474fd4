//! The federated types that the engine serves now.

use crate::{
    engine::{
        Engine,
        host::{watch_objects, write_type_status},
        object::FederatedType,
    },
    render::RetainPath,
    worker::chain,
};
use fedistio_crds::{FederatedTypeConfig, Propagation};
use kube::ResourceExt as _;
use std::sync::Arc;
use tokio::task::AbortHandle;

/// One federated type.
pub(crate) struct TypeState {
    pub(crate) type_: Arc<FederatedType>,
    pub(crate) config: FederatedTypeConfig,
    /// Have all federated objects of the type been seen?
    pub(crate) listed: bool,
    /// Did the first list fail?
    pub(crate) failed: bool,
    watch: AbortHandle,
}

impl Drop for TypeState {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

impl Engine {
    pub(super) fn type_applied(&mut self, config: FederatedTypeConfig) {
        let name: Arc<str> = config.name_any().into();
        if let Some(state) = self.types.get_mut(&name)
            && state.config.spec == config.spec
        {
            state.config = config;
            return;
        }
        self.type_deleted(&name);
        if config.spec.propagation == Propagation::Disabled {
            self.write_type_status(&config, Err("propagation is Disabled".to_owned()));
            return;
        }
        let retain: Result<Vec<_>, _> =
            config.spec.retain.iter().map(|path| RetainPath::parse(path)).collect();
        let retain = match retain {
            Ok(retain) => retain,
            Err(error) => {
                self.write_type_status(&config, Err(format!("spec.retain: {error}")));
                return;
            }
        };
        let type_ = FederatedType {
            name: Arc::clone(&name),
            target: Arc::new(config.spec.target.clone()),
            retain: retain.into(),
            config: config.spec.clone(),
        };
        let watch = watch_objects(
            self.host.clone(),
            Arc::clone(&name),
            config.spec.federated.clone(),
            self.sender.clone(),
        );
        let watch = self.host_writes.spawn(watch);
        let state = TypeState { type_: Arc::new(type_), config, listed: false, failed: false, watch };
        self.types.insert(name, state);
    }

    /// Stops serving a type. Its copies stay in the members as they are.
    pub(super) fn type_deleted(&mut self, name: &str) {
        if let Some(state) = self.types.remove(name) {
            self.objects.retain(|_, object| object.type_.name != state.type_.name);
        }
    }

    pub(super) fn objects_listed(&mut self, name: &Arc<str>, result: Result<(), String>) {
        let Some(state) = self.types.get_mut(name) else { return };
        state.listed |= result.is_ok();
        state.failed |= result.is_err();
        let config = state.config.clone();
        let running = result.map_err(|message| {
            format!("{} can't be watched on the host: {message}; install its CRD", config.spec.federated.kind)
        });
        self.write_type_status(&config, running);
        let listed: Vec<_> = self
            .objects
            .values()
            .filter(|object| object.type_.name == *name)
            .map(|o| o.owner.clone())
            .collect();
        self.dirty.extend(listed);
    }

    fn write_type_status(&mut self, config: &FederatedTypeConfig, running: Result<(), String>) {
        let (host, config) = (self.host.clone(), config.clone());
        self.host_writes.spawn(async move {
            if let Err(error) = write_type_status(&host, &config, running).await {
                tracing::warn!(name = %config.name_any(), error = %chain(&error), "the status of a type config can't be written");
            }
        });
    }
}
