//! The consumer group of the power cuts: a handler that notes what it was given and what the disk knew by then, and the judgement of what a group is given after a cut.
//!
//! An event may come again, as at least once allows; one that was not handled before the cut has to come, and what a group had settled when it left in order stays settled.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fs::File;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::failure::Failure;
use crate::powercut::events::{self, KEYS};
use crate::powercut::log;
use crate::powercut::workload::Program;
use crate::stopwatch::Stopwatch;

const GROUP: &str = "cut-group";
/// So many events behind the one that it answered, the handler that is a negative control is done with it.
const ANSWERED_EARLY: usize = 16;
/// A consumer that has not noted what is waited for after so long is ended as it is.
const NOTES_WAIT_MAX: Duration = Duration::from_secs(3);
const NOTES_POLL_INTERVAL: Duration = Duration::from_millis(5);

/// An event that the handler was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Handled {
    pub(super) number: u64,
    /// Entries that the log of the disk had by then: whatever tells that it is handled comes behind them.
    pub(super) entries: usize,
}

/// The group left in order: everything up to this event is settled, once so many entries of the log are flushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Settled {
    pub(super) up_to: u64,
    pub(super) flushed: usize,
}

/// The handler itself: notes each event and answers that it is done. It ends with its input.
///
/// The one that answers `early` is a negative control: what it settles is ahead of what it handled, and with its end the difference is lost.
pub(super) fn handle(journal: &Path, log: &Path, early: bool) -> Result<(), Failure> {
    let log_file = File::open(log).map_err(|cause| Failure::file("open", log, &cause))?;
    let mut notes =
        File::create(journal).map_err(|cause| Failure::file("make", journal, &cause))?;
    let failed = |cause| Failure::new(format!("the handler's pipe broke: {cause}"));
    let mut answers = std::io::stdout().lock();
    let behind = if early { ANSWERED_EARLY } else { 0 };
    let mut at_work = VecDeque::new();
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(failed)?;
        let number = events::number(&line)
            .ok_or_else(|| Failure::new(format!("this is no event of ours: {line}")))?;
        at_work.push_back(number);
        // Noted before it is answered, so that nothing is settled that is not noted.
        while at_work.len() > behind
            && let Some(done) = at_work.pop_front()
        {
            let entries = log::count_now(&log_file).map_err(failed)?;
            writeln!(notes, "{done} {entries}")
                .map_err(|cause| Failure::file("write", journal, &cause))?;
        }
        writeln!(answers, "{}", events::done(number)).map_err(failed)?;
        answers.flush().map_err(failed)?;
    }
    Ok(())
}

/// A running consumer of the group.
#[derive(Debug)]
pub(super) struct GroupRun {
    child: Child,
    journal: PathBuf,
}

impl GroupRun {
    /// Starts a consumer whose handler notes in `journal` what it is given. `log` is the log of the disk; an empty file where nothing is logged.
    pub(super) fn start(
        program: &Program,
        mount: &Path,
        fillers: u64,
        (journal, log): (&Path, &Path),
        until_end: bool,
    ) -> Result<GroupRun, Failure> {
        let handler = handler(journal, log, program.settles_early)?;
        let from = format!("@{fillers}");
        let arguments = ["consumer", "run", GROUP, "-q", "--type", "**"];
        let mut command = program.command(mount, &arguments);
        command
            .args(["--from", &from, "--pipe", &handler])
            .args(until_end.then_some("--until-end"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        File::create(journal).map_err(|cause| Failure::file("make", journal, &cause))?;
        let child = command
            .spawn()
            .map_err(|cause| Failure::new(format!("cannot run the consumer: {cause}")))?;
        Ok(GroupRun {
            child,
            journal: journal.to_owned(),
        })
    }

    /// Waits until its handler has noted so many events; no longer than it may take it to begin, for where the disk or the program is too slow this is no finding.
    pub(super) fn await_notes(&self, count: usize) -> Result<(), Failure> {
        let stopwatch = Stopwatch::start();
        while read_journal(&self.journal)?.len() < count && stopwatch.elapsed() < NOTES_WAIT_MAX {
            std::thread::sleep(NOTES_POLL_INTERVAL);
        }
        Ok(())
    }

    /// Kills it, and tells what it was given.
    pub(super) fn kill(mut self, known: &mut Vec<Handled>) -> Result<(), Failure> {
        // It may have ended by itself, which is no less of an end.
        let _ = self.child.kill();
        self.wait()?;
        known.extend(read_journal(&self.journal)?);
        Ok(())
    }

    /// Asks it to leave in order, and tells what it was given; the last of it, if it did.
    pub(super) fn leave(mut self, known: &mut Vec<Handled>) -> Result<Option<u64>, Failure> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // It may have ended by itself; how it ended is seen below.
            let _ = kill_process(pid, Signal::TERM);
        }
        let status = self.wait()?;
        let given = read_journal(&self.journal)?;
        known.extend(&given);
        // One that had not begun to listen for signals is ended by this one, and settles nothing.
        let in_order = status.code().is_some();
        let last = given.iter().map(|handled| handled.number).max();
        Ok(last.filter(|_| in_order))
    }

