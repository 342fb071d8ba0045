//! `Process`: a server that runs by itself, known again by its start, so that no other process is ever ended.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal};

use crate::failure::Failure;
use crate::services::site::Site;
use crate::stopwatch::Stopwatch;

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// For daemons that have nothing to write.
const SWEEP_LIMIT: Duration = Duration::from_secs(5);

/// A number alone is given to another process one day; the moment of the start and the boot are not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Process {
    pid: i32,
    /// Since the boot, in the kernel's ticks.
    started_ticks: u64,
    boot: String,
}

impl Process {
    /// The server that was started last, whether it still runs or not; nothing if the record is damaged.
    pub(super) fn recorded(site: &Site) -> Option<Process> {
        let text = fs::read_to_string(site.record()).ok()?;
        let mut words = text.split_whitespace();
        Some(Process {
            pid: words.next()?.parse().ok()?,
            started_ticks: words.next()?.parse().ok()?,
            boot: words.next()?.to_owned(),
        })
    }

    fn record(&self, site: &Site) -> Result<(), Failure> {
        let (pid, started, boot) = (self.pid, self.started_ticks, &self.boot);
        let file = site.record();
        fs::write(&file, format!("{pid} {started} {boot} {}\n", site.port))
            .map_err(|cause| Failure::file("write", &file, &cause))
    }

    /// The port that the running server was given: it may have been moved.
    pub(super) fn recorded_port(site: &Site) -> Option<u16> {
        Process::recorded(site).filter(Process::is_alive)?;
        let text = fs::read_to_string(site.record()).ok()?;
        text.split_whitespace().nth(3)?.parse().ok()
    }

    pub(super) fn pid(&self) -> i32 {
        self.pid
    }

    pub(super) fn is_alive(&self) -> bool {
        current(self.pid).as_ref() == Some(self)
    }

    /// Sends a signal; one that has ended meanwhile needs none.
    pub(super) fn signal(&self, signal: Signal) {
        if self.is_alive() {
            send(self.pid, signal);
        }
    }

    /// Ends it and what it started without giving it a chance to write anything.
    pub(super) fn kill(&self, site: &Site) {
        if !self.is_alive() {
            return;
        }
        let others = [descendants(self.pid), marked(site)].concat();
        send(self.pid, Signal::KILL);
        for other in others {
            send(other, Signal::KILL);
        }
    }
}

/// Everything that we start carries the server's folder in this variable, and hands it on to what it starts.
const MARK: &str = "TIDINGS_SERVICE";

/// Ends what a server left behind: daemons of its own, or the server itself when only its shell was killed.
pub(super) fn sweep(site: &Site) {
    for signal in [Signal::TERM, Signal::KILL] {
        for pid in marked(site) {
            send(pid, signal);
        }
        if wait_until(SWEEP_LIMIT, || marked(site).is_empty()) {
            return;
        }
    }
}

/// What was started for this server, directly or not.
fn marked(site: &Site) -> Vec<i32> {
    let mark = format!("{MARK}={}", site.folder.display());
    let is_marked = |pid: &i32| {
        fs::read(format!("/proc/{pid}/environ")).is_ok_and(|variables| {
            variables
                .split(|byte| *byte == 0)
                .any(|variable| variable == mark.as_bytes())
        })
    };
    all()
        .into_iter()
        .filter(|pid| is_marked(pid) && current(*pid).is_some())
        .collect()
}

