//! kube-apiserver and kube-controller-manager, built together because they share most of their packages.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result};
use semver::Version;

use super::go::{Stack, build, go_line, module_dir};
use super::{Binaries, Kubernetes, find_fitting};

pub(super) async fn get(binaries: &Binaries, version: &str) -> Result<Kubernetes> {
    let parsed = Version::parse(version.trim_start_matches('v'))
        .with_context(|| format!("'{version}' is not a Kubernetes version such as v1.34.4"))?;
    let version = format!("v{parsed}");
    let name = format!("kubernetes-{version}");
    let dir = binaries.cache().path("bin", &name);
    if !dir.is_dir() {
        let fits = |text: &str| text.trim() == format!("Kubernetes {version}");
        let apiserver = find_fitting("kube-apiserver", &["--version"], fits).await;
        let controller_manager = find_fitting("kube-controller-manager", &["--version"], fits).await;
        if let (Some(apiserver), Some(controller_manager)) = (apiserver, controller_manager) {
            return Ok(Kubernetes { apiserver, controller_manager });
        }
        make(binaries, &name, &parsed).await?;
    }
    Ok(Kubernetes {
        apiserver: dir.join("kube-apiserver"),
        controller_manager: dir.join("kube-controller-manager"),
    })
}

async fn make(binaries: &Binaries, name: &str, version: &Version) -> Result<()> {
    let source = module_dir("k8s.io/kubernetes", &format!("v{version}")).await?;
    let path = source.join("go.mod");
    let upstream = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let variable = |name: &str| format!("k8s.io/component-base/version.{name}");
    let stack = Stack {
        name,
        go_mod: go_mod(&upstream, version)?,
        go_sum: Some(source.join("go.sum")),
        packages: &[
            ("k8s.io/kubernetes/cmd/kube-apiserver", "kube-apiserver"),
            ("k8s.io/kubernetes/cmd/kube-controller-manager", "kube-controller-manager"),
        ],
        linker: BTreeMap::from([
            (variable("gitVersion"), format!("v{version}")),
            (variable("gitMajor"), version.major.to_string()),
            (variable("gitMinor"), version.minor.to_string()),
        ]),
        takes: "6 minutes",
    };
    build(binaries.cache(), binaries.progress(), stack).await.map(drop)
}

/// A module that requires Kubernetes. Its own go.mod asks for `v0.0.0` of the modules that live beside it, which exist
/// as v0.MINOR.PATCH only.
fn go_mod(upstream: &str, version: &Version) -> Result<String> {
    let staging: BTreeSet<&str> = upstream
        .lines()
        .filter_map(|line| {
            let mut words = line.trim().trim_start_matches("require ").split_whitespace();
            let (module, required) = (words.next()?, words.next()?);
            (module.starts_with("k8s.io/") && required == "v0.0.0").then_some(module)
        })
        .collect();
    let mut text = format!(
        "module fedistio.io/testbed/kubernetes\n\ngo {}\n\nrequire k8s.io/kubernetes v{version}\n\nreplace (\n",
        go_line(upstream)?
    );
    for module in staging {
        writeln!(text, "\t{module} => {module} v0.{}.{}", version.minor, version.patch)?;
    }
    text.push_str(")\n");
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn staging_modules_are_replaced() {
        let upstream = "module k8s.io/kubernetes\n\ngo 1.24.0\n\nrequire (\n\tk8s.io/api v0.0.0\n\tk8s.io/klog/v2 v2.1.0\n\
                        \tk8s.io/mount-utils v0.0.0 // indirect\n)\n\nreplace (\n\tk8s.io/api => ./staging/src/k8s.io/api\n)\n";
        let text = go_mod(upstream, &Version::new(1, 34, 4)).unwrap();
        assert!(text.contains("\tk8s.io/api => k8s.io/api v0.34.4\n"), "{text}");
        assert!(text.contains("\tk8s.io/mount-utils => k8s.io/mount-utils v0.34.4\n"), "{text}");
        assert!(!text.contains("klog"), "{text}");
        assert!(text.contains("\ngo 1.24.0\n"), "{text}");
    }
}
