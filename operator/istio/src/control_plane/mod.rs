//! The control plane of one cluster: what the charts rendered becomes ordered waves of manifests. Pure.

mod kinds;
mod values;

pub use kinds::resource_types;
pub use values::{ValuesError, base_values, istiod_values};

use fedistio_federation::render::{Manifest, ManifestError, ObjectKey, Owner, RetainPath};
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc};

/// Label on every object of a control plane: Istio's version (`1.29.1`).
pub const LABEL_VERSION: &str = "fedistio.io/istio-version";
/// Label on every object of one revision: its name (`1-29-1`).
pub const LABEL_REVISION: &str = "fedistio.io/istio-revision";
/// Istio's label on the objects of a revision tag: the tag.
pub const LABEL_TAG: &str = "istio.io/tag";
/// Kind on the host to which control planes belong.
pub const OWNER_KIND: &str = "FederatedIstio";

/// How many waves there are: namespace and CRDs, cluster-wide objects, objects of the namespace.
pub const WAVES: usize = 3;

/// The owner of the objects of the `FederatedIstio` `name`.
pub fn owner(name: &str) -> Owner {
    Owner { kind: OWNER_KIND.into(), namespace: "".into(), name: name.into() }
}

/// The owner of what all control planes of a cluster share and what is never deleted: CRDs and the namespace.
/// No object can have this name.
pub fn shared_owner() -> Owner {
    owner("*")
}

/// Which chart an object comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin<'a> {
    /// The base chart: CRDs and what all revisions share.
    Base,
    /// The istiod chart of a revision.
    Revision(&'a str),
}

/// A chart as it was rendered, with the facts that its objects are labelled with.
#[derive(Clone, Copy, Debug)]
pub struct RenderedChart<'a> {
    /// Which chart.
    pub origin: Origin<'a>,
    /// Istio's version.
    pub version: &'a str,
    /// The objects, in the chart's install order.
    pub objects: &'a [Value],
}

/// Why rendered charts can't become manifests.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum AssembleError {
    /// A document is no object with a kind and a name.
    #[error("the chart {chart} renders something that is no Kubernetes object: {text}; check the values")]
    NotAnObject {
        /// The chart.
        chart: String,
        /// The beginning of the document.
        text: String,
    },
    /// A kind that the operator does not manage.
    #[error(
        "the chart {chart} renders a {api_version} {kind} ({name}), which this operator does not manage; turn off the value that asks for it, or use a newer operator"
    )]
    UnknownKind {
        /// The chart.
        chart: String,
        /// API version of the object.
        api_version: String,
        /// Kind of the object.
        kind: String,
        /// Name of the object.
        name: String,
    },
    /// The object can't be sent.
    #[error("the chart {chart}: {source}")]
    Manifest {
        /// The chart.
        chart: String,
        /// Why.
        source: ManifestError,
    },
}

/// The desired objects of one cluster, wave by wave. A wave is sent when the one before is in place.
#[derive(Clone, Debug, Default)]
pub struct ControlPlane {
    /// The waves, each sorted by key.
    pub waves: [Vec<Arc<Manifest>>; WAVES],
}

impl ControlPlane {
    /// All manifests with the number of their wave.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &Arc<Manifest>)> {
        self.waves
            .iter()
            .enumerate()
            .flat_map(|(wave, manifests)| manifests.iter().map(move |one| (wave, one)))
    }

    /// How many manifests there are.
    pub fn len(&self) -> usize {
        self.waves.iter().map(Vec::len).sum()
    }

    /// Is there nothing in it?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The manifests of one rendered chart, in the chart's order.
///
/// # Errors
/// When the chart rendered something that can't be applied.
pub fn chart_manifests(
    chart: &RenderedChart<'_>,
    namespace: &str,
    owner: &Owner,
) -> Result<Vec<Arc<Manifest>>, AssembleError> {
    let objects = chart.objects.iter().filter(|object| !object.is_null());
    objects.map(|object| manifest(chart, object, namespace, owner).map(Arc::new)).collect()
}

/// Puts the manifests of one cluster together: the namespace, and those of the charts in `parts`.
///
/// An object that several charts render (charts of two revisions share none today) is taken from the last part: put the
/// newest version last. `network` labels the namespace, by which Istio finds the network of its gateways.
///
/// # Errors
/// When the namespace's manifest can't be made.
pub fn assemble<'a>(
    parts: impl IntoIterator<Item = &'a [Arc<Manifest>]>,
    namespace: &str,
    network: Option<&str>,
) -> Result<ControlPlane, AssembleError> {
    let own = Arc::new(namespace_manifest(namespace, network)?);
    let mut found: BTreeMap<ObjectKey, Arc<Manifest>> = [(own.key.clone(), own)].into();
    for manifest in parts.into_iter().flatten() {
        found.insert(manifest.key.clone(), Arc::clone(manifest));
    }
    let mut plane = ControlPlane::default();
    for (key, manifest) in found {
        plane.waves[wave(&key)].push(manifest);
    }
    Ok(plane)
}

