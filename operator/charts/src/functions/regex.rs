//! Regular expressions. Go's and Rust's libraries come from the same design; where syntax differs the pattern is an error.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use regex::{Captures, Regex, RegexBuilder};

use super::{Function, Param, fixed, int, scoped, text};
use crate::template::{exec::Scope, value::Value};

pub(super) static TABLE: &[Function] = &[
    scoped("regexMatch", &[Param::Text, Param::Text], |scope, args| {
        Ok(Value::Bool(pattern(scope, args).is_ok_and(|regex| regex.is_match(text(args, 1)))))
    }),
    scoped("mustRegexMatch", &[Param::Text, Param::Text], |scope, args| {
        Ok(Value::Bool(pattern(scope, args)?.is_match(text(args, 1))))
    }),
    scoped("regexFind", &[Param::Text, Param::Text], |scope, args| {
        must(scope, args).and_then(|regex| find(&regex, args))
    }),
    scoped("mustRegexFind", &[Param::Text, Param::Text], |scope, args| {
        pattern(scope, args).and_then(|regex| find(&regex, args))
    }),
    scoped("regexFindAll", &[Param::Text, Param::Text, Param::Int], |scope, args| {
        must(scope, args).and_then(|regex| find_all(&regex, args))
    }),
    scoped("mustRegexFindAll", &[Param::Text, Param::Text, Param::Int], |scope, args| {
        pattern(scope, args).and_then(|regex| find_all(&regex, args))
    }),
    scoped("regexReplaceAll", &[Param::Text, Param::Text, Param::Text], |scope, args| {
        must(scope, args).and_then(|regex| replace(&regex, args))
    }),
    scoped("mustRegexReplaceAll", &[Param::Text, Param::Text, Param::Text], |scope, args| {
        pattern(scope, args).and_then(|regex| replace(&regex, args))
    }),
    scoped("regexReplaceAllLiteral", &[Param::Text, Param::Text, Param::Text], |scope, args| {
        must(scope, args).and_then(|regex| literal(&regex, args))
    }),
    scoped("mustRegexReplaceAllLiteral", &[Param::Text, Param::Text, Param::Text], |scope, args| {
        pattern(scope, args).and_then(|regex| literal(&regex, args))
    }),
    scoped("regexSplit", &[Param::Text, Param::Text, Param::Int], |scope, args| {
        must(scope, args).and_then(|regex| split(&regex, args))
    }),
    scoped("mustRegexSplit", &[Param::Text, Param::Text, Param::Int], |scope, args| {
        pattern(scope, args).and_then(|regex| split(&regex, args))
    }),
    fixed("regexQuoteMeta", &[Param::Text], |args| Ok(quote_meta(text(args, 0)).into())),
];

/// Compiled patterns, kept with a chart so that each is compiled once and not once a render.
#[derive(Debug, Default)]
pub(crate) struct Patterns {
    compiled: Mutex<HashMap<String, Arc<Regex>>>,
}

/// Patterns may come from values, so the number kept is bounded.
const MAX_PATTERNS: usize = 256;
/// Bytes that one compiled pattern may take.
const MAX_SIZE: usize = 1 << 20;

impl Patterns {
    fn get(&self, pattern: &str) -> Result<Arc<Regex>, String> {
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(regex) = compiled.get(pattern) {
            return Ok(regex.clone());
        }
        let regex =
            RegexBuilder::new(&ascii_classes(pattern)).size_limit(MAX_SIZE).build().map_err(|error| {
                let detail = error.to_string();
                let detail = detail.lines().last().unwrap_or_default().trim_start_matches("error: ");
                let detail = go_wording(detail);
                format!("error parsing regexp: {detail}: `{pattern}`")
            })?;
        let regex = Arc::new(regex);
        if compiled.len() < MAX_PATTERNS {
            compiled.insert(pattern.to_owned(), regex.clone());
        }
        Ok(regex)
    }
}

