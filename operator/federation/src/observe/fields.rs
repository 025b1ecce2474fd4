//! Which fields our field manager owns, read from `metadata.managedFields`. Pure.
//!
//! The format is `FieldsV1` (KEP-555, structured-merge-diff): an object whose keys are `f:<field>`, `k:<keys as JSON>` (an
//! element of a list that is keyed), `v:<value as JSON>` (an element of a set), `i:<index>` and `.` (the node itself).
//! A node without children is a leaf: a scalar, or a list or object that is replaced as a whole.

use crate::render::{Manifest, retain::Place};
use fedistio_crds::FIELD_MANAGER;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use serde_json::{Map, Value};
use std::{
    collections::BTreeSet,
    hash::{DefaultHasher, Hash, Hasher},
};

/// The fields of one object that our field manager owns by server-side apply.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OwnedFields {
    tree: Map<String, Value>,
}

impl OwnedFields {
    /// Takes our entries out of `metadata.managedFields`.
    ///
    /// Only entries of the operation `Apply` on the object itself count; where the object was applied in several API versions,
    /// their fields are taken together.
    pub fn from_managed(entries: Vec<ManagedFieldsEntry>) -> Self {
        let mut tree = Map::new();
        for entry in entries {
            let ours = entry.manager.as_deref() == Some(FIELD_MANAGER)
                && entry.operation.as_deref() == Some("Apply")
                && entry.subresource.as_deref().unwrap_or("").is_empty();
            if let (true, Some(Value::Object(fields))) = (ours, entry.fields_v1.map(|fields| fields.0)) {
                if tree.is_empty() {
                    tree = fields;
                } else {
                    merge(&mut tree, fields);
                }
            }
        }
        Self { tree }
    }

    /// Do we own nothing at all?
    pub fn is_empty(&self) -> bool {
        self.tree.is_empty()
    }

    /// A number that changes when the owned fields do. Valid within one run of the program.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        hash_tree(&self.tree, &mut hasher);
        hasher.finish()
    }

    /// The first desired field of `manifest` that we do not own, as a JSON pointer; `None` when all are ours.
    ///
    /// Retained fields are not looked for, nor is what identifies the object.
    pub fn first_missing(&self, manifest: &Manifest) -> Option<String> {
        let retained: BTreeSet<Vec<Place>> =
            manifest.retain.iter().flat_map(|path| path.places(&manifest.object)).collect();
        let mut search = Search { retained: &retained, place: Vec::new() };
        search.object(&manifest.object, &self.tree).then(|| search.pointer())
    }

    /// Do we own the field at `place` of `object`?
    pub(crate) fn owns(&self, object: &Value, place: &[Place]) -> bool {
        let (mut at, mut value) = (&self.tree, object);
        for step in place {
            if std::ptr::eq(at, &raw const self.tree) && self.tree.is_empty() {
                return false;
            }
            let child = match step {
                Place::Key(key) => {
                    let Some(next) = value.get(key.as_str()) else { return false };
                    value = next;
                    at.get(&format!("f:{key}"))
                }
                Place::Index(index) => {
                    let Some(next) = value.get(*index) else { return false };
                    value = next;
                    element(at, value)
                }
            };
            match child.and_then(Value::as_object) {
                None => return false,
                Some(leaf) if leaf.is_empty() => return true,
                Some(node) => at = node,
            }
        }
        true
    }
}

fn merge(into: &mut Map<String, Value>, from: Map<String, Value>) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Object(old)), Value::Object(new)) if !old.is_empty() && !new.is_empty() => {
                merge(old, new);
            }
            // A leaf covers everything below it.
            (Some(Value::Object(old)), Value::Object(new)) if new.is_empty() => old.clear(),
            (Some(_), _) => {}
            (None, value) => {
                into.insert(key, value);
            }
        }
    }
}

fn hash_tree(tree: &Map<String, Value>, hasher: &mut DefaultHasher) {
    tree.len().hash(hasher);
    for (key, value) in tree {
        key.hash(hasher);
        if let Value::Object(child) = value {
            hash_tree(child, hasher);
        }
    }
}

/// A walk over desired value and owned fields side by side. Its methods return true where something is missing,
/// and leave `place` pointing at it.
struct Search<'a> {
    retained: &'a BTreeSet<Vec<Place>>,
    place: Vec<Place>,
}

