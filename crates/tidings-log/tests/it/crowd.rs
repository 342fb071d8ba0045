//! Many at once: publishers, groups, and readers beside the owner.

use crate::driver::{
    block_on, clock, event, events, on_disk, on_faulty, publish, read_around_damage, read_from,
    repeated,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tidings_core::broker::{
    Admin, Broker, Received, SettleAction, StartAt, SubscribeRequest, Token,
};
use tidings_log::{Codec, Durability, LogBroker, LogReader, RealDisk};
use tidings_testkit::FaultyDisk;

#[test]
fn many_publishers_get_a_position_each_and_keep_their_own_order() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = on_disk(folder.path());
    options.segment_bytes = 65_536;
    let broker = LogBroker::open(options).unwrap();
    let each = repeated(200, 40);

    let positions: Vec<Vec<u64>> = std::thread::scope(|scope| {
        let publishers: Vec<_> = (0..16)
            .map(|publisher| {
                let broker = &broker;
                scope.spawn(move || {
                    (0..each)
                        .flat_map(|n| publish(broker, &[event(publisher * 1_000 + n)]).unwrap())
                        .collect()
                })
            })
            .collect();
        publishers
            .into_iter()
            .map(|publisher| publisher.join().unwrap())
            .collect()
    });

    let recorded = read_from(&broker, 0, &[]);
    assert_eq!(recorded.len() as u64, 16 * each);
    let by_position: HashMap<u64, String> = recorded
        .iter()
        .map(|r| (r.position.0, r.envelope.event_id().to_owned()))
        .collect();
    for (publisher, positions) in positions.iter().enumerate() {
        assert!(positions.is_sorted());
        for (n, position) in positions.iter().enumerate() {
            assert_eq!(
                by_position[position],
                format!("evt-{}", publisher * 1_000 + n)
            );
        }
    }
}

#[test]
fn a_reader_beside_the_owner_sees_a_prefix_of_what_is_acknowledged_and_never_more() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = on_disk(folder.path());
    options.segment_bytes = 16_384;
    let broker = LogBroker::open(options).unwrap();
    let done = AtomicBool::new(false);
    let total = repeated(2_000, 400);

    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut seen = 0;
                loop {
                    let last_look = done.load(Ordering::SeqCst);
                    let reader =
                        LogReader::open(folder.path(), Arc::new(clock()), Arc::new(RealDisk))
                            .unwrap();
                    let recorded = read_from(&reader, 0, &[]);
                    for (at, recorded) in recorded.iter().enumerate() {
                        assert_eq!(recorded.position.0, at as u64);
                        assert_eq!(recorded.envelope, event(at as u64));
                    }
                    assert!(recorded.len() >= seen, "the log got shorter");
                    seen = recorded.len();
                    if last_look {
                        assert_eq!(seen as u64, total);
                        return;
                    }
                }
            });
        }
        for batch in events(0..total).chunks(9) {
            publish(&broker, batch).unwrap();
        }
        done.store(true, Ordering::SeqCst);
    });
}

#[test]
fn what_is_only_written_is_acknowledged_and_flushed_when_the_log_is_closed() {
    let disk = FaultyDisk::new();
    let mut options = on_faulty(&disk);
    options.durability = Durability::Written;
    let broker = LogBroker::open(options).unwrap();
    assert!(!broker.capabilities().synced);
    publish(&broker, &events(0..3)).unwrap();
    let cut = disk.fork();
    cut.cut_power(tidings_testkit::disk::Loss::Everything);
    let after = LogBroker::open(on_faulty(&cut)).unwrap();
    assert!(after.recovery().damaged.is_empty() && read_from(&after, 0, &[]).is_empty());

    block_on(broker.close()).unwrap();

    disk.cut_power(tidings_testkit::disk::Loss::Everything);
    assert_eq!(
        read_from(&LogBroker::open(on_faulty(&disk)).unwrap(), 0, &[]).len(),
        3
    );
}

#[test]
fn frames_of_any_codec_are_read_whatever_is_written_now() {
    let folder = tempfile::tempdir().unwrap();
    let mut next = 0;
    for codec in [Codec::Lz4, Codec::None, Codec::Zstd, Codec::Lz4] {
        let mut options = on_disk(folder.path());
        options.codec = codec;
        let broker = LogBroker::open(options).unwrap();
        for size in [1, 700, 30] {
            publish(&broker, &events(next..next + size)).unwrap();
            next += size;
        }
    }
    let mut options = on_disk(folder.path());
    options.codec = Codec::Zstd;
    let broker = LogBroker::open(options).unwrap();

    let (recorded, lost) = read_around_damage(&broker);

    assert!(lost.is_empty());
    assert!(
        recorded
            .iter()
            .enumerate()
            .all(|(at, recorded)| recorded.envelope == event(at as u64))
    );
    assert_eq!(recorded.len() as u64, next);
}

