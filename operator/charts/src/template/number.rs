//! Numbers as Go prints them.

/// `%v` of a `float64`, which is `strconv.FormatFloat(value, 'g', -1, 64)`: the shortest digits that read back the same,
/// with an exponent below 1e-4 and from 1e6 on.
pub(crate) fn format_float(value: f64) -> String {
    match special(value) {
        Some(text) => text.to_owned(),
        None => format_exponent(&format!("{value:e}")),
    }
}

/// Prints the digits and exponent of Rust's `{:e}` as Go's `%g` does.
pub(crate) fn format_exponent(scientific: &str) -> String {
    let (mantissa, exponent) = split(scientific);
    if (-4..6).contains(&exponent) {
        positional(mantissa, exponent)
    } else {
        with_exponent(mantissa, exponent)
    }
}

/// The text of values that have no digits.
pub(crate) fn special(value: f64) -> Option<&'static str> {
    if value.is_nan() {
        Some("NaN")
    } else if value.is_infinite() {
        Some(if value > 0.0 { "+Inf" } else { "-Inf" })
    } else {
        None
    }
}

fn split(scientific: &str) -> (&str, i32) {
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    (mantissa, exponent.parse().unwrap_or(0))
}

pub(crate) fn with_exponent(mantissa: &str, exponent: i32) -> String {
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.unsigned_abs())
}

fn positional(mantissa: &str, exponent: i32) -> String {
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", mantissa),
    };
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    if exponent < 0 {
        let zeros = usize::try_from(-exponent - 1).unwrap_or(0);
        return format!("{sign}0.{}{digits}", "0".repeat(zeros));
    }
    let point = usize::try_from(exponent + 1).unwrap_or(0);
    if digits.len() <= point {
        format!("{sign}{digits}{}", "0".repeat(point - digits.len()))
    } else {
        format!("{sign}{}.{}", &digits[..point], &digits[point..])
    }
}

/// A number in JSON as Go writes it: no exponent from 1e-6 up to 1e21.
pub(crate) fn json_number(value: f64) -> String {
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = split(&scientific);
    let magnitude = value.abs();
    if magnitude == 0.0 || (1e-6..1e21).contains(&magnitude) {
        positional(mantissa, exponent)
    } else if (-9..0).contains(&exponent) {
        // The one place where Go does not pad an exponent to two digits.
        format!("{mantissa}e{exponent}")
    } else {
        with_exponent(mantissa, exponent)
    }
}

/// A number in the output of `toYaml`: it goes through JSON and is read back, so a whole one becomes an integer.
pub(crate) fn yaml_number(value: f64) -> String {
    use crate::yaml::{Resolved, resolve};
    let json = json_number(value);
    match resolve(&json) {
        Resolved::Int(int) => int.to_string(),
        Resolved::Uint(uint) => uint.to_string(),
        Resolved::Float(float) => format_float(float),
        _ => json,
    }
}