fn send(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        // It may have ended in this moment: that is what was wanted.
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// Starts a server that survives us: a session of its own, no input, its output in the log.
pub(super) fn start(site: &Site, server: &Command) -> Result<Child, Failure> {
    let log = site.log();
    let output = File::create(&log).map_err(|cause| Failure::file("write", &log, &cause))?;
    let errors = output
        .try_clone()
        .map_err(|cause| Failure::file("write", &log, &cause))?;
    let mut command = site.command("setsid");
    command.arg(server.get_program()).args(server.get_args());
    for (name, value) in server.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.env(MARK, &site.folder);
    command.stdin(Stdio::null()).stdout(output).stderr(errors);
    let child = command
        .spawn()
        .map_err(|cause| Failure::new(format!("cannot run setsid of util-linux: {cause}")))?;
    let pid = i32::try_from(child.id())
        .map_err(|_| Failure::new(format!("the process id {} is no pid", child.id())))?;
    // Nothing if it has ended already: who waits for it will say so.
    if let Some(process) = current(pid) {
        process.record(site)?;
    }
    Ok(child)
}

/// Waits until it holds, at most so long; whether it held.
pub(super) fn wait_until(limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let stopwatch = Stopwatch::start();
    loop {
        if holds() {
            return true;
        }
        if stopwatch.elapsed() > limit {
            return false;
        }
        std::thread::sleep(LOOK);
    }
}

/// Waits until nobody works in a data folder: what a killed server leaves behind notices its death by itself.
pub(super) fn wait_for_leftovers(data: &Path, name: &str) -> Result<(), Failure> {
    let limit = Duration::from_secs(10);
    if wait_until(limit, || working_in(data, name).is_empty()) {
        return Ok(());
    }
    let pids: Vec<String> = working_in(data, name)
        .iter()
        .map(ToString::to_string)
        .collect();
    Err(Failure::new(format!(
        "{name} works in {} already and was not started by `cargo xtask services`: end the process {}",
        data.display(),
        pids.join(", ")
    )))
}

/// Processes of that name whose current folder is this one: databases work in their data folder.
fn working_in(folder: &Path, name: &str) -> Vec<i32> {
    let Ok(folder) = folder.canonicalize() else {
        return Vec::new();
    };
    all()
        .into_iter()
        .filter(|pid| {
            fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|at| at == folder)
                && name_of(*pid).as_deref() == Some(name)
                && current(*pid).is_some()
        })
        .collect()
}

/// What the kernel calls its program.
pub(super) fn name_of(pid: i32) -> Option<String> {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(name.trim_end().to_owned())
}

/// Every process.
pub(super) fn all() -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// The process that has this number now; one that has ended and was not fetched by its parent is none.
fn current(pid: i32) -> Option<Process> {
    let stat = Stat::of(pid)?;
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    (!stat.has_ended).then(|| Process {
        pid,
        started_ticks: stat.started_ticks,
        boot: boot.trim().to_owned(),
    })
}

fn descendants(pid: i32) -> Vec<i32> {
    let parents: Vec<(i32, i32)> = all()
        .into_iter()
        .filter_map(|pid| Some((pid, Stat::of(pid)?.parent)))
        .collect();
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        let children = parents.iter().filter(|(_, of)| *of == parent);
        found.extend(children.map(|(child, _)| child));
        next += 1;
    }
    found.split_off(1)
}

/// What /proc/PID/stat says of a process.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    has_ended: bool,
    parent: i32,
    started_ticks: u64,
}

impl Stat {
    fn of(pid: i32) -> Option<Stat> {
        Stat::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The name stands in brackets and may hold brackets and spaces itself: fields count from behind the last one.
    fn parse(line: &str) -> Option<Stat> {
        let fields: Vec<&str> = line.rsplit_once(')')?.1.split_whitespace().collect();
        let threads: u32 = fields.get(17)?.parse().ok()?;
        Some(Stat {
            // The first thread may have ended before the others, which hold files and ports until then.
            has_ended: matches!(*fields.first()?, "Z" | "X") && threads <= 1,
            parent: fields.get(1)?.parse().ok()?,
            started_ticks: fields.get(19)?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let line = "42 (a (b) c) S 7 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1 2";

        assert_eq!(
            Stat::parse(line),
            Some(Stat {
                has_ended: false,
                parent: 7,
                started_ticks: 98765
            })
        );
        assert_eq!(Stat::parse("42 (cut"), None);
    }

    #[test]
    fn a_process_has_ended_once_its_last_thread_has() {
        let line = |state: &str, threads: u32| {
            format!(
                "42 (java) {state} 7 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 {threads} 0 98765 1 2"
            )
        };
        let has_ended = |state, threads| Stat::parse(&line(state, threads)).map(|it| it.has_ended);

        assert_eq!(has_ended("S", 40), Some(false));
        assert_eq!(has_ended("Z", 40), Some(false));
        assert_eq!(has_ended("Z", 1), Some(true));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn another_start_under_the_same_number_is_another_process() {
        let pid = i32::try_from(std::process::id()).expect("a pid");
        let this = current(pid).expect("we run");

        let before = Process {
            started_ticks: this.started_ticks - 1,
            ..this.clone()
        };
        let of_another_boot = Process {
            boot: "another".to_owned(),
            ..this.clone()
        };

        assert!(this.is_alive());
        assert!(!before.is_alive());
        assert!(!of_another_boot.is_alive());
    }
}
