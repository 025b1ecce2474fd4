//! Kubeconfigs as text and as clients.

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use super::pki::ClientCert;

/// How a user of a kubeconfig is authenticated.
#[derive(Debug, Clone)]
pub enum Credential {
    /// A client certificate.
    Cert(ClientCert),
    /// A bearer token.
    Token(String),
}

/// A kubeconfig with one context, in the usual form with everything inline.
///
/// The user is called `user@cluster`, so that kubeconfigs of several clusters can be merged. `server` is a URL, `ca` the PEM text of the CA that signed the server's certificate.
pub fn kubeconfig(cluster: &str, server: &str, ca: &str, user: &str, credential: &Credential) -> String {
    let credential = match credential {
        Credential::Cert(cert) => format!(
            "client-certificate-data: {}\n    client-key-data: {}",
            STANDARD.encode(&cert.cert),
            STANDARD.encode(&cert.key)
        ),
        Credential::Token(token) => format!("token: {token}"),
    };
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: {cluster}\nclusters:\n- name: {cluster}\n  cluster:\n    server: {server}\n    \
         certificate-authority-data: {}\ncontexts:\n- name: {cluster}\n  context:\n    cluster: {cluster}\n    user: {user}@{cluster}\nusers:\n\
         - name: {user}@{cluster}\n  user:\n    {credential}\n",
        STANDARD.encode(ca)
    )
}

/// A client for the current context of a kubeconfig.
///
/// # Errors
/// When the text is not a kubeconfig, or the client cannot be made from it.
pub async fn client(kubeconfig: &str) -> Result<Client> {
    let parsed = Kubeconfig::from_yaml(kubeconfig).context("not a kubeconfig")?;
    let config = Config::from_custom_kubeconfig(parsed, &KubeConfigOptions::default()).await;
    Client::try_from(config.context("the kubeconfig cannot be used")?)
        .context("no client can be made from the kubeconfig")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn is_read_back() {
        let pki = tempfile::tempdir().unwrap();
        let pki = crate::cluster::pki::Pki::create(pki.path(), "a").unwrap();
        let cert = Credential::Cert(pki.client("me", Some("system:masters")).unwrap());
        let text = kubeconfig("a", "https://127.0.0.1:1", &pki.ca_pem(), "me", &cert);
        let read = Kubeconfig::from_yaml(&text).unwrap();
        assert_eq!(read.current_context.as_deref(), Some("a"));
        assert!(client(&text).await.is_ok());
        assert!(client("no: kubeconfig").await.is_err());
    }
}
