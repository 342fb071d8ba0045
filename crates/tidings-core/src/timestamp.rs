//! Instants in microseconds, and timestamps that keep the text they were given in.

use jiff::tz::TimeZone;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// An instant.
///
/// **Units**: microseconds since 1970-01-01T00:00:00Z; earlier instants are negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The instant so many microseconds after 1970.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since 1970.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// The instant `duration` later; it stops at the last one that can be expressed.
    pub fn plus(self, duration: Duration) -> Self {
        Self(
            self.0
                .saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)),
        )
    }

    /// The instant `duration` earlier; it stops at the first one that can be expressed.
    pub fn minus(self, duration: Duration) -> Self {
        Self(
            self.0
                .saturating_sub(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)),
        )
    }

    /// How long after `earlier` this is; zero if it is before.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// RFC 3339 in UTC, with no fraction, three digits or six, as many as needed.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok(instant) = jiff::Timestamp::from_microsecond(self.0) else {
            return write!(f, "{}us", self.0);
        };
        let civil = TimeZone::UTC.to_datetime(instant);
        write!(
            f,
            "{:04}-{:02}-{:02}T",
            civil.year(),
            civil.month(),
            civil.day()
        )?;
        write!(
            f,
            "{:02}:{:02}:{:02}",
            civil.hour(),
            civil.minute(),
            civil.second()
        )?;
        match self.0.rem_euclid(1_000_000) {
            0 => f.write_str("Z"),
            micros if micros % 1_000 == 0 => write!(f, ".{:03}Z", micros / 1_000),
            micros => write!(f, ".{micros:06}Z"),
        }
    }
}

impl FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, TimestampError> {
        let error = || TimestampError {
            text: text.to_owned(),
        };
        let bytes = text.as_bytes();
        let shaped = bytes.len() >= 20
            && bytes.get(4) == Some(&b'-')
            && bytes.get(7) == Some(&b'-')
            && matches!(bytes.get(10), Some(b'T' | b't' | b' '))
            && bytes.get(13) == Some(&b':')
            && bytes.get(16) == Some(&b':');
        if !shaped {
            return Err(error());
        }
        let parsed: Result<jiff::Timestamp, _> = match excess_digits(text) {
            None => text.parse(),
            Some((head, tail)) => format!("{head}{tail}").parse(),
        };
        parsed
            .map(|instant| Self(instant.as_nanosecond().div_euclid(1_000) as i64))
            .map_err(|_| error())
    }
}

/// Reads what [`Timestamp`] prints, to the letter; `None` for every other text. Most timestamps are given so, and need neither a calendar nor printing for comparison.
fn as_printed(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    let number = |from: usize, digits: usize| {
        bytes
            .get(from..from + digits)?
            .iter()
            .try_fold(0, |value, byte| {
                byte.is_ascii_digit()
                    .then(|| value * 10 + i64::from(byte - b'0'))
            })
    };
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    let shaped = separators
        .iter()
        .all(|(at, separator)| bytes.get(*at) == Some(separator));
    let micros = match bytes.get(19..)? {
        b"Z" => 0,
        [b'.', .., b'Z'] if bytes.len() == 24 => {
            number(20, 3).filter(|millis| *millis > 0)? * 1_000
        }
        [b'.', .., b'Z'] if bytes.len() == 27 => {
            number(20, 6).filter(|micros| micros % 1_000 > 0)?
        }
        _ => return None,
    };
    let (year, month, day) = (number(0, 4)?, number(5, 2)?, number(8, 2)?);
    let (hour, minute, second) = (number(11, 2)?, number(14, 2)?, number(17, 2)?);
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 => 28 + i64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !shaped || day < 1 || day > days || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let seconds = days_since_1970(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    Some(Timestamp(seconds * 1_000_000 + micros))
}

/// Days from 1970-01-01 to a day of the Gregorian calendar, whose years are taken to begin in March, so that the leap day is the last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The text around the digits of a fraction that are finer than a nanosecond.
fn excess_digits(text: &str) -> Option<(&str, &str)> {
    let start = text.find('.')? + 1;
    let digits = text
        .get(start..)?
        .bytes()
        .take_while(u8::is_ascii_digit)
        .count();
    (digits > 9).then(|| {
        (
            text.get(..start + 9).unwrap_or(text),
            text.get(start + digits..).unwrap_or(""),
        )
    })
}

/// Why a text is no timestamp; permanent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an RFC 3339 timestamp; write it like 2024-01-15T10:30:00Z")]
pub struct TimestampError {
    text: String,
}

/// A timestamp as an event gives it: an instant, and the text where printing the instant would differ.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GivenTimestamp {
    instant: Timestamp,
    text: Option<Box<str>>,
}

