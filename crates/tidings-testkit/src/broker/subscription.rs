//! The two halves of a subscription in memory.

use super::Shared;
use super::group::Group;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tidings_core::broker::{
    BrokerError, Delivery, GroupName, Receive, Received, Scope, Settle, SettleAction, SettleError,
    SubscribeRequest, Subscription, Token,
};
use tidings_core::{BoxFuture, Timestamp};
use tokio::sync::watch;

/// Joins a group; one holder at a time.
pub(crate) fn subscribe(
    shared: &Arc<Shared>,
    closed: &Arc<AtomicBool>,
    request: &SubscribeRequest,
) -> Result<Subscription, BrokerError> {
    super::check_open(closed)?;
    let mut inner = shared.lock();
    let start = inner.start(request.start);
    let group = inner
        .groups
        .entry(request.group.clone())
        .or_insert_with(|| Group::new(start));
    if group.leased {
        return Err(BrokerError::GroupLeased {
            group: request.group.to_string(),
            owner: "another consumer of this test".to_owned(),
        });
    }
    let resumed = group.join(&request.patterns);
    let scope = Scope {
        name: super::NAME.into(),
        generation: group.generation,
    };
    drop(inner);
    let member = Arc::new(Member {
        shared: Arc::clone(shared),
        group: request.group.clone(),
        generation: scope.generation,
        left: AtomicBool::new(false),
        closed: Arc::clone(closed),
    });
    Ok(Subscription {
        receive: Box::new(MemoryReceive {
            ends: shared.ends(),
            member: Arc::clone(&member),
            scope,
            assigned: false,
        }),
        settle: member,
        resumed: Some(resumed),
    })
}

/// Who holds the group's lease; it ends with the value, as with a process that dies.
struct Member {
    shared: Arc<Shared>,
    group: GroupName,
    generation: u64,
    left: AtomicBool,
    /// Whether the connection that it came by was closed.
    closed: Arc<AtomicBool>,
}

impl Member {
    /// Looks at the group, if it is still ours.
    fn with_group<T>(
        &self,
        look: impl FnOnce(&mut Group, &[tidings_core::broker::Recorded]) -> T,
    ) -> Option<T> {
        let mut inner = self.shared.lock();
        let inner = &mut *inner;
        let group = inner.groups.get_mut(&self.group)?;
        (group.generation == self.generation && group.leased).then(|| look(group, &inner.events))
    }

    fn part(&self, clean: bool) {
        if !self.left.swap(true, Ordering::AcqRel) {
            self.with_group(|group, _| group.part(clean));
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.part(false);
    }
}

struct MemoryReceive {
    member: Arc<Member>,
    scope: Scope,
    assigned: bool,
    ends: watch::Receiver<u64>,
}

impl Receive for MemoryReceive {
    fn receive(&mut self, events_max: usize) -> BoxFuture<'_, Result<Received, BrokerError>> {
        Box::pin(async move {
            if !self.assigned {
                self.assigned = true;
                return Ok(Received::Assigned(self.scope.clone()));
            }
            loop {
                self.ends.borrow_and_update();
                super::check_open(&self.member.closed)?;
                let deliveries = self.member.with_group(|group, events| {
                    let taken = group.hand_out(events, events_max);
                    taken
                        .into_iter()
                        .map(|event| Delivery {
                            token: Token(event.position.0),
                            position: Some(event.position),
                            append_time: Some(event.append_time),
                            envelope: event.envelope.clone(),
                            problem: None,
                            redelivered: false,
                        })
                        .collect::<Vec<_>>()
                });
                let scope = self.scope.clone();
                match deliveries {
                    None => return Ok(Received::Lost(scope)),
                    Some(deliveries) if !deliveries.is_empty() => {
                        return Ok(Received::Deliveries { scope, deliveries });
                    }
                    Some(_) => {}
                }
                if self.ends.changed().await.is_err() {
                    return Err(BrokerError::Closed);
                }
            }
        })
    }

    fn is_caught_up(&self) -> bool {
        self.member
            .with_group(|group, events| group.is_caught_up(events))
            .unwrap_or(true)
    }

    fn behind(&self, now: Timestamp) -> Option<Duration> {
        self.member
            .with_group(|group, events| group.behind(events, now))?
    }
}

impl Settle for Member {
    fn settle<'a>(
        &'a self,
        outcomes: &'a [(Token, SettleAction)],
    ) -> BoxFuture<'a, Vec<Result<(), SettleError>>> {
        Box::pin(async move {
            let now = self.shared.now();
            let answers = outcomes
                .iter()
                .map(|(token, action)| {
                    let known = self.with_group(|group, _| match action {
                        SettleAction::Ack => group.settle(token.0, now),
                        SettleAction::Release => group.release(token.0),
                        SettleAction::Extend(_) => true,
                    });
                    match known {
                        None => Err(SettleError::Stale),
                        Some(false) => Err(SettleError::Unknown),
                        Some(true) => Ok(()),
                    }
                })
                .collect();
            if outcomes
                .iter()
                .any(|(_, action)| *action == SettleAction::Release)
            {
                self.shared.wake();
            }
            answers
        })
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), BrokerError>> {
        Box::pin(async { Ok(()) })
    }

    fn leave(&self) -> BoxFuture<'_, Result<(), BrokerError>> {
        Box::pin(async move {
            self.part(true);
            Ok(())
        })
    }
}
