//! `cargo xtask services`: real servers for tests, on loopback, apart from any that the machine runs.

mod compose;
mod connection;
mod install;
mod kafka;
mod lifecycle;
mod mariadb;
mod moto;
mod nats;
mod ports;
mod postgres;
mod process;
mod rabbitmq;
mod redis;
mod server;
mod site;
mod tls;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::Value;

use crate::failure::Failure;
use crate::house::House;
pub(crate) use crate::services::install::libraries;
use crate::services::lifecycle::{Began, Given, Service, Standing};
use crate::services::process::Process;
use crate::services::server::Server;
pub(crate) use crate::services::site::Place;
use crate::stopwatch::{self, Stopwatch};

/// Real servers for tests.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Options {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    command: ServicesCommand,
}

const KAFKA_TOOLS: &str = "TIDINGS_TEST_KAFKA_TOOLS";

const AFTER_HELP: &str = "\
Servers: postgres, mariadb, rabbitmq, nats, nats-tls, kafka, moto. RabbitMQ and Kafka have a second listener with TLS and
passwords, PostgreSQL and MariaDB take TLS at their own, which `status` shows as rabbitmq-tls, kafka-tls, postgres-tls and
mariadb-tls; `ca` is the certificate that a client has to trust. Two more, nats-synced and redis, are peers that benchmarks
measure; `up` starts them by name alone.

Each server listens on ports of 127.0.0.1 that nobody uses by default, and keeps its data below target/services.
What is missing is installed where that is allowed: Debian's packages as root, what Python and Maven publish below
target/services. Where that fails and Docker Compose runs, compose.yaml is used.

A server named by its variable is used instead and never started, stopped or emptied: TIDINGS_TEST_POSTGRES_URL,
TIDINGS_TEST_MYSQL_URL, TIDINGS_TEST_RABBITMQ_URL, TIDINGS_TEST_NATS_URL, TIDINGS_TEST_KAFKA_URL, TIDINGS_TEST_AWS_URL,
TIDINGS_TEST_NATS_SYNCED_URL, TIDINGS_TEST_REDIS_URL;
with TLS: TIDINGS_TEST_KAFKA_TLS_URL and TIDINGS_TEST_KAFKA_TLS_CA, likewise RABBITMQ, NATS, POSTGRES and MYSQL.
TIDINGS_TEST_KAFKA_TOOLS is the folder of Kafka's jars, by default target/services/kafka-VERSION/lib.

For one test by hand, export its variable with the URL that `up` and `status` print.";

#[derive(Debug, Subcommand)]
enum ServicesCommand {
    /// Start servers and wait until they answer; does nothing for one that does
    Up {
        /// Begin with empty data
        #[arg(long)]
        fresh: bool,
        #[command(flatten)]
        chosen: Chosen,
    },
    /// Stop servers in good order; the data stays
    Down {
        #[command(flatten)]
        chosen: Chosen,
    },
    /// Say which servers are up, their versions and URLs
    Status {
        /// How to print it
        #[arg(short, long, value_enum, default_value_t = Output::Table)]
        output: Output,
        #[command(flatten)]
        chosen: Chosen,
    },
    /// Kill a server without warning (SIGKILL), as a crash would
    Kill {
        /// The signal, for fingers that type it; there is no other
        #[arg(short = '9')]
        sigkill: bool,
        /// Which server
        name: String,
    },
    /// Stop a server in good order and start it again
    Restart {
        /// Which server
        name: String,
    },
}

