//! The workload: the real program writes to a disk that logs, over several openings, and each receipt is noted with what the disk knew by then.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use crate::failure::Failure;
use crate::powercut::chance::Chance;
use crate::powercut::disk::DiskState;
use crate::powercut::events::{self, Events};
use crate::powercut::group::{GroupRun, Handled, Settled};
use crate::powercut::log::{self, WriteLog};
use crate::powercut::rig::{self, LoggedDisk, Mount};

/// Events that are handed over together, at most.
const BURST_EVENTS_MAX: u64 = 24;
/// The consumer is ended once it has noted so many events, at most.
const NOTES_AWAITED_MAX: u64 = 24;
/// Pause between two bursts, at most.
const PAUSE_MICROS_MAX: u64 = 3_000;

/// The program under test, and how it is told to acknowledge.
#[derive(Debug, Clone)]
pub(super) struct Program {
    pub(super) binary: PathBuf,
    /// A negative control: receipts before the flush.
    pub(super) acks_early: bool,
    /// Another: the group settles what its handler is not done with.
    pub(super) settles_early: bool,
}

impl Program {
    /// A command on the data folder of a mounted file system.
    pub(super) fn command(&self, mount: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .args(arguments)
            .arg("--data")
            .arg(mount.join("data"))
            .env("RUST_LOG", "off");
        command
    }

    /// Whether it is no control: what is found is to be looked into.
    pub(super) fn is_honest(&self) -> bool {
        !self.acks_early && !self.settles_early
    }

    /// The same without a control.
    pub(super) fn honest(&self) -> Program {
        Program {
            binary: self.binary.clone(),
            acks_early: false,
            settles_early: false,
        }
    }

    fn import(&self, mount: &Path) -> Command {
        let mut command = self.command(mount, &["event", "import", "-", "-q", "-o", "jsonl"]);
        if self.acks_early {
            command.args(["--durability", "written"]);
        }
        command
    }
}

/// How the program is used.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) events: Events,
    /// The first number that is not used yet.
    pub(super) first: u64,
    pub(super) openings: u64,
    pub(super) events_per_opening: u64,
}

/// A receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ack {
    pub(super) number: u64,
    pub(super) position: u64,
    /// Once so many entries of the log are flushed, the event is certain to be on the disk.
    pub(super) flushed: usize,
}

/// What is certain of a disk before anything is logged.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) acks: Vec<Ack>,
    pub(super) handled: Vec<Handled>,
    pub(super) settled_to: Option<u64>,
}

/// What happened on one disk.
#[derive(Debug)]
pub(super) struct Recorded {
    pub(super) base: DiskState,
    pub(super) log: WriteLog,
    pub(super) acks: Vec<Ack>,
    /// What the group was given.
    pub(super) handled: Vec<Handled>,
    pub(super) settled: Vec<Settled>,
    pub(super) events: Events,
    /// The first number that is not used yet.
    pub(super) next: u64,
}

/// Runs a plan on a disk that logs. What is certain to be in `base` is in `known`.
pub(super) fn record(
    program: &Program,
    plan: &Plan,
    base: DiskState,
    known: Known,
    folder: &Path,
    chance: &mut Chance,
) -> Result<Recorded, Failure> {
    let disk = LoggedDisk::start(&base, folder)?;
    let log = disk.open_log()?;
    let (mount, _) = Mount::image_repaired(&disk.export(), &folder.join("mount"))?;
    let mut notes = Notes {
        handled: known.handled,
        ..Notes::default()
    };
    let mut next = plan.first;
    let log_path = disk.log();
    for _ in 0..plan.openings {
        let end = next + plan.events_per_opening;
        // One of its own, because the handler of a killed consumer may still be ending.
        let journal = folder.join(format!("journal-{next}.txt"));
        let opening = Opening {
            program,
            mount: &mount.at,
            events: plan.events,
            numbers: next..end,
            complaints: folder.join("program.txt"),
            group: (&journal, &log_path),
            kill_after: chance
                .once_in(2)
                .then(|| chance.below(plan.events_per_opening)),
        };
        opening.run(&log, chance, &mut notes)?;
        next = end;
    }
    mount.unmount()?;
    let log = disk.finish()?;
    let mut acks = known.acks;
    acks.extend(notes.receipts.into_iter().map(|noted| Ack {
        // At the receipt the log had so many entries; the flush that made it durable is among them.
        flushed: log.flushed(noted.entries),
        number: noted.number,
        position: noted.position,
    }));
    let before = known.settled_to.map(|up_to| Settled { up_to, flushed: 0 });
    let settled = notes.left.into_iter().map(|(up_to, entries)| Settled {
        up_to,
        flushed: log.flushed(entries),
    });
    Ok(Recorded {
        base,
        acks,
        handled: notes.handled,
        settled: before.into_iter().chain(settled).collect(),
        log,
        events: plan.events,
        next,
    })
}

