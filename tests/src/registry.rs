//! Charts over HTTP on loopback: by the OCI distribution protocol and as a classic chart repository.
//!
//! - `oci://127.0.0.1:PORT/istio/base:1.28.2`: <https://github.com/opencontainers/distribution-spec/blob/main/spec.md>, with Helm's media
//!   types <https://helm.sh/docs/topics/registries/>
//! - `http://127.0.0.1:PORT/charts/index.yaml` and `…/charts/base-1.28.2.tgz`

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::binaries::Binaries;
use crate::charts::{charts, sha256};

/// The namespace of all charts in the registry.
pub const NAMESPACE: &str = "istio";

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.cncf.helm.config.v1+json";
const CONTENT: &str = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";

/// What is served.
#[derive(Debug, Default)]
struct Content {
    /// Digest `sha256:…` → media type and bytes.
    blobs: BTreeMap<String, (&'static str, Bytes)>,
    /// `(repository, tag)` → digest of the manifest.
    tags: BTreeMap<(String, String), String>,
    /// Archive name → name, version, bytes.
    archives: BTreeMap<String, (String, String, Bytes)>,
}

#[derive(Debug, Default)]
struct State {
    content: Mutex<Content>,
    down: AtomicBool,
    requests: AtomicU64,
}

/// A running registry; it ends when dropped.
#[derive(Debug)]
pub struct Registry {
    address: SocketAddr,
    state: Arc<State>,
    task: JoinHandle<()>,
}

impl Registry {
    /// Serves the charts of these Istio versions.
    ///
    /// # Errors
    /// As [`charts`], or when no port is to be had.
    pub async fn start(binaries: &Binaries, istio: &[String]) -> Result<Self> {
        let registry = Self::empty().await?;
        for version in istio {
            for chart in charts(binaries, version).await? {
                let bytes = std::fs::read(&chart.path)
                    .with_context(|| format!("cannot read {}", chart.path.display()))?;
                registry.add(&chart.name, &chart.version, bytes);
            }
        }
        Ok(registry)
    }

    /// A registry without charts.
    ///
    /// # Errors
    /// When no port is to be had.
    pub async fn empty() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("the registry cannot listen")?;
        let address = listener.local_addr().context("a listener without address")?;
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                tokio::spawn(async move {
                    let service = service_fn(move |request| {
                        let answer = state.answer(&request);
                        async move { Ok::<_, std::convert::Infallible>(answer) }
                    });
                    let http = hyper::server::conn::http1::Builder::new();
                    http.serve_connection(TokioIo::new(stream), service).await.ok();
                });
            }
        });
        Ok(Self { address, state, task })
    }

    /// Adds a chart archive, or replaces the one of that name and version.
    pub fn add(&self, name: &str, version: &str, archive: Vec<u8>) {
        self.state.content().add(name, version, archive.into());
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `oci://127.0.0.1:PORT/istio`: a chart's name follows after a slash. Plain HTTP.
    pub fn oci_url(&self) -> String {
        format!("oci://{}/{NAMESPACE}", self.address)
    }

    /// `http://127.0.0.1:PORT/charts`, the classic repository.
    pub fn repository_url(&self) -> String {
        format!("http://{}/charts", self.address)
    }

    /// From now on every request is answered with 503, or properly again.
    pub fn set_down(&self, down: bool) {
        self.state.down.store(down, Ordering::Relaxed);
    }

    /// Requests so far.
    pub fn requests(&self) -> u64 {
        self.state.requests.load(Ordering::Relaxed)
    }

    /// Digest (`sha256:…`) of a chart's OCI manifest, for sources that pin it.
    pub fn manifest_digest(&self, name: &str, version: &str) -> Option<String> {
        let key = (format!("{NAMESPACE}/{name}"), version.replace('+', "_"));
        self.state.content().tags.get(&key).cloned()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Content {
    fn blob(&mut self, media_type: &'static str, bytes: Bytes) -> serde_json::Value {
        let digest = format!("sha256:{}", sha256(&bytes));
        let descriptor = json!({"mediaType": media_type, "digest": digest, "size": bytes.len()});
        self.blobs.insert(digest, (media_type, bytes));
        descriptor
    }

    fn add(&mut self, name: &str, version: &str, archive: Bytes) {
        let config =
            json!({"name": name, "version": version, "apiVersion": "v2", "appVersion": version}).to_string();
        let config = self.blob(CONFIG, config.into());
        let layer = self.blob(CONTENT, archive.clone());
        let manifest =
            json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]})
                .to_string();
        let manifest = self.blob(MANIFEST, manifest.into());
        let digest = manifest["digest"].as_str().unwrap_or_default().to_owned();
        // A tag has no '+', so clients write '_' for it.
        self.tags.insert((format!("{NAMESPACE}/{name}"), version.replace('+', "_")), digest);
        self.archives.insert(format!("{name}-{version}.tgz"), (name.to_owned(), version.to_owned(), archive));
    }

    /// The repository's index; each entry has its digest.
    fn index(&self) -> String {
        let mut by_name: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (file, (name, version, bytes)) in &self.archives {
            let entry = format!(
                "  - apiVersion: v2\n    name: {name}\n    version: {version}\n    appVersion: {version}\n    digest: {}\n    urls: [{file}]\n",
                sha256(bytes)
            );
            by_name.entry(name).or_default().push(entry);
        }
        let mut text = String::from("apiVersion: v1\nentries:\n");
        for (name, entries) in by_name {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "  {name}:\n{}", entries.concat().trim_end());
        }
        text
    }
}

