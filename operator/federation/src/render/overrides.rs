//! Applies the overrides of one cluster to a template. Pure.

use crate::cluster::ClusterView;
use fedistio_crds::{ClusterOverride, Override, PatchOperation};
use json_patch::{
    AddOperation, Patch, PatchOperation as Operation, RemoveOperation, ReplaceOperation, jsonptr::PointerBuf,
};
use serde_json::Value;

/// Why an override can't be applied. The rule is counted from 0, as in the object.
#[derive(Debug, thiserror::Error)]
pub enum OverrideError {
    /// The path is no JSON pointer.
    #[error(
        "overrides[{rule}].clusterOverrides[{index}]: {path:?} is not a JSON pointer; write for example /spec/hosts/0"
    )]
    Path {
        /// Index of the override.
        rule: usize,
        /// Index of the operation.
        index: usize,
        /// The path as given.
        path: String,
        /// What is wrong with it.
        source: Box<json_patch::jsonptr::Report<json_patch::jsonptr::ParseError>>,
    },
    /// The path belongs to the object's identity.
    #[error(
        "overrides[{rule}].clusterOverrides[{index}]: {path} can't be overridden; it is part of the object's identity"
    )]
    Forbidden {
        /// Index of the override.
        rule: usize,
        /// Index of the operation.
        index: usize,
        /// The path as given.
        path: String,
    },
    /// `add` and `replace` came without a value.
    #[error("overrides[{rule}].clusterOverrides[{index}]: {op} of {path} needs a value")]
    NoValue {
        /// Index of the override.
        rule: usize,
        /// Index of the operation.
        index: usize,
        /// The operation.
        op: &'static str,
        /// The path as given.
        path: String,
    },
    /// The operation failed on the template, mostly because the path is not there.
    #[error(
        "overrides[{rule}].clusterOverrides[{index}]: {op} of {path}: {source}; check that the template has that path"
    )]
    Apply {
        /// Index of the override.
        rule: usize,
        /// Index of the operation.
        index: usize,
        /// The operation.
        op: &'static str,
        /// The path as given.
        path: String,
        /// What json-patch says.
        source: Box<json_patch::PatchErrorKind>,
    },
}

/// Paths that would make the copy another object, or break its bookkeeping.
const FORBIDDEN: [&str; 5] =
    ["/apiVersion", "/kind", "/metadata/name", "/metadata/namespace", "/metadata/generateName"];

/// Applies to `template` every override whose cluster name or selector fits `cluster`, in order.
///
/// Returns whether any override applied. On an error the template is left half changed: drop it.
///
/// # Errors
/// The first operation that can't be applied, with the place where it stands.
pub fn apply_overrides(
    template: &mut Value,
    overrides: &[Override],
    cluster: &ClusterView,
) -> Result<bool, OverrideError> {
    let mut applied = false;
    for (rule, one) in overrides.iter().enumerate().filter(|(_, one)| selects(one, cluster)) {
        for (index, operation) in one.cluster_overrides.iter().enumerate() {
            apply_one(template, operation, rule, index)?;
            applied = true;
        }
    }
    Ok(applied)
}

fn selects(one: &Override, cluster: &ClusterView) -> bool {
    match (&one.cluster_name, &one.cluster_selector) {
        (Some(name), _) => *name == cluster.name,
        (None, Some(selector)) => selector.matches(&cluster.labels),
        (None, None) => false,
    }
}

