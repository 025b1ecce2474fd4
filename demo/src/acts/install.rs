//! Act 2: the operator on the host, with the permissions of its manifests and no others; members joined.

use crate::{
    show::{self, command, table},
    stage::{Stage, kubectl},
};
use anyhow::{Context as _, Result, ensure};
use fedistio_crds::{MemberCluster, OPERATOR_NAMESPACE};
use fedistio_tests::{Operator, Route, install};
use k8s_openapi::api::{
    authentication::v1::SelfSubjectReview,
    authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
};
use kube::{Api, Client, api::PostParams};
use serde_json::Value;
use std::time::Duration;

const ACT: usize = 2;
/// Name of the operator's service account, on the host and in members.
const ACCOUNT: &str = "fedistio";
/// How long the operator may take to report a joined member as ready.
const JOINED: Duration = Duration::from_mins(1);

/// What the operator must not be able to do: where, verb, group, resource, subresource.
const FORBIDDEN: [(Where, &str, &str, &str, &str); 6] = [
    (Where::Host, "*", "*", "*", ""),
    (Where::Host, "list", "", "secrets", ""),
    (Where::Host, "create", "", "pods", ""),
    (Where::Member, "*", "*", "*", ""),
    (Where::Member, "create", "", "pods", "exec"),
    (Where::Member, "impersonate", "", "users", ""),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Where {
    Host,
    Member,
}

/// Installs and starts the operator, and joins every member.
pub(crate) async fn play(stage: &Stage) -> Result<()> {
    show::act(ACT, "the operator, and members that join");
    let objects = apply_manifests(stage).await?;
    start(stage).await?;
    for member in &stage.bed.members {
        let (host, path) = (stage.host_kubeconfig(), member.kubeconfig_path().display().to_string());
        let labels = format!("env={}", stage.environment(member));
        let mut args = vec!["join", member.name(), "--cluster-kubeconfig", &path];
        args.extend(["--labels", &labels, "--kubeconfig", &host]);
        command::fedistio(&stage.binary, &args).await?;
    }
    let members = stage.wait("all members are ready", JOINED, async || ready(stage).await).await?;
    command::fedistio(&stage.binary, &["clusters", "-o", "wide", "--kubeconfig", &stage.host_kubeconfig()])
        .await?;
    stage.verified(
        ACT,
        format!("{objects} objects of `fedistio manifests` are on the host, {members} members are ready"),
    );
    permissions(stage).await?;
    show::look_around(&[
        kubectl(&stage.bed.host, "get memberclusters,federatedtypeconfigs"),
        kubectl(&stage.bed.host, &format!("describe clusterrole {ACCOUNT}")),
    ]);
    Ok(())
}

async fn apply_manifests(stage: &Stage) -> Result<usize> {
    let apply = kubectl(&stage.bed.host, "apply --server-side -f -");
    command::prompt(&format!("fedistio manifests | {apply}"));
    let manifests = command::quietly(&stage.binary, &["manifests"]).await?;
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(&manifests).context("the manifests can't be read")?;
    // The nodes have no image of the operator: the same binary runs as a process instead, as the same service account.
    let documents: Vec<Value> =
        documents.into_iter().filter(|one| !one.is_null() && one["kind"] != "Deployment").collect();
    let step = fedistio_tests::Progress::stderr()
        .step("applying custom resource definitions, roles and the service account");
    let count = documents.len();
    for document in documents {
        install::apply(&stage.bed.host, document).await?;
    }
    step.done();
    Ok(count)
}

async fn start(stage: &Stage) -> Result<()> {
    let text = stage.bed.host.service_account_kubeconfig(OPERATOR_NAMESPACE, ACCOUNT, Route::Direct).await?;
    let path = stage.bed.dir().join("operator.kubeconfig");
    write_private(&path, &text)?;
    command::prompt(&format!("fedistio operator --kubeconfig {}", show::path(&path)));
    show::say(
        "(the Deployment of the manifests, as a process: the same program with a token of the same service account)",
    );
    let operator = Operator::builder(&path, stage.bed.logs().join("operator.log"))
        .args(["--metrics-address", "127.0.0.1:0"])
        .env("RUST_LOG", "info")
        .start()
        .await?;
    show::say(&format!("its log: {}", show::path(operator.log_path())));
    stage.set_operator(operator);
    Ok(())
}

/// How many members the operator reports as ready; an error while one is missing.
async fn ready(stage: &Stage) -> Result<usize> {
    let api = Api::<MemberCluster>::all(stage.bed.host.client());
    for member in &stage.bed.members {
        let status =
            api.get(member.name()).await.context("a member is not registered")?.status.unwrap_or_default();
        let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready");
        let (is, message) = ready.map_or(("Unknown", ""), |ready| (&ready.status, &ready.message));
        ensure!(is == "True", "{} is not ready: {message}", member.name());
    }
    Ok(stage.bed.members.len())
}

/// Asks host and members who the operator is and what it may not do.
async fn permissions(stage: &Stage) -> Result<()> {
    let operator = stage.bed.host.client_as_service_account(OPERATOR_NAMESPACE, ACCOUNT).await?;
    let review = Api::<SelfSubjectReview>::all(operator)
        .create(&PostParams::default(), &SelfSubjectReview::default())
        .await;
    let user = review
        .context("the host does not say who the operator is")?
        .status
        .and_then(|status| status.user_info);
    let user = user.context("an answer without a user")?;
    let (name, groups) = (user.username.unwrap_or_default(), user.groups.unwrap_or_default());
    ensure!(name == install::USER, "the operator is {name} on the host");
    ensure!(
        !groups.iter().any(|group| group == "system:masters"),
        "the operator is an administrator of the host"
    );
    let mut rows = Vec::new();
    for cluster in stage.bed.clusters() {
        let place = if cluster.name() == stage.bed.host.name() { Where::Host } else { Where::Member };
        for (_, verb, group, resource, subresource) in FORBIDDEN.into_iter().filter(|line| line.0 == place) {
            let allowed = allowed(&cluster.client(), verb, group, resource, subresource).await?;
            let what = [resource, subresource]
                .iter()
                .filter(|part| !part.is_empty())
                .copied()
                .collect::<Vec<_>>()
                .join("/");
            ensure!(!allowed, "the operator may {verb} {what} in {}", cluster.name());
            rows.push([cluster.name().to_owned(), format!("{verb} {what}"), "no".to_owned()]);
        }
    }
    table::print(["cluster", "may the operator …", "answer"], rows);
    stage.verified(ACT, "the operator is a service account that is nowhere an administrator");
    Ok(())
}

async fn allowed(
    client: &Client,
    verb: &str,
    group: &str,
    resource: &str,
    subresource: &str,
) -> Result<bool> {
    let attributes = ResourceAttributes {
        verb: Some(verb.to_owned()),
        group: Some(group.to_owned()),
        resource: Some(resource.to_owned()),
        subresource: Some(subresource.to_owned()),
        ..ResourceAttributes::default()
    };
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(install::USER.to_owned()),
            groups: Some(vec![
                "system:authenticated".to_owned(),
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{OPERATOR_NAMESPACE}"),
            ]),
            resource_attributes: Some(attributes),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let answer =
        Api::<SubjectAccessReview>::all(client.clone()).create(&PostParams::default(), &review).await;
    Ok(answer
        .context("a cluster does not say what is allowed")?
        .status
        .context("an answer without a status")?
        .allowed)
}

fn write_private(path: &std::path::Path, text: &str) -> Result<()> {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
    let file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))
}
