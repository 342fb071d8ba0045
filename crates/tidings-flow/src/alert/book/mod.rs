//! Which alerts are not over, as a pure machine: a fact or a look and the time go in, what is to be told comes out. No clock, no store, no network.

mod say;
#[cfg(test)]
mod tests;

use super::fact::DeathSeen;
use super::look::{GroupSeen, Seen};
use super::message::{Alert, Stage};
use super::options::AlertOptions;
use super::subject::{Live, Subject};
use say::{Said, Saying};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;
use tidings_core::Timestamp;
use tidings_core::limits::{ALERT_FACT_PATIENCE, ALERT_QUIET_AFTER, ALERTS_MAX};
use tidings_core::store::Backlog;

/// What follows from a step.
#[derive(Debug, Default)]
pub(super) struct Effects {
    /// What is to be told, in this order.
    pub(super) alerts: Vec<Alert>,
    /// Which alerts changed, ended ones included.
    pub(super) changed: BTreeSet<Subject>,
}

/// How a group moved as far as it was seen.
#[derive(Debug, Clone, Copy)]
struct Progress {
    mark: Option<u64>,
    lag: u64,
    age: Duration,
    moved: Timestamp,
}

/// The alerts that are not over.
#[derive(Debug)]
pub(super) struct Book {
    options: AlertOptions,
    alerts: BTreeMap<Subject, Live>,
    /// Of groups that were seen; it begins anew with the process.
    progress: HashMap<String, Progress>,
}

impl Book {
    pub(super) fn new(options: AlertOptions, alerts: BTreeMap<Subject, Live>) -> Self {
        Self {
            options,
            alerts,
            progress: HashMap::new(),
        }
    }

    pub(super) fn get(&self, subject: &Subject) -> Option<&Live> {
        self.alerts.get(subject)
    }

    /// How many are not over.
    pub(super) fn len(&self) -> usize {
        self.alerts.len()
    }

    /// A dead letter was recorded.
    pub(super) fn dead(&mut self, seen: &DeathSeen, now: Timestamp, effects: &mut Effects) {
        let subject = Subject::DeadLetter {
            group: seen.group.clone(),
            cluster: seen.cluster.clone(),
        };
        if !self.alerts.contains_key(&subject) && self.alerts.len() >= ALERTS_MAX {
            self.add_to_many(1, now, effects);
            return;
        }
        let live = self
            .alerts
            .entry(subject.clone())
            .or_insert_with(|| Live::new(now));
        let was_seen = seen.at.map(Timestamp::as_micros) <= live.seen_us;
        if live.seen_us.is_some() && was_seen {
            // A look at the store counted it before its fact came.
            live.sample = Some(seen.sample.clone());
            effects.changed.insert(subject);
            return;
        }
        live.count += 1;
        live.total += 1;
        live.last_us = now.as_micros();
        live.sample = Some(seen.sample.clone());
        effects.changed.insert(subject.clone());
        self.tell_letters(&subject, now, effects);
    }

    /// Time has passed: what was held back for its window is told.
    pub(super) fn tick(&mut self, now: Timestamp, effects: &mut Effects) {
        let waiting: Vec<Subject> = self
            .alerts
            .iter()
            .filter(|(subject, live)| is_of_letters(subject) && live.is_told && live.count > 0)
            .map(|(subject, _)| subject.clone())
            .collect();
        for subject in waiting {
            self.tell_letters(&subject, now, effects);
        }
    }

    /// How long until [`tick`](Self::tick) has something to tell; `None` if nothing is held back.
    pub(super) fn next_tick(&self, now: Timestamp) -> Option<Duration> {
        let waiting = self
            .alerts
            .iter()
            .filter(|(subject, live)| is_of_letters(subject) && live.is_told && live.count > 0);
        let left = |live: &Live| self.options.window.saturating_sub(live.silent_for(now));
        let next = waiting.map(|(_, live)| left(live)).min()?;
        if next.is_zero() {
            // Its window is over and the messages are used up: one of them becomes free when another window is over.
            let told = self.told_in_window(now);
            let freed = told.map(left).filter(|left| !left.is_zero()).min();
            return Some(freed.unwrap_or(Duration::from_secs(1)));
        }
        Some(next)
    }

