//! Paths and URLs.

use super::{Function, Param, fixed, text};
use crate::template::value::Value;

pub(super) static TABLE: &[Function] = &[
    fixed("base", &[Param::Text], |args| Ok(base(text(args, 0)).into())),
    fixed("osBase", &[Param::Text], |args| Ok(base(text(args, 0)).into())),
    fixed("dir", &[Param::Text], |args| Ok(dir(text(args, 0)).into())),
    fixed("osDir", &[Param::Text], |args| Ok(dir(text(args, 0)).into())),
    fixed("clean", &[Param::Text], |args| Ok(clean(text(args, 0)).into())),
    fixed("osClean", &[Param::Text], |args| Ok(clean(text(args, 0)).into())),
    fixed("ext", &[Param::Text], |args| Ok(extension(text(args, 0)).into())),
    fixed("osExt", &[Param::Text], |args| Ok(extension(text(args, 0)).into())),
    fixed("isAbs", &[Param::Text], |args| Ok(Value::Bool(text(args, 0).starts_with('/')))),
    fixed("osIsAbs", &[Param::Text], |args| Ok(Value::Bool(text(args, 0).starts_with('/')))),
];

/// Go's `path.Base`.
pub(crate) fn base(path: &str) -> &str {
    if path.is_empty() {
        return ".";
    }
    let trimmed = path.trim_end_matches('/');
    if trimmed.is_empty() { "/" } else { trimmed.rsplit('/').next().unwrap_or(trimmed) }
}

fn dir(path: &str) -> String {
    clean(path.rfind('/').map_or("", |at| &path[..=at]))
}

/// Go's `path.Clean`.
fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => match parts.last() {
                Some(&last) if last != ".." => {
                    parts.pop();
                }
                _ if rooted => {}
                _ => parts.push(".."),
            },
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

fn extension(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.rfind('.').map_or("", |at| &name[at..])
}

/// Go's `url.QueryEscape`.
pub(super) fn query_escape(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}