fn apply_one(
    template: &mut Value,
    operation: &ClusterOverride,
    rule: usize,
    index: usize,
) -> Result<(), OverrideError> {
    let at = || operation.path.clone();
    let op = match operation.op {
        PatchOperation::Add => "add",
        PatchOperation::Remove => "remove",
        PatchOperation::Replace => "replace",
    };
    let pointer = PointerBuf::parse(operation.path.as_str()).map_err(|error| OverrideError::Path {
        rule,
        index,
        path: at(),
        source: Box::new(error),
    })?;
    let forbidden = FORBIDDEN.iter().any(|forbidden| operation.path == *forbidden);
    if forbidden || operation.path == "/metadata" || pointer.is_root() {
        return Err(OverrideError::Forbidden { rule, index, path: at() });
    }
    let value =
        || operation.value.clone().ok_or_else(|| OverrideError::NoValue { rule, index, op, path: at() });
    let patch = Patch(vec![match operation.op {
        PatchOperation::Add => Operation::Add(AddOperation { path: pointer, value: value()? }),
        PatchOperation::Remove => Operation::Remove(RemoveOperation { path: pointer }),
        PatchOperation::Replace => Operation::Replace(ReplaceOperation { path: pointer, value: value()? }),
    }]);
    json_patch::patch(template, &patch).map_err(|error| OverrideError::Apply {
        rule,
        index,
        op,
        path: at(),
        source: Box::new(error.kind),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use fedistio_crds::ClusterSelector;
    use serde_json::json;

    fn cluster(name: &str) -> ClusterView {
        ClusterView {
            name: name.to_owned(),
            labels: [("env".to_owned(), "prod".to_owned())].into(),
            ..ClusterView::default()
        }
    }

    fn rule(name: Option<&str>, env: Option<&str>, operations: Value) -> Override {
        Override {
            cluster_name: name.map(str::to_owned),
            cluster_selector: env.map(|env| ClusterSelector {
                match_labels: [("env".to_owned(), env.to_owned())].into(),
                ..ClusterSelector::default()
            }),
            cluster_overrides: serde_json::from_value(operations).unwrap(),
        }
    }

    #[test]
    fn rules_apply_in_order_to_the_clusters_that_they_select() {
        let mut template = json!({"spec": {"hosts": ["reviews"]}});
        let overrides = [
            rule(Some("a"), None, json!([{"path": "/spec/hosts/0", "value": "a.example"}])),
            rule(
                None,
                Some("prod"),
                json!([{"op": "add", "path": "/spec/hosts/-", "value": "prod.example"}]),
            ),
            rule(Some("b"), None, json!([{"op": "remove", "path": "/spec/hosts"}])),
        ];
        assert!(apply_overrides(&mut template, &overrides, &cluster("a")).unwrap());
        assert_eq!(template, json!({"spec": {"hosts": ["a.example", "prod.example"]}}));
        let mut other = json!({"spec": {"hosts": ["reviews"]}});
        let view = ClusterView { name: "z".to_owned(), ..ClusterView::default() };
        assert!(!apply_overrides(&mut other, &overrides, &view).unwrap());
    }

    #[test]
    fn a_missing_path_names_rule_operation_and_path() {
        let mut template = json!({"spec": {}});
        let overrides = [rule(Some("a"), None, json!([{"op": "replace", "path": "/spec/none", "value": 1}]))];
        let message = apply_overrides(&mut template, &overrides, &cluster("a")).unwrap_err().to_string();
        assert!(message.starts_with("overrides[0].clusterOverrides[0]: replace of /spec/none"), "{message}");
    }

    #[test]
    fn identity_and_nonsense_are_refused() {
        for (path, part) in [
            ("/metadata/name", "identity"),
            ("/kind", "identity"),
            ("/metadata", "identity"),
            ("", "identity"),
            ("spec/hosts", "JSON pointer"),
            ("/spec/~9", "JSON pointer"),
        ] {
            let mut template = json!({"spec": {}});
            let overrides = [rule(Some("a"), None, json!([{"path": path, "value": 1}]))];
            let message = apply_overrides(&mut template, &overrides, &cluster("a")).unwrap_err().to_string();
            assert!(message.contains(part), "{path}: {message}");
        }
        let mut template = json!({"spec": {"a": 1}});
        let overrides = [rule(Some("a"), None, json!([{"path": "/spec/a"}]))];
        let message = apply_overrides(&mut template, &overrides, &cluster("a")).unwrap_err().to_string();
        assert!(message.contains("needs a value"), "{message}");
    }
}
