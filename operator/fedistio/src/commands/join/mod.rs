//! `fedistio join`: registers a cluster as a member.

mod kubeconfig;
pub(crate) mod objects;

use crate::{
    cli::{
        connection::{self, Cluster, ConnectError, HostFlags, OperatorNamespace, RequestError},
        values::{self, Labels, Limit},
    },
    commands::{apply, condition},
    output::{self, OutputError, yaml},
};
use fedistio_crds::{MemberCluster, OPERATOR_NAMESPACE};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{
    Api, Config, ResourceExt as _,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::Value;
use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

/// Time that the member's controller manager has to fill the token secret.
const TOKEN_LIMIT: Duration = Duration::from_secs(30);
/// Time that a namespace has to go before a new one can be made; a namespace takes some ten seconds.
const NAMESPACE_LIMIT: Duration = Duration::from_mins(1);
const POLL: Duration = Duration::from_millis(200);

/// Registers a cluster as a member, or updates its registration.
///
/// In the member this makes the namespace fedistio-system, a service account with the permissions that the operator needs, and
/// a token for it. On the host it stores a kubeconfig with that token in a secret and makes the MemberCluster. Your own
/// credential is used for joining only. Joining again repairs and updates everything.
#[derive(Debug, clap::Args)]
#[command(
    group = clap::ArgGroup::new("member").args(["cluster_kubeconfig", "cluster_context"]).required(true).multiple(true),
    after_help = "\
Examples:
  fedistio join east --cluster-context east
  fedistio join east --cluster-kubeconfig east.yaml --labels env=prod,tier=1 --network net-east
  fedistio join east --cluster-context kind-east --server https://172.18.0.3:6443
  fedistio join east --cluster-context east --dry-run"
)]
pub(crate) struct Args {
    /// Name of the member; it becomes Istio's cluster ID
    #[arg(value_parser = values::cluster_name)]
    name: String,
    #[command(flatten)]
    member: MemberFlags,
    /// Labels of the member, by which placements select it; they replace those of an earlier join
    #[arg(long, value_name = "KEY=VALUE,…", value_parser = values::labels)]
    labels: Option<Labels>,
    /// Istio network of the member
    #[arg(long, value_name = "NETWORK")]
    network: Option<String>,
    /// Address at which the host reaches the member, where it is not the one in the kubeconfig
    #[arg(long, value_name = "URL", value_parser = values::server)]
    server: Option<String>,
    /// Name of the secret on the host [default: NAME-kubeconfig]
    #[arg(long, value_name = "NAME", value_parser = values::object_name)]
    secret_name: Option<String>,
    /// How long to wait until the operator reports the member as ready; 0 does not wait
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = values::limit)]
    wait: Limit,
    /// Print what would be applied, and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    namespace: OperatorNamespace,
    #[command(flatten)]
    host: HostFlags,
}

/// Flags that choose the member's cluster.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct MemberFlags {
    /// Kubeconfig of the member [default: $KUBECONFIG, then ~/.kube/config]
    #[arg(long, value_name = "FILE")]
    pub(crate) cluster_kubeconfig: Option<PathBuf>,
    /// Context of the member's kubeconfig [default: its current context]
    #[arg(long, value_name = "CONTEXT")]
    pub(crate) cluster_context: Option<String>,
}

/// Why a cluster can't be joined.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JoinError {
    /// A cluster can't be connected to.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A request failed.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The user's kubeconfig of the member does not say enough.
    #[error(transparent)]
    Kubeconfig(#[from] kubeconfig::BuildError),
    /// The result can't be printed.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// An object can't be encoded.
    #[error("can't encode an object")]
    Encode(#[from] serde_json::Error),
    /// The token did not appear.
    #[error(
        "the member did not fill the secret {OPERATOR_NAMESPACE}/{} in {}s: \
         its kube-controller-manager is down or has no --service-account-private-key-file",
        objects::TOKEN_SECRET,
        TOKEN_LIMIT.as_secs()
    )]
    NoToken,
    /// The namespace is on its way out and does not get there.
    #[error(
        "namespace {name} of the {role} has been going for {}s; `kubectl get namespace {name} -o yaml` says what it waits for",
        NAMESPACE_LIMIT.as_secs()
    )]
    NamespaceGoing {
        /// `host` or `member`.
        role: &'static str,
        /// The namespace.
        name: String,
    },
    /// The member refuses the new credential.
    #[error(
        "the member does not accept the service account's token; run the same command again, which makes what is missing"
    )]
    TokenRefused(#[source] RequestError),
    /// The operator did not report the member as ready in time.
    #[error("{name} is joined, but not ready after {}s: {message}", waited.as_secs())]
    NotReady {
        /// The member.
        name: String,
        /// How long was waited.
        waited: Duration,
        /// What the operator says, or that it says nothing.
        message: String,
    },
}

