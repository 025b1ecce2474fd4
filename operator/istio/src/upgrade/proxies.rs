//! Proxies and the workloads to which they belong, read from the pods' metadata alone. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// Istio's annotation on every pod with a proxy: the revision that injected it.
const ANNOTATION_REVISION: &str = "istio.io/rev";

/// Kinds of workloads that the operator can restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, strum::Display)]
pub enum WorkloadKind {
    /// apps/v1 Deployment.
    Deployment,
    /// apps/v1 StatefulSet.
    StatefulSet,
    /// apps/v1 DaemonSet.
    DaemonSet,
}

/// What a pod belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Workload {
    /// Its kind.
    pub kind: WorkloadKind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for Workload {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// A pod with a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// The revision that injected it.
    pub revision: String,
    /// The workload to restart; none for a pod that no controller would replace, or one that the operator does not know.
    pub workload: Option<Workload>,
    /// Namespace and name of the pod.
    pub pod: String,
    /// Is the pod on its way out? It still holds its revision until it is gone.
    pub deleting: bool,
}

impl Proxy {
    /// Reads a pod's metadata; nothing where no proxy was injected.
    ///
    /// A ReplicaSet that a Deployment made is named `<deployment>-<pod-template-hash>`, and its pods carry the hash as a label:
    /// so the Deployment is known without reading the ReplicaSet.
    pub fn from_metadata(metadata: &ObjectMeta) -> Option<Self> {
        let revision = metadata.annotations.as_ref()?.get(ANNOTATION_REVISION)?.clone();
        let namespace = metadata.namespace.clone().unwrap_or_default();
        let owner = metadata
            .owner_references
            .iter()
            .flatten()
            .find(|owner| owner.controller == Some(true) && owner.api_version.starts_with("apps/"));
        let workload = owner.and_then(|owner| {
            let (kind, name) = match owner.kind.as_str() {
                "StatefulSet" => (WorkloadKind::StatefulSet, owner.name.as_str()),
                "DaemonSet" => (WorkloadKind::DaemonSet, owner.name.as_str()),
                "ReplicaSet" => {
                    let hash = metadata.labels.as_ref()?.get("pod-template-hash")?;
                    (WorkloadKind::Deployment, owner.name.strip_suffix(hash.as_str())?.strip_suffix('-')?)
                }
                _ => return None,
            };
            Some(Workload { kind, namespace: namespace.clone(), name: name.to_owned() })
        });
        Some(Self {
            revision,
            workload,
            pod: format!("{namespace}/{}", metadata.name.clone().unwrap_or_default()),
            deleting: metadata.deletion_timestamp.is_some(),
        })
    }
}

/// Which workloads to restart now, and what can't be restarted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restarts {
    /// Restart these.
    pub now: Vec<Workload>,
    /// Already restarted, and not done.
    pub under_way: Vec<Workload>,
    /// Pods with a proxy of an old revision that no known controller would replace.
    pub stuck: Vec<String>,
}

