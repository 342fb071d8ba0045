//! Groups: independent readers with a durable place in the log. One process works for a group at a time, and says so in its lease.

mod cursor_file;
mod definition;
mod receive;
mod settle;
mod standing;
mod state;

use crate::files::{failed, read_text};
use crate::filter::Filter;
use crate::folder::owner_text;
use crate::format::cursor::{CursorSlot, group_hash};
use crate::history::{History, SCAN_BYTES_MAX};
use crate::log::Log;
use crate::scan::{Bounds, Scanner, Stop};
use cursor_file::{CursorFile, CursorRead};
use definition::Definition;
use receive::LogReceive;
use settle::LogSettle;
use state::GroupState;
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, Weak};
use tidings_core::broker::{
    BrokerError, GroupLag, GroupName, GroupStatus, Position, Resumed, Scope, StartAt,
    SubscribeRequest, Subscription,
};
use tidings_core::seam::DiskLock;
use tidings_core::{Pattern, Timestamp};

/// The one scope of the log.
const SCOPE: &str = "log";
/// Whoever lists groups holds each free lease for a moment to see that it is free; so often is it tried again.
const LEASE_TRIES_MAX: usize = 64;

/// The groups of a log.
pub(crate) struct Groups {
    log: Arc<Log>,
    program: String,
    /// Guards the groups that this process works for: held to note one or to find one.
    active: Mutex<HashMap<GroupName, Weak<GroupState>>>,
}

/// Where a group stands.
struct Stand {
    slot: CursorSlot,
    file: CursorFile,
    /// What the group is to be told first: the log ends before the place where it stood.
    shrunk: Option<BrokerError>,
}

impl Groups {
    pub(crate) fn new(log: Arc<Log>, program: String) -> Self {
        Self {
            log,
            program,
            active: Mutex::default(),
        }
    }

    /// Joins a group, making it if it does not exist.
    pub(crate) fn subscribe(
        &self,
        request: &SubscribeRequest,
        history: &History,
    ) -> Result<Subscription, BrokerError> {
        let group = &request.group;
        let lease = self.lease(group)?;
        let gate = self.log.gate();
        let known = Definition::load(&self.log.folder, group)?;
        let is_new = known.is_none();
        let mut definition = match known {
            Some(definition) => definition,
            None => self.make(group, request.start, history)?,
        };
        let Stand {
            mut slot,
            mut file,
            shrunk,
        } = self.stand(group, &definition, history)?;
        if is_new {
            // Beside the owner, retention may go on while the group is made: it has nothing to lose yet.
            slot.position = slot.position.max(history.earliest()?.0);
        }
        self.check_not_passed(group, slot.position)?;
        if definition.want(&request.patterns, slot.position) {
            definition.save(&self.log.folder, group)?;
        }
        slot.generation += 1;
        slot.worked_at = self.log.clock.now().as_micros();
        let resumed = Resumed {
            from: Position(slot.position),
            handed_out_before: Position(slot.handed_out_before.max(slot.position)),
        };
        file.write(slot)
            .and_then(|()| file.sync())
            .map_err(|error| failed("writing", file.path(), error))?;
        let scope = Scope {
            name: SCOPE.into(),
            generation: slot.generation,
        };
        let state = Arc::new(GroupState::new(self.log.clone(), file, lease));
        self.works_for(group, &state);
        drop(gate);
        let receive = LogReceive::new(
            self.log.clone(),
            state.clone(),
            scope,
            Filter::new(&request.patterns),
            (group, slot.position),
            shrunk,
        );
        Ok(Subscription {
            receive: Box::new(receive),
            settle: Arc::new(LogSettle::new(state)),
            resumed: Some(resumed),
        })
    }

    /// All groups, by name.
    pub(crate) fn list(&self) -> Result<Vec<GroupStatus>, BrokerError> {
        self.names()?
            .into_iter()
            .map(|name| self.status(name))
            .collect()
    }

    /// How far a group is behind: every event of its patterns from its cursor on is counted.
    pub(crate) async fn lag(&self, group: &GroupName) -> Result<GroupLag, BrokerError> {
        let definition = self.known(group)?;
        let slot = self.slot(group, &definition)?;
        let mut filter = Filter::new(&definition.patterns());
        self.log.end()?;
        self.log.look_at_begin()?;
        let oldest = self.log.oldest().unwrap_or(0);
        let (lost, loss) = self.loss(group, &definition, slot)?;
        let mut scanner = Scanner::new(self.log.clone(), slot.position.max(oldest));
        let bounds = Bounds {
            events_max: usize::MAX,
            bytes_max: SCAN_BYTES_MAX,
        };
        let (mut events, mut first) = (0, None);
        loop {
            let stop = scanner.scan_with(&mut filter, bounds, &mut |found| {
                events += 1;
                first.get_or_insert(found.append_time);
                Ok(())
            })?;
            match stop {
                Stop::AtEnd => break,
                // What is lost is not behind any more.
                Stop::Damage(_) | Stop::Full => {}
                Stop::Paused => yield_now().await,
            }
        }
        let age = first
            .map(|first| self.log.clock.now().since(first))
            .unwrap_or_default();
        Ok(GroupLag {
            events,
            age,
            lost,
            loss,
            settled: None,
        })
    }

