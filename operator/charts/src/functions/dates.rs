//! Dates. Layouts are Go's: written as the reference time Mon Jan 2 15:04:05 MST 2006.

use super::Function;

pub(super) static TABLE: &[Function] = &[];
