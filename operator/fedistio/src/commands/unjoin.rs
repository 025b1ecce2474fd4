//! `fedistio unjoin`: takes a member out.

use crate::{
    cli::{
        connection::{Cluster, ConnectError, HostFlags, RequestError},
        values,
    },
    commands::{
        apply, get,
        join::{MemberFlags, objects},
    },
    install::NAME,
    output::{self, OutputError},
};
use fedistio_crds::{MemberCluster, OPERATOR_NAMESPACE};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret, ServiceAccount};
use kube::{
    Api, Resource, ResourceExt as _,
    api::{DeleteParams, ListParams},
};
use serde_json::{Value, json};

/// Takes a member out.
///
/// Deletes the MemberCluster and the secret with its kubeconfig from the host and, where the member is named by
/// --cluster-context or --cluster-kubeconfig, what joining made there. Copies of federated objects stay in a member that leaves; take
/// it out of their placement first, and they go. Where there still are copies, only --force goes on.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  fedistio unjoin east --cluster-context east
  fedistio unjoin east
  fedistio unjoin east --force")]
pub(crate) struct Args {
    /// Name of the member
    #[arg(value_parser = values::cluster_name)]
    name: String,
    #[command(flatten)]
    member: MemberFlags,
    /// Go on although copies stay behind or the member can't be reached
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    host: HostFlags,
}

/// Why a member can't be taken out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnjoinError {
    /// A cluster can't be connected to.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A request failed.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// Objects on the host can't be listed.
    #[error(transparent)]
    List(#[from] get::GetError),
    /// The result can't be printed.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// An object can't be encoded.
    #[error("can't encode an object")]
    Encode(#[from] serde_json::Error),
    /// There is no such member.
    #[error("there is no member {0}; `fedistio clusters` lists them")]
    NotFound(String),
    /// Copies would stay behind.
    #[error(
        "{count} object(s) have a copy in {name}, such as {first}: take {name} out of their placement first \
         (`fedistio get -A -o wide` shows them), or leave the copies behind with --force"
    )]
    CopiesLeft {
        /// The member.
        name: String,
        /// Objects with a copy there.
        count: usize,
        /// One of them.
        first: String,
    },
}

/// Runs the command.
pub(crate) async fn run(args: Args) -> Result<(), UnjoinError> {
    let host = args.host.connect().await?;
    let api: Api<MemberCluster> = Api::all(host.client.clone());
    let found = host.call_own("MemberClusters", "reading the MemberCluster", api.get_opt(&args.name)).await?;
    let member = found.ok_or_else(|| UnjoinError::NotFound(args.name.clone()))?;
    let copies = get::objects_in(&host, &args.name).await?;
    if let (Some(first), false) = (copies.first(), args.force) {
        return Err(UnjoinError::CopiesLeft {
            name: args.name.clone(),
            count: copies.len(),
            first: first.clone(),
        });
    }
    let named = args.member.cluster_kubeconfig.is_some() || args.member.cluster_context.is_some();
    let reached = if named { reach(&args).await? } else { None };

    // The host first: the operator must not use a credential that is about to go.
    let mut done = vec![delete(&host, &api, &args.name).await?];
    let secret = &member.spec.access.kubeconfig.secret_ref;
    done.push(delete_secret(&host, &secret.namespace, &secret.name).await?);
    match &reached {
        Some(cluster) => done.extend(clean_member(cluster).await?),
        None => done.push(Outcome::Left(left_in_member(&args.name))),
    }
    if !copies.is_empty() {
        done.push(Outcome::Left(format!("{} copies of federated objects in {}", copies.len(), args.name)));
    }
    let lines: String = done.iter().map(Outcome::line).collect();
    Ok(output::print(&format!("{lines}{} is no longer a member\n", args.name))?)
}

/// Connects to the member; `None` where it can't be reached and that is accepted.
async fn reach(args: &Args) -> Result<Option<Cluster>, UnjoinError> {
    let cluster = args.member.connect(args.host.request_timeout).await?;
    match cluster.call("asking for its version", cluster.client.apiserver_version()).await {
        Ok(_) => Ok(Some(cluster)),
        Err(error) if args.force => {
            output::note(&format!("note: {error}"));
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Deleted(String),
    Missing(String),
    Left(String),
}

impl Outcome {
    fn line(&self) -> String {
        match self {
            Self::Deleted(what) => format!("deleted {what}\n"),
            Self::Missing(what) => format!("already gone: {what}\n"),
            Self::Left(what) => format!("left: {what}\n"),
        }
    }
}

fn left_in_member(name: &str) -> String {
    let role = objects::MEMBER_ROLE;
    format!(
        "what joining made in {name}; with a context of that cluster, remove it by \
         `kubectl delete clusterrolebinding/{role} clusterrole/{role} -n {OPERATOR_NAMESPACE} secret/{} serviceaccount/{NAME}`",
        objects::TOKEN_SECRET
    )
}

async fn delete<K>(cluster: &Cluster, api: &Api<K>, name: &str) -> Result<Outcome, RequestError>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let what = format!("{} {name}", K::kind(&()));
    gone(cluster, what, api.delete(name, &DeleteParams::default())).await
}

/// A deletion; an object that is not there is what was asked for.
async fn gone<T>(
    cluster: &Cluster,
    what: String,
    request: impl Future<Output = kube::Result<T>>,
) -> Result<Outcome, RequestError> {
    let request = async {
        match request.await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
            other => other.map(|_| true),
        }
    };
    let there = cluster.call(&format!("deleting {what}"), request).await?;
    Ok(if there { Outcome::Deleted(what) } else { Outcome::Missing(what) })
}

