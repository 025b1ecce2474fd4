//! How values meet: chart defaults and the user's, and maps inside templates.

pub(crate) mod coalesce;
pub(crate) mod merge;

use serde_json::Value as Json;

/// Merges the values of a later source over those of an earlier one, as several `-f` files are: maps are merged, anything
/// else replaces, and null stays null (it removes the chart's default later).
pub fn overlay(base: &mut Json, over: &Json) {
    if let (Json::Object(base), Json::Object(over)) = (&mut *base, over) {
        for (key, value) in over {
            match base.get_mut(key) {
                Some(slot) => overlay(slot, value),
                None => {
                    base.insert(key.clone(), value.clone());
                }
            }
        }
    } else {
        *base = over.clone();
    }
}
