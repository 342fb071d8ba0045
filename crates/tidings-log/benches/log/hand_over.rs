//! What waking alone costs: many tasks, and one thread that writes and flushes for them. There is no log, no event and no encoding, so that no log with such publishers is faster.

use crate::bare::BareFile;
use crate::measure::Outcome;
use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Poll, Waker};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// Where the tasks wait for the thread, and it for all of them.
#[derive(Default)]
struct Meeting {
    /// Guards who waits: held to add one, and by the thread to take all.
    waiting: Mutex<Vec<Waker>>,
    all_here: Condvar,
    /// Flushes that are done.
    flushed: AtomicUsize,
}

/// So many tasks wait together for each flush of the next chunk.
pub(crate) fn hand_over(
    runtime: &Runtime,
    file: &mut BareFile,
    bytes: &[u8],
    chunk: usize,
    tasks: usize,
) -> Outcome<()> {
    let meeting = Arc::new(Meeting::default());
    let flushes = bytes.len() / chunk;
    std::thread::scope(|scope| {
        let flushing = scope.spawn(|| flush_for_all(&meeting, file, bytes, chunk, tasks));
        runtime.block_on(async {
            let mut waiting = JoinSet::new();
            for _ in 0..tasks {
                waiting.spawn(wait_for_each(Arc::clone(&meeting), flushes, tasks));
            }
            while let Some(ended) = waiting.join_next().await {
                ended?;
            }
            Outcome::Ok(())
        })?;
        flushing
            .join()
            .map_err(|_| "the flushing thread panicked")?
    })
}

fn flush_for_all(
    meeting: &Meeting,
    file: &mut BareFile,
    bytes: &[u8],
    chunk: usize,
    tasks: usize,
) -> Outcome<()> {
    for (done, chunk) in bytes.chunks_exact(chunk).enumerate() {
        let waiting = meeting
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut all = meeting
            .all_here
            .wait_while(waiting, |waiting| waiting.len() < tasks)
            .unwrap_or_else(PoisonError::into_inner);
        let wakers = std::mem::take(&mut *all);
        drop(all);
        let flushed = file.append_synced(chunk);
        // After a failure nobody waits any more.
        let done = if flushed.is_ok() {
            done + 1
        } else {
            usize::MAX
        };
        meeting.flushed.store(done, Ordering::Release);
        wakers.into_iter().for_each(Waker::wake);
        flushed?;
    }
    Ok(())
}

async fn wait_for_each(meeting: Arc<Meeting>, flushes: usize, tasks: usize) {
    for flush in 0..flushes {
        let mut waits = false;
        poll_fn(|context| {
            if meeting.flushed.load(Ordering::Acquire) > flush {
                return Poll::Ready(());
            }
            if !waits {
                waits = true;
                let mut waiting = meeting
                    .waiting
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                waiting.push(context.waker().clone());
                if waiting.len() == tasks {
                    meeting.all_here.notify_one();
                }
            }
            Poll::Pending
        })
        .await;
    }
}
