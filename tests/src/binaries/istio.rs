//! istiod (`pilot-discovery`) and the Go module of each Istio release.
//!
//! `istio.io/istio` has no version tags on the module proxy, so each release is named by the pseudo-version of its tag's commit.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use super::Binaries;
use super::go::{Stack, build, go_line, module_dir};

/// Where the sources and charts of one Istio release are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IstioModule {
    /// The release, for example `1.28.2`.
    pub version: &'static str,
    /// The version of the Go module `istio.io/istio`.
    pub module: &'static str,
    /// Extra `replace` lines without which the module does not build.
    replace: &'static str,
    /// Why istiod cannot be built, where it cannot.
    unbuildable: Option<&'static str>,
}

/// All releases that the test bed knows. Charts are there for each; istiod for those that build.
pub const ISTIO_VERSIONS: &[IstioModule] = &[
    IstioModule {
        version: "1.24.0",
        module: "v0.0.0-20241105211601-8825a6b7f8c9",
        replace: "",
        unbuildable: Some("some of its dependencies are not to be had any more"),
    },
    IstioModule {
        version: "1.26.0",
        module: "v0.0.0-20250506181944-c2e9871f340c",
        replace: "",
        unbuildable: None,
    },
    IstioModule {
        version: "1.28.2",
        module: "v0.0.0-20251217200826-ab413ac6c1f4",
        // The pinned pseudo-version of this dependency cannot be downloaded.
        replace: "\nreplace github.com/envoyproxy/go-control-plane => github.com/envoyproxy/go-control-plane v0.14.0\n",
        unbuildable: None,
    },
    IstioModule {
        version: "1.29.1",
        module: "v0.0.0-20260306174214-6991a379e1fc",
        replace: "",
        unbuildable: None,
    },
];

/// The module of a release.
///
/// # Errors
/// A release without an entry; the message lists those there are.
pub fn istio_module(version: &str) -> Result<&'static IstioModule> {
    ISTIO_VERSIONS.iter().find(|known| known.version == version).with_context(|| {
        let known: Vec<_> = ISTIO_VERSIONS.iter().map(|module| module.version).collect();
        format!("the test bed does not know Istio {version}; it knows {}", known.join(", "))
    })
}

pub(super) fn built(binaries: &Binaries, version: &str) -> Option<PathBuf> {
    let path = binaries.cache().path("bin", &format!("istiod-{version}")).join("pilot-discovery");
    path.is_file().then_some(path)
}

pub(super) async fn get(binaries: &Binaries, version: &str) -> Result<PathBuf> {
    if let Some(path) = built(binaries, version) {
        return Ok(path);
    }
    let known = istio_module(version)?;
    if let Some(why) = known.unbuildable {
        bail!("istiod {version} cannot be built: {why}; its charts can be used all the same");
    }
    let dir = module_dir("istio.io/istio", known.module).await?;
    let upstream = dir.join("go.mod");
    let upstream =
        fs::read_to_string(&upstream).with_context(|| format!("cannot read {}", upstream.display()))?;
    let variable = |name: &str| format!("istio.io/istio/pkg/version.{name}");
    let stack = Stack {
        name: &format!("istiod-{version}"),
        go_mod: format!(
            "module fedistio.io/testbed/istio\n\ngo {}\n\nrequire istio.io/istio {}\n{}",
            go_line(&upstream)?,
            known.module,
            known.replace
        ),
        // Without it the check of a few old dependencies has nothing to look up.
        go_sum: Some(dir.join("go.sum")),
        packages: &[("istio.io/istio/pilot/cmd/pilot-discovery", "pilot-discovery")],
        linker: BTreeMap::from([
            (variable("buildVersion"), version.to_owned()),
            (variable("buildTag"), version.to_owned()),
        ]),
        takes: "5 minutes",
    };
    Ok(build(binaries.cache(), binaries.progress(), stack).await?.join("pilot-discovery"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_releases_are_refused_with_the_list() {
        let error = istio_module("1.99.0").unwrap_err().to_string();
        assert!(error.contains("1.99.0") && error.contains("1.28.2"), "{error}");
    }
}
