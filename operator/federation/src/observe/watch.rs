//! One metadata-only watch: the copies of one type in one member.

use crate::{
    cluster::{FleetEvent, FleetEvents},
    observe::Observation,
    render::{ObjectKey, Owner},
};
use fedistio_crds::{LABEL_MANAGED, ResourceType};
use futures::StreamExt as _;
use kube::{
    Api, Client,
    api::{DynamicObject, PartialObjectMeta},
    runtime::watcher::{self, Event},
};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

/// First wait after a failed watch; doubled up to [`LONGEST_WAIT`] or [`NOT_SERVED_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// A member that is back is seen within this time.
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// A type that is not served is asked for again this often: cheap, and soon enough after its CRD is installed. At first it is asked for
/// as often as after any failure: a server that has just started serves its CRDs only a moment later.
const NOT_SERVED_WAIT: Duration = Duration::from_secs(5);
/// Copies in one page of a list: parsed metadata takes far more memory than what is kept of it, and all members list at the same time.
const PAGE: u32 = 100;

type Known = HashMap<(Arc<str>, Arc<str>), Owner>;

/// Watches the copies of `resource` in the member `cluster` and sends what happens to `events`, forever.
///
/// The first list ends with `Synced`; a later list that lacks a known copy sends that copy as gone.
pub(crate) async fn watch_copies(
    cluster: Arc<str>,
    client: Client,
    resource: Arc<ResourceType>,
    events: FleetEvents,
) {
    let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(client, &resource.api_resource());
    let config = watcher::Config::default().labels(&format!("{LABEL_MANAGED}=true")).page_size(PAGE);
    let mut stream = std::pin::pin!(watcher::watcher(api, config));
    let mut feed = Feed { cluster, resource, events, known: Known::new(), listed: HashSet::new() };
    let mut wait = FIRST_WAIT;
    while let Some(event) = stream.next().await {
        match event {
            Ok(event) => {
                wait = FIRST_WAIT;
                feed.take(event);
            }
            Err(error) => {
                let not_served = is_not_served(&error);
                tracing::debug!(cluster = %feed.cluster, kind = %feed.resource.kind, %error, "watch failed");
                feed.events.send(&FleetEvent::WatchFailed {
                    cluster: Arc::clone(&feed.cluster),
                    resource: Arc::clone(&feed.resource),
                    not_served,
                    message: error.to_string(),
                });
                let longest = if not_served { NOT_SERVED_WAIT } else { LONGEST_WAIT };
                tokio::time::sleep(wait.min(longest)).await;
                wait = (wait * 2).min(longest);
            }
        }
    }
}

fn is_not_served(error: &watcher::Error) -> bool {
    let (watcher::Error::InitialListFailed(source) | watcher::Error::WatchStartFailed(source)) = error else {
        return false;
    };
    matches!(source, kube::Error::Api(status) if status.code == 404)
}

struct Feed {
    cluster: Arc<str>,
    resource: Arc<ResourceType>,
    events: FleetEvents,
    known: Known,
    listed: HashSet<(Arc<str>, Arc<str>)>,
}

impl Feed {
    fn take(&mut self, event: Event<PartialObjectMeta<DynamicObject>>) {
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(object) => {
                if let Some(name) = self.seen(object) {
                    self.listed.insert(name);
                }
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut self.listed);
                let gone: Vec<_> =
                    self.known.keys().filter(|name| !listed.contains(*name)).cloned().collect();
                for name in gone {
                    self.gone(&name);
                }
                self.events.send(&FleetEvent::Synced {
                    cluster: Arc::clone(&self.cluster),
                    resource: Arc::clone(&self.resource),
                });
            }
            Event::Apply(object) => {
                self.seen(object);
            }
            Event::Delete(object) => {
                let name = names(&object);
                self.gone(&name);
            }
        }
    }

    fn seen(&mut self, object: PartialObjectMeta<DynamicObject>) -> Option<(Arc<str>, Arc<str>)> {
        let name = names(&object);
        let Some((owner, observation)) = Observation::from_metadata(object.metadata) else {
            // It lost its owner: no copy of ours any more.
            self.gone(&name);
            return None;
        };
        if let Some(previous) = self.known.insert(name.clone(), owner.clone())
            && previous != owner
        {
            self.send(&name, previous, None);
        }
        self.send(&name, owner, Some(Arc::new(observation)));
        Some(name)
    }

    fn gone(&mut self, name: &(Arc<str>, Arc<str>)) {
        if let Some(owner) = self.known.remove(name) {
            self.send(name, owner, None);
        }
    }

    fn send(
        &self,
        (namespace, name): &(Arc<str>, Arc<str>),
        owner: Owner,
        observation: Option<Arc<Observation>>,
    ) {
        let key = ObjectKey {
            resource: Arc::clone(&self.resource),
            namespace: Arc::clone(namespace),
            name: Arc::clone(name),
        };
        self.events.send(&FleetEvent::Observed {
            cluster: Arc::clone(&self.cluster),
            key,
            owner,
            observation,
        });
    }
}

fn names(object: &PartialObjectMeta<DynamicObject>) -> (Arc<str>, Arc<str>) {
    let metadata = &object.metadata;
    (metadata.namespace.as_deref().unwrap_or("").into(), metadata.name.as_deref().unwrap_or("").into())
}
