//! `Figures`: what a run of power cuts counted, as a line for people and as one of JSON.

use std::time::Duration;

/// Counted over all cuts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Figures {
    pub(super) cuts: u64,
    /// Cuts of a disk on which the program was just recovering from another one.
    pub(super) cuts_in_recovery: u64,
    /// Receipts that had to be honoured, over all cuts.
    pub(super) acks_checked: u64,
    pub(super) lost: u64,
    pub(super) disordered: u64,
    pub(super) stuck: u64,
    pub(super) damage_reported: u64,
    /// Disks on which one flush failed.
    pub(super) failed_flushes: u64,
    /// Events that a group had to be given after a cut, or had handled before it, over all cuts.
    pub(super) owed: u64,
    /// Of those, handled before and not given again, because the group had settled them.
    pub(super) kept: u64,
    /// Of those, neither handled before nor given after.
    pub(super) skipped: u64,
    /// Settled when a group left in order, and given again.
    pub(super) unsettled: u64,
    /// Disks whose file system could be used only after e2fsck.
    pub(super) repaired: u64,
}

impl Figures {
    pub(super) fn add(&mut self, other: &Figures) {
        self.cuts += other.cuts;
        self.cuts_in_recovery += other.cuts_in_recovery;
        self.acks_checked += other.acks_checked;
        self.lost += other.lost;
        self.disordered += other.disordered;
        self.stuck += other.stuck;
        self.damage_reported += other.damage_reported;
        self.failed_flushes += other.failed_flushes;
        self.owed += other.owed;
        self.kept += other.kept;
        self.skipped += other.skipped;
        self.unsettled += other.unsettled;
        self.repaired += other.repaired;
    }

    pub(super) fn is_clean(&self) -> bool {
        let broken = [
            self.lost,
            self.disordered,
            self.stuck,
            self.skipped,
            self.unsettled,
        ];
        broken.iter().all(|count| *count == 0)
    }

    pub(super) fn line(&self) -> String {
        let Figures {
            cuts,
            acks_checked,
            lost,
            stuck,
            owed,
            skipped,
            ..
        } = self;
        let mut line = format!(
            "powercut: {cuts} cuts, {acks_checked} acks checked, {lost} lost, {owed} events of a group checked, {skipped} skipped, {stuck} folders that need a hand"
        );
        let further = [
            (self.disordered, "doubled, reordered or changed"),
            (self.unsettled, "settled and given again"),
            (self.damage_reported, "reported as damage before opening"),
            (self.repaired, "used after e2fsck"),
            (self.failed_flushes, "disks on which a flush failed"),
        ];
        for (count, what) in further {
            if count > 0 {
                line.push_str(&format!(", {count} {what}"));
            }
        }
        line
    }

    pub(super) fn json(&self, seed: u64, took: Duration) -> String {
        let Figures {
            cuts,
            cuts_in_recovery,
            acks_checked,
            lost,
            disordered,
            stuck,
            damage_reported,
            failed_flushes,
            owed,
            kept,
            skipped,
            unsettled,
            repaired,
        } = self;
        let seconds = took.as_secs_f64();
        format!(
            "{{\"figure\":\"powercut\",\"seed\":{seed},\"cuts\":{cuts},\"cuts_in_recovery\":{cuts_in_recovery},\"acks_checked\":{acks_checked},\"lost\":{lost},\"disordered\":{disordered},\"failed_flushes\":{failed_flushes},\"group_events_checked\":{owed},\"settled_and_kept\":{kept},\"skipped\":{skipped},\"settled_and_given_again\":{unsettled},\"need_a_hand\":{stuck},\"damage_reported\":{damage_reported},\"mounted_after_fsck\":{repaired},\"seconds\":{seconds:.1}}}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clean_run_is_one_short_line() {
        let figures = Figures {
            cuts: 200,
            acks_checked: 9_000,
            owed: 8_000,
            ..Figures::default()
        };

        assert!(figures.is_clean());
        assert_eq!(
            figures.line(),
            "powercut: 200 cuts, 9000 acks checked, 0 lost, 8000 events of a group checked, 0 skipped, 0 folders that need a hand"
        );
    }

    #[test]
    fn whatever_else_is_found_is_named() {
        let figures = Figures {
            disordered: 3,
            ..Figures::default()
        };

        assert!(!figures.is_clean());
        assert!(
            figures
                .line()
                .ends_with(", 3 doubled, reordered or changed")
        );
    }
}
