//! Where the driver's charts come from: the only file that knows the crate `fedistio-charts`.

use fedistio_charts::{
    Capabilities, Chart, ChartCache, ChartSource, CompiledChart, FetchError, FetchOptions, ReleaseOptions,
    fetch,
};
use serde_json::Value;
use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// A source that has not sent the chart within this time is given up for the next.
const FETCH_TIMEOUT: Duration = Duration::from_mins(1);
/// Sources that did not answer are asked again after this time.
pub(crate) const RETRY: Duration = Duration::from_secs(15);
/// For so long the last answer of such sources is taken for theirs: many clusters ask for the same chart at once. Less than [`RETRY`].
const REMEMBERED: Duration = Duration::from_secs(10);

/// One rendering of one chart.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ChartRequest {
    /// Name of the chart.
    pub(crate) name: String,
    /// Version of the chart.
    pub(crate) version: String,
    /// Where it may be had, tried in order.
    pub(crate) sources: Vec<String>,
    /// SHA-256 of the archive, if the catalogue knows it.
    pub(crate) digest: Option<String>,
    /// `.Release.Name`.
    pub(crate) release: String,
    /// `.Release.Namespace`.
    pub(crate) namespace: String,
    /// Version of the cluster's API server.
    pub(crate) kubernetes: String,
    /// The values.
    pub(crate) values: Value,
}

impl ChartRequest {
    /// Equal requests have equal keys.
    pub(crate) fn key(&self) -> String {
        format!(
            "{}\n{}\n{}\n{}\n{}",
            self.chart_key(),
            self.release,
            self.namespace,
            self.kubernetes,
            self.values
        )
    }

    /// Name and version, for messages.
    fn chart(&self) -> String {
        format!("{}-{}", self.name, self.version)
    }

    fn chart_key(&self) -> String {
        format!("{} {} {:?} {:?}", self.name, self.version, self.digest, self.sources)
    }
}

/// Why a chart could not be rendered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ChartFailure {
    /// No source has it.
    #[error(
        "the chart {chart} can't be had: {message}; check the sources of the IstioRelease, or point them to a mirror"
    )]
    Unavailable { chart: String, message: String },
    /// A source has another archive than the catalogue says.
    #[error(
        "the chart {chart} is not what the catalogue says: {message}; correct the digest of the IstioRelease, or distrust the source"
    )]
    Digest { chart: String, message: String },
    /// It can't be read or rendered.
    #[error("the chart {chart} can't be rendered: {message}")]
    Render { chart: String, message: String },
}

/// Which archive a chart was read from, and how it was come by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    /// SHA-256 of the archive.
    pub(crate) digest: String,
    /// Why it is one that was fetched before: no source answers. None where a source has it.
    pub(crate) cached: Option<String>,
}

/// What a chart renders to.
#[derive(Clone, Debug)]
pub(crate) struct Rendering {
    /// The objects, in install order.
    pub(crate) objects: Vec<Value>,
    /// Where the chart is from.
    pub(crate) origin: Origin,
}

/// A chart that has been fetched and compiled.
#[derive(Clone)]
struct Ready {
    chart: Arc<CompiledChart>,
    origin: Origin,
}

/// What came of the last time that the sources of a chart were asked. It holds until then; without a time: for good.
struct Known {
    result: Result<Ready, ChartFailure>,
    until: Option<Instant>,
}

/// One chart. The lock is held while its sources are asked, so that they are asked once, whoever wants the chart meanwhile.
type Shared = Arc<tokio::sync::Mutex<Option<Known>>>;

/// Charts that have been fetched and compiled.
pub(crate) struct Charts {
    cache_dir: PathBuf,
    known: Mutex<HashMap<String, Shared>>,
}

impl Charts {
    pub(crate) fn new(cache_dir: PathBuf) -> Self {
        Self { cache_dir, known: Mutex::default() }
    }

    /// Where the chart of a request is from now. Asks its sources where the last answer is too old.
    pub(crate) async fn origin(&self, request: &ChartRequest) -> Result<Origin, ChartFailure> {
        self.ready(request).await.map(|ready| ready.origin)
    }

