//! The rig: image, qemu's storage daemon that logs each write, loop device, mount. Each is taken down by its guard.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::child::quietly;
use crate::failure::Failure;
use crate::powercut::disk::DiskState;
use crate::powercut::log::WriteLog;

/// So long is waited for a mount or a device to come or go: 10 s, far beyond what a busy machine needs.
const WAITS_MAX: u32 = 5_000;
const WAIT: Duration = Duration::from_millis(2);

/// Makes an ext4 file system whose tables are written at once: nothing is left for the kernel to do later.
pub(super) fn make_file_system(image: &Path, mib: u64) -> Result<(), Failure> {
    let failed = |cause| Failure::file("make", image, &cause);
    let file = File::create(image).map_err(failed)?;
    file.set_len(mib * 1_048_576).map_err(failed)?;
    let mut command = Command::new("mkfs.ext4");
    command
        .args(["-q", "-F", "-b", "4096", "-E"])
        .arg("lazy_itable_init=0,lazy_journal_init=0")
        .arg(image);
    quietly(&mut command).map(drop)
}

/// Lets e2fsck repair a file system, as on a start of the machine.
pub(super) fn repair(image: &Path) {
    // Its exit code says what it did, which is of no interest as long as the mount works.
    let _ = quietly(Command::new("e2fsck").args(["-f", "-y"]).arg(image));
}

/// Whether a file system that was unmounted is whole, as far as e2fsck can tell without changing it.
pub(super) fn holds(image: &Path) -> bool {
    quietly(Command::new("e2fsck").args(["-f", "-n"]).arg(image)).is_ok()
}

/// A mounted file system; dropping it unmounts.
#[derive(Debug)]
pub(super) struct Mount {
    pub(super) at: PathBuf,
    mounted: bool,
}

impl Mount {
    /// Mounts an image by a loop device that vanishes with the mount.
    pub(super) fn image(image: &Path, at: &Path) -> Result<Mount, Failure> {
        Mount::with(&["-t", "ext4", "-o", "loop"], image, at)
    }

    /// As [`Mount::image`]; where the file system itself was torn, e2fsck repairs it as on a start of the machine.
    ///
    /// ext4 writes its superblock, two sectors with one checksum, in place; a cut between the two leaves it invalid.
    pub(super) fn image_repaired(image: &Path, at: &Path) -> Result<(Mount, bool), Failure> {
        if let Ok(mount) = Mount::image(image, at) {
            return Ok((mount, false));
        }
        repair(image);
        Mount::image(image, at).map(|mount| (mount, true))
    }

    /// Memory, of at most so many MiB.
    pub(super) fn memory(mib: u64, at: &Path) -> Result<Mount, Failure> {
        let options = format!("size={mib}m,mode=0700");
        Mount::with(&["-t", "tmpfs", "-o", &options], Path::new("powercut"), at)
    }

    fn with(arguments: &[&str], what: &Path, at: &Path) -> Result<Mount, Failure> {
        make_folder(at)?;
        quietly(Command::new("mount").args(arguments).arg(what).arg(at))?;
        Ok(Mount {
            at: at.to_owned(),
            mounted: true,
        })
    }

    pub(super) fn unmount(mut self) -> Result<(), Failure> {
        self.mounted = false;
        quietly(Command::new("umount").arg(&self.at)).map(drop)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if self.mounted {
            // The failure that led here is the one to be told; what stays goes with the mount namespace.
            let _ = quietly(Command::new("umount").arg("--lazy").arg(&self.at));
        }
    }
}

/// A disk that logs what is written to it: a file `disk`, exported as the file `export`.
#[derive(Debug)]
pub(super) struct LoggedDisk {
    daemon: Child,
    folder: PathBuf,
    exported: bool,
}

impl LoggedDisk {
    /// Starts from `base`, in a folder of its own.
    pub(super) fn start(base: &DiskState, folder: &Path) -> Result<LoggedDisk, Failure> {
        make_folder(folder)?;
        base.store(&folder.join("disk"))?;
        for name in ["log", "export", "daemon.txt"] {
            File::create(folder.join(name))
                .map_err(|cause| Failure::file("make", &folder.join(name), &cause))?;
        }
        let complaints = File::create(folder.join("daemon.txt"))
            .map_err(|cause| Failure::file("make", &folder.join("daemon.txt"), &cause))?;
        let mut command = Command::new("qemu-storage-daemon");
        command
            .current_dir(folder)
            .args(["--blockdev", "driver=file,node-name=disk,filename=disk"])
            .args(["--blockdev", "driver=file,node-name=log,filename=log"])
            .args(["--blockdev", "driver=blklogwrites,node-name=logged,file=disk,log=log,log-sector-size=512,log-super-update-interval=1"])
            .args(["--export", "type=fuse,id=export,node-name=logged,mountpoint=export,writable=on"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(complaints);
        let daemon = command
            .spawn()
            .map_err(|cause| Failure::new(format!("cannot run qemu-storage-daemon: {cause}")))?;
        let mut disk = LoggedDisk {
            daemon,
            folder: folder.to_owned(),
            exported: false,
        };
        disk.await_export()?;
        Ok(disk)
    }

    pub(super) fn export(&self) -> PathBuf {
        self.folder.join("export")
    }

    /// Where the log lies.
    pub(super) fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// The log, to ask it for its number of entries while it grows.
    pub(super) fn open_log(&self) -> Result<File, Failure> {
        let path = self.log();
        File::open(&path).map_err(|cause| Failure::file("open", &path, &cause))
    }

    /// Ends the daemon and reads what it logged. Nothing may be mounted from it any more.
    pub(super) fn finish(mut self) -> Result<WriteLog, Failure> {
        self.await_release()?;
        quietly(Command::new("umount").arg(self.export()))?;
        self.exported = false;
        self.end();
        WriteLog::read(&self.log())
    }

    fn await_export(&mut self) -> Result<(), Failure> {
        let folder = self.folder.clone();
        let device = |path: &Path| std::fs::metadata(path).ok().map(|data| data.dev());
        let export = self.export();
        for _ in 0..WAITS_MAX {
            let there = device(&export);
            if there.is_some() && there != device(&folder) {
                self.exported = true;
                return Ok(());
            }
            if let Ok(Some(status)) = self.daemon.try_wait() {
                let said = std::fs::read_to_string(folder.join("daemon.txt")).unwrap_or_default();
                let said = said.trim();
                return Err(Failure::new(format!(
                    "qemu-storage-daemon ended ({status}): {said}"
                )));
            }
            std::thread::sleep(WAIT);
        }
        Err(Failure::new("qemu-storage-daemon exports nothing"))
    }

    /// A loop device lets go of its file a moment after the unmount.
    fn await_release(&self) -> Result<(), Failure> {
        for _ in 0..WAITS_MAX {
            let devices = quietly(Command::new("losetup").arg("-j").arg(self.export()))?;
            if devices.trim().is_empty() {
                return Ok(());
            }
            std::thread::sleep(WAIT);
        }
        Err(Failure::new("a loop device does not let go of its file"))
    }

    fn end(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

impl Drop for LoggedDisk {
    fn drop(&mut self) {
        self.end();
        if self.exported {
            // As with a mount: what stays goes with the namespace.
            let _ = quietly(Command::new("umount").arg("--lazy").arg(self.export()));
        }
    }
}

pub(super) fn make_folder(path: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(path).map_err(|cause| Failure::file("make", path, &cause))
}
