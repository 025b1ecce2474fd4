//! The desired objects of one cluster: template and overrides to values, values to charts, charts to manifests.

use crate::{
    catalogue::{Catalogue, Release},
    charts::{ChartFailure, ChartRequest, Charts, Origin as ChartOrigin, RETRY},
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
    collections::{BTreeSet, HashMap},
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::{sync::mpsc, time::Instant};

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

/// What came of a rendering.
pub(crate) enum Rendered {
    /// Manifests, made from the chart of this origin.
    New(Vec<Arc<Manifest>>, ChartOrigin),
    /// The chart is the one that was rendered before; where it is from now.
    Same(ChartOrigin),
}

enum Slot {
    Pending,
    Done(Arc<[Arc<Manifest>]>, ChartOrigin, Recheck),
    Failed(Problem, Instant),
}

/// When to ask the sources of a chart again.
#[derive(Clone, Copy)]
enum Recheck {
    /// They have it.
    Never,
    At(Instant),
    UnderWay,
}

/// Where the charts are from that a `FederatedIstio` asked for in one pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ChartNews {
    /// Was any chart there?
    pub(crate) used: bool,
    /// Charts whose sources do not answer, each with the reason: the archives that were fetched before are used.
    pub(crate) cached: BTreeSet<String>,
}

