//! The switchboard: one file for each command.

mod completion;
mod confirm;
mod consumer;
pub(crate) mod dead_letter;
mod emit;
mod event;
mod man;
mod reference;
mod tail;
mod verify;
mod version;

use crate::arguments::{Arguments, Command, ConsumerCommand, DlqCommand, EventCommand};
use crate::demo;
use crate::failure::Failure;
use std::process::ExitCode;

/// Runs the command.
pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let global = &arguments.global;
    match arguments.command {
        Command::Demo(demo) => demo::run(global, demo).await,
        Command::Emit(emit) => done(emit::run(global, emit).await),
        Command::Tail(tail) => tail::run(global, tail).await,
        Command::Event(EventCommand::Ls(ls)) => done(event::ls::run(global, ls).await),
        Command::Event(EventCommand::Get(get)) => done(event::get::run(global, get).await),
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
        Command::Dlq(DlqCommand::Ls(ls)) => done(dead_letter::ls(global, ls).await),
        Command::Dlq(DlqCommand::Show(show)) => done(dead_letter::show(global, show).await),
        Command::Verify(arguments) => verify::run(global, &arguments),
        Command::Completion(completion) => done(completion::run(&completion)),
        Command::Man(man) => done(man::run(&man)),
        Command::Version => done(version::run(global)),
        Command::Reference(reference) => done(reference::run(&reference)),
    }
}

fn done(result: Result<(), Failure>) -> Result<ExitCode, Failure> {
    result.map(|()| ExitCode::SUCCESS)
}
