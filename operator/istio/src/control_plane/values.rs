//! The values with which the charts of one cluster are rendered: the user's, and on top what the operator decides. Pure.

use fedistio_crds::IstioTemplate;
use fedistio_federation::cluster::ClusterView;
use serde_json::{Map, Value, json};

/// Values that can't be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ValuesError {
    /// A part that must be an object is something else.
    #[error("{path} must be an object, and is {found}; correct the template's values or the overrides")]
    NotAnObject {
        /// Path from the template.
        path: String,
        /// JSON type that was found.
        found: &'static str,
    },
    /// The user sets what the operator decides.
    #[error("values.{path} is {found}, but the operator sets it to {expected}; remove it from the values")]
    Reserved {
        /// Path within the values.
        path: &'static str,
        /// What the user gave.
        found: String,
        /// What it will be.
        expected: String,
    },
}

/// The values of the istiod chart for one revision. `tagged`: the revision tag points to this revision.
///
/// # Errors
/// When the user's values are no object where one is needed, or contradict what the operator sets.
pub fn istiod_values(
    template: &IstioTemplate,
    cluster: &ClusterView,
    mesh_id: &str,
    revision: &str,
    tagged: bool,
) -> Result<Value, ValuesError> {
    let mut values = user_values(template)?;
    force(&mut values, "revision", Value::from(revision))?;
    let tags = if tagged { json!([template.revision_tag]) } else { json!([]) };
    if values.contains_key("revisionTags") {
        return Err(ValuesError::Reserved {
            path: "revisionTags",
            found: values["revisionTags"].to_string(),
            expected: json!([template.revision_tag]).to_string(),
        });
    }
    values.insert("revisionTags".to_owned(), tags);
    if let Some(profile) = &template.profile {
        force(&mut values, "profile", Value::from(profile.as_str()))?;
    }
    set_global(&mut values, template, cluster, mesh_id)?;
    Ok(Value::Object(values))
}

/// The values of the base chart. `default_revision`: the revision that validates what no revision label claims; none yet: no webhook for that.
///
/// They hold nothing that tells clusters apart unless the user's do: so clusters share one rendering of the CRDs.
///
/// # Errors
/// As [`istiod_values`].
pub fn base_values(template: &IstioTemplate, default_revision: Option<&str>) -> Result<Value, ValuesError> {
    let mut user = user_values(template)?;
    let mut values = Map::new();
    for part in ["global", "base"] {
        if let Some(part_values) = user.remove(part) {
            values.insert(part.to_owned(), part_values);
        }
    }
    if let Some(profile) = &template.profile {
        values.insert("profile".to_owned(), Value::from(profile.as_str()));
    }
    values.insert("defaultRevision".to_owned(), Value::from(default_revision.unwrap_or_default()));
    let global = object(&mut values, "global", "values.global")?;
    force_global(global, "istioNamespace", "global.istioNamespace", &template.namespace)?;
    Ok(Value::Object(values))
}

fn user_values(template: &IstioTemplate) -> Result<Map<String, Value>, ValuesError> {
    match &template.values {
        Value::Object(values) => Ok(values.clone()),
        Value::Null => Ok(Map::new()),
        other => Err(ValuesError::NotAnObject { path: "values".to_owned(), found: json_type(other) }),
    }
}

fn set_global(
    values: &mut Map<String, Value>,
    template: &IstioTemplate,
    cluster: &ClusterView,
    mesh_id: &str,
) -> Result<(), ValuesError> {
    let global = object(values, "global", "values.global")?;
    force_global(global, "istioNamespace", "global.istioNamespace", &template.namespace)?;
    // A user may give a cluster another mesh or network of its own: `add` these values in an override.
    global.entry("meshID").or_insert_with(|| Value::from(mesh_id));
    if let Some(network) = &cluster.network {
        global.entry("network").or_insert_with(|| Value::from(network.as_str()));
    }
    let multi = object(global, "multiCluster", "values.global.multiCluster")?;
    force_global(multi, "clusterName", "global.multiCluster.clusterName", &cluster.name)
}

