//! The application: this binary again, told by its environment what to do. Whatever is not there yet it waits for; what it does not bear it ends by, and is started again by whoever looks after it.

use super::{GROUP, ItemCounted, effect_of};
use crate::command::{Running, itself};
use crate::table::Table;
use sqlx::{AssertSqlSafe, Executor as _, raw_sql};
use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tidings::ConsumerBuilder;
use tidings::core::seam::Clock as _;
use tidings::flow::runtime::SystemClock;
use tidings::prelude::*;
use tidings::sql::{Database, DatabaseOptions, Failures, Inbox, Pool};

const BROKER: &str = "TIDINGS_EFFECTS_BROKER";
const BOOKS: &str = "TIDINGS_EFFECTS_BOOKS";
const NAME: &str = "TIDINGS_EFFECTS_NAME";
const WAY: &str = "TIDINGS_EFFECTS_WAY";
const BUG: &str = "TIDINGS_EFFECTS_BUG";
const SINGLE: &str = "TIDINGS_EFFECTS_SINGLE";

/// Handlers at work at once; fewer than there are keys, so that not every key has one.
const PARALLEL: usize = 4;
/// How long a handling is on its way, with its transaction open.
const DWELL: Duration = Duration::from_millis(15);
/// A process that took so long for it was stopped meanwhile.
const STOPPED: Duration = Duration::from_secs(3);
/// Longer than a busy machine takes for a handling, and shorter than a process is stopped for.
const TIME_LIMIT: Duration = Duration::from_secs(4);
const PAUSE: Duration = Duration::from_millis(200);
const ATTEMPTS: u32 = 2;
/// More waits than attempts that fail.
const LATER: [Duration; 12] = [Duration::from_millis(300); 12];

/// Of so many events of a key one is given up, this one first, until it was handed back so often.
pub(super) const POISON: u64 = 11;
pub(super) const POISON_FIRST: u64 = 5;
const REDRIVES: i64 = 2;

/// What handlers do besides their effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Nothing.
    Plain,
    /// Some events fail for a while, others are given up.
    Failing,
}

/// A mistake that applications make, planted to see whether it is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// The effect is made in a transaction of its own, without an inbox row in it.
    WithoutInbox,
}

/// A process of the application that is to be started.
#[derive(Debug, Clone)]
pub(crate) struct Application {
    /// The test, by whose name the process is started.
    pub(crate) test: &'static str,
    pub(crate) broker: String,
    pub(crate) way: Way,
    pub(crate) bug: Option<Bug>,
    /// Whether one process at a time works for the group.
    pub(crate) single_instance: bool,
}

impl Application {
    /// Starts an instance; its connections to the database carry its name.
    pub(crate) fn start(&self, books: &Table, name: &str) -> Running {
        let url = format!("{}&application_name={name}", books.url());
        itself(self.test)
            .variable(BROKER, &self.broker)
            .variable(BOOKS, url)
            .variable(NAME, name)
            .variable(WAY, format!("{:?}", self.way))
            .variable(BUG, format!("{:?}", self.bug))
            .variable(SINGLE, self.single_instance.to_string())
            .start()
    }
}

/// Plays the part that the environment names, and does not come back; `false` in the process of the test.
pub(crate) fn is_played() -> bool {
    let variable = |name| std::env::var(name).ok();
    let Some(broker) = variable(BROKER) else {
        return false;
    };
    let said = |name| variable(name).unwrap_or_default();
    let worker = Worker {
        name: said(NAME).into(),
        is_failing: said(WAY) == format!("{:?}", Way::Failing),
        busy: Arc::default(),
        pool: None,
    };
    let has_bug = said(BUG) == format!("{:?}", Some(Bug::WithoutInbox));
    // What is told goes where whoever looks into a failure finds it.
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(tracing::Level::DEBUG)
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let is_single = said(SINGLE) == "true";
        let why = work(worker, &broker, &said(BOOKS), has_bug, is_single).await;
        eprintln!("ended: {why}");
    });
    std::process::exit(1)
}

/// Works for the group until that stops by itself; answers why it did.
async fn work(
    mut worker: Worker,
    broker: &str,
    books: &str,
    has_bug: bool,
    single_instance: bool,
) -> String {
    let options = DatabaseOptions::default();
    let database = retried("database", || Database::open(books, &options)).await;
    let inbox = retried("inbox", || Inbox::open(&database)).await;
    let failures = retried("failures", || Failures::open(&database)).await;
    let tidings = retried("broker", || Tidings::connect(broker)).await;
    let Pool::Postgres(pool) = database.pool() else {
        unreachable!("the books are in PostgreSQL");
    };
    worker.pool = Some(pool.clone());
    let group = || {
        let mut consumer: ConsumerBuilder = tidings
            .consumer(GROUP)
            .inbox(inbox.clone())
            .failures(failures.clone())
            .state(worker.clone())
            .parallel(PARALLEL)
            .time_limit(TIME_LIMIT);
        if worker.is_failing {
            consumer = consumer
                .attempts(ATTEMPTS)
                .backoff(Duration::from_millis(5), Duration::from_millis(20))
                .retry_later(LATER);
        }
        if single_instance {
            consumer = consumer.single_instance();
        }
        if has_bug {
            consumer.on(count_badly)
        } else {
            consumer.on(count)
        }
    };
    let consumer = retried("group", || group().start()).await;
    println!("\nready");
    tokio::select! {
        finished = consumer.finished() => match finished {
            Ok(()) => unreachable!("it waits for more"),
            Err(error) => error.to_string(),
        },
        () = tell_stops() => unreachable!("it watches for ever"),
    }
}

