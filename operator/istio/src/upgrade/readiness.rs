//! Is a Deployment ready? Pure.

use k8s_openapi::api::apps::v1::Deployment;

/// Readiness of a revision's istiod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// The newest generation is rolled out and available.
    Ready,
    /// It is not, with the reason.
    NotReady(String),
    /// Not known (yet): never taken for success.
    Unknown(String),
}

/// Reads the status of a Deployment.
///
/// A status that speaks of an older generation says nothing about the newest one; and `Available` alone is also true
/// while the old pods still serve, so the updated ones are counted too.
pub fn deployment_readiness(deployment: &Deployment) -> Readiness {
    let generation = deployment.metadata.generation.unwrap_or(0);
    let Some(status) = &deployment.status else {
        return Readiness::NotReady("the Deployment has no status yet".to_owned());
    };
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let observed = status.observed_generation.unwrap_or(0);
    if observed < generation {
        return Readiness::NotReady(format!(
            "its status is of generation {observed}, and {generation} is the newest"
        ));
    }
    let condition =
        |type_: &str| status.conditions.iter().flatten().find(|condition| condition.type_ == type_);
    let updated = status.updated_replicas.unwrap_or(0);
    let available = status.available_replicas.unwrap_or(0);
    let is_available = condition("Available").is_some_and(|condition| condition.status == "True");
    if wanted > 0 && updated >= wanted && is_available && available > 0 {
        return Readiness::Ready;
    }
    if wanted == 0 {
        return Readiness::NotReady("it is scaled to 0 replicas".to_owned());
    }
    let mut message = format!(
        "{available} of {wanted} replicas are available, {updated} of them are of the newest template"
    );
    // The ReplicaSet's own failure (quota, admission) says more than the count.
    for type_ in ["ReplicaFailure", "Progressing"] {
        let fitting =
            condition(type_).filter(|condition| (condition.status == "True") == (type_ == "ReplicaFailure"));
        if let Some(text) = fitting.and_then(|condition| condition.message.as_deref()) {
            message = format!("{message}; {text}");
        }
    }
    Readiness::NotReady(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn readiness(replicas: i32, generation: i64, status: &Value) -> Readiness {
        let deployment = json!({"metadata": {"generation": generation}, "spec": {"replicas": replicas, "selector": {}, "template": {}},
            "status": status});
        deployment_readiness(&serde_json::from_value(deployment).unwrap())
    }

    fn status(observed: i64, updated: i32, available: i32, condition: &str) -> Value {
        json!({"observedGeneration": observed, "updatedReplicas": updated, "availableReplicas": available,
            "conditions": [{"type": "Available", "status": condition}]})
    }

    #[test]
    fn only_the_newest_generation_counts() {
        assert_eq!(readiness(1, 2, &status(2, 1, 1, "True")), Readiness::Ready);
        assert!(matches!(readiness(1, 2, &status(1, 1, 1, "True")), Readiness::NotReady(_)));
        assert!(matches!(readiness(1, 1, &Value::Null), Readiness::NotReady(_)));
    }

    #[test]
    fn old_pods_are_not_new_ones() {
        assert!(matches!(readiness(2, 1, &status(1, 1, 2, "True")), Readiness::NotReady(_)));
        assert!(matches!(readiness(1, 1, &status(1, 1, 0, "False")), Readiness::NotReady(_)));
        assert!(matches!(readiness(0, 1, &status(1, 0, 0, "True")), Readiness::NotReady(_)));
    }

    #[test]
    fn the_reason_is_passed_on() {
        let status = json!({"observedGeneration": 1, "conditions": [
            {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}]});
        let Readiness::NotReady(message) = readiness(1, 1, &status) else { panic!("ready") };
        assert!(message.contains("0 of 1") && message.contains("exceeded quota"), "{message}");
    }
}
