//! A copy of the tree to plant bugs in. What is the same already is left alone, so that cargo builds only what changed.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::child;
use crate::failure::Failure;
use crate::house::House;

/// Makes the copy or brings it up to date: everything that git knows or would take in.
pub(super) fn bring_up_to_date(house: &House, copy: &Path) -> Result<(), Failure> {
    let mut command = Command::new("git");
    command.current_dir(&house.root).args([
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
        "-z",
    ]);
    let listed = child::capture(&mut command)?;
    let wanted: BTreeSet<PathBuf> = listed
        .split('\0')
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
        .collect();
    remove_others(copy, Path::new(""), &wanted)?;
    for path in &wanted {
        let bytes = match fs::read(house.path(path)) {
            Ok(bytes) => bytes,
            // Listed, and removed in the work tree.
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                remove_if_there(&copy.join(path))?;
                continue;
            }
            Err(cause) => return Err(Failure::file("read", &house.path(path), &cause)),
        };
        write_if_different(&copy.join(path), &bytes)?;
    }
    Ok(())
}

/// Writes a file of the copy.
pub(super) fn write_if_different(file: &Path, bytes: &[u8]) -> Result<(), Failure> {
    if fs::read(file).is_ok_and(|found| found == bytes) {
        return Ok(());
    }
    let written = file
        .parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::write(file, bytes));
    written.map_err(|cause| Failure::file("write", file, &cause))
}

fn remove_if_there(file: &Path) -> Result<(), Failure> {
    match fs::remove_file(file) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
            Err(Failure::file("remove", file, &cause))
        }
        _ => Ok(()),
    }
}

/// Removes files of the copy that are not in the tree any more.
fn remove_others(copy: &Path, below: &Path, wanted: &BTreeSet<PathBuf>) -> Result<(), Failure> {
    let folder = copy.join(below);
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(cause) => return Err(Failure::file("read", &folder, &cause)),
    };
    for entry in entries {
        let entry = entry.map_err(|cause| Failure::file("read", &folder, &cause))?;
        let path = below.join(entry.file_name());
        if entry.path().is_dir() {
            remove_others(copy, &path, wanted)?;
        } else if !wanted.contains(&path) {
            remove_if_there(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_left_the_tree_leaves_the_copy_and_what_is_the_same_is_not_written() {
        let copy = tempfile::tempdir().expect("temporary folder");
        let (kept, gone) = (copy.path().join("a/kept"), copy.path().join("a/gone"));
        write_if_different(&kept, b"1").expect("written");
        write_if_different(&gone, b"2").expect("written");
        let before = fs::metadata(&kept).expect("there").modified().ok();

        remove_others(
            copy.path(),
            Path::new(""),
            &BTreeSet::from(["a/kept".into()]),
        )
        .expect("removed");
        write_if_different(&kept, b"1").expect("the same");

        assert!(!gone.exists());
        assert_eq!(fs::metadata(&kept).expect("there").modified().ok(), before);
    }
}
