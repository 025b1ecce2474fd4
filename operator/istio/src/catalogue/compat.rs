//! Which release runs where, and which may follow which. Pure.

use super::Release;
use semver::Version;

/// Why a release does not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompatError {
    /// The cluster's Kubernetes is outside the release's range.
    #[error(
        "Istio {istio} supports Kubernetes {min} to {max}, and this cluster runs {kubernetes}; choose another Istio version for it, or upgrade the cluster"
    )]
    Kubernetes {
        /// Istio's version.
        istio: String,
        /// First supported minor version.
        min: String,
        /// Last supported minor version.
        max: String,
        /// What the cluster runs.
        kubernetes: String,
    },
    /// A bound of the range can't be read.
    #[error(
        "the catalogue's entry of Istio {istio} has the Kubernetes version {text:?}; write for example 1.31"
    )]
    BadRange {
        /// Istio's version.
        istio: String,
        /// The text.
        text: String,
    },
    /// The step is too large, or backwards.
    #[error(
        "Istio {to} can't follow {from}: an upgrade by revision may skip one minor version at the most ({to} follows {allowed}); upgrade to a version in between first"
    )]
    TooFar {
        /// What runs.
        from: String,
        /// What is wanted.
        to: String,
        /// Minor versions that the wanted one may follow.
        allowed: String,
    },
    /// The wanted version is older by a minor version than the only one that runs.
    #[error(
        "Istio {from} runs here and {to} is older by more than its patch: a downgrade across minor versions is only possible while the older revision is still installed; set the version back to {from} or newer"
    )]
    Downgrade {
        /// What runs.
        from: String,
        /// What is wanted.
        to: String,
    },
}

/// Does `release` support this version of Kubernetes? A release without a range supports all.
///
/// # Errors
/// When it does not, or when its range can't be read.
pub fn check_kubernetes(release: &Release, kubernetes: &Version) -> Result<(), CompatError> {
    let Some(range) = &release.spec.kubernetes else { return Ok(()) };
    let istio = || release.version.to_string();
    let bound = |text: &str| {
        minor(text).ok_or_else(|| CompatError::BadRange { istio: istio(), text: text.to_owned() })
    };
    let (min, max) = (bound(&range.min)?, bound(&range.max)?);
    if (min..=max).contains(&(kubernetes.major, kubernetes.minor)) {
        return Ok(());
    }
    Err(CompatError::Kubernetes {
        istio: istio(),
        min: range.min.clone(),
        max: range.max.clone(),
        kubernetes: kubernetes.to_string(),
    })
}

/// May `to` be installed beside the running `from`, to take its place?
///
/// The same minor version always; a later one where the catalogue names `from`'s minor as a predecessor (where it names none: up to two
/// minors, which Istio supports for upgrades by revision); an earlier one never: rolling back to a revision that is still installed is not a step.
///
/// # Errors
/// When it may not, with what would be allowed.
pub fn check_step(from: &Version, to: &Release) -> Result<(), CompatError> {
    let target = &to.version;
    let (old, new) = ((from.major, from.minor), (target.major, target.minor));
    if old == new {
        return Ok(());
    }
    if new < old {
        return Err(CompatError::Downgrade { from: from.to_string(), to: target.to_string() });
    }
    let allowed = if to.spec.predecessors.is_empty() {
        (1..=2)
            .filter_map(|back| target.minor.checked_sub(back))
            .map(|minor| format!("{}.{minor}", target.major))
            .collect()
    } else {
        to.spec.predecessors.clone()
    };
    if allowed.iter().any(|text| minor(text) == Some(old)) {
        return Ok(());
    }
    Err(CompatError::TooFar { from: from.to_string(), to: target.to_string(), allowed: allowed.join(" or ") })
}

/// How many minor versions lie between the oldest and the newest control plane of a mesh.
///
/// Istio documents no limit between clusters of one mesh (istio.io issue 12971); more than one is worth a warning.
pub fn check_mesh_skew<'a>(versions: impl IntoIterator<Item = &'a Version>) -> u64 {
    let mut oldest = u64::MAX;
    let mut newest = 0;
    for version in versions {
        oldest = oldest.min(version.minor);
        newest = newest.max(version.minor);
    }
    newest.saturating_sub(oldest)
}

fn minor(text: &str) -> Option<(u64, u64)> {
    let (major, minor) = text.trim().trim_start_matches('v').split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::Catalogue;
    use fedistio_crds::KubernetesRange;

    fn release(version: &str) -> Release {
        Catalogue::builtin().unwrap().get(version).unwrap().clone()
    }

    #[test]
    fn kubernetes_ranges_include_both_ends() {
        let release = release("1.29.1");
        for (minor, fits) in [(30, false), (31, true), (34, true), (35, true), (36, false)] {
            assert_eq!(check_kubernetes(&release, &Version::new(1, minor, 4)).is_ok(), fits, "1.{minor}");
        }
        let message = check_kubernetes(&release, &Version::new(1, 36, 3)).unwrap_err().to_string();
        assert!(message.contains("1.31 to 1.35") && message.contains("1.36.3"), "{message}");
    }

    #[test]
    fn a_range_that_is_no_range_is_reported() {
        let mut release = release("1.29.1");
        release.spec.kubernetes = Some(KubernetesRange { min: "old".to_owned(), max: "1.35".to_owned() });
        let error = check_kubernetes(&release, &Version::new(1, 34, 0)).unwrap_err();
        assert!(matches!(error, CompatError::BadRange { .. }), "{error}");
        release.spec.kubernetes = None;
        assert!(check_kubernetes(&release, &Version::new(1, 99, 0)).is_ok());
    }

    #[test]
    fn steps_follow_istios_rules() {
        for (from, to, fits) in [
            ("1.28.2", "1.29.1", true),
            ("1.27.9", "1.29.1", true),
            ("1.26.0", "1.28.2", true),
            ("1.26.0", "1.29.1", false),
            ("1.24.0", "1.29.1", false),
            ("1.29.4", "1.29.1", true),
            ("1.29.1", "1.28.2", false),
            ("1.29.1", "1.29.1", true),
        ] {
            let result = check_step(&Version::parse(from).unwrap(), &release(to));
            assert_eq!(result.is_ok(), fits, "{from} to {to}: {result:?}");
        }
        let message = check_step(&Version::new(1, 24, 0), &release("1.29.1")).unwrap_err().to_string();
        assert!(message.contains("1.28 or 1.27"), "{message}");
    }

    #[test]
    fn without_predecessors_two_minors_are_allowed() {
        let mut release = release("1.29.1");
        release.spec.predecessors.clear();
        assert!(check_step(&Version::new(1, 27, 0), &release).is_ok());
        assert!(check_step(&Version::new(1, 26, 0), &release).is_err());
    }

    #[test]
    fn skew_is_counted_in_minors() {
        assert_eq!(check_mesh_skew([&Version::new(1, 28, 2), &Version::new(1, 29, 1)]), 1);
        assert_eq!(check_mesh_skew([]), 0);
    }
}
