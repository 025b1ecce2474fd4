//! Text.

use std::fmt::Write as _;

use super::{Function, Param, any, fixed, int, text, variadic};
use crate::template::{
    printf::{display, quote},
    value::{Entries, Map, MapKind, Value},
};

pub(super) static TABLE: &[Function] = &[
    fixed("hello", &[], |_| Ok("Hello!".into())),
    fixed("trim", &[Param::Text], |args| Ok(text(args, 0).trim().into())),
    fixed("trimAll", &[Param::Text, Param::Text], trim_all),
    fixed("trimall", &[Param::Text, Param::Text], trim_all),
    fixed("trimSuffix", &[Param::Text, Param::Text], |args| {
        Ok(text(args, 1).strip_suffix(text(args, 0)).unwrap_or(text(args, 1)).into())
    }),
    fixed("trimPrefix", &[Param::Text, Param::Text], |args| {
        Ok(text(args, 1).strip_prefix(text(args, 0)).unwrap_or(text(args, 1)).into())
    }),
    fixed("upper", &[Param::Text], |args| Ok(text(args, 0).to_uppercase().into())),
    fixed("lower", &[Param::Text], |args| Ok(text(args, 0).to_lowercase().into())),
    fixed("title", &[Param::Text], |args| Ok(title(text(args, 0)).into())),
    fixed("untitle", &[Param::Text], |args| Ok(untitle(text(args, 0)).into())),
    fixed("repeat", &[Param::Int, Param::Text], repeat),
    fixed("substr", &[Param::Int, Param::Int, Param::Text], substr),
    fixed("trunc", &[Param::Int, Param::Text], trunc),
    fixed("nospace", &[Param::Text], |args| {
        Ok(text(args, 0).chars().filter(|c| !c.is_whitespace()).collect::<String>().into())
    }),
    fixed("initials", &[Param::Text], |args| {
        Ok(text(args, 0).split_whitespace().filter_map(|word| word.chars().next()).collect::<String>().into())
    }),
    fixed("swapcase", &[Param::Text], |args| Ok(swap_case(text(args, 0)).into())),
    fixed("contains", &[Param::Text, Param::Text], |args| {
        Ok(Value::Bool(text(args, 1).contains(text(args, 0))))
    }),
    fixed("hasPrefix", &[Param::Text, Param::Text], |args| {
        Ok(Value::Bool(text(args, 1).starts_with(text(args, 0))))
    }),
    fixed("hasSuffix", &[Param::Text, Param::Text], |args| {
        Ok(Value::Bool(text(args, 1).ends_with(text(args, 0))))
    }),
    variadic("quote", &[], Param::Any, |args| Ok(joined(args, |value| quote(&value.to_text())))),
    variadic("squote", &[], Param::Any, |args| Ok(joined(args, |value| format!("'{}'", display(value))))),
    variadic("cat", &[], Param::Any, |args| Ok(joined(args, display))),
    fixed("indent", &[Param::Int, Param::Text], |args| indent(args, "")),
    fixed("nindent", &[Param::Int, Param::Text], |args| indent(args, "\n")),
    fixed("replace", &[Param::Text, Param::Text, Param::Text], |args| {
        Ok(text(args, 2).replace(text(args, 0), text(args, 1)).into())
    }),
    fixed("plural", &[Param::Text, Param::Text, Param::Int], |args| {
        Ok(any(args, usize::from(int(args, 2) != 1)))
    }),
    fixed("toString", &[Param::Any], |args| Ok(Value::Str(any(args, 0).into_text()))),
    fixed("splitList", &[Param::Text, Param::Text], |args| {
        Ok(Value::texts(split(text(args, 0), text(args, 1), -1)))
    }),
    fixed("split", &[Param::Text, Param::Text], |args| {
        Ok(numbered(&split(text(args, 0), text(args, 1), -1)))
    }),
    fixed("splitn", &[Param::Text, Param::Int, Param::Text], |args| {
        Ok(numbered(&split(text(args, 0), text(args, 2), int(args, 1))))
    }),
    fixed("abbrev", &[Param::Int, Param::Text], |args| Ok(abbreviate(text(args, 1), 0, int(args, 0)).into())),
    fixed("abbrevboth", &[Param::Int, Param::Int, Param::Text], |args| {
        let (left, right) = (int(args, 0), int(args, 1));
        if right < 4 || (left > 0 && right < 7) {
            return Ok(any(args, 2));
        }
        Ok(abbreviate(text(args, 2), left, right).into())
    }),
    fixed("wrap", &[Param::Int, Param::Text], |args| {
        Ok(wrap(text(args, 1), int(args, 0), "\n", false).into())
    }),
    fixed("wrapWith", &[Param::Int, Param::Text, Param::Text], |args| {
        Ok(wrap(text(args, 2), int(args, 0), text(args, 1), true).into())
    }),
    fixed("snakecase", &[Param::Text], |args| Ok(delimited(text(args, 0), '_').into())),
    fixed("kebabcase", &[Param::Text], |args| Ok(delimited(text(args, 0), '-').into())),
    fixed("camelcase", &[Param::Text], |args| Ok(pascal_case(text(args, 0)).into())),
];