impl MemberFlags {
    /// The kubeconfig that the flags name.
    fn read(&self) -> Result<Kubeconfig, ConnectError> {
        connection::read(self.cluster_kubeconfig.as_ref()).map_err(|source| self.error(source))
    }

    fn error(&self, source: kube::config::KubeconfigError) -> ConnectError {
        let place = connection::described(self.cluster_kubeconfig.as_ref(), self.cluster_context.as_deref());
        let advice =
            "check --cluster-kubeconfig and --cluster-context (`kubectl config get-contexts` lists contexts)";
        connection::kubeconfig_error("member", &place, advice, source)
    }

    async fn connect_with(&self, kubeconfig: Kubeconfig, limit: Limit) -> Result<Cluster, ConnectError> {
        let options =
            KubeConfigOptions { context: self.cluster_context.clone(), ..KubeConfigOptions::default() };
        let config = Config::from_custom_kubeconfig(kubeconfig, &options)
            .await
            .map_err(|source| self.error(source))?;
        Cluster::new("member", config, limit)
    }

    /// Connects to the member with the user's credential.
    pub(crate) async fn connect(&self, limit: Limit) -> Result<Cluster, ConnectError> {
        self.connect_with(self.read()?, limit).await
    }
}

/// Runs the command.
pub(crate) async fn run(args: Args) -> Result<(), JoinError> {
    let users = args.member.read()?;
    let context = args.member.cluster_context.as_deref();
    let endpoint = kubeconfig::endpoint(kubeconfig::selected(&users, context)?, args.server.as_deref())?;
    let secret_name = args.secret_name.clone().unwrap_or_else(|| format!("{}-kubeconfig", args.name));
    if args.dry_run {
        return dry_run(&args, &secret_name, &endpoint);
    }

    // Both sides are asked before anything is written to either.
    let host = args.host.connect().await?;
    let api: Api<MemberCluster> = Api::all(host.client.clone());
    let existing =
        host.call_own("MemberClusters", "reading the MemberCluster", api.get_opt(&args.name)).await?;
    check_installed(&host, &api).await?;
    let limit = args.host.request_timeout;
    let member = args.member.connect_with(users, limit).await?;
    let version = member.call("asking for its version", member.client.apiserver_version()).await?;

    let credential = prepare_member(&member).await?;
    let kubeconfig = kubeconfig::build(&args.name, &endpoint, &credential.token, credential.ca.as_deref());
    let text = yaml::to_yaml(&kubeconfig).map_err(OutputError::Yaml)?;
    if args.server.is_none() {
        // Another address need not be reachable from here.
        check_credential(&text, limit).await?;
    }

    ensure_namespace("host", &host, &args.namespace.namespace).await?;
    let namespace = &args.namespace.namespace;
    apply::apply(&host, &objects::kubeconfig_secret(&args.name, namespace, &secret_name, &text)).await?;
    let (labels, network) = wanted(&args, existing.as_ref());
    let object = objects::member_cluster(&args.name, namespace, &secret_name, &labels, network.as_deref())?;
    let applied = apply::apply(&host, &object).await?;
    let verb = if existing.is_some() { "updated" } else { "joined" };
    output::print(&format!(
        "{} {verb}: Kubernetes {} at {}\n",
        args.name, version.git_version, endpoint.server
    ))?;
    if kubeconfig::is_loopback(&endpoint.server) {
        output::note(&format!(
            "note: {} is reached from this machine only; where the operator runs in a pod, join again with --server",
            endpoint.server
        ));
    }
    match args.wait.0 {
        Some(limit) => wait_ready(&host, &api, &args.name, applied.metadata.generation, limit).await,
        None => Ok(()),
    }
}

