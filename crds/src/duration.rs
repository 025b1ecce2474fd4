//! Durations as Kubernetes writes them: `90s`, `20m`, `1h30m`.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

/// A duration written as whole numbers with the units `h`, `m` and `s`, largest first.
///
/// A subset of Go's `time.ParseDuration` (the format of `metav1.Duration`): no signs, no fractions, nothing under a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HumanDuration(pub Duration);

/// Why a text is not a [`HumanDuration`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{text:?} is not a duration: write whole numbers with h, m and s, largest first, for example 90s, 20m or 1h30m"
)]
pub struct DurationError {
    text: String,
}

impl FromStr for HumanDuration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        let error = || DurationError { text: text.to_owned() };
        let mut seconds: u64 = 0;
        let mut number: Option<u64> = None;
        let mut last_unit = u64::MAX;
        for character in text.chars() {
            if let Some(digit) = character.to_digit(10) {
                let value =
                    number.unwrap_or(0).checked_mul(10).and_then(|value| value.checked_add(digit.into()));
                number = Some(value.ok_or_else(error)?);
                continue;
            }
            let unit = match character {
                'h' => 3600,
                'm' => 60,
                's' => 1,
                _ => return Err(error()),
            };
            let value = number.take().ok_or_else(error)?;
            if unit >= last_unit {
                return Err(error());
            }
            last_unit = unit;
            seconds = value.checked_mul(unit).and_then(|part| seconds.checked_add(part)).ok_or_else(error)?;
        }
        if number.is_some() || last_unit == u64::MAX {
            return Err(error());
        }
        Ok(Self(Duration::from_secs(seconds)))
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        if hours > 0 {
            write!(formatter, "{hours}h")?;
        }
        if minutes > 0 {
            write!(formatter, "{minutes}m")?;
        }
        if seconds > 0 || (hours == 0 && minutes == 0) {
            write!(formatter, "{seconds}s")?;
        }
        Ok(())
    }
}

impl Serialize for HumanDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'_, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for HumanDuration {
    fn schema_name() -> Cow<'static, str> {
        "HumanDuration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": "^([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?$",
            "minLength": 2,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_the_same_text() {
        for (text, seconds) in
            [("90s", 90), ("20m", 1200), ("1h30m", 5400), ("2h", 7200), ("1h1m1s", 3661), ("0s", 0)]
        {
            let parsed: HumanDuration = text.parse().unwrap();
            assert_eq!(parsed.0.as_secs(), seconds, "{text}");
            let written: HumanDuration = parsed.to_string().parse().unwrap();
            assert_eq!(written, parsed);
        }
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        for text in [
            "",
            "5",
            "m",
            "5d",
            "-5s",
            "1.5h",
            "5s5m",
            "5m5m",
            "99999999999999999999s",
            "9999999999999999999h",
        ] {
            assert!(text.parse::<HumanDuration>().is_err(), "{text}");
        }
    }
}