#[derive(Debug, Args)]
struct Chosen {
    /// Which servers; if none is named, all of them, and of those that are started the ones that tests need
    names: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

pub(crate) fn run(house: &House, options: &Options) -> Result<(), Failure> {
    let found = |chosen: &Chosen| services(house, &options.place, &chosen.names);
    let found_one = |name: &String| service(house, &options.place, server::named(name)?);
    match &options.command {
        ServicesCommand::Up { fresh, chosen } => {
            let mut wanted = found(chosen)?;
            // A server that benchmarks alone measure is started by its name.
            wanted.retain(|service| !chosen.names.is_empty() || service.server.needed_by_tests);
            all_of(wanted.iter().map(|service| up(service, *fresh).map(drop)))
        }
        ServicesCommand::Down { chosen } => all_of(found(chosen)?.iter().map(down)),
        ServicesCommand::Status { output, chosen } => {
            let standings: Vec<Standing> =
                found(chosen)?.iter().flat_map(Service::standings).collect();
            print_status(&standings, *output);
            Ok(())
        }
        ServicesCommand::Kill { sigkill: _, name } => {
            found_one(name)?.kill()?;
            println!("{name:<12} killed");
            Ok(())
        }
        ServicesCommand::Restart { name } => {
            let service = found_one(name)?;
            down(&service)?;
            up(&service, false).map(|_| ())
        }
    }
}

/// Goes through all of them: one that fails does not keep the others from being started or stopped.
fn all_of(results: impl Iterator<Item = Result<(), Failure>>) -> Result<(), Failure> {
    let failures: Vec<String> = results
        .filter_map(Result::err)
        .map(|failure| failure.to_string())
        .collect();
    if failures.is_empty() {
        return Ok(());
    }
    Err(Failure::new(failures.join("\n")))
}

/// The servers that tests need, while a test run needs them.
#[derive(Debug, Default)]
pub(crate) struct TestServers {
    /// Which we started, and stop again.
    started: Vec<Service>,
    /// What the tests are told of them.
    variables: Vec<(String, String)>,
}

impl TestServers {
    /// Starts every server that tests need, but for those that are said not to be there.
    pub(crate) fn start(
        &mut self,
        house: &House,
        place: &Place,
        without: &[String],
    ) -> Result<(), Failure> {
        let needed = server::ALL.iter().filter(|server| server.needed_by_tests);
        all_of(needed.map(|server| {
            if without.iter().any(|name| name == server.name) {
                println!(
                    "{:<12} left out, and with it the tests that need it",
                    server.name
                );
                return Ok(());
            }
            self.start_one(house, place, server).map_err(|failure| {
                Failure::new(format!(
                    "{failure}; `--without {}` leaves its tests out",
                    server.name
                ))
            })
        }))
    }

    /// Starts servers by name. What it says goes to stderr: stdout may be somebody's JSON.
    pub(crate) fn start_named(
        &mut self,
        house: &House,
        place: &Place,
        names: &[&str],
    ) -> Result<(), Failure> {
        all_of(names.iter().map(|name| {
            let service = service(house, place, server::named(name)?)?;
            let (began, how) = begin(&service, false)?;
            eprintln!("{how}");
            self.note(service, began);
            Ok(())
        }))
    }

    fn start_one(
        &mut self,
        house: &House,
        place: &Place,
        server: &'static Server,
    ) -> Result<(), Failure> {
        let mut service = service(house, place, server)?;
        service.give_way();
        let began = up(&service, false)?;
        self.note(service, began);
        Ok(())
    }

    fn note(&mut self, service: Service, began: Began) {
        self.variables.extend(variables_of(&service));
        if began == Began::Now {
            self.started.push(service);
        }
    }

    /// Tells the tests where their servers are, and which they must do without.
    pub(crate) fn variables(&self, without: &[String]) -> Vec<(String, String)> {
        let mut variables = self.variables.clone();
        if !without.is_empty() {
            variables.push(("TIDINGS_TEST_WITHOUT".to_owned(), without.join(",")));
        }
        variables
    }

    /// Stops those that were started for the tests.
    pub(crate) fn stop(&self) -> Result<(), Failure> {
        all_of(self.started.iter().map(down))
    }

