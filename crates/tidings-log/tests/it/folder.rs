//! Who may open a data folder, and what is said to who may not. Nothing is written into a folder that is refused.

use crate::driver::{block_on, clock, event, events, on_disk, on_faulty, publish, read_from};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use tidings_core::broker::{Broker, BrokerError};
use tidings_core::{ErrorClass, codes};
use tidings_log::{LogBroker, LogReader, RealDisk};
use tidings_testkit::FaultyDisk;

fn reader(folder: &Path) -> Result<LogReader, BrokerError> {
    LogReader::open(folder, Arc::new(clock()), Arc::new(RealDisk))
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_second_owner_is_refused_and_told_who_the_first_is() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = on_disk(folder.path());
    options.program = "shop".to_owned();
    let broker = LogBroker::open(options).unwrap();

    let error = LogBroker::open(on_disk(folder.path())).unwrap_err();

    let message = error.to_string();
    let process = format!(
        "process {} (shop), since 2024-01-15T10:30:00Z",
        std::process::id()
    );
    assert!(
        message.contains(&process) && message.contains("stop that process"),
        "{message}"
    );
    assert_eq!(
        (error.code(), error.class()),
        (codes::FOLDER_OWNED, ErrorClass::Transient)
    );
    drop(broker);
    LogBroker::open(on_disk(folder.path())).unwrap();
}

#[test]
fn a_closed_broker_gives_the_folder_back_and_accepts_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let broker = LogBroker::open(on_disk(folder.path())).unwrap();
    block_on(broker.close()).unwrap();
    block_on(broker.close()).unwrap();

    assert_eq!(
        publish(&broker, &[event(0)]).unwrap_err().code(),
        codes::CLOSED
    );
    LogBroker::open(on_disk(folder.path())).unwrap();
}

#[test]
fn a_folder_of_a_newer_format_is_refused_and_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    drop(LogBroker::open(on_disk(folder.path())).unwrap());
    fs::write(
        folder.path().join("format"),
        "format 7\nlog 0000000000000001\n",
    )
    .unwrap();
    fs::write(folder.path().join("lock"), "").unwrap();

    for error in [
        LogBroker::open(on_disk(folder.path())).unwrap_err(),
        reader(folder.path()).unwrap_err(),
    ] {
        assert_eq!(error.code(), codes::FORMAT_NEWER);
        assert!(
            error.to_string().contains("format 7") && error.to_string().contains("up to 1"),
            "{error}"
        );
    }
    assert_eq!(fs::read(folder.path().join("lock")).unwrap(), b"");
}

#[test]
fn a_missing_folder_is_made_private_for_writing_and_refused_for_reading() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("a/b");
    assert_eq!(reader(&folder).unwrap_err().code(), codes::FOLDER_MISSING);
    assert!(!folder.exists());

    drop(LogBroker::open(on_disk(&folder)).unwrap());

    assert_eq!(
        (mode(&folder), mode(&folder.join("log/main"))),
        (0o700, 0o700)
    );
    for entry in fs::read_dir(folder.join("log/main"))
        .unwrap()
        .map(Result::unwrap)
    {
        let expected = if entry.file_type().unwrap().is_dir() {
            0o700
        } else {
            0o600
        };
        assert_eq!(mode(&entry.path()), expected, "{}", entry.path().display());
    }
}

#[test]
fn an_empty_folder_is_taken_and_made_private() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    assert_eq!(
        reader(folder.path()).unwrap_err().code(),
        codes::FOLDER_MISSING
    );

    drop(LogBroker::open(on_disk(folder.path())).unwrap());

    assert_eq!(mode(folder.path()), 0o700);
}

#[test]
fn a_folder_that_others_may_open_is_refused_with_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    drop(LogBroker::open(on_disk(folder.path())).unwrap());
    for bits in [0o750, 0o701, 0o702] {
        fs::set_permissions(folder.path(), Permissions::from_mode(bits)).unwrap();
        for error in [
            LogBroker::open(on_disk(folder.path())).unwrap_err(),
            reader(folder.path()).unwrap_err(),
        ] {
            assert_eq!(error.code(), codes::FOLDER_NOT_PRIVATE);
            let message = error.to_string();
            assert!(
                message.contains(&format!("{bits:03o}")) && message.contains("chmod 700"),
                "{message}"
            );
        }
    }
}

#[test]
fn a_directory_of_other_things_is_refused_and_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("letter.txt"), "dear").unwrap();
    let file = folder.path().join("letter.txt");

    for path in [folder.path(), &file] {
        assert_eq!(
            LogBroker::open(on_disk(path)).unwrap_err().code(),
            codes::FOLDER_FOREIGN
        );
        assert_eq!(reader(path).unwrap_err().code(), codes::FOLDER_FOREIGN);
    }
    assert_eq!(names(folder.path()), ["letter.txt"]);
}

#[test]
fn a_folder_that_holds_only_the_store_is_ours() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).unwrap();
    fs::write(folder.path().join("state.db"), "").unwrap();

    LogBroker::open(on_disk(folder.path())).unwrap();
}

#[test]
fn a_read_only_folder_is_read_and_refused_for_writing() {
    let disk = FaultyDisk::new();
    let broker = LogBroker::open(on_faulty(&disk)).unwrap();
    publish(&broker, &events(0..5)).unwrap();
    drop(broker);
    disk.set_read_only(true);

    let error = LogBroker::open(on_faulty(&disk)).unwrap_err();

    assert_eq!(
        (error.code(), error.class()),
        (codes::FOLDER_READ_ONLY, ErrorClass::Permanent)
    );
    let reader = LogReader::open("/data", Arc::new(clock()), Arc::new(disk.clone())).unwrap();
    assert_eq!(read_from(&reader, 0, &[]).len(), 5);
}
