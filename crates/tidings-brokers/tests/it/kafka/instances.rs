//! Several instances of a group: they share partitions, and one that is stopped or killed disturbs nobody.

use super::*;

#[tokio::test]
async fn instances_share_the_partitions_and_a_stale_token_is_refused() {
    let Some((broker, _)) = fresh("share").await else {
        return;
    };
    let sent: Vec<_> = (0..300)
        .map(|n| event("a.happened", &format!("k{}", n % 31), n))
        .collect();
    publish(&broker, &sent).await;
    let mut first = broker.subscribe(&group("g", &["**"])).await.unwrap();
    let received = receive(&mut first, 300).await;

    let mut second = broker.subscribe(&group("g", &["**"])).await.unwrap();
    // The first is at work on all partitions, and gives some up once it has let go of their events.
    let give_up = async {
        let mut revoked = None;
        loop {
            match first.receive.receive(100).await.unwrap() {
                Received::Revoked(scope) if revoked.is_none() => {
                    settle(&first, &received, SettleAction::Release).await;
                    revoked = Some(scope);
                }
                Received::Lost(scope) => break (revoked, scope),
                _ => {}
            }
        }
    };
    let take_over = async {
        loop {
            if let Received::Assigned(scope) = second.receive.receive(100).await.unwrap() {
                break scope;
            }
        }
    };
    let both = async { tokio::join!(give_up, take_over) };
    let ((revoked, lost), assigned) = tokio::time::timeout(DEADLINE, both)
        .await
        .expect("the partitions are shared in time");

    assert_eq!(revoked.map(|scope| scope.name), Some(lost.name));
    let moved = receive(&mut second, 1).await;
    let stale = received
        .iter()
        .find(|one| one.envelope == moved[0].envelope)
        .expect("the first had it");
    let answers = first
        .settle
        .settle(&[(stale.token, SettleAction::Ack)])
        .await;
    assert!(
        matches!(answers[..], [Err(SettleError::Stale)]),
        "{answers:?}"
    );
    assert!(assigned.generation > 0);
}

/// Names the place of an instance that a test plays in a process of its own.
const INSTANCE: &str = "TIDINGS_TEST_KAFKA_INSTANCE";

/// Plays the instance when it is begun again as a process of its own, and nothing otherwise: it takes 20 events, says so, and settles half of them once it may.
#[tokio::test]
async fn an_instance_in_a_process_of_its_own() {
    let Some(url) = server::read(INSTANCE) else {
        return;
    };
    let broker = connect(&url).await.unwrap();
    let mut subscription = broker.subscribe(&group("g", &["**"])).await.unwrap();
    let received = receive(&mut subscription, 20).await;
    println!("TAKEN");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    let mut answers = Vec::new();
    for delivery in &received[..10] {
        let settled = [(delivery.token, SettleAction::Ack)];
        answers.extend(subscription.settle.settle(&settled).await);
        // What the broker refuses is what the test is about.
        let _refused = subscription.settle.flush().await;
    }
    println!("SETTLED {}", answers.len());
    let _refused = subscription.settle.leave().await;
}

/// A process of this test binary, killed with its owner.
struct Instance {
    child: std::process::Child,
    said: std::io::BufReader<std::process::ChildStdout>,
}

impl Instance {
    fn begin(url: &str) -> Self {
        use std::process::{Command, Stdio};
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args([
                "--exact",
                "kafka::instances::an_instance_in_a_process_of_its_own",
            ])
            .args(["--nocapture", "--test-threads=1"])
            .env(INSTANCE, url)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process");
        let said = std::io::BufReader::new(child.stdout.take().expect("its output"));
        Self { child, said }
    }

    /// Waits until it says this.
    fn expect(&mut self, word: &str) {
        use std::io::BufRead as _;
        let mut line = String::new();
        while !line.contains(word) {
            line.clear();
            let bytes = self.said.read_line(&mut line).expect("a line");
            assert_ne!(bytes, 0, "it ended before it said {word}");
        }
    }

    fn signal(&self, signal: &str) {
        let status = std::process::Command::new("kill")
            .args([signal, &self.child.id().to_string()])
            .status();
        assert!(status.expect("kill").success());
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_was_stopped_for_too_long_commits_nothing_any_more() {
    let Some((broker, url)) = fresh("stale").await else {
        return;
    };
    let sent: Vec<_> = (0..20).map(|n| event("a.happened", "k", n)).collect();
    publish(&broker, &sent).await;
    let mut instance = tokio::task::spawn_blocking(move || {
        let mut instance = Instance::begin(&url);
        instance.expect("TAKEN");
        instance
    })
    .await
    .unwrap();

    instance.signal("-STOP");
    let mut second = broker.subscribe(&group("g", &["**"])).await.unwrap();
    let received = receive(&mut second, 20).await;
    settle(&second, &received, SettleAction::Ack).await;
    second.settle.flush().await.unwrap();
    let late: Vec<_> = (20..25).map(|n| event("a.happened", "k", n)).collect();
    publish(&broker, &late).await;
    let later = receive(&mut second, 5).await;
    instance.signal("-CONT");
    tokio::task::spawn_blocking(move || {
        use std::io::Write as _;
        instance
            .child
            .stdin
            .as_mut()
            .unwrap()
            .write_all(b"go\n")
            .unwrap();
        instance.expect("SETTLED 10");
        instance.child.wait().unwrap();
    })
    .await
    .unwrap();

    assert_eq!(ids(&later), ["k-20", "k-21", "k-22", "k-23", "k-24"]);
    let name = "g".parse().unwrap();
    let lag = broker.admin().unwrap().lag(&name).await.unwrap();
    assert_eq!(lag.events, 5, "the stale instance moved the group: {lag:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_is_killed_leaves_its_events_to_another() {
    let Some((broker, url)) = fresh("killed").await else {
        return;
    };
    let sent: Vec<_> = (0..20).map(|n| event("a.happened", "k", n)).collect();
    publish(&broker, &sent).await;
    tokio::task::spawn_blocking(move || {
        let mut instance = Instance::begin(&url);
        instance.expect("TAKEN");
    })
    .await
    .unwrap();

    let mut second = broker.subscribe(&group("g", &["**"])).await.unwrap();
    let received = receive(&mut second, 20).await;

    assert_eq!(received.len(), 20);
    assert_eq!(received[0].envelope.event_id(), "k-0");
}