    /// Something was looked at; the look began at `asked`.
    pub(super) fn look(
        &mut self,
        seen: &Seen,
        asked: Timestamp,
        now: Timestamp,
        effects: &mut Effects,
    ) {
        self.end_letters(seen.backlog.as_ref(), asked, now, effects);
        if let Some(backlog) = &seen.backlog {
            self.find_letters(backlog, asked, now, effects);
        }
        let said = Said::new(&self.options);
        if let Some(groups) = &seen.groups {
            let mut bad = BTreeMap::new();
            for group in groups {
                if let Some(still) = self.still_for(group, now) {
                    let subject = Subject::Stalled {
                        group: group.group.clone(),
                    };
                    bad.insert(subject, said.stalled(group, still));
                }
            }
            self.progress
                .retain(|known, _| groups.iter().any(|group| group.group == *known));
            self.conditions(
                bad,
                |subject| matches!(subject, Subject::Stalled { .. }),
                now,
                effects,
            );
        }
        if let Some(outboxes) = &seen.outboxes {
            let late = outboxes
                .iter()
                .filter(|one| one.pending > 0 && one.oldest_age > self.options.outbox_age);
            let bad = late.map(|one| {
                let subject = Subject::Outbox {
                    outbox: one.outbox.clone(),
                };
                (subject, said.outbox(one))
            });
            let bad = bad.collect();
            self.conditions(
                bad,
                |subject| matches!(subject, Subject::Outbox { .. }),
                now,
                effects,
            );
        }
        if let Some(backlog) = &seen.backlog {
            let limit = self.options.parked_age;
            let late = backlog
                .parked
                .iter()
                .filter(|one| one.oldest_age > limit || one.held_age > limit);
            let bad = late.map(|one| {
                let subject = Subject::Parked {
                    group: one.group.clone(),
                };
                (subject, said.parked(one))
            });
            let bad = bad.collect();
            self.conditions(
                bad,
                |subject| matches!(subject, Subject::Parked { .. }),
                now,
                effects,
            );
        }
    }

    /// Open dead letters of which no fact has come: they were there before the watching began, or their fact is held up.
    fn find_letters(
        &mut self,
        backlog: &Backlog,
        asked: Timestamp,
        now: Timestamp,
        effects: &mut Effects,
    ) {
        for found in &backlog.letters {
            let subject = Subject::DeadLetter {
                group: found.group.clone(),
                cluster: found.cluster.clone(),
            };
            let is_late = found.open > 0 && found.oldest_age >= ALERT_FACT_PATIENCE;
            if !is_late || self.alerts.contains_key(&subject) || self.alerts.len() >= ALERTS_MAX {
                continue;
            }
            let live = Live {
                count: found.open,
                total: found.open,
                seen_us: Some(asked.as_micros()),
                ..Live::new(now)
            };
            self.alerts.insert(subject.clone(), live);
            effects.changed.insert(subject.clone());
            self.tell_letters(&subject, now, effects);
        }
    }