impl GivenTimestamp {
    /// The instant.
    pub fn instant(&self) -> Timestamp {
        self.instant
    }

    /// The text as given, where it is not what [`Timestamp`] prints.
    pub fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }

    /// An instant with the text that a store kept beside it; nothing is checked again.
    pub fn trusted(instant: Timestamp, text: Option<&str>) -> Self {
        Self {
            instant,
            text: text.map(Box::from),
        }
    }
}

/// A given timestamp as an envelope holds it: its text is a part of the envelope's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GivenTimestampRef<'a> {
    instant: Timestamp,
    text: Option<&'a str>,
}

impl<'a> GivenTimestampRef<'a> {
    /// An instant with the text that is kept beside it; nothing is checked again.
    pub fn new(instant: Timestamp, text: Option<&'a str>) -> Self {
        Self { instant, text }
    }

    /// The instant.
    pub fn instant(self) -> Timestamp {
        self.instant
    }

    /// The text, where printing the instant would differ from it.
    pub fn text(self) -> Option<&'a str> {
        self.text
    }

    /// The timestamp on its own.
    pub fn to_owned(self) -> GivenTimestamp {
        GivenTimestamp::trusted(self.instant, self.text)
    }
}

impl fmt::Display for GivenTimestampRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.text {
            Some(text) => f.write_str(text),
            None => self.instant.fmt(f),
        }
    }
}

impl From<Timestamp> for GivenTimestamp {
    fn from(instant: Timestamp) -> Self {
        Self {
            instant,
            text: None,
        }
    }
}

impl FromStr for GivenTimestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, TimestampError> {
        if let Some(instant) = as_printed(text) {
            return Ok(instant.into());
        }
        let instant: Timestamp = text.parse()?;
        let same = instant.to_string() == text;
        Ok(Self {
            instant,
            text: (!same).then(|| Box::from(text)),
        })
    }
}

impl fmt::Display for GivenTimestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.text {
            Some(text) => f.write_str(text),
            None => self.instant.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_given_timestamp_prints_as_it_was_given() {
        for text in [
            "2024-01-15T10:30:00Z",
            "2011-09-30T22:38:44.546Z",
            "2011-09-30T22:38:44.880Z",
            "2011-10-01T00:38:44.546+02:00",
            "2011-10-01T00:38:44.5460000+02:00",
            "1948-05-01T00:00:00.000001Z",
            "2011-10-01T00:38:44.123456789123456Z",
            "2011-10-01t00:38:44z",
            "2016-12-31T23:59:60Z",
        ] {
            let given: GivenTimestamp = text.parse().unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(given.to_string(), text);
        }
    }

    #[test]
    fn usual_forms_need_no_text_beside_the_instant() {
        for text in [
            "2024-01-15T10:30:00Z",
            "2011-09-30T22:38:44.880Z",
            "2011-09-30T22:38:44.880001Z",
        ] {
            assert_eq!(
                text.parse::<GivenTimestamp>().unwrap().text(),
                None,
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn what_is_read_without_a_calendar_is_what_the_calendar_says(
            micros in -62_200_000_000_000_000_i64..253_500_000_000_000_000, unit in 0_u32..3,
        ) {
            let step = [1_000_000, 1_000, 1][unit as usize];
            let text = Timestamp::from_micros(micros / step * step).to_string();

            prop_assert_eq!(as_printed(&text), text.parse().ok().filter(|_| !text.starts_with('-')));
        }

        #[test]
        fn a_text_that_is_read_without_a_calendar_is_printed_the_same(
            text in "[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.([0-9]{3}|[0-9]{6}))?Z",
        ) {
            let parsed = text.parse::<Timestamp>();
            if let Some(instant) = as_printed(&text) {
                prop_assert_eq!(parsed.unwrap(), instant);
                prop_assert_eq!(instant.to_string(), text);
            } else if let Ok(instant) = parsed {
                prop_assert_ne!(instant.to_string(), text);
            }
        }
    }

    #[test]
    fn instants_are_exact_before_1970_and_with_offsets() {
        let micros = |text: &str| text.parse::<Timestamp>().unwrap().as_micros();

        assert_eq!(micros("1969-12-31T23:59:59.999999Z"), -1);
        assert_eq!(micros("1970-01-01T01:00:00+01:00"), 0);
        assert_eq!(micros("1970-01-01T00:00:00.0000019Z"), 1);
    }

    #[test]
    fn what_is_no_timestamp_is_refused_with_an_example() {
        for text in [
            "",
            "yesterday",
            "2024-01-15",
            "2024-01-15T10:30:00",
            "2024-13-15T10:30:00Z",
            "1705314600",
        ] {
            let message = text.parse::<Timestamp>().unwrap_err().to_string();
            assert!(message.contains("RFC 3339"), "{message}");
        }
    }
}
