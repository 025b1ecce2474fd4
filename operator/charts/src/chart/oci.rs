//! Charts in an OCI registry: the distribution protocol as far as pulling needs it.

use reqwest::{
    Client, Response, StatusCode, Url,
    header::{ACCEPT, AUTHORIZATION, WWW_AUTHENTICATE},
};
use serde::Deserialize;

use super::{
    ChartCache,
    cache::sha256,
    fetch::{
        FetchError, FetchOptions, MAX_ARCHIVE, body, check_digest, check_scheme, check_status, client,
        is_loopback, parse_url,
    },
};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONTENT: &str = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";
const OLD_CONTENT: &str = "application/tar+gzip";
const MAX_MANIFEST: usize = 4 << 20;

#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    media_type: String,
    digest: String,
}

#[derive(Deserialize)]
struct Token {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
}

struct Registry<'o> {
    client: Client,
    options: &'o FetchOptions,
    authorization: Option<String>,
}

/// Pulls the archive of a chart; from the cache if the registry names a digest that is there.
pub(super) async fn pull(
    url: &str,
    name: &str,
    version: &str,
    cache: &ChartCache,
    options: &FetchOptions,
) -> Result<Vec<u8>, FetchError> {
    let base = base_url(url, name, options)?;
    // A tag has no `+`; Helm writes an underscore for it.
    let tag = version.replace('+', "_");
    let mut registry = Registry { client: client()?, options, authorization: None };
    let manifest_url = parse_url(&format!("{base}/manifests/{tag}"))?;
    let response = registry.get(&manifest_url, Some(MANIFEST)).await?;
    let promised = response
        .headers()
        .get("docker-content-digest")
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    let bytes = body(response, MAX_MANIFEST).await?;
    let promised = promised.filter(|digest| digest.starts_with("sha256:"));
    check_digest(name, promised.as_deref(), &sha256(&bytes))?;
    let protocol = |message: String| FetchError::Protocol { url: manifest_url.to_string(), message };
    let manifest: Manifest =
        serde_json::from_slice(&bytes).map_err(|source| protocol(format!("no image manifest: {source}")))?;
    let layer = manifest
        .layers
        .iter()
        .find(|layer| layer.media_type == CONTENT || layer.media_type == OLD_CONTENT)
        .ok_or_else(|| protocol("the artifact is no Helm chart: it has no chart content layer".to_owned()))?;
    let valid = layer
        .digest
        .strip_prefix("sha256:")
        .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()));
    if !valid {
        return Err(protocol(format!("the digest {:?} is not supported", layer.digest)));
    }
    if let Some(bytes) = cache.get(&layer.digest).await {
        return Ok(bytes);
    }
    let blob_url = parse_url(&format!("{base}/blobs/{}", layer.digest))?;
    let bytes = body(registry.get(&blob_url, None).await?, MAX_ARCHIVE).await?;
    check_digest(name, Some(&layer.digest), &sha256(&bytes))?;
    Ok(bytes)
}

/// `SCHEME://HOST/v2/PATH/NAME` of an `oci://` address.
fn base_url(url: &str, name: &str, options: &FetchOptions) -> Result<String, FetchError> {
    let address = |message: &str| FetchError::Address { url: url.to_owned(), message: message.to_owned() };
    let rest = url.strip_prefix("oci://").ok_or_else(|| address("it must start with oci://"))?;
    let (host, path) = rest.trim_end_matches('/').split_once('/').ok_or_else(|| address("it has no path"))?;
    let path = if path.rsplit('/').next() == Some(name) { path.to_owned() } else { format!("{path}/{name}") };
    if host.is_empty()
        || host.contains(['@', '?', '#'])
        || path.contains(['?', '#', '%'])
        || path.contains("..")
    {
        return Err(address("host or path is not valid"));
    }
    let secure = parse_url(&format!("https://{host}"))?;
    let scheme = if options.plain_http || is_loopback(&secure) { "http" } else { "https" };
    Ok(format!("{scheme}://{host}/v2/{path}"))
}

