//! Getting a packaged chart from where it is published.

use std::{io, net::IpAddr, path::PathBuf, time::Duration};

use reqwest::{Client, Response, StatusCode, Url};

use super::{
    Chart, ChartCache, ChartError,
    cache::{same_digest, sha256},
    oci, repository,
};

/// Where charts come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChartSource {
    /// An OCI registry: `oci://HOST/PATH`; the chart's name is appended unless the path ends with it.
    Oci {
        /// The registry and path.
        url: String,
    },
    /// A chart repository with an `index.yaml`.
    Repository {
        /// The folder of the index, `https://…`.
        url: String,
    },
    /// A folder that holds the chart, or a folder or `.tgz` of the chart's name in it.
    Folder {
        /// The folder.
        path: PathBuf,
    },
}

impl std::str::FromStr for ChartSource {
    type Err = FetchError;

    /// Reads `oci://…`, `https://…` (or `http://…`), or the path of a folder, with or without `file://`.
    fn from_str(text: &str) -> Result<Self, FetchError> {
        if text.starts_with("oci://") {
            return Ok(Self::Oci { url: text.to_owned() });
        }
        if text.starts_with("https://") || text.starts_with("http://") {
            return Ok(Self::Repository { url: text.to_owned() });
        }
        let path = text.strip_prefix("file://").unwrap_or(text);
        if path.is_empty() || path.contains("://") {
            return Err(FetchError::Address {
                url: text.to_owned(),
                message: "write oci://HOST/PATH, https://HOST/PATH, or the path of a folder".to_owned(),
            });
        }
        Ok(Self::Folder { path: path.into() })
    }
}

