//! What the tests compare with: the helm program, and the Istio charts packaged as a release packages them.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use serde_json::Value as Json;

const HELM_VERSION: &str = "v3.22.0";
const INSTALL_GO: &str =
    "install Go >= 1.26 (https://go.dev/dl), which these tests need to get helm and the Istio charts";

/// The Istio releases that are compared, with the module version that holds their charts.
pub(crate) const RELEASES: [(&str, &str); 2] =
    [("1.28.2", "v0.0.0-20251217200826-ab413ac6c1f4"), ("1.29.1", "v0.0.0-20260306174214-6991a379e1fc")];

/// A chart's name and its folder below `manifests/charts`.
pub(crate) const CHARTS: [(&str, &str); 6] = [
    ("base", "base"),
    ("istiod", "istio-control/istio-discovery"),
    ("gateway", "gateway"),
    ("cni", "istio-cni"),
    ("ztunnel", "ztunnel"),
    ("default", "default"),
];

fn cache() -> PathBuf {
    if let Some(dir) = std::env::var_os("FEDISTIO_CACHE") {
        return dir.into();
    }
    if let Some(dir) = std::env::var_os("XDG_CACHE_HOME") {
        return PathBuf::from(dir).join("fedistio");
    }
    PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache/fedistio")
}

fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| {
        panic!("{} can't be started: {error}; {INSTALL_GO}", command.get_program().display());
    });
    assert!(output.status.success(), "{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The helm binary: from `FEDISTIO_HELM`, from the cache, or built into the cache.
pub(crate) fn helm() -> &'static Path {
    static HELM: OnceLock<PathBuf> = OnceLock::new();
    HELM.get_or_init(|| {
        if let Some(path) = std::env::var_os("FEDISTIO_HELM") {
            return path.into();
        }
        let dir = cache().join("bin").join(format!("helm-{HELM_VERSION}"));
        let binary = dir.join("helm");
        if binary.exists() {
            return binary;
        }
        fs::create_dir_all(&dir).expect("the cache folder can be made");
        let lock = fs::File::create(dir.join(".lock")).expect("a lock file");
        lock.lock().expect("the lock");
        if binary.exists() {
            return binary;
        }
        eprintln!("building helm {HELM_VERSION} once, which takes about two minutes");
        let module = tempfile::tempdir().expect("a temporary folder");
        fs::write(
            module.path().join("go.mod"),
            format!(
                "module fedistio.io/testbed/helm\n\ngo 1.26.0\n\nrequire helm.sh/helm/v3 {HELM_VERSION}\n"
            ),
        )
        .expect("go.mod");
        run(Command::new("go").args(["mod", "download"]).current_dir(module.path()));
        let fresh = dir.join(format!(".helm-{}", std::process::id()));
        run(Command::new("go")
            .args(["build", "-mod=mod", "-trimpath", "-o"])
            .arg(&fresh)
            .arg("helm.sh/helm/v3/cmd/helm")
            .current_dir(module.path()));
        fs::rename(&fresh, &binary).expect("the binary can be moved into place");
        binary
    })
}

/// The chart folders of a release, packaged as a release packages them, below a temporary folder.
pub(crate) fn istio_charts(release: &str) -> BTreeMap<&'static str, PathBuf> {
    static CHART_DIRS: OnceLock<tempfile::TempDir> = OnceLock::new();
    let root = CHART_DIRS.get_or_init(|| tempfile::tempdir().expect("a temporary folder"));
    let version = RELEASES.iter().find(|(known, _)| *known == release).expect("a known release").1;
    let module = run(Command::new("go")
        .args(["mod", "download", "-json", &format!("istio.io/istio@{version}")])
        .current_dir(root.path()));
    let module: Json = serde_json::from_str(&module).expect("JSON from go");
    let charts = Path::new(module["Dir"].as_str().expect("a folder")).join("manifests/charts");
    let mut found = BTreeMap::new();
    for (name, folder) in CHARTS {
        let to = root.path().join(release).join(name);
        if !to.exists() {
            copy(&charts.join(folder), &to);
            package(&to, release);
        }
        found.insert(name, to);
    }
    found
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::write(&target, fs::read(entry.path()).expect("a file")).expect("a file");
        }
    }
}

/// Sets what Istio's release process sets.
fn package(chart: &Path, release: &str) {
    let chart_yaml = fs::read_to_string(chart.join("Chart.yaml")).expect("Chart.yaml");
    let chart_yaml: String = chart_yaml
        .lines()
        .map(|line| match line.split(':').next() {
            Some(key @ ("version" | "appVersion")) => format!("{key}: {release}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    fs::write(chart.join("Chart.yaml"), chart_yaml).expect("Chart.yaml");
    let values = fs::read_to_string(chart.join("values.yaml")).expect("values.yaml");
    let values: String = values
        .lines()
        .map(|line| {
            let indent = &line[..line.len() - line.trim_start().len()];
            match line.trim_start() {
                rest if rest.starts_with("hub: ") => format!("{indent}hub: docker.io/istio\n"),
                rest if rest.starts_with("tag: ") => format!("{indent}tag: {release}\n"),
                _ => format!("{line}\n"),
            }
        })
        .collect();
    fs::write(chart.join("values.yaml"), values).expect("values.yaml");
}

/// As [`helm_template`] for a chart of a release, kept in the cache: helm takes minutes for all cases, and always says the same.
pub(crate) fn helm_template_of_release(
    release: &str,
    chart: (&str, &Path),
    kube_version: &str,
    values: &str,
) -> Result<String, String> {
    use sha2::{Digest as _, Sha256};
    // The number counts changes of how the charts are packaged here.
    let key = format!("1\n{HELM_VERSION}\n{release}\n{}\n{kube_version}\n{values}", chart.0);
    let name = format!("{:x}", Sha256::digest(key));
    let dir = cache().join("goldens");
    let file = dir.join(format!("{name}.json"));
    if let Some(known) = fs::read(&file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
        return known;
    }
    let result = helm_template(chart.1, "rel", "istio-system", kube_version, values);
    fs::create_dir_all(&dir).expect("the cache folder can be made");
    let fresh = dir.join(format!(".{name}-{}", std::process::id()));
    fs::write(&fresh, serde_json::to_vec(&result).expect("JSON")).expect("the cache can be written");
    fs::rename(&fresh, &file).expect("the cache can be written");
    result
}

/// Runs `helm template`; the error is what helm prints.
pub(crate) fn helm_template(
    chart: &Path,
    name: &str,
    namespace: &str,
    kube_version: &str,
    values: &str,
) -> Result<String, String> {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = dir.path().join("values.yaml");
    fs::write(&file, values).expect("values");
    let output = Command::new(helm())
        .args(["template", name])
        .arg(chart)
        .args(["-n", namespace, "--kube-version", kube_version, "--skip-schema-validation", "-f"])
        .arg(&file)
        .env("HELM_CACHE_HOME", dir.path())
        .env("HELM_CONFIG_HOME", dir.path())
        .env("HELM_DATA_HOME", dir.path())
        .stdin(Stdio::null())
        .output()
        .expect("helm runs");
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).expect("UTF-8"))
    } else {
        let text = String::from_utf8_lossy(&output.stderr);
        let error = text.split_once("Error: ").map_or(&*text, |(_, error)| error);
        let error = error.split("\n\nUse --debug flag").next().unwrap_or(error);
        Err(error.trim().to_owned())
    }
}
