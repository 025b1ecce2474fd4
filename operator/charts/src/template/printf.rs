//! Go's `fmt` for the values of templates: `%v` and the other verbs, and quoting.

use std::fmt::Write as _;

use super::{
    number::{format_float, special, with_exponent},
    value::{ListKind, MAX_DEPTH, MapKind, Value, bytes_to_text},
};

/// Text in Go's double quotes (`%q`).
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    quote_into(&mut out, text, '"', false);
    out
}

fn quote_into(out: &mut String, text: &str, mark: char, ascii: bool) {
    out.push(mark);
    for c in text.chars() {
        match c {
            _ if c == mark || c == '\\' => {
                out.push('\\');
                out.push(c);
            }
            ' '..='~' => out.push(c),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            _ if !ascii && is_print(c) => out.push(c),
            _ => {
                let code = u32::from(c);
                let _ = match code {
                    0..=0x1f | 0x7f => write!(out, "\\x{code:02x}"),
                    0..=0xffff => write!(out, "\\u{code:04x}"),
                    _ => write!(out, "\\U{code:08x}"),
                };
            }
        }
    }
    out.push(mark);
}

/// Go's `unicode.IsPrint` as far as the standard library can tell: Rust escapes the same characters in `Debug`, but for a few.
fn is_print(c: char) -> bool {
    if c.is_control() || matches!(c, '\u{a0}' | '\u{ad}') || (c != ' ' && c.is_whitespace()) {
        return false;
    }
    // Grapheme extenders are printable to Go; Debug escapes them only at the start of a string.
    let mut shown = String::new();
    let _ = write!(shown, "{:?}", format_args!("a{c}").to_string());
    !shown.contains("\\u")
}

/// The text of a Go string literal: `"…"` with escapes or `` `…` `` without.
pub(crate) fn unquote(literal: &str) -> Option<String> {
    if let Some(raw) = literal.strip_prefix('`').and_then(|rest| rest.strip_suffix('`')) {
        return Some(raw.replace('\r', ""));
    }
    let inner = literal.strip_prefix('"')?.strip_suffix('"')?;
    unescape(inner, '"')
}

/// The character of a Go character literal: `'x'`.
pub(crate) fn unquote_char(literal: &str) -> Option<char> {
    let inner = literal.strip_prefix('\'')?.strip_suffix('\'')?;
    let text = unescape(inner, '\'')?;
    let mut chars = text.chars();
    let c = chars.next()?;
    chars.next().is_none().then_some(c)
}

fn unescape(text: &str, quote: char) -> Option<String> {
    let mut bytes: Vec<u8> = Vec::with_capacity(text.len());
    let mut chars = text.chars();
    let push = |bytes: &mut Vec<u8>, c: char| bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    while let Some(c) = chars.next() {
        if c != '\\' {
            push(&mut bytes, c);
            continue;
        }
        let c = chars.next()?;
        match c {
            'a' => bytes.push(7),
            'b' => bytes.push(8),
            'f' => bytes.push(12),
            'n' => bytes.push(b'\n'),
            'r' => bytes.push(b'\r'),
            't' => bytes.push(b'\t'),
            'v' => bytes.push(11),
            '\\' => bytes.push(b'\\'),
            _ if c == quote => push(&mut bytes, c),
            'x' => bytes.push(u8::try_from(number(&mut chars, 2, 16, 0)?).ok()?),
            'u' => push(&mut bytes, char::from_u32(number(&mut chars, 4, 16, 0)?)?),
            'U' => push(&mut bytes, char::from_u32(number(&mut chars, 8, 16, 0)?)?),
            '0'..='7' => {
                bytes.push(u8::try_from(number(&mut chars, 2, 8, c.to_digit(8)?)?).ok()?);
            }
            _ => return None,
        }
    }
    Some(match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    })
}

fn number(chars: &mut std::str::Chars<'_>, count: usize, radix: u32, start: u32) -> Option<u32> {
    let mut value = start;
    for _ in 0..count {
        value = value.checked_mul(radix)?.checked_add(chars.next()?.to_digit(radix)?)?;
    }
    Some(value)
}

