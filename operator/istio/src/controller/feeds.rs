//! Watches of the driver beyond the copies: kinds of the host, and in each member the istiod Deployments and the pods with proxies.

use crate::{
    controller::Event,
    upgrade::{Proxy, Readiness, deployment_readiness},
};
use fedistio_crds::LABEL_MANAGED;
use futures::StreamExt as _;
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    core::PartialObjectMeta,
    runtime::watcher::{self, Event as WatchEvent},
};
use serde::de::DeserializeOwned;
use std::{collections::BTreeSet, fmt::Debug, sync::Arc, time::Duration};
use tokio::sync::mpsc;

/// First wait after a failed watch; doubled up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// An answering server is noticed within this time.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// Label that istiod's injection templates put on every pod with a proxy: sidecars, gateways and waypoints.
const LABEL_PROXY: &str = "service.istio.io/canonical-name";

/// Namespace and name.
pub(crate) type Name = (String, String);

/// An istiod Deployment as it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Istiod {
    pub(crate) readiness: Readiness,
    pub(crate) resource_version: u64,
}

/// Watches one kind forever and sends what `event` makes of it: `Some(name, Some(object))` for an object, `(name, None)` for a deleted one,
/// and `None` when all have been listed.
pub(crate) async fn watch<K>(
    api: Api<K>,
    config: watcher::Config,
    what: String,
    events: mpsc::UnboundedSender<Event>,
    event: impl Fn(Option<(Name, Option<K>)>) -> Event,
) where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let mut stream = std::pin::pin!(watcher::watcher(api, config));
    let (mut known, mut listed) = (BTreeSet::new(), BTreeSet::new());
    let mut wait = FIRST_WAIT;
    while let Some(next) = stream.next().await {
        let news = match next {
            Err(error) => {
                tracing::warn!(%error, "the watch of {what} failed; it is tried again");
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(LONGEST_WAIT);
                continue;
            }
            Ok(WatchEvent::Init) => {
                listed.clear();
                continue;
            }
            Ok(WatchEvent::InitApply(object)) => {
                listed.insert(name(&object));
                known.insert(name(&object));
                vec![event(Some((name(&object), Some(object))))]
            }
            Ok(WatchEvent::InitDone) => {
                let gone: Vec<Name> = known.difference(&listed).cloned().collect();
                known.clone_from(&listed);
                gone.into_iter().map(|name| event(Some((name, None)))).chain([event(None)]).collect()
            }
            Ok(WatchEvent::Apply(object)) => {
                known.insert(name(&object));
                vec![event(Some((name(&object), Some(object))))]
            }
            Ok(WatchEvent::Delete(object)) => {
                known.remove(&name(&object));
                vec![event(Some((name(&object), None)))]
            }
        };
        wait = FIRST_WAIT;
        if news.into_iter().any(|one| events.send(one).is_err()) {
            return;
        }
    }
}

fn name<K: Resource>(object: &K) -> Name {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// Watches the istiod Deployments of a member.
pub(crate) async fn watch_istiods(cluster: Arc<str>, client: Client, events: mpsc::UnboundedSender<Event>) {
    let config = watcher::Config::default().labels(&format!("{LABEL_MANAGED}=true,app=istiod"));
    let what = format!("istiod Deployments in {cluster}");
    watch(Api::<Deployment>::all(client), config, what, events, |news| {
        let news = news.map(|(name, deployment)| {
            let istiod = deployment.map(|deployment| Istiod {
                readiness: deployment_readiness(&deployment),
                resource_version: version(deployment.metadata.resource_version.as_deref()),
            });
            (name, istiod)
        });
        Event::Istiod(Arc::clone(&cluster), news)
    })
    .await;
}

/// Watches the pods with proxies of a member, by their metadata. Pods that have ended hold no proxy.
pub(crate) async fn watch_proxies(cluster: Arc<str>, client: Client, events: mpsc::UnboundedSender<Event>) {
    let config =
        watcher::Config::default().labels(LABEL_PROXY).fields("status.phase!=Succeeded,status.phase!=Failed");
    let what = format!("pods with proxies in {cluster}");
    watch(Api::<PartialObjectMeta<Pod>>::all(client), config, what, events, |news| {
        let news = news.map(|(name, pod)| (name, pod.and_then(|pod| Proxy::from_metadata(&pod.metadata))));
        Event::Proxy(Arc::clone(&cluster), news)
    })
    .await;
}

fn version(text: Option<&str>) -> u64 {
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}
