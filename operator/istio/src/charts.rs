//! Where the driver's charts come from: the only file that knows the crate `fedistio-charts`.

use fedistio_charts::{
    Capabilities, Chart, ChartCache, ChartSource, CompiledChart, FetchError, FetchOptions, ReleaseOptions,
    fetch,
};
use serde_json::Value;
use std::{
    collections::HashMap,
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
                Ok(Ok(archive)) => return Ok(archive.chart),
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
        Err(ChartFailure::Unavailable { chart: chart.to_owned(), message: failures.join("; ") })
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
