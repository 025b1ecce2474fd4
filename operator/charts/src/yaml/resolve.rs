//! What a scalar means: the implicit types of YAML 1.1 as Go's library resolves them.

/// A resolved scalar.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Resolved {
    /// `null`, `~`, nothing.
    Null,
    /// `true`, `yes`, `on`, `y` and their opposites.
    Bool(bool),
    /// A number that fits `i64`.
    Int(i64),
    /// A number that fits only `u64`.
    Uint(u64),
    /// Any other number, `.inf` and `.nan` included.
    Float(f64),
    /// A timestamp; kept as its text.
    Timestamp,
    /// Text.
    Text,
}

/// Resolves a plain scalar without a tag.
pub(crate) fn resolve(text: &str) -> Resolved {
    resolve_hinted(text, true)
}

pub(super) fn resolve_hinted(text: &str, timestamps: bool) -> Resolved {
    let Some(&first) = text.as_bytes().first() else { return Resolved::Null };
    match first {
        b'y' | b'Y' | b'n' | b'N' | b't' | b'T' | b'f' | b'F' | b'o' | b'O' | b'~' => resolve_word(text),
        b'.' => resolve_word_or(text, || match parse_go_float(text) {
            Some(float) => Resolved::Float(float),
            None => Resolved::Text,
        }),
        b'+' | b'-' | b'0'..=b'9' => resolve_word_or(text, || resolve_number(text, timestamps)),
        _ => Resolved::Text,
    }
}

fn resolve_word(text: &str) -> Resolved {
    match text {
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            Resolved::Bool(true)
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            Resolved::Bool(false)
        }
        "~" | "null" | "Null" | "NULL" => Resolved::Null,
        ".nan" | ".NaN" | ".NAN" => Resolved::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Resolved::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => Resolved::Float(f64::NEG_INFINITY),
        _ => Resolved::Text,
    }
}

fn resolve_word_or(text: &str, other: impl FnOnce() -> Resolved) -> Resolved {
    match resolve_word(text) {
        Resolved::Text => other(),
        resolved => resolved,
    }
}

fn resolve_number(text: &str, timestamps: bool) -> Resolved {
    if timestamps && is_timestamp(text) {
        return Resolved::Timestamp;
    }
    let owned;
    let plain = if text.contains('_') {
        owned = text.replace('_', "");
        owned.as_str()
    } else {
        text
    };
    if let Some(int) = parse_go_int(plain) {
        return Resolved::Int(int);
    }
    if let Some(uint) = parse_go_uint(plain) {
        return Resolved::Uint(uint);
    }
    if is_yaml_float(plain)
        && let Some(float) = parse_go_float(plain)
    {
        return Resolved::Float(float);
    }
    Resolved::Text
}

/// `strconv.ParseInt(text, 0, 64)` for text without underscores.
pub(crate) fn parse_go_int(text: &str) -> Option<i64> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let magnitude = parse_go_uint(digits)?;
    if negative { 0_i64.checked_sub_unsigned(magnitude) } else { i64::try_from(magnitude).ok() }
}

/// `strconv.ParseUint(text, 0, 64)` for text without underscores.
fn parse_go_uint(text: &str) -> Option<u64> {
    let (radix, digits) = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &text[2..]),
        [b'0', b'o' | b'O', ..] => (8, &text[2..]),
        [b'0', b'b' | b'B', ..] => (2, &text[2..]),
        [b'0', _, ..] => (8, &text[1..]),
        _ => (10, text),
    };
    // from_str_radix takes a sign, ParseUint does not.
    if !digits.as_bytes().first()?.is_ascii_alphanumeric() {
        return None;
    }
    u64::from_str_radix(digits, radix).ok()
}

/// The part of `strconv.ParseFloat` that decimal text needs: infinities by overflow are errors there.
pub(crate) fn parse_go_float(text: &str) -> Option<f64> {
    if !text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'e' | b'E')) {
        return None;
    }
    text.parse::<f64>().ok().filter(|float| float.is_finite())
}

