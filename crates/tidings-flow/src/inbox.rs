//! The inbox's memory: how long it lasts, and that it is never shorter than what can still be delivered again.
//!
//! The row itself is written by the handler's transaction; here is its end. Time is counted by the progress of each group, not by the wall clock: of a group that stood still for a month
//! nothing is forgotten before it goes on, because what it had not settled then is delivered again now.
//!
//! **Source**: seed concept *idempotent consumer*.

use crate::runtime::Tasks;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tidings_core::Timestamp;
use tidings_core::limits::{
    INBOX_FORGET_ROWS, INBOX_KEEP_DEFAULT, INBOX_REDELIVERY_DEFAULT, INBOX_ROWS_DEFAULT,
    INBOX_UPKEEP_INTERVAL,
};
use tidings_core::seam::Clock;
use tidings_core::store::{InboxStatus, InboxStore, StoreError};

/// How long an inbox remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InboxRetention {
    /// An event is remembered for so long after it was handled.
    pub keep: Duration,
    /// Events remembered of one group; beyond that the oldest are forgotten before `keep` is over.
    pub rows_max: u64,
    /// For so long after it was handled an event may still be delivered again: the longest of what the broker keeps, what a relay may send twice after an outage, and the time within which people
    /// redrive dead letters.
    pub redelivered_within: Duration,
    /// Whether `keep` and `rows_max` count even where they are shorter than `redelivered_within`. Then a late delivery is handled a second time.
    pub forget_early: bool,
}

impl Default for InboxRetention {
    fn default() -> Self {
        Self {
            keep: INBOX_KEEP_DEFAULT,
            rows_max: INBOX_ROWS_DEFAULT,
            redelivered_within: INBOX_REDELIVERY_DEFAULT,
            forget_early: false,
        }
    }
}

impl InboxRetention {
    /// What remembers as much as both.
    fn or_longer(&self, other: &Self) -> Self {
        Self {
            keep: self.keep.max(other.keep),
            rows_max: self.rows_max.max(other.rows_max),
            redelivered_within: self.redelivered_within.max(other.redelivered_within),
            forget_early: self.forget_early && other.forget_early,
        }
    }
}

/// Why an inbox forgets too early, or would if it did as it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum InboxWarning {
    /// What is to be kept is shorter than what can be delivered again.
    TooShort {
        /// The inbox.
        inbox: String,
        /// What it is told to keep.
        keep: Duration,
        /// What can be delivered again.
        redelivered_within: Duration,
        /// Whether it does as it is told.
        forget_early: bool,
    },
    /// A group has more rows than allowed, all of which can be delivered again.
    TooLarge {
        /// The inbox.
        inbox: String,
        /// The group.
        group: String,
        /// Its rows.
        rows: u64,
        /// The limit.
        rows_max: u64,
        /// Whether the oldest are forgotten all the same.
        forget_early: bool,
    },
}

impl fmt::Display for InboxWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let consequence = |forget_early: &bool| match forget_early {
            true => "a late delivery will be handled a second time",
            false => "it keeps them all the same",
        };
        match self {
            Self::TooShort {
                inbox,
                keep,
                redelivered_within,
                forget_early,
            } => write!(
                f,
                "the inbox {inbox} is told to keep events for {keep:?}, but they can be delivered again within {redelivered_within:?}; {}; raise keep, or lower redelivered_within if that is what broker, relay and redrives really need",
                consequence(forget_early)
            ),
            Self::TooLarge {
                inbox,
                group,
                rows,
                rows_max,
                forget_early,
            } => write!(
                f,
                "the inbox {inbox} remembers {rows} events of the group {group:?}, its limit is {rows_max}, and the oldest beyond it can still be delivered again; {}; raise rows_max, or lower redelivered_within",
                consequence(forget_early)
            ),
        }
    }
}

/// What is to be forgotten of one group.
#[derive(Debug, Clone, PartialEq, Eq)]
struct GroupPlan {
    /// What was handled before is too old.
    old_before: Timestamp,
    /// Rows beyond the limit.
    excess: u64,
    /// Of those only what was handled before may go.
    excess_before: Timestamp,
    /// Whether that is something which can be delivered again.
    excess_is_young: bool,
}

/// Decides what to forget of a group. Pure.
fn plan(status: &InboxStatus, retention: &InboxRetention, now: Timestamp) -> GroupPlan {
    let floor = match retention.forget_early {
        true => Duration::ZERO,
        false => retention.redelivered_within,
    };
    // What a group that stands still has not settled is delivered again when it goes on, however late that is.
    let progress = status.newest.min(now);
    GroupPlan {
        old_before: progress.minus(retention.keep.max(floor)),
        excess: status.rows.saturating_sub(retention.rows_max),
        excess_before: progress.minus(floor),
        excess_is_young: status.oldest >= progress.minus(retention.redelivered_within),
    }
}

