//! Act 3: one FederatedIstio, a control plane in every member.

use crate::{
    acts::rollout::{follow, revision},
    clusters::FIRST,
    observe,
    show::{self, command, table},
    stage::{Stage, kubectl},
};
use anyhow::{Context as _, Result, bail, ensure};
use fedistio_tests::Cluster;
use kube::api::{DynamicObject, PostParams};
use serde_json::json;
use std::time::Duration;

const ACT: usize = 3;
/// How long the installation may take; on a slow machine with an empty cache most of it is istiod's start.
const INSTALLED: Duration = Duration::from_mins(10);
/// How long istiod may take to fill in its certificate and to answer as a webhook.
const ANSWERS: Duration = Duration::from_mins(1);

/// Installs the first release.
pub(crate) async fn play(stage: &Stage) -> Result<()> {
    show::act(ACT, &format!("Istio {FIRST} on every member"));
    let registry = stage.bed.registry.oci_url();
    let registry = registry.strip_prefix("oci://").unwrap_or(&registry);
    stage.apply("istio/releases.yaml", &[("CHART_REGISTRY", registry)]).await?;
    stage.apply("istio/mesh.yaml", &[]).await?;
    let took = follow(stage, FIRST, INSTALLED).await?;
    show::say(&format!("installed in {}", show::span(took)));

    let answers = async || {
        let mut rows = Vec::new();
        for member in &stage.bed.members {
            rows.push(verify(stage, member).await?);
        }
        Ok(rows)
    };
    let rows = stage.wait("istiod answers as a webhook in every member", ANSWERS, answers).await?;
    table::print(["member", "istiod", "revision", "tag default", "a bad VirtualService", "access log"], rows);
    command::fedistio(&stage.binary, &["status", "--kubeconfig", &stage.host_kubeconfig()]).await?;
    let members = stage.bed.members.len();
    stage.verified(
        ACT,
        format!("istiod {FIRST} is ready and validates in {members} members, the tag default points to it"),
    );
    stage.verified(ACT, "the override of the mesh configuration is in the canary only");
    let canary = stage.canary()?;
    show::look_around(&[
        kubectl(&stage.bed.host, "get federatedistios -o wide"),
        kubectl(canary, "get deployments,services,configmaps --namespace istio-system"),
        kubectl(canary, "get mutatingwebhookconfigurations --show-labels"),
    ]);
    Ok(())
}

async fn verify(stage: &Stage, member: &Cluster) -> Result<[String; 6]> {
    let wanted = revision(FIRST);
    let istiods = observe::istiods(member).await?;
    let [istiod] = istiods.as_slice() else {
        bail!("{} has {} control planes", member.name(), istiods.len())
    };
    ensure!(istiod.revision == wanted && istiod.version == FIRST, "{} runs {istiod:?}", member.name());
    ensure!(istiod.ready, "istiod of {} is not ready", member.name());
    let tag = observe::tag(member, "default").await?;
    let (tag, trusted) = tag.with_context(|| format!("{} has no tag default", member.name()))?;
    ensure!(tag == wanted, "the tag default of {} points to {tag}", member.name());
    // Only a running istiod fills this in.
    ensure!(trusted, "istiod of {} has not put its certificate into the tag's webhook yet", member.name());
    let refusal = refusal(member).await?;
    let config = observe::mesh_config(member, &wanted).await?;
    let json = config.contains("accessLogEncoding: JSON");
    let canary = stage.environment(member) == "canary";
    ensure!(
        json == canary,
        "the mesh configuration of {} does not have its override: {config}",
        member.name()
    );
    let encoding = if json { "JSON" } else { "text" };
    Ok([member.name().to_owned(), istiod.version.clone(), wanted, tag, refusal, encoding.to_owned()])
}

/// Tries to make a VirtualService without routes, as a dry run; returns how it was refused.
async fn refusal(member: &Cluster) -> Result<String> {
    let api = observe::networking(member, "VirtualService", "virtualservices", "default");
    let bad: DynamicObject = serde_json::from_value(json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "without-routes", "namespace": "default"},
        "spec": {"hosts": ["nobody"]},
    }))
    .context("not an object")?;
    let params = PostParams { dry_run: true, ..PostParams::default() };
    match api.create(&params, &bad).await {
        Err(kube::Error::Api(status)) if status.message.contains("admission webhook") => {
            Ok("refused by istiod".to_owned())
        }
        Err(error) => Err(error).with_context(|| format!("{} does not validate", member.name())),
        Ok(_) => {
            bail!("{} takes a VirtualService without routes: istiod does not validate yet", member.name())
        }
    }
}
