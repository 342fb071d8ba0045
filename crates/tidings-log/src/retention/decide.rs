//! Decides what retention removes. Pure: it is given what is there and touches nothing.

use super::rule::Retention;
use std::time::Duration;
use tidings_core::Timestamp;
use tidings_core::broker::LossAhead;
use tidings_core::limits::{CLOCK_JUMP, CLOCK_JUMP_SETTLES};

/// A segment as retention sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kept {
    pub first: u64,
    pub bytes: u64,
    /// Nothing in it was appended later, in microseconds; `None` if that is not known, and then it is not removed for its age.
    pub newest: Option<i64>,
}

/// A group as retention sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Standing {
    pub name: String,
    /// The first position that it has not settled.
    pub position: u64,
    /// Whether retention waits for it.
    pub holds: bool,
}

/// What is to be removed, and whom that concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decision {
    /// Everything before this position goes; it is where a segment begins.
    pub first: u64,
    /// The slowest group that keeps segments which would go otherwise.
    pub held: Option<String>,
    /// Groups that lose events.
    pub passed: Vec<String>,
}

/// Decides what goes from `segments`, which are in order; the last one is written and stays.
pub(crate) fn decide(
    rule: &Retention,
    segments: &[Kept],
    groups: &[Standing],
    now: Timestamp,
) -> Decision {
    let begin = segments.first().map_or(0, |segment| segment.first);
    let mut bytes: u64 = segments.iter().map(|segment| segment.bytes).sum();
    let mut wanted = begin;
    for pair in segments.windows(2) {
        let [oldest, next] = pair else { break };
        let too_many = rule.bytes_max.is_some_and(|max| bytes > max);
        if !too_many && !is_old(rule, oldest, now) {
            break;
        }
        bytes -= oldest.bytes;
        wanted = next.first;
    }
    let holding = groups.iter().filter(|group| group.holds);
    let slowest = holding.min_by_key(|group| group.position);
    let hold = slowest.map_or(u64::MAX, |group| group.position);
    let boundaries = segments.iter().map(|segment| segment.first);
    let allowed = boundaries.filter(|first| *first <= hold).max();
    let first = wanted.min(allowed.unwrap_or(begin));
    let passed = groups
        .iter()
        .filter(|group| group.position < first && first > begin);
    Decision {
        first,
        held: slowest
            .filter(|_| first < wanted)
            .map(|group| group.name.clone()),
        passed: passed.map(|group| group.name.clone()).collect(),
    }
}

fn is_old(rule: &Retention, segment: &Kept, now: Timestamp) -> bool {
    match (rule.age_max, segment.newest) {
        (Some(max), Some(newest)) => now.since(Timestamp::from_micros(newest)) > max,
        _ => false,
    }
}

/// How near retention is to the event at `position`, as things stand, where it does not wait for whoever needs it. `not_before` is how long it waits all the same.
pub(crate) fn loss_ahead(
    rule: &Retention,
    segments: &[Kept],
    position: u64,
    now: Timestamp,
    not_before: Duration,
) -> Option<LossAhead> {
    let at = segments
        .partition_point(|segment| segment.first <= position)
        .checked_sub(1)?;
    let segment = segments.get(at)?;
    // The segment that is written becomes old like the others once it is closed.
    let newest = segment.newest.unwrap_or(now.as_micros());
    let age = now.since(Timestamp::from_micros(newest));
    let within = rule
        .age_max
        .map(|max| max.saturating_sub(age).max(not_before));
    let behind: u64 = segments.iter().skip(at).map(|segment| segment.bytes).sum();
    let bytes_left = rule.bytes_max.map(|max| max.saturating_sub(behind));
    let near_in_time = rule
        .age_max
        .zip(within)
        .is_some_and(|(max, within)| within < max / 4);
    let near_in_bytes = rule
        .bytes_max
        .zip(bytes_left)
        .is_some_and(|(max, left)| left < max / 4 && not_before.is_zero());
    Some(LossAhead {
        within,
        bytes_left,
        is_near: near_in_time || near_in_bytes,
    })
}

/// The time that retention goes by: the wall clock, but a jump forward counts only once the clock has stood by it for [`CLOCK_JUMP_SETTLES`]. A jump back counts at once, for it keeps more.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SteadyTime {
    wall: Timestamp,
    elapsed: Duration,
    /// When a jump forward was first seen.
    jumped: Option<Duration>,
}

impl SteadyTime {
    /// What the wall clock says when a log is opened is believed.
    pub(crate) fn new(wall: Timestamp, elapsed: Duration) -> Self {
        Self {
            wall,
            elapsed,
            jumped: None,
        }
    }

