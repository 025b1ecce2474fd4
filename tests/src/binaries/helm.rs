//! The helm command, an oracle for chart rendering.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;

use super::go::{Stack, build};
use super::{Binaries, HELM, find_fitting};

pub(super) async fn get(binaries: &Binaries) -> Result<PathBuf> {
    let name = format!("helm-{HELM}");
    let built = binaries.cache().path("bin", &name).join("helm");
    if built.is_file() {
        return Ok(built);
    }
    // Renderings are compared byte for byte, so no other version will do.
    let fits = |text: &str| text.trim() == HELM || text.starts_with(&format!("{HELM}+"));
    if let Some(found) = find_fitting("helm", &["version", "--short"], fits).await {
        return Ok(found);
    }
    let stack = Stack {
        name: &name,
        go_mod: format!("module fedistio.io/testbed/helm\n\ngo 1.26\n\nrequire helm.sh/helm/v3 {HELM}\n"),
        go_sum: None,
        packages: &[("helm.sh/helm/v3/cmd/helm", "helm")],
        linker: BTreeMap::new(),
        takes: "2 minutes",
    };
    Ok(build(binaries.cache(), binaries.progress(), stack).await?.join("helm"))
}
