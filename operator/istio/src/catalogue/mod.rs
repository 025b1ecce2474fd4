//! The release catalogue: what is known of each Istio release. Pure.
//!
//! Built-in entries come from `bundles/`; an `IstioRelease` of the host wins over the built-in entry of its version, so that a
//! user without access to Istio's own servers points the charts to a mirror.

mod compat;

pub use compat::{CompatError, check_kubernetes, check_mesh_skew, check_step};

use fedistio_crds::{ChartReference, IstioReleaseSpec};
use semver::Version;
use std::collections::BTreeMap;

/// The built-in entries, one text each.
const BUILTIN: [&str; 12] = [
    include_str!("../../../../bundles/1.24.0.yaml"),
    include_str!("../../../../bundles/1.25.0.yaml"),
    include_str!("../../../../bundles/1.26.0.yaml"),
    include_str!("../../../../bundles/1.27.0.yaml"),
    include_str!("../../../../bundles/1.28.0.yaml"),
    include_str!("../../../../bundles/1.28.2.yaml"),
    include_str!("../../../../bundles/1.28.6.yaml"),
    include_str!("../../../../bundles/1.29.0.yaml"),
    include_str!("../../../../bundles/1.29.1.yaml"),
    include_str!("../../../../bundles/1.29.2.yaml"),
    include_str!("../../../../bundles/1.30.0.yaml"),
    include_str!("../../../../bundles/1.31.0-rc.0.yaml"),
];

/// The channel of the newest release.
const STABLE: &str = "stable";

/// A name that stands for the newest of several releases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Channel {
    Stable,
    Minor(u64, u64),
}

impl Channel {
    /// `stable`, or a minor version such as `1.29`; anything else is no channel.
    fn parse(text: &str) -> Option<Self> {
        if text == STABLE {
            return Some(Self::Stable);
        }
        let (major, minor) = text.trim_start_matches('v').split_once('.')?;
        Some(Self::Minor(major.parse().ok()?, minor.parse().ok()?))
    }

    fn has(self, version: &Version) -> bool {
        let fits = match self {
            Self::Stable => true,
            Self::Minor(major, minor) => (version.major, version.minor) == (major, minor),
        };
        fits && version.pre.is_empty()
    }
}

/// One release of the catalogue.
#[derive(Clone, Debug, PartialEq)]
pub struct Release {
    /// The version, read.
    pub version: Version,
    /// The facts.
    pub spec: IstioReleaseSpec,
}

impl Release {
    /// Reads the version of an entry.
    ///
    /// # Errors
    /// When the version is not a semantic version.
    pub fn new(spec: IstioReleaseSpec) -> Result<Self, CatalogueError> {
        match Version::parse(&spec.version) {
            Ok(version) => Ok(Self { version, spec }),
            Err(source) => Err(CatalogueError::Version { version: spec.version, source }),
        }
    }

    /// Where a chart of the release is.
    ///
    /// # Errors
    /// When the entry does not name the chart, or names no source for it.
    pub fn chart(&self, name: &str) -> Result<&ChartReference, CatalogueError> {
        self.spec.charts.iter().find(|chart| chart.name == name && !chart.sources.is_empty()).ok_or_else(
            || CatalogueError::NoChart { version: self.spec.version.clone(), chart: name.to_owned() },
        )
    }

    /// The revision name of this version: dots and whatever else a label may not hold become dashes (`1-29-1`).
    pub fn revision(&self) -> String {
        revision_name(&self.version)
    }
}

/// The revision name of a version, for example `1-29-1`.
pub fn revision_name(version: &Version) -> String {
    version
        .to_string()
        .chars()
        .map(|character| if character.is_ascii_alphanumeric() { character.to_ascii_lowercase() } else { '-' })
        .collect()
}

