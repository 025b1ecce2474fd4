//! JSON, YAML, base64, base32, checksums.

use std::fmt::Write as _;

use base64::Engine as _;
use sha2::{Digest as _, Sha256, Sha512};

use super::{Function, Param, any, fixed, text};
use crate::{
    template::{
        number::{json_number, special, yaml_number},
        value::{ListKind, MAX_DEPTH, TooDeep, Value, ValueBuilder, bytes_to_text},
    },
    yaml::{self, Emitter},
};

pub(super) static TABLE: &[Function] = &[
    fixed("toYaml", &[Param::Any], |args| Ok(to_yaml(&any(args, 0)).into())),
    fixed("toYamlPretty", &[Param::Any], |args| Ok(to_yaml_pretty(&any(args, 0)).into())),
    fixed("fromYaml", &[Param::Text], |args| Ok(from_yaml(text(args, 0)))),
    fixed("fromYamlArray", &[Param::Text], |args| Ok(from_yaml_array(text(args, 0)))),
    fixed("toJson", &[Param::Any], |args| Ok(to_json(&any(args, 0), true, None).unwrap_or_default().into())),
    fixed("mustToJson", &[Param::Any], |args| to_json(&any(args, 0), true, None).map(Value::from)),
    fixed("toPrettyJson", &[Param::Any], |args| {
        Ok(to_json(&any(args, 0), true, Some("  ")).unwrap_or_default().into())
    }),
    fixed("mustToPrettyJson", &[Param::Any], |args| {
        to_json(&any(args, 0), true, Some("  ")).map(Value::from)
    }),
    fixed("toRawJson", &[Param::Any], |args| to_json(&any(args, 0), false, None).map(Value::from)),
    fixed("mustToRawJson", &[Param::Any], |args| to_json(&any(args, 0), false, None).map(Value::from)),
    fixed("fromJson", &[Param::Text], |args| Ok(from_json_map(text(args, 0)))),
    fixed("fromJsonArray", &[Param::Text], |args| Ok(from_json_array(text(args, 0)))),
    fixed("mustFromJson", &[Param::Text], |args| {
        parse_json(text(args, 0)).map(|json| Value::from_json(&json))
    }),
    fixed("b64enc", &[Param::Text], |args| {
        Ok(base64::engine::general_purpose::STANDARD.encode(text(args, 0)).into())
    }),
    fixed("b64dec", &[Param::Text], |args| Ok(base64_decode(text(args, 0)).into())),
    fixed("b32enc", &[Param::Text], |args| Ok(base32_encode(text(args, 0).as_bytes()).into())),
    fixed("b32dec", &[Param::Text], |args| Ok(base32_decode(text(args, 0)).into())),
    fixed("sha256sum", &[Param::Text], |args| Ok(hex(&Sha256::digest(text(args, 0))).into())),
    fixed("sha512sum", &[Param::Text], |args| Ok(hex(&Sha512::digest(text(args, 0))).into())),
    fixed("adler32sum", &[Param::Text], |args| Ok(adler32(text(args, 0).as_bytes()).to_string().into())),
];

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// `toYaml`: empty text for what can't be written, no line break at the end.
pub(crate) fn to_yaml(value: &Value) -> String {
    let mut emitter = Emitter::new();
    if emit(&mut emitter, value, MAX_DEPTH).is_err() {
        return String::new();
    }
    let mut out = emitter.finish();
    if out.ends_with('\n') {
        out.pop();
    }
    out
}

/// Why a value can't be written as YAML.
struct Unwritable;

impl From<TooDeep> for Unwritable {
    fn from(_: TooDeep) -> Self {
        Self
    }
}

const NEXT_LINE: char = '\u{85}';

/// Values go to YAML by way of JSON, whose text YAML must be able to read: a few characters are not possible there.
fn is_writable(text: &str) -> bool {
    text.bytes().all(|b| (b' '..0x7f).contains(&b) || b == b'\n')
        || !text
            .chars()
            .any(|c| matches!(c, '\u{7f}'..='\u{84}' | '\u{86}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}'))
}

