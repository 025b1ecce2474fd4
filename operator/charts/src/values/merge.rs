//! The merge behind `merge`, `mergeOverwrite` and their like: what Sprig gets from mergo for maps.
//!
//! Its corners matter to charts: a source's map is merged into the target's own map in place, an empty target map is
//! *replaced* by the source's (and shared with it from then on), nil overwrites, and lists are replaced whole.

use crate::template::value::{List, MAX_DEPTH, Map, Value};

/// Why a merge failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MergeError {
    /// A map that contains itself has no end.
    #[error("the values to merge are nested too deeply: does a map contain itself?")]
    TooDeep,
}

/// Merges `source` into `target`. With `overwrite` the source wins, else it only fills what is empty in the target.
pub(crate) fn merge(target: &Map, source: &Map, overwrite: bool) -> Result<(), MergeError> {
    merge_at(target, source, overwrite, MAX_DEPTH)
}

fn merge_at(target: &Map, source: &Map, overwrite: bool, depth: usize) -> Result<(), MergeError> {
    let depth = depth.checked_sub(1).ok_or(MergeError::TooDeep)?;
    if target.same(source) && overwrite {
        return Ok(());
    }
    for (key, new) in source.snapshot() {
        if matches!(new, Value::Nil) {
            if overwrite {
                target.insert(key, Value::Nil);
            }
            continue;
        }
        let old = target.get(&key);
        match (&new, &old) {
            (Value::Map(new), Some(Value::Map(old))) => merge_at(old, new, overwrite, depth)?,
            (Value::List(list), _) => {
                // Whether a list is replaced depends on the whole target being empty, not on its own list.
                let value = if overwrite || target.len() == 0 {
                    new.clone()
                } else {
                    match &old {
                        None | Some(Value::Nil) => Value::List(List::of(list.kind, Vec::new())),
                        Some(old) => old.clone(),
                    }
                };
                target.insert(key.clone(), value);
            }
            _ => {}
        }
        let old_is_set = old.as_ref().is_some_and(|old| !old.is_empty());
        if old_is_set && matches!((&new, &old), (Value::List(_), _) | (Value::Map(_), Some(Value::Map(_)))) {
            continue;
        }
        if overwrite || !old_is_set {
            target.insert(key, new);
        }
    }
    Ok(())
}
