//! Decides what becomes of the last segment when a log is opened for writing: what stays, what is written anew, what is an unfinished end, what is damage. Pure: it looks at a survey and touches nothing.

use super::survey::{Stretch, Survey};
use crate::format::frame::FrameKind;

/// What becomes of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Everything before this position is known to have been synced.
    pub synced: u64,
    /// The position that the next event gets.
    pub next: u64,
    /// No later frame may be given an earlier append time.
    pub append_time: i64,
    /// Damage before `synced`: it stays where it is and is told.
    pub damage: Vec<Damage>,
    /// The unfinished end, from one offset to another: it is kept aside and cut.
    pub cut: Option<(u64, u64)>,
    /// Frames that hold and are not known to have been synced, from one offset to another, and the position of the first.
    pub carry: Option<Carry>,
    /// Where the next frame begins, if the segment can be gone on with.
    pub offset: Option<u64>,
}

/// Frames that are to be written anew: the page cache may show what the disk does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Carry {
    pub first: u64,
    pub offset: u64,
    pub end: u64,
}

/// Bytes that were synced once and do not hold any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Damage {
    pub offset: u64,
    pub end: u64,
    /// The positions that are lost; empty if no event was.
    pub lost: std::ops::Range<u64>,
    pub reason: &'static str,
}

/// Everything before this position is known to have been synced: by what the owner said (`told`) and by what later frames say.
pub(crate) fn known_synced(survey: &Survey, first: u64, told: u64) -> u64 {
    let said = survey.frames.iter().map(|frame| frame.synced).max();
    first.max(told).max(said.unwrap_or(0))
}

/// Splits what is bad in a segment into damage and the beginning of the unfinished end.
pub(crate) fn classify(survey: &Survey, synced: u64) -> (Vec<Damage>, Option<&Stretch>) {
    let damage = survey
        .bad
        .iter()
        .take_while(|stretch| !is_tail(stretch, synced));
    let damage = damage.map(|stretch| Damage {
        offset: stretch.offset,
        end: stretch.end,
        lost: stretch.expected..stretch.next.unwrap_or(synced),
        reason: stretch.reason,
    });
    let tail = survey.bad.iter().find(|stretch| is_tail(stretch, synced));
    (damage.collect(), tail)
}

/// Whether a stretch begins the unfinished end. Where the next frame carries on with the same position, only a sync mark is gone: what follows is kept.
fn is_tail(stretch: &Stretch, synced: u64) -> bool {
    stretch.expected >= synced && stretch.next != Some(stretch.expected)
}

