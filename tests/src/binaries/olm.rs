//! OLM's own check of a bundle. (`opm`, which checks catalogues, can't be built here: not every module proxy serves its module.)

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;

use super::Binaries;
use super::go::{Stack, build};

/// The version of OLM's validation library.
const API: &str = "v0.9.1";

pub(super) async fn get(binaries: &Binaries) -> Result<PathBuf> {
    let stack = Stack {
        name: &format!("operator-verify-{API}"),
        go_mod: format!(
            "module fedistio.io/testbed/olm\n\ngo 1.26\n\nrequire github.com/operator-framework/api {API}\n"
        ),
        go_sum: None,
        packages: &[("github.com/operator-framework/api/cmd/operator-verify", "operator-verify")],
        linker: BTreeMap::new(),
        takes: "one minute",
    };
    Ok(build(binaries.cache(), binaries.progress(), stack).await?.join("operator-verify"))
}