fn object<'a>(
    parent: &'a mut Map<String, Value>,
    key: &str,
    path: &str,
) -> Result<&'a mut Map<String, Value>, ValuesError> {
    let child = parent.entry(key).or_insert_with(|| Value::Object(Map::new()));
    if child.is_null() {
        *child = Value::Object(Map::new());
    }
    let found = json_type(child);
    child.as_object_mut().ok_or_else(|| ValuesError::NotAnObject { path: path.to_owned(), found })
}

fn force(values: &mut Map<String, Value>, key: &'static str, value: Value) -> Result<(), ValuesError> {
    match values.get(key) {
        Some(found) if *found != value && !found.is_null() => {
            Err(ValuesError::Reserved { path: key, found: found.to_string(), expected: value.to_string() })
        }
        _ => {
            values.insert(key.to_owned(), value);
            Ok(())
        }
    }
}

fn force_global(
    parent: &mut Map<String, Value>,
    key: &str,
    path: &'static str,
    expected: &str,
) -> Result<(), ValuesError> {
    match parent.get(key) {
        Some(found) if !found.is_null() && found.as_str() != Some(expected) => Err(ValuesError::Reserved {
            path,
            found: found.to_string(),
            expected: Value::from(expected).to_string(),
        }),
        _ => {
            parent.insert(key.to_owned(), Value::from(expected));
            Ok(())
        }
    }
}

fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(values: Value) -> IstioTemplate {
        serde_json::from_value(json!({"version": "1.29.1", "values": values})).unwrap()
    }

    fn cluster() -> ClusterView {
        ClusterView { name: "a".to_owned(), network: Some("n1".to_owned()), ..ClusterView::default() }
    }

    #[test]
    fn identity_is_set_and_the_rest_is_the_users() {
        let template =
            template(json!({"pilot": {"traceSampling": 5}, "global": {"logging": {"level": "x"}}}));
        let values = istiod_values(&template, &cluster(), "mesh", "1-29-1", true).unwrap();
        assert_eq!(
            values,
            json!({
                "revision": "1-29-1", "revisionTags": ["default"], "pilot": {"traceSampling": 5},
                "global": {"logging": {"level": "x"}, "istioNamespace": "istio-system", "meshID": "mesh", "network": "n1",
                    "multiCluster": {"clusterName": "a"}},
            })
        );
        let untagged = istiod_values(&template, &cluster(), "mesh", "1-29-1", false).unwrap();
        assert_eq!(untagged["revisionTags"], json!([]));
    }

    #[test]
    fn the_base_chart_gets_global_and_base_only() {
        let mut template = template(
            json!({"pilot": {"a": 1}, "base": {"excludedCRDs": ["x"]}, "global": {"meshID": "own"}}),
        );
        template.profile = Some("ambient".to_owned());
        let values = base_values(&template, None).unwrap();
        assert_eq!(
            values,
            json!({
                "base": {"excludedCRDs": ["x"]}, "defaultRevision": "", "profile": "ambient",
                "global": {"istioNamespace": "istio-system", "meshID": "own"},
            })
        );
        assert_eq!(base_values(&template, Some("1-28-2")).unwrap()["defaultRevision"], "1-28-2");
    }

    #[test]
    fn contradictions_and_wrong_types_are_errors() {
        for (values, part) in [
            (json!([]), "values must be an object, and is a list"),
            (json!({"global": 1}), "values.global must be an object, and is a number"),
            (json!({"global": {"multiCluster": "x"}}), "values.global.multiCluster"),
            (json!({"revision": "canary"}), "values.revision is \"canary\""),
            (json!({"revisionTags": ["prod"]}), "values.revisionTags"),
            (json!({"global": {"istioNamespace": "other"}}), "global.istioNamespace"),
            (json!({"global": {"multiCluster": {"clusterName": "b"}}}), "global.multiCluster.clusterName"),
        ] {
            let error = istiod_values(&template(values), &cluster(), "mesh", "1-29-1", true).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        }
        let nulls = json!({"global": null, "revision": null});
        assert!(istiod_values(&template(nulls), &cluster(), "mesh", "1-29-1", true).is_ok());
    }
}