    /// Fetches the chart where need be and renders it: the objects in install order. Notes are evaluated too, since
    /// Istio's charts check their values there; a failure in them is a failure.
    pub(crate) async fn render(&self, request: ChartRequest) -> Result<Rendering, ChartFailure> {
        let chart = request.chart();
        let Ready { chart: compiled, origin } = self.ready(&request).await?;
        let rendered = tokio::task::spawn_blocking(move || {
            let release = ReleaseOptions::install(&request.release, &request.namespace);
            compiled.render(&release, &request.values, &Capabilities::new(&request.kubernetes))
        })
        .await;
        let failed = |message| ChartFailure::Render { chart: chart.clone(), message };
        let rendered = rendered
            .map_err(|error| failed(error.to_string()))?
            .map_err(|error| failed(error.to_string()))?;
        if let Some(hook) = rendered.hooks.first() {
            return Err(failed(format!(
                "it has a hook ({}), and hooks are not run by this operator",
                hook.manifest.source
            )));
        }
        let objects = rendered.manifests.into_iter().map(|manifest| manifest.value).collect();
        Ok(Rendering { objects, origin })
    }

    async fn ready(&self, request: &ChartRequest) -> Result<Ready, ChartFailure> {
        let shared = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(known.entry(request.chart_key()).or_default())
        };
        let mut known = shared.lock().await;
        if let Some(last) = &*known
            && last.until.is_none_or(|until| until > Instant::now())
        {
            return last.result.clone();
        }
        let result = self.obtain(request).await;
        let settled = result.as_ref().is_ok_and(|ready| ready.origin.cached.is_none());
        let until = (!settled).then(|| Instant::now() + REMEMBERED);
        *known = Some(Known { result: result.clone(), until });
        result
    }

    async fn obtain(&self, request: &ChartRequest) -> Result<Ready, ChartFailure> {
        let (loaded, origin) = self.fetch(request).await?;
        let failed = |message| ChartFailure::Render { chart: request.chart(), message };
        let compiled = tokio::task::spawn_blocking(move || CompiledChart::new(loaded)).await;
        let compiled = compiled
            .map_err(|error| failed(error.to_string()))?
            .map_err(|error| failed(error.to_string()))?;
        Ok(Ready { chart: Arc::new(compiled), origin })
    }
}

impl Charts {
    /// Asks the sources one after the other. A wrong digest ends the search: whoever can serve a changed chart should not
    /// go unnoticed because another source serves the right one.
    async fn fetch(&self, request: &ChartRequest) -> Result<(Chart, Origin), ChartFailure> {
        let cache = ChartCache::new(&self.cache_dir);
        let chart = request.chart();
        let mut failures = Vec::new();
        for text in &request.sources {
            let source = match text.parse::<ChartSource>() {
                Ok(source @ (ChartSource::Oci { .. } | ChartSource::Repository { .. })) => source,
                Ok(_) => {
                    failures
                        .push(format!("{text}: an IstioRelease may name oci:// and https:// sources only"));
                    continue;
                }
                Err(error) => {
                    failures.push(error.to_string());
                    continue;
                }
            };
            let options = FetchOptions::default();
            let digest = request.digest.as_deref();
            let fetching = fetch(&source, &request.name, &request.version, digest, &cache, &options);
            match tokio::time::timeout(FETCH_TIMEOUT, fetching).await {
                Ok(Ok(archive)) => {
                    self.remember(request, &archive.digest).await;
                    return Ok((archive.chart, Origin { digest: archive.digest, cached: None }));
                }
                Ok(Err(error @ FetchError::Digest { .. })) => {
                    return Err(ChartFailure::Digest { chart, message: error.to_string() });
                }
                Ok(Err(error)) => failures.push(with_sources(&error)),
                Err(_) => {
                    failures.push(format!("{text} does not answer within {} s", FETCH_TIMEOUT.as_secs()));
                }
            }
        }
        if failures.is_empty() {
            failures.push("the catalogue names no source".to_owned());
        }
        let message = failures.join("; ");
        if let Some((known, digest)) = self.recall(request, &cache).await {
            tracing::warn!(chart, %message, "no source answers; the archive that was fetched before is used");
            return Ok((known, Origin { digest, cached: Some(format!("{chart}: {message}")) }));
        }
        Err(ChartFailure::Unavailable { chart, message })
    }