/// The same complaint in the words of Go's library.
fn go_wording(detail: &str) -> &str {
    match detail {
        "unclosed character class" => "missing closing ]",
        "unclosed group" => "missing closing )",
        "unopened group" => "unexpected )",
        "repetition operator missing expression" => "missing argument to repetition operator",
        other => other,
    }
}

/// In Go `\d`, `\s`, `\w` and `\b` are about ASCII.
fn ascii_classes(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut chars = pattern.chars();
    let mut in_class = false;
    while let Some(c) = chars.next() {
        match c {
            '[' => in_class = true,
            ']' => in_class = false,
            '\\' => {
                match chars.next() {
                    Some('d') => out.push_str(if in_class { "0-9" } else { "[0-9]" }),
                    Some('w') => out.push_str(if in_class { "0-9A-Za-z_" } else { "[0-9A-Za-z_]" }),
                    Some('s') => out.push_str(if in_class { r"\t\n\f\r " } else { r"[\t\n\f\r ]" }),
                    Some('D') if !in_class => out.push_str("[^0-9]"),
                    Some('W') if !in_class => out.push_str("[^0-9A-Za-z_]"),
                    Some('S') if !in_class => out.push_str(r"[^\t\n\f\r ]"),
                    Some('b') if !in_class => out.push_str(r"(?-u:\b)"),
                    Some(other) => {
                        out.push('\\');
                        out.push(other);
                    }
                    None => out.push('\\'),
                }
                continue;
            }
            _ => {}
        }
        out.push(c);
    }
    out
}

fn pattern(scope: Scope<'_, '_>, args: &[Value]) -> Result<Arc<Regex>, String> {
    scope.shared.patterns.get(text(args, 0))
}

/// The functions without `must` panic in Go with the pattern in front.
fn must(scope: Scope<'_, '_>, args: &[Value]) -> Result<Arc<Regex>, String> {
    pattern(scope, args).map_err(|error| format!("regexp: Compile(`{}`): {error}", text(args, 0)))
}

fn find(regex: &Regex, args: &[Value]) -> Result<Value, String> {
    Ok(regex.find(text(args, 1)).map_or("", |found| found.as_str()).into())
}

fn limit(count: i64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

fn find_all(regex: &Regex, args: &[Value]) -> Result<Value, String> {
    Ok(Value::texts(regex.find_iter(text(args, 1)).take(limit(int(args, 2))).map(|found| found.as_str())))
}

fn replace(regex: &Regex, args: &[Value]) -> Result<Value, String> {
    let template = text(args, 2);
    let out = regex.replace_all(text(args, 1), |captures: &Captures<'_>| expand(template, captures));
    Ok(out.into_owned().into())
}

/// Go's `$name` takes letters, digits and underscores; `$1x` is the group `1x`.
fn expand(template: &str, captures: &Captures<'_>) -> String {
    let mut out = String::new();
    captures.expand(template, &mut out);
    out
}

fn literal(regex: &Regex, args: &[Value]) -> Result<Value, String> {
    Ok(regex.replace_all(text(args, 1), regex::NoExpand(text(args, 2))).into_owned().into())
}

fn split(regex: &Regex, args: &[Value]) -> Result<Value, String> {
    let (body, count) = (text(args, 1), int(args, 2));
    if count == 0 {
        return Ok(Value::texts(Vec::<String>::new()));
    }
    if !regex.as_str().is_empty() && body.is_empty() {
        return Ok(Value::texts([""]));
    }
    let (mut begin, mut end) = (0, 0);
    let mut parts: Vec<&str> = Vec::new();
    for found in regex.find_iter(body) {
        if count > 0 && parts.len() + 1 == limit(count) {
            break;
        }
        end = found.start();
        if found.end() != 0 {
            parts.push(&body[begin..end]);
        }
        begin = found.end();
    }
    if end != body.len() {
        parts.push(&body[begin..]);
    }
    Ok(Value::texts(parts))
}

fn quote_meta(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if r"\.+*?()|[]{}^$".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}
