//! Revisions: every accepted spec that a rollout hands out, kept as an immutable `ControllerRevision` on the host, as StatefulSets do.

use crate::hash::salted_hash;
use fedistio_crds::OPERATOR_NAMESPACE;
use k8s_openapi::{api::apps::v1::ControllerRevision, apimachinery::pkg::runtime::RawExtension};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, ObjectMeta, PostParams},
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// Label on every stored revision: UID of the object to which it belongs.
const LABEL_OWNER_UID: &str = "fedistio.io/owner-uid";
/// So many are kept besides those in use, as a Deployment keeps its ReplicaSets.
const HISTORY: usize = 10;
/// No request to the host takes longer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A stored spec.
#[derive(Clone, Debug, PartialEq)]
pub struct Revision {
    /// Name of the `ControllerRevision`.
    pub name: String,
    /// Counts up with each new spec.
    pub number: i64,
    /// The parts of the spec that roll out.
    pub data: Value,
}

/// The store does not work.
#[derive(Debug, thiserror::Error)]
pub enum RevisionError {
    /// The host answered with an error.
    #[error("revisions can't be stored on the host: {0}")]
    Host(#[from] kube::Error),
    /// No answer in time.
    #[error("the host does not answer within {} s", TIMEOUT.as_secs())]
    TimedOut,
}

/// The revisions of one object, as they are on the host.
#[derive(Clone, Debug, Default)]
pub struct RevisionStore {
    revisions: BTreeMap<String, Revision>,
}

impl RevisionStore {
    /// Reads the revisions of the object with this UID.
    ///
    /// # Errors
    /// When the host can't be asked.
    pub async fn load(client: &Client, owner_uid: &str) -> Result<Self, RevisionError> {
        let selector = ListParams::default().labels(&format!("{LABEL_OWNER_UID}={owner_uid}"));
        let list = bounded(api(client).list(&selector)).await?;
        let revisions = list
            .into_iter()
            .filter_map(|stored| {
                let name = stored.metadata.name?;
                Some((name.clone(), Revision { name, number: stored.revision, data: stored.data?.0 }))
            })
            .collect();
        Ok(Self { revisions })
    }

    /// The stored spec of that name.
    pub fn get(&self, name: &str) -> Option<&Revision> {
        self.revisions.get(name)
    }

    /// The name of the revision with this content; it is stored first where it is new. Content that was there before keeps its name, so
    /// that a spec that is set back is the old revision.
    ///
    /// # Errors
    /// When the host can't be asked.
    pub async fn ensure(
        &mut self,
        client: &Client,
        kind: &str,
        name: &str,
        owner_uid: &str,
        data: &Value,
    ) -> Result<String, RevisionError> {
        if let Some(known) = self.find(data) {
            return Ok(known.to_owned());
        }
        let next = self.next(kind, name, data);
        let object = ControllerRevision {
            metadata: ObjectMeta {
                name: Some(next.name.clone()),
                namespace: Some(OPERATOR_NAMESPACE.to_owned()),
                labels: Some([(LABEL_OWNER_UID.to_owned(), owner_uid.to_owned())].into()),
                ..ObjectMeta::default()
            },
            data: Some(RawExtension(next.data.clone())),
            revision: next.number,
        };
        match bounded(api(client).create(&PostParams::default(), &object)).await {
            Ok(_) => {}
            // An earlier answer was lost, or an object of that name was deleted and made again: the name holds the content's hash.
            Err(RevisionError::Host(kube::Error::Api(status))) if status.code == 409 => {
                bounded(api(client).delete(&next.name, &DeleteParams::default())).await?;
                bounded(api(client).create(&PostParams::default(), &object)).await?;
            }
            Err(error) => return Err(error),
        }
        let name = next.name.clone();
        self.revisions.insert(name.clone(), next);
        Ok(name)
    }

