//! What is known of an event in a group: as the log or the broker tells, the store of failures, and the inbox.

use super::get::find;
use crate::arguments::{DATA_DEFAULT, EventExplain, Filter};
use crate::commands::consumer;
use crate::commands::outbox::source;
use crate::failure::Failure;
use crate::folder;
use crate::follow::Follow;
use crate::place::Groups;
use crate::rows::behind_damage;
use std::collections::{HashMap, HashSet, VecDeque};
use std::ops::ControlFlow;
use std::path::Path;
use tidings::broker::{
    GroupName, GroupStatus, LookUpBy, LookUpRequest, Page, Position, ReadRequest, Reader, Recorded,
    StartAt, Tailed,
};
use tidings::core::store::{
    DeadLetterStore as _, FailureStore as _, LaneId, LetterFilter, StoreError, WaitingFilter,
};
use tidings::core::{DedupeKey, Timestamp};
use tidings::flow::explain::{Known, KnownAttempts, KnownLetter, KnownParked};
use tidings::limits::{
    ATTEMPTS_MAX, EXPLAIN_COPIES_MAX, EXPLAIN_KEY_EVENTS_MAX, EXPLAIN_LANE_ROWS_MAX,
    EXPLAIN_SCAN_EVENTS_MAX,
};
use tidings::sql::{Database, Failures, Inbox};
use tidings::{Envelope, Location, Pattern, Tidings};

/// Events read at once.
const PAGE_EVENTS: usize = 4_096;

/// What is looked at.
pub(super) struct Sources {
    groups: Groups,
    failures: Option<Failures>,
    inbox: Option<Inbox>,
    paused: HashMap<String, String>,
}

/// An event that is asked about.
pub(super) struct Asked {
    pub(super) envelope: Envelope,
    /// Where it stands, and since when: on a log, or a broker that keeps its history.
    pub(super) place: Option<(Position, Timestamp)>,
    /// Where the first event with the same id and source stands, if this is another one.
    copy_of: Option<Position>,
}

impl From<Recorded> for Asked {
    fn from(recorded: Recorded) -> Self {
        Self {
            place: Some((recorded.position, recorded.append_time)),
            envelope: recorded.envelope,
            copy_of: None,
        }
    }
}

impl Asked {
    /// Whether the same event stands before it.
    pub(super) fn is_copy(&self) -> bool {
        self.copy_of.is_some()
    }

    pub(super) fn position(&self) -> Option<Position> {
        self.place.map(|(position, _)| position)
    }
}

impl Sources {
    pub(super) async fn open(arguments: &EventExplain) -> Result<Self, Failure> {
        let place = &arguments.place;
        let groups = place.groups().await?;
        let folder = match place.location()? {
            Location::Folder(folder) => Some(folder),
            // Beside a broker a group keeps its state in a data folder only where one is named.
            Location::Broker(_) if place.data.folder == Path::new(DATA_DEFAULT) => None,
            Location::Broker(_) => Some(place.data.folder.clone()),
        };
        let file = folder.map(|folder| folder::state(&folder));
        let database: Option<Database> = match (&arguments.store.url, file) {
            (Some(url), _) => Some(source::database(url, false).await?),
            (None, Some(file)) if file.exists() => Some(source::file(&file, false).await?),
            (None, _) => None,
        };
        let (mut failures, mut inbox) = (None, None);
        if let Some(database) = &database {
            // A database of an older version, or one without an inbox, knows less.
            failures = Failures::open(database).await.ok();
            inbox = Inbox::open_to_look(database).await.ok();
        }
        let mut paused = HashMap::new();
        if let Some(failures) = &failures {
            for one in failures.paused().await? {
                paused.insert(one.group, one.reason);
            }
        }
        Ok(Self {
            groups,
            failures,
            inbox,
            paused,
        })
    }

    /// The history by position: of a log, no other broker has one order of all events.
    pub(super) fn reader(&self) -> Option<&dyn Reader> {
        match &self.groups {
            Groups::Folder(reader) => Some(reader),
            Groups::Broker(tidings) => tidings.reader().ok(),
        }
    }

    /// What the store cannot say of a group on a broker that tells little: for people.
    pub(super) fn blind_spots(&self) -> Option<String> {
        let Groups::Broker(tidings) = &self.groups else {
            return None;
        };
        let broker = tidings.broker().capabilities().name;
        let history = match tidings.broker().capabilities().replay {
            true => "",
            false => " and keeps no history, so that only events are found that its store knows",
        };
        let store = match (&self.failures, &self.inbox) {
            (None, _) => {
                "; no store is named, so that retries and dead letters are not known: --store URL"
            }
            (Some(_), None) => "; the store has no inbox, so that what was handled is not known",
            (Some(_), Some(_)) => "",
        };
        Some(format!(
            "{broker} does not tell what became of single events{history}{store}"
        ))
    }

