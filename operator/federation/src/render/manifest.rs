//! The desired state of one object in one cluster.

use crate::{hash::hash, render::retain::RetainPath};
use fedistio_crds::{ANNOTATION_HASH, ANNOTATION_OWNER, LABEL_MANAGED, ResourceType};
use serde_json::{Map, Value};
use std::{fmt, sync::Arc};

/// Which object, in some cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// Type of the object; shared by all keys of that type.
    pub resource: Arc<ResourceType>,
    /// Namespace; empty for an object of the cluster.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.resource.kind)?;
        if self.namespace.is_empty() {
            write!(formatter, " {}", self.name)
        } else {
            write!(formatter, " {}/{}", self.namespace, self.name)
        }
    }
}

/// Which object on the host a copy belongs to: the value of the annotation `fedistio.io/owner`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner {
    /// Kind on the host, for example `FederatedVirtualService`.
    pub kind: Arc<str>,
    /// Namespace on the host; empty for a cluster-scoped kind.
    pub namespace: Arc<str>,
    /// Name on the host.
    pub name: Arc<str>,
}

impl fmt::Display for Owner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}/{}", self.kind, self.namespace, self.name)
    }
}

impl Owner {
    /// Reads the annotation's value; nothing where it is not ours.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '/');
        let (kind, namespace, name) = (parts.next()?, parts.next()?, parts.next()?);
        (!kind.is_empty() && !name.is_empty()).then(|| Self {
            kind: kind.into(),
            namespace: namespace.into(),
            name: name.into(),
        })
    }
}

/// The complete manifest of one object for one cluster: what is sent, and the hash by which a copy is recognised.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// Which object.
    pub key: ObjectKey,
    /// What is sent: identity, our label and annotations, and the desired fields.
    pub object: Value,
    /// Hash of the desired fields; equal manifests have equal hashes in every version of the operator.
    pub hash: u64,
    /// Fields that are left alone once somebody else owns them.
    pub retain: Arc<[RetainPath]>,
}

/// Why a template can't become a manifest.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ManifestError {
    /// The template is not a JSON object.
    #[error("the template must be an object with the fields of a {kind}, without apiVersion, kind and name")]
    NotAnObject {
        /// Kind of the target.
        kind: String,
    },
    /// The template names another type than its federated type's target.
    #[error(
        "the template is a {found}, but this type federates {expected}; remove apiVersion and kind from the template, or use the federated type of {found}"
    )]
    WrongKind {
        /// What the template says.
        found: String,
        /// What the type config says.
        expected: String,
    },
    /// The template names another object.
    #[error(
        "the template says metadata.{field}: {found}, but the copy is named as the federated object: {expected}; remove the field"
    )]
    WrongName {
        /// `name` or `namespace`.
        field: &'static str,
        /// What the template says.
        found: String,
        /// What the federated object is called.
        expected: String,
    },
    /// A part of the metadata has the wrong type.
    #[error("the template's metadata.{field} must be an object of strings")]
    Metadata {
        /// `labels`, `annotations`, or empty for metadata itself.
        field: &'static str,
    },
    /// A Secret's `stringData` or `data` is malformed.
    #[error("the template's {field} must be an object of strings")]
    SecretData {
        /// `data` or `stringData`.
        field: &'static str,
    },
    /// A cluster-wide object with a namespace, or a namespaced one without.
    #[error("{0} needs a namespace")]
    NoNamespace(String),
}

impl Manifest {
    /// Makes the manifest of `key` from `template`, which may lack apiVersion, kind, name and namespace.
    ///
    /// Adds our label, the owner and the hash. Drops what only servers write (status, managedFields, uid …) and null fields,
    /// which server-side apply would take as values to own.
    ///
    /// # Errors
    /// When the template is of another type or name, or its metadata is malformed.
    pub fn new(
        key: ObjectKey,
        template: Value,
        owner: &Owner,
        retain: Arc<[RetainPath]>,
    ) -> Result<Self, ManifestError> {
        let resource = Arc::clone(&key.resource);
        let Value::Object(mut object) = template else {
            return Err(ManifestError::NotAnObject { kind: resource.kind.clone() });
        };
        check_type(&mut object, &resource)?;
        object.remove("status");
        let mut metadata = match object.remove("metadata") {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(metadata)) => metadata,
            Some(_) => return Err(ManifestError::Metadata { field: "" }),
        };
        if resource.namespaced() && key.namespace.is_empty() {
            return Err(ManifestError::NoNamespace(key.to_string()));
        }
        check_name(&metadata, "name", &key.name)?;
        check_name(&metadata, "namespace", &key.namespace)?;
        metadata.retain(|field, _| matches!(field.as_str(), "labels" | "annotations"));
        let labels = strings(&mut metadata, "labels")?;
        let annotations = strings(&mut metadata, "annotations")?;
        let mut desired = Value::Object(object);
        drop_nulls(&mut desired);
        let Value::Object(mut object) = desired else {
            return Err(ManifestError::NotAnObject { kind: resource.kind.clone() });
        };

