//! Lists.

use std::rc::Rc;

use super::{Function, NIL_DEREFERENCE, Param, any, fixed, int, math::to_int, text, variadic};
use crate::template::value::{List, ListKind, MAX_DEPTH, Value};

pub(super) static TABLE: &[Function] = &[
    variadic("list", &[], Param::Any, |args| Ok(Value::list(args.to_vec()))),
    variadic("tuple", &[], Param::Any, |args| Ok(Value::list(args.to_vec()))),
    fixed("append", &[Param::Any, Param::Any], push),
    fixed("push", &[Param::Any, Param::Any], push),
    fixed("mustAppend", &[Param::Any, Param::Any], push),
    fixed("mustPush", &[Param::Any, Param::Any], push),
    fixed("prepend", &[Param::Any, Param::Any], prepend),
    fixed("mustPrepend", &[Param::Any, Param::Any], prepend),
    fixed("first", &[Param::Any], first),
    fixed("mustFirst", &[Param::Any], first),
    fixed("last", &[Param::Any], last),
    fixed("mustLast", &[Param::Any], last),
    fixed("rest", &[Param::Any], rest),
    fixed("mustRest", &[Param::Any], rest),
    fixed("initial", &[Param::Any], initial),
    fixed("mustInitial", &[Param::Any], initial),
    fixed("reverse", &[Param::Any], reverse),
    fixed("mustReverse", &[Param::Any], reverse),
    fixed("uniq", &[Param::Any], uniq),
    fixed("mustUniq", &[Param::Any], uniq),
    variadic("without", &[Param::Any], Param::Any, without),
    variadic("mustWithout", &[Param::Any], Param::Any, without),
    fixed("has", &[Param::Any, Param::Any], has),
    fixed("mustHas", &[Param::Any, Param::Any], has),
    fixed("compact", &[Param::Any], compact),
    fixed("mustCompact", &[Param::Any], compact),
    variadic("slice", &[Param::Any], Param::Any, slice),
    variadic("mustSlice", &[Param::Any], Param::Any, slice),
    variadic("concat", &[], Param::Any, concat),
    fixed("chunk", &[Param::Int, Param::Any], chunk),
    fixed("mustChunk", &[Param::Int, Param::Any], chunk),
    fixed("sortAlpha", &[Param::Any], sort_alpha),
    fixed("toStrings", &[Param::Any], |args| Ok(Value::texts(strings(&any(args, 0))))),
    fixed("join", &[Param::Text, Param::Any], |args| Ok(strings(&any(args, 1)).join(text(args, 0)).into())),
];

/// The list at `at`, or Go's complaint: `Cannot WHAT on type KIND`.
fn list(args: &[Value], at: usize, what: &str) -> Result<List, String> {
    match args.get(at) {
        Some(Value::List(list)) => Ok(list.clone()),
        Some(Value::Nil) | None => Err(NIL_DEREFERENCE.to_owned()),
        Some(other) => Err(format!("Cannot {what} type {}", other.kind_name())),
    }
}

/// What a function returns that gives `nil, nil` as a list.
fn nil_list() -> Value {
    Value::List(List::of(ListKind::NilAny, Vec::new()))
}

fn push(args: &[Value]) -> Result<Value, String> {
    let mut items = list(args, 0, "push on")?.items.to_vec();
    items.push(any(args, 1));
    Ok(Value::list(items))
}

fn prepend(args: &[Value]) -> Result<Value, String> {
    let items = list(args, 0, "prepend on")?.items;
    let mut out = vec![any(args, 1)];
    out.extend(items.iter().cloned());
    Ok(Value::list(out))
}

fn first(args: &[Value]) -> Result<Value, String> {
    Ok(list(args, 0, "find first on")?.items.first().cloned().unwrap_or(Value::Nil))
}

fn last(args: &[Value]) -> Result<Value, String> {
    Ok(list(args, 0, "find last on")?.items.last().cloned().unwrap_or(Value::Nil))
}

fn rest(args: &[Value]) -> Result<Value, String> {
    let list = list(args, 0, "find rest on")?;
    Ok(list.items.split_first().map_or_else(nil_list, |(_, rest)| Value::list(rest.to_vec())))
}