/// A result longer than this ends the render instead of the memory.
const MAX_REPEAT: usize = 64 << 20;

fn trim_all(args: &[Value]) -> Result<Value, String> {
    let cut = text(args, 0);
    Ok(text(args, 1).trim_matches(|c| cut.contains(c)).into())
}

/// Texts of what is not nil, with a space between.
fn joined(args: &[Value], show: impl Fn(&Value) -> String) -> Value {
    let mut out = String::new();
    for value in args.iter().filter(|value| !matches!(value, Value::Nil)) {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(&show(value));
    }
    out.into()
}

fn indent(args: &[Value], prefix: &str) -> Result<Value, String> {
    let width = usize::try_from(int(args, 0)).map_err(|_| "strings: negative Repeat count".to_owned())?;
    let body = text(args, 1);
    let lines = body.bytes().filter(|&b| b == b'\n').count() + 1;
    let length = width.saturating_mul(lines).saturating_add(body.len());
    if length > MAX_REPEAT {
        return Err("indent: the result is too long".to_owned());
    }
    let pad = " ".repeat(width);
    let mut out = String::with_capacity(length + 1);
    out.push_str(prefix);
    out.push_str(&pad);
    let mut rest = body;
    while let Some(at) = rest.find('\n') {
        out.push_str(&rest[..=at]);
        out.push_str(&pad);
        rest = &rest[at + 1..];
    }
    out.push_str(rest);
    Ok(out.into())
}

fn repeat(args: &[Value]) -> Result<Value, String> {
    let count = usize::try_from(int(args, 0)).map_err(|_| "strings: negative Repeat count".to_owned())?;
    if count.saturating_mul(text(args, 1).len()) > MAX_REPEAT {
        return Err("strings: Repeat output length overflow".to_owned());
    }
    Ok(text(args, 1).repeat(count).into())
}

/// Cuts by bytes as Go does. A character that is cut through becomes U+FFFD, because text is UTF-8 here.
fn bytes(text: &str, range: std::ops::Range<usize>) -> Option<String> {
    text.as_bytes().get(range).map(|cut| String::from_utf8_lossy(cut).into_owned())
}

fn trunc(args: &[Value]) -> Result<Value, String> {
    let (count, body) = (int(args, 0), text(args, 1));
    let length = body.len();
    let wanted = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    if wanted >= length {
        return Ok(any(args, 1));
    }
    let range = if count < 0 { length - wanted..length } else { 0..wanted };
    Ok(bytes(body, range).unwrap_or_default().into())
}

fn substr(args: &[Value]) -> Result<Value, String> {
    let (start, end, body) = (int(args, 0), int(args, 1), text(args, 2));
    let length = body.len();
    let out_of_range = |from: i64, to: i64| {
        format!("runtime error: slice bounds out of range [{from}:{to}] with length {length}")
    };
    let (from, to) = if start < 0 {
        (0, usize::try_from(end).map_err(|_| out_of_range(0, end))?)
    } else {
        let from = usize::try_from(start).unwrap_or(usize::MAX);
        (from, usize::try_from(end).ok().filter(|end| *end <= length).unwrap_or(length))
    };
    bytes(body, from..to).map(Value::from).ok_or_else(|| out_of_range(start.max(0), end))
}

fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut previous = ' ';
    for c in text.chars() {
        // Go's old rule: letters, digits and underscore make a word; other ASCII parts it; elsewhere only spaces do.
        let separator = if previous.is_ascii() {
            !(previous.is_ascii_alphanumeric() || previous == '_')
        } else if previous.is_alphanumeric() {
            false
        } else {
            previous.is_whitespace()
        };
        if separator {
            out.extend(c.to_uppercase());
        } else {
            out.push(c);
        }
        previous = c;
    }
    out
}

fn untitle(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut at_start = true;
    for c in text.chars() {
        if at_start {
            out.extend(c.to_lowercase());
        } else {
            out.push(c);
        }
        at_start = c.is_whitespace();
    }
    out
}

fn swap_case(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_uppercase() {
            out.extend(c.to_lowercase());
        } else if c.is_lowercase() {
            out.extend(c.to_uppercase());
        } else {
            out.push(c);
        }
    }
    out
}

