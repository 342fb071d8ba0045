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
    /// Disks whose file system could be mounted only after e2fsck.
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
        self.repaired += other.repaired;
    }

    pub(super) fn is_clean(&self) -> bool {
        self.lost == 0 && self.disordered == 0 && self.stuck == 0
    }

    pub(super) fn line(&self) -> String {
        let Figures {
            cuts,
            acks_checked,
            lost,
            stuck,
            ..
        } = self;
        let mut line = format!(
            "powercut: {cuts} cuts, {acks_checked} acks checked, {lost} lost, {stuck} folders that need a hand"
        );
        let further = [
            (self.disordered, "doubled, reordered or changed"),
            (self.damage_reported, "reported as damage before opening"),
            (self.repaired, "mounted after e2fsck"),
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
            repaired,
        } = self;
        let seconds = took.as_secs_f64();
        format!(
            "{{\"figure\":\"powercut\",\"seed\":{seed},\"cuts\":{cuts},\"cuts_in_recovery\":{cuts_in_recovery},\"acks_checked\":{acks_checked},\"lost\":{lost},\"disordered\":{disordered},\"need_a_hand\":{stuck},\"damage_reported\":{damage_reported},\"mounted_after_fsck\":{repaired},\"seconds\":{seconds:.1}}}"
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
            ..Figures::default()
        };

        assert!(figures.is_clean());
        assert_eq!(
            figures.line(),
            "powercut: 200 cuts, 9000 acks checked, 0 lost, 0 folders that need a hand"
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