/// Says whenever this process goes on that was stopped.
async fn tell_stops() {
    let clock = SystemClock::new();
    loop {
        let began = clock.elapsed();
        clock.sleep(DWELL).await;
        if clock.elapsed() - began > STOPPED {
            eprintln!("goes on");
        }
    }
}

/// What handlers know.
#[derive(Clone)]
struct Worker {
    name: Arc<str>,
    is_failing: bool,
    /// Keys with a handling at work.
    busy: Arc<Mutex<HashSet<String>>>,
    pool: Option<sqlx::PgPool>,
}

/// The effect, which nothing but the inbox keeps from being there twice.
async fn count(
    item: ItemCounted,
    metadata: Metadata,
    State(worker): State<Worker>,
    mut tx: Tx<Postgres>,
) -> Result<(), HandlerError> {
    let _busy = Busy::begin(&worker, &item).await?;
    dwell().await;
    if worker.is_failing {
        worker.fail(&item, metadata.attempt).await?;
    }
    let effect = effect_of(&item, &worker.name);
    (&mut *tx).execute(raw_sql(AssertSqlSafe(effect))).await?;
    Ok(())
}

/// The planted bug: an effect that no inbox row guards.
async fn count_badly(item: ItemCounted, State(worker): State<Worker>) -> Result<(), HandlerError> {
    let mut tx = worker.pool().begin().await?;
    tx.execute(raw_sql("SELECT 1")).await?;
    dwell().await;
    let effect = effect_of(&item, &worker.name);
    tx.execute(raw_sql(AssertSqlSafe(effect))).await?;
    tx.commit().await?;
    Ok(())
}

/// The time in which a process is stopped or killed.
async fn dwell() {
    SystemClock::new().sleep(DWELL).await;
}

impl Worker {
    fn pool(&self) -> &sqlx::PgPool {
        self.pool.as_ref().expect("it is there before handlers are")
    }

    async fn note(&self, sql: String) -> Result<(), HandlerError> {
        self.pool().execute(raw_sql(AssertSqlSafe(sql))).await?;
        Ok(())
    }

    /// Every third event of a key fails three times; every eleventh until it was handed back twice. Each attempt is noted, whatever becomes of it.
    async fn fail(&self, item: &ItemCounted, attempt: u32) -> Result<(), HandlerError> {
        let ItemCounted { lane, n } = item;
        let name = &self.name;
        self.note(format!(
            "INSERT INTO attempt (lane, n, attempt, worker) VALUES ('{lane}', {n}, {attempt}, '{name}')"
        ))
        .await?;
        if is_poison(*n) {
            let redrives = format!(
                "SELECT COALESCE(MAX(redrives), 0) FROM tidings_dead_letter WHERE event_id = '{lane}-{n}'"
            );
            let redrives = sqlx::query_scalar(AssertSqlSafe(redrives));
            let redrives: i64 = redrives.fetch_one(self.pool()).await?;
            if redrives < REDRIVES {
                return Err(HandlerError::permanent_message(
                    "not before it is handed back twice",
                ));
            }
        } else if n.is_multiple_of(3) && attempt <= 3 {
            return Err(HandlerError::transient_message("not yet"));
        }
        Ok(())
    }
}

/// Whether an event is given up.
fn is_poison(n: u64) -> bool {
    n % POISON == POISON_FIRST
}

/// A handling at work for a key; the only one in its process.
struct Busy {
    busy: Arc<Mutex<HashSet<String>>>,
    lane: String,
}

impl Busy {
    async fn begin(worker: &Worker, item: &ItemCounted) -> Result<Self, HandlerError> {
        let lane = item.lane.clone();
        if !worker.busy.lock().unwrap().insert(lane.clone()) {
            let name = &worker.name;
            worker
                .note(format!(
                    "INSERT INTO violation (what) VALUES ('two handlings of {lane} at once in {name}')"
                ))
                .await?;
        }
        Ok(Self {
            busy: Arc::clone(&worker.busy),
            lane,
        })
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.busy.lock().unwrap().remove(&self.lane);
    }
}

/// Tries until it works: a server may be gone while a process begins.
async fn retried<T, E: std::fmt::Display, F: Future<Output = Result<T, E>>>(
    what: &str,
    mut make: impl FnMut() -> F,
) -> T {
    loop {
        match make().await {
            Ok(made) => return made,
            Err(error) => eprintln!("no {what} yet: {error}"),
        }
        SystemClock::new().sleep(PAUSE).await;
    }
}
