//! Retention: whole segments are removed from the head of the log, by age and by size, for the groups' sake no earlier than the rule allows.

pub(crate) mod decide;
pub(crate) mod rule;

use crate::files::{failed, read_whole, write_whole};
use crate::folder::Folder;
use crate::format::first::{FIRST_BYTES, First};
use crate::group::Groups;
use crate::log::Log;
use crate::status::Counts;
use decide::{Decision, Kept, SteadyTime, decide};
use rule::Retention;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tidings_core::broker::BrokerError;
use tidings_core::limits::RETENTION_INTERVAL;

/// With a limit of age or of size, the segment being written is closed at this part of it, so that what is too old or too much can go.
const SEGMENT_SHARE: u64 = 4;

/// What one look of retention removed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Removal {
    /// The oldest position that is left.
    pub earliest: u64,
    /// Events removed.
    pub events: u64,
    /// Segments removed.
    pub segments: u64,
    /// Bytes removed.
    pub bytes: u64,
    /// The slowest group, if it keeps what would be removed otherwise.
    pub held_by: Option<String>,
    /// Groups that lost events.
    pub passed: Vec<String>,
}

/// Carries out the rule of a log that this process owns.
pub(crate) struct Retainer {
    log: Arc<Log>,
    groups: Arc<Groups>,
    /// Guards what the looks share; held for a whole look, so that there is one at a time.
    state: Mutex<State>,
    /// When to look again, on the clock's count of time that passed, in microseconds.
    due: AtomicU64,
    /// How old the first event of the segment being written may become, in microseconds.
    segment_age: AtomicI64,
    /// How long the segment being written may become.
    segment_bytes: AtomicU64,
}

struct State {
    time: SteadyTime,
    rule: Retention,
    /// The group that was told to hold segments last, so that it is not told each minute.
    told_held: Option<String>,
}

impl Retainer {
    /// Takes over the rule of the folder, or makes `given` the rule of the folder.
    pub(crate) fn open(
        log: Arc<Log>,
        groups: Arc<Groups>,
        given: Option<Retention>,
    ) -> Result<Self, BrokerError> {
        let retainer = Self {
            state: Mutex::new(State {
                time: SteadyTime::new(log.clock.now(), log.clock.elapsed()),
                rule: Retention::default(),
                told_held: None,
            }),
            due: AtomicU64::new(0),
            segment_age: AtomicI64::new(i64::MAX),
            segment_bytes: AtomicU64::new(u64::MAX),
            log,
            groups,
        };
        match given {
            Some(rule) => retainer.set_rule(rule)?,
            None => {
                // What cannot be read removes nothing, and must not keep anybody from publishing.
                if let Err(error) = retainer.take_rule(&mut retainer.state()) {
                    tracing::warn!(%error, "retention does nothing");
                }
            }
        }
        let limited = retainer.state().rule.is_limited();
        if !limited {
            retainer.postpone();
        }
        Ok(retainer)
    }

    /// The rule.
    pub(crate) fn rule(&self) -> Retention {
        self.state().rule
    }

    /// Makes a rule that of the folder.
    pub(crate) fn set_rule(&self, rule: Retention) -> Result<(), BrokerError> {
        let mut state = self.state();
        // A folder without a rule keeps everything, and is left without one.
        let known = rule::load(&self.log.folder).ok();
        if known != Some(rule) {
            rule::save(&self.log.folder, &rule)?;
        }
        self.take_rule(&mut state)
    }

    /// Whether it is time to look again.
    pub(crate) fn is_due(&self) -> bool {
        micros(self.log.clock.elapsed()) >= self.due.load(Ordering::Relaxed)
    }

    /// The segment being written was closed: it is time to look.
    pub(crate) fn look_soon(&self) {
        if self.segment_age.load(Ordering::Relaxed) < i64::MAX
            || self.segment_bytes.load(Ordering::Relaxed) < u64::MAX
        {
            self.due.store(0, Ordering::Relaxed);
        }
    }