/// Plans the next batch of restarts: at most `batch` workloads are on their way at any time.
///
/// `from`: the revisions that workloads leave. `restarted`: what has been restarted already for the wanted revision.
pub fn plan_restarts<'a>(
    proxies: impl IntoIterator<Item = &'a Proxy>,
    from: &BTreeSet<String>,
    restarted: &BTreeSet<Workload>,
    batch: usize,
) -> Restarts {
    let mut waiting: BTreeMap<Workload, bool> = BTreeMap::new();
    let mut plan = Restarts::default();
    for proxy in proxies.into_iter().filter(|proxy| from.contains(&proxy.revision)) {
        match &proxy.workload {
            Some(workload) => {
                // A workload whose old pods are all on their way out has been restarted by somebody.
                *waiting.entry(workload.clone()).or_default() |= !proxy.deleting;
            }
            None if !proxy.deleting => plan.stuck.push(proxy.pod.clone()),
            None => {}
        }
    }
    for (workload, staying) in waiting {
        if restarted.contains(&workload) || !staying {
            plan.under_way.push(workload);
        } else {
            plan.now.push(workload);
        }
    }
    plan.now.truncate(batch.saturating_sub(plan.under_way.len()));
    plan.stuck.sort();
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(name: &str, revision: &str, owner: &Value) -> ObjectMeta {
        serde_json::from_value(
            json!({"name": name, "namespace": "bookinfo", "annotations": {"istio.io/rev": revision},
            "labels": {"pod-template-hash": "abc12"}, "ownerReferences": owner}),
        )
        .unwrap()
    }

    fn owner(kind: &str, name: &str) -> Value {
        json!([{"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": "1", "controller": true}])
    }

    fn proxy(workload: Option<&str>, revision: &str, deleting: bool) -> Proxy {
        Proxy {
            revision: revision.to_owned(),
            workload: workload.map(|name| Workload {
                kind: WorkloadKind::Deployment,
                namespace: "bookinfo".to_owned(),
                name: name.to_owned(),
            }),
            pod: format!("bookinfo/{}", workload.unwrap_or("bare")),
            deleting,
        }
    }

    #[test]
    fn the_workload_is_read_from_the_pod() {
        for (owners, expected) in [
            (owner("ReplicaSet", "reviews-v1-abc12"), Some("Deployment bookinfo/reviews-v1")),
            (owner("StatefulSet", "db"), Some("StatefulSet bookinfo/db")),
            (owner("DaemonSet", "agent"), Some("DaemonSet bookinfo/agent")),
            (owner("ReplicaSet", "by-hand"), None),
            (owner("Job", "batch"), None),
            (json!([]), None),
        ] {
            let proxy = Proxy::from_metadata(&pod("p", "1-28-2", &owners)).unwrap();
            assert_eq!(proxy.workload.map(|workload| workload.to_string()).as_deref(), expected);
            assert_eq!(proxy.revision, "1-28-2");
        }
        assert!(Proxy::from_metadata(&ObjectMeta::default()).is_none());
    }

    #[test]
    fn batches_are_bounded_and_go_on_as_workloads_finish() {
        let from: BTreeSet<String> = ["1-28-2".to_owned()].into();
        let names: Vec<String> = (0..8).map(|number| format!("w{number}")).collect();
        let mut proxies: Vec<Proxy> = names.iter().map(|name| proxy(Some(name), "1-28-2", false)).collect();
        let mut restarted = BTreeSet::new();
        let mut rounds = 0;
        while proxies.iter().any(|proxy| proxy.revision == "1-28-2") {
            let plan = plan_restarts(&proxies, &from, &restarted, 3);
            assert!(plan.now.len() + plan.under_way.len() <= 3, "{plan:?}");
            restarted.extend(plan.now.iter().cloned());
            // One of those under way comes up on the new revision.
            let done = restarted.iter().find(|workload| {
                proxies
                    .iter()
                    .any(|proxy| proxy.workload.as_ref() == Some(workload) && proxy.revision == "1-28-2")
            });
            let done = done.unwrap().clone();
            for proxy in proxies.iter_mut().filter(|proxy| proxy.workload.as_ref() == Some(&done)) {
                proxy.revision = "1-29-1".to_owned();
            }
            rounds += 1;
        }
        assert_eq!((rounds, restarted.len()), (8, 8));
    }

    #[test]
    fn pods_that_nobody_replaces_are_named() {
        let from: BTreeSet<String> = ["1-28-2".to_owned()].into();
        let proxies =
            [proxy(None, "1-28-2", false), proxy(None, "1-29-1", false), proxy(Some("a"), "1-28-2", true)];
        let plan = plan_restarts(&proxies, &from, &BTreeSet::new(), 5);
        assert_eq!(plan.stuck, ["bookinfo/bare"]);
        assert!(plan.now.is_empty());
        assert_eq!(plan.under_way.len(), 1);
    }
}