/// Writes the events that fill the first segment, on a disk that does not log.
pub(super) fn fill(
    program: &Program,
    events: &Events,
    mount: &Path,
    complaints: &Path,
) -> Result<(), Failure> {
    let mut child = start(&mut program.honest().import(mount), complaints)?;
    if let Some(mut input) = child.stdin.take() {
        for number in 0..events.fillers {
            writeln!(input, "{}", events.line(number))
                .map_err(|cause| Failure::new(format!("the import does not read: {cause}")))?;
        }
    }
    let output = child
        .wait_with_output()
        .map_err(|cause| Failure::new(format!("the import cannot be awaited: {cause}")))?;
    let receipts = output.stdout.iter().filter(|byte| **byte == b'\n').count() as u64;
    if receipts != events.fillers {
        return Err(ended_badly(&output.status.to_string(), complaints));
    }
    Ok(())
}

/// Imports one event and returns its position.
pub(super) fn append_one(
    program: &Program,
    mount: &Path,
    events: &Events,
    number: u64,
    complaints: &Path,
) -> Result<u64, Failure> {
    let mut child = start(&mut program.honest().import(mount), complaints)?;
    if let Some(mut input) = child.stdin.take() {
        // If it does not read any more, its exit code says why.
        let _ = writeln!(input, "{}", events.line(number));
    }
    let output = child
        .wait_with_output()
        .map_err(|cause| Failure::new(format!("the import cannot be awaited: {cause}")))?;
    let text = String::from_utf8_lossy(&output.stdout);
    match events::receipt(text.trim_end()) {
        Some((same, position)) if output.status.success() && same == number => Ok(position),
        _ => Err(ended_badly(&output.status.to_string(), complaints)),
    }
}

/// Imports events until all are acknowledged or the program gives up; tells the receipts, and whether it succeeded.
pub(super) fn import_while_it_lasts(
    program: &Program,
    mount: &Path,
    events: &Events,
    numbers: std::ops::Range<u64>,
    complaints: &Path,
) -> Result<(Vec<Ack>, bool), Failure> {
    let mut child = start(&mut program.import(mount), complaints)?;
    let input = child.stdin.take();
    let output = std::thread::scope(|scope| {
        scope.spawn(|| {
            let Some(mut input) = input else { return };
            for number in numbers {
                // If it does not read any more, its exit code says why.
                if writeln!(input, "{}", events.line(number)).is_err() {
                    return;
                }
                std::thread::sleep(Duration::from_micros(PAUSE_MICROS_MAX));
            }
        });
        child.wait_with_output()
    });
    let output =
        output.map_err(|cause| Failure::new(format!("the import cannot be awaited: {cause}")))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let acks = text.lines().filter_map(events::receipt);
    let acks = acks.map(|(number, position)| Ack {
        number,
        position,
        flushed: 0,
    });
    Ok((acks.collect(), output.status.success()))
}

fn start(command: &mut Command, complaints: &Path) -> Result<Child, Failure> {
    let complaints =
        File::create(complaints).map_err(|cause| Failure::file("make", complaints, &cause))?;
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(complaints)
        .spawn()
        .map_err(|cause| Failure::new(format!("cannot run the program: {cause}")))
}

fn ended_badly(status: &str, complaints: &Path) -> Failure {
    let said = std::fs::read_to_string(complaints).unwrap_or_default();
    Failure::new(format!("event import failed ({status}): {}", said.trim()))
}

/// A receipt and how many entries the log had by then.
struct Noted {
    number: u64,
    position: u64,
    entries: usize,
}

/// What is noted while a disk is used.
#[derive(Default)]
struct Notes {
    receipts: Vec<Noted>,
    handled: Vec<Handled>,
    /// The last event that the group had settled when it left in order, and how many entries the log had by then.
    left: Vec<(u64, usize)>,
}

/// One run of the program, with a consumer beside it.
struct Opening<'a> {
    program: &'a Program,
    mount: &'a Path,
    events: Events,
    numbers: std::ops::Range<u64>,
    complaints: PathBuf,
    /// Where the group's handler notes what it is given, and the log of the disk.
    group: (&'a Path, &'a Path),
    /// SIGKILL after so many receipts.
    kill_after: Option<u64>,
}