    /// The time to go by now.
    pub(crate) fn at(&mut self, wall: Timestamp, elapsed: Duration) -> Timestamp {
        let expected = self.wall.plus(elapsed.saturating_sub(self.elapsed));
        if wall.since(expected) > CLOCK_JUMP {
            let jumped = *self.jumped.get_or_insert_with(|| {
                tracing::warn!(%wall, %expected, "the clock jumped forward; retention goes by it only once it has stood by that for {CLOCK_JUMP_SETTLES:?}");
                elapsed
            });
            if elapsed.saturating_sub(jumped) < CLOCK_JUMP_SETTLES {
                return expected;
            }
        }
        *self = Self::new(wall, elapsed);
        wall
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retention::rule::HeldBy;
    use proptest::prelude::*;

    const SECOND: i64 = 1_000_000;

    fn segment(first: u64, bytes: u64, newest: i64) -> Kept {
        Kept {
            first,
            bytes,
            newest: Some(newest * SECOND),
        }
    }

    fn group(position: u64, holds: bool) -> Standing {
        Standing {
            name: format!("g{position}"),
            position,
            holds,
        }
    }

    fn seconds(age: u64) -> Retention {
        Retention {
            age_max: Some(Duration::from_secs(age)),
            ..Retention::default()
        }
    }

    fn bytes(max: u64) -> Retention {
        Retention {
            bytes_max: Some(max),
            ..Retention::default()
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_micros(second * SECOND)
    }

    #[test]
    fn old_segments_go_and_the_one_being_written_stays() {
        let segments = [
            segment(0, 10, 100),
            segment(5, 10, 200),
            segment(9, 10, 300),
        ];

        let first = |rule: Retention, now| decide(&rule, &segments, &[], at(now)).first;

        assert_eq!(first(Retention::default(), 9_999), 0);
        assert_eq!(first(seconds(50), 150), 0);
        assert_eq!(first(seconds(50), 151), 5);
        assert_eq!(first(seconds(50), 9_999), 9);
        assert_eq!(first(bytes(30), 0), 0);
        assert_eq!(first(bytes(29), 0), 5);
        assert_eq!(first(bytes(0), 0), 9);
    }

    #[test]
    fn a_segment_of_unknown_age_is_kept() {
        let mut segments = [segment(0, 10, 100), segment(5, 10, 200)];
        segments[0].newest = None;

        assert_eq!(decide(&seconds(1), &segments, &[], at(9_999)).first, 0);
    }

    #[test]
    fn the_slowest_group_that_holds_is_never_passed_and_is_named() {
        let segments = [segment(0, 10, 1), segment(5, 10, 2), segment(9, 10, 3)];

        let decided = decide(
            &seconds(1),
            &segments,
            &[group(8, true), group(3, false)],
            at(99),
        );

        assert_eq!(decided.first, 5);
        assert_eq!(decided.held.as_deref(), Some("g8"));
        assert_eq!(decided.passed, ["g3"]);
    }

    #[test]
    fn a_group_learns_how_near_its_loss_is() {
        let rule = Retention {
            held_by: HeldBy::NoGroup,
            bytes_max: Some(100),
            ..seconds(100)
        };
        let segments = [
            segment(0, 40, 100),
            segment(5, 40, 200),
            segment(9, 10, 300),
        ];

        let loss = loss_ahead(&rule, &segments, 6, at(210), Duration::ZERO).unwrap();

        assert_eq!(loss.within, Some(Duration::from_secs(90)));
        assert_eq!(loss.bytes_left, Some(50));
        assert!(!loss.is_near);
        let late = loss_ahead(&rule, &segments, 6, at(290), Duration::ZERO).unwrap();
        assert!(late.is_near && late.within == Some(Duration::from_secs(10)));
    }

    #[test]
    fn a_jump_forward_counts_only_once_it_has_stood_and_a_jump_back_at_once() {
        let day = 86_400;
        let passed = |seconds: u64| Duration::from_secs(seconds);
        let mut time = SteadyTime::new(at(0), passed(0));

        assert_eq!(time.at(at(60), passed(60)), at(60));
        assert_eq!(time.at(at(day + 61), passed(61)), at(61));
        assert_eq!(time.at(at(120), passed(120)), at(120), "it went back");
        assert_eq!(time.at(at(day + 180), passed(180)), at(180));
        assert_eq!(time.at(at(day + 1_000), passed(1_000)), at(1_000));
        let settled = 180 + CLOCK_JUMP_SETTLES.as_secs();
        assert_eq!(
            time.at(at(day + settled as i64), passed(settled)),
            at(day + settled as i64)
        );
        assert_eq!(time.at(at(-day), passed(settled + 1)), at(-day));
    }

    proptest! {
        #[test]
        fn what_goes_is_a_prefix_that_no_holding_group_needs(
            lengths in prop::collection::vec((1_u64..9, 0_u64..50, 0_i64..100), 1..8),
            groups in prop::collection::vec((0_u64..60, any::<bool>()), 0..5),
            age in prop::option::of(0_u64..120),
            bytes in prop::option::of(0_u64..200),
            now in 0_i64..200,
        ) {
            let (mut first, mut newest) = (0, 0);
            let segments: Vec<Kept> = lengths.iter().map(|(events, bytes, later)| {
                newest += later;
                let segment = segment(first, *bytes, newest);
                first += events;
                segment
            }).collect();
            let groups: Vec<Standing> = groups.into_iter().map(|(position, holds)| group(position, holds)).collect();
            let rule = Retention { age_max: age.map(Duration::from_secs), bytes_max: bytes, ..Retention::default() };

            let decided = decide(&rule, &segments, &groups, at(now));

            let place = segments.iter().position(|segment| segment.first == decided.first);
            prop_assert!(place.is_some(), "not where a segment begins");
            let place = place.unwrap();
            for held in groups.iter().filter(|group| group.holds) {
                prop_assert!(place == 0 || held.position >= decided.first);
            }
            // Each that went had to: the log was too large with it, or it was too old.
            for (at_segment, gone) in segments[..place].iter().enumerate() {
                let with_it: u64 = segments[at_segment..].iter().map(|segment| segment.bytes).sum();
                let old = age.is_some_and(|age| at(now).since(Timestamp::from_micros(gone.newest.unwrap())) > Duration::from_secs(age));
                prop_assert!(old || bytes.is_some_and(|max| with_it > max));
            }
            // What stays could not go: it need not, or somebody holds it.
            if decided.held.is_none() && place + 1 < segments.len() {
                let left: u64 = segments[place..].iter().map(|segment| segment.bytes).sum();
                let old = age.is_some_and(|age| at(now).since(Timestamp::from_micros(segments[place].newest.unwrap())) > Duration::from_secs(age));
                prop_assert!(!old && bytes.is_none_or(|max| left <= max));
            }
        }
    }
}