/// A missing type and a missing object both answer 404: listing tells them apart.
async fn check_installed(host: &Cluster, api: &Api<MemberCluster>) -> Result<(), RequestError> {
    let one = kube::api::ListParams::default().limit(1);
    host.call_own("MemberClusters", "listing MemberClusters", api.list_metadata(&one)).await.map(drop)
}

/// The labels and the network that the member shall have: what the flags say, else what it has.
fn wanted(
    args: &Args,
    existing: Option<&MemberCluster>,
) -> (std::collections::BTreeMap<String, String>, Option<String>) {
    let labels = match (&args.labels, existing) {
        (Some(labels), _) => labels.0.clone(),
        (None, Some(existing)) => existing.labels().clone(),
        (None, None) => std::collections::BTreeMap::new(),
    };
    let network =
        args.network.clone().or_else(|| existing.and_then(|existing| existing.spec.network.clone()));
    (labels, network)
}

fn dry_run(args: &Args, secret: &str, endpoint: &kubeconfig::Endpoint) -> Result<(), JoinError> {
    let mut member = vec![objects::namespace(OPERATOR_NAMESPACE)];
    member.extend(objects::member_objects()?);
    let kubeconfig = kubeconfig::build(&args.name, endpoint, "(the service account's token)", None);
    let text = yaml::to_yaml(&kubeconfig).map_err(OutputError::Yaml)?;
    let namespace = &args.namespace.namespace;
    let (labels, network) = wanted(args, None);
    let host = vec![
        objects::kubeconfig_secret(&args.name, namespace, secret, &text),
        objects::member_cluster(&args.name, namespace, secret, &labels, network.as_deref())?,
    ];
    let stream = |objects: Vec<Value>| yaml::to_yaml_stream(objects).map_err(OutputError::Yaml);
    let (member, host) = (stream(member)?, stream(host)?);
    Ok(output::print(&format!("# In the member {}\n{member}# On the host\n{host}", args.name))?)
}

/// What the member's token secret holds.
struct Credential {
    token: String,
    /// PEM.
    ca: Option<Vec<u8>>,
}

/// Makes the namespace, or leaves one alone that somebody else made: it is not ours to label, and leaving must not remove it.
async fn ensure_namespace(role: &'static str, cluster: &Cluster, name: &str) -> Result<(), JoinError> {
    let api: Api<Namespace> = Api::all(cluster.client.clone());
    let started = Instant::now();
    let existing = loop {
        let existing = cluster.call(&format!("reading Namespace {name}"), api.get_opt(name)).await?;
        // A member that has just left is still removing it.
        let going =
            existing.as_ref().is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_some());
        match going {
            false => break existing,
            true if started.elapsed() >= NAMESPACE_LIMIT => {
                return Err(JoinError::NamespaceGoing { role, name: name.to_owned() });
            }
            true => tokio::time::sleep(POLL).await,
        }
    };
    let ours = existing.as_ref().is_none_or(|namespace| {
        namespace.labels().get(objects::MADE_BY).is_some_and(|maker| maker == objects::MADE_BY_JOIN)
    });
    if ours {
        apply::apply(cluster, &objects::namespace(name)).await?;
    }
    Ok(())
}

