//! Charts from a registry and a repository on loopback.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test needs and does not find is a failure of the test"
)]

use std::{collections::HashMap, sync::Arc};

use fedistio_charts::{ChartCache, ChartSource, Credentials, FetchError, FetchOptions, fetch};
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

const TOKEN: &str = "Bearer secret-token";

fn archive() -> Vec<u8> {
    let mut builder =
        tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default()));
    for (name, text) in
        [("hello/Chart.yaml", "name: hello\nversion: 1.0.0\n"), ("hello/templates/a.yaml", "kind: A\n")]
    {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append_data(&mut header, name, text.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap().finish().unwrap()
}

fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{:x}", Sha256::digest(bytes))
}

/// Serves `routes`; what is below `/v2/` only with the token, which `/token` gives to user and password.
async fn serve(routes: HashMap<String, Vec<u8>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let (routes, own) = (Arc::new(routes), host.clone());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            let mut buffer = [0; 4096];
            while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                let read = stream.read(&mut buffer).await.unwrap_or(0);
                if read == 0 {
                    break;
                }
                request.extend_from_slice(&buffer[..read]);
            }
            let request = String::from_utf8_lossy(&request).into_owned();
            let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
            let authorization = request
                .lines()
                .find_map(|line| {
                    line.split_once(": ").filter(|(key, _)| key.eq_ignore_ascii_case("authorization"))
                })
                .map_or("", |(_, value)| value);
            let (status, extra, body) = if path.starts_with("/token?") {
                let good = authorization == "Basic dTpw"
                    && path.contains("scope=repository%3Acharts%2Fhello%3Apull");
                let body = if good { br#"{"token":"secret-token"}"#.to_vec() } else { Vec::new() };
                (if good { 200 } else { 401 }, String::new(), body)
            } else if path.starts_with("/v2/") && authorization != TOKEN {
                let challenge = format!(
                    "WWW-Authenticate: Bearer realm=\"http://{own}/token\",service=\"test\",scope=\"repository:charts/hello:pull\"\r\n"
                );
                (401, challenge, Vec::new())
            } else {
                match routes.get(&path) {
                    Some(body) => (200, String::new(), body.clone()),
                    None => (404, String::new(), Vec::new()),
                }
            };
            let head = format!(
                "HTTP/1.1 {status} X\r\n{extra}Content-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all(head.as_bytes()).await;
            let _ = stream.write_all(&body).await;
        }
    });
    host
}

fn options() -> FetchOptions {
    let credentials = Credentials { username: "u".to_owned(), password: "p".to_owned() };
    FetchOptions { credentials: Some(credentials), plain_http: false }
}

fn registry(bytes: &[u8], digest: &str) -> HashMap<String, Vec<u8>> {
    let manifest = format!(
        r#"{{"layers":[{{"mediaType":"application/vnd.cncf.helm.chart.content.v1.tar+gzip","digest":"{digest}","size":1}}]}}"#
    );
    HashMap::from([
        ("/v2/charts/hello/manifests/1.0.0".to_owned(), manifest.into_bytes()),
        (format!("/v2/charts/hello/blobs/{digest}"), bytes.to_vec()),
    ])
}

#[tokio::test]
async fn a_registry_with_a_token() {
    let bytes = archive();
    let digest = sha256(&bytes);
    let host = serve(registry(&bytes, &digest)).await;
    let dir = tempfile::tempdir().unwrap();
    let cache = ChartCache::new(dir.path());
    let source: ChartSource = format!("oci://{host}/charts").parse().unwrap();
    let got = fetch(&source, "hello", "1.0.0", None, &cache, &options()).await.expect("is fetched");
    assert_eq!((got.digest.as_str(), got.chart.name()), (digest.as_str(), "hello"));
    // With its digest it comes from the cache, whatever the source.
    let gone: ChartSource = "oci://127.0.0.1:1/charts".parse().unwrap();
    fetch(&gone, "hello", "1.0.0", Some(&digest), &cache, &options()).await.expect("is in the cache");
    let error = fetch(&source, "hello", "1.0.0", None, &cache, &FetchOptions::default()).await.unwrap_err();
    assert!(matches!(error, FetchError::Status { status, .. } if status == 401), "{error}");
    let error = fetch(&source, "hello", "2.0.0", None, &cache, &options()).await.unwrap_err();
    assert!(matches!(error, FetchError::Status { status, .. } if status == 404), "{error}");
    let wrong = format!("sha256:{}", "0".repeat(64));
    let error = fetch(&source, "hello", "1.0.0", Some(&wrong), &cache, &options()).await.unwrap_err();
    assert!(matches!(error, FetchError::Digest { .. }), "{error}");
}

#[tokio::test]
async fn a_registry_that_lies() {
    let digest = sha256(b"something else");
    let host = serve(registry(&archive(), &digest)).await;
    let dir = tempfile::tempdir().unwrap();
    let source = ChartSource::Oci { url: format!("oci://{host}/charts") };
    let error =
        fetch(&source, "hello", "1.0.0", None, &ChartCache::new(dir.path()), &options()).await.unwrap_err();
    assert!(matches!(error, FetchError::Digest { .. }), "{error}");
}

#[tokio::test]
async fn a_repository() {
    let bytes = archive();
    let index = format!(
        "entries:\n  hello:\n  - version: 0.9.0\n    urls: [old.tgz]\n  - version: 1.0.0\n    digest: {}\n    urls: [hello-1.0.0.tgz]\n",
        sha256(&bytes).trim_start_matches("sha256:")
    );
    let host = serve(HashMap::from([
        ("/repo/index.yaml".to_owned(), index.into_bytes()),
        ("/repo/hello-1.0.0.tgz".to_owned(), bytes.clone()),
    ]))
    .await;
    let dir = tempfile::tempdir().unwrap();
    let cache = ChartCache::new(dir.path());
    let source: ChartSource = format!("http://{host}/repo").parse().unwrap();
    for version in ["1.0.0", "v1.0.0", ""] {
        let got = fetch(&source, "hello", version, None, &cache, &FetchOptions::default())
            .await
            .expect("is fetched");
        assert_eq!(got.bytes, bytes);
    }
    let error = fetch(&source, "hello", "3.0.0", None, &cache, &FetchOptions::default()).await.unwrap_err();
    assert!(matches!(error, FetchError::NotFound { .. }), "{error}");
    let plain = ChartSource::Repository { url: "http://charts.example.com".to_owned() };
    let error = fetch(&plain, "hello", "1.0.0", None, &cache, &FetchOptions::default()).await.unwrap_err();
    assert!(matches!(error, FetchError::PlainHttp(_)), "{error}");
}
