//! The builtins of Go's text/template.

use std::fmt::Write as _;

use super::{Call, Function, Param, any, fixed, variadic};
use crate::template::{
    printf,
    value::{ListKind, MapKind, Value},
};

pub(super) static TABLE: &[Function] = &[
    Function {
        name: "and",
        params: &[Param::Any],
        variadic: Some(Param::Any),
        call: Call::ShortCircuit { stop_at: false },
    },
    Function {
        name: "or",
        params: &[Param::Any],
        variadic: Some(Param::Any),
        call: Call::ShortCircuit { stop_at: true },
    },
    fixed("not", &[Param::Any], |args| Ok(Value::Bool(!any(args, 0).truth()))),
    fixed("len", &[Param::Any], len),
    variadic("index", &[Param::Any], Param::Any, index),
    // Sprig's `slice` replaces Go's, so it is not here.
    variadic("print", &[], Param::Any, |args| Ok(printf::print(args).into())),
    variadic("println", &[], Param::Any, |args| Ok(printf::println(args).into())),
    variadic("printf", &[Param::Text], Param::Any, |args| {
        Ok(printf::sprintf(super::text(args, 0), args.get(1..).unwrap_or_default()).into())
    }),
    variadic("eq", &[Param::Any], Param::Any, |args| eq(args).map(Value::Bool)),
    fixed("ne", &[Param::Any, Param::Any], |args| eq(args).map(|equal| Value::Bool(!equal))),
    fixed("lt", &[Param::Any, Param::Any], |args| less(args).map(Value::Bool)),
    fixed("le", &[Param::Any, Param::Any], |args| less_or_equal(args).map(Value::Bool)),
    fixed("gt", &[Param::Any, Param::Any], |args| less_or_equal(args).map(|le| Value::Bool(!le))),
    fixed("ge", &[Param::Any, Param::Any], |args| less(args).map(|less| Value::Bool(!less))),
    variadic("html", &[], Param::Any, |args| Ok(escape_html(&joined(args)).into())),
    variadic("js", &[], Param::Any, |args| Ok(escape_js(&joined(args)).into())),
    variadic("urlquery", &[], Param::Any, |args| Ok(super::paths::query_escape(&joined(args)).into())),
    variadic("call", &[Param::Any], Param::Any, |args| match any(args, 0) {
        Value::Nil => Err("call of nil".to_owned()),
        other => Err(format!("non-function {} of type {}", printf::display(&other), other.type_name())),
    }),
];

fn joined(args: &[Value]) -> String {
    match args {
        [Value::Str(text)] => text.to_string(),
        _ => printf::print(args),
    }
}

fn len(args: &[Value]) -> Result<Value, String> {
    match any(args, 0) {
        Value::Nil => Err("len of nil pointer".to_owned()),
        Value::Str(text) => Ok(Value::int(text.len())),
        Value::List(list) => Ok(Value::int(list.items.len())),
        Value::Map(map) => Ok(Value::int(map.len())),
        Value::Object(object) => match object.entries() {
            Some(entries) => Ok(Value::int(entries.len())),
            None => Err(format!("len of type {}", object.type_name())),
        },
        other => Err(format!("len of type {}", other.type_name())),
    }
}

fn index_arg(index: &Value, length: usize) -> Result<usize, String> {
    let at = match index {
        Value::Int(at) | Value::Int64(at) => *at,
        Value::Nil => return Err("cannot index slice/array with nil".to_owned()),
        other => return Err(format!("cannot index slice/array with type {}", other.type_name())),
    };
    // Go compares with "greater than", so that slicing may name the end; indexing there panics below.
    usize::try_from(at).ok().filter(|at| *at <= length).ok_or_else(|| format!("index out of range: {at}"))
}

