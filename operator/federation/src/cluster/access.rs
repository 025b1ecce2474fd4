//! From a `MemberCluster` to a client: reads the kubeconfig secret and makes a client that fits a fleet.

use crate::{cluster::connect, worker::chain};
use fedistio_crds::{ClusterAccess, SecretKeyReference};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, Config,
    config::{AuthInfo, KubeConfigOptions, Kubeconfig},
};

/// Why a member's access does not work.
#[derive(Debug, thiserror::Error, strum::IntoStaticStr)]
pub enum AccessError {
    /// The secret can't be read.
    #[error(
        "secret {namespace}/{name}: {reason}; create it with `fedistio join`, or correct spec.access.kubeconfig.secretRef"
    )]
    SecretUnavailable {
        /// Namespace of the secret.
        namespace: String,
        /// Name of the secret.
        name: String,
        /// What the host says.
        reason: String,
    },
    /// The secret lacks the key.
    #[error("secret {namespace}/{name} has no key {key:?}; put the kubeconfig there")]
    SecretKeyMissing {
        /// Namespace of the secret.
        namespace: String,
        /// Name of the secret.
        name: String,
        /// The key that was looked for.
        key: String,
    },
    /// The text is not a kubeconfig.
    #[error("the kubeconfig can't be read: {0}; replace the secret's content with a kubeconfig")]
    KubeconfigInvalid(String),
    /// The kubeconfig points outside itself.
    #[error(
        "the kubeconfig uses {0}, which is not allowed in a secret: it would run or read something on the operator's own machine; put certificates, keys and tokens into the kubeconfig itself"
    )]
    KubeconfigNotAllowed(&'static str),
    /// The client can't be made.
    #[error("no client can be made from the kubeconfig: {0}")]
    ClientFailed(String),
}

/// Reads the kubeconfig of a member from the host.
///
/// # Errors
/// When the secret or its key is missing, or the text is not a kubeconfig that is allowed.
pub async fn read_kubeconfig(
    host: &Client,
    access: &ClusterAccess,
) -> Result<(String, Kubeconfig), AccessError> {
    let reference: &SecretKeyReference = &access.kubeconfig.secret_ref;
    let (namespace, name) = (reference.namespace.clone(), reference.name.clone());
    let secrets: Api<Secret> = Api::namespaced(host.clone(), &namespace);
    let secret = secrets.get(&name).await.map_err(|error| AccessError::SecretUnavailable {
        namespace: namespace.clone(),
        name: name.clone(),
        reason: match error {
            kube::Error::Api(status) => status.message.clone(),
            other => chain(&other),
        },
    })?;
    let data = secret.data.unwrap_or_default();
    let bytes = data.get(&reference.key).ok_or_else(|| AccessError::SecretKeyMissing {
        namespace,
        name,
        key: reference.key.clone(),
    })?;
    let text = std::str::from_utf8(&bytes.0)
        .map_err(|_| AccessError::KubeconfigInvalid("it is not UTF-8 text".to_owned()))?;
    let kubeconfig = parse_kubeconfig(text)?;
    Ok((text.to_owned(), kubeconfig))
}

/// Reads a kubeconfig and refuses one that would run a program or read a file on the operator's machine.
///
/// # Errors
/// [`AccessError::KubeconfigInvalid`] and [`AccessError::KubeconfigNotAllowed`].
pub fn parse_kubeconfig(text: &str) -> Result<Kubeconfig, AccessError> {
    let kubeconfig = Kubeconfig::from_yaml(text)
        .map_err(|error| AccessError::KubeconfigInvalid(first_line(&chain(&error))))?;
    if kubeconfig.clusters.is_empty() || kubeconfig.contexts.is_empty() {
        return Err(AccessError::KubeconfigInvalid("it has no clusters or no contexts".to_owned()));
    }
    let files = kubeconfig.clusters.iter().filter_map(|named| named.cluster.as_ref());
    if files.clone().any(|cluster| cluster.certificate_authority.is_some()) {
        return Err(AccessError::KubeconfigNotAllowed("certificate-authority (a file)"));
    }
    for user in kubeconfig.auth_infos.iter().filter_map(|named| named.auth_info.as_ref()) {
        if let Some(what) = outside_reference(user) {
            return Err(AccessError::KubeconfigNotAllowed(what));
        }
    }
    Ok(kubeconfig)
}

fn outside_reference(user: &AuthInfo) -> Option<&'static str> {
    [
        (user.exec.is_some(), "an exec credential plugin"),
        (user.auth_provider.is_some(), "an auth-provider"),
        (user.token_file.is_some(), "tokenFile"),
        (user.client_certificate.is_some(), "client-certificate (a file)"),
        (user.client_key.is_some(), "client-key (a file)"),
    ]
    .into_iter()
    .find_map(|(present, what)| present.then_some(what))
}

/// Makes a client of a member.
///
/// # Errors
/// When the kubeconfig lacks the context or its certificates can't be used.
pub async fn make_client(kubeconfig: Kubeconfig, context: Option<String>) -> Result<Client, AccessError> {
    let options = KubeConfigOptions { context, ..KubeConfigOptions::default() };
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .map_err(|error| AccessError::KubeconfigInvalid(first_line(&chain(&error))))?;
    // The worker decides what is sent again, and when.
    config.default_retry = false;
    connect(config).map_err(|error| AccessError::ClientFailed(chain(&error)))
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or("").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kubeconfig(user: &str, cluster: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n\
             clusters: [{{name: c, cluster: {{server: 'https://127.0.0.1:1'{cluster}}}}}]\nusers: [{{name: u, user: {{{user}}}}}]\n"
        )
    }

    #[test]
    fn a_kubeconfig_that_reaches_outside_is_refused() {
        for (user, cluster, part) in [
            ("exec: {command: sh, apiVersion: client.authentication.k8s.io/v1}", "", "exec"),
            ("tokenFile: /etc/passwd", "", "tokenFile"),
            ("client-certificate: /a", "", "client-certificate"),
            ("client-key: /a", "", "client-key"),
            ("token: t", ", certificate-authority: /a", "certificate-authority"),
        ] {
            let error = parse_kubeconfig(&kubeconfig(user, cluster))
                .err()
                .map(|error| error.to_string())
                .unwrap_or_default();
            assert!(error.contains(part), "{user} {cluster}: {error}");
        }
        assert!(parse_kubeconfig(&kubeconfig("token: t", "")).is_ok());
    }

    #[test]
    fn what_is_no_kubeconfig_is_refused_with_a_message() {
        for text in ["", "a: [", "- 1", "apiVersion: v1\nkind: Config\n", "\u{0}"] {
            let error = parse_kubeconfig(text).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains("kubeconfig"), "{text:?}: {error}");
        }
    }
}