/// The secret is deleted where joining made it; one that the user made is the user's.
async fn delete_secret(host: &Cluster, namespace: &str, name: &str) -> Result<Outcome, RequestError> {
    let api: Api<Secret> = Api::namespaced(host.client.clone(), namespace);
    let what = format!("Secret {namespace}/{name}");
    let secret = host.call(&format!("reading {what}"), api.get_opt(name)).await?;
    match secret {
        None => Ok(Outcome::Missing(what)),
        Some(secret) if !made_by_join(&secret) => {
            Ok(Outcome::Left(format!("{what}, which join did not make")))
        }
        Some(_) => gone(host, what, api.delete(name, &DeleteParams::default())).await,
    }
}

fn made_by_join<K: kube::ResourceExt>(object: &K) -> bool {
    object.labels().get(objects::MADE_BY).is_some_and(|maker| maker == objects::MADE_BY_JOIN)
}

async fn clean_member(member: &Cluster) -> Result<Vec<Outcome>, UnjoinError> {
    let mut done = Vec::new();
    // The binding before the role, and both before the account: nothing is left half bound.
    let mut created = objects::member_objects()?;
    created.sort_by_key(|object| match object["kind"].as_str() {
        Some("ClusterRoleBinding") => 0,
        Some("ClusterRole") => 1,
        Some("Secret") => 2,
        _ => 3,
    });
    for object in &created {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let api = apply::api(member, object);
        let params = DeleteParams::default();
        done.push(gone(member, apply::title(object), api.delete(name, &params)).await?);
    }
    done.push(clean_namespace(member).await?);
    Ok(done)
}

/// Deletes the namespace where joining made it and nobody else uses it.
async fn clean_namespace(member: &Cluster) -> Result<Outcome, RequestError> {
    let what = format!("Namespace {OPERATOR_NAMESPACE}");
    let api: Api<Namespace> = Api::all(member.client.clone());
    let namespace = member.call(&format!("reading {what}"), api.get_opt(OPERATOR_NAMESPACE)).await?;
    let Some(namespace) = namespace else { return Ok(Outcome::Missing(what)) };
    if !made_by_join(&namespace) {
        return Ok(Outcome::Left(format!("{what}, which join did not make")));
    }
    let mut others = names::<Pod>(member).await?;
    others.extend(names::<Secret>(member).await?);
    others.extend(names::<ConfigMap>(member).await?);
    others.extend(names::<ServiceAccount>(member).await?);
    others.retain(|name| !is_everywhere(name));
    if let Some(first) = others.first() {
        return Ok(Outcome::Left(format!("{what}, which holds other objects, such as {first}")));
    }
    gone(member, what, api.delete(OPERATOR_NAMESPACE, &DeleteParams::default())).await
}

/// `Kind name` of the objects of one kind in the operator's namespace.
async fn names<K>(member: &Cluster) -> Result<Vec<String>, RequestError>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(member.client.clone(), OPERATOR_NAMESPACE);
    let kind = K::kind(&());
    let list = member
        .call(&format!("listing {kind}s of {OPERATOR_NAMESPACE}"), api.list_metadata(&ListParams::default()))
        .await?;
    Ok(list.items.iter().map(|object| format!("{kind} {}", object.name_any())).collect())
}

/// Objects that controllers put into every namespace.
fn is_everywhere(title: &str) -> bool {
    ["ConfigMap kube-root-ca.crt", "ConfigMap istio-ca-root-cert", "ServiceAccount default"].contains(&title)
        || title.starts_with("ConfigMap istio-ca-")
}

/// The state of the copies of `object` as it tells of `cluster`: is there one, as far as the host knows?
pub(crate) fn has_copy(object: &Value, cluster: &str) -> bool {
    object["status"]["clusters"].as_array().into_iter().flatten().any(|copy| {
        let never_written = ["ClusterNotFound", "ConstraintNotMet", "WaitingForStage"];
        copy["name"] == json!(cluster)
            && copy["state"] != json!("Excluded")
            && !never_written.contains(&copy["reason"].as_str().unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_found_in_the_status() {
        let object = |state: &str, reason: &str| json!({ "status": { "clusters": [{ "name": "east", "state": state, "reason": reason }] } });
        assert!(has_copy(&object("InSync", "Applied"), "east"));
        assert!(has_copy(&object("Failed", "Conflict"), "east"));
        assert!(has_copy(&object("Removing", "WaitingForRemoval"), "east"));
        assert!(!has_copy(&object("InSync", "Applied"), "west"));
        assert!(!has_copy(&object("Excluded", "ConstraintNotMet"), "east"));
        assert!(!has_copy(&json!({}), "east"));
    }

    #[test]
    fn what_is_left_is_said_with_the_command_that_removes_it() {
        let text = Outcome::Left(left_in_member("east")).line();
        for part in [
            "left:",
            "clusterrolebinding/fedistio-member",
            "secret/fedistio-token",
            "serviceaccount/fedistio",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn objects_of_every_namespace_do_not_keep_it() {
        assert!(is_everywhere("ConfigMap kube-root-ca.crt"));
        assert!(is_everywhere("ServiceAccount default"));
        assert!(!is_everywhere("Secret mine"));
    }
}