fn index(args: &[Value]) -> Result<Value, String> {
    let mut item = any(args, 0);
    if matches!(item, Value::Nil) {
        return Err("index of untyped nil".to_owned());
    }
    for index in args.get(1..).unwrap_or_default() {
        item = match &item {
            Value::Nil => return Err("index of nil pointer".to_owned()),
            Value::List(list) => {
                let at = index_arg(index, list.items.len())?;
                list.items.get(at).cloned().ok_or_else(|| "reflect: slice index out of range".to_owned())?
            }
            Value::Str(text) => {
                let at = index_arg(index, text.len())?;
                let byte = text.as_bytes().get(at).ok_or("reflect: string index out of range")?;
                Value::Int(i64::from(*byte))
            }
            Value::Map(map) => {
                let key = match index {
                    Value::Str(key) => key,
                    Value::Nil => return Err("value is nil; should be of type string".to_owned()),
                    other => {
                        return Err(format!("value has type {}; should be string", other.type_name()));
                    }
                };
                match map.get(key) {
                    Some(value) => value,
                    None if map.kind() == MapKind::Str => "".into(),
                    None => Value::Nil,
                }
            }
            other => return Err(format!("can't index item of type {}", other.type_name())),
        };
    }
    Ok(item)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Basic {
    Bool,
    Int,
    Float,
    Text,
}

fn basic(value: &Value) -> Option<Basic> {
    match value {
        Value::Bool(_) => Some(Basic::Bool),
        Value::Int(_) | Value::Int64(_) => Some(Basic::Int),
        Value::Float(_) => Some(Basic::Float),
        Value::Str(_) => Some(Basic::Text),
        _ => None,
    }
}

fn eq(args: &[Value]) -> Result<bool, String> {
    let Some((first, others)) = args.split_first() else { return Ok(false) };
    if others.is_empty() {
        return Err("missing argument for comparison".to_owned());
    }
    for other in others {
        if equal(first, other)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn equal(a: &Value, b: &Value) -> Result<bool, String> {
    Ok(match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Int(a) | Value::Int64(a), Value::Int(b) | Value::Int64(b)) => a == b,
        #[allow(clippy::float_cmp, reason = "templates compare as Go does, exactly")]
        (Value::Float(a), Value::Float(b)) => a == b,
        (Value::Str(a), Value::Str(b)) => a == b,
        (Value::Nil, Value::Nil) => true,
        (Value::Nil, other) | (other, Value::Nil) => is_nil(other),
        _ if basic(a) != basic(b) => {
            return Err(format!(
                "incompatible types for comparison: {} and {}",
                a.type_name(),
                b.type_name()
            ));
        }
        _ => {
            if a.kind_name() != b.kind_name() {
                return Err(format!(
                    "non-comparable types {}: {}, {}: {}",
                    printf::display(a),
                    a.type_name(),
                    b.type_name(),
                    printf::display(b)
                ));
            }
            if is_nil(a) || is_nil(b) {
                return Ok(is_nil(a) == is_nil(b));
            }
            match (a, b) {
                (Value::Object(a), Value::Object(b)) if a.kind_name() == "ptr" => std::rc::Rc::ptr_eq(a, b),
                _ => {
                    return Err(format!("non-comparable type {}: {}", printf::display(b), b.type_name()));
                }
            }
        }
    })
}

fn is_nil(value: &Value) -> bool {
    match value {
        Value::Nil => true,
        Value::List(list) => list.kind == ListKind::NilAny,
        _ => false,
    }
}

fn less(args: &[Value]) -> Result<bool, String> {
    let (a, b) = (any(args, 0), any(args, 1));
    let (Some(kind_a), Some(kind_b)) = (basic(&a), basic(&b)) else {
        return Err("invalid type for comparison".to_owned());
    };
    if kind_a != kind_b {
        return Err(format!("incompatible types for comparison: {} and {}", a.type_name(), b.type_name()));
    }
    match (&a, &b) {
        (Value::Int(a) | Value::Int64(a), Value::Int(b) | Value::Int64(b)) => Ok(a < b),
        (Value::Float(a), Value::Float(b)) => Ok(a < b),
        (Value::Str(a), Value::Str(b)) => Ok(a < b),
        _ => Err("invalid type for comparison".to_owned()),
    }
}

fn less_or_equal(args: &[Value]) -> Result<bool, String> {
    Ok(less(args)? || eq(args)?)
}

fn escape_html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\0' => out.push('\u{fffd}'),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            _ => out.push(c),
        }
    }
    out
}

fn escape_js(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("\\'"),
            '"' => out.push_str("\\\""),
            '<' | '>' | '&' | '=' | '\0'..='\u{1f}' => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            _ if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            _ => out.push(c),
        }
    }
    out
}