async fn prepare_member(member: &Cluster) -> Result<Credential, JoinError> {
    ensure_namespace("member", member, OPERATOR_NAMESPACE).await?;
    for object in objects::member_objects()? {
        apply::apply(member, &object).await?;
    }
    let api: Api<Secret> = Api::namespaced(member.client.clone(), OPERATOR_NAMESPACE);
    let started = Instant::now();
    loop {
        let secret = member
            .call("waiting for the service account's token", api.get_opt(objects::TOKEN_SECRET))
            .await?;
        let mut data = secret.and_then(|secret| secret.data).unwrap_or_default();
        let token = data.remove("token").and_then(|token| String::from_utf8(token.0).ok());
        if let Some(token) = token.filter(|token| !token.is_empty()) {
            return Ok(Credential { token, ca: data.remove("ca.crt").map(|ca| ca.0) });
        }
        if started.elapsed() >= TOKEN_LIMIT {
            return Err(JoinError::NoToken);
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Asks the member for its version with the credential that the operator will use.
async fn check_credential(kubeconfig: &str, limit: Limit) -> Result<(), JoinError> {
    let wrap = |source| {
        connection::kubeconfig_error(
            "member",
            "",
            "the one that was made for the operator is not usable",
            source,
        )
    };
    let kubeconfig = Kubeconfig::from_yaml(kubeconfig).map_err(wrap)?;
    let config =
        Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.map_err(wrap)?;
    let member = Cluster::new("member", config, limit)?;
    let answer = member.call("trying the service account's token", member.client.apiserver_version()).await;
    answer.map(drop).map_err(JoinError::TokenRefused)
}

async fn wait_ready(
    host: &Cluster,
    api: &Api<MemberCluster>,
    name: &str,
    generation: Option<i64>,
    limit: Duration,
) -> Result<(), JoinError> {
    let started = Instant::now();
    loop {
        let member = host.call("waiting for the MemberCluster", api.get_opt(name)).await?;
        match readiness(member.as_ref(), generation) {
            Readiness::Ready => return Ok(output::print(&format!("{name} is ready\n"))?),
            Readiness::NotYet(message) if started.elapsed() >= limit => {
                return Err(JoinError::NotReady { name: name.to_owned(), waited: limit, message });
            }
            Readiness::NotYet(_) => tokio::time::sleep(POLL).await,
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Readiness {
    Ready,
    NotYet(String),
}

/// Does the status say that the member is ready, and does it speak of this generation?
fn readiness(member: Option<&MemberCluster>, generation: Option<i64>) -> Readiness {
    let status = member.and_then(|member| member.status.as_ref());
    let current = status.filter(|status| status.observed_generation >= generation);
    match current.and_then(|status| condition(&status.conditions, "Ready")) {
        Some(ready) if ready.status == "True" => Readiness::Ready,
        Some(ready) => Readiness::NotYet(format!("{} ({})", ready.message, ready.reason)),
        None => Readiness::NotYet(
            "the operator has not reported it yet; is it running? (kubectl get pods -n fedistio-system)"
                .to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn member(generation: i64, status: &str) -> MemberCluster {
        let mut object =
            objects::member_cluster("east", "ns", "s", &std::collections::BTreeMap::new(), None).unwrap();
        object["status"] = json!({
            "observedGeneration": generation,
            "conditions": [{
                "type": "Ready", "status": status, "reason": "Broken", "message": "the secret is missing",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }],
        });
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn ready_counts_only_for_the_current_generation() {
        assert_eq!(readiness(Some(&member(2, "True")), Some(2)), Readiness::Ready);
        assert!(matches!(readiness(Some(&member(1, "True")), Some(2)), Readiness::NotYet(_)));
        assert!(
            matches!(readiness(None, Some(1)), Readiness::NotYet(text) if text.contains("is it running"))
        );
        let broken = readiness(Some(&member(2, "False")), Some(2));
        assert_eq!(broken, Readiness::NotYet("the secret is missing (Broken)".to_owned()));
    }

    fn args(line: &str) -> Args {
        let line = format!("fedistio join {line}");
        match crate::cli::parse(line.split(' ').map(std::ffi::OsString::from)).unwrap().command {
            crate::cli::Subcommands::Join(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn joining_again_keeps_what_no_flag_changes() {
        let mut existing = member(1, "True");
        existing.labels_mut().insert("env".to_owned(), "prod".to_owned());
        existing.spec.network = Some("n1".to_owned());
        let (labels, network) = wanted(&args("east --cluster-context c"), Some(&existing));
        assert_eq!((labels["env"].as_str(), network.as_deref()), ("prod", Some("n1")));
        let (labels, network) =
            wanted(&args("east --cluster-context c --labels tier=1 --network n2"), Some(&existing));
        assert_eq!(labels.keys().collect::<Vec<_>>(), ["tier"]);
        assert_eq!(network.as_deref(), Some("n2"));
    }

    #[tokio::test]
    async fn a_wrong_kubeconfig_of_the_member_is_reported_before_anything_is_asked() {
        let error = run(args("east --cluster-kubeconfig /nowhere/config")).await.unwrap_err();
        let text = format!("{error}");
        assert!(text.contains("/nowhere/config") && text.contains("--cluster-kubeconfig"), "{text}");
    }
}