impl Search<'_> {
    fn object(&mut self, desired: &Value, owned: &Map<String, Value>) -> bool {
        let Value::Object(fields) = desired else { return false };
        for (key, value) in fields {
            if self.is_identity(key) {
                continue;
            }
            self.place.push(Place::Key(key.clone()));
            let missing = match owned.get(&format!("f:{key}")) {
                Some(Value::Object(node)) => self.node(value, node),
                _ => self.is_missing(value),
            };
            if missing {
                return true;
            }
            self.place.pop();
        }
        false
    }

    fn list(&mut self, elements: &[Value], owned: &Map<String, Value>) -> bool {
        for (index, value) in elements.iter().enumerate() {
            self.place.push(Place::Index(index));
            let missing = match element(owned, value) {
                Some(Value::Object(node)) => self.node(value, node),
                _ => self.is_missing(value),
            };
            if missing {
                return true;
            }
            self.place.pop();
        }
        false
    }

    fn node(&mut self, value: &Value, owned: &Map<String, Value>) -> bool {
        if owned.is_empty() {
            return false;
        }
        match value {
            Value::Object(_) => self.object(value, owned),
            Value::Array(elements) => self.list(elements, owned),
            _ => false,
        }
    }

    /// A field that is not owned is missing, unless it is retained, or holds nothing but retained fields.
    fn is_missing(&mut self, value: &Value) -> bool {
        if self.retained.contains(&self.place) {
            return false;
        }
        let Value::Object(fields) = value else { return true };
        if fields.is_empty() || !self.retained.iter().any(|retained| retained.starts_with(&self.place)) {
            return true;
        }
        self.object(value, &Map::new())
    }

    fn is_identity(&self, key: &str) -> bool {
        match self.place.as_slice() {
            [] => matches!(key, "apiVersion" | "kind"),
            [Place::Key(parent)] => parent == "metadata" && matches!(key, "name" | "namespace"),
            _ => false,
        }
    }

    fn pointer(&self) -> String {
        let mut pointer = String::new();
        for step in &self.place {
            pointer.push('/');
            match step {
                Place::Key(key) => pointer.push_str(&key.replace('~', "~0").replace('/', "~1")),
                Place::Index(index) => pointer.push_str(&index.to_string()),
            }
        }
        pointer
    }
}