    /// The newest events of a key.
    pub(super) async fn of_key(&self, key: &str) -> Result<Vec<Asked>, Failure> {
        let tidings = match &self.groups {
            Groups::Folder(reader) => return of_key(reader, key).await,
            Groups::Broker(tidings) => tidings,
        };
        if tidings.broker().capabilities().replay {
            let filter = Filter {
                key: Some(key.to_owned()),
                ..Filter::default()
            };
            return in_history(tidings, &filter, |_| true).await;
        }
        let filter = WaitingFilter {
            key: Some(key.to_owned()),
            ..WaitingFilter::default()
        };
        let letters = LetterFilter {
            key: Some(key.to_owned()),
            ..LetterFilter::default()
        };
        self.in_store(&filter, &letters).await
    }

    /// The event with an id, with its copies on a log; none where it is not known.
    pub(super) async fn of_id(&self, event_id: &str) -> Result<Vec<Asked>, Failure> {
        let tidings = match &self.groups {
            Groups::Folder(reader) => {
                return match find(reader, event_id).await? {
                    Some(first) => copies(reader, first).await,
                    None => Ok(Vec::new()),
                };
            }
            Groups::Broker(tidings) => tidings,
        };
        let filter = WaitingFilter {
            ids: vec![event_id.to_owned()],
            ..WaitingFilter::default()
        };
        let letters = LetterFilter {
            ids: vec![event_id.to_owned()],
            ..LetterFilter::default()
        };
        let known = self.in_store(&filter, &letters).await?;
        if !known.is_empty() || !tidings.broker().capabilities().replay {
            return Ok(known);
        }
        // A broker has no index of events, so that this comes last.
        let filter = Filter {
            internal: true,
            ..Filter::default()
        };
        let mut found = in_history(tidings, &filter, |event| event.event_id() == event_id).await?;
        found.truncate(1);
        Ok(found)
    }

    /// Events that wait or were given up, each once.
    async fn in_store(
        &self,
        waiting: &WaitingFilter,
        letters: &LetterFilter,
    ) -> Result<Vec<Asked>, Failure> {
        let Some(failures) = &self.failures else {
            return Ok(Vec::new());
        };
        let limit = u32::try_from(EXPLAIN_KEY_EVENTS_MAX).unwrap_or(u32::MAX);
        let dead = failures.letters(letters, i64::MIN, limit).await?;
        let parked = failures.waiting(waiting, i64::MIN, limit).await?;
        let dead = dead.into_iter().map(|letter| letter.envelope);
        let all = dead.chain(parked.into_iter().map(|row| row.delivery.envelope));
        let mut seen = HashSet::new();
        let once = all.filter(|event| seen.insert(DedupeKey::of(event)));
        let asked = once.map(|envelope| Asked {
            envelope,
            place: None,
            copy_of: None,
        });
        Ok(asked.collect())
    }

    /// The groups of the log or of the broker, and those of which the store knows something about the events.
    pub(super) async fn groups(
        &self,
        only: Option<&GroupName>,
        events: &[Asked],
    ) -> Result<Vec<GroupStatus>, Failure> {
        let admin = self.groups.admin()?;
        let mut groups = match (admin.groups().await, &self.groups) {
            (Ok(groups), _) => groups,
            (Err(error), Groups::Folder(_)) => return Err(error.into()),
            // It cannot list them, or may not; the store and --group name some.
            (Err(_), Groups::Broker(_)) => Vec::new(),
        };
        if let Groups::Broker(_) = &self.groups {
            let mut named = self.groups_in_store(events).await?;
            named.extend(only.cloned());
            for name in named {
                if !groups.iter().any(|group| group.name == name) {
                    groups.push(consumer::nameless(name));
                }
            }
        }
        groups.retain(|group| only.is_none_or(|only| *only == group.name));
        groups.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(groups)
    }

    async fn groups_in_store(&self, events: &[Asked]) -> Result<Vec<GroupName>, Failure> {
        let Some(failures) = &self.failures else {
            return Ok(Vec::new());
        };
        let ids = events.iter().map(|asked| asked.envelope.event_id());
        let ids: Vec<String> = ids.map(str::to_owned).collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let filter = LetterFilter {
            ids: ids.clone(),
            ..LetterFilter::default()
        };
        let limit = EXPLAIN_LANE_ROWS_MAX;
        let letters = failures.letters(&filter, i64::MIN, limit).await?;
        let filter = WaitingFilter {
            ids,
            ..WaitingFilter::default()
        };
        let waiting = failures.waiting(&filter, i64::MIN, limit).await?;
        let names = letters.into_iter().map(|letter| letter.group);
        let names = names.chain(waiting.into_iter().map(|row| row.group));
        // A name that is none was written by somebody else.
        Ok(names.filter_map(|name| name.parse().ok()).collect())
    }

