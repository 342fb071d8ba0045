//! A backlog of dead letters goes back to its group: how long a dry run takes, how many letters a second are handed back, and how many events a second the group then handles. The redrive is killed on the
//! way, twice, and goes on with what is left; in the end each letter was handed back once and each event handled once.

use crate::failing;
use crate::measure::{Goal, Outcome, Report, Request, per_second, progress};
use crate::stage::{fresh_folder, lines, open, remove};
use std::collections::HashSet;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tidings::core::seam::{Chance, Clock};
use tidings::core::store::{
    DeadLetterStore, FailureStore, LetterFilter, LetterStatus, Operator, WaitingFilter,
};
use tidings::flow::dead_letter::{RedriveOptions, plan, redrive as hand_back};
use tidings::flow::runtime::{SystemChance, SystemClock};
use tidings::sql::schema::{self, Part};
use tidings::sql::{Database, DatabaseOptions, Failures};
use tidings::{Envelope, OnFailure};
use tokio::runtime::Runtime;

const GROUP: &str = "shipping";
/// Dead letters that are recorded at once, and rows that are read at once.
const BATCH: usize = 1_000;
const KILLS: usize = 2;
/// A redrive is killed once it has handed back one of so many letters more.
const LETTERS_OF_A_KILL: usize = 8;
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

/// In SQLite, as a data folder has it.
pub(crate) fn redrive(request: &Request, report: &mut Report, runtime: &Runtime) -> Outcome<()> {
    progress("redrive");
    let count = request.full_or_quick(100_000, 4_000);
    let (mut planned, mut handed_back, mut handled) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..request.full_or_quick(3, 1) {
        let folder = fresh_folder("redrive")?;
        runtime.block_on(async {
            // Makes the folder, for its owner alone.
            open(&folder).await?.shutdown().await?;
            record(&folder, count).await?;
            let letters = letters(&folder, false).await?;
            planned.push(dry_run(&letters, (count, count)).await?);
            let done = killed(&folder, &letters, count).await?;
            dry_run(&letters, (count, count - done)).await?;
            handed_back.push(finish(&letters, count - done).await?);
            once_each(&letters, count).await?;
            handled.push(handle(&folder, count).await?);
            assert_eq!(with_status(&letters, LetterStatus::Resolved).await?, count);
            Outcome::Ok(())
        })?;
        remove(&folder)?;
    }
    report.valued("redrive.dry_run", "s", &planned, Goal::ValueMax(2.0));
    report.alone("redrive", "letters/s", &handed_back);
    report.alone("redrive.handled", "events/s", &handled);
    Ok(())
}

async fn letters(folder: &Path, create: bool) -> Outcome<Failures> {
    let options = DatabaseOptions {
        create,
        ..DatabaseOptions::default()
    };
    let url = format!("sqlite://{}/state.db", folder.display());
    let database = Database::open(&url, &options).await?;
    if create {
        schema::migrate(&database, &Part::ALL).await?;
    }
    Ok(Failures::open(&database).await?)
}

/// Records so many dead letters, as a group does that goes on behind them.
async fn record(folder: &Path, count: usize) -> Outcome<()> {
    let store = letters(folder, true).await?;
    let mut events = lines(count);
    loop {
        let batch = events.by_ref().take(BATCH);
        let deaths = batch.map(|event| {
            let event = event?;
            let fact = fact_of(&event)?;
            Outcome::Ok(failing::death(&event, fact))
        });
        let deaths = deaths.collect::<Outcome<Vec<_>>>()?;
        if deaths.is_empty() {
            return Ok(());
        }
        store.apply(GROUP, &deaths).await?;
    }
}

fn fact_of(event: &Envelope) -> Outcome<Envelope> {
    let id = event.event_id();
    let fact = format!(
        r#"{{"event_id":"fact-{id}","event_type":"tidings.dead_letter.recorded","payload":{{"event_id":"{id}"}}}}"#
    );
    Ok(Envelope::from_json(fact)?)
}

fn of_group() -> LetterFilter {
    LetterFilter {
        group: Some(GROUP.to_owned()),
        ..LetterFilter::default()
    }
}

/// Answers how many seconds it took to say what would happen.
async fn dry_run(letters: &Failures, (selected, would_redrive): (usize, usize)) -> Outcome<f64> {
    let clock = SystemClock::new();
    let planned = plan(letters, &of_group(), &RedriveOptions::default()).await?;
    let took = clock.elapsed();
    assert_eq!(planned.selected, selected as u64, "letters that are meant");
    assert_eq!(planned.would_redrive, would_redrive as u64);
    Ok(took.as_secs_f64())
}