/// A user for a registry or repository.
#[derive(Clone)]
pub struct Credentials {
    /// User name.
    pub username: String,
    /// Password or token.
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

/// How to fetch.
#[derive(Clone, Debug, Default)]
pub struct FetchOptions {
    /// Sent to the source's own host, over HTTPS (or as the next option allows), and to no other.
    pub credentials: Option<Credentials>,
    /// Allows plain HTTP to any host. To loopback addresses it is always allowed.
    pub plain_http: bool,
}

/// A chart as fetched.
#[derive(Clone, Debug)]
pub struct ChartArchive {
    /// The `.tgz`; empty for a chart that is a folder.
    pub bytes: Vec<u8>,
    /// `sha256:…` of the bytes; empty for a folder.
    pub digest: String,
    /// The loaded chart.
    pub chart: Chart,
}

/// Why a chart could not be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The address is none, or of a wrong kind.
    #[error("{url:?} is not a valid address of charts: {message}")]
    Address {
        /// The address.
        url: String,
        /// What is wrong.
        message: String,
    },
    /// Plain HTTP would be used.
    #[error("refusing to use plain HTTP for {0}: use https, or allow it explicitly")]
    PlainHttp(String),
    /// No answer.
    #[error("fetching {url}: {source}")]
    Request {
        /// The address.
        url: String,
        /// What went wrong.
        #[source]
        source: reqwest::Error,
    },
    /// An answer that is no success.
    #[error("{url} answered {status}{}", match .status.as_u16() {
        401 | 403 => ": check the credentials",
        404 => ": check the name and the version",
        _ => "",
    })]
    Status {
        /// The address.
        url: String,
        /// The HTTP status.
        status: StatusCode,
    },
    /// The answer is not what the protocol says.
    #[error("{url} sent something unexpected: {message}")]
    Protocol {
        /// The address.
        url: String,
        /// What is wrong.
        message: String,
    },
    /// The chart or version is not in the index.
    #[error("chart {name} {version} is not in {url}")]
    NotFound {
        /// The source.
        url: String,
        /// The chart.
        name: String,
        /// The version.
        version: String,
    },
    /// The bytes are not the expected ones.
    #[error("chart {name}: expected {expected} but got {actual}; the source changed or was tampered with")]
    Digest {
        /// The chart.
        name: String,
        /// The digest that was asked for.
        expected: String,
        /// The digest of what came.
        actual: String,
    },
    /// More bytes than a chart may have.
    #[error("{url} sent more than {limit} bytes")]
    TooLarge {
        /// The address.
        url: String,
        /// The bound.
        limit: usize,
    },
    /// The chart is another than was asked for.
    #[error("asked for chart {expected} and got {actual}")]
    WrongChart {
        /// Name and version asked for.
        expected: String,
        /// Name and version in Chart.yaml.
        actual: String,
    },
    /// The cache can't be written.
    #[error("the chart cache {path}: {source}")]
    Cache {
        /// Its folder.
        path: String,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// The chart does not load.
    #[error(transparent)]
    Chart(#[from] ChartError),
}

/// Bytes that a packaged chart may have.
pub(super) const MAX_ARCHIVE: usize = 100 << 20;

/// Gets chart `name` in `version` and checks that it is that chart. `expected_digest` is the `sha256:…` of the `.tgz` (in a
/// registry: of its content layer); a chart with that digest in the cache is taken without asking the source.
pub async fn fetch(
    source: &ChartSource,
    name: &str,
    version: &str,
    expected_digest: Option<&str>,
    cache: &ChartCache,
    options: &FetchOptions,
) -> Result<ChartArchive, FetchError> {
    if let ChartSource::Folder { path } = source {
        return from_folder(path, name, version, expected_digest).await;
    }
    let cached = match expected_digest {
        Some(digest) => cache.get(digest).await,
        None => None,
    };
    let bytes = match (cached, source) {
        (Some(bytes), _) => bytes,
        (None, ChartSource::Oci { url }) => oci::pull(url, name, version, cache, options).await?,
        (None, ChartSource::Repository { url }) => {
            repository::download(url, name, version, cache, options).await?
        }
        (None, ChartSource::Folder { .. }) => Vec::new(),
    };
    finish(bytes, name, version, expected_digest, Some(cache)).await
}

async fn finish(
    bytes: Vec<u8>,
    name: &str,
    version: &str,
    expected_digest: Option<&str>,
    cache: Option<&ChartCache>,
) -> Result<ChartArchive, FetchError> {
    let digest = sha256(&bytes);
    check_digest(name, expected_digest, &digest)?;
    let chart = Chart::from_archive(&bytes)?;
    check_chart(&chart, name, version)?;
    if let Some(cache) = cache {
        cache
            .put(&bytes)
            .await
            .map_err(|source| FetchError::Cache { path: cache.dir().display().to_string(), source })?;
    }
    Ok(ChartArchive { bytes, digest, chart })
}

pub(super) fn check_digest(name: &str, expected: Option<&str>, actual: &str) -> Result<(), FetchError> {
    match expected {
        Some(expected) if !same_digest(expected, actual) => Err(FetchError::Digest {
            name: name.to_owned(),
            expected: expected.to_owned(),
            actual: actual.to_owned(),
        }),
        _ => Ok(()),
    }
}

fn check_chart(chart: &Chart, name: &str, version: &str) -> Result<(), FetchError> {
    let bare = |version: &str| version.strip_prefix('v').unwrap_or(version).to_owned();
    let found = chart.metadata();
    if found.name == name && (version.is_empty() || bare(&found.version) == bare(version)) {
        return Ok(());
    }
    Err(FetchError::WrongChart {
        expected: format!("{name} {version}"),
        actual: format!("{} {}", found.name, found.version),
    })
}

async fn from_folder(
    path: &std::path::Path,
    name: &str,
    version: &str,
    expected_digest: Option<&str>,
) -> Result<ChartArchive, FetchError> {
    let archive = path.join(format!("{name}-{version}.tgz"));
    if let Ok(bytes) = tokio::fs::read(&archive).await {
        return finish(bytes, name, version, expected_digest, None).await;
    }
    let inner = path.join(name);
    let folder = if inner.join("Chart.yaml").exists() { inner } else { path.to_owned() };
    let chart = tokio::task::spawn_blocking(move || Chart::from_dir(folder))
        .await
        .map_err(|_| ChartError::NoChartYaml(path.display().to_string()))??;
    check_chart(&chart, name, version)?;
    check_digest(name, expected_digest, "a folder, which has no digest")?;
    Ok(ChartArchive { bytes: Vec::new(), digest: String::new(), chart })
}

// What registries and repositories share.

pub(super) fn client() -> Result<Client, FetchError> {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Somebody else may have been faster; either provider serves.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
    Client::builder()
        .connect_timeout(Duration::from_secs(10))
        .timeout(Duration::from_mins(2))
        .user_agent(concat!("fedistio/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|source| FetchError::Request { url: "the HTTP client".to_owned(), source })
}

pub(super) fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Refuses plain HTTP where it is not allowed.
pub(super) fn check_scheme(url: &Url, options: &FetchOptions) -> Result<(), FetchError> {
    match url.scheme() {
        "https" => Ok(()),
        "http" if options.plain_http || is_loopback(url) => Ok(()),
        "http" => Err(FetchError::PlainHttp(url.to_string())),
        _ => Err(FetchError::Address { url: url.to_string(), message: "use https".to_owned() }),
    }
}

pub(super) fn parse_url(url: &str) -> Result<Url, FetchError> {
    Url::parse(url).map_err(|source| FetchError::Address { url: url.to_owned(), message: source.to_string() })
}

pub(super) fn check_status(response: Response) -> Result<Response, FetchError> {
    if response.status().is_success() {
        return Ok(response);
    }
    Err(FetchError::Status { url: response.url().to_string(), status: response.status() })
}

/// Reads a body up to a bound.
pub(super) async fn body(mut response: Response, limit: usize) -> Result<Vec<u8>, FetchError> {
    let url = response.url().to_string();
    let mut bytes = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) => {
                if bytes.len() + chunk.len() > limit {
                    return Err(FetchError::TooLarge { url, limit });
                }
                bytes.extend_from_slice(&chunk);
            }
            Ok(None) => return Ok(bytes),
            Err(source) => return Err(FetchError::Request { url, source }),
        }
    }
}