impl Registry<'_> {
    /// A GET that answers an authentication challenge once.
    async fn get(&mut self, url: &Url, accept: Option<&str>) -> Result<Response, FetchError> {
        check_scheme(url, self.options)?;
        let response = self.send(url, accept).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return check_status(response);
        }
        let challenge = response
            .headers()
            .get(WWW_AUTHENTICATE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_owned();
        self.authorize(url, &challenge).await?;
        check_status(self.send(url, accept).await?)
    }

    async fn send(&self, url: &Url, accept: Option<&str>) -> Result<Response, FetchError> {
        let mut request = self.client.get(url.clone());
        if let Some(accept) = accept {
            request = request.header(ACCEPT, accept);
        }
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        request.send().await.map_err(|source| FetchError::Request { url: url.to_string(), source })
    }

    async fn authorize(&mut self, url: &Url, challenge: &str) -> Result<(), FetchError> {
        let unauthorized = || FetchError::Status { url: url.to_string(), status: StatusCode::UNAUTHORIZED };
        let (scheme, parameters) = challenge.split_once(' ').unwrap_or((challenge, ""));
        if scheme.eq_ignore_ascii_case("basic") {
            let credentials = self.options.credentials.as_ref().ok_or_else(unauthorized)?;
            self.authorization = Some(basic(&credentials.username, &credentials.password));
            return Ok(());
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(unauthorized());
        }
        let parameters = challenge_parameters(parameters);
        let find =
            |key: &str| parameters.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str());
        let mut realm = parse_url(find("realm").ok_or_else(unauthorized)?)?;
        check_scheme(&realm, self.options)?;
        {
            let mut query = realm.query_pairs_mut();
            for key in ["service", "scope"] {
                if let Some(value) = find(key) {
                    query.append_pair(key, value);
                }
            }
        }
        let mut request = self.client.get(realm.clone());
        if let Some(credentials) = &self.options.credentials {
            request = request.basic_auth(&credentials.username, Some(&credentials.password));
        }
        let response =
            request.send().await.map_err(|source| FetchError::Request { url: realm.to_string(), source })?;
        let bytes = body(check_status(response)?, MAX_MANIFEST).await?;
        let token: Token = serde_json::from_slice(&bytes).map_err(|source| FetchError::Protocol {
            url: realm.to_string(),
            message: format!("no token: {source}"),
        })?;
        let token = if token.token.is_empty() { token.access_token } else { token.token };
        self.authorization = Some(format!("Bearer {token}"));
        Ok(())
    }
}

pub(super) fn basic(username: &str, password: &str) -> String {
    use base64::Engine as _;
    let plain = format!("{username}:{password}");
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(plain))
}

/// `a="b",c="d"` of a challenge.
fn challenge_parameters(text: &str) -> Vec<(String, String)> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some((key, after)) = rest.split_once('=') {
        let key = key.trim_matches([' ', ',']).to_ascii_lowercase();
        let (value, remaining) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once(',').unwrap_or((after, "")),
        };
        out.push((key, value.to_owned()));
        rest = remaining;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let options = FetchOptions::default();
        let base = |url: &str| base_url(url, "istiod", &options).ok();
        assert_eq!(base("oci://gcr.io/x/charts").as_deref(), Some("https://gcr.io/v2/x/charts/istiod"));
        assert_eq!(base("oci://gcr.io/x/istiod").as_deref(), Some("https://gcr.io/v2/x/istiod"));
        assert_eq!(base("oci://127.0.0.1:5000/x").as_deref(), Some("http://127.0.0.1:5000/v2/x/istiod"));
        assert_eq!(base("https://gcr.io/x"), None);
        assert_eq!(base("oci://user@gcr.io/x"), None);
        assert_eq!(base("oci://gcr.io/../x"), None);
    }

    #[test]
    fn challenges() {
        let parsed =
            challenge_parameters(r#"realm="https://a/t",service="s",scope="repository:x:pull,push""#);
        assert_eq!(parsed[0], ("realm".to_owned(), "https://a/t".to_owned()));
        assert_eq!(parsed[2], ("scope".to_owned(), "repository:x:pull,push".to_owned()));
    }
}
