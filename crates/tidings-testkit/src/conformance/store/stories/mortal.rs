//! A process that ends at a step: before or after a change of its store, before or after an effect.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tidings_core::extract::HandlerError;
use tidings_core::store::{
    Decision, Due, FailureChange, FailureState, FailureStore, LaneId, OpenCircuit, ParkedDelivery,
    StoreError,
};
use tidings_core::{BoxFuture, DedupeKey};
use tidings_flow::handler::HandlerResult;
use tokio::sync::watch;

/// Of so many changes of the store one gets no answer.
const CHANGES_FOR_A_FAULT: usize = 30;

/// Repeats for a seed, and looks random enough.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn of(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// What a handling of an event at an attempt comes to.
    pub(super) fn of_attempt(seed: u64, id: &str, attempt: u32) -> Self {
        let mut dice = Self::of(seed ^ (u64::from(attempt) << 32));
        for byte in id.bytes() {
            dice.0 = dice.0.wrapping_add(u64::from(byte));
            dice.roll(2);
        }
        dice
    }

    pub(super) fn roll(&mut self, sides: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }
}

/// What becomes of a handling: half of them fail, one in ten for good.
pub(super) fn outcome(dice: &mut Dice, event_id: &str) -> HandlerResult {
    match dice.roll(10) {
        0..=3 => Err(HandlerError::transient_message(format!("no {event_id}"))),
        4 => Err(HandlerError::permanent_message(format!("never {event_id}"))),
        _ => Ok(()),
    }
}

/// When a process ends.
pub(super) struct Fate {
    /// Steps that are left.
    left: AtomicUsize,
    came: watch::Sender<bool>,
}

impl Fate {
    pub(super) fn after(steps: usize) -> Arc<Self> {
        Arc::new(Self {
            left: AtomicUsize::new(steps),
            came: watch::Sender::new(false),
        })
    }

    pub(super) fn never() -> Arc<Self> {
        Self::after(usize::MAX)
    }

    /// One of the steps; nothing comes after the last one.
    pub(super) async fn step(&self) {
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.come();
        }
        if *self.came.borrow() {
            std::future::pending::<()>().await;
        }
    }

    pub(super) fn come(&self) {
        self.came.send_replace(true);
    }

    pub(super) async fn came(&self) {
        // The sender lives as long as this.
        let mut came = self.came.subscribe();
        let _came = came.wait_for(|came| *came).await;
    }
}

/// The store of a process that ends at a step, and that gets no answer now and then. It is told for one machine, so that nobody waits for the lease of one that ended.
pub(super) struct MortalStore {
    inner: Arc<dyn FailureStore>,
    fate: Arc<Fate>,
    /// By which answers get lost, if they do.
    chance: Option<Mutex<Dice>>,
}

impl MortalStore {
    pub(super) fn new(inner: Arc<dyn FailureStore>, fate: Arc<Fate>, chance: Option<Dice>) -> Self {
        Self {
            inner,
            fate,
            chance: chance.map(Mutex::new),
        }
    }

    /// Whether the next change gets no answer, and then whether it is made all the same.
    fn fault(&self) -> Option<bool> {
        let chance = self.chance.as_ref()?;
        let mut dice = chance.lock().unwrap_or_else(PoisonError::into_inner);
        (dice.roll(CHANGES_FOR_A_FAULT) == 0).then(|| dice.roll(2) == 0)
    }
}

impl FailureStore for MortalStore {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn is_shared(&self) -> bool {
        false
    }

    fn state<'a>(&'a self, group: &'a str) -> BoxFuture<'a, Result<FailureState, StoreError>> {
        self.inner.state(group)
    }

    fn apply<'a>(
        &'a self,
        group: &'a str,
        changes: &'a [FailureChange],
    ) -> BoxFuture<'a, Result<Vec<usize>, StoreError>> {
        Box::pin(async move {
            self.fate.step().await;
            let fault = self.fault();
            let mut nothing = Vec::new();
            if fault != Some(false) {
                nothing = self.inner.apply(group, changes).await?;
            }
            self.fate.step().await;
            match fault {
                None => Ok(nothing),
                Some(_) => Err(StoreError::Ambiguous {
                    database: self.name().to_owned(),
                    reason: "connection reset".to_owned(),
                }),
            }
        })
    }

    fn decisions<'a>(
        &'a self,
        group: &'a str,
    ) -> BoxFuture<'a, Result<HashMap<DedupeKey, Decision>, StoreError>> {
        self.inner.decisions(group)
    }

    fn due<'a>(&'a self, group: &'a str, limit: u32) -> BoxFuture<'a, Result<Due, StoreError>> {
        self.inner.due(group, limit)
    }

    fn rows<'a>(
        &'a self,
        group: &'a str,
        lane: LaneId,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<ParkedDelivery>, StoreError>> {
        self.inner.rows(group, lane, limit)
    }

    fn tell_circuit<'a>(
        &'a self,
        group: &'a str,
        circuit: Option<&'a OpenCircuit>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.inner.tell_circuit(group, circuit)
    }

    fn tell_attempts_max<'a>(
        &'a self,
        group: &'a str,
        attempts: u32,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.inner.tell_attempts_max(group, attempts)
    }

    fn deaths<'a>(
        &'a self,
        group: &'a str,
        events: &'a [DedupeKey],
    ) -> BoxFuture<'a, Result<Vec<u32>, StoreError>> {
        self.inner.deaths(group, events)
    }
}
