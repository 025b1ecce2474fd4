//! Rendered files to manifests: split, told apart from hooks, put in install order.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value as Json;

use crate::{render::RenderError, yaml};

/// One document of a rendered template.
#[derive(Clone, Debug, PartialEq)]
pub struct RenderedManifest {
    /// The template that it comes from, for instance `istiod/templates/deployment.yaml`.
    pub source: String,
    /// The text as the template wrote it, without blanks around it.
    pub text: String,
    /// The object. Null where the document holds nothing but comments.
    pub value: Json,
}

/// A document that Helm runs at an event instead of installing it.
#[derive(Clone, Debug, PartialEq)]
pub struct Hook {
    /// The document.
    pub manifest: RenderedManifest,
    /// `pre-install`, `post-upgrade`, `test`…
    pub events: Vec<String>,
    /// Hooks of an event run in the order of their weights.
    pub weight: i64,
    /// `before-hook-creation`, `hook-succeeded`, `hook-failed`.
    pub delete_policies: Vec<String>,
}

/// The order in which kinds are installed.
const INSTALL_ORDER: [&str; 36] = [
    "PriorityClass",
    "Namespace",
    "NetworkPolicy",
    "ResourceQuota",
    "LimitRange",
    "PodSecurityPolicy",
    "PodDisruptionBudget",
    "ServiceAccount",
    "Secret",
    "SecretList",
    "ConfigMap",
    "StorageClass",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "CustomResourceDefinition",
    "ClusterRole",
    "ClusterRoleList",
    "ClusterRoleBinding",
    "ClusterRoleBindingList",
    "Role",
    "RoleList",
    "RoleBinding",
    "RoleBindingList",
    "Service",
    "DaemonSet",
    "Pod",
    "ReplicationController",
    "ReplicaSet",
    "Deployment",
    "HorizontalPodAutoscaler",
    "StatefulSet",
    "Job",
    "CronJob",
    "IngressClass",
    "Ingress",
    "APIService",
];

const EVENTS: [&str; 10] = [
    "pre-install",
    "post-install",
    "pre-delete",
    "post-delete",
    "pre-upgrade",
    "post-upgrade",
    "pre-rollback",
    "post-rollback",
    "test",
    "test-success",
];

/// Splits a rendered file as Helm does: at lines that begin with `---`, whatever follows on the line becoming content.
pub(crate) fn split_documents(text: &str) -> Vec<&str> {
    #[allow(clippy::unwrap_used, reason = "a constant pattern, covered by every test")]
    static SEPARATOR: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"(?:^|[\t\n\f\r ]*\n)---[\t\n\f\r ]*").unwrap());
    let text = text.trim();
    if !text.contains("---") {
        return if text.is_empty() { Vec::new() } else { vec![text] };
    }
    SEPARATOR.split(text).filter(|document| !document.is_empty()).map(str::trim).collect()
}

/// What sorting leaves.
pub(crate) struct Sorted {
    pub(crate) manifests: Vec<RenderedManifest>,
    pub(crate) hooks: Vec<Hook>,
}

/// Takes rendered files by path and gives their documents in install order.
pub(crate) fn sort_manifests(files: &[(String, String)]) -> Result<Sorted, RenderError> {
    let mut sorted_files: Vec<&(String, String)> = files.iter().collect();
    sorted_files.sort();
    let mut sorted = Sorted { manifests: Vec::new(), hooks: Vec::new() };
    for (path, content) in sorted_files {
        if crate::render::base_name(path).starts_with('_') {
            continue;
        }
        for text in split_documents(content) {
            let value =
                yaml::parse(text).map_err(|source| RenderError::Yaml { file: path.clone(), source })?;
            let manifest = RenderedManifest { source: path.clone(), text: text.to_owned(), value };
            check_head(&manifest)?;
            match hook_annotations(&manifest) {
                None => sorted.manifests.push(manifest),
                Some(HookAnnotations { events, .. })
                    if events.iter().any(|e| !EVENTS.contains(&e.as_str())) =>
                {
                    tracing::info!(template = %path, "a document names an unknown hook and is skipped");
                }
                Some(HookAnnotations { events, weight, delete_policies }) => {
                    sorted.hooks.push(Hook { manifest, events, weight, delete_policies });
                }
            }
        }
    }
    sorted.manifests.sort_by(|a, b| rank(kind(a)).cmp(&rank(kind(b))));
    sorted.hooks.sort_by(|a, b| rank(kind(&a.manifest)).cmp(&rank(kind(&b.manifest))));
    Ok(sorted)
}

fn kind(manifest: &RenderedManifest) -> &str {
    manifest.value.get("kind").and_then(Json::as_str).unwrap_or_default()
}

/// Known kinds by their place; unknown ones after them, by name.
fn rank(kind: &str) -> (usize, &str) {
    match INSTALL_ORDER.iter().position(|known| *known == kind) {
        Some(at) => (at, ""),
        None => (INSTALL_ORDER.len(), kind),
    }
}

/// Helm reads the head of each document into a struct and refuses types that do not fit.
fn check_head(manifest: &RenderedManifest) -> Result<(), RenderError> {
    let refuse = |got: &str, field: &str| {
        Err(RenderError::Head { file: manifest.source.clone(), got: got.to_owned(), field: field.to_owned() })
    };
    let name = |value: &Json| match value {
        Json::Null => "null",
        Json::Bool(_) => "bool",
        Json::Number(_) => "number",
        Json::String(_) => "string",
        Json::Array(_) => "array",
        Json::Object(_) => "object",
    };
    match &manifest.value {
        Json::Null | Json::Object(_) => {}
        other => return refuse(name(other), "value of type releaseutil.SimpleHead"),
    }
    for field in ["apiVersion", "kind"] {
        if let Some(value @ (Json::Array(_) | Json::Object(_))) = manifest.value.get(field) {
            return refuse(name(value), &format!("struct field SimpleHead.{field} of type string"));
        }
    }
    match manifest.value.get("metadata") {
        None | Some(Json::Null | Json::Object(_)) => Ok(()),
        Some(other) => {
            let kind = "struct { Name string \"json:\\\"name\\\"\"; Annotations map[string]string \"json:\\\"annotations\\\"\" }";
            refuse(name(other), &format!("struct field SimpleHead.metadata of type {kind}"))
        }
    }
}

struct HookAnnotations {
    events: Vec<String>,
    weight: i64,
    delete_policies: Vec<String>,
}

/// What makes a document a hook, if it is one.
fn hook_annotations(manifest: &RenderedManifest) -> Option<HookAnnotations> {
    let annotations = manifest.value.get("metadata")?.get("annotations")?.as_object()?;
    let text = |key: &str| annotations.get(key).and_then(Json::as_str);
    let words = |text: &str| text.split(',').map(|word| word.trim().to_lowercase()).collect::<Vec<_>>();
    let mut events = words(text("helm.sh/hook")?);
    for event in &mut events {
        if event == "test-success" {
            "test".clone_into(event);
        }
    }
    Some(HookAnnotations {
        events,
        weight: text("helm.sh/hook-weight").and_then(|weight| weight.parse().ok()).unwrap_or(0),
        delete_policies: text("helm.sh/hook-delete-policy").map(words).unwrap_or_default(),
    })
}
