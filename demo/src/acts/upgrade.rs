//! Act 6: a live upgrade in two stages, followed on the host and watched in every member.

use crate::{
    acts::{
        bookinfo::NAMESPACE,
        rollout::{MESH, follow, revision},
    },
    clusters::{FIRST, SECOND},
    observe,
    show::{self, command, table},
    stage::{Stage, kubectl},
};
use anyhow::{Context as _, Result, ensure};
use fedistio_crds::FederatedIstio;
use fedistio_tests::Cluster;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;
use std::time::{Duration, Instant};

const ACT: usize = 6;
/// How long the upgrade of all clusters may take.
const UPGRADED: Duration = Duration::from_mins(15);
/// Pause between two looks at a member.
const LOOK: Duration = Duration::from_millis(200);

/// When a member was seen to have made each step, counted from the change of the spec.
#[derive(Debug, Default)]
struct Steps {
    made: Option<Duration>,
    ready: Option<Duration>,
    tag: Option<Duration>,
    proxies: Option<Duration>,
    gone: Option<Duration>,
}

/// Changes the version and watches.
pub(crate) async fn play(stage: &Stage) -> Result<()> {
    show::act(ACT, &format!("a live upgrade to Istio {SECOND}, the canary first"));
    let patch = json!({"spec": {"template": {"version": SECOND}}});
    let change = format!("patch federatedistio {MESH} --type merge -p '{patch}'");
    command::prompt(&kubectl(&stage.bed.host, &change));
    let api = Api::<FederatedIstio>::all(stage.bed.host.client());
    let params = PatchParams { field_manager: Some("kubectl-patch".to_owned()), ..PatchParams::default() };
    api.patch(MESH, &params, &Patch::Merge(&patch)).await.context("the new version was refused")?;

    let started = Instant::now();
    let members = stage.bed.members.iter().map(|member| watch(stage, member, started));
    let watched = futures::future::try_join_all(members);
    let (took, steps) = futures::future::try_join(follow(stage, SECOND, UPGRADED), watched).await?;
    show::say(&format!("upgraded in {}", show::span(took)));

    let rows = stage.bed.members.iter().zip(&steps).map(|(member, steps)| {
        let cell = |time: Option<Duration>| {
            time.map_or_else(String::new, |time| format!("{:.1} s", time.as_secs_f64()))
        };
        [
            member.name().to_owned(),
            if stage.environment(member) == "canary" { "canary" } else { "rest" }.to_owned(),
            cell(steps.made),
            cell(steps.ready),
            cell(steps.tag),
            cell(steps.proxies),
            cell(steps.gone),
        ]
    });
    table::print(
        ["member", "stage", "new istiod made", "ready", "tag moved", "proxies moved", "old revision gone"],
        rows.collect::<Vec<_>>(),
    );
    command::fedistio(&stage.binary, &["status", "--kubeconfig", &stage.host_kubeconfig()]).await?;
    verify(stage, &steps).await?;
    show::look_around(&[
        kubectl(&stage.bed.host, &format!("get federatedistio {MESH} -o yaml")),
        kubectl(&stage.bed.host, "get controllerrevisions --namespace fedistio-system"),
        kubectl(
            stage.canary()?,
            r"get pods --namespace bookinfo -o custom-columns='POD:.metadata.name,REVISION:.metadata.annotations.istio\.io/rev'",
        ),
    ]);
    Ok(())
}

/// Notes the steps of one member as its API server shows them, until the old revision is gone.
async fn watch(stage: &Stage, member: &Cluster, started: Instant) -> Result<Steps> {
    let (old, new) = (revision(FIRST), revision(SECOND));
    let mut steps = Steps::default();
    loop {
        let istiods = observe::istiods(member).await?;
        let newer = istiods.iter().find(|istiod| istiod.revision == new);
        if newer.is_some() && steps.made.is_none() {
            steps.made = Some(started.elapsed());
            if stage.environment(member) != "canary" {
                moved(stage.canary()?)
                    .await
                    .with_context(|| format!("{} began before the canary was done", member.name()))?;
            }
        }
        if newer.is_some_and(|istiod| istiod.ready) && steps.ready.is_none() {
            steps.ready = Some(started.elapsed());
        }
        let tag = observe::tag(member, "default").await?.map(|(revision, _)| revision);
        if tag.as_ref() == Some(&new) && steps.tag.is_none() {
            steps.tag = Some(started.elapsed());
            // A tag that moves to a control plane that is not ready leaves pods without sidecars.
            ensure!(
                newer.is_some_and(|istiod| istiod.ready),
                "the tag of {} moved before istiod was ready",
                member.name()
            );
        }
        let proxies = observe::proxies(member, NAMESPACE).await?;
        if proxies.keys().all(|revision| *revision == new) && !proxies.is_empty() && steps.proxies.is_none() {
            steps.proxies = Some(started.elapsed());
        }
        if !istiods.iter().any(|istiod| istiod.revision == old) {
            ensure!(
                steps.proxies.is_some(),
                "istiod {FIRST} of {} went while proxies were on it: {proxies:?}",
                member.name()
            );
            if observe::leftovers(member, &old).await?.is_empty() {
                steps.gone = Some(started.elapsed());
                return Ok(steps);
            }
        }
        ensure!(
            started.elapsed() < UPGRADED,
            "{} still has {:?}",
            member.name(),
            observe::leftovers(member, &old).await?
        );
        tokio::time::sleep(LOOK).await;
    }
}

/// Has a member moved to the new release, wholly?
async fn moved(member: &Cluster) -> Result<()> {
    let new = revision(SECOND);
    let istiods = observe::istiods(member).await?;
    let alone =
        istiods.iter().all(|istiod| istiod.revision == new && istiod.version == SECOND && istiod.ready);
    ensure!(alone && istiods.len() == 1, "{} runs {istiods:?}", member.name());
    let tag = observe::tag(member, "default").await?.map(|(revision, _)| revision).unwrap_or_default();
    ensure!(tag == new, "the tag default of {} points to {tag}", member.name());
    let proxies = observe::proxies(member, NAMESPACE).await?;
    ensure!(
        proxies.keys().all(|revision| *revision == new),
        "proxies of {} are on {proxies:?}",
        member.name()
    );
    Ok(())
}

async fn verify(stage: &Stage, steps: &[Steps]) -> Result<()> {
    for member in &stage.bed.members {
        moved(member).await?;
        observe::pods_ready(member, NAMESPACE).await?;
    }
    let canary =
        steps.first().and_then(|steps| steps.ready).context("the canary's istiod was not seen ready")?;
    let others: Vec<Duration> = steps.iter().skip(1).filter_map(|steps| steps.made).collect();
    ensure!(others.len() + 1 == steps.len(), "not every member was seen with the new control plane");
    ensure!(others.iter().all(|made| *made > canary), "a member began before the canary was ready");
    let members = stage.bed.members.len();
    stage.verified(ACT, "the others began only when the canary was wholly on the new release");
    stage.verified(
        ACT,
        format!("istiod {SECOND} is ready and the tag default points to it in {members} members"),
    );
    stage.verified(ACT, "every sidecar of bookinfo is of the new revision, and its pods are ready");
    stage.verified(ACT, format!("nothing of the revision {} is left in any member", revision(FIRST)));
    Ok(())
}
