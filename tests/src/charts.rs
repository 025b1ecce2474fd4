//! The upstream charts of an Istio release, packaged as its release packages them.
//!
//! In the sources the charts carry placeholders for version, hub and tag. A release replaces these texts and packs each chart; so do we,
//! with fixed times, so that an archive's digest is the same on every machine.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use flate2::{Compression, GzBuilder};
use sha2::{Digest as _, Sha256};

use crate::binaries::{Binaries, istio_module, module_dir};

/// The registry that release images come from.
pub const HUB: &str = "docker.io/istio";
/// Part of the cache entry's name: goes up when packaging changes.
const PACKAGING: u32 = 1;

/// Folders of the charts in the sources, and whether each has `hub` and `tag` to set.
const CHARTS: [(&str, bool); 6] = [
    ("base", false),
    ("default", false),
    ("gateway", false),
    ("istio-cni", true),
    ("istio-control/istio-discovery", true),
    ("ztunnel", true),
];

/// A packaged chart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChartArchive {
    /// The chart's name as in its Chart.yaml: `base`, `istiod`, `cni`, `gateway`, `ztunnel`, `istio-default`.
    pub name: String,
    /// The Istio version.
    pub version: String,
    /// The `.tgz`.
    pub path: PathBuf,
    /// SHA-256 of the file, lower-case hex.
    pub sha256: String,
}

/// The charts of an Istio version, from the cache or packaged now (needs Go for the download, the first time).
///
/// # Errors
/// An unknown version, missing Go, or sources whose texts are not the expected ones.
pub async fn charts(binaries: &Binaries, version: &str) -> Result<Vec<ChartArchive>> {
    let known = istio_module(version)?;
    let entry = format!("istio-{version}-p{PACKAGING}");
    let progress = binaries.progress();
    let dir = binaries
        .cache()
        .get_or_make("charts", &entry, progress, |out| async move {
            let step = progress.step(&format!("packaging the charts of Istio {version}"));
            let source = module_dir("istio.io/istio", known.module).await?;
            for (folder, has_image) in CHARTS {
                let folder = source.join("manifests/charts").join(folder);
                package(&folder, version, has_image, &out)
                    .with_context(|| format!("cannot package {}", folder.display()))?;
            }
            step.done();
            Ok(())
        })
        .await?;
    list(&dir, version)
}

fn list(dir: &Path, version: &str) -> Result<Vec<ChartArchive>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let path = entry.with_context(|| format!("cannot read {}", dir.display()))?.path();
        let file = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(name) = file.strip_suffix(&format!("-{version}.tgz")) {
            let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            found.push(ChartArchive {
                name: name.to_owned(),
                version: version.to_owned(),
                sha256: sha256(&bytes),
                path,
            });
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// Lower-case hex.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn package(folder: &Path, version: &str, has_image: bool, out: &Path) -> Result<()> {
    let mut files = Vec::new();
    walk(folder, Path::new(""), &mut files)?;
    files.sort();
    let text = |name: &str| fs::read_to_string(folder.join(name)).with_context(|| format!("no {name}"));
    let chart = text("Chart.yaml")?;
    let chart = replace(
        &replace(&chart, "\nversion: 1.0.0", &format!("\nversion: {version}"))?,
        "appVersion: 1.0.0",
        &format!("appVersion: {version}"),
    )?;
    let mut values = text("values.yaml")?;
    if has_image {
        values = replace(&values, "hub: gcr.io/istio-testing", &format!("hub: {HUB}"))?;
        values = replace(&values, "tag: latest", &format!("tag: {version}"))?;
    }
    let name =
        chart.lines().find_map(|line| line.strip_prefix("name: ")).context("Chart.yaml has no name")?.trim();
    let mut archive = tar::Builder::new(GzBuilder::new().mtime(0).write(Vec::new(), Compression::best()));
    for file in files {
        let bytes = match file.to_str() {
            Some("Chart.yaml") => chart.clone().into_bytes(),
            Some("values.yaml") => values.clone().into_bytes(),
            _ => fs::read(folder.join(&file)).with_context(|| format!("cannot read {}", file.display()))?,
        };
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        archive
            .append_data(&mut header, Path::new(name).join(&file), bytes.as_slice())
            .context("cannot archive")?;
    }
    let bytes = archive.into_inner().and_then(flate2::write::GzEncoder::finish).context("cannot compress")?;
    let path = out.join(format!("{name}-{version}.tgz"));
    let mut file = fs::File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    file.write_all(&bytes).with_context(|| format!("cannot write {}", path.display()))
}

/// Replaces a text that must be there exactly once: a second one would be something that nobody has looked at.
fn replace(text: &str, from: &str, to: &str) -> Result<String> {
    match text.matches(from).count() {
        1 => Ok(text.replacen(from, to, 1)),
        count => bail!("expected '{}' once in the upstream file, found it {count} times", from.trim()),
    }
}

fn walk(root: &Path, below: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let dir = root.join(below);
    for entry in fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let entry = entry.with_context(|| format!("cannot read {}", dir.display()))?;
        let path = below.join(entry.file_name());
        if entry.file_type().with_context(|| format!("cannot read {}", path.display()))?.is_dir() {
            walk(root, &path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(dir: &Path, values: &str) -> PathBuf {
        let folder = dir.join("source");
        fs::create_dir_all(folder.join("templates")).unwrap();
        fs::write(
            folder.join("Chart.yaml"),
            "apiVersion: v2\nname: istiod\nversion: 1.0.0\nappVersion: 1.0.0\n",
        )
        .unwrap();
        fs::write(folder.join("values.yaml"), values).unwrap();
        fs::write(folder.join("templates/a.yaml"), "a: {{ .Values.b }}\n").unwrap();
        folder
    }

    #[test]
    fn packages_the_same_bytes_each_time() {
        let dir = tempfile::tempdir().unwrap();
        let folder = source(dir.path(), "d:\n  hub: gcr.io/istio-testing\n  tag: latest\n");
        package(&folder, "1.2.3", true, dir.path()).unwrap();
        let first = list(dir.path(), "1.2.3").unwrap();
        package(&folder, "1.2.3", true, dir.path()).unwrap();
        assert_eq!(first, list(dir.path(), "1.2.3").unwrap());
        assert_eq!(first[0].name, "istiod");
        let mut archive =
            tar::Archive::new(flate2::read::GzDecoder::new(fs::File::open(&first[0].path).unwrap()));
        let texts: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let mut entry = entry.unwrap();
                let mut text = String::new();
                std::io::Read::read_to_string(&mut entry, &mut text).unwrap();
                (entry.path().unwrap().display().to_string(), text)
            })
            .collect();
        assert_eq!(texts[0].0, "istiod/Chart.yaml");
        assert!(texts[0].1.contains("\nversion: 1.2.3\nappVersion: 1.2.3\n"), "{}", texts[0].1);
        assert!(texts[2].1.contains("hub: docker.io/istio\n  tag: 1.2.3\n"), "{}", texts[2].1);
    }

    #[test]
    fn unexpected_sources_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let folder = source(dir.path(), "hub: elsewhere\n");
        let error = format!("{:#}", package(&folder, "1.2.3", true, dir.path()).unwrap_err());
        assert!(error.contains("hub: gcr.io/istio-testing"), "{error}");
    }
}
