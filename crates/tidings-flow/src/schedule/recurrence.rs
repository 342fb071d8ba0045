//! When a recurring event comes again, by a cron expression in a time zone.

use croner::errors::CronError;
use croner::parser::{CronParser, Seconds};
use croner::time::{CivilDate, CivilDateTime, CivilTime, Resolution, Weekday};
use croner::{Cron, CronDateTime};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, ZonedDateTime, civil};
use std::cmp::Ordering;
use tidings_core::limits::{CRON_BYTES_MAX, SCHEDULE_ID_BYTES_MAX};
use tidings_core::store::{Recurrence, ScheduledEvent};
use tidings_core::{Code, ErrorClass, Timestamp, codes};

/// Why a schedule is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScheduleError {
    /// The cron expression cannot be read.
    #[error(
        "{cron:?} is no cron expression: {reason}; give minute, hour, day of the month, month and day of the week, as in \"30 9 * * MON-FRI\", with seconds before them if you want"
    )]
    Cron {
        /// The expression.
        cron: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The time zone is not known here.
    #[error(
        "the time zone {time_zone:?} is not known here: {reason}; give an IANA name such as Europe/Berlin, or UTC"
    )]
    TimeZone {
        /// The name.
        time_zone: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Its name breaks a rule.
    #[error(
        "the name {name:?} of a scheduled event is not usable: give 1 to {SCHEDULE_ID_BYTES_MAX} bytes without control characters"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// The expression names no time that is still to come.
    #[error("{cron:?} names no time after {after}; correct the expression")]
    Never {
        /// The expression.
        cron: String,
        /// From when on it was looked for.
        after: Timestamp,
    },
}

impl ScheduleError {
    /// Always permanent.
    pub fn class(&self) -> ErrorClass {
        ErrorClass::Permanent
    }

    /// The stable code.
    pub fn code(&self) -> Code {
        codes::SCHEDULE_INVALID
    }
}

/// Checks a scheduled event before a store takes it.
///
/// **Errors**: a name or a recurrence that breaks a rule; permanent.
pub fn check(scheduled: &ScheduledEvent) -> Result<(), ScheduleError> {
    let name = &scheduled.id;
    if name.is_empty() || name.len() > SCHEDULE_ID_BYTES_MAX || name.contains(char::is_control) {
        return Err(ScheduleError::Name { name: name.clone() });
    }
    match &scheduled.recurrence {
        Some(recurrence) => first_due(recurrence, scheduled.due).map(drop),
        None => Ok(()),
    }
}

/// When a recurring event comes for the first time after an instant.
///
/// **Errors**: an expression, a time zone or an instant from which on it never comes; all permanent.
///
/// ```
/// use tidings_core::{Timestamp, store::Recurrence};
/// let every_morning = Recurrence { cron: "0 9 * * *".to_owned(), time_zone: "UTC".to_owned() };
/// let evening: Timestamp = "2026-03-01T21:00:00Z".parse()?;
/// assert_eq!(tidings_flow::schedule::first_due(&every_morning, evening)?.to_string(), "2026-03-02T09:00:00Z");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn first_due(recurrence: &Recurrence, after: Timestamp) -> Result<Timestamp, ScheduleError> {
    next_after(recurrence, after)?.ok_or_else(|| ScheduleError::Never {
        cron: recurrence.cron.clone(),
        after,
    })
}

/// When a recurring event comes next after an instant; `None` if it never does.
///
/// A time that the clocks of the zone skip in spring comes right after the gap; one that they repeat in autumn comes once.
///
/// **Errors**: an expression or a time zone that is none; permanent.
pub fn next_after(
    recurrence: &Recurrence,
    after: Timestamp,
) -> Result<Option<Timestamp>, ScheduleError> {
    let cron = parse(&recurrence.cron)?;
    let zone = zone(&recurrence.time_zone)?;
    let Ok(after) = jiff::Timestamp::from_microsecond(after.as_micros()) else {
        return Ok(None);
    };
    match cron.find_next_occurrence(&Local(after.to_zoned_datetime(zone)), false) {
        Ok(Local(next)) => Ok(Some(Timestamp::from_micros(
            next.timestamp().as_microsecond(),
        ))),
        // The expression was read; what is left is that the calendar has no such day.
        Err(_) => Ok(None),
    }
}

fn parse(cron: &str) -> Result<Cron, ScheduleError> {
    if cron.len() > CRON_BYTES_MAX {
        return Err(ScheduleError::Cron {
            cron: format!("{}…", cron.chars().take(32).collect::<String>()),
            reason: format!("it has {} bytes, the limit is {CRON_BYTES_MAX}", cron.len()),
        });
    }
    CronParser::builder()
        .seconds(Seconds::Optional)
        .build()
        .parse(cron)
        .map_err(|error| ScheduleError::Cron {
            cron: cron.to_owned(),
            reason: error.to_string(),
        })
}

fn zone(name: &str) -> Result<TimeZone, ScheduleError> {
    if name == "UTC" {
        return Ok(TimeZone::UTC);
    }
    TimeZone::get(name).map_err(|error| ScheduleError::TimeZone {
        time_zone: name.to_owned(),
        reason: error.to_string(),
    })
}

