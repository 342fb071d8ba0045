//! The run inside its own mounts: rounds of scenes, each a workload that is recorded once and then cut many times, by all processors.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::failure::Failure;
use crate::powercut::chance::Chance;
use crate::powercut::check::{Checker, Expected, Findings};
use crate::powercut::cut::{Rebuild, Unflushed};
use crate::powercut::disk::DiskState;
use crate::powercut::events::Events;
use crate::powercut::failing;
use crate::powercut::figures::Figures;
use crate::powercut::group::{Handled, Owed};
use crate::powercut::rig::{self, LoggedDisk, Mount};
use crate::powercut::workload::{self, Ack, Known, Plan, Program, Recorded};
use crate::stopwatch::Stopwatch;

/// Cuts of one round; the next one records new workloads.
const CUTS_PER_ROUND: u64 = 1_000;
/// One cut in so many is made while the program recovers from another.
const RECOVERY_ONCE_IN: u64 = 5;
/// One cut in so many is made near the end of a segment.
const ROLLING_ONCE_IN: u64 = 8;
/// Cuts of one recovery.
const CUTS_PER_RECOVERY: u64 = 8;
/// Images of disks on which something was found are kept, so many of them.
const KEPT_MAX: u64 = 3;
/// Numbers that a recovery may use, so that no two of one disk are the same.
const NUMBERS_PER_RECOVERY: u64 = 1_000;

/// What a run is told.
#[derive(Debug)]
pub(super) struct Orders {
    pub(super) program: Program,
    pub(super) cuts: u64,
    pub(super) seed: u64,
    pub(super) image_mib: u64,
    /// Disks of each round on which a flush fails.
    pub(super) failed_flushes: u64,
    pub(super) minutes: Option<u64>,
    /// Where everything happens: memory that vanishes with the run.
    pub(super) folder: PathBuf,
    /// Where disks are kept on which something was found.
    pub(super) kept: PathBuf,
}

/// What the first segment holds when the writes begin to be logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scene {
    /// Nothing: the folder itself is made under the cuts.
    Fresh,
    /// Almost all it can, so that the next one is begun under the cuts.
    Rolling,
}

impl Scene {
    fn plan(self, seed: u64) -> Plan {
        let (fillers, padding_bytes_max, events_per_opening) = match self {
            Scene::Fresh => (0, 600, 320),
            // 250 fillers leave 1.5 MiB of 64; the second opening begins the next segment.
            Scene::Rolling => (250, 9_000, 200),
        };
        let events = Events {
            seed,
            fillers,
            padding_bytes_max,
        };
        Plan {
            events,
            first: fillers,
            openings: 5,
            events_per_opening,
        }
    }

    /// How many of a round's cuts it gets; looking through a full segment takes its time.
    fn share(self, cuts: u64) -> u64 {
        match self {
            Scene::Fresh => cuts - cuts / ROLLING_ONCE_IN,
            Scene::Rolling => cuts / ROLLING_ONCE_IN,
        }
    }
}

/// How many rounds so many cuts take.
pub(super) fn rounds_of(cuts: u64) -> u64 {
    cuts.div_ceil(CUTS_PER_ROUND)
}

/// Runs all rounds, or as many as the time allows.
pub(super) fn rounds(orders: &Orders) -> Result<Figures, Failure> {
    let stopwatch = Stopwatch::start();
    let mut figures = Figures::default();
    let kept = AtomicU64::new(0);
    let mut round = 0;
    while figures.cuts < orders.cuts {
        let left = orders.cuts - figures.cuts;
        let cuts = left.min(CUTS_PER_ROUND);
        for scene in [Scene::Fresh, Scene::Rolling] {
            let run = SceneRun {
                orders,
                seed: Chance::of(orders.seed, round * 2 + scene as u64).next(),
                name: format!("round {round}, {scene:?}"),
                kept: &kept,
            };
            figures.add(&run.cut(scene, scene.share(cuts))?);
        }
        // A part of the seed's chance that no scene has.
        let seed = Chance::of(orders.seed, u64::MAX - round).next();
        figures.add(&failing::flushes(orders, seed, orders.failed_flushes)?);
        round += 1;
        if left > CUTS_PER_ROUND {
            eprintln!("{}", figures.line());
        }
        let seconds_max = orders.minutes.map(|minutes| minutes * 60);
        if seconds_max.is_some_and(|max| stopwatch.elapsed().as_secs() >= max) {
            break;
        }
    }
    Ok(figures)
}

