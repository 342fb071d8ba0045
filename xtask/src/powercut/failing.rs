//! A disk that fails to flush once: the program must stop acknowledging, and keep what it had acknowledged.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::child::quietly;
use crate::failure::Failure;
use crate::powercut::chance::Chance;
use crate::powercut::check::{Checker, Expected};
use crate::powercut::disk::DiskState;
use crate::powercut::events::Events;
use crate::powercut::figures::Figures;
use crate::powercut::group::Owed;
use crate::powercut::rig::{self, Mount};
use crate::powercut::run::Orders;
use crate::powercut::workload;

/// The first flush that may fail: those before it are of the mount.
const FLUSH_FIRST: u64 = 20;
/// So many flushes behind that, one of which fails.
const FLUSHES: u64 = 60;
/// Events that are handed over; far more flushes than [`FLUSHES`].
const EVENTS: u64 = 4_000;
/// How often the other user of the disk flushes a file before it begins the next one.
const FLUSHES_PER_FILE: u32 = 4;
/// So often is looked for the export, 10 s in all.
const LOOKS_MAX: u32 = 1_000;
const LOOK: Duration = Duration::from_millis(10);

/// Lets one flush of a fresh disk fail, as often as told.
pub(super) fn flushes(orders: &Orders, seed: u64, times: u64) -> Result<Figures, Failure> {
    let mut figures = Figures::default();
    for time in 0..times {
        let mut chance = Chance::of(seed, time);
        let flush = FLUSH_FIRST + chance.below(FLUSHES);
        figures.add(&fail(orders, chance.next(), flush)?);
    }
    Ok(figures)
}

fn fail(orders: &Orders, seed: u64, flush: u64) -> Result<Figures, Failure> {
    let folder = orders.folder.join("failing");
    rig::make_folder(&folder)?;
    let image = folder.join("disk");
    rig::make_file_system(&image, orders.image_mib)?;
    let events = Events {
        seed,
        fillers: 0,
        padding_bytes_max: 600,
    };
    let disk = FailingDisk::start(&folder, flush)?;
    let mount = Mount::image(&folder.join("export"), &folder.join("mount"))?;
    let complaints = folder.join("program.txt");
    let program = &orders.program;
    let over = AtomicBool::new(false);
    let (imported, met_by_other) = std::thread::scope(|scope| {
        // Half of the disks have another user, so that the flush that fails is often none of ours.
        let is_shared = Chance::new(seed).once_in(2);
        let other = is_shared.then(|| scope.spawn(|| disturb(&mount.at, &over)));
        let imported =
            workload::import_while_it_lasts(program, &mount.at, &events, 0..EVENTS, &complaints);
        over.store(true, Ordering::Relaxed);
        let met = other.is_some_and(|other| other.join().unwrap_or_default());
        (imported, met)
    });
    let (acks, succeeded) = imported?;
    // A file system that takes a new file knows nothing of a failure: that comes with its end, behind everything that was acknowledged, or it met a flush of the kernel's own that
    // tells nobody. What was acknowledged must be there all the same.
    let is_unnoticed = File::create(mount.at.join("probe")).is_ok();
    mount.unmount()?;
    disk.finish()?;
    // The journal of a file system that failed may have been given up, which is mended as on a start of the machine.
    rig::repair(&image);
    let checker = Checker {
        program,
        verifies: Checker::has_verify(program),
        folder: folder.clone(),
    };
    let count = acks.len() as u64;
    let expected = Expected {
        events: &events,
        acks,
        unused: EVENTS,
        owed: Owed::default(),
    };
    let mut findings = checker.check(&DiskState::load(&image)?, &expected)?;
    // A flush that failed for the other user alone, or for nobody, is none of ours.
    if succeeded && !met_by_other && !is_unnoticed {
        let passed_over = format!("flush {flush} failed, and every event was acknowledged");
        findings.lost.push(passed_over);
    }
    for line in findings.lines().iter().filter(|_| program.is_honest()) {
        println!("found where flush {flush} failed: {line}");
    }
    let mut figures = Figures {
        failed_flushes: 1,
        acks_checked: count,
        ..Figures::default()
    };
    findings.add_to(&mut figures);
    Ok(figures)
}

