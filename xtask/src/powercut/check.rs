//! The check of a rebuilt disk: it is mounted, the real program opens, verifies, reads, appends and reads again, and what it says is compared with the receipts.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::failure::Failure;
use crate::powercut::disk::DiskState;
use crate::powercut::events::{Events, Listed};
use crate::powercut::figures::Figures;
use crate::powercut::group::{self, GroupRun, Owed};
use crate::powercut::rig::{self, Mount};
use crate::powercut::workload::{self, Ack, Program};

/// Exit codes of the program.
const OK: i32 = 0;
const NOT_FOUND: i32 = 3;
const CONDITION_FALSE: i32 = 4;
/// So many findings of one disk are told; a lost segment would fill the screen.
const FINDINGS_TOLD_MAX: usize = 5;

/// What a disk must hold.
#[derive(Debug)]
pub(super) struct Expected<'a> {
    pub(super) events: &'a Events,
    /// Receipts that are certain to have been on the disk.
    pub(super) acks: Vec<Ack>,
    /// A number that no event has yet.
    pub(super) unused: u64,
    /// What the group is owed.
    pub(super) owed: Owed,
}

/// What was found on one disk; empty if it is as it must be.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Findings {
    pub(super) lost: Vec<String>,
    /// Doubled, reordered or changed.
    pub(super) disordered: Vec<String>,
    /// What a person would have to look after.
    pub(super) stuck: Vec<String>,
    /// Events that a group is not given though it never handled them.
    pub(super) skipped: Vec<String>,
    /// Events that a group is given though it had settled them when it left.
    pub(super) unsettled: Vec<String>,
    /// Events of the group that were looked at.
    pub(super) owed: u64,
    /// Of those, not given again: they were settled.
    pub(super) kept: u64,
    /// `verify` reports damage before the folder is opened again, though nothing rots here.
    pub(super) damage_reported: bool,
    /// The file system itself had to be repaired before it could be used.
    pub(super) repaired: bool,
}

impl Findings {
    pub(super) fn is_empty(&self) -> bool {
        self.all().into_iter().all(Vec::is_empty)
    }

    pub(super) fn add_to(&self, figures: &mut Figures) {
        figures.lost += self.lost.len() as u64;
        figures.disordered += self.disordered.len() as u64;
        figures.stuck += u64::from(!self.stuck.is_empty());
        figures.skipped += self.skipped.len() as u64;
        figures.unsettled += self.unsettled.len() as u64;
        figures.owed += self.owed;
        figures.kept += self.kept;
        figures.damage_reported += u64::from(self.damage_reported);
        figures.repaired += u64::from(self.repaired);
    }

    /// One line each, the first few.
    pub(super) fn lines(&self) -> Vec<String> {
        self.all()
            .into_iter()
            .flat_map(|findings| findings.iter().take(FINDINGS_TOLD_MAX).cloned())
            .collect()
    }

    fn all(&self) -> [&Vec<String>; 5] {
        [
            &self.lost,
            &self.disordered,
            &self.stuck,
            &self.skipped,
            &self.unsettled,
        ]
    }
}

/// Where a worker checks, and with what.
#[derive(Debug)]
pub(super) struct Checker<'a> {
    pub(super) program: &'a Program,
    pub(super) folder: PathBuf,
    /// Whether the program has `verify`.
    pub(super) verifies: bool,
}