impl State {
    fn content(&self) -> std::sync::MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if self.down.load(Ordering::Relaxed) {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "the registry is down");
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return error(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", "charts are only read here");
        }
        let path = request.uri().path();
        if path == "/v2/" || path == "/v2" {
            return full(StatusCode::OK, "application/json", Bytes::from_static(b"{}"), None);
        }
        if let Some(path) = path.strip_prefix("/v2/") {
            return self.distribution(path);
        }
        match path.strip_prefix("/charts/") {
            Some("index.yaml") => {
                full(StatusCode::OK, "application/yaml", self.content().index().into(), None)
            }
            Some(file) => match self.content().archives.get(file) {
                Some((_, _, bytes)) => full(StatusCode::OK, "application/gzip", bytes.clone(), None),
                None => plain(StatusCode::NOT_FOUND, "no such chart"),
            },
            None => plain(StatusCode::NOT_FOUND, "charts are below /charts/ and /v2/"),
        }
    }

    fn distribution(&self, path: &str) -> Response<Full<Bytes>> {
        let content = self.content();
        if let Some((repository, reference)) = path.split_once("/manifests/") {
            let tag = (repository.to_owned(), reference.to_owned());
            let digest = content.tags.get(&tag).map_or(reference, String::as_str);
            return match content.blobs.get(digest).filter(|(media_type, _)| *media_type == MANIFEST) {
                Some((media_type, bytes)) => full(StatusCode::OK, media_type, bytes.clone(), Some(digest)),
                None => error(
                    StatusCode::NOT_FOUND,
                    "MANIFEST_UNKNOWN",
                    &format!("{repository} has no {reference}"),
                ),
            };
        }
        if let Some((_, digest)) = path.split_once("/blobs/") {
            return match content.blobs.get(digest) {
                Some((_, bytes)) => {
                    full(StatusCode::OK, "application/octet-stream", bytes.clone(), Some(digest))
                }
                None => error(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", "no such blob"),
            };
        }
        if let Some(repository) = path.strip_suffix("/tags/list") {
            let tags: Vec<_> =
                content.tags.keys().filter(|(name, _)| name == repository).map(|(_, tag)| tag).collect();
            if tags.is_empty() {
                return error(StatusCode::NOT_FOUND, "NAME_UNKNOWN", "no such repository");
            }
            let body = json!({"name": repository, "tags": tags}).to_string();
            return full(StatusCode::OK, "application/json", body.into(), None);
        }
        error(StatusCode::NOT_FOUND, "NAME_UNKNOWN", "no such path")
    }
}

fn full(status: StatusCode, media_type: &str, bytes: Bytes, digest: Option<&str>) -> Response<Full<Bytes>> {
    let mut builder = Response::builder().status(status).header(header::CONTENT_TYPE, media_type);
    if let Some(digest) = digest {
        builder = builder.header("Docker-Content-Digest", digest);
    }
    builder.body(Full::new(bytes)).unwrap_or_else(|_| Response::new(Full::default()))
}

fn plain(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    full(status, "text/plain", Bytes::copy_from_slice(text.as_bytes()), None)
}

fn error(status: StatusCode, code: &str, message: &str) -> Response<Full<Bytes>> {
    let body = json!({"errors": [{"code": code, "message": message}]}).to_string();
    full(status, "application/json", body.into(), None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_lists_every_version() {
        let mut content = Content::default();
        content.add("base", "1.28.2", Bytes::from_static(b"a"));
        content.add("base", "1.29.1", Bytes::from_static(b"b"));
        content.add("istiod", "1.28.2", Bytes::from_static(b"c"));
        let index: serde_json::Value = serde_saphyr::from_str(&content.index()).unwrap();
        assert_eq!(index["entries"]["base"].as_array().unwrap().len(), 2);
        assert_eq!(index["entries"]["istiod"][0]["digest"], sha256(b"c"));
        assert_eq!(index["entries"]["istiod"][0]["urls"][0], "istiod-1.28.2.tgz");
    }
}
