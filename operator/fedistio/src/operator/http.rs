//! The operator's own HTTP server: `/metrics`, `/healthz`, `/readyz`.

use anyhow::Context as _;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use prometheus_client::registry::Registry;
use std::{convert::Infallible, net::SocketAddr, sync::Arc};
use tokio::{net::TcpListener, sync::watch};

/// Content type of the OpenMetrics text format.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves in the background; returns the address, with the port that was picked where `address` says 0.
pub(crate) async fn serve(
    address: SocketAddr,
    registry: Arc<Registry>,
    ready: watch::Receiver<bool>,
) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await.with_context(|| {
        format!("{address} can't be listened on; choose another one with --metrics-address")
    })?;
    let bound = listener.local_addr()?;
    tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            let (registry, ready) = (Arc::clone(&registry), ready.clone());
            tokio::spawn(async move {
                let service = service_fn(|request| {
                    let answer = answer(&request, &registry, *ready.borrow());
                    async move { Ok::<_, Infallible>(answer) }
                });
                // A client that goes away in the middle is its own business.
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    Ok(bound)
}

fn answer(request: &Request<Incoming>, registry: &Registry, ready: bool) -> Response<Full<Bytes>> {
    let (status, kind, body) = respond(request.method(), request.uri().path(), registry, ready);
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    response
}

fn respond(
    method: &Method,
    path: &str,
    registry: &Registry,
    ready: bool,
) -> (StatusCode, &'static str, String) {
    const TEXT: &str = "text/plain; charset=utf-8";
    if method != Method::GET {
        return (StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET\n".to_owned());
    }
    match path {
        "/healthz" => (StatusCode::OK, TEXT, "ok\n".to_owned()),
        "/readyz" if ready => (StatusCode::OK, TEXT, "ok\n".to_owned()),
        "/readyz" => (StatusCode::SERVICE_UNAVAILABLE, TEXT, "starting\n".to_owned()),
        "/metrics" => {
            let mut text = String::new();
            match prometheus_client::encoding::text::encode(&mut text, registry) {
                Ok(()) => (StatusCode::OK, OPENMETRICS, text),
                Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{error}\n")),
            }
        }
        _ => (StatusCode::NOT_FOUND, TEXT, "/metrics, /healthz or /readyz\n".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_and_metrics_answer() {
        let registry = Registry::default();
        let status = |method: &Method, path: &str, ready| respond(method, path, &registry, ready).0;
        assert_eq!(status(&Method::GET, "/healthz", false), StatusCode::OK);
        assert_eq!(status(&Method::GET, "/readyz", false), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(status(&Method::GET, "/readyz", true), StatusCode::OK);
        assert_eq!(status(&Method::GET, "/metrics", true), StatusCode::OK);
        assert_eq!(status(&Method::GET, "/", true), StatusCode::NOT_FOUND);
        assert_eq!(status(&Method::POST, "/metrics", true), StatusCode::METHOD_NOT_ALLOWED);
    }
}
