//! Revisions: immutable copies of the part of a spec that rolls out, kept on the host as `ControllerRevision`s, as StatefulSets do.

use crate::{hash::hash, render::Owner};
use k8s_openapi::{
    api::apps::v1::ControllerRevision,
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, runtime::RawExtension},
};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, PostParams},
};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Label: hash of the owner, by which its revisions are found.
const LABEL_OWNER: &str = "fedistio.io/revision-of";
/// Revisions that no cluster needs and that are kept for a way back.
const KEPT: usize = 10;
/// A Kubernetes name has no more characters.
const LONGEST_NAME: usize = 253;

/// Why a revision can't be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum RevisionError {
    /// The host refused.
    #[error("ControllerRevision {name}: {source}; check the operator's role on the host")]
    Host {
        /// Name of the revision.
        name: String,
        /// What the host says.
        source: Box<kube::Error>,
    },
    /// Somebody changed or replaced a revision.
    #[error("ControllerRevision {name} does not hold what its name says; delete it, it is made anew")]
    Tampered {
        /// Name of the revision.
        name: String,
    },
}

/// The revisions of one federated object.
#[derive(Clone)]
pub struct Revisions {
    api: Api<ControllerRevision>,
    owner: Owner,
}

/// Name of the revision of `owner` with this content. Equal content has an equal name, so going back finds the old revision.
pub fn revision_name(owner: &Owner, data: &Value) -> String {
    let text = format!("{:016x}", hash(data));
    let hash = &text[6..];
    let mut name = owner.kind.to_lowercase();
    for part in [&*owner.namespace, &*owner.name] {
        if !part.is_empty() {
            name.push('-');
            name.push_str(part);
        }
    }
    let room = LONGEST_NAME - 1 - hash.len();
    name.truncate(room);
    format!("{}-{hash}", name.trim_end_matches(['-', '.']))
}

fn owner_label(owner: &Owner) -> String {
    format!("{:016x}", hash(&Value::from(owner.to_string())))
}

impl Revisions {
    /// The revisions of `owner`, kept in `namespace` of the host.
    pub fn new(host: Client, namespace: &str, owner: Owner) -> Self {
        Self { api: Api::namespaced(host, namespace), owner }
    }

    /// Keeps `data` and returns the revision's name. What is there already is not written again.
    ///
    /// # Errors
    /// When the host refuses, or a revision of that name holds something else.
    pub async fn keep(&self, data: &Value, number: i64) -> Result<String, RevisionError> {
        let name = revision_name(&self.owner, data);
        if let Some(found) = self.get(&name).await? {
            return if found == *data { Ok(name) } else { Err(RevisionError::Tampered { name }) };
        }
        let labels = BTreeMap::from([(LABEL_OWNER.to_owned(), owner_label(&self.owner))]);
        let revision = ControllerRevision {
            metadata: ObjectMeta { name: Some(name.clone()), labels: Some(labels), ..ObjectMeta::default() },
            data: Some(RawExtension(data.clone())),
            revision: number,
        };
        match self.api.create(&PostParams::default(), &revision).await {
            Ok(_) => Ok(name),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(name),
            Err(source) => Err(RevisionError::Host { name, source: Box::new(source) }),
        }
    }

    /// What a revision holds; `None` where it is gone.
    ///
    /// # Errors
    /// When the host refuses.
    pub async fn get(&self, name: &str) -> Result<Option<Value>, RevisionError> {
        let host = |source| RevisionError::Host { name: name.to_owned(), source: Box::new(source) };
        let found = self.api.get_opt(name).await.map_err(host)?;
        Ok(found.and_then(|revision| revision.data).map(|data| data.0))
    }

    /// Removes the oldest revisions beyond the last ten, but none of `used`.
    ///
    /// # Errors
    /// When the host refuses.
    pub async fn prune(&self, used: &BTreeSet<String>) -> Result<(), RevisionError> {
        let host = |source| RevisionError::Host { name: self.owner.to_string(), source: Box::new(source) };
        let params = ListParams::default().labels(&format!("{LABEL_OWNER}={}", owner_label(&self.owner)));
        let list = self.api.list(&params).await.map_err(host)?;
        for name in superfluous(list.items, used) {
            match self.api.delete(&name, &DeleteParams::default()).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => return Err(host(error)),
            }
        }
        Ok(())
    }

    /// Removes every revision: the federated object is gone.
    ///
    /// # Errors
    /// When the host refuses.
    pub async fn remove_all(&self) -> Result<(), RevisionError> {
        let host = |source| RevisionError::Host { name: self.owner.to_string(), source: Box::new(source) };
        let params = ListParams::default().labels(&format!("{LABEL_OWNER}={}", owner_label(&self.owner)));
        for revision in self.api.list(&params).await.map_err(host)?.items {
            let name = revision.metadata.name.unwrap_or_default();
            match self.api.delete(&name, &DeleteParams::default()).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => return Err(host(error)),
            }
        }
        Ok(())
    }
}

/// Pure: the unused revisions beyond the newest [`KEPT`].
fn superfluous(mut revisions: Vec<ControllerRevision>, used: &BTreeSet<String>) -> Vec<String> {
    revisions.sort_by_key(|revision| std::cmp::Reverse(revision.revision));
    let names = revisions.into_iter().filter_map(|revision| revision.metadata.name);
    names.filter(|name| !used.contains(name)).skip(KEPT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn owner() -> Owner {
        Owner { kind: "FederatedIstio".into(), namespace: "".into(), name: "mesh".into() }
    }

    #[test]
    fn equal_content_has_an_equal_name() {
        let name = revision_name(&owner(), &json!({"template": {"version": "1.28.2"}}));
        assert!(name.starts_with("federatedistio-mesh-"), "{name}");
        assert_eq!(name, revision_name(&owner(), &json!({"template": {"version": "1.28.2"}})));
        assert_ne!(name, revision_name(&owner(), &json!({"template": {"version": "1.29.1"}})));
    }

    #[test]
    fn long_names_stay_names() {
        let owner = Owner { name: "a".repeat(253).into(), ..owner() };
        assert!(revision_name(&owner, &json!({})).len() <= LONGEST_NAME);
    }

    #[test]
    fn used_and_recent_revisions_are_kept() {
        let revisions = (0..20)
            .map(|number| ControllerRevision {
                metadata: ObjectMeta { name: Some(format!("r{number}")), ..ObjectMeta::default() },
                data: None,
                revision: number,
            })
            .collect();
        let gone = superfluous(revisions, &BTreeSet::from(["r0".to_owned()]));
        assert_eq!(gone.len(), 9);
        assert!(!gone.contains(&"r0".to_owned()) && !gone.contains(&"r19".to_owned()));
    }
}
