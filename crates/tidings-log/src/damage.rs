//! What is damaged in a log, as far as the opening or a reader met it: counted once, and stated once as a fact on the log.

use crate::folder::Folder;
use crate::verify::DamageRange;
use serde::Serialize;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tidings_core::seam::OpenMode;
use tidings_core::{Envelope, EnvelopeParts, Payload, Timestamp};

/// The type of the fact that states a stretch of damage.
const EVENT_TYPE: &str = "tidings.log.damaged";
/// Stretches that are told apart; a log with more of them is lost anyway.
const STRETCHES_MAX: usize = 1_024;

/// The damage of one log that this process has met.
#[derive(Debug, Default)]
pub(crate) struct DamageBook {
    /// Guards what is known: held for a look or to add something.
    known: Mutex<Vec<Known>>,
    /// Whether something is still to be stated.
    is_open: AtomicBool,
}

#[derive(Debug)]
struct Known {
    damage: DamageRange,
    is_open: bool,
}

/// What the fact says.
#[derive(Debug, Serialize)]
struct Fact<'a> {
    file: &'a str,
    offset: u64,
    bytes: u64,
    first_position: u64,
    last_position: u64,
    reason: &'a str,
    kept_aside: Option<String>,
}

impl DamageBook {
    /// Notes a stretch; what is known of already is not noted again. Only who owns the log states it.
    pub(crate) fn note(&self, folder: &Folder, owned: bool, damage: DamageRange) {
        let end = |damage: &DamageRange| damage.from.saturating_add(damage.events);
        let mut known = self.known();
        let is_known = known
            .iter()
            .any(|other| damage.from < end(&other.damage) && other.damage.from < end(&damage));
        if damage.events == 0 || is_known || known.len() >= STRETCHES_MAX {
            return;
        }
        let is_open = owned && folder.disk.info(&marker(folder, &damage)).is_err();
        known.push(Known { damage, is_open });
        if is_open {
            self.is_open.store(true, Ordering::Release);
        }
    }

    /// How many stretches are known, and how many positions are lost in them.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let known = self.known();
        let positions = known.iter().map(|known| known.damage.events).sum();
        (known.len() as u64, positions)
    }

    /// The next stretch to be stated. It is handed out once: what cannot be stated now is, after the next opening.
    pub(crate) fn next_to_state(&self) -> Option<DamageRange> {
        if !self.is_open.load(Ordering::Acquire) {
            return None;
        }
        let mut known = self.known();
        let next = known.iter_mut().find(|known| known.is_open);
        if next.is_none() {
            self.is_open.store(false, Ordering::Release);
        }
        next.map(|known| {
            known.is_open = false;
            known.damage.clone()
        })
    }

    fn known(&self) -> MutexGuard<'_, Vec<Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The fact that states a stretch of damage. Its id is the same whenever it is stated; `None` if it breaks a rule of envelopes, which a defect alone could bring about.
pub(crate) fn fact(
    folder: &Folder,
    log: u64,
    damage: &DamageRange,
    now: Timestamp,
) -> Option<Envelope> {
    let file = damage.file.file_name()?.to_string_lossy().into_owned();
    let aside = folder.aside().join(format!(
        "{}-{}.damaged",
        damage.file.file_stem()?.to_string_lossy(),
        damage.offset
    ));
    let kept_aside = folder.disk.info(&aside).ok();
    let text = serde_json::to_string(&Fact {
        file: &file,
        offset: damage.offset,
        bytes: damage.bytes,
        first_position: damage.from,
        last_position: damage.from + damage.events - 1,
        reason: &damage.reason,
        kept_aside: kept_aside.map(|_| aside.to_string_lossy().into_owned()),
    });
    let id = format!("log-damaged-{log:016x}-{}", damage.from);
    let mut parts = EnvelopeParts::new(id, EVENT_TYPE);
    parts.source = Some("tidings-log".to_owned());
    parts.timestamp = Some(now.into());
    parts.payload = Payload::json(text.ok()?).ok();
    Envelope::new(parts).ok()
}

/// Notes durably that a stretch was stated, so that no later opening does it again.
pub(crate) fn mark_stated(folder: &Folder, damage: &DamageRange) -> io::Result<()> {
    folder.disk.create_directories(&folder.aside())?;
    let path = marker(folder, damage);
    folder.disk.open(&path, OpenMode::Create)?.sync_data()?;
    folder.disk.sync_directory(&folder.aside())
}

/// The file whose being there says that a stretch was stated.
fn marker(folder: &Folder, damage: &DamageRange) -> PathBuf {
    folder.aside().join(format!("{:020}.stated", damage.from))
}