/// What is wrong with an inbox, or would be if it did as it is told: its settings, then each group. Pure.
pub fn warnings(
    inbox: &str,
    status: &[InboxStatus],
    retention: &InboxRetention,
    now: Timestamp,
) -> Vec<InboxWarning> {
    let of_group = |status: &InboxStatus| {
        let plan = plan(status, retention, now);
        (plan.excess > 0 && plan.excess_is_young)
            .then(|| too_large(inbox, &status.group, status.rows, retention))
    };
    let settings = warning_of_settings(inbox, retention).into_iter();
    settings.chain(status.iter().filter_map(of_group)).collect()
}

fn too_large(inbox: &str, group: &str, rows: u64, retention: &InboxRetention) -> InboxWarning {
    InboxWarning::TooLarge {
        inbox: inbox.to_owned(),
        group: group.to_owned(),
        rows,
        rows_max: retention.rows_max,
        forget_early: retention.forget_early,
    }
}

/// What is wrong with the settings, whatever the inbox holds.
fn warning_of_settings(inbox: &str, retention: &InboxRetention) -> Option<InboxWarning> {
    (retention.keep < retention.redelivered_within).then(|| InboxWarning::TooShort {
        inbox: inbox.to_owned(),
        keep: retention.keep,
        redelivered_within: retention.redelivered_within,
        forget_early: retention.forget_early,
    })
}

/// What one look after an inbox did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InboxUpkeep {
    /// Rows that were forgotten.
    pub forgotten: u64,
    /// What is wrong with its settings.
    pub warnings: Vec<InboxWarning>,
}

/// Looks after an inbox once: forgets what need not be remembered, in small statements that hold nobody up.
///
/// **Errors**: the store's; what was forgotten so far stays forgotten.
///
/// **Cancel**: as an error.
pub async fn look_after(
    store: &dyn InboxStore,
    retention: &InboxRetention,
    now: Timestamp,
) -> Result<InboxUpkeep, StoreError> {
    let mut upkeep = InboxUpkeep {
        forgotten: 0,
        warnings: warning_of_settings(store.name(), retention)
            .into_iter()
            .collect(),
    };
    for status in store.status().await? {
        let (forgotten, warning) = look_after_group(store, &status, retention, now).await?;
        upkeep.forgotten += forgotten;
        upkeep.warnings.extend(warning);
    }
    Ok(upkeep)
}

/// Looks after one group of an inbox, as [`look_after`] does after all of them: answers the rows that were forgotten, and what is wrong with the group.
///
/// **Errors**, **Cancel**: as [`look_after`].
pub async fn look_after_group(
    store: &dyn InboxStore,
    status: &InboxStatus,
    retention: &InboxRetention,
    now: Timestamp,
) -> Result<(u64, Option<InboxWarning>), StoreError> {
    let (group, plan) = (&status.group, plan(status, retention, now));
    let old = forget(store, group, plan.old_before, status.rows).await?;
    let excess = plan.excess.saturating_sub(old);
    let gone = forget(store, group, plan.excess_before, excess).await?;
    let forgotten = old + gone;
    let is_wrong = gone < excess || (excess > 0 && plan.excess_is_young);
    let rows = status.rows.saturating_sub(forgotten);
    let warning = is_wrong.then(|| too_large(store.name(), group, rows, retention));
    Ok((forgotten, warning))
}

/// Forgets up to so many rows of a group, and answers how many there were.
async fn forget(
    store: &dyn InboxStore,
    group: &str,
    before: Timestamp,
    rows: u64,
) -> Result<u64, StoreError> {
    let mut left = rows;
    while left > 0 {
        let limit = u32::try_from(left)
            .unwrap_or(u32::MAX)
            .min(INBOX_FORGET_ROWS);
        let gone = store.forget(group, before, limit).await?;
        left = left.saturating_sub(gone);
        if gone < u64::from(limit) {
            break;
        }
    }
    Ok(rows - left)
}

/// Looks after an inbox for as long as it lives.
///
/// **Guarantee**: a group that it was not told of forgets nothing: who runs it elsewhere may have been told to remember it for longer.
#[derive(Debug)]
pub struct InboxKeeper {
    /// How long each group remembers; guarded to add a group, or to look at all of them.
    groups: Groups,
    inbox: String,
    _tasks: Tasks<()>,
}

