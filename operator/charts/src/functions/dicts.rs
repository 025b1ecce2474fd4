//! Maps.

use super::{Function, Param, any, fixed, text, variadic};
use crate::{
    template::value::{Entries, Map, MapKind, Text, Value},
    values::merge::{self, MergeError},
};

pub(super) static TABLE: &[Function] = &[
    variadic("dict", &[], Param::Any, dict),
    fixed("get", &[Param::Map, Param::Text], |args| {
        Ok(map(args, 0).and_then(|map| map.get(text(args, 1))).unwrap_or_else(|| "".into()))
    }),
    fixed("set", &[Param::Map, Param::Text, Param::Any], |args| {
        let map = map(args, 0).ok_or("assignment to entry in nil map")?;
        map.insert(key(args, 1), any(args, 2));
        Ok(Value::Map(map))
    }),
    fixed("unset", &[Param::Map, Param::Text], |args| {
        if let Some(map) = map(args, 0) {
            map.remove(text(args, 1));
        }
        Ok(any(args, 0))
    }),
    fixed("hasKey", &[Param::Map, Param::Text], |args| {
        Ok(Value::Bool(map(args, 0).is_some_and(|map| map.contains(text(args, 1)))))
    }),
    variadic("pluck", &[Param::Text], Param::Map, |args| {
        Ok(Value::list((1..args.len()).filter_map(|at| map(args, at)?.get(text(args, 0))).collect()))
    }),
    variadic("keys", &[], Param::Map, |args| {
        let maps = (0..args.len()).filter_map(|at| map(args, at));
        Ok(Value::texts(maps.flat_map(|map| map.snapshot().into_iter().map(|(key, _)| key))))
    }),
    fixed("values", &[Param::Map], |args| {
        let entries = map(args, 0).map(|map| map.snapshot()).unwrap_or_default();
        Ok(Value::list(entries.into_iter().map(|(_, value)| value).collect()))
    }),
    variadic("pick", &[Param::Map], Param::Text, |args| {
        let mut picked = Entries::new();
        if let Some(map) = map(args, 0) {
            for at in 1..args.len() {
                if let Some(value) = map.get(text(args, at)) {
                    picked.insert(key(args, at), value);
                }
            }
        }
        Ok(Value::map(picked))
    }),
    variadic("omit", &[Param::Map], Param::Text, |args| {
        let entries = map(args, 0).map(|map| map.snapshot()).unwrap_or_default();
        let kept = entries.into_iter().filter(|(key, _)| !(1..args.len()).any(|at| text(args, at) == &**key));
        Ok(Value::map(kept.collect()))
    }),
    variadic("merge", &[Param::Map], Param::Map, |args| lenient(merge_all(args, false))),
    variadic("mergeOverwrite", &[Param::Map], Param::Map, |args| lenient(merge_all(args, true))),
    variadic("mustMerge", &[Param::Map], Param::Map, |args| {
        merge_all(args, false).map_err(|error| error.to_string())
    }),
    variadic("mustMergeOverwrite", &[Param::Map], Param::Map, |args| {
        merge_all(args, true).map_err(|error| error.to_string())
    }),
    variadic("dig", &[], Param::Any, dig),
];

fn map(args: &[Value], at: usize) -> Option<Map> {
    match args.get(at) {
        Some(Value::Map(map)) => Some(map.clone()),
        _ => None,
    }
}

fn key(args: &[Value], at: usize) -> Text {
    match args.get(at) {
        Some(Value::Str(text)) => text.clone(),
        _ => "".into(),
    }
}

fn dict(args: &[Value]) -> Result<Value, String> {
    let mut entries = Entries::new();
    for pair in args.chunks(2) {
        if let Some(key) = pair.first() {
            let value = pair.get(1).cloned().unwrap_or_else(|| "".into());
            entries.insert(key.clone().into_text(), value);
        }
    }
    Ok(Value::map(entries))
}

/// The functions without `must` give empty text where the merge fails.
fn lenient(merged: Result<Value, MergeError>) -> Result<Value, String> {
    match merged {
        Ok(value) => Ok(value),
        Err(error @ MergeError::TooDeep) => Err(error.to_string()),
    }
}

fn merge_all(args: &[Value], overwrite: bool) -> Result<Value, MergeError> {
    let Some(target) = map(args, 0) else {
        // A nil map cannot be filled in place; Go makes a new one.
        let target = Map::any(Entries::new());
        for at in 1..args.len() {
            if let Some(source) = map(args, at) {
                merge::merge(&target, &source, overwrite)?;
            }
        }
        return Ok(Value::Map(target));
    };
    for at in 1..args.len() {
        if let Some(source) = map(args, at) {
            merge::merge(&target, &source, overwrite)?;
        }
    }
    Ok(Value::Map(target))
}

fn dig(args: &[Value]) -> Result<Value, String> {
    let [keys @ .., default, container] = args else {
        return Err("dig needs at least three arguments".to_owned());
    };
    if keys.is_empty() {
        return Err("dig needs at least three arguments".to_owned());
    }
    let conversion = |value: &Value, wanted: &str| {
        let got = if matches!(value, Value::Nil) { "nil" } else { value.type_name() };
        format!("interface conversion: interface {{}} is {got}, not {wanted}")
    };
    let mut at = container.clone();
    for (place, key) in keys.iter().enumerate() {
        let Value::Str(key) = key else { return Err(conversion(key, "string")) };
        let Value::Map(map) = &at else { return Err(conversion(&at, "map[string]interface {}")) };
        if map.kind() != MapKind::Any {
            return Err(conversion(&at, "map[string]interface {}"));
        }
        match map.get(key) {
            None => return Ok(default.clone()),
            Some(value) if place + 1 == keys.len() => return Ok(value),
            Some(value) => at = value,
        }
    }
    Ok(default.clone())
}
