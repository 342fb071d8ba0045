//! A disk in memory that fails as real ones do: it loses at a power cut what was not flushed, tears writes, flips bits, runs full, and fails when it is told to.
//!
//! The model is stricter than any one file system: each unflushed write and each unflushed name is kept or lost on its own.

mod fault;
mod world;

pub use fault::{DiskFault, FaultPlan, Operation, Times};
pub use world::Loss;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tidings_core::seam::{Disk, DiskFile, DiskLock, FileInfo, OpenMode};
use world::{NodeId, World};

/// A disk of the test's own. Clones are the same disk.
///
/// ```
/// use std::path::Path;
/// use tidings_core::seam::{Disk, OpenMode};
/// use tidings_testkit::disk::{FaultyDisk, Loss};
/// let disk = FaultyDisk::new();
/// let file = disk.open(Path::new("/f"), OpenMode::Create)?;
/// disk.sync_directory(Path::new("/"))?;
/// file.write_all_at(b"kept", 0)?;
/// file.sync_data()?;
/// file.write_all_at(b"lost", 4)?;
/// disk.cut_power(Loss::Everything);
/// assert_eq!(disk.bytes_of("/f").as_deref(), Some(&b"kept"[..]));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct FaultyDisk {
    /// Guards the whole disk: each call is one step.
    world: Arc<Mutex<World>>,
}