/// `strings.SplitN`.
fn split(separator: &str, body: &str, limit: i64) -> Vec<String> {
    if limit == 0 {
        return Vec::new();
    }
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    if separator.is_empty() {
        let mut out: Vec<String> = body.chars().take(limit.saturating_sub(1)).map(String::from).collect();
        let used: usize = out.iter().map(String::len).sum();
        if used < body.len() {
            out.push(body[used..].to_owned());
        }
        return out;
    }
    body.splitn(limit, separator).map(str::to_owned).collect()
}

fn numbered(parts: &[String]) -> Value {
    let entries: Entries = parts
        .iter()
        .enumerate()
        .map(|(at, part)| (format!("_{at}").into(), Value::from(part.as_str())))
        .collect();
    Value::Map(Map::new(MapKind::Str, entries))
}

/// Shortens text to `width` with `...`, keeping what is at `offset` in sight.
fn abbreviate(body: &str, offset: i64, width: i64) -> String {
    let chars: Vec<char> = body.chars().collect();
    let length = chars.len();
    let width = usize::try_from(width).unwrap_or(0);
    if width < 4 || length <= width {
        return body.to_owned();
    }
    let mut offset = usize::try_from(offset).unwrap_or(0).min(length);
    if length - offset < width - 3 {
        offset = length - (width - 3);
    }
    let cut = |range: std::ops::Range<usize>| chars.get(range).unwrap_or_default().iter().collect::<String>();
    if offset <= 4 {
        return cut(0..width - 3) + "...";
    }
    if width < 7 {
        return body.to_owned();
    }
    if offset + width - 3 < length {
        let inner: String = chars.get(offset..).unwrap_or_default().iter().collect();
        return format!("...{}", abbreviate(&inner, 0, i64::try_from(width - 3).unwrap_or(0)));
    }
    format!("...{}", cut(length - (width - 3)..length))
}

/// Breaks lines at spaces; with `long` also inside words that are longer than a line.
fn wrap(body: &str, width: i64, separator: &str, long: bool) -> String {
    let chars: Vec<char> = body.chars().collect();
    let width = usize::try_from(width).ok().filter(|width| *width > 0).unwrap_or(1);
    let separator = if separator.is_empty() { "\n" } else { separator };
    let mut out = String::with_capacity(body.len() + 16);
    let mut offset = 0;
    let text = |range: &[char]| range.iter().collect::<String>();
    while chars.len() - offset > width {
        if chars.get(offset) == Some(&' ') {
            offset += 1;
            continue;
        }
        let end = width + offset + 1;
        let space =
            chars.get(offset..end.min(chars.len())).and_then(|part| part.iter().rposition(|&c| c == ' '));
        if let Some(space) = space {
            out.push_str(&text(&chars[offset..offset + space]));
            out.push_str(separator);
            offset += space + 1;
        } else if long {
            out.push_str(&text(&chars[offset..offset + width]));
            out.push_str(separator);
            offset += width;
        } else {
            let next = chars
                .get(offset + width..)
                .and_then(|part| part.iter().position(|&c| c == ' '))
                .map(|at| at + offset + width);
            if let Some(space) = next {
                out.push_str(&text(&chars[offset..space]));
                out.push_str(separator);
                offset = space + 1;
            } else {
                out.push_str(&text(&chars[offset..]));
                offset = chars.len();
            }
        }
    }
    out.push_str(&text(&chars[offset..]));
    out
}

/// `FirstName` → `first_name`; digits and runs of capitals are words of their own.
fn delimited(body: &str, delimiter: char) -> String {
    let chars: Vec<char> = body.chars().collect();
    let mut out = String::with_capacity(body.len() + 8);
    for (at, &c) in chars.iter().enumerate() {
        if matches!(c, '_' | '-' | ' ') {
            if !out.ends_with(delimiter) {
                out.push(delimiter);
            }
            continue;
        }
        let previous = at.checked_sub(1).and_then(|at| chars.get(at)).copied();
        let next = chars.get(at + 1).copied();
        if let Some(previous) = previous.filter(|p| !matches!(p, '_' | '-' | ' ')) {
            let starts_word =
                c.is_uppercase() && (!previous.is_uppercase() || next.is_some_and(char::is_lowercase));
            let changes_kind = c.is_numeric() != previous.is_numeric() && !c.is_uppercase() && c.is_numeric();
            if starts_word || changes_kind {
                out.push(delimiter);
            }
        }
        for lower in c.to_lowercase() {
            let _ = write!(out, "{lower}");
        }
    }
    out
}

fn pascal_case(body: &str) -> String {
    let mut out = String::with_capacity(body.len());
    let mut upper = true;
    for c in body.chars() {
        if matches!(c, '_' | '-' | ' ') {
            upper = true;
        } else if upper {
            out.extend(c.to_uppercase());
            upper = false;
        } else {
            out.push(c);
        }
    }
    out
}
