//! Publishes events of many keys, each until it is accepted; trouble of the broker is waited out.

use super::{ItemCounted, lane};
use crate::command::until;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tidings::Payload;
use tidings::core::EnvelopeParts;
use tidings::core::seam::Clock as _;
use tidings::flow::runtime::SystemClock;
use tidings::prelude::*;

/// Between two rounds, in each of which every key gets one event.
const PACE: Duration = Duration::from_millis(200);
/// After the broker did not take an event.
const AGAIN: Duration = Duration::from_millis(200);

/// A thread that publishes until it is dropped.
pub(crate) struct Publisher {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    lanes: usize,
    /// Rounds that were begun, and those that were accepted.
    begun: AtomicU64,
    accepted: AtomicU64,
    /// Rounds that may be begun.
    allowed: AtomicU64,
    is_stopped: AtomicBool,
}

impl Publisher {
    /// Publishes nothing before [`allow`](Self::allow) lets it.
    pub(crate) fn start(url: &str, lanes: usize) -> Self {
        let shared = Arc::new(Shared {
            lanes,
            begun: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            allowed: AtomicU64::new(0),
            is_stopped: AtomicBool::new(false),
        });
        let (url, working) = (url.to_owned(), Arc::clone(&shared));
        let thread = std::thread::spawn(move || working.work(&url));
        Self {
            shared,
            thread: Some(thread),
        }
    }

    /// Events of each key that were accepted.
    pub(crate) fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::Acquire)
    }

    /// Lets so many rounds be begun in all.
    pub(crate) fn allow(&self, rounds: u64) {
        self.shared.allowed.store(rounds, Ordering::Release);
    }

    /// Begins no further round, and waits for the one at work.
    pub(crate) fn silence(&self) {
        self.allow(0);
        until("nothing more is published", || {
            self.accepted() == self.shared.begun.load(Ordering::Acquire)
        });
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.shared.is_stopped.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // Its failure is told by itself.
            let _ended = thread.join();
        }
    }
}

impl Shared {
    fn work(&self, url: &str) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let clock = SystemClock::new();
            let mut connected = None;
            while !self.is_stopped.load(Ordering::Acquire) {
                if self.begun.load(Ordering::Acquire) >= self.allowed.load(Ordering::Acquire) {
                    clock.sleep(PACE).await;
                    continue;
                }
                let n = self.begun.fetch_add(1, Ordering::AcqRel) + 1;
                let mut waiting: Vec<Envelope> = (0..self.lanes)
                    .map(|number| event(&lane(number), n))
                    .collect();
                while !waiting.is_empty() && !self.is_stopped.load(Ordering::Acquire) {
                    self.publish(url, &mut connected, &mut waiting).await;
                    if !waiting.is_empty() {
                        clock.sleep(AGAIN).await;
                    }
                }
                if waiting.is_empty() {
                    self.accepted.store(n, Ordering::Release);
                }
                clock.sleep(PACE).await;
            }
        });
    }

    /// Leaves what was not accepted, under the same ids.
    async fn publish(
        &self,
        url: &str,
        connected: &mut Option<Tidings>,
        waiting: &mut Vec<Envelope>,
    ) {
        if connected.is_none() {
            match Tidings::connect(url).await {
                Ok(tidings) => *connected = Some(tidings),
                Err(error) => return eprintln!("publishing: {error}"),
            }
        }
        let Some(tidings) = connected else { return };
        let outcomes = tidings.publish_envelopes(waiting).await;
        let mut outcomes = outcomes.into_iter();
        waiting.retain(|_| match outcomes.next() {
            Some(Ok(_)) => false,
            Some(Err(error)) => {
                eprintln!("publishing: {error}");
                true
            }
            None => true,
        });
    }
}

fn event(lane: &str, n: u64) -> Envelope {
    let item = ItemCounted {
        lane: lane.to_owned(),
        n,
    };
    let mut parts = EnvelopeParts::new(format!("{lane}-{n}"), "item.counted");
    parts.payload = Some(Payload::json(serde_json::to_string(&item).unwrap()).unwrap());
    parts.aggregate_id = Some(item.lane);
    parts.source = Some("counter".to_owned());
    Envelope::new(parts).unwrap()
}
