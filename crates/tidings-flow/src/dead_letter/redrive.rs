//! Handing dead letters back to the groups that gave them up: what would happen, and doing it at a rate, within a limit, watching what becomes of them.
//!
//! A run keeps no state of its own. A letter that was handed back is not open any more, so whoever runs the same command again, after a kill too, goes on with what is
//! left; and a letter that two runs found is handed back by one of them.

use super::decision::{Decided, verdict};
use std::collections::BTreeMap;
use std::time::Duration;
use tidings_core::limits::{
    REDRIVE_BATCH_LETTERS, REDRIVE_OUTSTANDING_MAX, REDRIVE_WATCH_INTERVAL, REDRIVE_WATCH_TIMEOUT,
    REDRIVES_MAX_DEFAULT,
};
use tidings_core::seam::{Chance, Clock};
use tidings_core::store::{
    DeadLetterStore, Letter, LetterFilter, LetterStatus, LetterTally, Operator, RedriveOutcome,
    StoreError, Verdict,
};
use tidings_core::{Timestamp, event_id};

/// How dead letters are handed back.
#[derive(Debug, Clone, PartialEq)]
pub struct RedriveOptions {
    /// Letters a second; as fast as the store takes them unless given.
    pub rate: Option<f64>,
    /// At most so many letters.
    pub limit: Option<u64>,
    /// Stops when a larger share of those that were handled fails again. Few are then under way at a time, and a consumer must be running.
    pub max_failure_ratio: Option<f64>,
    /// A letter that was handed back so often is left alone.
    pub redrives_max: u32,
    /// Hands back also what was handed back too often.
    pub force: bool,
}

impl Default for RedriveOptions {
    fn default() -> Self {
        Self {
            rate: None,
            limit: None,
            max_failure_ratio: None,
            redrives_max: REDRIVES_MAX_DEFAULT,
            force: false,
        }
    }
}

/// What a redrive would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RedrivePlan {
    /// Letters that the filter means.
    pub selected: u64,
    /// Of these, those that would be handed back.
    pub would_redrive: u64,
    /// Those that would not, by reason.
    pub skipped: BTreeMap<String, u64>,
    /// Groups that would get them, each with how many letters are meant there.
    pub groups: BTreeMap<String, u64>,
    /// When the oldest that is meant died.
    pub oldest: Option<Timestamp>,
    /// When the newest died.
    pub newest: Option<Timestamp>,
    /// Those among them that were handed back before.
    pub redriven_before: u64,
}

/// What a redrive did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RedriveReport {
    /// Names the run in the history of each letter.
    pub run: String,
    /// Letters that the filter means: those that were handed back, and those that were not.
    pub selected: u64,
    /// Letters that were handed back: durable, whether a consumer runs or not.
    pub redriven: u64,
    /// Those that were not, by reason.
    pub skipped: BTreeMap<String, u64>,
    /// Why it stopped before the end, if it did.
    pub aborted: Option<String>,
    /// What had become of those handed back when the run ended.
    pub outcome: RedriveOutcome,
}

/// Why letters are left alone that come after so many as were asked for.
const BEYOND_THE_LIMIT: &str = "beyond the limit";
/// Why letters are left alone that come after those at which a run stopped.
const STOPPED_BEFORE: &str = "the run stopped before";

/// The filter with the statuses that a redrive is about: explicit ids mean whatever stands there, everything else what is not done with.
fn meant(filter: &LetterFilter) -> LetterFilter {
    let mut meant = filter.clone();
    if meant.ids.is_empty() && meant.statuses.is_empty() {
        meant.statuses = vec![LetterStatus::Open, LetterStatus::Redriven];
    }
    meant
}

/// Why a letter is left alone; `None` if it is handed back.
fn obstacle(status: LetterStatus, redrives: u32, options: &RedriveOptions) -> Option<String> {
    match status {
        LetterStatus::Open if redrives >= options.redrives_max && !options.force => Some(format!(
            "redriven {redrives} times already, and it died again"
        )),
        LetterStatus::Open => None,
        LetterStatus::Redriven => Some("redriven already, and not handled yet".to_owned()),
        LetterStatus::Resolved => Some("handled already".to_owned()),
        LetterStatus::Discarded => Some("discarded".to_owned()),
        LetterStatus::Edited => Some("an edited copy stands for it".to_owned()),
        other => Some(other.to_string()),
    }
}

