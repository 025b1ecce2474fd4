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

/// A source that has not sent the chart within this time is given up for the next.
const FETCH_TIMEOUT: Duration = Duration::from_mins(1);

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

/// Charts that have been fetched and compiled.
pub(crate) struct Charts {
    cache_dir: PathBuf,
    compiled: Mutex<HashMap<String, Arc<CompiledChart>>>,
}

impl Charts {
    pub(crate) fn new(cache_dir: PathBuf) -> Self {
        Self { cache_dir, compiled: Mutex::default() }
    }

    /// Fetches the chart where need be and renders it: the objects in install order. Notes are evaluated too, since
    /// Istio's charts check their values there; a failure in them is a failure.
    pub(crate) async fn render(&self, request: ChartRequest) -> Result<Vec<Value>, ChartFailure> {
        let chart = format!("{}-{}", request.name, request.version);
        let compiled = self.compiled(&request, &chart).await?;
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
        Ok(rendered.manifests.into_iter().map(|manifest| manifest.value).collect())
    }

    async fn compiled(
        &self,
        request: &ChartRequest,
        chart: &str,
    ) -> Result<Arc<CompiledChart>, ChartFailure> {
        let key = request.chart_key();
        if let Some(known) = self.compiled.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(Arc::clone(known));
        }
        let loaded = self.fetch(request, chart).await?;
        let failed = |message| ChartFailure::Render { chart: chart.to_owned(), message };
        let compiled = tokio::task::spawn_blocking(move || CompiledChart::new(loaded)).await;
        let compiled = compiled
            .map_err(|error| failed(error.to_string()))?
            .map_err(|error| failed(error.to_string()))?;
        let compiled = Arc::new(compiled);
        self.compiled.lock().unwrap_or_else(PoisonError::into_inner).insert(key, Arc::clone(&compiled));
        Ok(compiled)
    }
}

impl Charts {
    /// Asks the sources one after the other. A wrong digest ends the search: whoever can serve a changed chart should not
    /// go unnoticed because another source serves the right one.
    async fn fetch(&self, request: &ChartRequest, chart: &str) -> Result<Chart, ChartFailure> {
        let cache = ChartCache::new(&self.cache_dir);
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
                    return Ok(archive.chart);
                }
                Ok(Err(error @ FetchError::Digest { .. })) => {
                    return Err(ChartFailure::Digest { chart: chart.to_owned(), message: error.to_string() });
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
        if let Some(known) = self.recall(request, &cache).await {
            tracing::warn!(chart, %message, "no source answers; the archive that was fetched before is used");
            return Ok(known);
        }
        Err(ChartFailure::Unavailable { chart: chart.to_owned(), message })
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

    async fn recall(&self, request: &ChartRequest, cache: &ChartCache) -> Option<Chart> {
        let note = tokio::fs::read_to_string(self.note(request)).await.ok()?;
        let (digest, of) = note.split_once('\n')?;
        if of != request.chart_key() {
            return None;
        }
        Chart::from_archive(&cache.get(digest).await?).ok()
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
