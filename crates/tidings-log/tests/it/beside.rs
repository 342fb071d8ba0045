//! A group that works beside the owner of the log: it gets what the owner acknowledges, keeps its place, and has its lease for itself.

use crate::driver::{block_on, clock, envelopes, events, on_disk, publish, read_from, receive};
use std::path::Path;
use std::sync::Arc;
use tidings_core::broker::{
    Broker, BrokerError, SettleAction, StartAt, SubscribeRequest, Subscription,
};
use tidings_log::{Backup, LogBroker, LogReader, RealDisk, verify};

fn request() -> SubscribeRequest {
    SubscribeRequest {
        group: "billing".parse().unwrap(),
        patterns: vec!["order.*".parse().unwrap()],
        start: StartAt::Earliest,
        single_instance: false,
    }
}

fn beside(folder: &Path) -> LogReader {
    LogReader::open(folder, Arc::new(clock()), Arc::new(RealDisk)).unwrap()
}

/// Receives until `count` events are there, settles them, and answers their positions.
fn handle(group: &mut Subscription, count: usize) -> Vec<u64> {
    let mut positions = Vec::new();
    while positions.len() < count {
        let got = receive(group, count - positions.len());
        let outcomes: Vec<_> = got
            .iter()
            .map(|delivery| (delivery.token, SettleAction::Ack))
            .collect();
        positions.extend(got.iter().map(|delivery| delivery.position.unwrap().0));
        assert!(
            block_on(group.settle.settle(&outcomes))
                .iter()
                .all(Result::is_ok)
        );
    }
    positions
}

#[test]
fn a_group_beside_the_owner_gets_what_the_owner_publishes_and_keeps_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let owner = LogBroker::open(on_disk(folder.path())).unwrap();
    publish(&owner, &events(0..3)).unwrap();

    let reader = beside(folder.path());
    let mut group = reader.subscribe(&request()).unwrap();
    assert_eq!(handle(&mut group, 3), [0, 1, 2]);
    publish(&owner, &events(3..5)).unwrap();
    assert_eq!(handle(&mut group, 2), [3, 4]);
    block_on(group.settle.leave()).unwrap();
    drop(group);

    publish(&owner, &events(5..6)).unwrap();
    let mut group = block_on(owner.subscribe(&request())).unwrap();
    assert_eq!(
        handle(&mut group, 1),
        [5],
        "the owner goes on where the other stopped"
    );
}

#[test]
fn one_process_works_for_a_group_whether_it_owns_the_log_or_not() {
    let folder = tempfile::tempdir().unwrap();
    let owner = LogBroker::open(on_disk(folder.path())).unwrap();
    publish(&owner, &events(0..1)).unwrap();
    let reader = beside(folder.path());

    let held = reader.subscribe(&request()).unwrap();
    let refused = block_on(owner.subscribe(&request())).err();
    assert!(
        matches!(refused, Some(BrokerError::GroupLeased { .. })),
        "{refused:?}"
    );
    drop(held);

    let held = block_on(owner.subscribe(&request())).unwrap();
    let refused = reader.subscribe(&request()).err();
    assert!(
        matches!(refused, Some(BrokerError::GroupLeased { .. })),
        "{refused:?}"
    );
    drop(held);
}

fn copy(folder: &Path, to: &Path) -> Result<Backup, BrokerError> {
    Backup::begin(folder, to, Arc::new(clock()), Arc::new(RealDisk))
}

#[test]
fn a_copy_made_under_a_working_owner_is_sound_and_continues() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = on_disk(folder.path());
    options.segment_bytes = 4_096;
    let owner = LogBroker::open(options).unwrap();
    for batch in events(0..500).chunks(10) {
        publish(&owner, batch).unwrap();
    }
    let mut group = block_on(owner.subscribe(&request())).unwrap();
    handle(&mut group, 300);
    block_on(group.settle.leave()).unwrap();

    let above = tempfile::tempdir().unwrap();
    let target = above.path().join("copy");
    let begun = copy(folder.path(), &target).unwrap();
    // The owner goes on: more events, and a group that has settled more than the copy's cursor says.
    publish(&owner, &events(500..510)).unwrap();
    let mut group = block_on(owner.subscribe(&request())).unwrap();
    handle(&mut group, 200);
    assert!(
        !target.exists(),
        "nothing stands at the target before it is whole"
    );
    let report = begun.finish().unwrap();
    publish(&owner, &events(510..520)).unwrap();

    assert_eq!((report.earliest.0, report.end.0), (0, 510));
    let looked = verify(&target, Arc::new(clock()), Arc::new(RealDisk)).unwrap();
    assert!(looked.is_sound(), "{looked:?}");
    assert_eq!(looked.end, 510);
    let copied = LogBroker::open(on_disk(&target)).unwrap();
    assert_eq!(envelopes(&read_from(&copied, 0, &[])), events(0..510));
    assert_eq!(publish(&copied, &events(600..601)).unwrap(), [510]);
    let mut group = block_on(copied.subscribe(&request())).unwrap();
    assert_eq!(
        handle(&mut group, 1),
        [300],
        "it goes on where the copy's cursor says"
    );
}

#[test]
fn a_copy_never_goes_where_something_is() {
    let folder = tempfile::tempdir().unwrap();
    let owner = LogBroker::open(on_disk(folder.path())).unwrap();
    publish(&owner, &events(0..1)).unwrap();
    let above = tempfile::tempdir().unwrap();
    let target = above.path().join("copy");

    let abandoned = copy(folder.path(), &target).unwrap();
    drop(abandoned);
    let refused = copy(folder.path(), &target).err();
    assert!(
        matches!(&refused, Some(BrokerError::FolderForeign { path }) if path.ends_with("copy.unfinished")),
        "{refused:?}"
    );
    std::fs::remove_dir_all(above.path().join("copy.unfinished")).unwrap();
    copy(folder.path(), &target).unwrap().finish().unwrap();
    let refused = copy(folder.path(), &target).err();
    assert!(
        matches!(refused, Some(BrokerError::FolderForeign { .. })),
        "{refused:?}"
    );
}