        if resource.group.is_empty() && resource.kind == "Secret" {
            encode_string_data(&mut object)?;
        }

        let mut metadata = Map::new();
        metadata.insert("name".to_owned(), Value::from(&*key.name));
        if resource.namespaced() {
            metadata.insert("namespace".to_owned(), Value::from(&*key.namespace));
        }
        let mut labels = labels;
        labels.insert(LABEL_MANAGED.to_owned(), Value::from("true"));
        metadata.insert("labels".to_owned(), Value::Object(labels));
        let mut annotations = annotations;
        annotations.remove(ANNOTATION_HASH);
        annotations.insert(ANNOTATION_OWNER.to_owned(), Value::from(owner.to_string()));
        metadata.insert("annotations".to_owned(), Value::Object(annotations));
        object.insert("apiVersion".to_owned(), Value::from(resource.api_version()));
        object.insert("kind".to_owned(), Value::from(resource.kind.as_str()));
        object.insert("metadata".to_owned(), Value::Object(metadata));

        let mut object = Value::Object(object);
        let hash = hash(&object);
        if let Some(annotations) = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut)
        {
            annotations.insert(ANNOTATION_HASH.to_owned(), Value::from(format_hash(hash)));
        }
        Ok(Self { key, object, hash, retain })
    }
}

/// The hash as it stands in the annotation.
pub fn format_hash(hash: u64) -> String {
    format!("{hash:016x}")
}

/// Reads the annotation's value.
pub fn parse_hash(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

fn check_type(object: &mut Map<String, Value>, resource: &ResourceType) -> Result<(), ManifestError> {
    let api_version = object.remove("apiVersion");
    let kind = object.remove("kind");
    let fits = |found: &Option<Value>, expected: &str| match found {
        None | Some(Value::Null) => true,
        Some(found) => found.as_str() == Some(expected),
    };
    if fits(&api_version, &resource.api_version()) && fits(&kind, &resource.kind) {
        return Ok(());
    }
    let text = |value: Option<Value>| match value {
        Some(Value::String(text)) => text,
        Some(other) => other.to_string(),
        None => String::new(),
    };
    Err(ManifestError::WrongKind {
        found: format!("{} {}", text(api_version), text(kind)).trim().to_owned(),
        expected: format!("{} {}", resource.api_version(), resource.kind),
    })
}

fn check_name(
    metadata: &Map<String, Value>,
    field: &'static str,
    expected: &str,
) -> Result<(), ManifestError> {
    match metadata.get(field) {
        None | Some(Value::Null) => Ok(()),
        Some(found) if found.as_str() == Some(expected) => Ok(()),
        Some(found) => Err(ManifestError::WrongName {
            field,
            found: found.as_str().map_or_else(|| found.to_string(), str::to_owned),
            expected: expected.to_owned(),
        }),
    }
}

fn strings(
    metadata: &mut Map<String, Value>,
    field: &'static str,
) -> Result<Map<String, Value>, ManifestError> {
    match metadata.remove(field) {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(map)) if map.values().all(Value::is_string) => Ok(map),
        Some(_) => Err(ManifestError::Metadata { field }),
    }
}