/// What a test does to a group.
#[derive(Debug, Clone)]
enum Step {
    Publish(u64),
    Receive(usize),
    Ack(prop::sample::Index),
    Release(prop::sample::Index),
    Leave,
    Kill,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => (1_u64..20).prop_map(Step::Publish),
        4 => (1_usize..10).prop_map(Step::Receive),
        6 => any::<prop::sample::Index>().prop_map(Step::Ack),
        2 => any::<prop::sample::Index>().prop_map(Step::Release),
        1 => Just(Step::Leave),
        1 => Just(Step::Kill),
    ];
    proptest::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: repeated(150, 20) as u32, failure_persistence: None, ..ProptestConfig::default() })]

    /// The model is a plain list of what was handed out and settled. Killed or left at any point, the group never goes on behind an event that is not settled,
    /// never gets one again that was settled below its cursor, and is told everything that may have been handled.
    #[test]
    fn the_cursor_never_passes_what_is_not_settled(steps in steps()) {
        let disk = FaultyDisk::new();
        let mut broker = LogBroker::open(on_faulty(&disk)).unwrap();
        let request = SubscribeRequest { group: "g".parse().unwrap(), patterns: vec!["**".parse().unwrap()], start: StartAt::Earliest, single_instance: false };
        let mut group = block_on(broker.subscribe(&request)).unwrap();
        let mut settled: BTreeSet<u64> = BTreeSet::new();
        let mut open: BTreeMap<u64, bool> = BTreeMap::new();
        let (mut published, mut handed_out) = (0_u64, 0_u64);
        for step in steps {
            match step {
                Step::Publish(count) => {
                    publish(&broker, &events(published..published + count)).unwrap();
                    published += count;
                }
                Step::Receive(count) => {
                    if group.receive.is_caught_up() { continue; }
                    let Received::Deliveries { deliveries, .. } = block_on(group.receive.receive(count)).unwrap() else { continue };
                    for delivery in deliveries {
                        let position = delivery.token.0;
                        prop_assert_eq!(&delivery.envelope, &event(position));
                        prop_assert!(!settled.contains(&position) , "{} was settled", position);
                        prop_assert!(open.insert(position, false).is_none_or(|released| released), "{} is handed out already", position);
                        handed_out = handed_out.max(position + 1);
                    }
                }
                Step::Ack(index) | Step::Release(index) if open.is_empty() => { let _ = index; }
                Step::Ack(index) => {
                    let position = *open.keys().nth(index.index(open.len())).unwrap();
                    prop_assert!(block_on(group.settle.settle(&[(Token(position), SettleAction::Ack)]))[0].is_ok());
                    open.remove(&position);
                    settled.insert(position);
                    prop_assert!(block_on(group.settle.settle(&[(Token(position), SettleAction::Ack)]))[0].is_err());
                }
                Step::Release(index) => {
                    let position = *open.keys().nth(index.index(open.len())).unwrap();
                    prop_assert!(block_on(group.settle.settle(&[(Token(position), SettleAction::Release)]))[0].is_ok());
                    open.insert(position, true);
                }
                Step::Leave | Step::Kill => {
                    let left = matches!(step, Step::Leave);
                    if left { block_on(group.settle.leave()).unwrap(); }
                    drop(group);
                    drop(broker);
                    if !left { disk.cut_power(tidings_testkit::disk::Loss::Torn { seed: published }); }
                    broker = LogBroker::open(on_faulty(&disk)).unwrap();
                    group = block_on(broker.subscribe(&request)).unwrap();
                    let resumed = group.resumed.unwrap();
                    let low = (0..published).find(|position| !settled.contains(position)).unwrap_or(published);
                    prop_assert!(resumed.from.0 <= low, "the cursor {} passed {low}", resumed.from);
                    if left && open.is_empty() {
                        prop_assert_eq!(resumed.handed_out_before, resumed.from);
                    } else {
                        prop_assert!(resumed.handed_out_before.0 >= handed_out, "{} of {handed_out}", resumed.handed_out_before);
                    }
                    // What was settled above or, after a kill, behind the durable cursor comes again.
                    settled.retain(|position| *position < resumed.from.0);
                    open.clear();
                    handed_out = resumed.from.0;
                }
            }
        }
        let status = block_on(Admin::groups(&broker)).unwrap();
        let low = (0..published).find(|position| !settled.contains(position)).unwrap_or(published);
        prop_assert!(status[0].position.unwrap().0 <= low);
    }
}