    /// Moves a group.
    pub(crate) fn seek(
        &self,
        group: &GroupName,
        start: StartAt,
        history: &History,
    ) -> Result<Position, BrokerError> {
        let mut definition = self.known(group)?;
        let _lease = self.lease(group)?;
        let _gate = self.log.gate();
        let position = self.resolve(start, history)?;
        let Stand { slot, mut file, .. } = self.stand(group, &definition, history)?;
        let moved_at = self.log.clock.now().as_micros();
        let slot = CursorSlot {
            position: position.0,
            handed_out_before: position.0,
            moved_at,
            worked_at: moved_at,
            ..slot
        };
        file.write(slot)
            .and_then(|()| file.sync())
            .map_err(|error| failed("writing", file.path(), error))?;
        if definition.begin_no_later_than(position.0) {
            definition.save(&self.log.folder, group)?;
        }
        // Beside the owner, its retention may have gone on meanwhile.
        self.check_not_passed(group, position.0)?;
        Ok(position)
    }

    /// Forgets a group.
    pub(crate) fn remove(&self, group: &GroupName) -> Result<(), BrokerError> {
        self.known(group)?;
        let _lease = self.lease(group)?;
        // The definition goes first: a group without one is made anew, a cursor without one is not taken for a group's.
        for extension in ["json", "cursor", "lease"] {
            let path = self.log.folder.group_file(group, extension);
            match self.log.folder.disk.remove(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed("removing", &path, error));
                }
                _ => {}
            }
        }
        let path = self.log.folder.groups();
        self.log
            .folder
            .disk
            .sync_directory(&path)
            .map_err(|error| failed("flushing", &path, error))
    }

    fn names(&self) -> Result<Vec<GroupName>, BrokerError> {
        let path = self.log.folder.groups();
        let files = match self.log.folder.disk.list(&path) {
            Ok(files) => files,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(failed("listing", &path, error)),
        };
        let name = |file: &Path| file.to_str()?.strip_suffix(".json")?.parse().ok();
        let names: BTreeSet<GroupName> = files.iter().filter_map(|file| name(file)).collect();
        Ok(names.into_iter().collect())
    }

    fn status(&self, name: GroupName) -> Result<GroupStatus, BrokerError> {
        let definition = self.known(&name)?;
        let slot = self.slot(&name, &definition)?;
        Ok(GroupStatus {
            abandoned: self.is_abandoned(&name, &definition, slot)?,
            patterns: definition.patterns(),
            position: Some(Position(slot.position)),
            moved_at: (slot.moved_at != 0).then(|| Timestamp::from_micros(slot.moved_at)),
            owner: self.holder(&name),
            name,
        })
    }

    /// A group may not go on where retention has removed what it has not settled, as if nothing were gone.
    fn check_not_passed(&self, group: &GroupName, position: u64) -> Result<(), BrokerError> {
        self.log.look_at_begin()?;
        let first = self.log.recorded_first();
        if position >= first {
            return Ok(());
        }
        Err(BrokerError::GroupPassed {
            group: group.to_string(),
            position: Position(position),
            oldest: Position(self.log.oldest().unwrap_or(first)),
        })
    }

    fn known(&self, group: &GroupName) -> Result<Definition, BrokerError> {
        if let Some(definition) = Definition::load(&self.log.folder, group)? {
            return Ok(definition);
        }
        let similar =
            definition::most_similar(group.as_str(), self.names()?.iter().map(GroupName::as_str));
        Err(BrokerError::GroupUnknown {
            group: group.to_string(),
            similar,
        })
    }

    /// Takes the lease of a group.
    fn lease(&self, group: &GroupName) -> Result<Box<dyn DiskLock>, BrokerError> {
        let path = self.log.folder.group_file(group, "lease");
        for _ in 0..LEASE_TRIES_MAX {
            if let Some(lease) = self
                .log
                .folder
                .disk
                .lock(&path)
                .map_err(|error| failed("locking", &path, error))?
            {
                let text = owner_text(&self.program, &*self.log.clock);
                // Only a message hangs on it, and a full disk must not keep a group from working.
                if let Err(error) = lease.write_owner(&text) {
                    tracing::debug!(%error, %group, "the holder of a lease was not noted");
                }
                return Ok(lease);
            }
            std::thread::yield_now();
        }
        let owner = read_text(&*self.log.folder.disk, &path)
            .unwrap_or_else(|| "another process".to_owned());
        Err(BrokerError::GroupLeased {
            group: group.to_string(),
            owner,
        })
    }

    /// Who works for a group now.
    fn holder(&self, group: &GroupName) -> Option<String> {
        let disk = &*self.log.folder.disk;
        let path = self.log.folder.group_file(group, "lease");
        let text = read_text(disk, &path)?;
        match disk.lock(&path) {
            Ok(None) => Some(text),
            // Free, or it cannot be told: a stale text names nobody.
            Ok(Some(_)) | Err(_) => None,
        }
    }

    /// Makes a group: first its cursor, with the room that it will ever need, then the definition that makes it known.
    fn make(
        &self,
        group: &GroupName,
        start: StartAt,
        history: &History,
    ) -> Result<Definition, BrokerError> {
        let position = self.resolve(start, history)?.0;
        let slot = CursorSlot {
            log: self.log.number,
            group: group_hash(group.as_str()),
            position,
            handed_out_before: position,
            ..CursorSlot::default()
        };
        let path = self.log.folder.group_file(group, "cursor");
        CursorFile::create(&*self.log.folder.disk, &path, slot)
            .map_err(|error| failed("making", &path, error))?;
        let definition = Definition::new(start, position, self.log.clock.now());
        definition.save(&self.log.folder, group)?;
        Ok(definition)
    }

    /// Where the group stands. A cursor that is lost or not its own is made anew from the start that the definition records.
    fn stand(
        &self,
        group: &GroupName,
        definition: &Definition,
        history: &History,
    ) -> Result<Stand, BrokerError> {
        let path = self.log.folder.group_file(group, "cursor");
        let disk = &*self.log.folder.disk;
        let found = CursorFile::open(disk, &path, self.log.number, group_hash(group.as_str()))
            .map_err(|error| failed("reading", &path, error))?;
        let (oldest, end) = (history.earliest()?.0, history.end()?.0);
        match found {
            CursorRead::Held(mut slot, file) => {
                let shrunk = (slot.position > end).then(|| self.shrunk(end, slot.position));
                if shrunk.is_some() {
                    tracing::warn!(%group, position = slot.position, end, "the log ends before the place where the group stood; it goes on at the end");
                    slot.position = end;
                    slot.handed_out_before = end;
                }
                Ok(Stand { slot, file, shrunk })
            }
            CursorRead::Lost(reason) => {
                let position = definition.start_position().clamp(oldest, end);
                tracing::warn!(%group, reason, position, "the cursor of the group is lost: it goes on where it once began, and events may come again");
                let slot = CursorSlot {
                    log: self.log.number,
                    group: group_hash(group.as_str()),
                    position,
                    // Any of them may have been handled before.
                    handed_out_before: end,
                    ..CursorSlot::default()
                };
                let file = CursorFile::create(disk, &path, slot)
                    .map_err(|error| failed("making", &path, error))?;
                Ok(Stand {
                    slot,
                    file,
                    shrunk: None,
                })
            }
        }
    }

    /// What a group is told that had settled events which the log does not have any more.
    fn shrunk(&self, end: u64, position: u64) -> BrokerError {
        let known = self.log.end_known();
        BrokerError::Damaged {
            path: self.log.folder.segment(known.segment),
            offset: known.offset,
            from: Position(end),
            to: Position(position.saturating_sub(1)),
            reason: "the group had settled these positions and the log ends before them".to_owned(),
        }
    }

    /// What the cursor says, for a look from outside.
    fn slot(&self, group: &GroupName, definition: &Definition) -> Result<CursorSlot, BrokerError> {
        let path = self.log.folder.group_file(group, "cursor");
        let hash = group_hash(group.as_str());
        let read = CursorFile::look(&*self.log.folder.disk, &path, self.log.number, hash)
            .map_err(|error| failed("reading", &path, error))?;
        let lost = CursorSlot {
            position: definition.start_position(),
            ..CursorSlot::default()
        };
        Ok(read.unwrap_or(lost))
    }

    fn resolve(&self, start: StartAt, history: &History) -> Result<Position, BrokerError> {
        let (oldest, end) = (history.earliest()?, history.end()?);
        match start {
            StartAt::Earliest => Ok(oldest),
            StartAt::Latest => Ok(end),
            StartAt::Position(position) if position < oldest => {
                Err(BrokerError::Removed { position, oldest })
            }
            StartAt::Position(position) => Ok(position.min(end)),
            StartAt::Time(time) => history.position_at(time),
        }
    }
}

/// The patterns of a definition as the port names them.
pub(crate) fn parse_patterns<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<Pattern> {
    texts.filter_map(|text| text.parse().ok()).collect()
}

/// Lets other tasks run.
pub(crate) async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|context| {
        if yielded {
            return std::task::Poll::Ready(());
        }
        yielded = true;
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}
