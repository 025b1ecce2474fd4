//! The desired objects of one cluster: template and overrides to values, values to charts, charts to manifests.

use crate::{
    catalogue::{Catalogue, Release},
    charts::{ChartFailure, ChartRequest, Charts},
    control_plane::{
        ControlPlane, Origin, RenderedChart, assemble, base_values, chart_manifests, istiod_values,
        shared_owner,
    },
    controller::Event,
};
use fedistio_crds::{ControlPlaneReason as Reason, IstioTemplate, Override};
use fedistio_federation::{
    cluster::ClusterView,
    render::{Manifest, ObjectKey, Owner, apply_overrides},
};
use semver::Version;
use serde_json::Value;
use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::{sync::mpsc, time::Instant};

/// Wait before a chart that could not be had is asked for again.
const RETRY: Duration = Duration::from_secs(15);
/// A rendering that was not used for so long is dropped when there are many.
const STALE: Duration = Duration::from_mins(10);
/// So many renderings are kept whatever their age.
const KEPT: usize = 64;

/// Something that keeps one cluster from its control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) reason: Reason,
    pub(crate) message: String,
}

impl Problem {
    pub(crate) fn new(reason: Reason, error: impl ToString) -> Self {
        Self { reason, message: error.to_string() }
    }
}

/// The template of one cluster: `template` with the overrides that select the cluster.
pub(crate) fn resolve(
    template: &Value,
    overrides: &[Override],
    cluster: &ClusterView,
) -> Result<IstioTemplate, Problem> {
    let mut template = template.clone();
    apply_overrides(&mut template, overrides, cluster)
        .map_err(|error| Problem::new(Reason::OverrideFailed, error))?;
    serde_json::from_value(template).map_err(|error| {
        Problem::new(
            Reason::OverrideFailed,
            format!("the template with its overrides is no control plane: {error}"),
        )
    })
}

enum Slot {
    Pending,
    Done(Arc<[Arc<Manifest>]>),
    Failed(Problem, Instant),
}

/// Everything that has been rendered.
pub(crate) struct Renders {
    charts: Arc<Charts>,
    /// Equal manifests of several renderings are kept once: the CRDs are most of the memory, and the same wherever the tag is.
    interned: HashMap<(ObjectKey, u64), Weak<Manifest>>,
    slots: HashMap<String, (Slot, Instant)>,
    events: mpsc::UnboundedSender<Event>,
}

/// What a cluster's manifests are made of, besides where the tag is.
pub(crate) struct Plane<'a> {
    pub(crate) template: &'a IstioTemplate,
    pub(crate) cluster: &'a ClusterView,
    pub(crate) kubernetes: &'a Version,
    pub(crate) mesh_id: &'a str,
    pub(crate) owner: &'a Owner,
    pub(crate) release: &'a Release,
    /// The release of the base chart: never older than the CRDs that are there.
    pub(crate) base: &'a Release,
}

impl Renders {
    pub(crate) fn new(charts: Arc<Charts>, events: mpsc::UnboundedSender<Event>) -> Self {
        Self { charts, interned: HashMap::new(), slots: HashMap::new(), events }
    }

    /// The desired objects of a cluster while the tag points to `tag`. `None` while they are being rendered: an event tells the end.
    pub(crate) fn plane(
        &mut self,
        plane: &Plane<'_>,
        tag: Option<&str>,
    ) -> Result<Option<ControlPlane>, Problem> {
        let render_failed = |error: &dyn ToString| Problem::new(Reason::RenderFailed, error.to_string());
        let revision = plane.release.revision();
        let base_values = base_values(plane.template, tag).map_err(|error| render_failed(&error))?;
        let tagged = tag == Some(revision.as_str());
        let istiod_values = istiod_values(plane.template, plane.cluster, plane.mesh_id, &revision, tagged)
            .map_err(|error| render_failed(&error))?;
        let base = self.part(plane, "base", None, base_values)?;
        let istiod = self.part(plane, "istiod", Some(&revision), istiod_values)?;
        let (Some(base), Some(istiod)) = (base, istiod) else { return Ok(None) };
        assemble([&*base, &*istiod], &plane.template.namespace, plane.cluster.network.as_deref())
            .map(Some)
            .map_err(|error| render_failed(&error))
    }

    fn part(
        &mut self,
        plane: &Plane<'_>,
        name: &str,
        revision: Option<&str>,
        values: Value,
    ) -> Result<Option<Arc<[Arc<Manifest>]>>, Problem> {
        let release = if revision.is_some() { plane.release } else { plane.base };
        let chart = release.chart(name).map_err(|error| Problem::new(Reason::ChartUnavailable, error))?;
        let request = ChartRequest {
            name: name.to_owned(),
            version: release.version.to_string(),
            sources: chart.sources.clone(),
            digest: chart.digest.clone(),
            release: revision
                .map_or_else(|| "istio-base".to_owned(), |revision| format!("istiod-{revision}")),
            namespace: plane.template.namespace.clone(),
            kubernetes: format!("v{}", plane.kubernetes),
            values,
        };
        let key = format!("{}\n{}", request.key(), plane.owner);
        let now = Instant::now();
        match self.slots.get_mut(&key) {
            Some((Slot::Pending, _)) => return Ok(None),
            Some((Slot::Done(manifests), used)) => {
                *used = now;
                return Ok(Some(Arc::clone(manifests)));
            }
            Some((Slot::Failed(problem, retry), _)) if *retry > now => return Err(problem.clone()),
            Some((Slot::Failed(..), _)) | None => {}
        }
        if self.slots.len() >= KEPT {
            self.slots
                .retain(|_, (slot, used)| matches!(slot, Slot::Pending) || now.duration_since(*used) < STALE);
        }
        let before = self.slots.insert(key.clone(), (Slot::Pending, now));
        self.start(key, request, revision.map(str::to_owned), plane.owner.clone());
        // A failure stays in the status while it is tried again.
        match before {
            Some((Slot::Failed(problem, _), _)) => Err(problem),
            _ => Ok(None),
        }
    }