impl Checker<'_> {
    /// Whether the program can look through a folder by itself.
    pub(super) fn has_verify(program: &Program) -> bool {
        let mut command = Command::new(&program.binary);
        command.args(["verify", "--help"]);
        command.output().is_ok_and(|output| output.status.success())
    }

    pub(super) fn check(&self, disk: &DiskState, expected: &Expected) -> Result<Findings, Failure> {
        let image = self.folder.join("cut");
        let at = self.folder.join("mount");
        disk.store(&image)?;
        let (mount, repaired) = Mount::image_repaired(&image, &at)?;
        let findings = self.look(&mount.at, expected);
        mount.unmount()?;
        let findings = findings?;
        if findings.is_empty() || repaired {
            return Ok(Findings {
                repaired,
                ..findings
            });
        }
        // A file system whose tables do not hold answers "no space" for the groups concerned; what it is asked then says nothing of the folder.
        disk.store(&image)?;
        Mount::image(&image, &at)?.unmount()?;
        if rig::holds(&image) {
            return Ok(findings);
        }
        rig::repair(&image);
        let mount = Mount::image(&image, &at)?;
        let findings = self.look(&mount.at, expected);
        mount.unmount()?;
        findings.map(|findings| Findings {
            repaired: true,
            ..findings
        })
    }

    fn look(&self, mount: &Path, expected: &Expected) -> Result<Findings, Failure> {
        let mut findings = Findings::default();
        if self.verifies {
            match self.verify(mount)? {
                (OK, _) => {}
                (NOT_FOUND, _) if expected.acks.is_empty() => {}
                (CONDITION_FALSE, _) => findings.damage_reported = true,
                (code, said) => findings
                    .stuck
                    .push(format!("verify ends with {code}: {said}")),
            }
        }
        let before = self.list(mount, expected)?;
        let complaints = self.folder.join("program.txt");
        let probe = expected.unused;
        let appended =
            workload::append_one(self.program, mount, expected.events, probe, &complaints);
        let position = match appended {
            Ok(position) => position,
            Err(failure) => {
                findings.stuck.push(failure.to_string());
                return Ok(findings);
            }
        };
        let after = match self.list(mount, expected)? {
            Ok(lines) => lines,
            Err(why) => {
                findings.stuck.push(why);
                return Ok(findings);
            }
        };
        let mut acks = expected.acks.clone();
        acks.push(Ack {
            number: probe,
            position,
            flushed: 0,
        });
        compare(expected.events, &after, &acks, &mut findings);
        self.follow(mount, expected, &after, &mut findings)?;
        match before {
            // A folder that did not exist yet, or not whole, held nothing that was promised.
            Err(why) if !expected.acks.is_empty() => {
                findings.stuck.push(format!("before it was opened: {why}"));
            }
            Err(_) => {}
            Ok(before) => compare_readers(&before, &after, &mut findings),
        }
        if self.verifies {
            let (code, said) = self.verify(mount)?;
            if code != OK {
                let stuck = format!("verify after opening ends with {code}: {said}");
                findings.stuck.push(stuck);
            }
        }
        Ok(findings)
    }

    /// Lets the group go on to the end, and judges what it was given.
    fn follow(
        &self,
        mount: &Path,
        expected: &Expected,
        lines: &[String],
        findings: &mut Findings,
    ) -> Result<(), Failure> {
        let journal = self.folder.join("journal.txt");
        let fillers = expected.events.fillers;
        let places = (journal.as_path(), Path::new("/dev/null"));
        let run = GroupRun::start(&self.program.honest(), mount, fillers, places, true)?;
        let (given, status) = run.end()?;
        if !status.success() {
            let stuck = format!("the group does not come to the end ({status})");
            findings.stuck.push(stuck);
            return Ok(());
        }
        let on_disk: Vec<u64> = lines
            .iter()
            .filter_map(|line| match expected.events.listed(line) {
                Listed::Ours { number, .. } => Some(number),
                Listed::Internal | Listed::Foreign => None,
            })
            .filter(|number| *number >= fillers)
            .collect();
        let given: Vec<u64> = given.iter().map(|handled| handled.number).collect();
        let verdict = group::judge(&expected.owed, &on_disk, &given);
        findings.owed += on_disk.len() as u64;
        let came = given.len() + verdict.skipped.len();
        findings.kept += on_disk.len().saturating_sub(came) as u64;
        findings.skipped.extend(verdict.skipped);
        findings.unsettled.extend(verdict.unsettled);
        findings.disordered.extend(verdict.disordered);
        Ok(())
    }

    fn verify(&self, mount: &Path) -> Result<(i32, String), Failure> {
        self.answer(&mut self.program.command(mount, &["verify"]))
            .map(|answer| (answer.code, answer.said))
    }

    /// The lines of `event ls`, or why it failed.
    fn list(
        &self,
        mount: &Path,
        expected: &Expected,
    ) -> Result<Result<Vec<String>, String>, Failure> {
        let since = format!("@{}", expected.events.fillers.saturating_sub(1));
        let arguments = [
            "event",
            "ls",
            "-q",
            "-o",
            "jsonl",
            "--internal",
            "--since",
            &since,
        ];
        let answer = self.answer(&mut self.program.command(mount, &arguments))?;
        Ok(match answer.code {
            OK => Ok(answer.stdout.lines().map(str::to_owned).collect()),
            code => Err(format!("event ls ends with {code}: {}", answer.said)),
        })
    }

    fn answer(&self, command: &mut Command) -> Result<Answer, Failure> {
        let output = command
            .stdin(Stdio::null())
            .output()
            .map_err(|cause| Failure::new(format!("cannot run the program: {cause}")))?;
        let said = String::from_utf8_lossy(&output.stderr);
        Ok(Answer {
            // A signal has no code; -1 is none of the program's.
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            said: said.trim().to_owned(),
        })
    }
}

