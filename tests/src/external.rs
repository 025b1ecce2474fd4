//! The user's own clusters (kind, k3d, anything) in place of the test bed's.

use std::path::Path;

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::config::Kubeconfig;

use crate::cluster::Cluster;

/// The host and the members that a kubeconfig's contexts name: the host is `host_context`, else the current context; all others
/// are members, in the file's order.
///
/// # Errors
/// A file that is no kubeconfig, no such context, no member, or a context without its cluster or user.
pub(crate) async fn clusters(
    path: &Path,
    host_context: Option<&str>,
    dir: &Path,
) -> Result<(Cluster, Vec<Cluster>)> {
    let config = Kubeconfig::read_from(path)
        .with_context(|| format!("cannot read the kubeconfig {}", path.display()))?;
    let names: Vec<String> = config.contexts.iter().map(|context| context.name.clone()).collect();
    let host = host_context.map(str::to_owned).or_else(|| config.current_context.clone());
    let host = host.context("say which context is the host: --host-context NAME")?;
    if !names.contains(&host) {
        bail!("{} has no context '{host}'; it has {}", path.display(), names.join(", "));
    }
    if names.len() < 2 {
        bail!("{} has only the host's context; every other context is a member", path.display());
    }
    let mut members = Vec::new();
    for name in names.iter().filter(|name| **name != host) {
        members.push(cluster(&config, name, dir).await?);
    }
    Ok((cluster(&config, &host, dir).await?, members))
}

async fn cluster(config: &Kubeconfig, context: &str, dir: &Path) -> Result<Cluster> {
    let mut own = config.clone();
    own.contexts.retain(|named| named.name == context);
    own.current_context = Some(context.to_owned());
    let inner = own.contexts.first().and_then(|named| named.context.clone());
    let inner = inner.with_context(|| format!("context '{context}' is empty"))?;
    own.clusters.retain(|named| named.name == inner.cluster);
    own.auth_infos.retain(|named| Some(&named.name) == inner.user.as_ref());
    let cluster = own.clusters.first().and_then(|named| named.cluster.clone());
    let cluster = cluster.with_context(|| format!("context '{context}' names no cluster of the file"))?;
    let server = cluster
        .server
        .clone()
        .with_context(|| format!("the cluster of context '{context}' has no server"))?;
    let ca = match (&cluster.certificate_authority_data, &cluster.certificate_authority) {
        (Some(data), _) => {
            let bytes =
                STANDARD.decode(data).with_context(|| format!("bad CA data in context '{context}'"))?;
            String::from_utf8(bytes).with_context(|| format!("the CA of context '{context}' is not PEM"))?
        }
        (None, Some(file)) => std::fs::read_to_string(file).with_context(|| format!("cannot read {file}"))?,
        (None, None) => String::new(),
    };
    // Contexts may be named as paths or URLs; clusters are not.
    let name: String = context
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
        .collect();
    let text = serde_saphyr::to_string(&own).context("cannot write the kubeconfig")?;
    let path = dir.join(format!("{name}.kubeconfig"));
    Cluster::external(name, text, server, ca, path).await
}