/// What the catalogue can't answer.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// A built-in entry can't be read: a mistake of this build.
    #[error("a built-in release can't be read: {0}")]
    Builtin(#[from] serde_saphyr::Error),
    /// An entry's version is not a version.
    #[error("{version:?} is not a version such as 1.29.1: {source}")]
    Version {
        /// The text.
        version: String,
        /// What is wrong with it.
        source: semver::Error,
    },
    /// Nothing is known of a version.
    #[error(
        "Istio {version} is not in the catalogue, which has {known}; choose one of these, or create an IstioRelease for {version} that names its charts"
    )]
    Unknown {
        /// The version that was asked for.
        version: String,
        /// The versions that are there.
        known: String,
    },
    /// The entry lacks a chart.
    #[error(
        "the catalogue's entry of Istio {version} names no source of the chart {chart}; add it to the IstioRelease"
    )]
    NoChart {
        /// The release.
        version: String,
        /// The chart.
        chart: String,
    },
}

/// All known releases.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    releases: BTreeMap<Version, Release>,
}

impl Catalogue {
    /// The built-in releases.
    ///
    /// # Errors
    /// When one of them can't be read, which a test excludes.
    pub fn builtin() -> Result<Self, CatalogueError> {
        let mut catalogue = Self::default();
        for text in BUILTIN {
            catalogue.insert(Release::new(serde_saphyr::from_str(text)?)?);
        }
        Ok(catalogue)
    }

    /// Adds an entry; it takes the place of an entry of the same version.
    pub fn insert(&mut self, release: Release) {
        self.releases.insert(release.version.clone(), release);
    }

    /// The entry of a version, with or without a leading `v`.
    ///
    /// # Errors
    /// When there is none, with the versions that are there.
    pub fn get(&self, version: &str) -> Result<&Release, CatalogueError> {
        Version::parse(version.trim_start_matches('v'))
            .ok()
            .and_then(|version| self.releases.get(&version))
            .ok_or_else(|| self.unknown(version))
    }

    /// The release that a version or a channel stands for: `1.29.1` itself, `1.29` the newest of its minor version, `stable` the newest of
    /// all. A channel never means a pre-release.
    ///
    /// # Errors
    /// As [`Catalogue::get`]; a channel without a release is answered like a version that is not there.
    pub fn resolve(&self, text: &str) -> Result<&Release, CatalogueError> {
        match Channel::parse(text) {
            Some(channel) => {
                let newest = self.releases.values().rev().find(|release| channel.has(&release.version));
                newest.ok_or_else(|| self.unknown(text))
            }
            None => self.get(text),
        }
    }

    /// Names of the channels that stand for this version now.
    pub fn channels_of(&self, version: &Version) -> Vec<String> {
        let own = format!("{}.{}", version.major, version.minor);
        let stands =
            |channel: &String| self.resolve(channel).is_ok_and(|release| release.version == *version);
        [STABLE.to_owned(), own].into_iter().filter(stands).collect()
    }

    fn unknown(&self, version: &str) -> CatalogueError {
        CatalogueError::Unknown {
            version: version.to_owned(),
            known: self.releases.keys().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        }
    }

    /// All releases, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Release> {
        self.releases.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_release_is_complete() {
        let catalogue = Catalogue::builtin().unwrap();
        assert_eq!(catalogue.iter().count(), BUILTIN.len());
        for release in catalogue.iter() {
            for chart in ["base", "istiod", "cni", "ztunnel", "gateway"] {
                let sources = &release.chart(chart).unwrap().sources;
                assert!(sources.len() >= 2, "{} {chart}", release.version);
                // OCI first, the classic repository last.
                assert!(
                    sources[0].starts_with("oci://") && sources[sources.len() - 1].starts_with("https://")
                );
            }
            let range = release.spec.kubernetes.as_ref().unwrap();
            let minor = |text: &str| text.strip_prefix("1.").unwrap().parse::<u64>().unwrap();
            assert!(check_kubernetes(release, &Version::new(1, minor(&range.min), 0)).is_ok());
            assert!(check_kubernetes(release, &Version::new(1, minor(&range.max) + 1, 0)).is_err());
            assert_eq!(release.spec.predecessors.len(), 2);
            let tag = format!(":{}", release.version);
            assert!(
                release.spec.images.len() == 4
                    && release.spec.images.iter().all(|image| image.ends_with(&tag))
            );
            assert_eq!(release.spec.storage_version("networking.istio.io", "EnvoyFilter"), Some("v1alpha3"));
            assert!(release.spec.storage_version("security.istio.io", "PeerAuthentication").is_some());
            assert_eq!(release.spec.storage_version("other.example", "X"), None);
        }
    }

