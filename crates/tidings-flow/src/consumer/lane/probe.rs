//! What a circuit breaker needs of the lanes: to start one item alone, to know whether it still runs, and to take back attempts that were no fault of their items.

use super::{Call, CallSize, Head, LaneKey, LaneTable};

/// An item that waits at the head of its lane after attempts were taken back.
#[derive(Debug)]
pub(crate) struct Forgiven<'a, T> {
    pub(crate) item: &'a mut T,
    /// Failures that are left.
    pub(crate) failures: u32,
    /// Whether it waits for its failure to be noted, by the number that is left now.
    pub(crate) noting: bool,
}

impl<T> LaneTable<T> {
    /// Takes one item to start, the oldest ready one of a lane that `rather_not` does not name, if there is one; answers its lane.
    pub(crate) fn start_one(
        &mut self,
        rather_not: impl Fn(LaneKey) -> bool,
        calls: &mut Vec<Call<T>>,
    ) -> Option<LaneKey> {
        if !self.may_start() {
            return None;
        }
        let (class, place) = self
            .ready_place(|key| !rather_not(key))
            .or_else(|| self.ready_place(|_| true))?;
        let (size, queue) = self.ready.get_mut(class)?;
        let size = *size;
        // Taken from the front, as every other one.
        let index = queue.iter().position(|other| *other == place)?;
        queue.remove(index)?;
        queue.push_front(place);
        let running = self.take_ready(class)?;
        let lane = running.lane;
        self.calls += 1;
        calls.push(match size {
            CallSize::One => Call::One(running),
            CallSize::UpTo(_) => Call::Many(vec![running]),
        });
        Some(lane)
    }

    /// The class and the place of the first ready lane that is wanted.
    fn ready_place(&self, wanted: impl Fn(LaneKey) -> bool) -> Option<(usize, usize)> {
        self.ready
            .iter()
            .enumerate()
            .find_map(|(class, (_, queue))| {
                let place = queue.iter().find(|place| {
                    let lane = self.lanes.get(**place);
                    lane.is_some_and(|lane| wanted(lane.key))
                });
                place.map(|place| (class, *place))
            })
    }

    /// Whether the head of a lane is being handled.
    pub(crate) fn is_running(&self, key: LaneKey) -> bool {
        let lane = self
            .places
            .get(&key)
            .and_then(|place| self.lanes.get(*place));
        lane.is_some_and(|lane| matches!(lane.head, Head::Running(_)))
    }

    /// Takes so many failures back from the item that waits at the head of a lane; `None` if it runs, or is not there.
    pub(crate) fn forgive(&mut self, key: LaneKey, failures: u32) -> Option<Forgiven<'_, T>> {
        let lane = self.lane_mut(key)?;
        let (entry, noting) = match &mut lane.head {
            Head::Running(_) => return None,
            Head::Noting { entry, .. } => (entry, true),
            Head::Ready(entry) | Head::Waiting { entry, .. } => (entry, false),
        };
        entry.failures = entry.failures.saturating_sub(failures);
        Some(Forgiven {
            failures: entry.failures,
            item: &mut entry.item,
            noting,
        })
    }
}
