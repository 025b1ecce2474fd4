//! The environment of a container: values, fields of the pod, resources. Pure.

use k8s_openapi::api::core::v1::{Container, EnvVar, Pod};

/// Allocatable CPUs and bytes of a node here, which stand for limits that are not set.
pub(super) const NODE_CPUS: i64 = 4;
pub(super) const NODE_MEMORY: i64 = 8 << 30;

/// A variable that needs an object of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyRef {
    pub(super) variable: String,
    pub(super) secret: bool,
    pub(super) object: String,
    pub(super) key: String,
    pub(super) optional: bool,
}

/// The variables that can be told from the pod alone, and those that need config maps or secrets.
pub(super) fn env(pod: &Pod, container: &Container) -> (Vec<(String, String)>, Vec<KeyRef>) {
    let (mut values, mut refs) = (Vec::new(), Vec::new());
    for variable in container.env.iter().flatten() {
        if let Some(key) = key_ref(variable) {
            refs.push(key);
        } else {
            let value = value(pod, container, variable).unwrap_or_default();
            let value = expand(&value, &values);
            values.push((variable.name.clone(), value));
        }
    }
    (values, refs)
}

fn key_ref(variable: &EnvVar) -> Option<KeyRef> {
    let from = variable.value_from.as_ref()?;
    let (secret, object, key, optional) = match (&from.secret_key_ref, &from.config_map_key_ref) {
        (Some(from), _) => (true, &from.name, &from.key, from.optional),
        (None, Some(from)) => (false, &from.name, &from.key, from.optional),
        (None, None) => return None,
    };
    Some(KeyRef {
        variable: variable.name.clone(),
        secret,
        object: object.clone(),
        key: key.clone(),
        optional: optional.unwrap_or(false),
    })
}

fn value(pod: &Pod, container: &Container, variable: &EnvVar) -> Option<String> {
    if let Some(value) = &variable.value {
        return Some(value.clone());
    }
    let from = variable.value_from.as_ref()?;
    if let Some(reference) = &from.field_ref {
        return field(pod, &reference.field_path);
    }
    let reference = from.resource_field_ref.as_ref()?;
    let (kind, resource) = reference.resource.split_once('.')?;
    let resources = container.resources.as_ref();
    let table = match kind {
        "limits" => resources.and_then(|resources| resources.limits.as_ref()),
        _ => resources.and_then(|resources| resources.requests.as_ref()),
    };
    let quantity = table.and_then(|table| table.get(resource)).and_then(|quantity| milli(&quantity.0));
    let milli = quantity.unwrap_or(match resource {
        "cpu" => NODE_CPUS * 1000,
        _ => NODE_MEMORY * 1000,
    });
    let divisor =
        reference.divisor.as_ref().and_then(|divisor| self::milli(&divisor.0)).filter(|divisor| *divisor > 0);
    // Rounded up, as the kubelet does.
    let divisor = divisor.unwrap_or(1000);
    Some(((milli + divisor - 1) / divisor).to_string())
}

/// A field of the downward API, such as `metadata.name` or `metadata.labels['app']`.
pub(super) fn field(pod: &Pod, path: &str) -> Option<String> {
    let metadata = &pod.metadata;
    let spec = pod.spec.as_ref();
    let status = pod.status.as_ref();
    let lines = |map: Option<&std::collections::BTreeMap<String, String>>| {
        let lines: Vec<_> =
            map.into_iter().flatten().map(|(key, value)| format!("{key}={value:?}")).collect();
        lines.join("\n")
    };
    match path {
        "metadata.name" => metadata.name.clone(),
        "metadata.namespace" => metadata.namespace.clone(),
        "metadata.uid" => metadata.uid.clone(),
        "metadata.labels" => Some(lines(metadata.labels.as_ref())),
        "metadata.annotations" => Some(lines(metadata.annotations.as_ref())),
        "spec.nodeName" => spec?.node_name.clone(),
        "spec.serviceAccountName" => spec?.service_account_name.clone(),
        "status.hostIP" => Some("127.0.0.1".to_owned()),
        "status.podIP" => status?.pod_ip.clone(),
        _ => {
            let (map, key) = path.strip_suffix("']")?.split_once("['")?;
            let map = match map {
                "metadata.labels" => metadata.labels.as_ref(),
                "metadata.annotations" => metadata.annotations.as_ref(),
                _ => None,
            };
            map?.get(key).cloned()
        }
    }
}

/// `$(NAME)` of variables defined before.
fn expand(value: &str, before: &[(String, String)]) -> String {
    let mut text = value.to_owned();
    for (name, value) in before {
        text = text.replace(&format!("$({name})"), value);
    }
    text
}

/// A Kubernetes quantity in thousandths; `None` when it is not one or does not fit.
fn milli(quantity: &str) -> Option<i64> {
    let split = quantity.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(quantity.len());
    let (number, unit) = quantity.split_at(split);
    let factor: i64 = match unit {
        "m" => 1,
        "" => 1000,
        "k" => 1_000_000,
        "M" => 1_000_000_000,
        "G" => 1_000_000_000_000,
        "Ki" => 1000 << 10,
        "Mi" => 1000 << 20,
        "Gi" => 1000 << 30,
        _ => return None,
    };
    let (int, fraction) = number.split_once('.').unwrap_or((number, ""));
    let scale = 10_i64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let digits: i64 = format!("{int}{fraction}").parse().ok()?;
    digits.checked_mul(factor)?.checked_div(scale)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn quantities() {
        for (text, expected) in [
            ("1", Some(1000)),
            ("500m", Some(500)),
            ("1.5", Some(1500)),
            ("2Gi", Some(2_147_483_648_000)),
            ("x", None),
            ("", None),
            ("99999999999Gi", None),
        ] {
            assert_eq!(milli(text), expected, "{text}");
        }
    }

    #[test]
    fn variables_of_istiod() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n", "labels": {"app": "istiod"}},
            "spec": {"serviceAccountName": "istiod-1-28-2", "containers": [{"name": "discovery",
                "resources": {"limits": {"cpu": "1500m"}},
                "env": [
                    {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
                    {"name": "SERVICE_ACCOUNT", "valueFrom": {"fieldRef": {"fieldPath": "spec.serviceAccountName"}}},
                    {"name": "GOMAXPROCS", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1"}}},
                    {"name": "GOMEMLIMIT", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1"}}},
                    {"name": "BOTH", "value": "$(POD_NAME)-x"},
                    {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}
                ]}]}
        }))
        .unwrap();
        let container = &pod.spec.as_ref().unwrap().containers[0];
        let (values, refs) = env(&pod, container);
        let get = |name: &str| values.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        assert_eq!(get("POD_NAME"), Some("p"));
        assert_eq!(get("APP"), Some("istiod"));
        assert_eq!(get("SERVICE_ACCOUNT"), Some("istiod-1-28-2"));
        assert_eq!(get("GOMAXPROCS"), Some("2"), "rounded up");
        assert_eq!(get("GOMEMLIMIT"), Some("8589934592"), "the node's where there is no limit");
        assert_eq!(get("BOTH"), Some("p-x"));
        assert_eq!(refs.len(), 1);
    }
}