struct SceneRun<'a> {
    orders: &'a Orders,
    seed: u64,
    name: String,
    kept: &'a AtomicU64,
}

impl SceneRun<'_> {
    fn cut(&self, scene: Scene, cuts: u64) -> Result<Figures, Failure> {
        if cuts == 0 {
            return Ok(Figures::default());
        }
        let mut chance = Chance::of(self.seed, 0);
        let plan = scene.plan(self.seed);
        let folder = self.orders.folder.join("workload");
        let program = &self.orders.program;
        let base = workload::base(program, &plan.events, self.orders.image_mib, &folder)?;
        let known = plan.first.checked_sub(1).map(|last| Ack {
            number: last,
            position: last,
            flushed: 0,
        });
        let known = Known {
            acks: known.into_iter().collect(),
            ..Known::default()
        };
        let recorded = workload::record(program, &plan, base, known, &folder, &mut chance)?;
        let instants = instants(&recorded, cuts, &mut chance);
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        let parts = instants.chunks(instants.len().div_ceil(workers).max(1));
        let figures = Mutex::new(Figures::default());
        let outcome: Result<(), Failure> = std::thread::scope(|scope| {
            let threads: Vec<_> = parts
                .enumerate()
                .map(|(number, part)| {
                    let (recorded, figures) = (&recorded, &figures);
                    scope.spawn(move || self.work(number, recorded, part, figures))
                })
                .collect();
            threads.into_iter().try_for_each(|thread| {
                let ended = thread.join();
                ended.unwrap_or_else(|_| Err(Failure::new("a worker ended unexpectedly")))
            })
        });
        outcome?;
        Ok(figures.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    fn work(
        &self,
        worker: usize,
        recorded: &Recorded,
        instants: &[Instant],
        figures: &Mutex<Figures>,
    ) -> Result<(), Failure> {
        let program = &self.orders.program;
        let folder = self.orders.folder.join(format!("worker-{worker}"));
        rig::make_folder(&folder)?;
        let checker = Checker {
            program,
            verifies: Checker::has_verify(program),
            folder: folder.clone(),
        };
        let mut rebuild = Rebuild::new(&recorded.base, &recorded.log);
        for instant in instants {
            let mut chance = Chance::of(self.seed, instant.seed);
            let unflushed = Unflushed::pick(&mut chance);
            let disk = rebuild.cut(instant.entries, unflushed, &mut chance);
            let mut found = Figures::default();
            if instant.recoveries == 0 {
                let place = format!("entry {}, {unflushed:?}", instant.entries);
                self.judge(
                    &checker,
                    &disk,
                    recorded,
                    instant.entries,
                    &place,
                    &mut found,
                )?;
            } else {
                self.cut_recovery(&checker, disk, recorded, instant, &mut chance, &mut found)?;
            }
            figures
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .add(&found);
        }
        Ok(())
    }

    /// The program recovers from the cut on a disk that logs again, and that is cut too.
    fn cut_recovery(
        &self,
        checker: &Checker,
        disk: DiskState,
        recorded: &Recorded,
        instant: &Instant,
        chance: &mut Chance,
        figures: &mut Figures,
    ) -> Result<(), Failure> {
        let plan = Plan {
            events: recorded.events,
            first: recorded.next + NUMBERS_PER_RECOVERY,
            openings: 1,
            events_per_opening: 40,
        };
        let honest = self.orders.program.honest();
        let folder = checker.folder.join("recovery");
        let owed = owed(recorded, instant.entries);
        let known = Known {
            acks: promised(recorded, instant.entries),
            // What was handled and settled before the first cut was so before the second one, whatever is flushed there.
            handled: owed
                .handled
                .iter()
                .map(|number| Handled {
                    number: *number,
                    entries: 0,
                })
                .collect(),
            settled_to: owed.settled_to,
        };
        let again = workload::record(&honest, &plan, disk, known, &folder, chance)?;
        let mut rebuild = Rebuild::new(&again.base, &again.log);
        for second in instants_of(&again, instant.recoveries, chance) {
            let unflushed = Unflushed::pick(chance);
            let disk = rebuild.cut(second, unflushed, chance);
            let place = format!(
                "entry {}, then entry {second} of its recovery, {unflushed:?}",
                instant.entries
            );
            self.judge(checker, &disk, &again, second, &place, figures)?;
            figures.cuts_in_recovery += 1;
        }
        Ok(())
    }

    fn judge(
        &self,
        checker: &Checker,
        disk: &DiskState,
        recorded: &Recorded,
        entries: usize,
        place: &str,
        figures: &mut Figures,
    ) -> Result<(), Failure> {
        let expected = Expected {
            events: &recorded.events,
            acks: promised(recorded, entries),
            unused: recorded.next,
            owed: owed(recorded, entries),
        };
        let findings = checker.check(disk, &expected)?;
        figures.cuts += 1;
        figures.acks_checked += expected.acks.len() as u64;
        findings.add_to(figures);
        if !findings.is_empty() {
            self.tell(disk, &findings, place)?;
        }
        Ok(())
    }

    fn tell(&self, disk: &DiskState, findings: &Findings, place: &str) -> Result<(), Failure> {
        let count = self.kept.fetch_add(1, Ordering::Relaxed);
        if count >= KEPT_MAX || !self.orders.program.is_honest() {
            return Ok(());
        }
        let seed = self.orders.seed;
        println!("found at seed {seed}, {}, {place}:", self.name);
        for line in findings.lines() {
            println!("  {line}");
        }
        let path = self.orders.kept.join(format!("seed-{seed}-{count}.img"));
        disk.store(&path)?;
        println!("  the disk is kept as {}", path.display());
        Ok(())
    }
}

/// Receipts that a cut after so many entries must honour.
fn promised(recorded: &Recorded, entries: usize) -> Vec<Ack> {
    let flushed = recorded.log.flushed(entries);
    let certain = |ack: &&Ack| ack.flushed <= flushed;
    // What is promised now was promised before; a cut of the recovery must honour it whatever is flushed there.
    let acks = recorded.acks.iter().filter(certain);
    acks.map(|ack| Ack { flushed: 0, ..*ack }).collect()
}

/// What the group is owed after a cut after so many entries.
fn owed(recorded: &Recorded, entries: usize) -> Owed {
    let flushed = recorded.log.flushed(entries);
    let handled = recorded.handled.iter();
    let settled = recorded.settled.iter();
    Owed {
        handled: handled
            .filter(|handled| handled.entries <= entries)
            .map(|handled| handled.number)
            .collect(),
        settled_to: settled
            .filter(|settled| settled.flushed <= flushed)
            .map(|settled| settled.up_to)
            .max(),
    }
}

/// When to cut.
#[derive(Debug, Clone, Copy)]
struct Instant {
    /// After so many entries of the log.
    entries: usize,
    /// Where chance begins for it.
    seed: u64,
    /// So many cuts of the recovery from this one; none: this one is checked itself.
    recoveries: u64,
}

/// Instants for so many cuts, in order.
fn instants(recorded: &Recorded, cuts: u64, chance: &mut Chance) -> Vec<Instant> {
    let mut in_recovery = cuts / RECOVERY_ONCE_IN;
    let plain = cuts - in_recovery;
    let mut instants = Vec::new();
    let limit = recorded.log.entries.len() as u64 + 1;
    let mut add = |recoveries| {
        instants.push(Instant {
            entries: usize::try_from(chance.below(limit)).unwrap_or(0),
            seed: chance.next(),
            recoveries,
        });
    };
    for _ in 0..plain {
        add(0);
    }
    while in_recovery > 0 {
        let some = in_recovery.min(CUTS_PER_RECOVERY);
        add(some);
        in_recovery -= some;
    }
    instants.sort_by_key(|instant| instant.entries);
    instants
}

fn instants_of(recorded: &Recorded, cuts: u64, chance: &mut Chance) -> Vec<usize> {
    let limit = recorded.log.entries.len() as u64 + 1;
    let mut instants: Vec<usize> = (0..cuts)
        .map(|_| usize::try_from(chance.below(limit)).unwrap_or(0))
        .collect();
    instants.sort_unstable();
    instants
}

/// Whether images can be mounted and disks can log here at all; the reason if not. What was logged is for the caller to read.
pub(super) fn try_out(folder: &Path) -> Result<LoggedDisk, Failure> {
    rig::make_folder(folder)?;
    let image = folder.join("image");
    rig::make_file_system(&image, 16)?;
    let disk = LoggedDisk::start(&DiskState::load(&image)?, &folder.join("logged"))?;
    let mount = Mount::image(&disk.export(), &folder.join("mount"))?;
    mount.unmount()?;
    Ok(disk)
}