    /// The same, without a word on stdout.
    pub(crate) fn stop_silently(&self) -> Result<(), Failure> {
        all_of(self.started.iter().map(|service| service.down().map(drop)))
    }
}

/// Every name is one of a server; a mistyped one would start nothing.
pub(crate) fn check_names(names: &[String]) -> Result<(), Failure> {
    names
        .iter()
        .try_for_each(|name| server::named(name).map(|_| ()))
}

/// Every name is one of a server or of a listener with TLS; a mistyped one would leave nothing out.
pub(crate) fn check_left_out(names: &[String]) -> Result<(), Failure> {
    let is_listener = |name: &String| {
        let mut secured = server::ALL.iter().flat_map(|server| &server.secured);
        secured.any(|secured| secured.name == name)
    };
    names
        .iter()
        .filter(|name| !is_listener(name))
        .try_for_each(|name| server::named(name).map(|_| ()))
}

fn services(house: &House, place: &Place, names: &[String]) -> Result<Vec<Service>, Failure> {
    check_names(names)?;
    server::ALL
        .iter()
        .filter(|server| names.is_empty() || names.iter().any(|name| name == server.name))
        .map(|server| service(house, place, server))
        .collect()
}

fn service(house: &House, place: &Place, server: &'static Server) -> Result<Service, Failure> {
    let mut site = place.site(house, server)?;
    site.port = Process::recorded_port(&site).unwrap_or(site.port);
    Ok(Service {
        server,
        site,
        compose: house.path("compose.yaml"),
        given: given(server),
    })
}

/// Somebody else's server, if the environment names one.
fn given(server: &Server) -> Option<Given> {
    let authority_of = |variable: &str| variable_named(&authority_variable(variable));
    Some(Given {
        url: variable_named(server.variable)?,
        authority: authority_of(server.variable),
        secured: server.secured.as_ref().and_then(|secured| {
            Some((
                variable_named(secured.variable)?,
                authority_of(secured.variable),
            ))
        }),
    })
}

/// `TIDINGS_TEST_KAFKA_TLS_CA` beside `TIDINGS_TEST_KAFKA_TLS_URL`.
fn authority_variable(variable: &str) -> String {
    format!("{}_CA", variable.trim_end_matches("_URL"))
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place where the servers of somebody else are named"
)]
fn variable_named(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The URL of each listener, and the authority's certificate of those with TLS.
fn variables_of(service: &Service) -> Vec<(String, String)> {
    let endpoints = service.endpoints().into_iter();
    endpoints
        .flat_map(|endpoint| {
            let authority = endpoint
                .authority
                .map(|authority| (authority_variable(endpoint.variable), authority));
            [
                Some((endpoint.variable.to_owned(), endpoint.url)),
                authority,
            ]
        })
        .flatten()
        .chain(kafka_tools(service))
        .collect()
}

/// The jars of Kafka's own tools, with which tests run what tidings tells a person to run; also where the cluster is somebody else's.
fn kafka_tools(service: &Service) -> Option<(String, String)> {
    if service.server.name != kafka::SERVER.name {
        return None;
    }
    let jars = kafka::installed(&service.site)?;
    Some((KAFKA_TOOLS.to_owned(), jars.display().to_string()))
}

fn up(service: &Service, fresh: bool) -> Result<Began, Failure> {
    let (began, how) = begin(service, fresh)?;
    println!("{how}");
    Ok(began)
}

/// Starts it; answers what is to be told of it, too.
fn begin(service: &Service, fresh: bool) -> Result<(Began, String), Failure> {
    let stopwatch = Stopwatch::start();
    let began = service.up(fresh)?;
    let how = match began {
        Began::Now => format!("up after {}", stopwatch::readable(stopwatch.elapsed())),
        Began::Earlier => "was up".to_owned(),
        Began::Given if fresh => format!("named by {}, data left alone", service.server.variable),
        Began::Given => format!("named by {}", service.server.variable),
    };
    let line = format!("{:<12} {how}  {}", service.server.name, service.url());
    Ok((began, line))
}

fn down(service: &Service) -> Result<(), Failure> {
    let was = if service.down()? {
        "stopped"
    } else {
        "was down"
    };
    println!("{:<12} {was}", service.server.name);
    Ok(())
}

fn print_status(standings: &[Standing], output: Output) {
    if output == Output::Json {
        let rows = standings.iter().map(Standing::json).collect();
        println!("{:#}", Value::Array(rows));
        return;
    }
    for standing in standings {
        println!(
            "{:<12} {:<8} {:<12} {}",
            standing.endpoint.name,
            standing.state.word(),
            standing.version.as_deref().unwrap_or("-"),
            standing.endpoint.url
        );
    }
}
