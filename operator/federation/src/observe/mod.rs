//! Observation: what is seen of the copies in the members, from metadata alone.

mod fields;
mod watch;

pub use fields::OwnedFields;
pub(crate) use watch::watch_copies;

use crate::render::{Owner, parse_hash};
use fedistio_crds::{ANNOTATION_HASH, ANNOTATION_OWNER, LABEL_MANAGED};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// What was seen of one copy.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// UID of the object.
    pub uid: String,
    /// Version of the object in etcd; larger is newer. Zero where the server gives no number.
    pub resource_version: u64,
    /// The hash in our annotation.
    pub hash: Option<u64>,
    /// The fields that we own.
    pub owned: OwnedFields,
    /// Is it being deleted?
    pub deleting: bool,
    /// Label `istio.io/rev` and the like: the object's labels are few, and control planes are told apart by them.
    pub labels: std::collections::BTreeMap<String, String>,
}

impl Observation {
    /// Reads an object's metadata. `None` without our label and a readable owner: then it is not ours.
    pub fn from_metadata(metadata: ObjectMeta) -> Option<(Owner, Self)> {
        let labels = metadata.labels.unwrap_or_default();
        if labels.get(LABEL_MANAGED).map(String::as_str) != Some("true") {
            return None;
        }
        let annotations = metadata.annotations.unwrap_or_default();
        let owner = Owner::parse(annotations.get(ANNOTATION_OWNER)?)?;
        let observation = Self {
            uid: metadata.uid.unwrap_or_default(),
            resource_version: metadata.resource_version.and_then(|version| version.parse().ok()).unwrap_or(0),
            hash: annotations.get(ANNOTATION_HASH).and_then(|text| parse_hash(text)),
            owned: OwnedFields::from_managed(metadata.managed_fields.unwrap_or_default()),
            deleting: metadata.deletion_timestamp.is_some(),
            labels,
        };
        Some((owner, observation))
    }
}
