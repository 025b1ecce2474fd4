//! Semantic versions.

use super::Function;

pub(super) static TABLE: &[Function] = &[];
