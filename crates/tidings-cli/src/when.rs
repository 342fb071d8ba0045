//! Points in the log and lengths of time as a person writes them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;
use tidings::Timestamp;
use tidings::broker::{BrokerError, Position, Reader, StartAt};
use tidings::core::seam::Clock as _;
use tidings::flow::runtime::SystemClock;

/// A point in the log: `earliest`, `latest`, `@1234`, an RFC 3339 time, `yesterday`, or how long ago (`15m`, `2h30m`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct When(pub(crate) StartAt);

impl When {
    /// The position that the point stands for now.
    pub(crate) async fn position(self, reader: &dyn Reader) -> Result<Position, BrokerError> {
        match self.0 {
            StartAt::Earliest => reader.earliest().await,
            StartAt::Latest => reader.end().await,
            StartAt::Position(position) => Ok(position),
            StartAt::Time(time) => reader.position_at(time).await,
        }
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            StartAt::Earliest => f.write_str("earliest"),
            StartAt::Latest => f.write_str("latest"),
            StartAt::Position(position) => write!(f, "@{position}"),
            StartAt::Time(time) => time.fmt(f),
        }
    }
}

impl FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let start = match text {
            "earliest" | "start" => StartAt::Earliest,
            "latest" | "end" => StartAt::Latest,
            "yesterday" => StartAt::Time(yesterday()?),
            _ => match text.strip_prefix('@') {
                Some(digits) => {
                    let wrong =
                        |_| format!("{text:?} is no position; write @ and a number, like @1234");
                    StartAt::Position(Position(digits.parse().map_err(wrong)?))
                }
                None => StartAt::Time(time(text)?),
            },
        };
        Ok(Self(start))
    }
}

fn time(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let length: Length = text.parse().map_err(|_| {
        format!("{text:?} is neither a position nor a time; write earliest, latest, @1234, 2024-01-15T10:30:00Z, yesterday, or how long ago, like 15m")
    })?;
    Ok(now().minus(length.0))
}

/// Midnight of the day before today, local time.
fn yesterday() -> Result<Timestamp, String> {
    let start = jiff::ZonedDateTime::now()
        .yesterday()
        .and_then(|day| day.start_of_day())
        .map_err(|error| error.to_string())?;
    Ok(Timestamp::from_micros(start.timestamp().as_microsecond()))
}

/// The time now.
pub(crate) fn now() -> Timestamp {
    SystemClock::new().now()
}

/// An instant for a person: local time on request, else UTC.
pub(crate) fn display(time: Timestamp, local: bool) -> String {
    if !local {
        return time.to_string();
    }
    match jiff::Timestamp::from_microsecond(time.as_micros()) {
        Ok(instant) => instant
            .to_zoned_datetime(jiff::tz::TimeZone::system())
            .strftime("%Y-%m-%d %H:%M:%S%.3f")
            .to_string(),
        Err(_) => time.to_string(),
    }
}

/// An instant: `2024-01-15T10:30:00Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment(pub(crate) Timestamp);

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |_| {
            format!(
                "{text:?} is no time; write it like 2026-12-24T18:00:00Z or 2026-12-24T18:00:00+01:00"
            )
        };
        text.parse().map(Self).map_err(wrong)
    }
}

/// A length of time: `250ms`, `30s`, `15m`, `2h30m`, `1d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Length(pub(crate) Duration);

impl FromStr for Length {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is no length of time; write it like 250ms, 30s, 15m, 2h30m or 1d");
        let days = text
            .strip_suffix('d')
            .and_then(|days| days.parse::<u32>().ok());
        if let Some(days) = days {
            return Ok(Self(Duration::from_secs(u64::from(days) * 86_400)));
        }
        let parsed: jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
        Duration::try_from(parsed).map(Self).map_err(|_| wrong())
    }
}

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_words_positions_times_and_lengths() {
        let start = |text: &str| text.parse::<When>().map(|when| when.0);

        assert_eq!(start("earliest"), Ok(StartAt::Earliest));
        assert_eq!(start("end"), Ok(StartAt::Latest));
        assert_eq!(start("@12"), Ok(StartAt::Position(Position(12))));
        assert_eq!(
            start("1970-01-01T00:00:01Z"),
            Ok(StartAt::Time(Timestamp::from_micros(1_000_000)))
        );
        assert!(matches!(start("2h30m"), Ok(StartAt::Time(_))));
        assert!(matches!(start("yesterday"), Ok(StartAt::Time(_))));
        assert!(start("@x").is_err_and(|message| message.contains("@1234")));
        assert!(start("tomorrow").is_err_and(|message| message.contains("tomorrow")));
    }

    #[test]
    fn lengths_have_units() {
        let length = |text: &str| text.parse::<Length>().map(|length| length.0);

        assert_eq!(length("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(length("2h30m"), Ok(Duration::from_secs(9_000)));
        assert_eq!(length("2d"), Ok(Duration::from_secs(172_800)));
        assert!(length("30").is_err());
        assert!(length("-5s").is_err());
    }
}
