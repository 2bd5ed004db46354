//! Numbers with units: times and sizes, as profiles and variables write them.

use std::time::Duration;

/// A time: a number with its unit, in the words that Node's `ms` takes, since the variables of existing gateways are written for that. A bare
/// number is seconds where a variable gives it.
pub fn time(text: &str, bare: bool) -> Option<Duration> {
    let digits = text.find(|character: char| !character.is_ascii_digit() && character != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit.trim().to_ascii_lowercase().as_str() {
        "ms" | "msec" | "msecs" | "millisecond" | "milliseconds" => 1.0,
        "s" | "sec" | "secs" | "second" | "seconds" => 1_000.0,
        "m" | "min" | "mins" | "minute" | "minutes" => 60_000.0,
        "h" | "hr" | "hrs" | "hour" | "hours" => 3_600_000.0,
        "d" | "day" | "days" => 86_400_000.0,
        "w" | "week" | "weeks" => 604_800_000.0,
        "y" | "yr" | "yrs" | "year" | "years" => 31_557_600_000.0,
        "" if bare => 1_000.0,
        _ => return None,
    };
    let ms = number.parse::<f64>().ok()? * unit_ms;
    // Ten years: what is longer is a slip of the pen, and would overflow sums with the clock further on.
    (ms <= 315_360_000_000.0).then(|| Duration::from_secs_f64(ms / 1_000.0))
}

/// A size in bytes: a number, with a unit or bare.
pub(crate) fn size(text: &str) -> Option<u64> {
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit_bytes = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "kib" => 1_024,
        "mib" => 1_048_576,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_have_units() {
        for (text, bare, expected_ms) in [
            ("500ms", false, Some(500)),
            ("3s", false, Some(3_000)),
            ("1.5h", false, Some(5_400_000)),
            ("7d", false, Some(604_800_000)),
            ("5", true, Some(5_000)),
            ("5", false, None),
            ("", true, None),
            ("-1s", true, None),
            ("5 weeks", false, Some(3_024_000_000)),
            ("24H", false, Some(86_400_000)),
            ("1y", false, Some(31_557_600_000)),
            ("10 minutes", false, Some(600_000)),
            ("3 fortnights", true, None),
            ("d", true, None),
            ("99999999d", true, None),
        ] {
            assert_eq!(time(text, bare), expected_ms.map(Duration::from_millis), "{text}");
        }
        for (text, expected) in [
            ("1MB", Some(1_000_000)),
            ("1MiB", Some(1_048_576)),
            ("64 kib", Some(65_536)),
            ("1000", Some(1_000)),
            ("1GB", None),
            ("MB", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(size(text), expected, "{text}");
        }
    }
}
