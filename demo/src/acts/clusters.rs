//! Act 1: a host and member clusters.

use crate::{
    Args, clusters,
    show::{self, table},
    stage::{Stage, kubectl},
};
use anyhow::{Context as _, Result, ensure};
use fedistio_tests::{Cluster, Operator, Progress};
use k8s_openapi::api::core::v1::Node;
use kube::{Api, ResourceExt as _, api::ListParams};
use std::collections::BTreeSet;

const ACT: usize = 1;

/// Starts the clusters, or connects to the user's, and builds `fedistio`.
pub(crate) async fn play(args: &Args) -> Result<Stage> {
    show::act(ACT, "clusters");
    let step = Progress::stderr().step("cargo build -p fedistio");
    let binary = Operator::binary().await?;
    step.done();
    let bed = if let Some(file) = &args.kubeconfig {
        clusters::of_the_user(file, args.host_context.as_deref(), &args.member_contexts).await?
    } else {
        show::say(
            "The first time, etcd, Kubernetes and istiod are built from their sources; later runs find them in the cache.",
        );
        clusters::own(args.members).await?
    };
    let stage = Stage::new(bed, binary);
    let mut rows = Vec::new();
    for cluster in stage.bed.clusters() {
        rows.push(row(&stage, cluster).await?);
    }
    table::print(["cluster", "role", "Kubernetes", "region", "nodes", "API server"], rows);
    let count = stage.bed.members.len() + 1;
    stage.verified(ACT, format!("{count} Kubernetes API servers answer, each with nodes"));
    let commands: Vec<String> = stage.bed.clusters().map(|cluster| kubectl(cluster, "get nodes")).collect();
    show::look_around(&commands);
    Ok(stage)
}

async fn row(stage: &Stage, cluster: &Cluster) -> Result<[String; 6]> {
    let version = cluster.version().await?;
    let nodes = Api::<Node>::all(cluster.client()).list(&ListParams::default()).await;
    let nodes = nodes.with_context(|| format!("nodes of {} can't be listed", cluster.name()))?.items;
    ensure!(!nodes.is_empty(), "{} has no nodes", cluster.name());
    let regions: BTreeSet<&str> = nodes
        .iter()
        .filter_map(|node| node.labels().get("topology.kubernetes.io/region").map(String::as_str))
        .collect();
    let role = match cluster.name() {
        name if name == stage.bed.host.name() => "host".to_owned(),
        _ => format!("member ({})", stage.environment(cluster)),
    };
    let regions: Vec<&str> = regions.into_iter().collect();
    Ok([
        cluster.name().to_owned(),
        role,
        version,
        regions.join(", "),
        nodes.len().to_string(),
        cluster.server().to_owned(),
    ])
}
