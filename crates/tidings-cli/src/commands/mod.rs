//! The switchboard: one file for each command.

mod alert;
mod backup;
mod bridge;
mod broker;
pub(crate) mod check;
mod completion;
mod confirm;
mod consumer;
pub(crate) mod dead_letter;
mod emit;
mod event;
mod inbox;
mod log;
mod man;
mod outbox;
mod reference;
mod relay;
mod retry;
mod schedule;
mod tail;
mod verify;
mod version;

use crate::alert_arguments::AlertCommand;
use crate::arguments::{Arguments, Command, EventCommand, Global, LogCommand};
use crate::bridge_arguments::BrokerCommand;
use crate::consumer_arguments::ConsumerCommand;
#[cfg(feature = "sqlite")]
use crate::demo;
use crate::dlq_arguments::{Dlq, DlqCommand, RetryCommand};
use crate::failure::Failure;
use crate::inbox_arguments::InboxCommand;
use crate::outbox_arguments::{OutboxCommand, RelayCommand};
use std::process::ExitCode;

/// Runs the command.
pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let global = &arguments.global;
    match arguments.command {
        #[cfg(feature = "sqlite")]
        Command::Demo(demo) => demo::run(global, demo).await,
        Command::Emit(emit) => done(emit::run(global, emit).await),
        Command::Tail(tail) => tail::run(global, tail).await,
        Command::Event(EventCommand::Ls(ls)) => done(event::ls::run(global, ls).await),
        Command::Event(EventCommand::Get(get)) => done(event::get::run(global, get).await),
        Command::Event(EventCommand::Explain(explain)) => {
            done(event::explain::run(global, explain).await)
        }
        Command::Event(EventCommand::Count(count)) => done(event::count::run(global, count).await),
        Command::Event(EventCommand::Import(import)) => event::import::run(global, import).await,
        Command::Event(EventCommand::Export(export)) => done(event::export::run(export).await),
        Command::Consumer(ConsumerCommand::Ls(ls)) => done(consumer::ls::run(global, ls).await),
        Command::Consumer(ConsumerCommand::Lag(lag)) => consumer::lag::run(global, lag).await,
        Command::Consumer(ConsumerCommand::Reset(reset)) => {
            done(consumer::reset::run(global, reset).await)
        }
        Command::Consumer(ConsumerCommand::Rm(rm)) => done(consumer::rm::run(global, rm).await),
        Command::Consumer(ConsumerCommand::Run(run)) => consumer::run::run(global, run).await,
        Command::Consumer(ConsumerCommand::Pause(pause)) => {
            done(consumer::decide::pause(global, pause).await)
        }
        Command::Consumer(ConsumerCommand::Resume(resume)) => {
            done(consumer::decide::resume(global, resume).await)
        }
        Command::Consumer(ConsumerCommand::Skip(skip)) => {
            done(consumer::decide::skip(global, skip).await)
        }
        Command::Dlq(arguments) => dlq(global, arguments).await,
        Command::Retry(RetryCommand::Ls(ls)) => done(retry::ls(global, ls).await),
        Command::Retry(RetryCommand::Now(now)) => done(retry::now(global, now).await),
        Command::Schedule(command) => schedule::run(global, command).await,
        Command::Log(LogCommand::Retention(retention)) => {
            done(log::retention::run(global, retention).await)
        }
        Command::Outbox(command) => outbox(global, command).await,
        Command::Relay(command) => relay(global, command).await,
        Command::Inbox(command) => done(inbox(global, command).await),
        Command::Broker(BrokerCommand::Check(check)) => broker::run(global, check, false).await,
        Command::Broker(BrokerCommand::Ensure(check)) => broker::run(global, check, true).await,
        Command::Bridge(arguments) => bridge::run(global, arguments).await,
        Command::Alert(AlertCommand::Run(run)) => alert::run::run(global, *run).await,
        Command::Alert(AlertCommand::Test(test)) => done(alert::test::run(global, test).await),
        Command::Alert(AlertCommand::Rules) => done(alert::rules()),
        Command::Check(command) => Ok(check::run(command).await),
        Command::Verify(arguments) => verify::run(global, &arguments),
        Command::Backup(arguments) => done(backup::run(global, &arguments).await),
        Command::Completion(completion) => done(completion::run(&completion)),
        Command::Man(man) => done(man::run(&man)),
        Command::Version => done(version::run(global)),
        Command::Reference(reference) => done(reference::run(&reference)),
    }
}

async fn outbox(global: &Global, command: OutboxCommand) -> Result<ExitCode, Failure> {
    match command {
        OutboxCommand::Ddl(ddl) => done(outbox::ddl::run(&ddl)),
        OutboxCommand::Migrate(migrate) => done(outbox::migrate::run(global, migrate).await),
        OutboxCommand::Status(status) => outbox::status::run(global, status).await,
        OutboxCommand::Ls(ls) => done(outbox::ls::run(global, ls).await),
        OutboxCommand::Retry(retry) => done(outbox::decide::retry(global, retry).await),
        OutboxCommand::Discard(discard) => done(outbox::decide::discard(global, discard).await),
        OutboxCommand::Prune(prune) => done(outbox::prune::run(global, prune).await),
    }
}

async fn dlq(global: &Global, arguments: Dlq) -> Result<ExitCode, Failure> {
    let Some(command) = arguments.command else {
        return done(dead_letter::clusters::run(global, arguments.clusters).await);
    };
    match command {
        DlqCommand::Ls(ls) => done(dead_letter::ls::run(global, ls).await),
        DlqCommand::Show(show) => done(dead_letter::show::run(global, show).await),
        DlqCommand::Redrive(redrive) => dead_letter::redrive::run(global, redrive).await,
        DlqCommand::Edit(edit) => done(dead_letter::edit::run(global, edit).await),
        DlqCommand::Discard(discard) => dead_letter::discard::run(global, discard).await,
        DlqCommand::Export(export) => done(dead_letter::export::run(export).await),
        DlqCommand::Stats(stats) => done(dead_letter::stats::run(global, stats).await),
        DlqCommand::Actions(actions) => done(dead_letter::actions::run(global, actions).await),
        DlqCommand::Import(import) => done(dead_letter::import::run(global, import).await),
        DlqCommand::Ddl(ddl) => done(dead_letter::tables::ddl(&ddl)),
        DlqCommand::Migrate(migrate) => done(dead_letter::tables::migrate(global, migrate).await),
    }
}

async fn inbox(global: &Global, command: InboxCommand) -> Result<(), Failure> {
    match command {
        InboxCommand::Status(status) => inbox::status::run(global, status).await,
        InboxCommand::Prune(prune) => inbox::prune::run(global, prune).await,
        InboxCommand::Ddl(ddl) => inbox::tables::ddl(&ddl),
        InboxCommand::Migrate(migrate) => inbox::tables::migrate(global, migrate).await,
    }
}

async fn relay(global: &Global, command: RelayCommand) -> Result<ExitCode, Failure> {
    match command {
        RelayCommand::Run(run) => relay::run::run(global, run).await,
        RelayCommand::Init(init) => done(relay::init::run(global, init).await),
        RelayCommand::Check(check) => relay::check::run(global, check).await,
        RelayCommand::Verify(verify) => relay::verify::run(global, verify).await,
    }
}

fn done(result: Result<(), Failure>) -> Result<ExitCode, Failure> {
    result.map(|()| ExitCode::SUCCESS)
}