struct Answer {
    code: i32,
    stdout: String,
    said: String,
}

/// Every promised event at its position, every byte as written, all in the order in which they were handed over.
fn compare(events: &Events, lines: &[String], acks: &[Ack], findings: &mut Findings) {
    let mut listed = Vec::new();
    for line in lines {
        match events.listed(line) {
            Listed::Ours { number, position } => listed.push((position, number)),
            Listed::Internal => {}
            Listed::Foreign => {
                let begin: String = line.chars().take(120).collect();
                findings
                    .disordered
                    .push(format!("never written so: {begin}"));
            }
        }
    }
    for pair in listed.windows(2) {
        let [(position, number), (position_next, number_next)] = pair else {
            continue;
        };
        if position >= position_next || number >= number_next {
            findings.disordered.push(format!(
                "event {number} at {position} stands before event {number_next} at {position_next}"
            ));
        }
    }
    for ack in acks {
        let found = listed.binary_search_by_key(&ack.position, |(position, _)| *position);
        let number = found.ok().and_then(|at| listed.get(at)).map(|(_, n)| *n);
        if number != Some(ack.number) {
            let instead = match number {
                Some(number) => format!("event {number} stands there"),
                None => "nothing stands there".to_owned(),
            };
            let (number, position) = (ack.number, ack.position);
            findings.lost.push(format!(
                "event {number} was acknowledged at {position}; {instead}"
            ));
        }
    }
}

/// What a reader saw before the folder was opened again must not go away by opening it.
fn compare_readers(before: &[String], after: &[String], findings: &mut Findings) {
    if !after.starts_with(before) {
        let same = before.iter().zip(after).take_while(|(a, b)| a == b).count();
        let count = before.len();
        findings.disordered.push(format!(
            "a reader saw {count} events before the folder was opened; after that only the first {same} of them are as they were"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: Events = Events {
        seed: 3,
        fillers: 0,
        padding_bytes_max: 100,
    };

    fn line(number: u64, position: u64) -> String {
        let line = EVENTS.line(number);
        let event = line.strip_suffix('}').expect("an object");
        format!("{event},\"position\":{position}}}")
    }

    fn ack(number: u64, position: u64) -> Ack {
        Ack {
            number,
            position,
            flushed: 0,
        }
    }

    fn findings(lines: &[String], acks: &[Ack]) -> Findings {
        let mut findings = Findings::default();
        compare(&EVENTS, lines, acks, &mut findings);
        findings
    }

    #[test]
    fn what_was_promised_and_more_is_as_it_must_be() {
        let lines = [line(0, 0), line(1, 1), line(2, 3)];

        assert!(findings(&lines, &[ack(0, 0), ack(2, 3)]).is_empty());
    }

    #[test]
    fn a_missing_event_and_one_at_another_position_are_lost() {
        let lines = [line(0, 0), line(1, 1)];

        let found = findings(&lines, &[ack(0, 0), ack(1, 2), ack(5, 1)]);

        assert_eq!(found.lost.len(), 2, "{found:?}");
    }

    #[test]
    fn doubles_disorder_and_changed_bytes_are_found() {
        let doubled = findings(&[line(0, 0), line(0, 1)], &[]);
        let disordered = findings(&[line(1, 0), line(0, 1)], &[]);
        let changed = findings(&[line(1, 0).replace("key-1", "key-2")], &[]);

        assert_eq!(doubled.disordered.len(), 1);
        assert_eq!(disordered.disordered.len(), 1);
        assert_eq!(changed.disordered.len(), 1);
    }

    #[test]
    fn what_a_reader_saw_must_stay() {
        let (one, two) = ([line(0, 0), line(1, 1)], [line(0, 0), line(2, 1)]);
        let mut findings = Findings::default();

        compare_readers(&one[..1], &two, &mut findings);
        assert!(findings.is_empty());
        compare_readers(&one, &two, &mut findings);

        assert_eq!(findings.disordered.len(), 1);
    }
}