    pub(super) async fn known(
        &self,
        asked: &Asked,
        status: &GroupStatus,
    ) -> Result<Known, Failure> {
        let group = status.name.as_str();
        let event = &asked.envelope;
        let matches = |pattern: &Pattern| pattern.matches(event.event_type());
        let subscribed = match &self.groups {
            Groups::Broker(_) if status.patterns.is_empty() => None,
            _ => Some(status.patterns.iter().any(matches)),
        };
        let mut known = Known {
            group: group.to_owned(),
            subscribed,
            position: asked.position(),
            cursor: status.position,
            moved_at: status.moved_at,
            owner: status.owner.clone(),
            paused: self.paused.get(group).cloned(),
            copy_of: asked.copy_of,
            ..Known::default()
        };
        if let Some(inbox) = &self.inbox {
            known.handled_at = inbox.handled_at(group, event).await?;
        }
        if let Some(failures) = &self.failures {
            of_store(failures, event, &mut known).await?;
        }
        let ahead = match (status.position, asked.position()) {
            (Some(cursor), Some(position)) if cursor > position => return Ok(known),
            (Some(cursor), Some(position)) => Some((cursor, position)),
            _ => None,
        };
        if let (Some(reader), Some((cursor, position))) = (self.reader(), ahead) {
            if subscribed != Some(false) {
                (known.before, known.before_of_key) =
                    before(reader, &status.patterns, cursor, (event, position)).await?;
            }
            return Ok(known);
        }
        // What such a broker has not acknowledged in one row may be acknowledged all the same; how many events are left is all that it tells, and of a group that it does not know, nothing.
        known.cursor = None;
        let lag = self.groups.admin()?.lag(&status.name).await;
        known.left = lag.ok().map(|lag| lag.events);
        Ok(known)
    }
}

/// Events of the history of a broker that are wanted, the newest ones at most, each once.
async fn in_history(
    tidings: &Tidings,
    filter: &Filter,
    is_wanted: impl Fn(&Envelope) -> bool,
) -> Result<Vec<Asked>, Failure> {
    let read = Follow {
        filter,
        start: StartAt::Earliest,
        until_end: true,
    };
    let (mut events, mut keys, mut seen) = (VecDeque::new(), HashSet::new(), 0);
    let take = |tailed: &Tailed| {
        seen += 1;
        let event = &tailed.envelope;
        if is_wanted(event) && keys.insert(DedupeKey::of(event)) {
            events.push_back(Asked {
                place: tailed.position.zip(tailed.append_time),
                envelope: event.clone(),
                copy_of: None,
            });
        }
        if events.len() > EXPLAIN_KEY_EVENTS_MAX {
            events.pop_front();
        }
        Ok(match seen < EXPLAIN_SCAN_EVENTS_MAX {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        })
    };
    read.each(&**tidings.broker(), take, || Ok(())).await?;
    Ok(events.into())
}

/// What the store of failures says.
async fn of_store(failures: &Failures, event: &Envelope, known: &mut Known) -> Result<(), Failure> {
    let group = known.group.clone();
    // Tables of an older version have no place for some of it.
    known.circuit = match failures.circuit(&group).await {
        Err(StoreError::TableMissing { .. }) => None,
        circuit => circuit?,
    };
    known.attempts_max = match failures.attempts_max(&group).await {
        Err(StoreError::TableMissing { .. }) => None,
        attempts => attempts?,
    };
    let noted = failures
        .noted_attempts(&group, DedupeKey::of(event))
        .await?;
    // A larger number is the mark of an event that was given up and may be delivered again.
    known.noted = noted
        .filter(|(failed, _)| (1..=ATTEMPTS_MAX).contains(failed))
        .map(|(failed, first_at)| KnownAttempts { failed, first_at });
    known.parked = parked(failures, &group, event).await?;
    known.letter = letter(failures, &group, event).await?;
    Ok(())
}

/// The newest events of a key, each id once, oldest first.
async fn of_key(reader: &dyn Reader, key: &str) -> Result<Vec<Asked>, Failure> {
    let patterns = [Pattern::everything()];
    let mut from = reader.earliest().await?;
    let mut events: VecDeque<Recorded> = VecDeque::new();
    loop {
        let page = page(reader, LookUpBy::Key(key), from, &patterns).await?;
        for recorded in page.events {
            let event_id = recorded.envelope.event_id();
            if events.iter().any(|one| one.envelope.event_id() == event_id) {
                continue;
            }
            events.push_back(recorded);
            if events.len() > EXPLAIN_KEY_EVENTS_MAX {
                events.pop_front();
            }
        }
        if page.at_end {
            return Ok(events.into_iter().map(Asked::from).collect());
        }
        from = page.next;
    }
}

