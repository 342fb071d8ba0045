//! Crashes: the power is cut or the disk dies at every single call, recovery included. What was acknowledged is there, in order and once; nothing needs a hand.

use crate::driver::{Journal, block_on, event, events, on_faulty, publish, read_from, repeated};
use tidings_core::broker::Broker;
use tidings_log::LogBroker;
use tidings_testkit::FaultyDisk;
use tidings_testkit::disk::{DiskFault, FaultPlan, Loss, Times};

/// What the power cuts lose, a few ways each.
fn losses(seed: u64) -> Vec<Loss> {
    let torn = (0..repeated(3, 1)).map(|more| Loss::Torn {
        seed: seed * 31 + more,
    });
    [Loss::Everything, Loss::Nothing]
        .into_iter()
        .chain(torn)
        .collect()
}

/// Opens, publishes batches over several segments, and closes, as far as the disk lets it.
fn work(disk: &FaultyDisk, journal: &mut Journal, from: u64) {
    let Ok(broker) = LogBroker::open(on_faulty(disk)) else {
        return;
    };
    let mut next = from;
    for size in [1, 2, 40, 1, 60, 3] {
        if !journal.publish(&broker, &events(next..next + size)) {
            break;
        }
        next += size;
    }
    // A close that cannot flush says so; what counts is what was acknowledged.
    drop(block_on(broker.close()));
}

/// Opens what is left and checks it; then again, because a recovery must not change its mind.
fn check(disk: &FaultyDisk, journal: &Journal, about: &str) {
    let mut before = None;
    for round in 0..2 {
        let about = format!("{about}, opening {round}");
        let broker =
            LogBroker::open(on_faulty(disk)).unwrap_or_else(|error| panic!("{about}: {error}"));
        assert!(
            broker.recovery().damaged.is_empty(),
            "{about}: {:?}",
            broker.recovery()
        );
        let recorded = read_from(&broker, 0, &[]);
        journal.check(&recorded, &about);
        let recorded: Vec<_> = recorded
            .into_iter()
            .map(|recorded| (recorded.position, recorded.envelope))
            .collect();
        assert!(
            before.is_none_or(|before| before == recorded),
            "{about}: the second opening saw something else"
        );
        before = Some(recorded);
        // No farewell: the next opening finds an unclean end.
    }
    let broker = LogBroker::open(on_faulty(disk)).unwrap();
    let position = publish(&broker, &[event(1_000_000)]).unwrap()[0];
    assert_eq!(
        read_from(&broker, position, &[])[0].envelope,
        event(1_000_000),
        "{about}"
    );
}

fn dies_at(disk: &FaultyDisk, call: u64) {
    disk.plan(FaultPlan {
        operation: None,
        after: call,
        times: Times::ForEver,
        fault: DiskFault::Io,
    });
}

/// How many calls of the disk the work needs.
fn calls_of_work(disk: &FaultyDisk) -> u64 {
    let disk = disk.fork();
    let before = disk.calls();
    work(&disk, &mut Journal::default(), 0);
    disk.calls() - before
}

#[test]
fn what_was_acknowledged_survives_a_power_cut_at_every_call() {
    let calls = calls_of_work(&FaultyDisk::new());
    assert!(calls > 40, "{calls}");

    for call in 0..calls {
        let disk = FaultyDisk::new();
        let mut journal = Journal::default();
        dies_at(&disk, call);
        work(&disk, &mut journal, 0);
        for loss in losses(call) {
            let after = disk.fork();
            after.cut_power(loss);
            check(
                &after,
                &journal,
                &format!("cut at call {call} with {loss:?}"),
            );
        }
    }
}