/// The owned node of a list's element. A key that the element lacks is taken as defaulted by the server
/// (`protocol: TCP` of a port), so it does not count against a match.
fn element<'a>(owned: &'a Map<String, Value>, value: &Value) -> Option<&'a Value> {
    if let Value::Object(fields) = value {
        return owned.iter().find_map(|(key, node)| {
            let keys: Map<String, Value> = serde_json::from_str(key.strip_prefix("k:")?).ok()?;
            let fits = keys.iter().all(|(name, wanted)| fields.get(name).is_none_or(|found| found == wanted));
            let shares = keys.keys().any(|name| fields.contains_key(name));
            (fits && shares).then_some(node)
        });
    }
    owned.get(&format!("v:{value}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::{ObjectKey, Owner, RetainPath};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::FieldsV1;
    use serde_json::json;
    use std::sync::Arc;

    fn manifest(kind: &str, template: Value, retain: &[&str]) -> Manifest {
        let config = fedistio_crds::builtin_types()
            .iter()
            .map(|builtin| builtin.config().spec)
            .find(|config| config.target.kind == kind)
            .unwrap();
        let key = ObjectKey { resource: Arc::new(config.target), namespace: "n".into(), name: "x".into() };
        let owner = Owner { kind: "F".into(), namespace: "n".into(), name: "x".into() };
        let retain: Vec<_> = retain.iter().map(|path| RetainPath::parse(path).unwrap()).collect();
        Manifest::new(key, template, &owner, retain.into()).unwrap()
    }

    fn owned(mut spec: Value) -> OwnedFields {
        spec["f:metadata"] = json!({
            "f:labels": {"f:fedistio.io/managed": {}},
            "f:annotations": {"f:fedistio.io/hash": {}, "f:fedistio.io/owner": {}},
        });
        OwnedFields::from_managed(vec![ManagedFieldsEntry {
            manager: Some(FIELD_MANAGER.to_owned()),
            operation: Some("Apply".to_owned()),
            fields_v1: Some(FieldsV1(spec)),
            ..ManagedFieldsEntry::default()
        }])
    }

    #[test]
    fn atomic_lists_and_leaves_cover_what_is_below() {
        let manifest =
            manifest("VirtualService", json!({"spec": {"hosts": ["a"], "http": [{"route": []}]}}), &[]);
        assert_eq!(owned(json!({"f:spec": {"f:hosts": {}, "f:http": {}}})).first_missing(&manifest), None);
        assert_eq!(
            owned(json!({"f:spec": {"f:hosts": {}}})).first_missing(&manifest).as_deref(),
            Some("/spec/http")
        );
        assert_eq!(owned(json!({"f:spec": {}})).first_missing(&manifest), None);
        assert_eq!(OwnedFields::default().first_missing(&manifest).as_deref(), Some("/metadata"));
    }

    #[test]
    fn keyed_lists_match_with_defaulted_keys() {
        let manifest = manifest(
            "Service",
            json!({"spec": {"ports": [{"port": 80, "name": "http"}, {"port": 81}]}}),
            &[],
        );
        let ports = |second: Value| {
            owned(json!({"f:spec": {"f:ports": {
                ".": {},
                r#"k:{"port":80,"protocol":"TCP"}"#: {".": {}, "f:port": {}, "f:name": {}},
                r#"k:{"port":81,"protocol":"TCP"}"#: second,
            }}}))
        };
        assert_eq!(ports(json!({".": {}, "f:port": {}})).first_missing(&manifest), None);
        assert_eq!(ports(json!({".": {}})).first_missing(&manifest).as_deref(), Some("/spec/ports/1/port"));
    }

    #[test]
    fn sets_match_by_value() {
        let manifest = manifest("Namespace", json!({"spec": {"finalizers": ["a", "b"]}}), &[]);
        let with = |values: Value| owned(json!({"f:spec": {"f:finalizers": values}}));
        assert_eq!(with(json!({r#"v:"a""#: {}, r#"v:"b""#: {}})).first_missing(&manifest), None);
        assert_eq!(
            with(json!({r#"v:"a""#: {}})).first_missing(&manifest).as_deref(),
            Some("/spec/finalizers/1")
        );
    }

    #[test]
    fn a_retained_field_is_not_missed_when_others_took_it() {
        let template = json!({"spec": {"clusterIP": "10.0.0.7", "selector": {"app": "x"}}});
        let manifest = manifest("Service", template, &["/spec/clusterIP"]);
        assert_eq!(owned(json!({"f:spec": {"f:selector": {}}})).first_missing(&manifest), None);
        assert_eq!(
            owned(json!({"f:spec": {"f:clusterIP": {}}})).first_missing(&manifest).as_deref(),
            Some("/spec/selector")
        );
        assert!(
            owned(json!({"f:spec": {"f:clusterIP": {}}}))
                .owns(&manifest.object, &[Place::Key("spec".to_owned()), Place::Key("clusterIP".to_owned())])
        );
    }

    #[test]
    fn only_our_applies_to_the_object_itself_count() {
        let entry =
            |manager: &str, operation: &str, subresource: Option<&str>, fields: Value| ManagedFieldsEntry {
                manager: Some(manager.to_owned()),
                operation: Some(operation.to_owned()),
                subresource: subresource.map(str::to_owned),
                fields_v1: Some(FieldsV1(fields)),
                ..ManagedFieldsEntry::default()
            };
        let fields = OwnedFields::from_managed(vec![
            entry("kubectl", "Apply", None, json!({"f:a": {}})),
            entry(FIELD_MANAGER, "Update", None, json!({"f:b": {}})),
            entry(FIELD_MANAGER, "Apply", Some("status"), json!({"f:c": {}})),
            entry(FIELD_MANAGER, "Apply", None, json!({"f:d": {"f:x": {}}})),
            entry(FIELD_MANAGER, "Apply", None, json!({"f:d": {"f:y": {}}, "f:e": {}})),
        ]);
        assert_eq!(Value::Object(fields.tree), json!({"f:d": {"f:x": {}, "f:y": {}}, "f:e": {}}));
    }
}