/// The wave of an object: what others need comes first, and is deleted last.
pub fn wave(key: &ObjectKey) -> usize {
    match (key.resource.kind.as_str(), key.resource.namespaced()) {
        ("Namespace" | "CustomResourceDefinition", _) => 0,
        (_, false) => 1,
        (_, true) => 2,
    }
}

fn namespace_manifest(namespace: &str, network: Option<&str>) -> Result<Manifest, AssembleError> {
    let error =
        |text: &str| AssembleError::NotAnObject { chart: "namespace".to_owned(), text: text.to_owned() };
    let kind = kinds::find("v1", "Namespace").ok_or_else(|| error("Namespace"))?;
    let key =
        ObjectKey { resource: Arc::clone(&kind.resource), namespace: "".into(), name: namespace.into() };
    let mut template = json!({"metadata": {"labels": {}}});
    if let Some(network) = network {
        template["metadata"]["labels"]["topology.istio.io/network"] = Value::from(network);
    }
    Manifest::new(key, template, &shared_owner(), Arc::clone(&kind.retain))
        .map_err(|source| AssembleError::Manifest { chart: "namespace".to_owned(), source })
}

fn manifest(
    chart: &RenderedChart<'_>,
    object: &Value,
    namespace: &str,
    owner: &Owner,
) -> Result<Manifest, AssembleError> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let chart_name = || match chart.origin {
        Origin::Base => format!("base-{}", chart.version),
        Origin::Revision(_) => format!("istiod-{}", chart.version),
    };
    let (api_version, kind, name) = (text("/apiVersion"), text("/kind"), text("/metadata/name"));
    if api_version.is_empty() || kind.is_empty() || name.is_empty() {
        let text: String = object.to_string().chars().take(120).collect();
        return Err(AssembleError::NotAnObject { chart: chart_name(), text });
    }
    let Some(known) = kinds::find(api_version, kind) else {
        return Err(AssembleError::UnknownKind {
            chart: chart_name(),
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            name: name.to_owned(),
        });
    };
    let object_namespace = match (known.resource.namespaced(), text("/metadata/namespace")) {
        (false, _) => "",
        // As helm does: an object without a namespace goes to the release's.
        (true, "") => namespace,
        (true, given) => given,
    };
    let key = ObjectKey {
        resource: Arc::clone(&known.resource),
        namespace: object_namespace.into(),
        name: name.into(),
    };
    let mut object = object.clone();
    if !known.resource.namespaced()
        && let Some(metadata) = object.pointer_mut("/metadata").and_then(Value::as_object_mut)
    {
        metadata.remove("namespace");
    }
    label(&mut object, chart);
    let retain = retained(&mut object, kind, &known.retain);
    let owner = if kind == "CustomResourceDefinition" { shared_owner() } else { owner.clone() };
    Manifest::new(key, object, &owner, retain)
        .map_err(|source| AssembleError::Manifest { chart: chart_name(), source })
}

fn label(object: &mut Value, chart: &RenderedChart<'_>) {
    let Some(metadata) = object.pointer_mut("/metadata").and_then(Value::as_object_mut) else { return };
    let labels = metadata.entry("labels").or_insert_with(|| json!({}));
    if labels.is_null() {
        *labels = json!({});
    }
    // Anything else than an object is reported when the manifest is made.
    let Some(labels) = labels.as_object_mut() else { return };
    labels.insert(LABEL_VERSION.to_owned(), Value::from(chart.version.replace('+', "_")));
    if let Origin::Revision(revision) = chart.origin {
        labels.insert(LABEL_REVISION.to_owned(), Value::from(revision));
    }
}

/// What to retain of this object. A validating webhook for which the user gives a CA is not istiod's to patch: then everything is ours.
/// Without one it must start with `Ignore`: istiod can't answer it yet, and the API server's default is to refuse everything.
fn retained(object: &mut Value, kind: &str, retain: &Arc<[RetainPath]>) -> Arc<[RetainPath]> {
    if kind != "ValidatingWebhookConfiguration" {
        return Arc::clone(retain);
    }
    let Some(webhooks) = object.pointer_mut("/webhooks").and_then(Value::as_array_mut) else {
        return Arc::clone(retain);
    };
    if webhooks.iter().any(|webhook| webhook.pointer("/clientConfig/caBundle").is_some_and(Value::is_string))
    {
        return Arc::from([]);
    }
    for webhook in webhooks.iter_mut().filter_map(Value::as_object_mut) {
        webhook.insert("failurePolicy".to_owned(), Value::from("Ignore"));
    }
    Arc::clone(retain)
}

#[cfg(test)]
mod tests;
