//! Connections to API servers: flags, clients, and errors that say what to do.

use crate::cli::values::{self, Limit};
use fedistio_crds::OPERATOR_NAMESPACE;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};
use std::{path::PathBuf, time::Duration};

/// The flags by which `kubectl` chooses a cluster; here they choose the host.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Connection to the host")]
pub(crate) struct HostFlags {
    /// Kubeconfig of the host [default: $KUBECONFIG, then ~/.kube/config, then the pod's service account]
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig [default: its current context]
    #[arg(long, value_name = "CONTEXT")]
    pub(crate) context: Option<String>,
    /// How long one request may take: 10s, 1m; 0 for no limit
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = values::limit)]
    pub(crate) request_timeout: Limit,
}

/// The namespace of the operator on the host.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct OperatorNamespace {
    /// Namespace of the operator on the host
    #[arg(short, long, value_name = "NAMESPACE", default_value = OPERATOR_NAMESPACE, value_parser = values::cluster_name)]
    pub(crate) namespace: String,
}

/// Why there is no client for a cluster.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// The kubeconfig is missing, broken, or lacks the context.
    #[error("can't use the kubeconfig of the {role}{place}; {advice}")]
    Kubeconfig {
        /// `host` or `member`.
        role: &'static str,
        /// The file and the context that were asked for.
        place: String,
        /// What to do.
        advice: &'static str,
        #[source]
        source: Box<KubeconfigError>,
    },
    /// There is neither a kubeconfig nor a pod's service account.
    #[error(
        "no kubeconfig for the host: give --kubeconfig FILE, set KUBECONFIG, or make ~/.kube/config (kubectl config view shows it)"
    )]
    NoKubeconfig(#[source] Box<kube::config::InferConfigError>),
    /// The kubeconfig is well-formed, but no client can be made of it.
    #[error("can't connect to the {role} with this kubeconfig: check its certificates and credentials")]
    Client {
        /// `host` or `member`.
        role: &'static str,
        #[source]
        source: Box<kube::Error>,
    },
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    /// No answer in time.
    #[error("the {role} did not answer in {}s while {action}: is its API server up? (--request-timeout gives it longer)", limit.as_secs())]
    TimedOut {
        /// `host` or `member`.
        role: String,
        /// What was being done.
        action: String,
        /// The limit that passed.
        limit: Duration,
    },
    /// The API server can't be reached.
    #[error(
        "can't reach the {role} at {server} while {action}: check that its API server is up, and --kubeconfig and --context"
    )]
    Unreachable {
        /// `host` or `member`.
        role: String,
        /// What was being done.
        action: String,
        /// Address of the API server.
        server: String,
        #[source]
        source: Box<kube::Error>,
    },
    /// The credential is not accepted.
    #[error(
        "the {role} does not accept this credential (while {action}): log in again, or choose another context"
    )]
    Unauthorized {
        /// `host` or `member`.
        role: String,
        /// What was being done.
        action: String,
        #[source]
        source: Box<kube::Error>,
    },
    /// The user lacks a permission.
    #[error("not allowed on the {role} while {action}: {message}; use a user with that permission")]
    Forbidden {
        /// `host` or `member`.
        role: String,
        /// What was being done.
        action: String,
        /// What the API server says.
        message: String,
    },
    /// The operator's types are not served.
    #[error(
        "the host does not know {action}: the operator is not installed there, or this is not the host; \
         `fedistio manifests | kubectl apply --server-side -f -` installs it, --context chooses another cluster"
    )]
    NotInstalled {
        /// The type that is missing, in words.
        action: String,
    },
    /// Any other answer.
    #[error("the {role} refused {action}")]
    Refused {
        /// `host` or `member`.
        role: String,
        /// What was being done.
        action: String,
        #[source]
        source: Box<kube::Error>,
    },
}

/// A cluster that commands talk to.
#[derive(Clone)]
pub(crate) struct Cluster {
    /// The client.
    pub(crate) client: Client,
    /// Namespace of the context.
    pub(crate) default_namespace: String,
    role: &'static str,
    server: String,
    limit: Limit,
}

impl HostFlags {
    /// Connects to the host.
    pub(crate) async fn connect(&self) -> Result<Cluster, ConnectError> {
        let config = if self.kubeconfig.is_none() && self.context.is_none() {
            Config::infer().await.map_err(|error| ConnectError::NoKubeconfig(Box::new(error)))?
        } else {
            let place = described(self.kubeconfig.as_ref(), self.context.as_deref());
            let advice = "check --kubeconfig and --context (`kubectl config get-contexts` lists contexts)";
            let wrap = |source| kubeconfig_error("host", &place, advice, source);
            let kubeconfig = read(self.kubeconfig.as_ref()).map_err(wrap)?;
            let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
            Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(wrap)?
        };
        Cluster::new("host", config, self.request_timeout)
    }
}

/// Reads a kubeconfig: the named file, or what `KUBECONFIG` and `~/.kube/config` give.
pub(crate) fn read(file: Option<&PathBuf>) -> Result<Kubeconfig, KubeconfigError> {
    file.map_or_else(Kubeconfig::read, Kubeconfig::read_from)
}

/// ` FILE, context C`: the place that an error speaks of; empty where nothing was asked for.
pub(crate) fn described(file: Option<&PathBuf>, context: Option<&str>) -> String {
    let file = file.map(|file| format!(" {}", file.display())).unwrap_or_default();
    context.map_or(file.clone(), |context| format!("{file} (context {context})"))
}

/// Wraps an error about a kubeconfig.
pub(crate) fn kubeconfig_error(
    role: &'static str,
    place: &str,
    advice: &'static str,
    source: KubeconfigError,
) -> ConnectError {
    ConnectError::Kubeconfig { role, place: place.to_owned(), advice, source: Box::new(source) }
}