    /// Deletes the oldest revisions that nothing uses, keeping the newest ten of them. Returns how many went.
    ///
    /// # Errors
    /// When the host can't be asked.
    pub async fn prune(
        &mut self,
        client: &Client,
        in_use: &BTreeSet<String>,
        all: bool,
    ) -> Result<usize, RevisionError> {
        let old = self.superfluous(in_use, if all { 0 } else { HISTORY });
        for name in &old {
            match bounded(api(client).delete(name, &DeleteParams::default())).await {
                Ok(_) => {}
                Err(RevisionError::Host(kube::Error::Api(status))) if status.code == 404 => {}
                Err(error) => return Err(error),
            }
            self.revisions.remove(name);
        }
        Ok(old.len())
    }

    fn find(&self, data: &Value) -> Option<&str> {
        self.revisions.values().find(|revision| revision.data == *data).map(|revision| revision.name.as_str())
    }

    fn next(&self, kind: &str, name: &str, data: &Value) -> Revision {
        let number = self.revisions.values().map(|revision| revision.number).max().unwrap_or(0) + 1;
        let prefix = format!("{}-{name}", kind.to_lowercase());
        // Two contents of one hash: the next number makes another name.
        let name = (0..=self.revisions.len() as u64)
            .map(|salt| format!("{prefix}-{}", hash10(data, salt)))
            .find(|name| !self.revisions.contains_key(name))
            .unwrap_or(prefix);
        Revision { name, number, data: data.clone() }
    }

    fn superfluous(&self, in_use: &BTreeSet<String>, keep: usize) -> Vec<String> {
        let mut unused: Vec<&Revision> =
            self.revisions.values().filter(|revision| !in_use.contains(&revision.name)).collect();
        unused.sort_by_key(|revision| revision.number);
        let surplus = unused.len().saturating_sub(keep);
        unused.into_iter().take(surplus).map(|revision| revision.name.clone()).collect()
    }
}

fn api(client: &Client) -> Api<ControllerRevision> {
    Api::namespaced(client.clone(), OPERATOR_NAMESPACE)
}

async fn bounded<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, RevisionError> {
    match tokio::time::timeout(TIMEOUT, request).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(RevisionError::TimedOut),
    }
}

/// Ten hex digits of FNV-1a (64 bits) over the canonical JSON text: stable across releases, which std's hasher is not.
fn hash10(data: &Value, salt: u64) -> String {
    format!("{:010x}", salted_hash(data, salt) >> 24)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn store(numbers: &[i64]) -> RevisionStore {
        let mut store = RevisionStore::default();
        for number in numbers {
            let mut revision = store.next("FederatedIstio", "prod", &json!({"version": number}));
            revision.number = *number;
            store.revisions.insert(revision.name.clone(), revision);
        }
        store
    }

    #[test]
    fn content_names_a_revision() {
        let store = store(&[1, 2]);
        let known = store.find(&json!({"version": 1})).unwrap();
        assert!(
            known.starts_with("federatedistio-prod-") && known.len() == "federatedistio-prod-".len() + 10
        );
        assert_eq!(store.get(known).unwrap().data, json!({"version": 1}));
        let next = store.next("FederatedIstio", "prod", &json!({"version": 3}));
        assert_eq!(next.number, 3);
        assert_eq!(next.name, store.next("FederatedIstio", "prod", &json!({"version": 3})).name);
        assert!(store.get(&next.name).is_none());
    }

    #[test]
    fn a_name_that_is_taken_is_not_given_again() {
        let mut store = store(&[1]);
        let next = store.next("FederatedIstio", "prod", &json!({"version": 9}));
        store.revisions.insert(next.name.clone(), Revision { data: json!("other"), ..next.clone() });
        assert_ne!(store.next("FederatedIstio", "prod", &json!({"version": 9})).name, next.name);
    }

    #[test]
    fn the_oldest_unused_go() {
        let numbers: Vec<i64> = (1..=15).collect();
        let store = store(&numbers);
        let used: BTreeSet<String> = store
            .revisions
            .values()
            .filter(|revision| [1, 15].contains(&revision.number))
            .map(|revision| revision.name.clone())
            .collect();
        let mut gone: Vec<i64> =
            store.superfluous(&used, HISTORY).iter().map(|name| store.get(name).unwrap().number).collect();
        gone.sort_unstable();
        assert_eq!(gone, [2, 3, 4]);
        assert_eq!(store.superfluous(&BTreeSet::new(), 0).len(), 15);
    }
}