/// Decides about the segment that begins at position `first`.
pub(crate) fn plan(survey: &Survey, first: u64, told: u64) -> Plan {
    let synced = known_synced(survey, first, told);
    let (mut damage, tail) = classify(survey, synced);
    let kept = survey
        .frames
        .iter()
        .filter(|frame| tail.is_none_or(|tail| frame.offset < tail.offset));
    let last = kept.clone().next_back();
    let reached = last.map_or(first, |frame| frame.next);
    let cut = tail.map(|tail| (tail.offset, survey.end));
    let ends_in_damage = damage
        .last()
        .is_some_and(|damage| last.is_none_or(|last| damage.offset >= last.end));
    if reached < synced && !ends_in_damage {
        let offset = last.map_or(survey.end, |frame| frame.end);
        damage.push(Damage {
            offset,
            end: offset,
            lost: reached..synced,
            reason: "frames that were synced are missing at the end",
        });
    }
    let mut unsynced = kept
        .clone()
        .filter(|frame| frame.first >= synced && frame.kind == FrameKind::Batch);
    let carry = unsynced.next().map(|frame| Carry {
        first: frame.first,
        offset: frame.offset,
        end: last.map_or(frame.end, |last| last.end),
    });
    let whole = !ends_in_damage && reached >= synced && carry.is_none();
    Plan {
        synced,
        next: reached.max(synced),
        append_time: kept
            .map(|frame| frame.append_time)
            .max()
            .unwrap_or(i64::MIN),
        offset: whole.then(|| cut.map_or(survey.end, |(offset, _)| offset)),
        damage,
        cut,
        carry,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::survey::Seen;

    fn frame(offset: u64, first: u64, count: u64, synced: u64) -> Seen {
        let kind = if count == 0 {
            FrameKind::SyncMark
        } else {
            FrameKind::Batch
        };
        Seen {
            kind,
            offset,
            end: offset + 100,
            first,
            next: first + count,
            synced,
            append_time: offset as i64,
        }
    }

    fn bad(offset: u64, end: u64, expected: u64, next: Option<u64>) -> Stretch {
        Stretch {
            offset,
            end,
            expected,
            next,
            reason: "test",
        }
    }

    #[test]
    fn a_clean_end_is_gone_on_with() {
        let survey = Survey {
            frames: vec![frame(64, 0, 5, 0), frame(164, 5, 0, 5)],
            bad: vec![],
            end: 264,
        };

        let plan = plan(&survey, 0, 0);

        assert_eq!(
            (plan.next, plan.offset, plan.carry, plan.cut),
            (5, Some(264), None, None)
        );
        assert!(plan.damage.is_empty());
    }

    #[test]
    fn a_bad_frame_behind_the_last_synced_position_is_an_unfinished_end() {
        let survey = Survey {
            frames: vec![frame(64, 0, 5, 0)],
            bad: vec![bad(164, 200, 5, None)],
            end: 200,
        };

        let plan = plan(&survey, 0, 5);

        assert_eq!(
            (plan.next, plan.offset, plan.cut),
            (5, Some(164), Some((164, 200)))
        );
        assert!(plan.damage.is_empty());
    }

    #[test]
    fn a_bad_frame_before_a_position_known_synced_is_damage_and_stays() {
        let survey = Survey {
            frames: vec![
                frame(64, 0, 5, 0),
                frame(264, 8, 2, 8),
                frame(364, 10, 0, 10),
            ],
            bad: vec![bad(164, 264, 5, Some(8))],
            end: 464,
        };

        let plan = plan(&survey, 0, 0);

        assert_eq!(
            plan.damage,
            vec![Damage {
                offset: 164,
                end: 264,
                lost: 5..8,
                reason: "test"
            }]
        );
        assert_eq!(
            (plan.next, plan.offset, plan.cut, plan.carry),
            (10, Some(464), None, None)
        );
    }

    #[test]
    fn frames_not_known_to_be_synced_are_written_anew() {
        let survey = Survey {
            frames: vec![frame(64, 0, 5, 0), frame(164, 5, 2, 5), frame(264, 7, 1, 5)],
            bad: vec![],
            end: 364,
        };

        let plan = plan(&survey, 0, 0);

        assert_eq!(
            plan.carry,
            Some(Carry {
                first: 5,
                offset: 164,
                end: 364
            })
        );
        assert_eq!((plan.synced, plan.next, plan.offset), (5, 8, None));
    }

    #[test]
    fn an_end_that_was_synced_and_is_gone_is_damage_and_its_positions_are_not_used_again() {
        for bad in [vec![], vec![bad(164, 200, 5, None)]] {
            let survey = Survey {
                frames: vec![frame(64, 0, 5, 0)],
                bad,
                end: 200,
            };

            let plan = plan(&survey, 0, 9);

            assert_eq!(plan.damage.len(), 1);
            assert_eq!(plan.damage[0].lost, 5..9);
            assert_eq!((plan.next, plan.offset, plan.cut), (9, None, None));
        }
    }

    #[test]
    fn frames_behind_a_lost_sync_mark_are_kept() {
        let survey = Survey {
            frames: vec![frame(64, 0, 5, 0), frame(264, 5, 2, 5)],
            bad: vec![bad(164, 264, 5, Some(5))],
            end: 364,
        };

        let plan = plan(&survey, 0, 0);

        assert_eq!((plan.next, plan.cut), (7, None));
        assert_eq!(plan.carry.map(|carry| carry.first), Some(5));
        assert!(plan.damage[0].lost.is_empty());
    }

    #[test]
    fn what_follows_the_first_bad_frame_of_the_unfinished_end_is_cut_with_it() {
        let survey = Survey {
            frames: vec![frame(64, 0, 5, 0), frame(264, 6, 2, 5)],
            bad: vec![bad(164, 264, 5, Some(6))],
            end: 364,
        };

        let plan = plan(&survey, 0, 0);

        assert_eq!(
            (plan.next, plan.cut, plan.carry),
            (5, Some((164, 364)), None)
        );
    }
}
