//! Values of the command line's words, and what is said of those that are none.

use std::fmt::Display;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// An IP address.
///
/// # Errors
/// What is wrong with `text`, and how one is written.
pub(crate) fn ip(text: &str) -> Result<IpAddr, String> {
    let wrong =
        || format!("{text:?} is not an IP address: write one without a prefix length, like 192.0.2.1 or fd00::1");
    text.parse().map_err(|_| wrong())
}

/// Whole numbers of `range`.
pub(crate) fn number<T>(range: RangeInclusive<T>) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static
where
    T: FromStr + PartialOrd + Display + Clone + Send + Sync + 'static,
{
    move |text| {
        let wrong = || format!("{text:?} is not a whole number from {} to {}", range.start(), range.end());
        text.parse().ok().filter(|number| range.contains(number)).ok_or_else(wrong)
    }
}

/// Whole numbers from `least` on.
pub(crate) fn number_from<T>(least: T) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static
where
    T: FromStr + PartialOrd + Display + Clone + Send + Sync + 'static,
{
    move |text| {
        let wrong = || format!("{text:?} is not a whole number of {least} or more");
        text.parse().ok().filter(|number| *number >= least).ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_and_what_is_not() {
        assert_eq!(ip("fd00::1"), Ok("fd00::1".parse().unwrap()));
        for text in ["", "x", "10.0.0.1/24", "10.0.0", "fd00::1%eth0"] {
            let error = ip(text).unwrap_err();
            assert!(error.contains(&format!("{text:?}")) && error.contains("192.0.2.1 or fd00::1"), "{error}");
        }
        assert_eq!((number(60..=70)("60"), number(60..=70)("70")), (Ok(60), Ok(70)));
        assert_eq!((number_from(14_u32)("14"), number_from(1)(&u64::MAX.to_string())), (Ok(14), Ok(u64::MAX)));
        for text in ["", "x", "59", "71", "-1", "60.5"] {
            assert_eq!(number(60..=70_u8)(text), Err(format!("{text:?} is not a whole number from 60 to 70")));
        }
        for text in ["13", "4294967296"] {
            assert_eq!(number_from(14_u32)(text), Err(format!("{text:?} is not a whole number of 14 or more")));
        }
    }
}
