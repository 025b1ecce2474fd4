//! Render: template + overrides of the cluster → one manifest. Pure.

mod manifest;
mod overrides;
pub(crate) mod retain;

pub use manifest::{Manifest, ManifestError, ObjectKey, Owner, format_hash, parse_hash};
pub use overrides::{OverrideError, apply_overrides};
pub use retain::{RetainError, RetainPath};
