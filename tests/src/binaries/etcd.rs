//! etcd.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;

use super::go::{Stack, build};
use super::{Binaries, ETCD, find_fitting};

pub(super) async fn get(binaries: &Binaries) -> Result<PathBuf> {
    let name = format!("etcd-{ETCD}");
    let built = binaries.cache().path("bin", &name).join("etcd");
    if built.is_file() {
        return Ok(built);
    }
    if let Some(found) = find_fitting("etcd", &["--version"], fits).await {
        return Ok(found);
    }
    let stack = Stack {
        name: &name,
        go_mod: format!(
            "module fedistio.io/testbed/etcd\n\ngo 1.26\n\nrequire go.etcd.io/etcd/server/v3 {ETCD}\n"
        ),
        go_sum: None,
        packages: &[("go.etcd.io/etcd/server/v3", "etcd")],
        linker: BTreeMap::new(),
        takes: "one minute",
    };
    Ok(build(binaries.cache(), binaries.progress(), stack).await?.join("etcd"))
}

/// Kubernetes 1.34 and later need 3.5 or newer (streamed watch progress).
fn fits(text: &str) -> bool {
    let version = text.lines().find_map(|line| line.strip_prefix("etcd Version: "));
    version.is_some_and(|version| ["3.5.", "3.6.", "3.7."].iter().any(|prefix| version.starts_with(prefix)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tried_versions_fit() {
        assert!(fits("etcd Version: 3.6.4\nGit SHA: x\n"));
        assert!(!fits("etcd Version: 3.4.30\n"));
        assert!(!fits("usage"));
    }
}
