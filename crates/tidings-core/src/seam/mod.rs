//! Seams: what a test must own is behind a trait here, and only the traits are here.

mod chance;
mod clock;
mod disk;

pub use chance::Chance;
pub use clock::Clock;
pub use disk::{Disk, DiskFile, DiskLock, FileInfo, OpenMode};
