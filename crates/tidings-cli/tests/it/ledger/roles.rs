//! What the processes of the ledger do: this binary again, told by its environment which part it plays. Whatever goes wrong, they go on where the books say.

use super::books::{ACCOUNTS, Fate, Plan};
use super::desk::{self, Failure};
use fastrand::Rng;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tidings::core::seam::Clock as _;
use tidings::flow::runtime::{SystemChance, SystemClock};
use tidings::prelude::*;
use tidings::sql::{Database, DatabaseOptions, Inbox, Outbox, OutboxConfig};
use tidings::{ConsumerBuilder, ConsumerHandle, broker::Position};

const ROLE: &str = "TIDINGS_LEDGER_ROLE";
const URL: &str = "TIDINGS_LEDGER_URL";
const FOLDER: &str = "TIDINGS_LEDGER_FOLDER";
const SEED: &str = "TIDINGS_LEDGER_SEED";
const COUNT: &str = "TIDINGS_LEDGER_COUNT";
const BUG: &str = "TIDINGS_LEDGER_BUG";

/// Transfers of one transaction at most.
const TRANSFERS_MAX: u64 = 6;
/// The pace of what tries again, and of the doubles.
const PAUSE: Duration = Duration::from_millis(50);
/// How often of 256 times events are put into the log once more, and how many.
const DOUBLING: u8 = 20;
const DOUBLES: usize = 10;

/// A part to play.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Commits its share of the transfers, then ends.
    Producer(u64),
    /// Works for both groups where nobody else does, and puts events into the log a second time.
    Consumer,
    /// Works for both groups until nothing is left.
    LastConsumer,
}

/// A mistake that applications make, planted to see whether the ledger finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bug {
    /// The handler of transfers makes its effect in a transaction of its own, without an inbox row in it.
    EffectWithoutInbox,
    /// A producer publishes outside of the transaction that it then takes back.
    EventOutsideTransaction,
}

impl Bug {
    const ALL: [Self; 2] = [Self::EffectWithoutInbox, Self::EventOutsideTransaction];
}

/// What a process is told.
#[derive(Debug, Clone)]
pub(super) struct Orders {
    pub(super) role: Role,
    pub(super) url: String,
    pub(super) folder: PathBuf,
    pub(super) seed: u64,
    /// The transfers of a producer.
    pub(super) count: u64,
    pub(super) bug: Option<Bug>,
}

