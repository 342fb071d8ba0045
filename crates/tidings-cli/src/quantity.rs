//! Sizes as a person writes them, and the word for no limit.

use std::str::FromStr;

/// A number of bytes: `500000`, `500kB`, `64MiB`, `10GiB`, `1TB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

/// The units, and how many bytes each is.
const UNITS: [(&str, u64); 9] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("B", 1),
];

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no size; write it like 500kB, 64MiB, 10GiB or 1TB");
        let unit = UNITS
            .iter()
            .find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, *bytes)));
        let (digits, unit) = unit.unwrap_or((text, 1));
        let count: u64 = digits.trim_end().parse().map_err(|_| wrong())?;
        count.checked_mul(unit).map(Self).ok_or_else(wrong)
    }
}

/// A limit, or `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoLimit<T>(pub(crate) Option<T>);

impl<T: FromStr> FromStr for NoLimit<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Self, T::Err> {
        if text == "none" {
            return Ok(Self(None));
        }
        text.parse().map(|limit| Self(Some(limit)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_of_both_kinds_and_none_is_a_limit_too() {
        let size = |text: &str| text.parse::<Size>().map(|size| size.0);

        assert_eq!(size("500"), Ok(500));
        assert_eq!(size("12B"), Ok(12));
        assert_eq!(size("2kB"), Ok(2_000));
        assert_eq!(size("64MiB"), Ok(67_108_864));
        assert_eq!(size("10 GiB"), Ok(10_737_418_240));
        assert!(size("99999999TB").is_err());
        assert!(size("big").is_err_and(|message| message.contains("10GiB")));
        assert_eq!("none".parse::<NoLimit<Size>>(), Ok(NoLimit(None)));
        assert_eq!("1kB".parse(), Ok(NoLimit(Some(Size(1_000)))));
    }
}
