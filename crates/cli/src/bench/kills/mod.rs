//! `roadstead bench kills`: processes of a server are killed under load; whom it hits, and when all are there again.
//!
//! A process is stopped for a moment before it is killed, so that what it has can be read while nothing changes. So it
//! is known which connections may fail, and every other failure counts against the server. With each a process that
//! does nothing is killed: what the system takes to end that one is not the server's doing.

mod census;
mod clients;
mod control;
mod group;
mod killer;
mod report;

use std::{
    io,
    sync::atomic::Ordering::SeqCst,
    thread,
    time::{Duration, Instant},
};

use roadstead::Model;
use roadstead_load::machine::Machine;

use crate::{
    echo_server::EchoServer,
    numbers::{length, within},
    outcome::{Outcome, Result},
    output::Output,
    progress, signals, threads,
};
use clients::{Clients, Tally};
use group::LASTING;
use killer::Killer;
use report::{Report, Run};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// I/O models to kill processes of: those that are many processes
    #[arg(long, value_name = "M,...", value_delimiter = ',', default_value = "process,prefork", value_parser = forking)]
    models: Vec<Model>,
    /// How long processes are killed for each model, one every 100 to 300 ms
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = length(0.001..=3600.0))]
    seconds: Duration,
    /// Clients, each with a connection at a time, short or long; `prefork` has as many workers
    #[arg(long, value_name = "L", default_value_t = 16, value_parser = within(1..=250_u8))]
    level: u8,
    /// From which messages, lengths of connections, and who is killed when are drawn
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = within(0..=u64::MAX))]
    seed: u64,
    #[command(flatten)]
    output: Output,
}

fn forking(text: &str) -> Result<Model, String> {
    let model: Model = text.parse().map_err(|error| format!("{error}"))?;
    model
        .forks()
        .then_some(model)
        .ok_or_else(|| format!("{model} is one process; process and prefork are many"))
}

pub(crate) fn run(args: &Args) -> Result<Outcome> {
    args.output.check()?;
    signals::watch()?;
    progress::announce(args.seconds.saturating_mul(args.models.len() as u32));
    let mut report = Report::new(Machine::here(), args.level, args.seconds, args.seed);
    for model in &args.models {
        if signals::interrupted() {
            break;
        }
        report.runs.push(measure(args, *model)?);
    }
    args.output.deliver(&report)
}

fn measure(args: &Args, model: Model) -> Result<Run> {
    let workers = (model == Model::Prefork).then_some(usize::from(args.level));
    let mut options = vec!["--model".to_owned(), model.to_string()];
    options.extend(workers.iter().flat_map(|count| ["--workers".to_owned(), count.to_string()]));
    let mut server = EchoServer::start(&options)?;
    let clients = &Clients::new(server.address(), args.seed, args.level);
    let bar = progress::bar(args.seconds.as_millis() as u64, "killing processes");
    let (watched, tally) = thread::scope(|scope| {
        let ask = |client| threads::begin(scope, move || clients.ask(client));
        let asking = (0..args.level).map(ask).collect::<io::Result<Vec<_>>>();
        let asking = asking.inspect_err(|_| clients.over.store(true, SeqCst))?;
        let watched = Killer::new(&server, clients, workers, args.seed).run(args.seconds, &bar);
        clients.over.store(true, SeqCst);
        let tally = asking.into_iter().filter_map(|client| client.join().ok()).sum::<Tally>();
        io::Result::Ok((watched, tally))
    })?;
    bar.finish_and_clear();
    let at_once = clients.all_at_once();
    let ended = server.stop()?;
    Ok(Run {
        model: model.to_string(),
        tally,
        watched: watched?,
        at_once,
        exit_code: ended.code(),
        left: left(server.pid())?,
    })
}

/// How many processes of the server are there when it has ended.
fn left(server: u32) -> Result<usize> {
    let deadline = Instant::now() + LASTING;
    loop {
        let left = group::members(server)?.len();
        if left == 0 || Instant::now() > deadline {
            return Ok(left);
        }
        thread::sleep(LASTING / 100);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_models_of_many_processes_are_taken() {
        assert_eq!([forking("process"), forking("prefork")], [Ok(Model::Process), Ok(Model::Prefork)]);
        assert_eq!(forking("epoll").unwrap_err(), "epoll is one process; process and prefork are many");
        let said = forking("fork").unwrap_err();
        assert!(said.contains("`fork`"), "{said}");
    }
}