impl Orders {
    /// The environment of the process.
    pub(super) fn variables(&self) -> [(&'static str, String); 6] {
        let role = match self.role {
            Role::Producer(number) => number.to_string(),
            Role::Consumer => "consumer".to_owned(),
            Role::LastConsumer => "last".to_owned(),
        };
        [
            (ROLE, role),
            (URL, self.url.clone()),
            (FOLDER, self.folder.display().to_string()),
            (SEED, self.seed.to_string()),
            (COUNT, self.count.to_string()),
            (BUG, format!("{:?}", self.bug)),
        ]
    }

    /// What this process was told, if it is one of the ledger's.
    pub(super) fn given() -> Option<Self> {
        let variable = |name| std::env::var(name).ok();
        let role = variable(ROLE)?;
        Some(Self {
            role: match role.as_str() {
                "consumer" => Role::Consumer,
                "last" => Role::LastConsumer,
                number => Role::Producer(number.parse().unwrap()),
            },
            url: variable(URL)?,
            folder: PathBuf::from(variable(FOLDER)?),
            seed: variable(SEED)?.parse().unwrap(),
            count: variable(COUNT)?.parse().unwrap(),
            bug: Bug::ALL
                .into_iter()
                .find(|bug| variable(BUG) == Some(format!("{:?}", Some(bug)))),
        })
    }

    /// Plays the part.
    pub(super) fn carry_out(&self) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            match self.role {
                Role::Producer(number) => self.produce(number).await,
                Role::Consumer => self.consume().await,
                Role::LastConsumer => self.finish().await,
            }
        });
    }

    async fn produce(&self, producer: u64) {
        let mut rng = Rng::with_seed(self.seed);
        let database = self.database().await;
        let outbox = Outbox::new(
            OutboxConfig::default(),
            Arc::new(SystemClock::new()),
            Arc::new(SystemChance),
        )
        .unwrap();
        loop {
            let done = self
                .produce_on(producer, &mut rng, &database, &outbox)
                .await;
            match done {
                Ok(()) => return,
                Err(error) => {
                    eprintln!("producer {producer}: {error}");
                    SystemClock::new().sleep(PAUSE).await;
                }
            }
        }
    }

    /// Goes on behind what is in the books, until the share is done or something fails.
    async fn produce_on(
        &self,
        producer: u64,
        rng: &mut Rng,
        database: &Database,
        outbox: &Outbox,
    ) -> Result<(), Failure> {
        let mut first = desk::next_of(database, producer).await?;
        while first < self.count {
            let transfers = rng.u64(1..=TRANSFERS_MAX).min(self.count - first);
            let plan = Plan {
                producer,
                first,
                transfers: (0..transfers).map(|_| transfer(rng)).collect(),
                fate: match rng.u8(0..100) {
                    0..8 => Fate::RollBack,
                    8..16 => Fate::PhantomInSavepoint,
                    _ => Fate::Commit,
                },
            };
            desk::make(database, outbox, &plan).await?;
            if plan.fate != Fate::RollBack {
                first += transfers;
            } else if self.bug == Some(Bug::EventOutsideTransaction) {
                outbox
                    .publish_autocommit(database, &desk::phantom())
                    .await?;
            }
            if rng.u8(0..100) < 5 {
                desk::repeat(database, outbox, producer).await?;
            }
        }
        Ok(())
    }

    async fn consume(&self) {
        let mut rng = Rng::with_seed(self.seed);
        let database = self.database().await;
        let inbox = retried(|| Inbox::open(&database)).await;
        let tidings = retried(|| Tidings::builder().open_or_beside(&self.folder)).await;
        let (mut book, mut audit) = (None, None);
        loop {
            // Another process works for the group as long as it lives.
            join(&mut book, || {
                let group = group(&tidings, &inbox, "book");
                match self.bug {
                    Some(Bug::EffectWithoutInbox) => desk::book_badly(&database, group),
                    _ => desk::book(&database, group),
                }
            })
            .await;
            join(&mut audit, || {
                desk::audit(&database, group(&tidings, &inbox, "audit"))
            })
            .await;
            if rng.u8(..) < DOUBLING
                && let Err(error) = double(&tidings, &mut rng).await
            {
                eprintln!("doubles: {error}");
            }
            SystemClock::new().sleep(PAUSE).await;
        }
    }

    async fn finish(&self) {
        let database = self.database().await;
        let inbox = Inbox::open(&database).await.unwrap();
        let tidings = Tidings::open(&self.folder).await.unwrap();
        let book = desk::book(&database, group(&tidings, &inbox, "book")).start();
        let audit = desk::audit(&database, group(&tidings, &inbox, "audit")).start();
        for consumer in [book.await.unwrap(), audit.await.unwrap()] {
            consumer.wait_idle().await.unwrap();
            let stats = consumer.stats();
            assert_eq!((stats.handled, stats.dead_lettered), (0, 0), "{stats:?}");
        }
        let dead = tidings.dead_letters().unwrap().next().await;
        assert!(dead.is_none(), "{dead:?}");
        tidings.shutdown().await.unwrap();
    }

    async fn database(&self) -> Database {
        let options = DatabaseOptions {
            connections_max: 8,
            ..DatabaseOptions::default()
        };
        retried(|| Database::open(&self.url, &options)).await
    }
}

fn transfer(rng: &mut Rng) -> (u64, u64, u64) {
    let payer = rng.u64(0..ACCOUNTS);
    let payee = (payer + rng.u64(1..ACCOUNTS)) % ACCOUNTS;
    (payer, payee, rng.u64(1..=100))
}

fn group(tidings: &Tidings, inbox: &Inbox, name: &str) -> ConsumerBuilder {
    let consumer = tidings.consumer(name).inbox(inbox.clone()).parallel(8);
    consumer.backoff(Duration::from_millis(5), Duration::from_millis(50))
}

/// Tries until it works: the network may be cut while a process begins.
async fn retried<T, E: std::fmt::Display, F: Future<Output = Result<T, E>>>(
    mut make: impl FnMut() -> F,
) -> T {
    loop {
        match make().await {
            Ok(made) => return made,
            Err(error) => eprintln!("trying again: {error}"),
        }
        SystemClock::new().sleep(PAUSE).await;
    }
}

/// Joins a group unless that was done; `None` goes on while another process works for it.
async fn join(joined: &mut Option<ConsumerHandle>, consumer: impl FnOnce() -> ConsumerBuilder) {
    if joined.is_none() {
        *joined = consumer().start().await.ok();
    }
}

/// Puts some events of the past into the log once more, exactly as they are.
async fn double(tidings: &Tidings, rng: &mut Rng) -> Result<(), tidings::Error> {
    let end = tidings.reader()?.end().await?;
    let from = Position(rng.u64(0..=end.0));
    let mut history = tidings.history("transfer.*").await?.from(from);
    let mut doubles = Vec::new();
    while let Some(recorded) = history.next().await? {
        doubles.push(recorded.envelope);
        if doubles.len() == DOUBLES {
            break;
        }
    }
    for outcome in tidings.publish_envelopes(&doubles).await {
        // What is not doubled now is doubled later.
        let _refused = outcome;
    }
    Ok(())
}