fn emit(emitter: &mut Emitter, value: &Value, depth: usize) -> Result<(), Unwritable> {
    let depth = depth.checked_sub(1).ok_or(Unwritable)?;
    match value {
        Value::Nil => emitter.plain("null"),
        Value::Bool(value) => emitter.plain(if *value { "true" } else { "false" }),
        Value::Int(value) | Value::Int64(value) => emitter.plain(&value.to_string()),
        Value::Float(value) => {
            if !value.is_finite() {
                return Err(Unwritable);
            }
            emitter.plain(&yaml_number(*value));
        }
        Value::Str(text) => {
            if !is_writable(text) {
                return Err(Unwritable);
            }
            if text.contains(NEXT_LINE) {
                // JSON keeps this character as it is, and YAML takes it for a line break and folds it.
                let mut json = String::new();
                json_text(&mut json, text, true);
                match yaml::parse(&json) {
                    Ok(serde_json::Value::String(read)) => emitter.string(&read),
                    _ => return Err(Unwritable),
                }
            } else {
                emitter.string(text);
            }
        }
        Value::List(list) => match list.kind {
            ListKind::NilAny => emitter.plain("null"),
            ListKind::Bytes => emitter.string(&bytes_base64(&list.items)),
            _ if list.items.is_empty() => emitter.empty_sequence(),
            _ => {
                emitter.begin_sequence();
                for item in list.items.iter() {
                    emitter.item();
                    emit(emitter, item, depth)?;
                }
                emitter.end();
            }
        },
        Value::Map(map) if map.len() == 0 => emitter.empty_mapping(),
        Value::Map(map) => map.with(|entries| {
            let mut sorted: Vec<(&str, &Value)> = entries.iter().map(|(k, v)| (&**k, v)).collect();
            yaml::sort_keys(&mut sorted);
            emitter.begin_mapping();
            for (key, value) in sorted {
                if !is_writable(key) || key.contains(NEXT_LINE) {
                    return Err(Unwritable);
                }
                emitter.key(key);
                emit(emitter, value, depth)?;
            }
            emitter.end();
            Ok(())
        })?,
        Value::Object(object) => emit(emitter, &object.data(), depth)?,
    }
    Ok(())
}

/// `toYamlPretty`: sequences are indented below their key.
fn to_yaml_pretty(value: &Value) -> String {
    let mut emitter = Emitter::indented();
    if emit(&mut emitter, value, MAX_DEPTH).is_err() {
        return String::new();
    }
    let mut out = emitter.finish();
    if out.ends_with('\n') {
        out.pop();
    }
    out
}

fn error_map(message: String) -> Value {
    Value::map([("Error".into(), Value::from(message))].into_iter().collect())
}

fn json_kind(value: &Value) -> &'static str {
    match value {
        Value::Bool(_) => "bool",
        Value::Int(_) | Value::Int64(_) | Value::Float(_) => "number",
        Value::Str(_) => "string",
        Value::List(_) => "array",
        _ => "object",
    }
}

fn from_yaml(text: &str) -> Value {
    match yaml::parse_with(text, &ValueBuilder) {
        Ok(map @ Value::Map(_)) => map,
        Ok(Value::Nil) => Value::empty_map(),
        Ok(other) => error_map(format!(
            "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
            json_kind(&other)
        )),
        Err(error) => error_map(format!("error converting YAML to JSON: {error}")),
    }
}

fn from_yaml_array(text: &str) -> Value {
    match yaml::parse_with(text, &ValueBuilder) {
        Ok(list @ Value::List(_)) => list,
        Ok(Value::Nil) => Value::list(Vec::new()),
        Ok(other) => Value::list(vec![Value::from(format!(
            "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {} into Go value of type []interface {{}}",
            json_kind(&other)
        ))]),
        Err(error) => Value::list(vec![Value::from(format!("error converting YAML to JSON: {error}"))]),
    }
}

fn parse_json(text: &str) -> Result<serde_json::Value, String> {
    serde_json::from_str(text).map_err(|error| {
        // Go's wording for the two most common failures.
        if text.trim().is_empty() || error.is_eof() {
            "unexpected end of JSON input".to_owned()
        } else {
            let at = text
                .lines()
                .nth(error.line().saturating_sub(1))
                .and_then(|line| line.chars().nth(error.column().saturating_sub(1)));
            match at {
                Some(c) => format!("invalid character '{c}' looking for beginning of value"),
                None => error.to_string(),
            }
        }
    })
}

fn from_json_map(text: &str) -> Value {
    match parse_json(text) {
        Ok(serde_json::Value::Null) => Value::empty_map(),
        Ok(json) => match Value::from_json(&json) {
            map @ Value::Map(_) => map,
            other => error_map(format!(
                "json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
                json_kind(&other)
            )),
        },
        Err(error) => error_map(error),
    }
}

fn from_json_array(text: &str) -> Value {
    match parse_json(text) {
        Ok(serde_json::Value::Null) => Value::list(Vec::new()),
        Ok(json) => match Value::from_json(&json) {
            list @ Value::List(_) => list,
            other => Value::list(vec![Value::from(format!(
                "json: cannot unmarshal {} into Go value of type []interface {{}}",
                json_kind(&other)
            ))]),
        },
        Err(error) => Value::list(vec![Value::from(error)]),
    }
}

