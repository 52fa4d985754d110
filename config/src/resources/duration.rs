//! Durations as the Gateway API writes them (GEP-2257): `1h30m`, `10s`, `1s500ms`, `0s`.

use std::{fmt::Write, time::Duration};

/// Units in milliseconds, largest first.
const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// Why a text is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a duration")]
pub struct DurationError {
    text: String,
    /// What to write instead.
    pub remedy: String,
}

/// Reads one to four numbers of one to five digits, each with its unit `h`, `m`, `s` or `ms`, in any order.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let err = || DurationError { text: text.chars().take(50).collect(), remedy: remedy(text) };
    let (mut rest, mut sum, mut parts) = (text, 0_u64, 0);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, tail) = tail.split_at(letters);
        let unit = UNITS.iter().find(|u| u.0 == unit).ok_or_else(err)?;
        parts += 1;
        if !(1..=5).contains(&digits) || parts > 4 {
            return Err(err());
        }
        sum += number.parse::<u64>().map_err(|_| err())? * unit.1;
        rest = tail;
    }
    if parts == 0 { Err(err()) } else { Ok(Duration::from_millis(sum)) }
}

/// Writes a duration so that [`parse_duration`] reads it; what is below a millisecond is lost, and more than 99999 h is
/// written as that.
pub fn format_duration(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).min(99_999 * 3_600_000);
    let mut text = String::new();
    for (unit, millis) in UNITS {
        if rest >= millis {
            let _ = write!(text, "{}{unit}", rest / millis);
            rest %= millis;
        }
    }
    if text.is_empty() { "0s".into() } else { text }
}

fn remedy(text: &str) -> String {
    let text = text.trim();
    if let Ok(seconds) = text.trim_end_matches('s').parse::<f64>()
        && (0.0..86_400_000.0).contains(&seconds)
    {
        return format!("write `{}`", format_duration(Duration::from_secs_f64(seconds)));
    }
    "write whole numbers with `h`, `m`, `s` or `ms`, such as `1m30s` or `250ms`".into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_read_as_the_gateway_api_reads_them() {
        for (text, millis) in [("0s", 0), ("1h", 3_600_000), ("1m30s", 90_000), ("10s5ms", 10_005), ("99999ms", 99_999)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for bad in ["", "5", "1.5s", "-1s", "1d", "1S", "100000s", "1s ", "1h1m1s1ms1s", "s", "1us"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_duration("1.5s").unwrap_err().remedy, "write `1s500ms`");
        assert_eq!(parse_duration("30").unwrap_err().remedy, "write `30s`");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(millis in 0_u64..200_000_000_000) {
            let d = Duration::from_millis(millis);
            prop_assert_eq!(parse_duration(&format_duration(d)), Ok(d));
        }
    }
}