impl Cluster {
    /// A cluster for the configuration; `role` is `host` or `member`, for error messages.
    pub(crate) fn new(role: &'static str, mut config: Config, limit: Limit) -> Result<Self, ConnectError> {
        config.read_timeout = limit.0;
        config.connect_timeout = limit.0.or(config.connect_timeout);
        // Retries of a busy server would outlast the limit, and a person can repeat the command.
        config.default_retry = false;
        let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let default_namespace = config.default_namespace.clone();
        let client = Client::try_from(config)
            .map_err(|error| ConnectError::Client { role, source: Box::new(error) })?;
        Ok(Self { client, default_namespace, role, server, limit })
    }

    /// Waits for `request` within the limit. `action` says what is being done, for error messages: `listing member clusters`.
    pub(crate) async fn call<T>(
        &self,
        action: &str,
        request: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, RequestError> {
        let answer = match self.limit.0 {
            None => request.await,
            Some(limit) => tokio::time::timeout(limit, request).await.map_err(|_| {
                RequestError::TimedOut { role: self.role.to_owned(), action: action.to_owned(), limit }
            })?,
        };
        answer.map_err(|error| explain(self.role, &self.server, action, error))
    }

    /// As [`call`](Self::call) for one of the operator's own types: a missing type means that the operator is not installed.
    pub(crate) async fn call_own<T>(
        &self,
        type_: &str,
        action: &str,
        request: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, RequestError> {
        match self.call(action, request).await {
            Err(RequestError::Refused { source, .. }) if is_type_missing(&source) => {
                Err(RequestError::NotInstalled { action: type_.to_owned() })
            }
            other => other,
        }
    }
}

/// A type that is not served answers 404 without the name of an object.
pub(crate) fn is_type_missing(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404
        && status.details.as_ref().is_none_or(|details| details.name.is_empty()))
}

fn explain(role: &str, server: &str, action: &str, error: kube::Error) -> RequestError {
    let (role, action) = (role.to_owned(), action.to_owned());
    match &error {
        kube::Error::Api(status) if status.code == 401 => {
            RequestError::Unauthorized { role, action, source: Box::new(error) }
        }
        kube::Error::Api(status) if status.code == 403 => {
            RequestError::Forbidden { role, action, message: status.message.clone() }
        }
        kube::Error::Auth(_) => RequestError::Unauthorized { role, action, source: Box::new(error) },
        kube::Error::Service(_) | kube::Error::HyperError(_) => {
            RequestError::Unreachable { role, action, server: server.to_owned(), source: Box::new(error) }
        }
        _ => RequestError::Refused { role, action, source: Box::new(error) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;

    fn api(code: u16, message: &str) -> kube::Error {
        kube::Error::Api(Status::failure(message, "Reason").with_code(code).boxed())
    }

    #[test]
    fn errors_say_what_to_do() {
        let text = |error| explain("host", "https://h", "listing x", error).to_string();
        assert!(text(api(401, "Unauthorized")).contains("log in again"));
        assert!(text(api(403, "user u may not")).contains("user u may not"));
        assert!(text(kube::Error::Service("refused".into())).contains("https://h"));
        assert!(text(api(500, "x")).contains("refused listing x"));
    }

    #[test]
    fn a_missing_type_is_told_from_a_missing_object() {
        assert!(is_type_missing(&api(404, "404 page not found")));
        let object: Status = serde_json::from_value(serde_json::json!({
            "status": "Failure", "code": 404, "reason": "NotFound", "message": "not found",
            "details": { "name": "east", "kind": "memberclusters" },
        }))
        .unwrap();
        assert!(!is_type_missing(&kube::Error::Api(object.boxed())));
        assert!(!is_type_missing(&api(500, "x")));
    }

    fn flags(kubeconfig: &str, context: Option<&str>) -> HostFlags {
        HostFlags {
            kubeconfig: Some(kubeconfig.into()),
            context: context.map(str::to_owned),
            request_timeout: Limit(Some(Duration::from_secs(2))),
        }
    }

    #[tokio::test]
    async fn a_missing_a_broken_and_a_poor_kubeconfig_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        let path = path.to_str().unwrap();
        let message = |error: ConnectError| format!("{:#}", anyhow::Error::from(error));

        let missing = message(flags(path, None).connect().await.err().unwrap());
        assert!(missing.contains(path) && missing.contains("--kubeconfig"), "{missing}");

        std::fs::write(path, "clusters: [").unwrap();
        let broken = message(flags(path, None).connect().await.err().unwrap());
        assert!(broken.contains("parse"), "{broken}");

        std::fs::write(path, "apiVersion: v1\nkind: Config\ncontexts: []\nclusters: []\nusers: []\n")
            .unwrap();
        let poor = message(flags(path, Some("east")).connect().await.err().unwrap());
        assert!(poor.contains("context east") && poor.contains("get-contexts"), "{poor}");
    }

    #[tokio::test]
    async fn an_unreachable_host_is_reported_with_its_address() {
        // A port that was free a moment ago and that nobody listens on.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n\
             clusters: [{{name: c, cluster: {{server: \"http://127.0.0.1:{port}\"}}}}]\n\
             users: [{{name: u, user: {{token: t}}}}]\n"
        );
        std::fs::write(&path, text).unwrap();
        let host = flags(path.to_str().unwrap(), None).connect().await.unwrap();
        let error = host.call("asking for the version", host.client.apiserver_version()).await.unwrap_err();
        assert!(matches!(error, RequestError::Unreachable { .. }), "{error:?}");
        assert!(error.to_string().contains(&port.to_string()));
    }
}