/// Says what a redrive would do, and changes nothing.
///
/// **Errors**: the store's.
///
/// **Cancel**: no effect.
pub async fn plan(
    store: &dyn DeadLetterStore,
    filter: &LetterFilter,
    options: &RedriveOptions,
) -> Result<RedrivePlan, StoreError> {
    let filter = meant(filter);
    let limit = options.limit.unwrap_or(u64::MAX);
    let mut whole = RedrivePlan::default();
    for tally in store.tally(&filter, i64::MIN).await? {
        whole.count(tally, options);
    }
    if whole.would_redrive <= limit {
        return Ok(whole);
    }
    // Which ones are within the limit shows when they are looked at in the order of a run.
    let mut plan = RedrivePlan::default();
    let mut after = i64::MIN;
    while plan.would_redrive < limit {
        let page = store.letters(&filter, after, REDRIVE_BATCH_LETTERS).await?;
        if page.is_empty() {
            break;
        }
        for letter in page {
            if plan.would_redrive < limit {
                after = letter.number;
                plan.count(tally_of(letter), options);
            }
        }
    }
    for tally in store.tally(&filter, after).await? {
        plan.selected += tally.count;
        let reason = obstacle(tally.status, tally.redrives, options);
        let reason = reason.unwrap_or_else(|| BEYOND_THE_LIMIT.to_owned());
        *plan.skipped.entry(reason).or_default() += tally.count;
    }
    Ok(plan)
}

impl RedrivePlan {
    /// Counts letters that are within the limit.
    fn count(&mut self, tally: LetterTally, options: &RedriveOptions) {
        self.selected += tally.count;
        if let Some(reason) = obstacle(tally.status, tally.redrives, options) {
            *self.skipped.entry(reason).or_default() += tally.count;
            return;
        }
        self.would_redrive += tally.count;
        *self.groups.entry(tally.group).or_default() += tally.count;
        if tally.redrives > 0 {
            self.redriven_before += tally.count;
        }
        let oldest = self.oldest.unwrap_or(tally.oldest);
        self.oldest = Some(oldest.min(tally.oldest));
        let newest = self.newest.unwrap_or(tally.newest);
        self.newest = Some(newest.max(tally.newest));
    }
}

/// A letter as one of its kind.
fn tally_of(letter: Letter) -> LetterTally {
    LetterTally {
        group: letter.group,
        status: letter.status,
        redrives: letter.redrives,
        count: 1,
        oldest: letter.died,
        newest: letter.died,
    }
}

/// Hands dead letters back, oldest first, telling after each batch how many were handed back so far.
///
/// With a largest share of failures it ends when the last of them is handled, or when nothing becomes of them for [`REDRIVE_WATCH_TIMEOUT`]; otherwise it waits for no consumer.
///
/// **Guarantee**: what is counted as redriven is durable. Each letter is looked at once in a run, also if it dies again meanwhile.
///
/// **Errors**: the store's; what was handed back before stays handed back.
///
/// **Cancel**: as an error.
pub async fn redrive(
    store: &dyn DeadLetterStore,
    filter: &LetterFilter,
    options: &RedriveOptions,
    operator: &Operator,
    seams: (&dyn Clock, &dyn Chance),
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<RedriveReport, StoreError> {
    let (clock, chance) = seams;
    let filter = meant(filter);
    let mut run = Run {
        store,
        clock,
        options,
        operator,
        started: clock.elapsed(),
        report: RedriveReport {
            run: format!("rd-{}", event_id::fresh(clock, chance)),
            ..RedriveReport::default()
        },
    };
    let mut after = i64::MIN;
    loop {
        let page = store.letters(&filter, after, REDRIVE_BATCH_LETTERS).await?;
        let Some(last) = page.last() else { break };
        after = last.number;
        if let Some(reason) = run.page(page, progress).await? {
            let rest = store.tally(&filter, after).await?;
            run.leave(rest, reason);
            break;
        }
    }
    run.see_off().await?;
    let mut report = run.report;
    if report.redriven > 0 {
        report.outcome = store.outcome(&report.run).await?;
    }
    Ok(report)
}

struct Run<'a> {
    store: &'a dyn DeadLetterStore,
    clock: &'a dyn Clock,
    options: &'a RedriveOptions,
    operator: &'a Operator,
    started: Duration,
    report: RedriveReport,
}

