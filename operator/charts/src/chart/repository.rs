//! Charts in a classic repository: an `index.yaml` and archives beside it.

use reqwest::{Client, Url};
use serde_json::Value as Json;

use super::{
    ChartCache,
    cache::sha256,
    fetch::{
        FetchError, FetchOptions, MAX_ARCHIVE, body, check_digest, check_scheme, check_status, client,
        parse_url,
    },
};
use crate::yaml;

const MAX_INDEX: usize = 64 << 20;

/// Downloads the archive of a chart; from the cache if the index names a digest that is there.
pub(super) async fn download(
    url: &str,
    name: &str,
    version: &str,
    cache: &ChartCache,
    options: &FetchOptions,
) -> Result<Vec<u8>, FetchError> {
    let client = client()?;
    let base = parse_url(&format!("{}/", url.trim_end_matches('/')))?;
    let index_url = base
        .join("index.yaml")
        .map_err(|source| FetchError::Address { url: url.to_owned(), message: source.to_string() })?;
    let bytes = get(&client, &index_url, &base, options, MAX_INDEX).await?;
    let protocol = |message: String| FetchError::Protocol { url: index_url.to_string(), message };
    let text = String::from_utf8(bytes).map_err(|source| protocol(source.to_string()))?;
    let index = yaml::parse(&text).map_err(|source| protocol(source.to_string()))?;
    let entry = find(&index, name, version).ok_or_else(|| FetchError::NotFound {
        url: url.to_owned(),
        name: name.to_owned(),
        version: version.to_owned(),
    })?;
    let digest = entry.get("digest").and_then(Json::as_str).filter(|digest| !digest.is_empty());
    if let Some(digest) = digest
        && let Some(bytes) = cache.get(digest).await
    {
        return Ok(bytes);
    }
    let address = entry
        .get("urls")
        .and_then(|urls| urls.get(0))
        .and_then(Json::as_str)
        .ok_or_else(|| protocol(format!("the entry of {name} {version} has no URL")))?;
    let archive_url = base
        .join(address)
        .map_err(|source| FetchError::Address { url: address.to_owned(), message: source.to_string() })?;
    let bytes = get(&client, &archive_url, &base, options, MAX_ARCHIVE).await?;
    check_digest(name, digest, &sha256(&bytes))?;
    Ok(bytes)
}

async fn get(
    client: &Client,
    url: &Url,
    base: &Url,
    options: &FetchOptions,
    limit: usize,
) -> Result<Vec<u8>, FetchError> {
    check_scheme(url, options)?;
    let mut request = client.get(url.clone());
    if let Some(credentials) = &options.credentials
        && url.origin() == base.origin()
    {
        request = request.basic_auth(&credentials.username, Some(&credentials.password));
    }
    let response =
        request.send().await.map_err(|source| FetchError::Request { url: url.to_string(), source })?;
    body(check_status(response)?, limit).await
}

/// The entry of a version; without one the newest that is no pre-release.
fn find<'i>(index: &'i Json, name: &str, version: &str) -> Option<&'i Json> {
    let entries = index.get("entries")?.get(name)?.as_array()?;
    let of = |entry: &'i Json| entry.get("version").and_then(Json::as_str);
    let bare = |version: &'i str| version.strip_prefix('v').unwrap_or(version);
    if !version.is_empty() {
        let wanted = version.strip_prefix('v').unwrap_or(version);
        return entries.iter().find(|entry| of(entry).is_some_and(|found| bare(found) == wanted));
    }
    entries
        .iter()
        .filter_map(|entry| Some((semver::Version::parse(bare(of(entry)?)).ok()?, entry)))
        .filter(|(version, _)| version.pre.is_empty())
        .max_by(|a, b| a.0.cmp(&b.0))
        .map(|(_, entry)| entry)
}