/// `^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$`
fn is_yaml_float(text: &str) -> bool {
    let bytes = text.as_bytes();
    let digits = |mut at: usize| {
        let from = at;
        while bytes.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        (at, at - from)
    };
    let start = usize::from(matches!(bytes.first(), Some(b'-' | b'+')));
    let mut at = if bytes.get(start) == Some(&b'.') {
        let (at, count) = digits(start + 1);
        if count == 0 {
            return false;
        }
        at
    } else {
        let (at, count) = digits(start);
        if count == 0 {
            return false;
        }
        if bytes.get(at) == Some(&b'.') { digits(at + 1).0 } else { at }
    };
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        at += 1;
        if matches!(bytes.get(at), Some(b'-' | b'+')) {
            at += 1;
        }
        let (end, count) = digits(at);
        if count == 0 {
            return false;
        }
        at = end;
    }
    at == bytes.len()
}

/// Base 60 (`12:30:45`) is not a number to the reader but is quoted by the writer, for other readers' sake:
/// `^[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?$`
pub(super) fn is_base60(text: &str) -> bool {
    let rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !rest.starts_with(|c: char| c.is_ascii_digit()) || !rest.contains(':') {
        return false;
    }
    let mut parts = rest.split(':');
    let head = parts.next().unwrap_or_default();
    if !head.bytes().all(|b| b.is_ascii_digit() || b == b'_') {
        return false;
    }
    let mut parts = parts.peekable();
    while let Some(part) = parts.next() {
        let (digits, fraction) = match part.split_once('.') {
            Some((digits, fraction)) if parts.peek().is_none() => (digits, fraction),
            Some(_) => return false,
            None => (part, ""),
        };
        let valid = match digits.as_bytes() {
            [one] => one.is_ascii_digit(),
            [ten, one] => (b'0'..=b'5').contains(ten) && one.is_ascii_digit(),
            _ => false,
        };
        if !valid || !fraction.bytes().all(|b| b.is_ascii_digit() || b == b'_') {
            return false;
        }
    }
    true
}

/// The four timestamp layouts that Go's library knows: date; date and time with `T` or `t` and a zone; with a space and without one.
fn is_timestamp(text: &str) -> bool {
    let bytes = text.as_bytes();
    if bytes.len() < 5 || bytes[4] != b'-' || !bytes[..4].iter().all(u8::is_ascii_digit) {
        return false;
    }
    let number = |range: &[u8]| range.iter().fold(0_u32, |n, b| n * 10 + u32::from(b - b'0'));
    let year = number(&bytes[..4]);
    let mut at = 5;
    // One or two digits, as Go's short date and time fields take them.
    let short = |at: &mut usize| -> Option<u32> {
        let from = *at;
        while *at < bytes.len() && *at - from < 2 && bytes[*at].is_ascii_digit() {
            *at += 1;
        }
        (*at > from).then(|| number(&bytes[from..*at]))
    };
    let Some(month) = short(&mut at) else { return false };
    if bytes.get(at) != Some(&b'-') {
        return false;
    }
    at += 1;
    let Some(day) = short(&mut at) else { return false };
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return false,
    };
    if day == 0 || day > days {
        return false;
    }
    let zone = match bytes.get(at) {
        None => return true,
        Some(b'T' | b't') => true,
        Some(b' ') => false,
        Some(_) => return false,
    };
    at += 1;
    for limit in [24, 60, 60] {
        if limit != 24 {
            if bytes.get(at) != Some(&b':') {
                return false;
            }
            at += 1;
        }
        match short(&mut at) {
            Some(part) if part < limit => {}
            _ => return false,
        }
    }
    if matches!(bytes.get(at), Some(b'.' | b',')) && bytes.get(at + 1).is_some_and(u8::is_ascii_digit) {
        at += 1;
        while bytes.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
    }
    if !zone {
        return at == bytes.len();
    }
    match bytes.get(at..) {
        Some([b'Z']) => true,
        Some([b'+' | b'-', h1, h2, b':', m1, m2]) => {
            [h1, h2, m1, m2].iter().all(|b| b.is_ascii_digit())
                && number(&[*h1, *h2]) <= 24
                && number(&[*m1, *m2]) < 60
        }
        _ => false,
    }
}