impl Run<'_> {
    /// Hands back what of a page can be; answers why the rest is left alone, if it is.
    async fn page(
        &mut self,
        page: Vec<Letter>,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<Option<&'static str>, StoreError> {
        let now = self.clock.now();
        let mut verdicts = Vec::new();
        for letter in &page {
            self.report.selected += 1;
            match obstacle(letter.status, letter.redrives, self.options) {
                Some(reason) => self.skip(reason, 1),
                None => verdicts.push(verdict(letter, Decided::Redriven, self.operator, now)),
            }
        }
        let mut rest = verdicts.as_slice();
        while !rest.is_empty() {
            let (room, reason) = match self.room().await? {
                None => (0, STOPPED_BEFORE),
                Some(room) => (room, BEYOND_THE_LIMIT),
            };
            if room == 0 {
                let left = u64::try_from(rest.len()).unwrap_or(u64::MAX);
                self.skip(reason.to_owned(), left);
                return Ok(Some(reason));
            }
            let (some, others) = rest.split_at(room.min(rest.len()));
            self.hand_back(some).await?;
            progress(self.report.redriven);
            rest = others;
        }
        Ok(None)
    }

    /// Counts the letters behind the last one that was looked at.
    fn leave(&mut self, rest: Vec<LetterTally>, reason: &str) {
        for tally in rest {
            self.report.selected += tally.count;
            let obstacle = obstacle(tally.status, tally.redrives, self.options);
            self.skip(obstacle.unwrap_or_else(|| reason.to_owned()), tally.count);
        }
    }

    /// Waits for the last ones where failures are watched: what becomes of them counts like the others.
    async fn see_off(&mut self) -> Result<(), StoreError> {
        if let Some(ratio) = self.options.max_failure_ratio
            && self.report.redriven > 0
            && self.report.aborted.is_none()
        {
            self.watched(ratio, 1).await?;
        }
        Ok(())
    }

    fn skip(&mut self, reason: String, count: u64) {
        *self.report.skipped.entry(reason).or_default() += count;
    }

    async fn hand_back(&mut self, verdicts: &[Verdict]) -> Result<(), StoreError> {
        let run = &self.report.run;
        let done = self.store.redrive(verdicts, run, self.operator).await?;
        let done = u64::try_from(done.len()).unwrap_or(u64::MAX);
        self.report.redriven += done;
        let asked = u64::try_from(verdicts.len()).unwrap_or(u64::MAX);
        if asked > done {
            let reason = "decided on by somebody else meanwhile".to_owned();
            self.skip(reason, asked - done);
        }
        Ok(())
    }

    /// How many letters may be handed back now, after whatever wait rate and failures ask for; `None` if the run must stop.
    async fn room(&mut self) -> Result<Option<usize>, StoreError> {
        let left = self
            .options
            .limit
            .map_or(u64::MAX, |limit| limit.saturating_sub(self.report.redriven));
        let mut room = usize::try_from(left).unwrap_or(usize::MAX);
        if room == 0 {
            return Ok(Some(0));
        }
        if let Some(ratio) = self.options.max_failure_ratio {
            match self.watched(ratio, REDRIVE_OUTSTANDING_MAX).await? {
                Some(free) => room = room.min(free),
                None => return Ok(None),
            }
        }
        if let Some(rate) = self.options.rate {
            room = room.min(self.paced(rate).await);
        }
        Ok(Some(room))
    }

    /// How many are due by the rate, after the wait for the next one.
    async fn paced(&self, rate: f64) -> usize {
        #[expect(
            clippy::cast_precision_loss,
            reason = "a rate is about, and nobody redrives 2^53 letters"
        )]
        let done = self.report.redriven as f64;
        let seconds = self
            .clock
            .elapsed()
            .saturating_sub(self.started)
            .as_secs_f64();
        let due = 1.0 + seconds * rate - done;
        if due >= 1.0 {
            return whole(due);
        }
        let wait = Duration::try_from_secs_f64((1.0 - due) / rate).unwrap_or(Duration::MAX);
        self.clock.sleep(wait).await;
        1
    }

    /// Room beside those that are under way, of which there may be so many, once there is some; `None` if too many failed, or nothing becomes of them.
    async fn watched(
        &mut self,
        ratio: f64,
        outstanding_max: usize,
    ) -> Result<Option<usize>, StoreError> {
        if self.report.redriven == 0 {
            return Ok(Some(outstanding_max));
        }
        let mut last = self.store.outcome(&self.report.run).await?;
        let mut since = self.clock.elapsed();
        loop {
            if is_over(last, ratio) {
                let RedriveOutcome {
                    resolved, failed, ..
                } = last;
                let handled = resolved + failed;
                let reason = format!(
                    "{failed} of {handled} that were handled failed again, more than the share of {ratio} that was allowed"
                );
                self.report.aborted = Some(reason);
                return Ok(None);
            }
            let waiting = usize::try_from(last.waiting).unwrap_or(usize::MAX);
            if waiting < outstanding_max {
                return Ok(Some(outstanding_max - waiting));
            }
            if self.clock.elapsed().saturating_sub(since) > REDRIVE_WATCH_TIMEOUT {
                let reason = format!(
                    "nothing became of the {waiting} that are handed back within {} s: is the consumer running? Start it, or leave the largest share of failures out, and nobody is waited for",
                    REDRIVE_WATCH_TIMEOUT.as_secs()
                );
                self.report.aborted = Some(reason);
                return Ok(None);
            }
            self.clock.sleep(REDRIVE_WATCH_INTERVAL).await;
            let now = self.store.outcome(&self.report.run).await?;
            if now != last {
                since = self.clock.elapsed();
                last = now;
            }
        }
    }
}

