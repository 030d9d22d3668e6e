//! `roadstead bench accepts`: how soon whoever comes is served, with few and with many accepts outstanding.
//!
//! Every round has a server of its own, to which clients connect for each byte. Rounds of all settings alternate, so
//! that what else the machine does meets all alike.

mod clients;
mod report;

use std::{ops::RangeInclusive, time::Duration};

use roadstead::{Model, model::Core};
use roadstead_load::machine::{Machine, pin};

use crate::{
    echo_server::EchoServer,
    numbers::{length, range, within},
    outcome::{Outcome, Result},
    output::Output,
    progress, signals,
};
use clients::{Tally, ask};
use report::{Report, Run};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// I/O models of the servers, reactors or proactors [default: epoll, emulated, and uring where it runs]
    #[arg(long, value_name = "M,...", value_delimiter = ',', value_parser = many)]
    models: Vec<Model>,
    /// Accepts that the listener has outstanding: at least, and at most
    #[arg(
        long,
        value_name = "MIN..MAX,...",
        value_delimiter = ',',
        default_value = "1..1,4..4,64..64,4..64",
        value_parser = range(1..=4096)
    )]
    accepts: Vec<RangeInclusive<usize>>,
    /// Clients, each of which connects, has a byte echoed, closes, and connects again
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = within(1..=1_000_u16))]
    clients: u16,
    /// How long is measured, in five rounds of all models and settings
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = length(0.01..=3600.0))]
    seconds: Duration,
    #[command(flatten)]
    output: Output,
}

fn many(text: &str) -> Result<Model, String> {
    let model: Model = text.parse().map_err(|error| format!("{error}"))?;
    match model.obstacle() {
        Some(why) => Err(format!("{model} does not run here: {why}")),
        None if model.core() == Core::Blocking => {
            Err(format!("{model} accepts one connection at a time, and has no accepts outstanding"))
        }
        None => Ok(model),
    }
}

/// What is measured where nothing else is asked for.
fn usual() -> Vec<Model> {
    let all = [Model::Epoll, Model::Emulated, Model::Uring];
    all.into_iter().filter(|model| model.obstacle().is_none()).collect()
}

/// Every setting has its turn so many times.
const ROUNDS: u32 = 5;

pub(crate) fn run(args: &Args) -> Result<Outcome> {
    args.output.check()?;
    signals::watch()?;
    progress::announce(args.seconds);
    let models = if args.models.is_empty() { usual() } else { args.models.clone() };
    let runs: Vec<_> = models
        .iter()
        .flat_map(|model| args.accepts.iter().map(|accepts| Run::new(*model, accepts)))
        .collect();
    let time = args.seconds / (ROUNDS * runs.len() as u32);
    let bar = progress::bar(u64::from(ROUNDS) * runs.len() as u64, "measuring");
    let mut report = Report::new(Machine::here(), args.clients, args.seconds, runs);
    'all: for _ in 0..ROUNDS {
        for run in &mut report.runs {
            let tally = measure(run, args.clients, time)?;
            // One that was cut short is not to be compared.
            if signals::interrupted() {
                break 'all;
            }
            run.add(tally);
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    args.output.deliver(&report)
}

/// A round of one setting.
fn measure(run: &Run, clients: u16, time: Duration) -> Result<Tally> {
    let many = (usize::from(clients) * 4).to_string();
    let options = ["--model", &run.model, "--accepts", &run.accepts()];
    let options = options.into_iter().chain(["--connections", &many, "--per-address", &many]);
    let options: Vec<_> = options.map(str::to_owned).collect();
    let apart = std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1);
    // It keeps the core that it was started on.
    let pinned = if apart { Some(pin(0)?) } else { None };
    let mut server = EchoServer::start(&options)?;
    drop(pinned);
    let _pinned = if apart { Some(pin(1)?) } else { None };
    let tally = ask(server.address(), clients, time)?;
    server.stop()?;
    Ok(tally)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_models_that_have_accepts_outstanding_are_taken() {
        assert_eq!([many("poll"), many("emulated")], [Ok(Model::Poll), Ok(Model::Emulated)]);
        for one in ["iterative", "threads", "prefork"] {
            let said = many(one).unwrap_err();
            assert_eq!(
                said,
                format!("{one} accepts one connection at a time, and has no accepts outstanding")
            );
        }
        assert!(many("iocp").unwrap_err().starts_with("iocp does not run here: "));
        assert!(many("lifo").unwrap_err().contains("`lifo`"));
        assert!(usual().contains(&Model::Epoll));
    }
}
