//! The owner's thread that makes look-up tables of closed segments, while nobody waits for it.

use super::LookUps;
use super::table::{Closed, TableState};
use std::collections::HashSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Segments that were closed by an earlier owner wait for so long: who opens a log for a moment should not pay for the work of others.
const PATIENCE: Duration = Duration::from_secs(1);

/// Makes look-up tables in the background.
#[derive(Debug)]
pub(crate) struct Background {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Guards what the thread is to do: held for a look at it.
    orders: Mutex<Orders>,
    given: Condvar,
}

#[derive(Debug, Default, Clone, Copy)]
struct Orders {
    /// A segment was closed since the thread looked last.
    fresh: bool,
    ending: bool,
}

impl Background {
    /// Starts the thread. What lies before `own` was written by an earlier owner.
    pub(crate) fn start(look_ups: Arc<LookUps>, own: u64) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let worker = Worker {
            look_ups,
            shared: shared.clone(),
            own,
            done: HashSet::new(),
        };
        let thread = std::thread::Builder::new()
            .name("tidings-look-up".to_owned())
            .spawn(move || worker.run())?;
        Ok(Self { shared, thread })
    }

    /// Tells it that a segment was closed.
    pub(crate) fn wake(&self) {
        self.shared.orders().fresh = true;
        self.shared.given.notify_one();
    }

    /// Lets it finish what this owner closed, leaves the rest to the next one, and waits for it.
    pub(crate) fn end(self) {
        self.shared.orders().ending = true;
        self.shared.given.notify_one();
        // A panic there costs tables, which are made anew.
        drop(self.thread.join());
    }
}

impl Shared {
    fn orders(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Worker {
    look_ups: Arc<LookUps>,
    shared: Arc<Shared>,
    own: u64,
    /// Segments that were seen to; what could not be done, the next owner may try again.
    done: HashSet<u64>,
}

impl Worker {
    fn run(mut self) {
        let mut patience = Some(PATIENCE);
        loop {
            let orders = self.wait(patience);
            let backlog_too = patience.is_none() && !orders.ending;
            while let Some(closed) = self.next(backlog_too) {
                self.make(closed);
            }
            if orders.ending {
                return;
            }
            if patience.is_some() && !orders.fresh {
                // The time is over: the backlog is next.
                patience = None;
                self.shared.orders().fresh = true;
            }
        }
    }

    /// Waits for something to do, at most for as long as the backlog is let wait.
    fn wait(&self, patience: Option<Duration>) -> Orders {
        let idle = |orders: &mut Orders| !orders.fresh && !orders.ending;
        let orders = self.shared.orders();
        let mut orders = match patience {
            Some(limit) => {
                let waited = self.shared.given.wait_timeout_while(orders, limit, idle);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
            None => {
                let waited = self.shared.given.wait_while(orders, idle);
                waited.unwrap_or_else(PoisonError::into_inner)
            }
        };
        let seen = *orders;
        orders.fresh = false;
        seen
    }

    /// The newest closed segment that is to be seen to.
    fn next(&self, backlog_too: bool) -> Option<Closed> {
        let segments = self.look_ups.log.segments();
        let closed = segments.iter().zip(segments.iter().skip(1)).rev();
        closed
            .map(|(segment, next)| Closed {
                first: segment.first,
                next: next.first,
            })
            .filter(|closed| !self.done.contains(&closed.first))
            .find(|closed| self.is_own(*closed) || (backlog_too && !self.has_file(*closed)))
    }

    fn make(&mut self, closed: Closed) {
        self.done.insert(closed.first);
        let segments = self.look_ups.log.segments();
        let Some(segment) = segments.iter().find(|known| known.first == closed.first) else {
            return;
        };
        let mut state = segment
            .look_up
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let is_own = self.is_own(closed);
        let stop = || !is_own && self.shared.orders().ending;
        if matches!(*state, TableState::Unread) && !self.look_ups.has_table(closed) {
            self.look_ups.make(&mut state, closed, &stop);
        }
    }

    /// Whether this owner wrote the end of the segment.
    fn is_own(&self, closed: Closed) -> bool {
        closed.next > self.own
    }

    fn has_file(&self, closed: Closed) -> bool {
        let folder = &self.look_ups.log.folder;
        folder.disk.info(&folder.look_up(closed.first)).is_ok()
    }
}