    /// Waits for its own end, and tells what it was given and how it ended.
    pub(super) fn end(mut self) -> Result<(Vec<Handled>, ExitStatus), Failure> {
        let status = self.wait()?;
        Ok((read_journal(&self.journal)?, status))
    }

    fn wait(&mut self) -> Result<ExitStatus, Failure> {
        self.child
            .wait()
            .map_err(|cause| Failure::new(format!("the consumer cannot be awaited: {cause}")))
    }
}

impl Drop for GroupRun {
    fn drop(&mut self) {
        // After a failure: what went wrong before is what is told.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The command line of the handler: this program again.
fn handler(journal: &Path, log: &Path, early: bool) -> Result<String, Failure> {
    let ourselves = crate::child::this_program()?;
    let parts = [&ourselves, journal, log].map(|path| path.display().to_string());
    if parts.iter().any(|part| part.contains('\'')) {
        return Err(Failure::new(format!(
            "the power cuts cannot run below {}: its name has a quotation mark",
            ourselves.display()
        )));
    }
    let [ourselves, journal, log] = parts;
    let early = if early { " --early" } else { "" };
    Ok(format!(
        "'{ourselves}' powercut --handle '{journal}' '{log}'{early}"
    ))
}

/// What a handler noted. The last line of a killed one may be half a line; it was not answered.
fn read_journal(path: &Path) -> Result<Vec<Handled>, Failure> {
    let text =
        std::fs::read_to_string(path).map_err(|cause| Failure::file("read", path, &cause))?;
    Ok(text
        .split_inclusive('\n')
        .filter_map(|line| line.strip_suffix('\n'))
        .filter_map(|line| {
            let (number, entries) = line.split_once(' ')?;
            Some(Handled {
                number: number.parse().ok()?,
                entries: entries.parse().ok()?,
            })
        })
        .collect())
}

/// What a group is owed after a cut.
#[derive(Debug, Default)]
pub(super) struct Owed {
    /// Handled before the cut: may come again, and need not.
    pub(super) handled: HashSet<u64>,
    /// Everything up to this one is settled and must not come again.
    pub(super) settled_to: Option<u64>,
}

/// What is wrong with what a group was given.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Neither handled before the cut nor given after it.
    pub(super) skipped: Vec<String>,
    /// Given again though it was settled when the group left in order.
    pub(super) unsettled: Vec<String>,
    /// Given in another order than that of their key.
    pub(super) disordered: Vec<String>,
}

/// Judges what a group was given of the events that are on the disk, both by number.
pub(super) fn judge(owed: &Owed, on_disk: &[u64], given: &[u64]) -> Verdict {
    let mut verdict = Verdict::default();
    let came: HashSet<u64> = given.iter().copied().collect();
    for number in on_disk {
        let settled = owed.settled_to.is_some_and(|last| *number <= last);
        if !came.contains(number) && !owed.handled.contains(number) {
            verdict.skipped.push(format!(
                "event {number} was not handled before the cut, and the group is not given it after it"
            ));
        }
        if settled && came.contains(number) {
            verdict.unsettled.push(format!(
                "event {number} was settled when the group left in order, and comes again"
            ));
        }
    }
    let mut last: BTreeMap<u64, u64> = BTreeMap::new();
    for number in given {
        if let Some(before) = last.insert(number % KEYS, *number)
            && before >= *number
        {
            verdict.disordered.push(format!(
                "the group is given event {number} of a key behind event {before}"
            ));
        }
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owed(handled: &[u64], settled_to: Option<u64>) -> Owed {
        Owed {
            handled: handled.iter().copied().collect(),
            settled_to,
        }
    }

    #[test]
    fn what_was_handled_may_come_again_and_the_rest_has_to_come() {
        let given_again = judge(&owed(&[0, 1], None), &[0, 1, 2], &[1, 2]);
        let skipped = judge(&owed(&[0], None), &[0, 1, 2], &[2]);

        assert_eq!(given_again, Verdict::default());
        assert_eq!(skipped.skipped.len(), 1);
        assert!(skipped.skipped[0].starts_with("event 1 "));
    }

    #[test]
    fn what_was_settled_stays_settled() {
        let verdict = judge(&owed(&[0, 1, 2], Some(1)), &[0, 1, 2, 3], &[1, 2, 3]);

        assert_eq!(verdict.unsettled.len(), 1);
        assert!(verdict.skipped.is_empty());
    }

    #[test]
    fn keys_keep_their_order_and_do_not_wait_for_each_other() {
        let ordered = judge(&Owed::default(), &[0, 1, 8, 9], &[1, 0, 8, 9]);
        let disordered = judge(&Owed::default(), &[0, 1, 8, 9], &[8, 0, 1, 9]);

        assert_eq!(ordered, Verdict::default());
        assert_eq!(disordered.disordered.len(), 1);
    }

    #[test]
    fn half_a_note_is_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal");
        std::fs::write(&path, "3 40\n4 41\n5 4").expect("written");

        let entries = |number, entries| Handled { number, entries };

        assert_eq!(
            read_journal(&path).expect("read"),
            [entries(3, 40), entries(4, 41)]
        );
    }
}