fn initial(args: &[Value]) -> Result<Value, String> {
    let list = list(args, 0, "find initial on")?;
    Ok(list.items.split_last().map_or_else(nil_list, |(_, initial)| Value::list(initial.to_vec())))
}

fn reverse(args: &[Value]) -> Result<Value, String> {
    Ok(Value::list(list(args, 0, "find reverse on")?.items.iter().rev().cloned().collect()))
}

fn contains(items: &[Value], wanted: &Value) -> bool {
    items.iter().any(|item| wanted.deep_equal(item, MAX_DEPTH))
}

fn uniq(args: &[Value]) -> Result<Value, String> {
    let mut out: Vec<Value> = Vec::new();
    for item in list(args, 0, "find uniq on")?.items.iter() {
        if !contains(&out, item) {
            out.push(item.clone());
        }
    }
    Ok(Value::list(out))
}

fn without(args: &[Value]) -> Result<Value, String> {
    let list = list(args, 0, "find without on")?;
    let omit = args.get(1..).unwrap_or_default();
    Ok(Value::list(list.items.iter().filter(|item| !contains(omit, item)).cloned().collect()))
}

fn has(args: &[Value]) -> Result<Value, String> {
    if matches!(any(args, 1), Value::Nil) {
        return Ok(Value::Bool(false));
    }
    Ok(Value::Bool(contains(&list(args, 1, "find has on")?.items, &any(args, 0))))
}

fn compact(args: &[Value]) -> Result<Value, String> {
    let list = list(args, 0, "compact on")?;
    Ok(Value::list(list.items.iter().filter(|item| !item.is_empty()).cloned().collect()))
}

fn slice(args: &[Value]) -> Result<Value, String> {
    let list = match any(args, 0) {
        Value::List(list) => list,
        Value::Nil => return Err(NIL_DEREFERENCE.to_owned()),
        other => return Err(format!("list should be type of slice or array but {}", other.kind_name())),
    };
    let length = list.items.len();
    if length == 0 {
        return Ok(Value::Nil);
    }
    let start = args.get(1).map_or(0, to_int);
    let end = args.get(2).map_or_else(|| i64::try_from(length).unwrap_or(i64::MAX), to_int);
    let range = usize::try_from(start).ok().zip(usize::try_from(end).ok());
    match range.and_then(|(start, end)| list.items.get(start..end)) {
        Some(items) => Ok(Value::List(List { kind: list.kind, items: Rc::new(items.to_vec()) })),
        None => Err("reflect.Value.Slice: slice index out of bounds".to_owned()),
    }
}

fn concat(args: &[Value]) -> Result<Value, String> {
    let mut out = Vec::new();
    for arg in args {
        match arg {
            Value::List(list) => out.extend(list.items.iter().cloned()),
            Value::Nil => return Err(NIL_DEREFERENCE.to_owned()),
            other => return Err(format!("Cannot concat type {} as list", other.kind_name())),
        }
    }
    Ok(if out.is_empty() { nil_list() } else { Value::list(out) })
}

fn chunk(args: &[Value]) -> Result<Value, String> {
    let list = list(args, 1, "chunk")?;
    let Some(size) = usize::try_from(int(args, 0)).ok().filter(|size| *size > 0) else {
        return Err("chunk needs a size above zero".to_owned());
    };
    Ok(Value::list(list.items.chunks(size).map(|chunk| Value::list(chunk.to_vec())).collect()))
}

fn sort_alpha(args: &[Value]) -> Result<Value, String> {
    let value = any(args, 0);
    let mut items = strings(&value);
    if matches!(value, Value::List(_)) {
        items.sort();
        return Ok(Value::texts(items));
    }
    Ok(Value::texts([value.into_text()]))
}

/// Sprig's `strslice`: texts of the elements that are not nil; a single value counts as one.
fn strings(value: &Value) -> Vec<String> {
    match value {
        Value::List(list) => list
            .items
            .iter()
            .filter(|item| !matches!(item, Value::Nil))
            .map(|item| item.to_text().into_owned())
            .collect(),
        Value::Nil => Vec::new(),
        other => vec![other.to_text().into_owned()],
    }
}