/// `%v` of a value.
pub(crate) fn display(value: &Value) -> String {
    let mut out = String::new();
    display_into(&mut out, value);
    out
}

pub(crate) fn display_into(out: &mut String, value: &Value) {
    default_format(out, value, MAX_DEPTH);
}

fn default_format(out: &mut String, value: &Value, depth: usize) {
    let Some(depth) = depth.checked_sub(1) else {
        out.push_str("...");
        return;
    };
    match value {
        Value::Nil => out.push_str("<nil>"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Int(value) | Value::Int64(value) => {
            let _ = write!(out, "{value}");
        }
        Value::Float(value) => out.push_str(&format_float(*value)),
        Value::Str(text) => out.push_str(text),
        Value::List(list) => {
            out.push('[');
            for (at, item) in list.items.iter().enumerate() {
                if at > 0 {
                    out.push(' ');
                }
                default_format(out, item, depth);
            }
            out.push(']');
        }
        Value::Map(map) => {
            out.push_str("map[");
            for (at, (key, value)) in map.snapshot().iter().enumerate() {
                if at > 0 {
                    out.push(' ');
                }
                out.push_str(key);
                out.push(':');
                default_format(out, value, depth);
            }
            out.push(']');
        }
        Value::Object(object) => out.push_str(&object.display()),
    }
}

/// `print`: a space between operands where neither is text.
pub(crate) fn print(args: &[Value]) -> String {
    let mut out = String::new();
    let mut previous_text = true;
    for (at, arg) in args.iter().enumerate() {
        let text = matches!(arg, Value::Str(_));
        if at > 0 && !text && !previous_text {
            out.push(' ');
        }
        display_into(&mut out, arg);
        previous_text = text;
    }
    out
}

/// `println`: always a space, and a line break.
pub(crate) fn println(args: &[Value]) -> String {
    let mut out = String::new();
    for (at, arg) in args.iter().enumerate() {
        if at > 0 {
            out.push(' ');
        }
        display_into(&mut out, arg);
    }
    out.push('\n');
    out
}

#[derive(Clone, Copy, Default)]
#[allow(clippy::struct_excessive_bools, reason = "these are the five flags of the format language")]
struct Flags {
    minus: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// Widths and precisions above this are refused, as in Go.
const MAX_WIDTH: usize = 1_000_000;

/// `printf`.
pub(crate) fn sprintf(format: &str, args: &[Value]) -> String {
    let mut out = String::with_capacity(format.len());
    let mut chars = format.chars().peekable();
    let mut next = 0_usize;
    let mut reordered = false;
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut flags = Flags::default();
        while let Some(&flag) = chars.peek() {
            match flag {
                '#' => flags.sharp = true,
                '0' => flags.zero = true,
                '+' => flags.plus = true,
                '-' => flags.minus = true,
                ' ' => flags.space = true,
                _ => break,
            }
            chars.next();
        }
        let mut good_index = explicit_index(&mut chars, &mut next, args.len(), &mut reordered);
        if chars.peek() == Some(&'*') {
            chars.next();
            match star(args, &mut next) {
                Some(width) => {
                    if width < 0 {
                        flags.minus = true;
                        flags.zero = false;
                    }
                    flags.width = usize::try_from(width.unsigned_abs()).ok();
                }
                None => out.push_str("%!(BADWIDTH)"),
            }
        } else {
            flags.width = digits(&mut chars);
        }
        if chars.peek() == Some(&'.') {
            chars.next();
            good_index &= explicit_index(&mut chars, &mut next, args.len(), &mut reordered);
            if chars.peek() == Some(&'*') {
                chars.next();
                match star(args, &mut next) {
                    Some(precision) if precision >= 0 => flags.precision = usize::try_from(precision).ok(),
                    Some(_) => {}
                    None => out.push_str("%!(BADPREC)"),
                }
            } else {
                flags.precision = Some(digits(&mut chars).unwrap_or(0));
            }
        }
        good_index &= explicit_index(&mut chars, &mut next, args.len(), &mut reordered);
        let Some(verb) = chars.next() else {
            out.push_str("%!(NOVERB)");
            break;
        };
        if verb == '%' {
            out.push('%');
        } else if !good_index {
            let _ = write!(out, "%!{verb}(BADINDEX)");
        } else if let Some(arg) = args.get(next) {
            next += 1;
            format_verb(&mut out, arg, verb, flags);
        } else {
            let _ = write!(out, "%!{verb}(MISSING)");
        }
    }
    if !reordered && next < args.len() {
        out.push_str("%!(EXTRA ");
        for (at, arg) in args[next..].iter().enumerate() {
            if at > 0 {
                out.push_str(", ");
            }
            if matches!(arg, Value::Nil) {
                out.push_str("<nil>");
            } else {
                let _ = write!(out, "{}={}", arg.type_name(), display(arg));
            }
        }
        out.push(')');
    }
    out
}

fn digits(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<usize> {
    let mut value: Option<usize> = None;
    while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
        value = Some((value.unwrap_or(0) * 10 + digit as usize).min(MAX_WIDTH));
        chars.next();
    }
    value
}

fn star(args: &[Value], next: &mut usize) -> Option<i64> {
    let arg = args.get(*next)?;
    *next += 1;
    match arg {
        Value::Int(value) | Value::Int64(value) if value.unsigned_abs() <= MAX_WIDTH as u64 => Some(*value),
        _ => None,
    }
}

/// `[n]`: the next argument by number.
fn explicit_index(
    chars: &mut std::iter::Peekable<std::str::Chars<'_>>,
    next: &mut usize,
    count: usize,
    reordered: &mut bool,
) -> bool {
    if chars.peek() != Some(&'[') {
        return true;
    }
    chars.next();
    *reordered = true;
    let index = digits(chars);
    if chars.peek() == Some(&']') {
        chars.next();
    } else {
        return false;
    }
    match index {
        Some(index) if index >= 1 && index <= count => {
            *next = index - 1;
            true
        }
        _ => false,
    }
}

fn pad(out: &mut String, text: &str, flags: Flags) {
    let width = flags.width.unwrap_or(0);
    let length = text.chars().count();
    let padding = width.saturating_sub(length);
    if flags.minus {
        out.push_str(text);
        out.extend(std::iter::repeat_n(' ', padding));
    } else {
        let zero = flags.zero && !flags.minus;
        out.extend(std::iter::repeat_n(if zero { '0' } else { ' ' }, padding));
        out.push_str(text);
    }
}

fn bad_verb(out: &mut String, arg: &Value, verb: char) {
    if matches!(arg, Value::Nil) {
        let _ = write!(out, "%!{verb}(<nil>)");
    } else {
        let _ = write!(out, "%!{verb}({}={})", arg.type_name(), display(arg));
    }
}

fn format_verb(out: &mut String, arg: &Value, verb: char, flags: Flags) {
    match (verb, arg) {
        ('T', _) => return pad(out, arg.type_name(), flags),
        ('v', Value::Nil) => return pad(out, "<nil>", Flags { zero: false, ..flags }),
        (_, Value::Nil) => return bad_verb(out, arg, verb),
        _ => {}
    }
    match arg {
        Value::Nil => {}
        Value::Bool(value) => match verb {
            't' | 'v' => pad(out, if *value { "true" } else { "false" }, Flags { zero: false, ..flags }),
            _ => bad_verb(out, arg, verb),
        },
        Value::Int(value) | Value::Int64(value) => format_int(out, arg, *value, verb, flags),
        Value::Float(value) => format_float_verb(out, arg, *value, verb, flags),
        Value::Str(text) => format_text(out, arg, text, verb, flags),
        Value::List(list) if list.kind == ListKind::Bytes && matches!(verb, 's' | 'q' | 'x' | 'X') => {
            format_text(out, arg, &bytes_to_text(&list.items), verb, flags);
        }
        Value::List(list) => {
            if verb == 'v' && flags.sharp {
                out.push_str(&go_syntax(arg, MAX_DEPTH));
                return;
            }
            out.push('[');
            for (at, item) in list.items.iter().enumerate() {
                if at > 0 {
                    out.push(' ');
                }
                format_verb(out, item, verb, flags);
            }
            out.push(']');
        }
        Value::Map(map) => {
            if verb == 'v' && flags.sharp {
                out.push_str(&go_syntax(arg, MAX_DEPTH));
                return;
            }
            out.push_str("map[");
            for (at, (key, value)) in map.snapshot().iter().enumerate() {
                if at > 0 {
                    out.push(' ');
                }
                format_verb(out, &Value::Str(key.clone()), verb, flags);
                out.push(':');
                format_verb(out, value, verb, flags);
            }
            out.push(']');
        }
        Value::Object(object) => match verb {
            'v' | 's' => pad(out, &object.display(), flags),
            'q' => pad(out, &quote(&object.display()), flags),
            _ => bad_verb(out, arg, verb),
        },
    }
}

/// `%#v`.
fn go_syntax(value: &Value, depth: usize) -> String {
    let Some(depth) = depth.checked_sub(1) else { return "...".to_owned() };
    match value {
        Value::Nil => "interface {}(nil)".to_owned(),
        Value::Str(text) => quote(text),
        Value::List(list) => {
            if list.kind == ListKind::NilAny {
                return "[]interface {}(nil)".to_owned();
            }
            let items: Vec<_> = list.items.iter().map(|item| go_syntax(item, depth)).collect();
            format!("{}{{{}}}", value.type_name(), items.join(", "))
        }
        Value::Map(map) => {
            let entries: Vec<_> = map
                .snapshot()
                .iter()
                .map(|(key, value)| format!("{}:{}", quote(key), go_syntax(value, depth)))
                .collect();
            let kind = match map.kind() {
                MapKind::Values => "chartutil.Values",
                MapKind::Str => "map[string]string",
                MapKind::Any => "map[string]interface {}",
            };
            format!("{kind}{{{}}}", entries.join(", "))
        }
        other => display(other),
    }
}

fn format_int(out: &mut String, arg: &Value, value: i64, verb: char, flags: Flags) {
    let magnitude = value.unsigned_abs();
    let (digits, prefix) = match verb {
        'v' | 'd' => (magnitude.to_string(), ""),
        'b' => (format!("{magnitude:b}"), if flags.sharp { "0b" } else { "" }),
        'o' => (format!("{magnitude:o}"), if flags.sharp { "0" } else { "" }),
        'O' => (format!("{magnitude:o}"), "0o"),
        'x' => (format!("{magnitude:x}"), if flags.sharp { "0x" } else { "" }),
        'X' => (format!("{magnitude:X}"), if flags.sharp { "0X" } else { "" }),
        'c' | 'q' => {
            let c = u32::try_from(value).ok().and_then(char::from_u32).unwrap_or('\u{fffd}');
            let mut text = String::new();
            if verb == 'c' {
                text.push(c);
            } else {
                quote_into(&mut text, c.encode_utf8(&mut [0; 4]), '\'', flags.plus);
            }
            return pad(out, &text, flags);
        }
        'U' => {
            let mut text = format!("U+{magnitude:04X}");
            if flags.sharp
                && let Some(c) = u32::try_from(value).ok().and_then(char::from_u32)
            {
                let _ = write!(text, " '{c}'");
            }
            return pad(out, &text, Flags { zero: false, ..flags });
        }
        _ => return bad_verb(out, arg, verb),
    };
    let sign = if value < 0 {
        "-"
    } else if flags.plus {
        "+"
    } else if flags.space {
        " "
    } else {
        ""
    };
    let mut digits = digits;
    if let Some(precision) = flags.precision {
        if precision == 0 && value == 0 {
            return pad(out, "", Flags { zero: false, ..flags });
        }
        if digits.len() < precision {
            digits.insert_str(0, &"0".repeat(precision - digits.len()));
        }
    } else if flags.zero && !flags.minus {
        let taken = sign.len() + digits.len();
        let width = flags.width.unwrap_or(0);
        if taken < width {
            digits.insert_str(0, &"0".repeat(width - taken));
        }
    }
    pad(out, &format!("{sign}{prefix}{digits}"), Flags { zero: false, ..flags });
}

fn format_float_verb(out: &mut String, arg: &Value, value: f64, verb: char, flags: Flags) {
    let magnitude = value.abs();
    let text = if let Some(text) = special(magnitude) {
        text.trim_start_matches('+').to_owned()
    } else {
        match verb {
            'v' | 'g' | 'G' => {
                let text = match flags.precision {
                    None => format_float(magnitude),
                    Some(precision) => general(magnitude, precision),
                };
                if verb == 'G' { text.to_uppercase() } else { text }
            }
            'e' | 'E' => {
                let text = format!("{magnitude:.*e}", flags.precision.unwrap_or(6).min(MAX_WIDTH));
                let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
                let text = with_exponent(mantissa, exponent.parse().unwrap_or(0));
                if verb == 'E' { text.to_uppercase() } else { text }
            }
            'f' | 'F' => format!("{magnitude:.*}", flags.precision.unwrap_or(6).min(MAX_WIDTH)),
            _ => return bad_verb(out, arg, verb),
        }
    };
    let sign = if value.is_sign_negative() && !value.is_nan() {
        "-"
    } else if flags.plus || (value.is_infinite() && value > 0.0) {
        "+"
    } else if flags.space {
        " "
    } else {
        ""
    };
    let finite = value.is_finite();
    if flags.zero && !flags.minus && finite {
        let taken = sign.len() + text.len();
        let zeros = flags.width.unwrap_or(0).saturating_sub(taken);
        let _ = write!(out, "{sign}{}{text}", "0".repeat(zeros));
    } else {
        pad(out, &format!("{sign}{text}"), Flags { zero: false, ..flags });
    }
}

/// `%.Ng`: N digits, without zeros at the end.
fn general(value: f64, precision: usize) -> String {
    let precision = precision.clamp(1, 400);
    let scientific = format!("{value:.*e}", precision - 1);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trimmed =
        if mantissa.contains('.') { mantissa.trim_end_matches('0').trim_end_matches('.') } else { mantissa };
    let digits = trimmed.bytes().filter(u8::is_ascii_digit).count();
    let mut threshold = i32::try_from(precision).unwrap_or(i32::MAX);
    let significant = i32::try_from(digits).unwrap_or(i32::MAX);
    if threshold > significant && significant > exponent {
        threshold = significant;
    }
    if exponent < -4 || exponent >= threshold {
        with_exponent(trimmed, exponent)
    } else {
        let decimals = usize::try_from((significant - 1 - exponent).max(0)).unwrap_or(0);
        format!("{value:.decimals$}")
    }
}

fn format_text(out: &mut String, arg: &Value, text: &str, verb: char, flags: Flags) {
    let cut: String;
    let text = match flags.precision {
        Some(precision) if verb != 'x' && verb != 'X' => {
            cut = text.chars().take(precision).collect();
            cut.as_str()
        }
        _ => text,
    };
    match verb {
        'v' if flags.sharp => pad(out, &quote(text), flags),
        'v' | 's' => pad(out, text, flags),
        'q' => {
            let raw = flags.sharp
                && !text.contains(['`', '\r', '\n', '\u{7f}', '\u{feff}'])
                && text.chars().all(|c| c == '\t' || !c.is_control());
            let mut quoted = String::new();
            if raw {
                let _ = write!(quoted, "`{text}`");
            } else {
                quote_into(&mut quoted, text, '"', flags.plus);
            }
            pad(out, &quoted, flags);
        }
        'x' | 'X' => {
            let length = flags.precision.unwrap_or(text.len()).min(text.len());
            let mut hex = String::with_capacity(length * 2);
            for (at, byte) in text.as_bytes()[..length].iter().enumerate() {
                if flags.space && at > 0 {
                    hex.push(' ');
                }
                if flags.sharp && (at == 0 || flags.space) {
                    hex.push_str(if verb == 'x' { "0x" } else { "0X" });
                }
                let _ = if verb == 'x' { write!(hex, "{byte:02x}") } else { write!(hex, "{byte:02X}") };
            }
            pad(out, &hex, flags);
        }
        _ => bad_verb(out, arg, verb),
    }
}