#[test]
fn a_power_cut_inside_recovery_loses_nothing_either() {
    for (seed, first_cut) in [19_u64, 27, 36, 45, 53, 60, 66, 72].into_iter().enumerate() {
        let disk = FaultyDisk::new();
        let mut journal = Journal::default();
        dies_at(&disk, first_cut);
        work(&disk, &mut journal, 0);
        disk.heal();
        disk.cut_power(Loss::Torn { seed: seed as u64 });
        let calls = calls_of_work(&disk);
        for call in 0..calls {
            let disk = disk.fork();
            let mut journal = Journal {
                acked: journal.acked.clone(),
                unknown: journal.unknown.clone(),
            };
            dies_at(&disk, call);
            work(&disk, &mut journal, 10_000);
            for loss in losses(call) {
                let after = disk.fork();
                after.cut_power(loss);
                check(
                    &after,
                    &journal,
                    &format!("cut at call {first_cut}, again at call {call} with {loss:?}"),
                );
            }
        }
    }
}

#[test]
fn a_process_that_ends_without_a_farewell_loses_nothing_at_a_later_power_cut() {
    // The end of the process leaves the page cache as it is; what it shows may not be on the disk.
    for call in 0..calls_of_work(&FaultyDisk::new()) {
        let disk = FaultyDisk::new();
        let mut journal = Journal::default();
        dies_at(&disk, call);
        work(&disk, &mut journal, 0);
        let disk = disk.fork();
        let Ok(broker) = LogBroker::open(on_faulty(&disk)) else {
            panic!("call {call}")
        };
        // Whatever is shown now must also be there after the power is cut.
        let shown = read_from(&broker, 0, &[]);
        journal.check(&shown, &format!("after the end at call {call}"));
        journal.publish(&broker, &[event(5_000)]);
        for loss in losses(call) {
            let after = disk.fork();
            after.cut_power(loss);
            let again = LogBroker::open(on_faulty(&after)).unwrap();
            let kept = read_from(&again, 0, &[]);
            assert_eq!(kept.len(), shown.len() + 1, "call {call}, {loss:?}");
            assert!(
                kept.iter()
                    .zip(&shown)
                    .all(|(kept, shown)| kept.envelope == shown.envelope),
                "call {call}, {loss:?}"
            );
        }
    }
}

#[test]
fn a_torn_last_frame_is_cut_at_every_byte_and_nothing_else_is() {
    let disk = FaultyDisk::new();
    let broker = LogBroker::open(on_faulty(&disk)).unwrap();
    publish(&broker, &events(0..4)).unwrap();
    publish(&broker, &events(4..5)).unwrap();
    let path = "/data/log/main/00000000000000000000.seg";
    let with_four = disk.fork();
    let durable = with_four.bytes_of("/data/log/main/durable").unwrap();
    publish(&broker, &events(5..8)).unwrap();
    let long = disk.bytes_of(path).unwrap();
    let begin = with_four
        .bytes_of(path)
        .unwrap()
        .iter()
        .rposition(|byte| *byte != 0)
        .unwrap()
        + 1;
    let end = long.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    assert!(end > begin + 64);

    for bytes in begin..=end {
        for zeroed in [true, false] {
            let torn = disk.fork();
            let mut kept = long[..bytes].to_vec();
            if zeroed {
                kept.resize(long.len(), 0);
            }
            torn.put(path, &kept);
            torn.put("/data/log/main/durable", &durable);
            let broker = LogBroker::open(on_faulty(&torn)).unwrap();
            let expected = if bytes == end { 8 } else { 5 };
            assert_eq!(
                read_from(&broker, 0, &[]).len(),
                expected,
                "cut at {bytes}, zeroed: {zeroed}"
            );
            assert!(broker.recovery().damaged.is_empty());
            assert_eq!(
                publish(&broker, &[event(9)]).unwrap(),
                vec![expected as u64]
            );
            if (begin + 1..end).contains(&bytes) && kept[begin..].iter().any(|byte| *byte != 0) {
                assert!(
                    torn.files()
                        .iter()
                        .any(|file| file.to_string_lossy().contains("aside")),
                    "nothing was kept aside"
                );
            }
        }
    }
}
