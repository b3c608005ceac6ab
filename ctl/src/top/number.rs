//! Numbers in few columns.

use std::time::Duration;

/// `count` as a float; above 2^53 the last digits go, which nobody sees.
pub(super) fn float(count: u64) -> f64 {
    let [high, low] = [count >> 32, count & 0xffff_ffff].map(|half| u32::try_from(half).unwrap_or(u32::MAX));
    f64::from(high) * 4_294_967_296.0 + f64::from(low)
}

/// Three digits that count, in at most five columns: 0, 0.3, 47, 12.3k, 1.23M.
pub(super) fn si(value: f64) -> String {
    let units = ["", "k", "M", "G", "T", "P"];
    let mut value = value;
    let mut unit = 0;
    // What rounds to a thousand is one of the next unit.
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    match (unit, value) {
        (0, _) if value < 0.05 => "0".to_owned(),
        (0, _) if value < 9.95 => format!("{value:.1}"),
        (0, _) => format!("{value:.0}"),
        (unit, value) if value < 9.995 => format!("{value:.2}{}", units[unit]),
        (unit, value) if value < 99.95 => format!("{value:.1}{}", units[unit]),
        (unit, value) => format!("{value:.0}{}", units[unit]),
    }
}

/// A part of one.
pub(super) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent > 0.0 && percent < 9.95 { format!("{percent:.1} %") } else { format!("{percent:.0} %") }
}

/// Microseconds, in the unit that suits.
pub(super) fn micros(value: f64) -> String {
    if value < 1_000.0 {
        format!("{value:.0} us")
    } else if value < 1_000_000.0 {
        format!("{:.1} ms", value / 1_000.0)
    } else {
        format!("{:.1} s", value / 1_000_000.0)
    }
}

/// Seconds, with what is left of them.
pub(super) fn seconds(time: Duration) -> String {
    let text = format!("{:.3}", time.as_secs_f64());
    format!("{} s", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_that_count() {
        let table = [
            (0.0, "0"),
            (0.04, "0"),
            (0.05, "0.1"),
            (9.94, "9.9"),
            (9.96, "10"),
            (999.4, "999"),
            (999.6, "1.00k"),
            (1_234.0, "1.23k"),
            (9_996.0, "10.0k"),
            (99_960.0, "100k"),
            (999_600.0, "1.00M"),
            (9.41e9, "9.41G"),
            (1.0e12, "1.00T"),
            (1.0e20, "100000P"),
        ];
        for (value, text) in table {
            assert_eq!(si(value), text, "{value}");
        }
    }

    #[test]
    fn units_that_suit() {
        assert_eq!([0.0, 0.001, 0.5, 1.0].map(percent), ["0 %", "0.1 %", "50 %", "100 %"]);
        assert_eq!([64.0, 1_500.0, 2.0e6].map(micros), ["64 us", "1.5 ms", "2.0 s"]);
        assert_eq!([1_000, 500, 1_250].map(|ms| seconds(Duration::from_millis(ms))), ["1 s", "0.5 s", "1.25 s"]);
        for exponent in 0..64 {
            assert_eq!(float(1 << exponent).to_bits(), f64::powi(2.0, exponent).to_bits(), "2^{exponent}");
        }
        assert!((float(3_000_000_000_000) - 3.0e12).abs() < 1.0);
    }
}
