//! The kubeconfig that the host keeps for a member.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use kube::config::{Cluster, Kubeconfig};
use serde_json::{Value, json};

/// Why no kubeconfig can be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BuildError {
    /// The context names a cluster that the kubeconfig does not have.
    #[error("the member's kubeconfig has no {0}; `kubectl config get-contexts` lists contexts")]
    Missing(String),
    /// There is no address to write.
    #[error("the member's kubeconfig has no server address; give --server https://host:port")]
    NoServer,
    /// The CA file can't be read.
    #[error("can't read the member's CA certificate {path}; check certificate-authority in its kubeconfig")]
    CaFile {
        /// The file.
        path: String,
        #[source]
        source: std::io::Error,
    },
}

/// What the host must know to reach a member, besides the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Address of the API server.
    pub(crate) server: String,
    /// Certificate of its CA in base64, where the user's kubeconfig has one.
    pub(crate) ca: Option<String>,
    /// Name that its certificate must carry, where it is not the address.
    pub(crate) tls_server_name: Option<String>,
}

/// The cluster entry that `context` (or the current context) of the kubeconfig names.
pub(crate) fn selected<'a>(
    kubeconfig: &'a Kubeconfig,
    context: Option<&str>,
) -> Result<&'a Cluster, BuildError> {
    let missing = |what: &str, name: &str| BuildError::Missing(format!("{what} {name:?}"));
    let name = context
        .or(kubeconfig.current_context.as_deref())
        .ok_or_else(|| BuildError::Missing("current context".to_owned()))?;
    let context = kubeconfig
        .contexts
        .iter()
        .find(|entry| entry.name == name)
        .and_then(|entry| entry.context.as_ref())
        .ok_or_else(|| missing("context", name))?;
    kubeconfig
        .clusters
        .iter()
        .find(|entry| entry.name == context.cluster)
        .and_then(|entry| entry.cluster.as_ref())
        .ok_or_else(|| missing("cluster", &context.cluster))
}

/// The endpoint in a cluster entry; `server` replaces its address. A CA file is read and written inline.
pub(crate) fn endpoint(cluster: &Cluster, server: Option<&str>) -> Result<Endpoint, BuildError> {
    let server = server
        .or(cluster.server.as_deref())
        .filter(|server| !server.is_empty())
        .ok_or(BuildError::NoServer)?
        .to_owned();
    let ca = match (&cluster.certificate_authority_data, &cluster.certificate_authority) {
        (Some(data), _) if !data.is_empty() => Some(data.clone()),
        (_, Some(path)) if !path.is_empty() => {
            let bytes =
                std::fs::read(path).map_err(|source| BuildError::CaFile { path: path.clone(), source })?;
            Some(BASE64.encode(bytes))
        }
        _ => None,
    };
    Ok(Endpoint { server, ca, tls_server_name: cluster.tls_server_name.clone() })
}

/// Is the address one that only this machine can reach?
pub(crate) fn is_loopback(server: &str) -> bool {
    let host = server.parse::<hyper::Uri>().ok().and_then(|uri| uri.host().map(str::to_owned));
    host.is_some_and(|host| {
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    })
}

