//! Which node a pod goes to. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, Pod};

/// What the choice needs to know of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeInfo {
    /// The node's name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// The node for a pod: among those that its node selector and required node affinity allow, chosen by `turn` so that pods
/// spread. `None` when no node will do.
pub(super) fn choose<'a>(pod: &Pod, nodes: &'a [NodeInfo], turn: usize) -> Option<&'a NodeInfo> {
    let fitting: Vec<_> = nodes.iter().filter(|node| allowed(pod, node)).collect();
    (!fitting.is_empty()).then(|| fitting[turn % fitting.len()])
}

fn allowed(pod: &Pod, node: &NodeInfo) -> bool {
    let Some(spec) = &pod.spec else { return true };
    let selected =
        spec.node_selector.iter().flatten().all(|(key, value)| node.labels.get(key) == Some(value));
    let required = spec.affinity.as_ref().and_then(|affinity| {
        affinity.node_affinity.as_ref()?.required_during_scheduling_ignored_during_execution.as_ref()
    });
    let affine = required.is_none_or(|required| {
        required.node_selector_terms.iter().any(|term| {
            let labels = term.match_expressions.iter().flatten();
            let fields = term.match_fields.iter().flatten();
            labels.into_iter().all(|want| meets(want, node.labels.get(&want.key)))
                && fields.into_iter().all(|want| want.key == "metadata.name" && meets(want, Some(&node.name)))
        })
    });
    selected && affine
}

fn meets(want: &NodeSelectorRequirement, value: Option<&String>) -> bool {
    let among = |value: &String| want.values.iter().flatten().any(|wanted| wanted == value);
    let compared = |than: fn(&i64, &i64) -> bool| {
        let wanted = want.values.iter().flatten().next().and_then(|text| text.parse().ok());
        matches!((value.and_then(|text| text.parse().ok()), wanted), (Some(has), Some(wanted)) if than(&has, &wanted))
    };
    match want.operator.as_str() {
        "In" => value.is_some_and(among),
        "NotIn" => !value.is_some_and(among),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compared(i64::gt),
        "Lt" => compared(i64::lt),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn nodes() -> Vec<NodeInfo> {
        ["a", "b"]
            .map(|name| NodeInfo {
                name: name.into(),
                labels: BTreeMap::from([("zone".to_owned(), name.to_owned())]),
            })
            .into()
    }

    fn chosen(spec: Value, turn: usize) -> Option<String> {
        let pod = serde_json::from_value(json!({"spec": spec})).unwrap();
        choose(&pod, &nodes(), turn).map(|node| node.name.clone())
    }

    #[test]
    fn spreads_and_obeys() {
        let any = json!({"containers": []});
        assert_eq!(chosen(any.clone(), 0).as_deref(), Some("a"));
        assert_eq!(chosen(any, 1).as_deref(), Some("b"));
        assert_eq!(chosen(json!({"containers": [], "nodeSelector": {"zone": "b"}}), 0).as_deref(), Some("b"));
        assert_eq!(chosen(json!({"containers": [], "nodeSelector": {"zone": "c"}}), 0), None);
        let affinity = |kind: &str, key: &str, operator: &str, values: &[&str]| {
            json!({"containers": [], "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
                {"nodeSelectorTerms": [{kind: [{"key": key, "operator": operator, "values": values}]}]}}}})
        };
        // As the DaemonSet controller pins its pods.
        assert_eq!(chosen(affinity("matchFields", "metadata.name", "In", &["b"]), 0).as_deref(), Some("b"));
        assert_eq!(chosen(affinity("matchExpressions", "zone", "NotIn", &["a"]), 0).as_deref(), Some("b"));
        assert_eq!(chosen(affinity("matchExpressions", "gpu", "Exists", &[]), 0), None);
    }
}
