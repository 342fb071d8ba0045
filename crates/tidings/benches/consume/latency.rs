//! How long an event takes from the call of its publisher until its handler runs, on a machine with nothing else to do.

use crate::measure::{Goal, Outcome, Report, Request, Rounds, percentile, progress};
use crate::stage::{envelopes, fresh_folder, open, remove};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;
use tidings::Envelope;
use tidings::core::seam::Clock;
use tidings::extract::State;
use tidings::flow::runtime::SystemClock;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

/// Between two samples, so that each finds everything asleep.
const PAUSE: Duration = Duration::from_millis(2);
/// About as long as a frame of one event.
const FRAME_BYTES: usize = 300;
const ROUNDS: usize = 5;

/// What the handler shares: when it was called, by the benchmark's clock.
#[derive(Clone)]
struct Called {
    clock: SystemClock,
    sender: UnboundedSender<Duration>,
}

async fn note(_envelope: Envelope, State(called): State<Called>) {
    // The benchmark has ended if nobody listens.
    let _gone = called.sender.send(called.clock.elapsed());
}

/// Publish to handled, less what the disk takes for the flush alone, measured in turn on a file of its own: the same length, the same pause, room reserved.
pub(crate) async fn latency(request: &Request, report: &mut Report) -> Outcome<()> {
    progress("latency");
    let folder = fresh_folder("latency")?;
    let samples = request.full_or_quick(1_000, 50);
    let events = envelopes(1_000)?;
    let clock = SystemClock::new();
    let tidings = open(&folder).await?;
    let (sender, mut called) = unbounded_channel();
    tidings
        .consumer("latency")
        .on_raw("**", note)
        .state(Called { clock, sender })
        .start()
        .await?;
    let bare = Arc::new(bare_file(&folder)?);
    let (mut p50, mut p99) = (Rounds::default(), Rounds::default());
    for round in 0..request.full_or_quick(ROUNDS, 1) {
        let (mut ours, mut flushes) = (Vec::new(), Vec::new());
        for (sample, event) in events.iter().cycle().take(samples).enumerate() {
            clock.sleep(PAUSE).await;
            let before = clock.elapsed();
            for outcome in tidings.publish_envelopes(std::slice::from_ref(event)).await {
                outcome?;
            }
            let handled = called.recv().await.ok_or("the consumer ended")?;
            ours.push(millis(handled.saturating_sub(before)));
            clock.sleep(PAUSE).await;
            let before = clock.elapsed();
            let offset = (round * samples + sample) * FRAME_BYTES;
            bare.write_all_at(&[7; FRAME_BYTES], offset as u64)?;
            bare.sync_data()?;
            flushes.push(millis(clock.elapsed().saturating_sub(before)));
        }
        for (rounds, percent) in [(&mut p50, 50), (&mut p99, 99)] {
            let flush = percentile(&mut flushes, percent);
            rounds.ours.push(percentile(&mut ours, percent) - flush);
            rounds.bare.push(flush);
        }
    }
    tidings.shutdown().await?;
    remove(&folder)?;
    std::fs::remove_file(folder.with_extension("bare"))?;
    report.beyond("latency.p50", "ms", &p50, Goal::ValueMax(0.15));
    report.beyond("latency.p99", "ms", &p99, Goal::ValueMax(1.0));
    Ok(())
}

fn bare_file(folder: &std::path::Path) -> Outcome<File> {
    use rustix::fs::{FallocateFlags, fallocate};
    let file = File::create(folder.with_extension("bare"))?;
    fallocate(
        &file,
        FallocateFlags::empty(),
        0,
        tidings::limits::SEGMENT_RESERVE_BYTES,
    )?;
    file.sync_all()?;
    Ok(file)
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}