type Groups = Arc<Mutex<HashMap<String, InboxRetention>>>;

impl InboxKeeper {
    /// Begins to look after an inbox: after [`INBOX_UPKEEP_INTERVAL`], and then again and again. Warnings go to `tracing`. Needs a tokio runtime.
    ///
    /// The first look comes late on purpose: what is delivered again after a restart has been by then.
    pub fn start(store: Arc<dyn InboxStore>, clock: Arc<dyn Clock>) -> Self {
        let groups = Groups::default();
        let inbox = store.name().to_owned();
        let mut tasks = Tasks::new();
        let told = Arc::clone(&groups);
        tasks.spawn(async move {
            loop {
                clock.sleep(INBOX_UPKEEP_INTERVAL).await;
                let groups = lock(&told).clone();
                match look_after_groups(&*store, &groups, clock.now()).await {
                    Ok(warnings) => tell(&warnings),
                    // It is looked after again soon; until then it only grows.
                    Err(error) => tracing::warn!(inbox = store.name(), %error, "not looked after"),
                }
            }
        });
        Self {
            groups,
            inbox,
            _tasks: tasks,
        }
    }

    /// Looks after a group as well. Of two settings for one group, in each point the one that remembers more counts.
    pub fn keep(&self, group: &str, retention: InboxRetention) {
        tell(warning_of_settings(&self.inbox, &retention).as_slice());
        let mut groups = lock(&self.groups);
        let kept = groups.entry(group.to_owned()).or_insert(retention);
        *kept = kept.or_longer(&retention);
    }
}

fn lock(groups: &Groups) -> MutexGuard<'_, HashMap<String, InboxRetention>> {
    groups.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Looks once after the groups of an inbox, each by its own setting, and answers what is wrong.
async fn look_after_groups(
    store: &dyn InboxStore,
    groups: &HashMap<String, InboxRetention>,
    now: Timestamp,
) -> Result<Vec<InboxWarning>, StoreError> {
    let mut warnings = Vec::new();
    for status in store.status().await? {
        if let Some(retention) = groups.get(&status.group) {
            warnings.extend(warning_of_settings(store.name(), retention));
            let (_, warning) = look_after_group(store, &status, retention, now).await?;
            warnings.extend(warning);
        }
    }
    Ok(warnings)
}