/// Turns a Secret's write-only `stringData` into `data`, as the API server does: it records no owner for `stringData`, so that a
/// copy could never be seen in sync.
fn encode_string_data(object: &mut Map<String, Value>) -> Result<(), ManifestError> {
    let texts = match object.remove("stringData") {
        None => return Ok(()),
        Some(Value::Object(texts)) => texts,
        Some(_) => return Err(ManifestError::SecretData { field: "stringData" }),
    };
    let data = object.entry("data").or_insert_with(|| Value::Object(Map::new()));
    let Value::Object(data) = data else { return Err(ManifestError::SecretData { field: "data" }) };
    for (key, text) in texts {
        let Value::String(text) = text else { return Err(ManifestError::SecretData { field: "stringData" }) };
        let encoded = serde_json::to_value(k8s_openapi::ByteString(text.into_bytes()));
        data.insert(key, encoded.map_err(|_| ManifestError::SecretData { field: "stringData" })?);
    }
    Ok(())
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, child| !child.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn key() -> ObjectKey {
        let config = fedistio_crds::builtin_types()[0].config();
        ObjectKey {
            resource: Arc::new(config.spec.target),
            namespace: "bookinfo".into(),
            name: "reviews".into(),
        }
    }

    fn owner() -> Owner {
        Owner { kind: "FederatedVirtualService".into(), namespace: "bookinfo".into(), name: "reviews".into() }
    }

    fn manifest(template: Value) -> Result<Manifest, ManifestError> {
        Manifest::new(key(), template, &owner(), Arc::from([]))
    }

    #[test]
    fn identity_label_owner_and_hash_are_added() {
        let manifest =
            manifest(json!({"metadata": {"labels": {"app": "reviews"}}, "spec": {"hosts": ["reviews"]}}))
                .unwrap();
        let object = &manifest.object;
        assert_eq!(object["apiVersion"], "networking.istio.io/v1");
        assert_eq!(object["kind"], "VirtualService");
        assert_eq!(object["metadata"]["name"], "reviews");
        assert_eq!(object["metadata"]["namespace"], "bookinfo");
        assert_eq!(object["metadata"]["labels"], json!({"app": "reviews", "fedistio.io/managed": "true"}));
        assert_eq!(object["metadata"]["annotations"][ANNOTATION_HASH], format_hash(manifest.hash));
        let text = object["metadata"]["annotations"][ANNOTATION_OWNER].as_str().unwrap();
        assert_eq!(Owner::parse(text), Some(owner()));
    }

    #[test]
    fn what_servers_write_and_nulls_are_dropped() {
        let with = json!({"metadata": {"uid": "1", "managedFields": [], "creationTimestamp": null},
            "spec": {"hosts": ["reviews"], "gateways": null}, "status": {"a": 1}});
        let without = json!({"spec": {"hosts": ["reviews"]}});
        assert_eq!(manifest(with).unwrap().hash, manifest(without).unwrap().hash);
    }

    #[test]
    fn the_hash_follows_content_and_owner_only() {
        let one = manifest(json!({"spec": {"hosts": ["a"], "http": []}})).unwrap();
        let same = manifest(json!({"spec": {"http": [], "hosts": ["a"]}})).unwrap();
        let other = manifest(json!({"spec": {"hosts": ["b"], "http": []}})).unwrap();
        assert_eq!(one.hash, same.hash);
        assert_ne!(one.hash, other.hash);
        // Pinned: a change of the hash would rewrite every copy of every user on upgrade of the operator.
        assert_eq!(format_hash(one.hash), "c340219d70bcc0c0");
    }

    #[test]
    fn string_data_becomes_data() {
        let config = fedistio_crds::builtin_types()
            .iter()
            .find(|builtin| builtin.config().spec.target.kind == "Secret");
        let key = ObjectKey { resource: Arc::new(config.unwrap().config().spec.target), ..key() };
        let make = |template| Manifest::new(key.clone(), template, &owner(), Arc::from([]));
        let secret = make(json!({"stringData": {"a": "x"}, "data": {"a": "b2xk", "b": "eQ=="}})).unwrap();
        assert_eq!(secret.object["data"], json!({"a": "eA==", "b": "eQ=="}));
        assert!(secret.object.get("stringData").is_none());
        assert!(make(json!({"stringData": {"a": 1}})).is_err());
        assert!(make(json!({"stringData": {"a": "x"}, "data": []})).is_err());
    }

    #[test]
    fn another_type_or_name_is_refused() {
        let wrong = manifest(json!({"apiVersion": "v1", "kind": "ConfigMap"})).unwrap_err().to_string();
        assert!(
            wrong.contains("v1 ConfigMap") && wrong.contains("networking.istio.io/v1 VirtualService"),
            "{wrong}"
        );
        assert!(matches!(
            manifest(json!({"metadata": {"name": "x"}})),
            Err(ManifestError::WrongName { field: "name", .. })
        ));
        assert!(matches!(manifest(json!([])), Err(ManifestError::NotAnObject { .. })));
        assert!(matches!(manifest(json!({"metadata": []})), Err(ManifestError::Metadata { .. })));
        assert!(matches!(
            manifest(json!({"metadata": {"labels": {"a": 1}}})),
            Err(ManifestError::Metadata { field: "labels" })
        ));
        assert!(manifest(json!({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": "reviews"}})).is_ok());
    }
}
