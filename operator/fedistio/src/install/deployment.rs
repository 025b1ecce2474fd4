//! The operator's Deployment, the same in the manifests and in the OLM bundle.

use crate::install::{NAME, labels, selector};
use serde_json::{Value, json};

/// Port of metrics and health probes.
pub(crate) const METRICS_PORT: u16 = 8080;
const CACHE: &str = "/var/cache/fedistio";
/// A user that no image and no node gives a meaning to.
const USER: u32 = 65_532;

/// Who chooses the user that the container runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum User {
    /// A fixed one, whatever the image says.
    Fixed,
    /// The platform: OpenShift gives each namespace its own range and refuses others.
    Platform,
}

/// Spec of the Deployment that runs `image`.
pub(crate) fn deployment_spec(image: &str, user: User) -> Value {
    json!({
        // A second replica is welcome: it waits for the lease.
        "replicas": 1,
        "selector": { "matchLabels": selector() },
        "template": {
            "metadata": { "labels": labels() },
            "spec": {
                "serviceAccountName": NAME,
                "securityContext": pod_security(user),
                "containers": [container(image)],
                // Time to finish writes in flight and to release the lease.
                "terminationGracePeriodSeconds": 30,
                "volumes": [{ "name": "cache", "emptyDir": { "sizeLimit": "256Mi" } }],
            },
        },
    })
}

fn pod_security(user: User) -> Value {
    let mut security = json!({ "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } });
    if user == User::Fixed {
        for key in ["runAsUser", "runAsGroup", "fsGroup"] {
            security[key] = json!(USER);
        }
    }
    security
}

fn container(image: &str) -> Value {
    let probe = |path: &str| json!({ "httpGet": { "path": path, "port": "metrics" }, "periodSeconds": 10 });
    let pod_field =
        |name: &str, path: &str| json!({ "name": name, "valueFrom": { "fieldRef": { "fieldPath": path } } });
    json!({
        "name": NAME,
        "image": image,
        "command": [NAME],
        "args": [
            "operator",
            "--namespace=$(POD_NAMESPACE)",
            format!("--metrics-address=0.0.0.0:{METRICS_PORT}"),
            "--leader-elect=true",
            format!("--cache-dir={CACHE}"),
        ],
        "env": [pod_field("POD_NAME", "metadata.name"), pod_field("POD_NAMESPACE", "metadata.namespace")],
        "ports": [{ "name": "metrics", "containerPort": METRICS_PORT, "protocol": "TCP" }],
        "livenessProbe": probe("/healthz"),
        "readinessProbe": probe("/readyz"),
        "resources": {
            "requests": { "cpu": "50m", "memory": "64Mi" },
            "limits": { "memory": "512Mi" },
        },
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": { "drop": ["ALL"] },
            "readOnlyRootFilesystem": true,
        },
        "volumeMounts": [{ "name": "cache", "mountPath": CACHE }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;
    use k8s_openapi::api::apps::v1::DeploymentSpec;

    /// Decodes the spec, so that a misspelt field shows: what is not decoded is missing from the second encoding.
    fn decoded(user: User) -> DeploymentSpec {
        let value = deployment_spec("image:1", user);
        let spec: DeploymentSpec = serde_json::from_value(value.clone()).unwrap();
        assert_eq!(serde_json::to_value(&spec).unwrap(), value);
        spec
    }

    #[test]
    fn it_satisfies_the_restricted_pod_security_standard() {
        for user in [User::Fixed, User::Platform] {
            let pod = decoded(user).template.spec.unwrap();
            let security = pod.security_context.unwrap();
            assert_eq!(security.run_as_non_root, Some(true));
            assert_eq!(security.run_as_user.is_some(), user == User::Fixed);
            assert_eq!(security.seccomp_profile.unwrap().type_, "RuntimeDefault");
            let container = pod.containers[0].security_context.clone().unwrap();
            assert_eq!(container.allow_privilege_escalation, Some(false));
            assert_eq!(container.capabilities.unwrap().drop, Some(vec!["ALL".to_owned()]));
        }
    }

    #[test]
    fn the_program_takes_the_arguments_of_the_container() {
        let container = decoded(User::Fixed).template.spec.unwrap().containers.remove(0);
        let mut line = container.command.unwrap();
        line.extend(container.args.unwrap());
        crate::cli::Cli::try_parse_from(line).unwrap();
    }

    #[test]
    fn the_selector_matches_the_pods() {
        let spec = decoded(User::Fixed);
        let labels = spec.template.metadata.unwrap().labels.unwrap();
        for (key, value) in spec.selector.match_labels.unwrap() {
            assert_eq!(labels.get(&key), Some(&value));
        }
    }
}
