//! TLS on both sides of the proxy, with the API server's own certificate.

use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::{Context, Result};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use crate::cluster::pki::Pki;

/// The one protocol that the proxy speaks.
const HTTP: &[u8] = b"http/1.1";

/// Ends the TLS of clients and begins another one to the API server.
#[derive(Clone)]
pub(crate) struct Terminator {
    acceptor: TlsAcceptor,
    connector: TlsConnector,
}

impl std::fmt::Debug for Terminator {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Terminator").finish_non_exhaustive()
    }
}

impl Terminator {
    /// As the API server, whose certificate of the cluster's CA is for 127.0.0.1 and so serves here too.
    pub(crate) fn new(pki: &Pki) -> Result<Self> {
        let pem = |name: &str| {
            let path = pki.file(name);
            std::fs::read(&path).with_context(|| format!("cannot read {path}"))
        };
        let cert = CertificateDer::from_pem_slice(&pem("server.crt")?).context("not a certificate")?;
        let key = PrivateKeyDer::from_pem_slice(&pem("server.key")?).context("not a key")?;
        let ca = CertificateDer::from_pem_slice(pki.ca_pem().as_bytes()).context("not a CA")?;
        let provider = Arc::new(default_provider());
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![cert], key)
            .context("the server's certificate and key do not fit")?;
        server.alpn_protocols = vec![HTTP.to_vec()];
        let mut roots = RootCertStore::empty();
        roots.add(ca).context("not a CA")?;
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.alpn_protocols = vec![HTTP.to_vec()];
        Ok(Self { acceptor: Arc::new(server).into(), connector: Arc::new(client).into() })
    }

    /// TLS with a client, as the server.
    pub(super) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
    ) -> Result<server::TlsStream<S>> {
        self.acceptor.accept(stream).await.context("no TLS with the client")
    }

    /// TLS with the server, as a client.
    pub(super) async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
    ) -> Result<client::TlsStream<S>> {
        let name = ServerName::from(std::net::IpAddr::from(Ipv4Addr::LOCALHOST));
        self.connector.connect(name, stream).await.context("no TLS with the server")
    }
}