    fn start(&self, key: String, request: ChartRequest, revision: Option<String>, owner: Owner) {
        let (charts, events) = (Arc::clone(&self.charts), self.events.clone());
        tokio::spawn(async move {
            let result = render(&charts, request, revision, owner).await;
            let _ = events.send(Event::Rendered(key, result));
        });
    }

    fn intern(&mut self, manifest: Arc<Manifest>) -> Arc<Manifest> {
        let key = (manifest.key.clone(), manifest.hash);
        if let Some(known) = self.interned.get(&key).and_then(Weak::upgrade) {
            return known;
        }
        self.interned.insert(key, Arc::downgrade(&manifest));
        manifest
    }

    /// Takes the end of a rendering. Says when to try again where it failed.
    pub(crate) fn rendered(
        &mut self,
        key: String,
        result: Result<Vec<Arc<Manifest>>, Problem>,
    ) -> Option<Instant> {
        let now = Instant::now();
        let (slot, retry) = match result {
            Ok(manifests) => {
                let shared = manifests.into_iter().map(|manifest| self.intern(manifest)).collect();
                self.interned.retain(|_, manifest| manifest.strong_count() > 0);
                (Slot::Done(shared), None)
            }
            Err(problem) => (Slot::Failed(problem, now + RETRY), Some(now + RETRY)),
        };
        self.slots.insert(key, (slot, now));
        retry
    }
}

async fn render(
    charts: &Charts,
    request: ChartRequest,
    revision: Option<String>,
    owner: Owner,
) -> Result<Vec<Arc<Manifest>>, Problem> {
    let (version, namespace) = (request.version.clone(), request.namespace.clone());
    let objects = charts.render(request).await.map_err(|failure| {
        let reason = match failure {
            ChartFailure::Unavailable { .. } => Reason::ChartUnavailable,
            ChartFailure::Digest { .. } => Reason::ChartDigestMismatch,
            ChartFailure::Render { .. } => Reason::RenderFailed,
        };
        Problem::new(reason, failure)
    })?;
    let made = tokio::task::spawn_blocking(move || {
        let origin = revision.as_deref().map_or(Origin::Base, Origin::Revision);
        let chart = RenderedChart { origin, version: &version, objects: &objects };
        chart_manifests(&chart, &namespace, &owner)
    });
    made.await
        .map_err(|error| Problem::new(Reason::RenderFailed, error))?
        .map_err(|error| Problem::new(Reason::RenderFailed, error))
}

/// Finds the release of the base chart: the newest of the wanted version and the CRDs that are there, since CRDs are never downgraded.
pub(crate) fn base_release<'a>(
    catalogue: &'a Catalogue,
    wanted: &'a Release,
    crds: Option<&Version>,
) -> Result<&'a Release, Problem> {
    match crds {
        Some(there) if *there > wanted.version => catalogue.get(&there.to_string()).map_err(|error| {
            Problem::new(
                Reason::UnknownVersion,
                format!("the cluster has the CRDs of Istio {there}, which are not downgraded: {error}"),
            )
        }),
        _ => Ok(wanted),
    }
}

/// The owner under which a manifest of `owner`'s control plane is found in a member.
pub(crate) fn owner_of(manifest: &Manifest, owner: &Owner) -> Owner {
    match manifest.key.resource.kind.as_str() {
        "CustomResourceDefinition" | "Namespace" => shared_owner(),
        _ => owner.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn overrides(path: &str, value: &Value) -> Vec<Override> {
        serde_json::from_value(
            json!([{"clusterName": "a", "clusterOverrides": [{"path": path, "value": value, "op": "add"}]}]),
        )
        .unwrap()
    }

    #[test]
    fn an_override_changes_version_and_values() {
        let template = json!({"version": "1.28.2"});
        let view = ClusterView { name: "a".to_owned(), ..ClusterView::default() };
        assert_eq!(
            resolve(&template, &overrides("/version", &json!("1.29.1")), &view).unwrap().version,
            "1.29.1"
        );
        for (path, value, part) in [
            ("/values/pilot/x", json!(1), "overrides[0].clusterOverrides[0]"),
            ("/versoin", json!("1.29.1"), "versoin"),
            ("/version", json!(1), "is no control plane"),
        ] {
            let problem = resolve(&template, &overrides(path, &value), &view).unwrap_err();
            assert_eq!(problem.reason, Reason::OverrideFailed);
            assert!(problem.message.contains(part), "{}", problem.message);
        }
    }

    #[test]
    fn crds_are_never_downgraded() {
        let catalogue = Catalogue::builtin().unwrap();
        let wanted = catalogue.get("1.28.2").unwrap();
        let base = |crds: Option<&str>| {
            let crds = crds.map(|text| Version::parse(text).unwrap());
            base_release(&catalogue, wanted, crds.as_ref()).map(|release| release.version.to_string())
        };
        assert_eq!(base(None).unwrap(), "1.28.2");
        assert_eq!(base(Some("1.26.0")).unwrap(), "1.28.2");
        assert_eq!(base(Some("1.29.1")).unwrap(), "1.29.1");
        assert_eq!(base(Some("1.99.0")).unwrap_err().reason, Reason::UnknownVersion);
    }
}
