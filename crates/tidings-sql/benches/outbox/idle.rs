//! What a relay costs that has nothing to do, in itself and in the server.

use crate::engine::{Engine, Place};
use crate::measure::{Goal, Outcome, Report, Request, progress};
use crate::stage::{NullSink, Stage};
use sqlx::{Connection as _, Row as _};
use std::sync::Arc;
use std::time::Duration;
use tidings_core::seam::Clock as _;
use tokio::runtime::Runtime;

/// Of PostgreSQL: the processor time of this process, and that of the server's processes which serve its connections, in per cent of one core.
pub(crate) fn idle(request: &Request, report: &mut Report, runtime: &Runtime) -> Outcome<()> {
    progress("relay.idle_cpu");
    let length = Duration::from_millis(request.full_or_quick(20_000, 500));
    let (mut whole, mut server) = (Vec::new(), Vec::new());
    runtime.block_on(async {
        let stage = Stage::new();
        let place = Place::fresh::<sqlx::Postgres>("idle").await?;
        let relay = stage.relay(&place, Arc::new(NullSink), false).await?;
        let mut connection = <sqlx::Postgres as Engine>::connect(&place.url).await?;
        // Until it is as idle as it gets.
        stage.clock.sleep(Duration::from_secs(1)).await;
        for _ in 0..request.full_or_quick(3, 1) {
            let backends = backends(&mut connection).await?;
            let before = (threads_time("self")?, times(&backends)?);
            stage.clock.sleep(length).await;
            let ours = threads_time("self")?.saturating_sub(before.0);
            let theirs = times(&backends)?.saturating_sub(before.1);
            let percent = |time: Duration| 100.0 * time.as_secs_f64() / length.as_secs_f64();
            whole.push(percent(ours + theirs));
            server.push(percent(theirs));
        }
        connection.close().await?;
        relay.drain(Duration::from_secs(10)).await?;
        place.close().await
    })?;
    report.valued("relay.idle_cpu", "% of a core", &whole, Goal::ValueMax(0.5));
    report.alone("relay.idle_cpu.server", "% of a core", &server);
    Ok(())
}

/// The server's processes for the relay's connections.
async fn backends(connection: &mut sqlx::PgConnection) -> Outcome<Vec<String>> {
    let sql = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let rows = sqlx::query(sql).fetch_all(connection).await?;
    let pids = rows.iter().map(|row| row.try_get::<i32, _>(0));
    let pids: Vec<i32> = pids.collect::<Result<_, _>>()?;
    Ok(pids.iter().map(i32::to_string).collect())
}

/// The processor time of processes of this machine so far.
fn times(processes: &[String]) -> Outcome<Duration> {
    processes.iter().map(|process| threads_time(process)).sum()
}

/// The processor time of all threads of a process so far, to the nanosecond.
fn threads_time(process: &str) -> Outcome<Duration> {
    let threads = format!("/proc/{process}/task");
    let folder = std::fs::read_dir(&threads)
        .map_err(|cause| format!("the server must run on this machine: {threads}: {cause}"))?;
    let mut time = Duration::ZERO;
    for thread in folder {
        // A thread that has ended meanwhile is none of those that are idle.
        let Ok(line) = std::fs::read_to_string(thread?.path().join("schedstat")) else {
            continue;
        };
        let nanos = line.split_whitespace().next().unwrap_or("0").parse()?;
        time += Duration::from_nanos(nanos);
    }
    Ok(time)
}
