//! The `grpc-timeout` header: at most eight digits and a unit (gRPC over HTTP/2, "Requests").

use http::HeaderValue;
use std::time::Duration;

/// The time left, or `None` if the value is not what the specification says.
pub fn parse(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let n = digits.iter().fold(0u64, |n, d| n * 10 + u64::from(d - b'0'));
    Some(match unit {
        b'H' => Duration::from_secs(n * 3_600),
        b'M' => Duration::from_secs(n * 60),
        b'S' => Duration::from_secs(n),
        b'm' => Duration::from_millis(n),
        b'u' => Duration::from_micros(n),
        b'n' => Duration::from_nanos(n),
        _ => return None,
    })
}

/// The time left as a header value, in the finest unit that eight digits hold. Rounded down, so that a hop never gives
/// more time than it has; anything above zero stays above zero. More than eight digits of hours is the most there is.
pub fn format(left: Duration) -> HeaderValue {
    const MOST: u128 = 99_999_999;
    let nanos = left.as_nanos();
    let units = [
        (1, b'n'),
        (1_000, b'u'),
        (1_000_000, b'm'),
        (1_000_000_000, b'S'),
        (60_000_000_000, b'M'),
        (3_600_000_000_000, b'H'),
    ];
    let (n, unit) =
        units.into_iter().map(|(size, unit)| (nanos / size, unit)).find(|(n, _)| *n <= MOST).unwrap_or((MOST, b'H'));
    write(n as u32, unit)
}

fn write(mut n: u32, unit: u8) -> HeaderValue {
    let mut text = [b'0'; 9];
    text[8] = unit;
    let mut start = 8;
    loop {
        start -= 1;
        text[start] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 || start == 0 {
            break;
        }
    }
    HeaderValue::from_bytes(&text[start..]).unwrap_or_else(|_| HeaderValue::from_static("0n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_what_the_specification_allows_is_read() {
        assert_eq!(parse(b"1H"), Some(Duration::from_secs(3_600)));
        assert_eq!(parse(b"800m"), Some(Duration::from_millis(800)));
        assert_eq!(parse(b"99999999n"), Some(Duration::from_nanos(99_999_999)));
        for bad in [&b""[..], b"S", b"1", b"1s", b"-1S", b"+1S", b"123456789n", b"1 S", b"1.5S", b"\xff1S"] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn the_finest_unit_that_fits_is_written() {
        assert_eq!(format(Duration::from_millis(800)), "800000u");
        assert_eq!(format(Duration::ZERO), "0n");
        assert_eq!(format(Duration::from_nanos(1)), "1n");
        assert_eq!(format(Duration::from_nanos(99_999_999)), "99999999n");
        assert_eq!(format(Duration::MAX), "99999999H");
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_no_longer_and_hardly_shorter(nanos: u64) {
            let left = Duration::from_nanos(nanos);
            let back = parse(format(left).as_bytes()).unwrap();
            prop_assert!(back <= left);
            prop_assert!(left - back <= left / 90_000);
        }

        #[test]
        fn nothing_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..12)) {
            let _ = parse(&bytes);
        }
    }
}