/// The kubeconfig: one cluster, one user with the token, one context, all named `name`.
/// `fallback_ca` (PEM, from the member's token secret) is used where the user's kubeconfig has no CA.
pub(crate) fn build(name: &str, endpoint: &Endpoint, token: &str, fallback_ca: Option<&[u8]>) -> Value {
    let mut cluster = json!({ "server": endpoint.server });
    if let Some(ca) = endpoint.ca.clone().or_else(|| fallback_ca.map(|ca| BASE64.encode(ca))) {
        cluster["certificate-authority-data"] = json!(ca);
    }
    if let Some(tls_server_name) = &endpoint.tls_server_name {
        cluster["tls-server-name"] = json!(tls_server_name);
    }
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": name, "cluster": cluster }],
        "users": [{ "name": name, "user": { "token": token } }],
        "contexts": [{ "name": name, "context": { "cluster": name, "user": name } }],
        "current-context": name,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::yaml::to_yaml;

    fn parsed(text: &str) -> Kubeconfig {
        Kubeconfig::from_yaml(text).unwrap()
    }

    fn users_own() -> Kubeconfig {
        parsed(
            "apiVersion: v1\nkind: Config\ncurrent-context: a\n\
             contexts:\n- {name: a, context: {cluster: one, user: u}}\n- {name: b, context: {cluster: two, user: u}}\n\
             - {name: c, context: {cluster: gone, user: u}}\n\
             clusters:\n- {name: one, cluster: {server: https://one:6443, certificate-authority-data: Q0E=}}\n\
             - {name: two, cluster: {server: https://two:6443, tls-server-name: api.two}}\n\
             users:\n- {name: u, user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: login}}}\n",
        )
    }

    #[test]
    fn the_context_chooses_the_cluster() {
        let kubeconfig = users_own();
        assert_eq!(selected(&kubeconfig, None).unwrap().server.as_deref(), Some("https://one:6443"));
        assert_eq!(selected(&kubeconfig, Some("b")).unwrap().server.as_deref(), Some("https://two:6443"));
        for context in ["c", "nowhere"] {
            let error = selected(&kubeconfig, Some(context)).unwrap_err().to_string();
            assert!(error.contains("get-contexts"), "{error}");
        }
        let empty = parsed("apiVersion: v1\nkind: Config\n");
        assert!(selected(&empty, None).unwrap_err().to_string().contains("current context"));
    }

    #[test]
    fn the_result_is_a_kubeconfig_with_the_token_and_nothing_of_the_users_credential() {
        let kubeconfig = users_own();
        let endpoint = endpoint(selected(&kubeconfig, None).unwrap(), None).unwrap();
        let text = to_yaml(&build("east", &endpoint, "to:ken", Some(b"other"))).unwrap();
        let made = parsed(&text);
        assert_eq!(made.current_context.as_deref(), Some("east"));
        let cluster = selected(&made, None).unwrap();
        assert_eq!(cluster.server.as_deref(), Some("https://one:6443"));
        assert_eq!(cluster.certificate_authority_data.as_deref(), Some("Q0E="));
        let user = made.auth_infos[0].auth_info.as_ref().unwrap();
        assert!(user.token.is_some() && user.exec.is_none());
        assert!(text.contains("to:ken"));
    }

    #[test]
    fn the_members_own_ca_stands_in_and_the_server_can_be_replaced() {
        let kubeconfig = users_own();
        let endpoint =
            endpoint(selected(&kubeconfig, Some("b")).unwrap(), Some("https://10.0.0.9:6443")).unwrap();
        let made = build("west", &endpoint, "t", Some(b"CA"));
        let cluster = &made["clusters"][0]["cluster"];
        assert_eq!(cluster["server"], "https://10.0.0.9:6443");
        assert_eq!(cluster["certificate-authority-data"], "Q0E=");
        assert_eq!(cluster["tls-server-name"], "api.two");
    }

    #[test]
    fn a_ca_file_is_written_inline_and_a_missing_one_reported() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.crt");
        let cluster = Cluster {
            server: Some("https://x".to_owned()),
            certificate_authority: Some(path.display().to_string()),
            ..Cluster::default()
        };
        let error = endpoint(&cluster, None).unwrap_err().to_string();
        assert!(error.contains("ca.crt"), "{error}");
        std::fs::write(&path, "CA").unwrap();
        assert_eq!(endpoint(&cluster, None).unwrap().ca.as_deref(), Some("Q0E="));
        assert!(matches!(endpoint(&Cluster::default(), None), Err(BuildError::NoServer)));
    }

    #[test]
    fn loopback_addresses_are_known() {
        for server in ["https://127.0.0.1:6443", "https://localhost", "https://[::1]:6443"] {
            assert!(is_loopback(server), "{server}");
        }
        assert!(!is_loopback("https://10.0.0.1:6443"));
        assert!(!is_loopback("not an address"));
    }
}