fn tell(warnings: &[InboxWarning]) {
    for warning in warnings {
        tracing::warn!("{warning}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidings_core::BoxFuture;

    const DAY: Duration = Duration::from_secs(86_400);
    const NOW: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

    /// When events of one group were handled.
    struct Rows(Mutex<Vec<Timestamp>>);

    impl Rows {
        fn days_ago(days: impl IntoIterator<Item = u32>) -> Self {
            let mut rows: Vec<_> = days.into_iter().map(|days| NOW.minus(DAY * days)).collect();
            rows.sort();
            Self(Mutex::new(rows))
        }

        fn left(&self) -> usize {
            self.0.lock().unwrap().len()
        }
    }

    impl InboxStore for Rows {
        fn name(&self) -> &str {
            "test inbox"
        }

        fn status(&self) -> BoxFuture<'_, Result<Vec<InboxStatus>, StoreError>> {
            Box::pin(async {
                let rows = self.0.lock().unwrap();
                let (Some(oldest), Some(newest)) = (rows.first(), rows.last()) else {
                    return Ok(Vec::new());
                };
                Ok(vec![InboxStatus {
                    group: "billing".to_owned(),
                    rows: rows.len() as u64,
                    oldest: *oldest,
                    newest: *newest,
                }])
            })
        }

        fn forget<'a>(
            &'a self,
            group: &'a str,
            before: Timestamp,
            limit: u32,
        ) -> BoxFuture<'a, Result<u64, StoreError>> {
            Box::pin(async move {
                assert_eq!(group, "billing");
                assert!(limit <= INBOX_FORGET_ROWS, "{limit}");
                let mut rows = self.0.lock().unwrap();
                let old = rows.iter().filter(|row| **row < before).count();
                let gone = old.min(limit as usize);
                rows.drain(..gone);
                Ok(gone as u64)
            })
        }
    }

    fn keeping(keep_days: u32, redelivered_days: u32) -> InboxRetention {
        InboxRetention {
            keep: DAY * keep_days,
            redelivered_within: DAY * redelivered_days,
            ..InboxRetention::default()
        }
    }

    async fn after(rows: &Rows, retention: &InboxRetention) -> InboxUpkeep {
        look_after(rows, retention, NOW).await.unwrap()
    }

    #[tokio::test]
    async fn what_is_older_than_the_time_to_keep_is_forgotten() {
        let rows = Rows::days_ago((0..2_500).map(|number| number % 20));

        let upkeep = after(&rows, &keeping(10, 5)).await;

        assert_eq!((upkeep.forgotten, rows.left()), (1_125, 1_375));
        assert_eq!(upkeep.warnings, []);
    }

    #[tokio::test]
    async fn a_time_shorter_than_what_can_be_delivered_again_is_not_believed_and_warned_of() {
        let rows = Rows::days_ago(0..20);

        let upkeep = after(&rows, &keeping(2, 7)).await;

        assert_eq!(rows.left(), 8);
        let [warning] = &upkeep.warnings[..] else {
            panic!("{:?}", upkeep.warnings);
        };
        let text = warning.to_string();
        assert!(text.contains("keeps them all the same"), "{text}");
        assert!(text.contains("raise keep"), "{text}");
    }

    #[tokio::test]
    async fn who_insists_forgets_early_and_is_warned() {
        let rows = Rows::days_ago(0..20);
        let retention = InboxRetention {
            forget_early: true,
            ..keeping(2, 7)
        };

        let upkeep = after(&rows, &retention).await;

        assert_eq!(rows.left(), 3);
        let text = upkeep.warnings[0].to_string();
        assert!(text.contains("handled a second time"), "{text}");
    }

    #[tokio::test]
    async fn beyond_its_size_the_oldest_go_but_none_that_can_be_delivered_again() {
        let rows = Rows::days_ago(0..20);
        let mut retention = keeping(30, 7);
        retention.rows_max = 15;
        let upkeep = after(&rows, &retention).await;
        assert_eq!((rows.left(), upkeep.warnings.len()), (15, 0));

        retention.rows_max = 4;
        let status = rows.status().await.unwrap();
        let told = warnings("test inbox", &status, &retention, NOW);
        assert!(told.is_empty(), "the oldest of them may go: {told:?}");
        let upkeep = after(&rows, &retention).await;
        assert_eq!(rows.left(), 8);
        let text = upkeep.warnings[0].to_string();
        assert!(text.contains("remembers 8 events"), "{text}");
        let status = rows.status().await.unwrap();
        let told = warnings("test inbox", &status, &keeping(2, 7), NOW);
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(warnings("test inbox", &status, &retention, NOW).len(), 1);
    }

    #[tokio::test]
    async fn a_group_that_nobody_told_of_forgets_nothing() {
        let rows = Rows::days_ago(0..20);
        let mut groups = HashMap::from([("shipping".to_owned(), keeping(2, 1))]);

        look_after_groups(&rows, &groups, NOW).await.unwrap();
        assert_eq!(rows.left(), 20);

        groups.insert("billing".to_owned(), keeping(10, 5));
        look_after_groups(&rows, &groups, NOW).await.unwrap();
        assert_eq!(rows.left(), 11);
    }

    #[test]
    fn of_two_settings_for_a_group_each_point_is_the_one_that_remembers_more() {
        let (long, many) = (
            keeping(30, 2),
            InboxRetention {
                rows_max: u64::MAX,
                forget_early: true,
                ..keeping(2, 7)
            },
        );

        let both = long.or_longer(&many);

        let wanted = InboxRetention {
            rows_max: u64::MAX,
            ..keeping(30, 7)
        };
        assert_eq!(both, wanted);
        assert_eq!(many.or_longer(&long), wanted);
    }

    #[tokio::test]
    async fn a_group_that_stood_still_forgets_nothing_by_the_wall_clock() {
        let rows = Rows::days_ago(100..110);

        let upkeep = after(&rows, &keeping(14, 7)).await;

        assert_eq!((upkeep.forgotten, rows.left()), (0, 10));
    }

    #[tokio::test]
    async fn a_keeper_looks_after_its_inbox_again_and_again() {
        let clock = crate::fakes::ManualClock::new();
        let rows = Arc::new(Rows(Mutex::new(Vec::new())));
        let store = Arc::clone(&rows);
        let keeper = InboxKeeper::start(store, Arc::clone(&clock) as _);
        keeper.keep("billing", keeping(1, 1));
        for _ in 0..3 {
            *rows.0.lock().unwrap() = vec![clock.now().minus(DAY * 2), clock.now()];

            while rows.left() == 2 {
                tokio::task::yield_now().await;
                clock.advance(INBOX_UPKEEP_INTERVAL / 10);
            }
        }
    }
}