async fn with_status(letters: &Failures, status: LetterStatus) -> Outcome<usize> {
    let filter = LetterFilter {
        statuses: vec![status],
        ..of_group()
    };
    let tallies = letters.tally(&filter, i64::MIN).await?;
    let count: u64 = tallies.iter().map(|tally| tally.count).sum();
    Ok(usize::try_from(count)?)
}

/// Lets processes hand letters back that are killed on the way; answers how many letters they handed back.
async fn killed(folder: &Path, letters: &Failures, count: usize) -> Outcome<usize> {
    let mut done = 0;
    for _ in 0..KILLS {
        let enough = done + count / LETTERS_OF_A_KILL;
        let mut child = start(folder)?;
        while with_status(letters, LetterStatus::Redriven).await? < enough {
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        assert!(child.try_wait()?.is_none(), "it is killed on its way");
        child.kill()?;
        child.wait()?;
        done = with_status(letters, LetterStatus::Redriven).await?;
        assert!(done < count, "something is left");
    }
    Ok(done)
}

fn start(folder: &Path) -> Outcome<Child> {
    let name = folder
        .to_str()
        .ok_or("the folder of the build is not UTF-8")?;
    let child = Command::new(std::env::current_exe()?)
        .args(["--child", "redrive", name, "0"])
        .stdout(Stdio::null())
        .spawn()?;
    Ok(child)
}

/// The child: hands back what is open.
pub(crate) async fn child(folder: &Path) -> Outcome<()> {
    let letters = letters(folder, false).await?;
    hand_all_back(&letters).await?;
    Ok(())
}

async fn hand_all_back(letters: &Failures) -> Outcome<u64> {
    let clock = SystemClock::new();
    let operator = Operator {
        actor: "benchmark".to_owned(),
        reason: String::new(),
    };
    let (options, mut progress) = (RedriveOptions::default(), |_| {});
    let seams = (&clock as &dyn Clock, &SystemChance as &dyn Chance);
    let filter = of_group();
    let done = hand_back(letters, &filter, &options, &operator, seams, &mut progress);
    Ok(done.await?.redriven)
}

/// Hands back what is left; answers how many letters a second.
async fn finish(letters: &Failures, left: usize) -> Outcome<f64> {
    let clock = SystemClock::new();
    let redriven = hand_all_back(letters).await?;
    let took = clock.elapsed();
    assert_eq!(redriven, left as u64, "what was planned is what happens");
    Ok(per_second(left, took))
}

/// Every letter was handed back once, and its event waits once.
async fn once_each(letters: &Failures, count: usize) -> Outcome<()> {
    let tallies = letters.tally(&of_group(), i64::MIN).await?;
    let told = tallies.iter().map(|it| (it.status, it.redrives, it.count));
    let expected = (LetterStatus::Redriven, 1, count as u64);
    assert_eq!(told.collect::<Vec<_>>(), [expected]);
    let (filter, mut after) = (WaitingFilter::default(), 0);
    let (mut rows, mut events) = (0, HashSet::new());
    loop {
        let page = letters.waiting(&filter, after, BATCH as u32).await?;
        let Some(last) = page.last() else { break };
        after = last.delivery.id.0;
        rows += page.len();
        let ids = page.iter().map(|row| row.delivery.envelope.event_id());
        events.extend(ids.map(str::to_owned));
    }
    assert_eq!((rows, events.len()), (count, count), "events that wait");
    Ok(())
}

/// The group handles everything, and nothing twice; answers how many events a second.
async fn handle(folder: &Path, count: usize) -> Outcome<f64> {
    let tidings = open(folder).await?;
    let seen: Arc<Mutex<HashSet<String>>> = Arc::default();
    let noted = Arc::clone(&seen);
    let clock = SystemClock::new();
    let consumer = tidings
        .consumer(GROUP)
        .on_failure(OnFailure::Continue)
        .until_end()
        .on_raw("**", move |event: Envelope| {
            let mut seen = noted.lock().unwrap_or_else(PoisonError::into_inner);
            let is_new = seen.insert(event.event_id().to_owned());
            assert!(is_new, "an event was handled twice");
            async {}
        })
        .start()
        .await?;
    consumer.finished().await?;
    let took = clock.elapsed();
    let stats = consumer.stats();
    assert_eq!((stats.handled, stats.dead_lettered), (count as u64, 0));
    consumer.drain().await?;
    tidings.shutdown().await?;
    let events = seen.lock().unwrap_or_else(PoisonError::into_inner).len();
    assert_eq!(events, count, "events that were handled");
    Ok(per_second(count, took))
}
