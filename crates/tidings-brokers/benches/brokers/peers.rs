//! The embedded broker, in this process, next to the brokers that people would otherwise run: publishing by the same number of clients, with and without a flush
//! before the acknowledgement.
//!
//! Each peer is reached by its bare client, as an application would: one connection that all clients share where the library is made for that (Kafka, NATS,
//! RabbitMQ), one connection for each client where it is not (Redis). The server runs beside on the same cores, which the embedded broker does not need.

use crate::embedded::{self, Embedded};
use crate::measure::{Goal, Outcome, Report, Request, Rounds, per_second, progress};
use crate::stage::{self, DEADLINE, Publisher};
use crate::{kafka, nats, rabbitmq, redis};
use std::sync::Arc;
use tidings_core::seam::Clock as _;
use tidings_flow::runtime::SystemClock;
use tidings_log::Durability;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// Clients at the same time.
const CLIENTS: usize = 64;
/// Events that each of them has on their way: one, or a short pipeline.
const SHAPES: [usize; 2] = [1, 16];

/// What is measured, and when it acknowledges.
#[derive(Debug, Clone, Copy, PartialEq)]
enum System {
    Embedded(Durability),
    Kafka { flush_each: bool },
    Nats { variable: &'static str },
    RabbitMq,
    Redis { appendfsync: &'static str },
}

/// One system in one of its modes.
#[derive(Debug, Clone, Copy)]
struct Peer {
    name: &'static str,
    system: System,
    /// Which of ours it is compared with: the one that promises the same.
    like: Durability,
}

const OURS: [Peer; 2] = [
    Peer {
        name: "embedded.synced",
        system: System::Embedded(Durability::Synced),
        like: Durability::Synced,
    },
    Peer {
        name: "embedded.written",
        system: System::Embedded(Durability::Written),
        like: Durability::Written,
    },
];

const PEERS: [Peer; 7] = [
    Peer {
        name: "kafka.flush_messages_1",
        system: System::Kafka { flush_each: true },
        like: Durability::Synced,
    },
    Peer {
        name: "kafka.page_cache",
        system: System::Kafka { flush_each: false },
        like: Durability::Written,
    },
    Peer {
        name: "nats.sync_always",
        system: System::Nats {
            variable: "TIDINGS_TEST_NATS_SYNCED_URL",
        },
        like: Durability::Synced,
    },
    Peer {
        name: "nats.sync_default",
        system: System::Nats {
            variable: "TIDINGS_TEST_NATS_URL",
        },
        like: Durability::Written,
    },
    Peer {
        name: "rabbitmq.quorum",
        system: System::RabbitMq,
        like: Durability::Synced,
    },
    Peer {
        name: "redis.appendfsync_always",
        system: System::Redis {
            appendfsync: "always",
        },
        like: Durability::Synced,
    },
    Peer {
        name: "redis.appendfsync_everysec",
        system: System::Redis {
            appendfsync: "everysec",
        },
        like: Durability::Written,
    },
];

impl Peer {
    fn figure(&self, in_flight: usize) -> String {
        format!("peers.{}.{CLIENTS}x{in_flight}", self.name)
    }

    /// Events of each client in a round: fewer where each waits for a disk.
    fn events_each(&self, in_flight: usize, request: &Request) -> usize {
        let turns = match self.like {
            Durability::Synced => request.full_or_quick(24, 4),
            Durability::Written => request.full_or_quick(48, 4),
        };
        turns * in_flight
    }
}

/// `peers.…`: all of them one after the other in each round, beginning with another one each time.
pub(crate) fn peers(request: &Request, report: &mut Report, runtime: &Runtime) -> Outcome<()> {
    let all: Vec<Peer> = OURS.into_iter().chain(PEERS).collect();
    for in_flight in SHAPES {
        let mut rates: Vec<Vec<f64>> = all.iter().map(|_| Vec::new()).collect();
        for round in 0..request.full_or_quick(5, 1) {
            progress(&format!(
                "peers, {CLIENTS}x{in_flight}, round {}",
                round + 1
            ));
            for step in 0..all.len() {
                let place = (round + step) % all.len();
                if let (Some(peer), Some(rates)) = (all.get(place), rates.get_mut(place)) {
                    let events_each = peer.events_each(in_flight, request);
                    let rate = runtime.block_on(rate(peer.system, in_flight, events_each));
                    rates.push(rate.map_err(|error| format!("{}: {error}", peer.name))?);
                }
            }
        }
        let ours = |like| {
            let of_ours = all.iter().zip(&rates);
            let found = of_ours.filter(|(peer, _)| peer.system == System::Embedded(like));
            found.map(|(_, rates)| rates.clone()).next()
        };
        for (peer, rates) in all.iter().zip(&rates) {
            let name = peer.figure(in_flight);
            if OURS.iter().any(|ours| ours.name == peer.name) {
                report.alone(&name, "events/s", rates);
                continue;
            }
            let rounds = Rounds {
                ours: rates.clone(),
                bare: ours(peer.like).unwrap_or_default(),
                ..Rounds::default()
            };
            report.compared(&name, "events/s", &rounds, Goal::None);
        }
    }
    Ok(())
}

/// Events a second of a system with nothing in it.
async fn rate(system: System, in_flight: usize, events_each: usize) -> Outcome<f64> {
    let events = stage::envelopes(CLIENTS * events_each)?;
    match system {
        System::Embedded(durability) => {
            let embedded = Embedded::new(durability, &events)?;
            let folder = embedded.folder;
            let rate = shared(embedded.publisher, in_flight, events_each).await?;
            embedded::remove(&folder)?;
            Ok(rate)
        }
        System::Kafka { flush_each } => {
            let server = kafka::Server::find()?;
            let topic = server.topic(flush_each).await?;
            let bare = kafka::Bare::new(&server.bootstrap, &topic, &events)?;
            let rate = shared(bare, in_flight, events_each).await?;
            server.remove(&topic).await?;
            Ok(rate)
        }
        System::Nats { variable } => {
            let server = nats::Server::find(variable).await?;
            let stream = server.stream().await?;
            let bare = server.bare(&stream, &events).await?;
            let rate = shared(bare, in_flight, events_each).await?;
            server.remove(&stream).await?;
            Ok(rate)
        }
        System::RabbitMq => {
            let server = rabbitmq::Server::find().await?;
            let room = server.room().await?;
            let bare = server.bare(&room, &events).await?;
            let rate = shared(bare, in_flight, events_each).await?;
            server.remove(&room).await?;
            Ok(rate)
        }
        System::Redis { appendfsync } => {
            let server = redis::Server::find()?;
            server.flush(appendfsync).await?;
            let stream = stage::fresh("redis");
            let mut clients: Vec<Arc<dyn Publisher>> = Vec::with_capacity(CLIENTS);
            for own in events.chunks(events_each) {
                clients.push(Arc::new(server.client(&stream, own).await?));
            }
            let rate = of_clients(&clients, |_| 0, in_flight, events_each).await?;
            server.remove(&stream).await?;
            Ok(rate)
        }
    }
}

/// All clients over one publisher, each with its own part of the events.
async fn shared(
    publisher: impl Publisher + 'static,
    in_flight: usize,
    events_each: usize,
) -> Outcome<f64> {
    let publisher: Arc<dyn Publisher> = Arc::new(publisher);
    let clients: Vec<_> = (0..CLIENTS).map(|_| Arc::clone(&publisher)).collect();
    let first = |client| client * events_each;
    of_clients(&clients, first, in_flight, events_each).await
}

/// Events a second of all clients together; the first of each one are not counted, since it connects with them.
async fn of_clients(
    clients: &[Arc<dyn Publisher>],
    first: impl Fn(usize) -> usize,
    in_flight: usize,
    events_each: usize,
) -> Outcome<f64> {
    for (client, publisher) in clients.iter().enumerate() {
        let begin = first(client);
        publisher.publish(begin..begin + 1).await?;
    }
    let clock = SystemClock::new();
    let mut tasks = JoinSet::new();
    for (client, publisher) in clients.iter().enumerate() {
        let publisher = Arc::clone(publisher);
        let (begin, end) = (first(client) + 1, first(client) + events_each);
        tasks.spawn(async move {
            for next in (begin..end).step_by(in_flight) {
                publisher.publish(next..(next + in_flight).min(end)).await?;
            }
            Outcome::Ok(())
        });
    }
    let all = async {
        while let Some(done) = tasks.join_next().await {
            done??;
        }
        Outcome::Ok(())
    };
    tokio::time::timeout(DEADLINE, all).await??;
    Ok(per_second(
        clients.len() * (events_each - 1),
        clock.elapsed(),
    ))
}