fn is_over(outcome: RedriveOutcome, ratio: f64) -> bool {
    let handled = outcome.resolved + outcome.failed;
    #[expect(
        clippy::cast_precision_loss,
        reason = "a share is about, and nobody redrives 2^53 letters"
    )]
    let share = outcome.failed as f64 / handled.max(1) as f64;
    share > ratio
}

fn whole(due: f64) -> usize {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is at least one, and a cast from a float saturates"
    )]
    let due = due as usize;
    due
}

/// Why a letter is not discarded; `None` if it is.
fn kept(status: LetterStatus, force: bool) -> Option<String> {
    if force && status == LetterStatus::Redriven {
        return None;
    }
    let options = RedriveOptions {
        force: true,
        ..RedriveOptions::default()
    };
    obstacle(status, 0, &options)
}

/// Says what [`discard`] would do, and changes nothing.
///
/// **Errors**: the store's.
///
/// **Cancel**: no effect.
pub async fn plan_discard(
    store: &dyn DeadLetterStore,
    filter: &LetterFilter,
    force: bool,
) -> Result<DiscardReport, StoreError> {
    let mut report = DiscardReport::default();
    for tally in store.tally(&meant(filter), i64::MIN).await? {
        report.selected += tally.count;
        match kept(tally.status, force) {
            None => report.discarded += tally.count,
            Some(reason) => *report.skipped.entry(reason).or_default() += tally.count,
        }
    }
    Ok(report)
}

/// Gives dead letters up for good; what waits behind them goes on. Letters that are handed back and not handled yet are left alone unless forced.
///
/// **Errors**: the store's; what was discarded before stays discarded.
///
/// **Cancel**: as an error.
pub async fn discard(
    store: &dyn DeadLetterStore,
    filter: &LetterFilter,
    force: bool,
    operator: &Operator,
    clock: &dyn Clock,
) -> Result<DiscardReport, StoreError> {
    let filter = meant(filter);
    let mut report = DiscardReport::default();
    let mut after = i64::MIN;
    loop {
        let page = store.letters(&filter, after, REDRIVE_BATCH_LETTERS).await?;
        let Some(last) = page.last() else {
            return Ok(report);
        };
        after = last.number;
        let now = clock.now();
        let mut verdicts = Vec::new();
        for letter in &page {
            report.selected += 1;
            match kept(letter.status, force) {
                None => verdicts.push(verdict(letter, Decided::Discarded, operator, now)),
                Some(reason) => *report.skipped.entry(reason).or_default() += 1,
            }
        }
        if verdicts.is_empty() {
            continue;
        }
        let done = store.discard(&verdicts, operator).await?.len();
        report.discarded += u64::try_from(done).unwrap_or(u64::MAX);
        if verdicts.len() > done {
            let reason = "decided on by somebody else meanwhile".to_owned();
            let count = u64::try_from(verdicts.len() - done).unwrap_or(u64::MAX);
            *report.skipped.entry(reason).or_default() += count;
        }
    }
}

/// What a discard did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiscardReport {
    /// Letters that were looked at.
    pub selected: u64,
    /// Letters that were given up for good.
    pub discarded: u64,
    /// Those that were not, by reason.
    pub skipped: BTreeMap<String, u64>,
}