/// An instant in a zone, as the library that reads cron expressions wants to ask it.
#[derive(Clone)]
struct Local(ZonedDateTime);

impl CronDateTime for Local {
    fn to_civil(&self) -> CivilDateTime {
        let there = self.0.datetime();
        let part = |number: i8| u32::from(number.unsigned_abs());
        CivilDateTime::new(
            CivilDate::from_parts_unchecked(
                i32::from(there.year()),
                part(there.month()),
                part(there.day()),
            ),
            CivilTime::from_parts_unchecked(
                part(there.hour()),
                part(there.minute()),
                part(there.second()),
            ),
        )
    }

    fn civil_weekday(&self) -> Weekday {
        let day = self.0.weekday().to_sunday_zero_offset();
        Weekday::from_days_from_sunday(u32::from(day.unsigned_abs()))
    }

    fn resolve_civil(&self, wanted: CivilDateTime) -> Result<Resolution<Self>, CronError> {
        let there = civil_of(wanted).ok_or(CronError::InvalidDate)?;
        let found = self.0.time_zone().to_ambiguous_zoned_datetime(there);
        let instant = |found: Result<ZonedDateTime, jiff::Error>| {
            found.map(Self).map_err(|_| CronError::InvalidTime)
        };
        Ok(match found.offset() {
            AmbiguousOffset::Unambiguous { .. } => {
                Resolution::Single(instant(found.unambiguous())?)
            }
            AmbiguousOffset::Gap { .. } => Resolution::Gap,
            AmbiguousOffset::Fold { .. } => {
                let first = instant(found.clone().earlier())?;
                Resolution::Ambiguous(first, instant(found.later())?)
            }
        })
    }

    fn checked_add_seconds(&self, seconds: i64) -> Option<Self> {
        let moved = self.0.checked_add(SignedDuration::from_secs(seconds));
        moved.ok().map(Self)
    }

    fn cmp_instant(&self, other: &Self) -> Ordering {
        self.0.timestamp().cmp(&other.0.timestamp())
    }
}

fn civil_of(given: CivilDateTime) -> Option<civil::DateTime> {
    let part = |number: u32| i8::try_from(number).ok();
    civil::DateTime::new(
        i16::try_from(given.year()).ok()?,
        part(given.month())?,
        part(given.day())?,
        part(given.hour())?,
        part(given.minute())?,
        part(given.second())?,
        0,
    )
    .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(cron: &str, time_zone: &str, after: &str) -> Result<String, ScheduleError> {
        let recurrence = Recurrence {
            cron: cron.to_owned(),
            time_zone: time_zone.to_owned(),
        };
        first_due(&recurrence, after.parse().unwrap()).map(|due| due.to_string())
    }

    #[test]
    fn the_next_time_is_after_the_instant_and_never_at_it() {
        assert_eq!(
            next("30 9 * * MON-FRI", "UTC", "2026-11-27T09:30:00Z").unwrap(),
            "2026-11-30T09:30:00Z"
        );
        assert_eq!(
            next("*/15 * * * * *", "UTC", "2026-11-27T09:30:01Z").unwrap(),
            "2026-11-27T09:30:15Z"
        );
        assert_eq!(
            next("0 0 29 2 *", "UTC", "2026-01-01T00:00:00Z").unwrap(),
            "2028-02-29T00:00:00Z"
        );
    }

    #[test]
    fn a_time_zone_moves_it_and_its_clock_changes_lose_and_double_nothing() {
        let berlin = |after| next("30 2 * * *", "Europe/Berlin", after).unwrap();

        assert_eq!(berlin("2026-01-10T00:00:00Z"), "2026-01-10T01:30:00Z");
        assert_eq!(berlin("2026-07-10T12:00:00Z"), "2026-07-11T00:30:00Z");
        // On 2026-03-29 the clocks go from 02:00 to 03:00, so that half past two does not come.
        assert_eq!(berlin("2026-03-29T00:00:00Z"), "2026-03-29T01:00:00Z");
        // On 2026-10-25 they go from 03:00 back to 02:00, so that it comes twice; once counts.
        assert_eq!(berlin("2026-10-24T12:00:00Z"), "2026-10-25T00:30:00Z");
        assert_eq!(berlin("2026-10-25T00:30:00Z"), "2026-10-26T01:30:00Z");
    }

    #[test]
    fn what_is_wrong_is_named_with_the_way_out() {
        let at = "2026-01-01T00:00:00Z";
        let error = next("61 * * * *", "UTC", at).unwrap_err().to_string();
        assert!(
            error.contains("\"61 * * * *\"") && error.contains("30 9"),
            "{error}"
        );
        let error = next("0 9 * * *", "Mars/Base", at).unwrap_err().to_string();
        assert!(
            error.contains("Mars/Base") && error.contains("Europe/Berlin"),
            "{error}"
        );
        let error = next("0 0 30 2 *", "UTC", at).unwrap_err();
        assert!(
            matches!(
                error,
                ScheduleError::Never { .. } | ScheduleError::Cron { .. }
            ),
            "{error}"
        );
    }
}