    /// How long a group that is behind has not moved, if that is too long.
    fn still_for(&mut self, group: &GroupSeen, now: Timestamp) -> Option<Duration> {
        if group.group == self.options.watcher {
            return None;
        }
        let first = Progress {
            mark: group.mark,
            lag: group.lag,
            age: group.age,
            moved: group.moved_at.unwrap_or(now),
        };
        let known = self.progress.entry(group.group.clone());
        let progress = known.or_insert(first);
        let has_moved = match group.mark {
            Some(_) => group.mark != progress.mark,
            // Without a mark, what shrinks tells: new events alone make neither the lag nor the age of the oldest smaller.
            None => group.lag < progress.lag || group.age < progress.age,
        };
        if has_moved || group.lag == 0 {
            progress.moved = now;
        }
        if let Some(moved) = group.moved_at {
            progress.moved = progress.moved.max(moved);
        }
        (progress.mark, progress.lag, progress.age) = (group.mark, group.lag, group.age);
        let still = now.since(progress.moved);
        let limit = self.options.stalled_after;
        // A group that was done long ago has just been given something to do: then the event is young.
        let is_old = group.age.is_zero() || group.age >= limit;
        (group.lag > 0 && still >= limit && is_old).then_some(still)
    }

    /// Fires what is bad, reminds of what stays bad, and ends what is not bad any more.
    fn conditions(
        &mut self,
        bad: BTreeMap<Subject, Saying>,
        is_kind: impl Fn(&Subject) -> bool,
        now: Timestamp,
        effects: &mut Effects,
    ) {
        let over: Vec<Subject> = self
            .alerts
            .keys()
            .filter(|subject| is_kind(subject) && !bad.contains_key(subject))
            .cloned()
            .collect();
        for subject in over {
            let saying = Said::new(&self.options).over(&subject);
            self.end(&subject, saying, effects);
        }
        let remind_after = self.options.remind_after;
        for (subject, saying) in bad {
            let is_new = !self.alerts.contains_key(&subject);
            let live = self
                .alerts
                .entry(subject.clone())
                .or_insert_with(|| Live::new(now));
            live.last_us = now.as_micros();
            let is_due = !remind_after.is_zero() && live.silent_for(now) >= remind_after;
            if !is_new && !is_due {
                continue;
            }
            let stage = if is_new {
                Stage::Fired
            } else {
                Stage::Repeated
            };
            live.is_told = true;
            live.sent_us = now.as_micros();
            live.count = saying.count;
            live.total = saying.count;
            effects.alerts.push(alert(&subject, live, stage, saying));
            effects.changed.insert(subject);
        }
    }

    /// Ends alerts of dead letters that are settled, and those of which nothing more was heard.
    fn end_letters(
        &mut self,
        backlog: Option<&Backlog>,
        asked: Timestamp,
        now: Timestamp,
        effects: &mut Effects,
    ) {
        let letters = backlog.map(|backlog| backlog.letters.as_slice());
        let letters = letters.unwrap_or_default();
        let open: HashMap<(&str, &str), u64> = letters
            .iter()
            .map(|one| ((one.group.as_str(), one.cluster.as_str()), one.open))
            .collect();
        let mut over = Vec::new();
        for (subject, live) in &self.alerts {
            let Subject::DeadLetter { group, cluster } = subject else {
                continue;
            };
            let saying = Said::new(&self.options);
            match open.get(&(group.as_str(), cluster.as_str())) {
                // What came after the question is not in the answer.
                Some(0) if live.last_us < asked.as_micros() => {
                    over.push((subject.clone(), saying.settled(group, cluster)));
                }
                Some(_) => {}
                None if now.since(Timestamp::from_micros(live.last_us)) >= ALERT_QUIET_AFTER => {
                    over.push((subject.clone(), saying.quiet(group, cluster)));
                }
                None => {}
            }
        }
        for (subject, saying) in over {
            self.end(&subject, saying, effects);
        }
        let is_untold =
            |(subject, live): (&Subject, &Live)| is_of_letters(subject) && !live.is_told;
        let is_over = self
            .alerts
            .get(&Subject::ManyDeadLetters)
            .is_some_and(|many| many.count == 0 && many.silent_for(now) >= self.options.window);
        if is_over && !self.alerts.iter().any(is_untold) {
            let saying = Said::new(&self.options).over(&Subject::ManyDeadLetters);
            self.end(&Subject::ManyDeadLetters, saying, effects);
        }
    }