    /// How old the first event of the segment being written may become, in microseconds.
    pub(crate) fn segment_age_max(&self) -> i64 {
        self.segment_age.load(Ordering::Relaxed)
    }

    /// How long the segment being written may become.
    pub(crate) fn segment_bytes_max(&self) -> u64 {
        self.segment_bytes.load(Ordering::Relaxed)
    }

    /// Looks, and tells what goes wrong: nobody waits for this.
    pub(crate) fn look_by_itself(&self) {
        if let Err(error) = self.look() {
            tracing::warn!(%error, "retention removed nothing");
        }
    }

    /// Removes what the rule says.
    ///
    /// The order is: cursors that are relied on are flushed, where the log begins is recorded durably, readers are told, files go from the oldest up. A crash anywhere leaves a log that begins at the recorded position or before it.
    pub(crate) fn look(&self) -> Result<Removal, BrokerError> {
        self.postpone();
        let mut state = self.state();
        self.take_rule(&mut state)?;
        let rule = state.rule;
        let mut removal = Removal {
            earliest: self.log.oldest().unwrap_or(0),
            ..Removal::default()
        };
        if !rule.is_limited() {
            return Ok(removal);
        }
        let now = state
            .time
            .at(self.log.clock.now(), self.log.clock.elapsed());
        // No group is made or moved back here while it is decided whom to wait for.
        let _gate = self.log.gate();
        let kept = kept(&self.log)?;
        let standings = self.groups.standings(&rule, now, false)?;
        let wanted = decide(&rule, &kept, &standings, now);
        let decided = if wanted.first > removal.earliest {
            // Only what a cursor says durably counts, or a power cut would bring back a group that wants what is gone.
            let standings = self.groups.standings(&rule, now, true)?;
            decide(&rule, &kept, &standings, now)
        } else {
            wanted
        };
        tell(&mut state.told_held, &decided);
        let gone: Vec<Kept> = kept
            .into_iter()
            .take_while(|segment| segment.first < decided.first)
            .collect();
        removal.held_by = decided.held;
        if gone.is_empty() {
            return Ok(removal);
        }
        record_first(&self.log.folder, self.log.number, decided.first)?;
        self.log.begin_at(decided.first);
        removal.events = decided.first.saturating_sub(removal.earliest);
        removal.earliest = decided.first;
        removal.segments = gone.len() as u64;
        removal.bytes = gone.iter().map(|segment| segment.bytes).sum();
        removal.passed = decided.passed;
        let counts = &self.log.counts;
        Counts::add(&counts.events_removed, removal.events);
        Counts::add(&counts.segments_removed, removal.segments);
        Counts::add(&counts.bytes_removed, removal.bytes);
        tracing::info!(path = %self.log.folder.log().display(), events = removal.events, segments = removal.segments, bytes = removal.bytes, earliest = removal.earliest, "retention removed the oldest segments");
        clear_before(&self.log.folder, decided.first)?;
        Ok(removal)
    }

    fn take_rule(&self, state: &mut State) -> Result<(), BrokerError> {
        let loaded = rule::load(&self.log.folder);
        let rule = *loaded.as_ref().unwrap_or(&Retention::default());
        if rule != state.rule && rule.may_pass_groups() {
            tracing::warn!(path = %self.log.folder.log().display(), ?rule, "retention does not wait for every group: who is too slow loses events");
        }
        state.rule = rule;
        let age = rule
            .age_max
            .map(|max| micros(max) / SEGMENT_SHARE)
            .and_then(|age| i64::try_from(age).ok());
        self.segment_age
            .store(age.unwrap_or(i64::MAX), Ordering::Relaxed);
        let bytes = rule.bytes_max.map_or(u64::MAX, |max| max / SEGMENT_SHARE);
        self.segment_bytes.store(bytes, Ordering::Relaxed);
        loaded.map(drop)
    }

