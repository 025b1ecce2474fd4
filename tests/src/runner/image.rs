//! Images that stand for programs of this machine. Pure.

/// What a pod's image means here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Image {
    /// istiod of this version, for example `1.28.2`.
    Istiod(String),
    /// Nothing that is run: its pods are made ready.
    Other,
}

/// Suffixes of the variants of one Istio image.
const VARIANTS: [&str; 3] = ["-distroless", "-debug", "-default"];

/// Reads an image reference: `…/pilot:TAG`, where TAG is a version with or without a variant.
pub(super) fn image(reference: &str) -> Image {
    let last = reference.rsplit('/').next().unwrap_or(reference);
    let last = last.split('@').next().unwrap_or(last);
    match last.split_once(':') {
        Some(("pilot", tag)) => {
            let version = VARIANTS.iter().find_map(|variant| tag.strip_suffix(variant)).unwrap_or(tag);
            Image::Istiod(version.to_owned())
        }
        _ => Image::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pilot_is_istiod() {
        assert_eq!(image("docker.io/istio/pilot:1.28.2"), Image::Istiod("1.28.2".into()));
        assert_eq!(image("localhost:5000/istio/pilot:1.29.1-distroless"), Image::Istiod("1.29.1".into()));
        assert_eq!(image("pilot:1.28.2@sha256:00"), Image::Istiod("1.28.2".into()));
        for other in ["docker.io/istio/proxyv2:1.28.2", "pilot", "autopilot:1", "", "a/pilot@sha256:0"] {
            assert_eq!(image(other), Image::Other, "{other}");
        }
    }
}