    #[test]
    fn an_unknown_version_is_answered_with_the_known_ones() {
        let catalogue = Catalogue::builtin().unwrap();
        for version in ["1.99.0", "latest", ""] {
            let message = catalogue.get(version).unwrap_err().to_string();
            assert!(message.contains("1.24.0, 1.25.0, 1.26.0"), "{message}");
        }
        assert!(catalogue.get("v1.29.1").is_ok());
    }

    #[test]
    fn a_channel_is_its_newest_release_and_never_a_pre_release() {
        let mut catalogue = Catalogue::default();
        for version in ["1.28.9", "1.28.10", "1.29.1", "1.30.0-rc.1"] {
            let spec = serde_json::from_value(serde_json::json!({"version": version})).unwrap();
            catalogue.insert(Release::new(spec).unwrap());
        }
        let version = |text: &str| catalogue.resolve(text).map(|release| release.version.to_string());
        for (text, expected) in [
            ("1.28", "1.28.10"),
            ("v1.28", "1.28.10"),
            ("stable", "1.29.1"),
            ("1.28.9", "1.28.9"),
            ("1.30.0-rc.1", "1.30.0-rc.1"),
        ] {
            assert_eq!(version(text).unwrap(), expected);
        }
        for text in ["1.30", "2.1", "latest", "", "1.", "1.2.", "1.x"] {
            assert!(matches!(version(text), Err(CatalogueError::Unknown { .. })), "{text}");
        }
        let channels = |text: &str| catalogue.channels_of(&Version::parse(text).unwrap());
        assert_eq!(channels("1.29.1"), ["stable", "1.29"]);
        assert_eq!(channels("1.28.10"), ["1.28"]);
        assert!(channels("1.28.9").is_empty() && channels("1.30.0-rc.1").is_empty());
    }

    #[test]
    fn an_object_of_the_host_wins() {
        let mut catalogue = Catalogue::builtin().unwrap();
        let mut spec = catalogue.get("1.29.1").unwrap().spec.clone();
        spec.charts[0].sources = vec!["oci://127.0.0.1:5000/charts/base".to_owned()];
        catalogue.insert(Release::new(spec).unwrap());
        assert_eq!(catalogue.iter().count(), BUILTIN.len());
        assert_eq!(
            catalogue.get("1.29.1").unwrap().chart("base").unwrap().sources,
            ["oci://127.0.0.1:5000/charts/base"]
        );
    }

    #[test]
    fn a_missing_chart_and_a_bad_version_say_what_to_do() {
        let spec: IstioReleaseSpec = serde_json::from_str(r#"{"version": "1.30.0"}"#).unwrap();
        let message = Release::new(spec).unwrap().chart("base").unwrap_err().to_string();
        assert!(message.contains("1.30.0") && message.contains("base"), "{message}");
        let spec: IstioReleaseSpec = serde_json::from_str(r#"{"version": "new"}"#).unwrap();
        assert!(Release::new(spec).is_err());
    }

    #[test]
    fn revisions_are_valid_labels() {
        assert_eq!(revision_name(&Version::parse("1.29.1").unwrap()), "1-29-1");
        assert_eq!(revision_name(&Version::parse("1.31.0-rc.0").unwrap()), "1-31-0-rc-0");
        assert_eq!(revision_name(&Version::parse("1.31.0-Alpha+x").unwrap()), "1-31-0-alpha-x");
    }
}