/// JSON as Go writes it: keys sorted, `<`, `>` and `&` escaped unless the text is raw.
fn to_json(value: &Value, escape: bool, indent: Option<&str>) -> Result<String, String> {
    let mut out = String::new();
    write_json(&mut out, value, escape, indent, 0, MAX_DEPTH)?;
    Ok(out)
}

fn line(out: &mut String, indent: Option<&str>, level: usize) {
    if let Some(indent) = indent {
        out.push('\n');
        for _ in 0..level {
            out.push_str(indent);
        }
    }
}

fn write_json(
    out: &mut String,
    value: &Value,
    escape: bool,
    indent: Option<&str>,
    level: usize,
    depth: usize,
) -> Result<(), String> {
    let depth = depth
        .checked_sub(1)
        .ok_or("json: unsupported value: encountered a cycle via map[string]interface {}")?;
    match value {
        Value::Nil => out.push_str("null"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Int(value) | Value::Int64(value) => {
            let _ = write!(out, "{value}");
        }
        Value::Float(value) => match special(*value) {
            Some(text) => return Err(format!("json: unsupported value: {text}")),
            None => out.push_str(&json_number(*value)),
        },
        Value::Str(text) => json_text(out, text, escape),
        Value::List(list) => match list.kind {
            ListKind::NilAny => out.push_str("null"),
            ListKind::Bytes => json_text(out, &bytes_base64(&list.items), escape),
            _ => {
                out.push('[');
                for (at, item) in list.items.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    line(out, indent, level + 1);
                    write_json(out, item, escape, indent, level + 1, depth)?;
                }
                if !list.items.is_empty() {
                    line(out, indent, level);
                }
                out.push(']');
            }
        },
        Value::Map(map) => {
            let entries = map.snapshot();
            out.push('{');
            for (at, (key, value)) in entries.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                line(out, indent, level + 1);
                json_text(out, key, escape);
                out.push(':');
                if indent.is_some() {
                    out.push(' ');
                }
                write_json(out, value, escape, indent, level + 1, depth)?;
            }
            if !entries.is_empty() {
                line(out, indent, level);
            }
            out.push('}');
        }
        Value::Object(object) => write_json(out, &object.data(), escape, indent, level, depth)?,
    }
    Ok(())
}

fn json_text(out: &mut String, text: &str, escape: bool) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '<' | '>' | '&' if escape => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            '\0'..='\u{1f}' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            _ => out.push(c),
        }
    }
    out.push('"');
}

fn bytes_base64(items: &[Value]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes_to_text(items))
}

fn base64_decode(text: &str) -> String {
    let compact: String = text.chars().filter(|c| !matches!(c, '\n' | '\r')).collect();
    if let Ok(bytes) = base64::engine::general_purpose::STANDARD.decode(&compact) {
        return String::from_utf8_lossy(&bytes).into_owned();
    }
    let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'\n' | b'\r');
    let bad = text.bytes().position(|b| !known(b));
    format!("illegal base64 data at input byte {}", bad.unwrap_or(text.len() / 4 * 4))
}

const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

fn base32_encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(5) * 8);
    for chunk in bytes.chunks(5) {
        let mut buffer = [0_u8; 8];
        for (at, byte) in chunk.iter().enumerate() {
            buffer[at + 3] = *byte;
        }
        let bits = u64::from_be_bytes(buffer);
        let symbols = (chunk.len() * 8).div_ceil(5);
        for at in 0..8 {
            if at < symbols {
                let index = (bits >> (35 - 5 * at)) & 31;
                out.push(char::from(BASE32[usize::try_from(index).unwrap_or(0)]));
            } else {
                out.push('=');
            }
        }
    }
    out
}

fn base32_decode(text: &str) -> String {
    let symbols: Vec<u8> = text.bytes().filter(|b| !matches!(b, b'\n' | b'\r')).collect();
    let payload = symbols.iter().rposition(|&b| b != b'=').map_or(0, |at| at + 1);
    let mut out = Vec::with_capacity(payload * 5 / 8);
    let (mut bits, mut held) = (0_u64, 0_u32);
    for (at, symbol) in symbols[..payload].iter().enumerate() {
        let Some(value) = BASE32.iter().position(|b| b == symbol) else {
            return format!("illegal base32 data at input byte {at}");
        };
        bits = (bits << 5) | value as u64;
        held += 5;
        if held >= 8 {
            held -= 8;
            out.push(u8::try_from((bits >> held) & 0xff).unwrap_or(0));
        }
    }
    if !symbols.len().is_multiple_of(8) {
        return format!("illegal base32 data at input byte {}", symbols.len());
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn adler32(bytes: &[u8]) -> u32 {
    let (a, b) = bytes.iter().fold((1_u32, 0_u32), |(a, b), byte| {
        let a = (a + u32::from(*byte)) % 65_521;
        (a, (b + a) % 65_521)
    });
    (b << 16) | a
}
