//! Defaults, emptiness, types.

use super::{Function, Param, any, fixed, text, variadic};
use crate::template::value::{MAX_DEPTH, Value};

pub(super) static TABLE: &[Function] = &[
    variadic("default", &[Param::Any], Param::Any, |args| {
        Ok(match args.get(1) {
            Some(given) if !given.is_empty() => given.clone(),
            _ => any(args, 0),
        })
    }),
    fixed("empty", &[Param::Any], |args| Ok(Value::Bool(any(args, 0).is_empty()))),
    variadic("coalesce", &[], Param::Any, |args| {
        Ok(args.iter().find(|value| !value.is_empty()).cloned().unwrap_or(Value::Nil))
    }),
    variadic("all", &[], Param::Any, |args| Ok(Value::Bool(!args.iter().any(Value::is_empty)))),
    variadic("any", &[], Param::Any, |args| Ok(Value::Bool(!args.iter().all(Value::is_empty)))),
    fixed("ternary", &[Param::Any, Param::Any, Param::Bool], |args| {
        Ok(any(args, usize::from(!any(args, 2).truth())))
    }),
    fixed("typeOf", &[Param::Any], |args| Ok(any(args, 0).type_name().into())),
    fixed("typeIs", &[Param::Text, Param::Any], |args| {
        Ok(Value::Bool(text(args, 0) == any(args, 1).type_name()))
    }),
    fixed("typeIsLike", &[Param::Text, Param::Any], |args| {
        let name = any(args, 1).type_name();
        let target = text(args, 0);
        Ok(Value::Bool(name == target || name.strip_prefix('*') == Some(target)))
    }),
    fixed("kindOf", &[Param::Any], |args| Ok(any(args, 0).kind_name().into())),
    fixed("kindIs", &[Param::Text, Param::Any], |args| {
        Ok(Value::Bool(text(args, 0) == any(args, 1).kind_name()))
    }),
    fixed("deepEqual", &[Param::Any, Param::Any], |args| {
        Ok(Value::Bool(any(args, 0).deep_equal(&any(args, 1), MAX_DEPTH)))
    }),
    fixed("deepCopy", &[Param::Any], deep_copy),
    fixed("mustDeepCopy", &[Param::Any], deep_copy),
];

fn deep_copy(args: &[Value]) -> Result<Value, String> {
    any(args, 0).deep_copy(MAX_DEPTH).map_err(|_| "deepCopy error: the value contains itself".to_owned())
}