/// The next page of what is looked for, behind what is damaged.
async fn page(
    reader: &dyn Reader,
    by: LookUpBy<'_>,
    mut from: Position,
    patterns: &[Pattern],
) -> Result<Page, Failure> {
    loop {
        let request = LookUpRequest {
            by,
            from,
            patterns,
            events_max: PAGE_EVENTS,
        };
        match reader.look_up(request).await {
            Ok(page) => return Ok(page),
            Err(error) => from = behind_damage(error)?,
        }
    }
}

/// The first event with an id, and those with the same id and source behind it, the oldest ones at most.
async fn copies(reader: &dyn Reader, first: Recorded) -> Result<Vec<Asked>, Failure> {
    let patterns = [Pattern::everything(), Pattern::internal()];
    let (at, key) = (first.position, DedupeKey::of(&first.envelope));
    let event_id = first.envelope.event_id().to_owned();
    let mut events = vec![Asked::from(first)];
    let mut from = at.next();
    while events.len() < EXPLAIN_COPIES_MAX {
        let page = page(reader, LookUpBy::EventId(&event_id), from, &patterns).await?;
        let same = page.events.into_iter();
        let same = same.filter(|other| DedupeKey::of(&other.envelope) == key);
        events.extend(same.map(|other| Asked {
            copy_of: Some(at),
            ..Asked::from(other)
        }));
        if page.at_end {
            break;
        }
        from = page.next;
    }
    events.truncate(EXPLAIN_COPIES_MAX);
    Ok(events)
}

async fn parked(
    failures: &Failures,
    group: &str,
    event: &Envelope,
) -> Result<Option<KnownParked>, Failure> {
    let lane = LaneId::of(event);
    let rows = failures.rows(group, lane, EXPLAIN_LANE_ROWS_MAX).await?;
    let is_it = |other: &Envelope| other.event_id() == event.event_id();
    let Some(place) = rows.iter().position(|row| is_it(&row.envelope)) else {
        return Ok(None);
    };
    let (Some(head), Some(row)) = (rows.first(), rows.get(place)) else {
        return Ok(None);
    };
    Ok(Some(KnownParked {
        due: row.due,
        attempts: row.attempts,
        error: row.history.last().map(|failed| failed.error.clone()),
        head: (place > 0).then(|| head.envelope.event_id().to_owned()),
        rows_before: place as u64,
    }))
}

async fn letter(
    failures: &Failures,
    group: &str,
    event: &Envelope,
) -> Result<Option<KnownLetter>, Failure> {
    let filter = LetterFilter {
        ids: vec![event.event_id().to_owned()],
        group: Some(group.to_owned()),
        ..LetterFilter::default()
    };
    let letters = failures.letters(&filter, 0, 1).await?;
    Ok(letters.into_iter().next().map(|letter| KnownLetter {
        status: letter.status.as_str().to_owned(),
        reason: letter.reasons.first().cloned().unwrap_or_default(),
        died: letter.died,
        decided_why: letter.decided_why,
        id: letter.id,
    }))
}

/// How many events of a group come before one, and the oldest of them with its key.
async fn before(
    reader: &dyn Reader,
    patterns: &[Pattern],
    cursor: Position,
    (event, position): (&Envelope, Position),
) -> Result<(u64, Option<String>), Failure> {
    let (mut count, mut of_key) = (0, None);
    let key = event.key();
    scan(reader, patterns, cursor, |other| {
        if other.position >= position {
            return false;
        }
        count += 1;
        if of_key.is_none() && key.is_some() && other.envelope.key() == key {
            of_key = Some(other.envelope.event_id().to_owned());
        }
        true
    })
    .await?;
    Ok((count, of_key))
}

/// Looks at events from a position on, for as long as wanted and at most [`EXPLAIN_SCAN_EVENTS_MAX`].
pub(super) async fn scan(
    reader: &dyn Reader,
    patterns: &[Pattern],
    from: Position,
    mut look: impl FnMut(&Recorded) -> bool,
) -> Result<(), Failure> {
    let (mut next, mut seen) = (from, 0);
    while seen < EXPLAIN_SCAN_EVENTS_MAX {
        let request = ReadRequest {
            from: next,
            patterns,
            events_max: PAGE_EVENTS,
        };
        let page = match reader.read(request).await {
            Ok(page) => page,
            Err(error) => {
                next = behind_damage(error)?;
                continue;
            }
        };
        seen += page.events.len();
        if !page.events.iter().all(&mut look) || page.at_end {
            break;
        }
        next = page.next;
    }
    Ok(())
}
