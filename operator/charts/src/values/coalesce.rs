//! Chart defaults under the user's values, down through subcharts: the user's win, and a null of the user's removes a default.

use crate::{
    chart::Chart,
    render::RenderError,
    template::value::{Entries, MAX_DEPTH, Map, Value},
};

const GLOBAL: &str = "global";

/// The values that the templates of `chart` and its subcharts see.
pub(crate) fn coalesce_values(chart: &Chart, user: &Map) -> Result<Map, RenderError> {
    coalesce(chart, user)?;
    Ok(user.clone())
}

fn coalesce(chart: &Chart, target: &Map) -> Result<(), RenderError> {
    let defaults = match Value::from_json(chart.values()) {
        Value::Map(defaults) => defaults,
        _ => Map::any(Entries::new()),
    };
    for (key, default) in defaults.snapshot() {
        let is_subchart = chart.dependencies().iter().any(|dependency| dependency.name() == &*key);
        match target.get(&key) {
            None => target.insert(key, default),
            // Only an explicit null at the top removes the key here; deeper ones are handled with their tables.
            Some(Value::Nil) => target.remove(&key),
            Some(Value::Map(own)) => {
                if let Value::Map(default) = default {
                    coalesce_tables(&own, &default, is_subchart, MAX_DEPTH)?;
                }
            }
            Some(_) => {}
        }
    }
    for dependency in chart.dependencies() {
        let name = dependency.name();
        let table = match target.get(name) {
            None => {
                let table = Map::any(Entries::new());
                target.insert(name.into(), Value::Map(table.clone()));
                table
            }
            Some(Value::Map(table)) => table,
            Some(_) => return Err(RenderError::SubchartValues { name: name.to_owned() }),
        };
        coalesce_globals(&table, target)?;
        coalesce(dependency, &table)?;
    }
    Ok(())
}

fn coalesce_globals(target: &Map, source: &Map) -> Result<(), RenderError> {
    let table = |map: &Map| match map.get(GLOBAL) {
        None => Some(Map::any(Entries::new())),
        Some(Value::Map(globals)) => Some(globals),
        Some(_) => None,
    };
    let (Some(own), Some(theirs)) = (table(target), table(source)) else { return Ok(()) };
    for (key, value) in theirs.snapshot() {
        match (value, own.get(&key)) {
            (Value::Map(value), None) => {
                own.insert(key, Value::Map(Map::any(value.snapshot().into_iter().collect())));
            }
            (Value::Map(value), Some(Value::Map(existing))) => {
                let copy = Map::any(value.snapshot().into_iter().collect());
                coalesce_tables(&copy, &existing, true, MAX_DEPTH)?;
                own.insert(key, Value::Map(copy));
            }
            (Value::Map(_), Some(_)) | (_, Some(Value::Map(_))) => {}
            (value, _) => own.insert(key, value),
        }
    }
    target.insert(GLOBAL.into(), Value::Map(own));
    Ok(())
}

/// Fills `target` from `source`; with `keep_nulls` a null stays for a later round to see.
fn coalesce_tables(target: &Map, source: &Map, keep_nulls: bool, depth: usize) -> Result<(), RenderError> {
    let depth = depth.checked_sub(1).ok_or(RenderError::ValuesTooDeep)?;
    for (key, value) in source.snapshot() {
        match (target.get(&key), value) {
            (None, value) => target.insert(key, value),
            (Some(Value::Nil), value) if !keep_nulls && !matches!(value, Value::Nil) => target.remove(&key),
            (Some(Value::Map(own)), Value::Map(value)) => coalesce_tables(&own, &value, keep_nulls, depth)?,
            _ => {}
        }
    }
    Ok(())
}
