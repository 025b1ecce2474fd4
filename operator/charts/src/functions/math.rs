//! Arithmetic and conversions. Sprig computes in `int64` and in `float64`.

use super::{Function, NIL_DEREFERENCE, Param, any, fixed, int, text, variadic};
use crate::{
    template::{
        printf::display,
        value::{List, ListKind, Value},
    },
    yaml::{parse_go_float, parse_go_int},
};

pub(super) static TABLE: &[Function] = &[
    fixed("atoi", &[Param::Text], |args| Ok(Value::Int(text(args, 0).parse().unwrap_or(0)))),
    fixed("int", &[Param::Any], |args| Ok(Value::Int(to_int(&any(args, 0))))),
    fixed("int64", &[Param::Any], |args| Ok(Value::Int64(to_int(&any(args, 0))))),
    fixed("float64", &[Param::Any], |args| Ok(Value::Float(to_float(&any(args, 0))))),
    fixed("toDecimal", &[Param::Any], |args| {
        Ok(Value::Int64(i64::from_str_radix(&display(&any(args, 0)), 8).unwrap_or(0)))
    }),
    fixed("add1", &[Param::Any], |args| Ok(Value::Int64(to_int(&any(args, 0)).wrapping_add(1)))),
    variadic("add", &[], Param::Any, |args| {
        Ok(Value::Int64(args.iter().fold(0, |sum: i64, arg| sum.wrapping_add(to_int(arg)))))
    }),
    fixed("sub", &[Param::Any, Param::Any], |args| {
        Ok(Value::Int64(to_int(&any(args, 0)).wrapping_sub(to_int(&any(args, 1)))))
    }),
    variadic("mul", &[Param::Any], Param::Any, |args| {
        Ok(Value::Int64(args.iter().fold(1, |product: i64, arg| product.wrapping_mul(to_int(arg)))))
    }),
    fixed("div", &[Param::Any, Param::Any], |args| divide(args, i64::wrapping_div)),
    fixed("mod", &[Param::Any, Param::Any], |args| divide(args, i64::wrapping_rem)),
    variadic("max", &[Param::Any], Param::Any, |args| Ok(extreme(args, i64::max))),
    variadic("biggest", &[Param::Any], Param::Any, |args| Ok(extreme(args, i64::max))),
    variadic("min", &[Param::Any], Param::Any, |args| Ok(extreme(args, i64::min))),
    variadic("maxf", &[Param::Any], Param::Any, |args| Ok(fold(args, f64::max))),
    variadic("minf", &[Param::Any], Param::Any, |args| Ok(fold(args, f64::min))),
    fixed("floor", &[Param::Any], |args| Ok(Value::Float(to_float(&any(args, 0)).floor()))),
    fixed("ceil", &[Param::Any], |args| Ok(Value::Float(to_float(&any(args, 0)).ceil()))),
    variadic("round", &[Param::Any, Param::Int], Param::Typed("float64"), round),
    fixed("until", &[Param::Int], |args| {
        let count = int(args, 0);
        steps(0, count, if count < 0 { -1 } else { 1 }).map(int_list)
    }),
    fixed("untilStep", &[Param::Int, Param::Int, Param::Int], |args| {
        steps(int(args, 0), int(args, 1), int(args, 2)).map(int_list)
    }),
    variadic("seq", &[], Param::Int, seq),
];

/// Sprig's conversion to `int`: anything that is no number is 0.
#[allow(clippy::cast_possible_truncation, reason = "Go truncates here too")]
pub(super) fn to_int(value: &Value) -> i64 {
    match value {
        Value::Int(value) | Value::Int64(value) => *value,
        Value::Float(value) => *value as i64,
        Value::Bool(value) => i64::from(*value),
        Value::Str(text) => {
            // `5.00` counts as 5, `5.10` as nothing.
            let whole = match text.split_once('.') {
                Some((whole, zeros)) if zeros.bytes().all(|b| b == b'0') => whole,
                _ => text,
            };
            parse_go_int(whole).unwrap_or(0)
        }
        _ => 0,
    }
}

#[allow(clippy::cast_precision_loss, reason = "Go converts in the same way")]
pub(super) fn to_float(value: &Value) -> f64 {
    match value {
        Value::Int(value) | Value::Int64(value) => *value as f64,
        Value::Float(value) => *value,
        Value::Bool(value) => f64::from(u8::from(*value)),
        Value::Str(text) => parse_go_float(text).unwrap_or(0.0),
        _ => 0.0,
    }
}

fn divide(args: &[Value], operation: fn(i64, i64) -> i64) -> Result<Value, String> {
    let (a, b) = (to_int(&any(args, 0)), to_int(&any(args, 1)));
    if b == 0 {
        return Err("runtime error: integer divide by zero".to_owned());
    }
    Ok(Value::Int64(operation(a, b)))
}

fn extreme(args: &[Value], pick: fn(i64, i64) -> i64) -> Value {
    Value::Int64(args.iter().map(to_int).reduce(pick).unwrap_or(0))
}

fn fold(args: &[Value], pick: fn(f64, f64) -> f64) -> Value {
    Value::Float(args.iter().map(to_float).reduce(pick).unwrap_or(0.0))
}

fn round(args: &[Value]) -> Result<Value, String> {
    let round_on = match args.get(2) {
        Some(Value::Float(round_on)) => *round_on,
        Some(_) => return Err(NIL_DEREFERENCE.to_owned()),
        None => 0.5,
    };
    let places = i32::try_from(int(args, 1)).unwrap_or(i32::MAX);
    let power = 10_f64.powi(places);
    let digit = power * to_float(&any(args, 0));
    let rounded = if digit.fract() >= round_on { digit.ceil() } else { digit.floor() };
    Ok(Value::Float(rounded / power))
}

/// More numbers than this are a mistake, or an attack.
const MAX_STEPS: usize = 1_000_000;

fn steps(start: i64, end: i64, by: i64) -> Result<Vec<i64>, String> {
    let mut out = Vec::new();
    let down = end < start;
    if (down && by >= 0) || (!down && by <= 0) {
        return Ok(out);
    }
    let mut at = start;
    while (down && at > end) || (!down && at < end) {
        if out.len() >= MAX_STEPS {
            return Err(format!("a range of more than {MAX_STEPS} numbers is refused"));
        }
        out.push(at);
        let Some(next) = at.checked_add(by) else { break };
        at = next;
    }
    Ok(out)
}

fn int_list(items: Vec<i64>) -> Value {
    Value::List(List::of(ListKind::Int, items.into_iter().map(Value::Int).collect()))
}

fn seq(args: &[Value]) -> Result<Value, String> {
    let direction = |start: i64, end: i64| if end < start { -1 } else { 1 };
    let numbers = match args.len() {
        1 => {
            let end = int(args, 0);
            let step = direction(1, end);
            steps(1, end.saturating_add(step), step)?
        }
        2 => {
            let (start, end) = (int(args, 0), int(args, 1));
            let step = direction(start, end);
            steps(start, end.saturating_add(step), step)?
        }
        3 => {
            let (start, step, end) = (int(args, 0), int(args, 1), int(args, 2));
            if end < start && step > 0 {
                return Ok("".into());
            }
            steps(start, end.saturating_add(direction(start, end)), step)?
        }
        _ => return Ok("".into()),
    };
    let texts: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    Ok(texts.join(" ").into())
}