    /// Takes an alert away, and tells that it is over if it was ever told.
    fn end(&mut self, subject: &Subject, saying: Saying, effects: &mut Effects) {
        let Some(live) = self.alerts.remove(subject) else {
            return;
        };
        if live.is_told {
            effects
                .alerts
                .push(alert(subject, &live, Stage::Resolved, saying));
        }
        effects.changed.insert(subject.clone());
    }

    /// Tells dead letters of one failure, if its window and the number of messages allow it.
    fn tell_letters(&mut self, subject: &Subject, now: Timestamp, effects: &mut Effects) {
        let window = self.options.window;
        let is_many = *subject == Subject::ManyDeadLetters;
        let has_room =
            is_many || self.told_in_window(now).count() < self.options.messages_per_window;
        let Some(live) = self.alerts.get_mut(subject) else {
            return;
        };
        if live.is_told && live.silent_for(now) < window {
            return;
        }
        if !has_room {
            if !live.is_told {
                let letters = std::mem::take(&mut live.count);
                self.add_to_many(letters, now, effects);
            }
            return;
        }
        let stage = if live.is_told {
            Stage::Repeated
        } else {
            Stage::Fired
        };
        let saying = Said::new(&self.options).letters(subject, live);
        let told = alert(subject, live, stage, saying);
        live.is_told = true;
        live.sent_us = now.as_micros();
        live.count = 0;
        effects.alerts.push(told);
        effects.changed.insert(subject.clone());
    }

    fn add_to_many(&mut self, letters: u64, now: Timestamp, effects: &mut Effects) {
        let many = Subject::ManyDeadLetters;
        let live = self
            .alerts
            .entry(many.clone())
            .or_insert_with(|| Live::new(now));
        live.count += letters;
        live.total += letters;
        live.last_us = now.as_micros();
        effects.changed.insert(many.clone());
        self.tell_letters(&many, now, effects);
    }

    /// Failures whose message was sent within the newest window.
    fn told_in_window(&self, now: Timestamp) -> impl Iterator<Item = &Live> {
        let window = self.options.window;
        self.alerts.iter().filter_map(move |(subject, live)| {
            let counts = matches!(subject, Subject::DeadLetter { .. });
            (counts && live.is_told && live.silent_for(now) < window).then_some(live)
        })
    }
}

/// Which of some facts were counted before, and the oldest that may be forgotten.
#[derive(Debug, Default)]
pub(super) struct Counted {
    order: std::collections::VecDeque<tidings_core::DedupeKey>,
    known: HashSet<tidings_core::DedupeKey>,
}

impl Counted {
    /// Notes a fact; `None` if it was counted before, else what is forgotten for it.
    pub(super) fn note(
        &mut self,
        fact: tidings_core::DedupeKey,
        most: usize,
    ) -> Option<Vec<tidings_core::DedupeKey>> {
        if !self.known.insert(fact) {
            return None;
        }
        self.order.push_back(fact);
        let mut forgotten = Vec::new();
        while self.order.len() > most {
            if let Some(oldest) = self.order.pop_front() {
                self.known.remove(&oldest);
                forgotten.push(oldest);
            }
        }
        Some(forgotten)
    }
}

fn is_of_letters(subject: &Subject) -> bool {
    matches!(
        subject,
        Subject::DeadLetter { .. } | Subject::ManyDeadLetters
    )
}

fn alert(subject: &Subject, live: &Live, stage: Stage, saying: Saying) -> Alert {
    Alert {
        rule: subject.rule(),
        stage,
        subject: subject.to_string(),
        consumer: subject.group().map(str::to_owned),
        cluster: subject.cluster().map(str::to_owned),
        outbox: subject.outbox().map(str::to_owned),
        count: live.count,
        total: live.total,
        since: Timestamp::from_micros(live.fired_us).to_string(),
        sample: live.sample.clone(),
        text: saying.text,
        next: saying.next,
    }
}