/// Everything that has been rendered.
pub(crate) struct Renders {
    charts: Arc<Charts>,
    /// Equal manifests of several renderings are kept once: the CRDs are most of the memory, and the same wherever the tag is.
    interned: HashMap<(ObjectKey, u64), Weak<Manifest>>,
    slots: HashMap<String, (Slot, Instant)>,
    news: ChartNews,
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
        Self { charts, interned: HashMap::new(), slots: HashMap::new(), news: ChartNews::default(), events }
    }

    /// What there is to say of the charts that were asked for since the last call.
    pub(crate) fn take_news(&mut self) -> ChartNews {
        std::mem::take(&mut self.news)
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
        let job = Job { key: key.clone(), request, revision, owner: plane.owner };
        match self.slots.get_mut(&key) {
            Some((Slot::Pending, _)) => return Ok(None),
            Some((Slot::Done(manifests, origin, recheck), used)) => {
                *used = now;
                self.news.used = true;
                self.news.cached.extend(origin.cached.clone());
                let manifests = Arc::clone(manifests);
                if matches!(recheck, Recheck::At(at) if *at <= now) {
                    *recheck = Recheck::UnderWay;
                    let before = origin.digest.clone();
                    self.start(job, Some(before));
                }
                return Ok(Some(manifests));
            }
            Some((Slot::Failed(problem, retry), _)) if *retry > now => return Err(problem.clone()),
            Some((Slot::Failed(..), _)) | None => {}
        }
        if self.slots.len() >= KEPT {
            self.slots
                .retain(|_, (slot, used)| matches!(slot, Slot::Pending) || now.duration_since(*used) < STALE);
        }
        let before = self.slots.insert(key, (Slot::Pending, now));
        self.start(job, None);
        // A failure stays in the status while it is tried again.
        match before {
            Some((Slot::Failed(problem, _), _)) => Err(problem),
            _ => Ok(None),
        }
    }

    /// Renders in the background; nothing where the chart still is the archive `before`.
    fn start(&self, job: Job<'_>, before: Option<String>) {
        let Job { key, request, revision, owner } = job;
        let (revision, owner) = (revision.map(str::to_owned), owner.clone());
        let (charts, events) = (Arc::clone(&self.charts), self.events.clone());
        tokio::spawn(async move {
            let result = render(&charts, request, revision, owner, before).await;
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

    /// Takes the end of a rendering. Says when to ask again where the sources did not answer.
    pub(crate) fn rendered(&mut self, key: String, result: Result<Rendered, Problem>) -> Option<Instant> {
        let now = Instant::now();
        let again = now + RETRY;
        let recheck =
            |origin: &ChartOrigin| origin.cached.as_ref().map_or(Recheck::Never, |_| Recheck::At(again));
        let before = self.slots.remove(&key);
        let slot = match (result, before) {
            (Ok(Rendered::New(manifests, origin)), _) => {
                let shared = manifests.into_iter().map(|manifest| self.intern(manifest)).collect();
                self.interned.retain(|_, manifest| manifest.strong_count() > 0);
                let recheck = recheck(&origin);
                Slot::Done(shared, origin, recheck)
            }
            (Ok(Rendered::Same(origin)), Some((Slot::Done(manifests, ..), _))) => {
                let recheck = recheck(&origin);
                Slot::Done(manifests, origin, recheck)
            }
            // Forgotten meanwhile: whoever needs it asks anew.
            (Ok(Rendered::Same(_)), _) => return None,
            // What was rendered before is as good as it was.
            (Err(problem), Some((Slot::Done(manifests, origin, _), _))) => {
                let origin = ChartOrigin { cached: Some(problem.message), ..origin };
                Slot::Done(manifests, origin, Recheck::At(again))
            }
            (Err(problem), _) => Slot::Failed(problem, again),
        };
        let retry = match &slot {
            Slot::Pending | Slot::Done(_, _, Recheck::Never) => None,
            Slot::Done(..) | Slot::Failed(..) => Some(again),
        };
        self.slots.insert(key, (slot, now));
        retry
    }
}

/// One rendering to make.
struct Job<'a> {
    key: String,
    request: ChartRequest,
    revision: Option<&'a str>,
    owner: &'a Owner,
}

async fn render(
    charts: &Charts,
    request: ChartRequest,
    revision: Option<String>,
    owner: Owner,
    before: Option<String>,
) -> Result<Rendered, Problem> {
    if let Some(before) = before {
        let origin = charts.origin(&request).await.map_err(chart_problem)?;
        if origin.digest == before {
            return Ok(Rendered::Same(origin));
        }
    }
    let (version, namespace) = (request.version.clone(), request.namespace.clone());
    let rendering = charts.render(request).await.map_err(chart_problem)?;
    let objects = rendering.objects;
    let made = tokio::task::spawn_blocking(move || {
        let origin = revision.as_deref().map_or(Origin::Base, Origin::Revision);
        let chart = RenderedChart { origin, version: &version, objects: &objects };
        chart_manifests(&chart, &namespace, &owner)
    });
    let manifests = made
        .await
        .map_err(|error| Problem::new(Reason::RenderFailed, error))?
        .map_err(|error| Problem::new(Reason::RenderFailed, error))?;
    Ok(Rendered::New(manifests, rendering.origin))
}

fn chart_problem(failure: ChartFailure) -> Problem {
    let reason = match failure {
        ChartFailure::Unavailable { .. } => Reason::ChartUnavailable,
        ChartFailure::Digest { .. } => Reason::ChartDigestMismatch,
        ChartFailure::Render { .. } => Reason::RenderFailed,
    };
    Problem::new(reason, failure)
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
    fn a_chart_whose_source_is_down_is_asked_for_again_and_stays() {
        let (events, _receiver) = mpsc::unbounded_channel();
        let mut renders = Renders::new(Arc::new(Charts::new("unused".into())), events);
        let key = || "chart".to_owned();
        let origin = |cached: Option<&str>| ChartOrigin {
            digest: "sha256:1".to_owned(),
            cached: cached.map(str::to_owned),
        };
        let state = |renders: &Renders| match renders.slots.get("chart") {
            Some((Slot::Done(_, origin, recheck), _)) => {
                Some((origin.cached.clone(), matches!(recheck, Recheck::At(_))))
            }
            _ => None,
        };
        // Nobody has asked for it, or it was forgotten.
        assert_eq!(renders.rendered(key(), Ok(Rendered::Same(origin(None)))), None);
        assert_eq!(state(&renders), None);
        assert!(renders.rendered(key(), Ok(Rendered::New(Vec::new(), origin(Some("down"))))).is_some());
        assert_eq!(state(&renders), Some((Some("down".to_owned()), true)));
        // Not even the cache has it now; what was rendered stays.
        let gone = Problem::new(Reason::ChartUnavailable, "gone");
        assert!(renders.rendered(key(), Err(gone.clone())).is_some());
        assert_eq!(state(&renders), Some((Some("gone".to_owned()), true)));
        assert_eq!(renders.rendered(key(), Ok(Rendered::Same(origin(None)))), None);
        assert_eq!(state(&renders), Some((None, false)));
        assert!(renders.rendered("other".to_owned(), Err(gone)).is_some());
        assert!(matches!(renders.slots.get("other"), Some((Slot::Failed(..), _))));
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