    fn postpone(&self) {
        let next = self.log.clock.elapsed() + RETENTION_INTERVAL;
        self.due.store(micros(next), Ordering::Relaxed);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Says whom it concerns.
fn tell(told_held: &mut Option<String>, decided: &Decision) {
    if let Some(group) = decided.held.as_ref().filter(|_| *told_held != decided.held) {
        tracing::warn!(
            group,
            "the group keeps segments that retention would remove; start its consumer, move it, or remove it"
        );
    }
    told_held.clone_from(&decided.held);
    if !decided.passed.is_empty() {
        tracing::warn!(groups = ?decided.passed, before = decided.first, "groups lose events: retention does not wait for them");
    }
}

/// The segments of a log as retention sees them.
pub(crate) fn kept(log: &Log) -> Result<Vec<Kept>, BrokerError> {
    let end = log.end()?;
    let segments = log.segments();
    let mut kept = Vec::with_capacity(segments.len());
    let mut newest = None;
    // From the last one back: nothing in a segment was appended later than the next one was begun.
    for segment in segments.iter().rev() {
        let bytes = if segment.first == end.segment {
            end.offset
        } else {
            segment_bytes(&log.folder, segment.first)?
        };
        kept.push(Kept {
            first: segment.first,
            bytes,
            newest,
        });
        match log.append_time(segment) {
            Ok(i64::MIN) | Err(BrokerError::Removed { .. }) => {}
            Ok(begun) => newest = Some(newest.map_or(begun, |later: i64| later.min(begun))),
            Err(error) => return Err(error),
        }
    }
    kept.reverse();
    Ok(kept)
}

fn segment_bytes(folder: &Folder, first: u64) -> Result<u64, BrokerError> {
    let path = folder.segment(first);
    match folder.disk.info(&path) {
        Ok(info) => Ok(info.bytes),
        // Removed beside us; it takes no room any more.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(failed("looking at", &path, error)),
    }
}

/// Where a log begins; `None` if nothing was ever removed, or the record does not hold.
pub(crate) fn read_first(folder: &Folder, log: u64) -> Result<Option<u64>, BrokerError> {
    let path = folder.first();
    let bytes = match read_whole(&*folder.disk, &path, FIRST_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => return Ok(None),
        Err(error) => return Err(failed("reading", &path, error)),
    };
    let first = First::decode(&bytes).ok();
    Ok(first
        .filter(|first| first.log == log)
        .map(|first| first.position))
}

/// Records where a log begins, durably.
pub(crate) fn record_first(folder: &Folder, log: u64, position: u64) -> Result<(), BrokerError> {
    let path = folder.first();
    write_whole(&*folder.disk, &path, &First { log, position }.encode())
        .map_err(|error| failed("writing", &path, error))
}

/// Removes every file of segments that begin before `first`, from the oldest up. Done again after a crash, it goes on where it was cut off.
pub(crate) fn clear_before(folder: &Folder, first: u64) -> Result<(), BrokerError> {
    let directory = folder.log();
    let names = folder
        .disk
        .list(&directory)
        .map_err(|error| failed("listing", &directory, error))?;
    let mut gone: Vec<(u64, PathBuf)> = names
        .into_iter()
        .filter_map(|name| Some((segment_of(&name)?, name)))
        .filter(|(segment, _)| *segment < first)
        .collect();
    if gone.is_empty() {
        return Ok(());
    }
    gone.sort();
    for (_, name) in gone {
        let path = directory.join(name);
        match folder.disk.remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("removing", &path, error));
            }
            _ => {}
        }
    }
    folder
        .disk
        .sync_directory(&directory)
        .map_err(|error| failed("flushing", &directory, error))
}

/// The segment that a file belongs to: its own, or one that was made from it, named alike up to the first dot.
fn segment_of(name: &Path) -> Option<u64> {
    let (stem, _) = name.to_str()?.split_once('.')?;
    crate::segment::first_of(Path::new(&format!("{stem}.seg")))
}
