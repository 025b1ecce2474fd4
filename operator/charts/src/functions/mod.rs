//! The functions that templates may call: Go's builtins, Sprig's, Helm's. Adding one is adding a line to a table.

mod builtins;
mod dates;
mod defaults;
mod dicts;
mod encoding;
mod helm;
mod lists;
mod math;
mod paths;
mod regex;
mod strings;
mod versions;

use std::{collections::HashMap, fmt, sync::OnceLock};

pub(crate) use self::regex::Patterns;
pub(crate) use encoding::{hex, to_yaml};
pub(crate) use helm::{WARN_END, WARN_START};

use crate::template::{exec::Scope, value::Value};

/// The Go type of a parameter. The engine refuses other values before the function sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Param {
    /// `interface{}` and `reflect.Value`.
    Any,
    /// `string`
    Text,
    /// `int`
    Int,
    /// `bool`
    Bool,
    /// `map[string]interface{}`; nil comes as [`Value::Nil`].
    Map,
    /// Another type by its name.
    Typed(&'static str),
}

impl Param {
    pub(crate) fn type_name(self) -> &'static str {
        match self {
            Self::Any => "interface {}",
            Self::Text => "string",
            Self::Int => "int",
            Self::Bool => "bool",
            Self::Map => "map[string]interface {}",
            Self::Typed(name) => name,
        }
    }

    pub(crate) fn can_be_nil(self) -> bool {
        matches!(self, Self::Any | Self::Map)
    }
}

/// How a function is run. The error is the text after `error calling NAME: `.
#[derive(Clone, Copy)]
pub(crate) enum Call {
    Pure(fn(&[Value]) -> Result<Value, String>),
    /// Needs the run it is called in: other templates, the cluster, compiled patterns.
    Scoped(fn(Scope<'_, '_>, &[Value]) -> Result<Value, String>),
    /// `and` and `or`: arguments are evaluated until one has this truth.
    ShortCircuit {
        stop_at: bool,
    },
}

/// An entry of the function tables.
pub(crate) struct Function {
    pub(crate) name: &'static str,
    pub(crate) params: &'static [Param],
    /// The type of the arguments after `params`, for functions that take any number.
    pub(crate) variadic: Option<Param>,
    pub(crate) call: Call,
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// A function with a fixed number of parameters.
const fn fixed(
    name: &'static str,
    params: &'static [Param],
    call: fn(&[Value]) -> Result<Value, String>,
) -> Function {
    Function { name, params, variadic: None, call: Call::Pure(call) }
}

/// A function whose last parameter may be given any number of times.
const fn variadic(
    name: &'static str,
    params: &'static [Param],
    rest: Param,
    call: fn(&[Value]) -> Result<Value, String>,
) -> Function {
    Function { name, params, variadic: Some(rest), call: Call::Pure(call) }
}

const fn scoped(
    name: &'static str,
    params: &'static [Param],
    call: fn(Scope<'_, '_>, &[Value]) -> Result<Value, String>,
) -> Function {
    Function { name, params, variadic: None, call: Call::Scoped(call) }
}

static TABLES: [&[Function]; 12] = [
    builtins::TABLE,
    dates::TABLE,
    defaults::TABLE,
    dicts::TABLE,
    encoding::TABLE,
    helm::TABLE,
    lists::TABLE,
    math::TABLE,
    paths::TABLE,
    regex::TABLE,
    strings::TABLE,
    versions::TABLE,
];

/// The function of that name.
pub(crate) fn find(name: &str) -> Option<&'static Function> {
    static INDEX: OnceLock<HashMap<&'static str, &'static Function>> = OnceLock::new();
    INDEX
        .get_or_init(|| {
            TABLES.iter().flat_map(|table| table.iter()).map(|function| (function.name, function)).collect()
        })
        .get(name)
        .copied()
}

// Arguments by place. The engine has checked number and type, so the defaults are never seen.

fn text(args: &[Value], at: usize) -> &str {
    match args.get(at) {
        Some(Value::Str(text)) => text,
        _ => "",
    }
}

fn int(args: &[Value], at: usize) -> i64 {
    match args.get(at) {
        Some(Value::Int(value) | Value::Int64(value)) => *value,
        _ => 0,
    }
}

fn any(args: &[Value], at: usize) -> Value {
    args.get(at).cloned().unwrap_or(Value::Nil)
}

/// What Go says when a nil map or pointer is used.
const NIL_DEREFERENCE: &str = "runtime error: invalid memory address or nil pointer dereference";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = TABLES.iter().flat_map(|t| t.iter()).map(|f| f.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(find("mustMergeOverwrite").is_some());
        assert!(find("env").is_none(), "a chart must not see the operator's environment");
    }
}