/// Another program on the same disk: it appends to files of its own and flushes them, until it cannot or is told to end. Answers whether it could not.
fn disturb(mount: &Path, over: &AtomicBool) -> bool {
    for number in 0.. {
        let made = File::create(mount.join(format!("other-{number}")));
        let Ok(mut file) = made else { return true };
        for _ in 0..FLUSHES_PER_FILE {
            if over.load(Ordering::Relaxed) {
                return false;
            }
            if file.write_all(&[7; 4_096]).is_err() || file.sync_data().is_err() {
                return true;
            }
        }
    }
    false
}

/// The file `disk` of a folder, exported as the file `export`: one flush of it fails.
#[derive(Debug)]
struct FailingDisk<'a> {
    daemon: Child,
    folder: &'a Path,
}

impl<'a> FailingDisk<'a> {
    fn start(folder: &'a Path, flush: u64) -> Result<FailingDisk<'a>, Failure> {
        let failed = |cause| Failure::file("make", folder, &cause);
        std::fs::write(folder.join("rules.conf"), rules(flush)).map_err(failed)?;
        File::create(folder.join("export")).map_err(failed)?;
        let complaints = File::create(folder.join("daemon.txt")).map_err(failed)?;
        let daemon = Command::new("qemu-storage-daemon")
            .current_dir(folder)
            .args(["--blockdev", "driver=file,node-name=disk,filename=disk"])
            .args([
                "--blockdev",
                "driver=blkdebug,node-name=failing,image=disk,config=rules.conf",
            ])
            .args(["--blockdev", "driver=raw,node-name=top,file=failing"])
            .args([
                "--export",
                "type=fuse,id=export,node-name=top,mountpoint=export,writable=on",
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(complaints)
            .spawn()
            .map_err(|cause| Failure::new(format!("cannot run qemu-storage-daemon: {cause}")))?;
        let disk = FailingDisk { daemon, folder };
        for _ in 0..LOOKS_MAX {
            // The file that was made is empty; what is exported is as long as the disk.
            if std::fs::metadata(folder.join("export")).is_ok_and(|export| export.len() > 0) {
                return Ok(disk);
            }
            std::thread::sleep(LOOK);
        }
        Err(Failure::new("qemu-storage-daemon exports nothing"))
    }

    /// Ends the daemon. Nothing may be mounted from it any more.
    fn finish(self) -> Result<(), Failure> {
        let export = self.folder.join("export");
        for _ in 0..LOOKS_MAX {
            let devices = quietly(Command::new("losetup").arg("-j").arg(&export))?;
            if devices.trim().is_empty() {
                return quietly(Command::new("umount").arg(&export)).map(drop);
            }
            std::thread::sleep(LOOK);
        }
        Err(Failure::new("a loop device does not let go of its file"))
    }
}

impl Drop for FailingDisk<'_> {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// Rules of qemu's `blkdebug`: each flush moves on by one state, and the one of the last state fails, once.
fn rules(flush: u64) -> String {
    let counted = (1..flush).map(|state| {
        let next = state + 1;
        format!("[set-state]\nevent = \"flush_to_disk\"\nstate = \"{state}\"\nnew_state = \"{next}\"\n\n")
    });
    let fails = format!(
        "[inject-error]\nevent = \"flush_to_disk\"\nstate = \"{flush}\"\nerrno = \"5\"\nonce = \"on\"\niotype = \"flush\"\n"
    );
    counted.chain([fails]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flush_that_fails_is_reached_by_counting() {
        let rules = rules(3);

        assert_eq!(rules.matches("[set-state]").count(), 2);
        assert!(rules.contains("state = \"2\"\nnew_state = \"3\""));
        assert!(
            rules.ends_with("state = \"3\"\nerrno = \"5\"\nonce = \"on\"\niotype = \"flush\"\n")
        );
    }
}
