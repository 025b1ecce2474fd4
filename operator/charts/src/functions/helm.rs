//! Helm's own functions.

use super::{Function, Param, any, fixed, scoped, text};
use crate::template::{exec, value::Value};

/// Marks around the message of `fail` and `required`; Helm shows only what is between them.
pub(crate) const WARN_START: &str = "HELM_ERR_START";
pub(crate) const WARN_END: &str = "HELM_ERR_END";

pub(super) static TABLE: &[Function] = &[
    scoped("include", &[Param::Text, Param::Any], |scope, args| {
        exec::include(scope, text(args, 0), any(args, 1))
    }),
    scoped("tpl", &[Param::Text, Param::Any], |scope, args| exec::tpl(scope, text(args, 0), any(args, 1))),
    scoped("lookup", &[Param::Text, Param::Text, Param::Text, Param::Text], |scope, args| {
        let Some(lookup) = scope.shared.lookup else { return Ok(Value::empty_map()) };
        let found = lookup.lookup(text(args, 0), text(args, 1), text(args, 2), text(args, 3))?;
        Ok(found.map_or_else(Value::empty_map, |json| Value::from_json(&json)))
    }),
    fixed("required", &[Param::Text, Param::Any], |args| match any(args, 1) {
        Value::Nil => Err(warn(text(args, 0))),
        Value::Str(value) if value.is_empty() => Err(warn(text(args, 0))),
        value => Ok(value),
    }),
    fixed("fail", &[Param::Text], |args| Err(warn(text(args, 0)))),
    // DNS is off in Helm unless asked for.
    fixed("getHostByName", &[Param::Text], |_| Ok("".into())),
];

fn warn(message: &str) -> String {
    format!("{WARN_START}{message}{WARN_END}")
}