    /// Notes which archive the sources had, so that a restart does not depend on them. Without the note nothing breaks.
    async fn remember(&self, request: &ChartRequest, digest: &str) {
        let path = self.note(request);
        if let Some(folder) = path.parent() {
            let _ = tokio::fs::create_dir_all(folder).await;
        }
        if let Err(error) = tokio::fs::write(&path, format!("{digest}\n{}", request.chart_key())).await {
            tracing::debug!(%error, "{} can't be written", path.display());
        }
    }

    async fn recall(&self, request: &ChartRequest, cache: &ChartCache) -> Option<(Chart, String)> {
        let note = tokio::fs::read_to_string(self.note(request)).await.ok()?;
        let (digest, of) = note.split_once('\n')?;
        if of != request.chart_key() {
            return None;
        }
        let chart = Chart::from_archive(&cache.get(digest).await?).ok()?;
        Some((chart, digest.to_owned()))
    }

    /// One note per chart, version and list of sources: another source may have another archive.
    fn note(&self, request: &ChartRequest) -> PathBuf {
        let mut hasher = DefaultHasher::new();
        request.chart_key().hash(&mut hasher);
        self.cache_dir.join("fetched").join(format!(
            "{}-{}-{:016x}",
            request.name,
            request.version,
            hasher.finish()
        ))
    }
}

/// The error with what caused it: a refused connection stands two errors deep.
fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let more = source.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        next = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn request(sources: &[&str]) -> ChartRequest {
        ChartRequest {
            name: "base".to_owned(),
            version: "1.29.1".to_owned(),
            sources: sources.iter().map(|source| (*source).to_owned()).collect(),
            digest: None,
            release: "istio-base".to_owned(),
            namespace: "istio-system".to_owned(),
            kubernetes: "v1.34.4".to_owned(),
            values: json!({}),
        }
    }

    #[tokio::test]
    async fn every_source_that_fails_is_named() {
        let charts = Charts::new(std::env::temp_dir().join("fedistio-no-such-cache"));
        // Nothing listens on port 1 of loopback.
        let failure =
            charts.render(request(&["oci://127.0.0.1:1/a", "/a/folder", "ftp://x"])).await.unwrap_err();
        let text = failure.to_string();
        assert!(matches!(failure, ChartFailure::Unavailable { .. }), "{text}");
        for part in ["base-1.29.1", "127.0.0.1:1", "/a/folder: an IstioRelease may name", "ftp://x"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let failure = charts.render(request(&[])).await.unwrap_err().to_string();
        assert!(failure.contains("names no source"), "{failure}");
    }

    #[tokio::test]
    async fn many_clusters_ask_a_source_once() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let source = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(0));
        let counter = Arc::clone(&asked);
        // Whoever connects gets no answer.
        let server = tokio::spawn(async move {
            while listener.accept().await.is_ok() {
                *counter.lock().unwrap() += 1;
            }
        });
        let charts = Charts::new(std::env::temp_dir().join("fedistio-no-such-cache"));
        let asking = (0..20).map(|cluster| {
            let values = json!({"global": {"multiCluster": {"clusterName": cluster}}});
            charts.render(ChartRequest { values, ..request(&[&source]) })
        });
        for result in futures::future::join_all(asking).await {
            assert!(matches!(result, Err(ChartFailure::Unavailable { .. })));
        }
        server.abort();
        // A client may try a connection that broke once more by itself.
        let asked = *asked.lock().unwrap();
        assert!((1..5).contains(&asked), "{asked}");
    }

    #[test]
    fn equal_requests_and_only_those_share_a_rendering() {
        let one = request(&["oci://a"]);
        assert_eq!(one.key(), request(&["oci://a"]).key());
        for other in [
            ChartRequest { values: json!({"a": 1}), ..one.clone() },
            ChartRequest { kubernetes: "v1.35.0".to_owned(), ..one.clone() },
            ChartRequest { digest: Some("sha256:0".to_owned()), ..one.clone() },
            request(&["oci://b"]),
        ] {
            assert_ne!(one.key(), other.key());
        }
    }
}
