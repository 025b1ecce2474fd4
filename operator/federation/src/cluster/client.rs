//! Clients of API servers that fit a fleet. kube's own client opens a connection for each watch and each request in flight, with a TLS
//! session each; this one asks for HTTP/2, so that all of a cluster's watches and writes share one.

use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_timeout::TimeoutConnector;
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use kube::{
    Client, Config,
    client::{Body, ClientBuilder, ConfigExt as _, retry::RetryPolicy},
};
use std::time::Duration;
use tower::{BoxError, ServiceBuilder, retry::RetryLayer};

/// A server that takes longer to accept a connection and to end its TLS handshake is taken for away.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection on which nothing came for so long is asked for a sign of life (an HTTP/2 ping)…
const PING_AFTER: Duration = Duration::from_secs(20);
/// …and ends when none comes by then, and with it the watches of a server that is gone without a word. client-go waits 30 and 15 s.
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Makes a client that speaks HTTP/2 where the server does, else HTTP/1.1.
///
/// What a server is too busy for (429, 503, 504) is sent again where `config.default_retry` says so.
///
/// # Errors
/// When certificates, keys or server name of `config` can't be used.
pub fn connect(config: Config) -> Result<Client, kube::Error> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    // A request is more than one small segment: without this the second waits for the first one's acknowledgement.
    tcp.set_nodelay(true);
    let mut connector = TimeoutConnector::new(tls(&config, tcp)?);
    connector
        .set_connect_timeout(Some(config.connect_timeout.unwrap_or(CONNECT_TIMEOUT).min(CONNECT_TIMEOUT)));
    let client = legacy::Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .http2_keep_alive_interval(PING_AFTER)
        .http2_keep_alive_timeout(PING_TIMEOUT)
        .http2_keep_alive_while_idle(true)
        .build::<_, Body>(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.default_retry.then(|| RetryLayer::new(RetryPolicy::server_retry())))
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(client);
    Ok(ClientBuilder::new(service, config.default_namespace).build())
}

fn tls(config: &Config, tcp: HttpConnector) -> Result<HttpsConnector<HttpConnector>, kube::Error> {
    let mut builder =
        HttpsConnectorBuilder::new().with_tls_config(config.rustls_client_config()?).https_or_http();
    if let Some(name) = &config.tls_server_name {
        let name = name.clone().try_into().map_err(|error| kube::Error::Service(BoxError::from(error)))?;
        builder = builder.with_server_name_resolver(FixedServerNameResolver::new(name));
    }
    Ok(builder.enable_all_versions().wrap_connector(tcp))
}
