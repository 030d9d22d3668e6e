//! `roadstead bench`: side-by-side measurements.

mod accepts;
mod dice;
mod exchange;
mod idle;
mod kills;
mod loss;
mod member;
mod payload;
mod queue;
mod report;

use clap::Subcommand;

use crate::outcome::{Outcome, Result};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// A connection for every byte: how soon it comes, with few and with many accepts outstanding
    Accepts(accepts::Args),
    /// Three servers that exchange messages for every query: which way of doing it a user should take
    Exchange(exchange::Args),
    /// Connections that say nothing beside some that do: what they cost in time and in memory
    Idle(idle::Args),
    /// Processes of a server are killed under load: whom it hits, and when all are there again
    Kills(kills::Args),
    /// A server is killed under load and started again: what fails meanwhile, and when all is as before
    Loss(loss::Args),
    /// Short and long jobs in one queue: how long the short ones wait under each discipline
    Queue(queue::Args),
    /// One of the three, started by the measurement
    #[command(hide = true)]
    Member(member::Args),
}

pub(crate) fn run(command: Command) -> Result<Outcome> {
    match command {
        Command::Accepts(args) => accepts::run(&args),
        Command::Exchange(args) => exchange::run(&args),
        Command::Idle(args) => idle::run(&args),
        Command::Kills(args) => kills::run(&args),
        Command::Loss(args) => loss::run(&args),
        Command::Queue(args) => queue::run(&args),
        Command::Member(args) => member::run(&args),
    }
}