impl FaultyDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// A second disk that holds what this one holds now, flushed or not. Faults that were planned are not copied.
    pub fn fork(&self) -> Self {
        let world = self.world().fork();
        Self {
            world: Arc::new(Mutex::new(world)),
        }
    }

    /// Cuts the power: what was not flushed is lost as told, every lock is free, every open file is dead.
    pub fn cut_power(&self, loss: Loss) {
        self.world().cut_power(loss);
    }

    /// Makes calls fail.
    pub fn plan(&self, plan: FaultPlan) {
        self.world().faults.plan(plan);
    }

    /// Forgets every plan.
    pub fn heal(&self) {
        self.world().faults.heal();
    }

    /// How many calls were made so far.
    pub fn calls(&self) -> u64 {
        self.world().faults.calls()
    }

    /// How many calls of one kind were made so far.
    pub fn calls_of(&self, operation: Operation) -> u64 {
        self.world().faults.calls_of(operation)
    }

    /// Leaves room for so many further bytes; `None` for as many as anybody wants.
    pub fn leave_free(&self, bytes: Option<u64>) {
        self.world().leave_free(bytes);
    }

    /// Makes the disk read-only or writable.
    pub fn set_read_only(&self, read_only: bool) {
        self.world().read_only = read_only;
    }

    /// Gives a directory or file these permission bits.
    pub fn set_mode(&self, path: impl AsRef<Path>, mode: u32) {
        self.world().set_mode(path.as_ref(), mode);
    }

    /// The bytes of a file as a program would read them; `None` if there is no such file.
    pub fn bytes_of(&self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        self.world().bytes_of(path.as_ref())
    }

    /// Replaces the bytes of a file, flushed and past every fault; makes it if need be.
    pub fn put(&self, path: impl AsRef<Path>, bytes: &[u8]) {
        self.world().put(path.as_ref(), bytes);
    }

    /// Removes a file, flushed and past every fault.
    pub fn take_away(&self, path: impl AsRef<Path>) {
        self.world().take_away(path.as_ref());
    }

    /// Flips one bit of a file, on the disk and in memory.
    pub fn flip_bit(&self, path: impl AsRef<Path>, bit: u64) {
        let path = path.as_ref();
        let mut world = self.world();
        if let Some(mut bytes) = world.bytes_of(path) {
            if let Some(byte) = bytes.get_mut((bit / 8) as usize) {
                *byte ^= 1 << (bit % 8);
            }
            world.put(path, &bytes);
        }
    }

    /// All files, in order of their names.
    pub fn files(&self) -> Vec<PathBuf> {
        self.world().files()
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk for FaultyDisk {
    fn create_directories(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.step(Operation::CreateDirectories)?;
        world.create_directories(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let mut world = self.world();
        world.step(Operation::List)?;
        world.list(path)
    }

    fn info(&self, path: &Path) -> io::Result<FileInfo> {
        let mut world = self.world();
        world.step(Operation::Info)?;
        world.info(path)
    }

    fn make_private(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.step(Operation::MakePrivate)?;
        let mode = world.info(path)?.mode;
        world.set_mode(path, mode & 0o700);
        Ok(())
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let mut world = self.world();
        world.step(Operation::Open)?;
        let node = world.open(path, mode)?;
        Ok(Box::new(FaultyFile {
            disk: self.clone(),
            node,
            power: world.power,
            writable: mode != OpenMode::Read,
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.step(Operation::Rename)?;
        world.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.step(Operation::Remove)?;
        world.remove(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.step(Operation::SyncDirectory)?;
        world.sync_directory(path)
    }

    fn free_bytes(&self, _path: &Path) -> io::Result<u64> {
        let mut world = self.world();
        world.step(Operation::FreeBytes)?;
        Ok(world.free_bytes())
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn DiskLock>>> {
        let mut world = self.world();
        world.step(Operation::Lock)?;
        let node = world.open(path, OpenMode::Create)?;
        if !world.take_lock(node) {
            return Ok(None);
        }
        let file = FaultyFile {
            disk: self.clone(),
            node,
            power: world.power,
            writable: true,
        };
        Ok(Some(Box::new(FaultyLock { file })))
    }
}

struct FaultyFile {
    disk: FaultyDisk,
    node: NodeId,
    /// Which life of the disk it was opened in.
    power: u64,
    writable: bool,
}

impl FaultyFile {
    fn step(&self, operation: Operation) -> io::Result<MutexGuard<'_, World>> {
        let mut world = self.disk.world();
        if world.power != self.power {
            return Err(io::Error::other(
                "the power was cut since this file was opened",
            ));
        }
        world.step(operation)?;
        Ok(world)
    }

    fn step_to_write(&self, operation: Operation) -> io::Result<MutexGuard<'_, World>> {
        if self.writable {
            self.step(operation)
        } else {
            Err(io::ErrorKind::PermissionDenied.into())
        }
    }
}

impl DiskFile for FaultyFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let world = self.step(Operation::Read)?;
        Ok(world.read(self.node, buffer, offset))
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        match self.step_to_write(Operation::Write) {
            Ok(mut world) => world.write(self.node, bytes, offset),
            Err(error) => {
                // A failed write may leave any beginning of it behind.
                let mut world = self.disk.world();
                if world.power == self.power && !world.read_only {
                    let half = bytes.get(..bytes.len() / 2).unwrap_or_default();
                    // It fails in any case.
                    drop(world.write(self.node, half, offset));
                }
                Err(error)
            }
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        match self.step(Operation::SyncData) {
            Ok(mut world) => {
                world.flush(self.node);
                Ok(())
            }
            Err(error) => {
                // As Linux does: the pages count as clean although the disk does not hold them.
                let mut world = self.disk.world();
                if world.power == self.power {
                    world.forget_unflushed(self.node);
                }
                Err(error)
            }
        }
    }

    fn bytes(&self) -> io::Result<u64> {
        let world = self.step(Operation::Bytes)?;
        Ok(world.len(self.node))
    }

    fn set_bytes(&self, bytes: u64) -> io::Result<()> {
        let mut world = self.step_to_write(Operation::SetBytes)?;
        world.set_bytes(self.node, bytes)
    }

    fn reserve(&self, offset: u64, bytes: u64) -> io::Result<()> {
        let mut world = self.step_to_write(Operation::Reserve)?;
        let end = offset.saturating_add(bytes).max(world.len(self.node));
        world.set_bytes(self.node, end)
    }
}

struct FaultyLock {
    file: FaultyFile,
}

impl DiskLock for FaultyLock {
    fn write_owner(&self, text: &str) -> io::Result<()> {
        self.file.write_all_at(text.as_bytes(), 0)?;
        self.file.set_bytes(text.len() as u64)
    }
}

impl Drop for FaultyLock {
    fn drop(&mut self) {
        let mut world = self.file.disk.world();
        if world.power == self.file.power {
            world.free_lock(self.file.node);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(disk: &FaultyDisk, path: &str, bytes: &[u8]) -> Box<dyn DiskFile> {
        let file = disk.open(Path::new(path), OpenMode::Create).unwrap();
        file.write_all_at(bytes, 0).unwrap();
        file
    }

    #[test]
    fn unflushed_bytes_and_names_are_lost_at_a_power_cut() {
        let disk = FaultyDisk::new();
        written(&disk, "/named", b"x").sync_data().unwrap();
        disk.sync_directory(Path::new("/")).unwrap();
        written(&disk, "/unnamed", b"y").sync_data().unwrap();
        disk.open(Path::new("/named"), OpenMode::Write)
            .unwrap()
            .write_all_at(b"z", 0)
            .unwrap();
        let kept = disk.fork();

        disk.cut_power(Loss::Everything);
        kept.cut_power(Loss::Nothing);

        assert_eq!(disk.bytes_of("/named"), Some(b"x".to_vec()));
        assert_eq!(disk.bytes_of("/unnamed"), None);
        assert_eq!(kept.bytes_of("/named"), Some(b"z".to_vec()));
        assert_eq!(kept.bytes_of("/unnamed"), Some(b"y".to_vec()));
    }

    #[test]
    fn a_file_that_was_open_at_a_power_cut_is_dead() {
        let disk = FaultyDisk::new();
        let file = written(&disk, "/f", b"x");
        disk.cut_power(Loss::Nothing);

        assert!(file.write_all_at(b"y", 0).is_err());
        assert_eq!(disk.bytes_of("/f"), Some(b"x".to_vec()));
    }

    #[test]
    fn a_torn_power_cut_repeats_with_its_seed() {
        let disk = FaultyDisk::new();
        let file = written(&disk, "/f", &[1; 100]);
        disk.sync_directory(Path::new("/")).unwrap();
        file.sync_data().unwrap();
        for at in 0..20 {
            file.write_all_at(&[2; 100], at * 100).unwrap();
        }
        let after = |seed| {
            let fork = disk.fork();
            fork.cut_power(Loss::Torn { seed });
            fork.bytes_of("/f").unwrap()
        };

        assert_eq!(after(1), after(1));
        assert_ne!(after(1), after(2));
    }

    #[test]
    fn a_failed_flush_leaves_pages_that_look_clean_and_are_not() {
        let disk = FaultyDisk::new();
        let file = written(&disk, "/f", b"x");
        disk.sync_directory(Path::new("/")).unwrap();
        disk.plan(FaultPlan {
            operation: Some(Operation::SyncData),
            after: 0,
            times: Times::Once,
            fault: DiskFault::Io,
        });

        assert!(file.sync_data().is_err());
        file.sync_data().unwrap();

        assert_eq!(disk.bytes_of("/f"), Some(b"x".to_vec()));
        disk.cut_power(Loss::Nothing);
        assert_eq!(disk.bytes_of("/f"), Some(Vec::new()));
    }

    #[test]
    fn the_nth_call_fails_once_or_for_ever() {
        let disk = FaultyDisk::new();
        disk.plan(FaultPlan {
            operation: None,
            after: 1,
            times: Times::Once,
            fault: DiskFault::Full,
        });
        let root = Path::new("/");

        assert!(disk.list(root).is_ok());
        assert_eq!(
            disk.list(root).unwrap_err().kind(),
            io::ErrorKind::StorageFull
        );
        assert!(disk.list(root).is_ok());
        assert_eq!(disk.calls_of(Operation::List), 3);

        disk.plan(FaultPlan {
            operation: Some(Operation::List),
            after: 0,
            times: Times::ForEver,
            fault: DiskFault::ReadOnly,
        });
        assert!(disk.list(root).is_err() && disk.list(root).is_err());
        disk.heal();
        assert!(disk.list(root).is_ok());
    }

    #[test]
    fn a_full_disk_takes_what_overwrites_and_refuses_what_grows() {
        let disk = FaultyDisk::new();
        let file = written(&disk, "/f", &[1; 100]);
        disk.leave_free(Some(10));

        assert!(file.write_all_at(&[2; 100], 0).is_ok());
        assert!(file.write_all_at(&[2; 10], 100).is_ok());
        assert_eq!(
            file.write_all_at(&[2], 110).unwrap_err().kind(),
            io::ErrorKind::StorageFull
        );
        assert_eq!(
            file.reserve(0, 200).unwrap_err().kind(),
            io::ErrorKind::StorageFull
        );
        disk.leave_free(None);
        assert!(file.reserve(0, 200).is_ok());
        assert_eq!(file.bytes().unwrap(), 200);
    }

    #[test]
    fn a_lock_has_one_holder_until_it_is_dropped_or_the_power_is_cut() {
        let disk = FaultyDisk::new();
        let held = disk.lock(Path::new("/lock")).unwrap().unwrap();
        held.write_owner("me").unwrap();

        assert!(disk.lock(Path::new("/lock")).unwrap().is_none());
        drop(held);
        let held = disk.lock(Path::new("/lock")).unwrap().unwrap();
        disk.cut_power(Loss::Nothing);
        let again = disk.lock(Path::new("/lock")).unwrap();
        drop(held);
        assert!(again.is_some() && disk.lock(Path::new("/lock")).unwrap().is_none());
    }

    #[test]
    fn a_read_only_disk_is_read() {
        let disk = FaultyDisk::new();
        written(&disk, "/f", b"x");
        disk.set_read_only(true);

        assert!(disk.open(Path::new("/f"), OpenMode::Read).is_ok());
        for error in [
            disk.open(Path::new("/f"), OpenMode::Write).map(drop),
            disk.create_directories(Path::new("/d")),
            disk.remove(Path::new("/f")),
        ] {
            assert_eq!(error.unwrap_err().kind(), io::ErrorKind::ReadOnlyFilesystem);
        }
    }
}