impl Opening<'_> {
    fn run(&self, log: &File, chance: &mut Chance, notes: &mut Notes) -> Result<(), Failure> {
        let mut child = start(&mut self.program.import(self.mount), &self.complaints)?;
        let input = child.stdin.take();
        let output = child.stdout.take();
        let mut feeding = Chance::new(chance.next());
        let mut beside = None;
        let counted = std::thread::scope(|scope| {
            scope.spawn(|| input.map(|input| self.feed(input, &mut feeding)));
            let output = output.ok_or_else(|| Failure::new("the import has no output"))?;
            let output = BufReader::new(output);
            self.note(&mut child, output, log, &mut notes.receipts, &mut beside)
        });
        if counted.is_err() {
            // It is ended whatever it does; the failure says what went wrong before.
            let _ = child.kill();
        }
        let status = child
            .wait()
            .map_err(|cause| Failure::new(format!("the import cannot be awaited: {cause}")))?;
        let killed = counted?;
        if !killed && !status.success() {
            return Err(ended_badly(&status.to_string(), &self.complaints));
        }
        let Some(beside) = beside else { return Ok(()) };
        // The import is over before a program has begun: a consumer that was given nothing shows nothing when it ends.
        beside.await_notes(chance.below(NOTES_AWAITED_MAX) as usize + 1)?;
        if chance.once_in(2) {
            return beside.kill(&mut notes.handled);
        }
        if let Some(last) = beside.leave(&mut notes.handled)? {
            let entries = log::count_now(log)
                .map_err(|cause| Failure::new(format!("cannot read the log: {cause}")))?;
            notes.left.push((last, entries));
        }
        Ok(())
    }

    fn feed(&self, mut input: ChildStdin, chance: &mut Chance) {
        let mut number = self.numbers.start;
        while number < self.numbers.end {
            let end = (number + 1 + chance.below(BURST_EVENTS_MAX)).min(self.numbers.end);
            let mut burst = String::new();
            for number in number..end {
                burst.push_str(&self.events.line(number));
                burst.push('\n');
            }
            if input.write_all(burst.as_bytes()).is_err() {
                // It was killed, or failed: its exit says which.
                return;
            }
            number = end;
            std::thread::sleep(Duration::from_micros(chance.below(PAUSE_MICROS_MAX)));
        }
    }

    /// Notes the receipts to the end, also those that were on their way when the program was killed.
    fn note(
        &self,
        child: &mut Child,
        output: impl BufRead,
        log: &File,
        noted: &mut Vec<Noted>,
        beside: &mut Option<GroupRun>,
    ) -> Result<bool, Failure> {
        let failed = |cause| Failure::new(format!("cannot read a receipt: {cause}"));
        let mut killed = false;
        for (receipts, line) in (1..).zip(output.lines()) {
            let line = line.map_err(failed)?;
            let entries = log::count_now(log).map_err(failed)?;
            let Some((number, position)) = events::receipt(&line) else {
                if killed {
                    // The last line of a killed program may be half a line; half a receipt is none.
                    break;
                }
                return Err(Failure::new(format!("this is no receipt: {line}")));
            };
            noted.push(Noted {
                number,
                position,
                entries,
            });
            if beside.is_none() {
                // The import owns the folder now, so that the consumer works beside it.
                let fillers = self.events.fillers;
                let run = GroupRun::start(self.program, self.mount, fillers, self.group, false)?;
                *beside = Some(run);
            }
            if self.kill_after.is_some_and(|after| receipts > after) && !killed {
                killed = true;
                // It may have ended by itself in this moment, which is no less of an end.
                let _ = child.kill();
            }
        }
        Ok(killed)
    }
}

/// A file system with nothing but what fills the first segment.
pub(super) fn base(
    program: &Program,
    events: &Events,
    image_mib: u64,
    folder: &Path,
) -> Result<DiskState, Failure> {
    rig::make_folder(folder)?;
    let image = folder.join("base");
    rig::make_file_system(&image, image_mib)?;
    if events.fillers > 0 {
        let mount = Mount::image(&image, &folder.join("mount"))?;
        fill(program, events, &mount.at, &folder.join("program.txt"))?;
        mount.unmount()?;
    }
    let disk = DiskState::load(&image)?;
    std::fs::remove_file(&image).map_err(|cause| Failure::file("remove", &image, &cause))?;
    Ok(disk)
}
