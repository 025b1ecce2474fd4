//! Which clusters the demo plays on: those that it starts, or the user's own.

use anyhow::{Context as _, Result, bail};
use fedistio_tests::TestBed;
use kube::config::Kubeconfig;
use std::path::Path;

/// The release that is installed first.
pub(crate) const FIRST: &str = "1.28.2";
/// The release that is upgraded to.
pub(crate) const SECOND: &str = "1.29.1";

/// Starts a host and `members` member clusters.
pub(crate) async fn own(members: u8) -> Result<TestBed> {
    TestBed::builder().members(usize::from(members)).istio([FIRST, SECOND]).build().await
}

/// Uses the clusters of a kubeconfig: `host` (or the current context) and `members` (or every other context).
pub(crate) async fn of_the_user(file: &Path, host: Option<&str>, members: &[String]) -> Result<TestBed> {
    let istio = [FIRST.to_owned(), SECOND.to_owned()];
    let mut config = Kubeconfig::read_from(file)
        .with_context(|| format!("cannot read the kubeconfig {}", file.display()))?;
    let host = host.map(str::to_owned).or_else(|| config.current_context.clone());
    let host =
        host.context("the kubeconfig has no current context: say which one is the host with --host-context")?;
    select(&mut config, &host, members)?;
    // A file of its own: the test bed takes every context but the host's for a member.
    let dir = tempfile::tempdir().context("cannot create a temporary folder")?;
    let selected = dir.path().join("kubeconfig");
    let text = serde_json::to_vec(&config).context("cannot write the kubeconfig")?;
    std::fs::write(&selected, text).with_context(|| format!("cannot write {}", selected.display()))?;
    TestBed::external(&selected, Some(&host), &istio).await
}

/// Leaves only the host's and the members' contexts, in that order.
fn select(config: &mut Kubeconfig, host: &str, members: &[String]) -> Result<()> {
    let names: Vec<String> = config.contexts.iter().map(|context| context.name.clone()).collect();
    let mut wanted = vec![host.to_owned()];
    if members.is_empty() {
        wanted.extend(names.iter().filter(|name| *name != host).cloned());
    } else {
        wanted.extend(members.iter().cloned());
    }
    if let Some(missing) = wanted.iter().find(|name| !names.contains(name)) {
        bail!("the kubeconfig has no context '{missing}'; it has {}", names.join(", "));
    }
    if members.iter().any(|member| member == host) {
        bail!("'{host}' is the host; a member has to be another cluster");
    }
    if wanted.len() < 3 {
        bail!("the demo needs a host and at least two members: a canary, and one that follows it");
    }
    let mut contexts = std::mem::take(&mut config.contexts);
    for name in wanted {
        if let Some(index) = contexts.iter().position(|context| context.name == name) {
            config.contexts.push(contexts.remove(index));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Kubeconfig {
        let text = "apiVersion: v1\nkind: Config\ncurrent-context: a\nclusters: []\nusers: []\ncontexts:\n\
                    - {name: a, context: {cluster: a, user: a}}\n- {name: b, context: {cluster: b, user: b}}\n\
                    - {name: c, context: {cluster: c, user: c}}\n";
        Kubeconfig::from_yaml(text).unwrap()
    }

    fn chosen(host: &str, members: &[&str]) -> Result<Vec<String>> {
        let mut config = config();
        let members: Vec<String> = members.iter().map(|name| (*name).to_owned()).collect();
        select(&mut config, host, &members)?;
        Ok(config.contexts.into_iter().map(|context| context.name).collect())
    }

    #[test]
    fn members_come_in_the_order_in_which_they_are_named() {
        assert_eq!(chosen("b", &["c", "a"]).unwrap(), ["b", "c", "a"]);
        assert_eq!(chosen("b", &[]).unwrap(), ["b", "a", "c"]);
    }

    #[test]
    fn wrong_contexts_are_refused_with_a_message() {
        for (host, members, part) in
            [("x", &[][..], "no context 'x'"), ("a", &["a", "b"], "the host"), ("a", &["b"], "at least two")]
        {
            let message = chosen(host, members).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
    }
}
