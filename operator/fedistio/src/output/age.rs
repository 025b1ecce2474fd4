//! How long ago something was, as `kubectl get` says it.

use k8s_openapi::jiff::Timestamp;

/// The time from `then` to `now` in one or two units: `45s`, `12m`, `3h20m`, `5d`, `2y30d`; `<unknown>` without a time.
pub(crate) fn age(then: Option<Timestamp>, now: Timestamp) -> String {
    let Some(then) = then else { return "<unknown>".to_owned() };
    let seconds = now.as_second().saturating_sub(then.as_second()).max(0);
    let (minutes, hours, days, years) =
        (seconds / 60, seconds / 3600, seconds / 86_400, seconds / (86_400 * 365));
    let two = |large: i64, large_unit: &str, small: i64, small_unit: &str| {
        if small == 0 {
            format!("{large}{large_unit}")
        } else {
            format!("{large}{large_unit}{small}{small_unit}")
        }
    };
    match seconds {
        ..120 => format!("{seconds}s"),
        120..600 => two(minutes, "m", seconds % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, "d", hours % 24, "h"),
        _ if years < 2 => format!("{days}d"),
        _ if years < 8 => two(years, "y", days % 365, "d"),
        _ => format!("{years}y"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_read_as_kubectl_writes_them() {
        let now = Timestamp::from_second(2_000_000_000).unwrap();
        let ago = |seconds: i64| age(Some(Timestamp::from_second(2_000_000_000 - seconds).unwrap()), now);
        for (seconds, expected) in [
            (0, "0s"),
            (119, "119s"),
            (125, "2m5s"),
            (180, "3m"),
            (600, "10m"),
            (10_800, "3h"),
            (12_000, "3h20m"),
            (28_800, "8h"),
            (172_800, "2d"),
            (180_000, "2d2h"),
            (691_200, "8d"),
            (86_400 * 365 * 2 + 86_400 * 30, "2y30d"),
            (86_400 * 365 * 9, "9y"),
            (-5, "0s"),
        ] {
            assert_eq!(ago(seconds), expected, "{seconds} seconds");
        }
        assert_eq!(age(None, now), "<unknown>");
    }
}
