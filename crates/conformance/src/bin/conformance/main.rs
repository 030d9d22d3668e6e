//! The program under test: a service on any model, which tells of every connection's end.
//!
//! stdout: `listening ADDRESS...`; for each session that ends `closed WHY`, for one that the server itself has
//! connected `far WHY`; for each long job that begins `toils`; for each SIGUSR2 `holds NAME=COUNT...`; last `stats
//! NAME=COUNT...`, and where something had not finished `undrained COUNT` before that, with ` and datagrams` if a
//! session of these had not. There are no `stats` where a job is still being done. Exit codes as those of `roadstead
//! serve`: 0 after SIGTERM and a drain, 1 an error, 130 a second signal.

mod clock;
mod counter;
mod datagrams;
mod desk;
mod discard;
mod echo;
mod forward;
mod relay;
mod say;

use std::{
    error::Error,
    io::{self, Write},
    panic,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use clap::{Parser, ValueEnum};

use roadstead::{
    Address, Budget, Model, Queue, Server, Service,
    log::Log,
    server::{Io, RunError, Trigger},
    tls::{Acceptor, Clients, Connector, Expect, Keys},
};
use roadstead_conformance::child::AUDIT;

use say::say;

/// A test service on any model.
#[derive(Parser)]
struct Args {
    service: Which,
    #[arg(long, default_value = "127.0.0.1:0")]
    bind: Vec<Address>,
    #[arg(long)]
    model: Model,
    #[arg(long, default_value_t = 1)]
    loops: usize,
    #[arg(long, default_value_t = 0)]
    workers: usize,
    #[arg(long, default_value_t)]
    queue: Queue,
    #[arg(long)]
    level_triggered: bool,
    #[arg(long)]
    io_workers: bool,
    /// Speak TLS with the keys in this directory
    #[arg(long)]
    keys: Option<PathBuf>,
    /// Longest time to drain, in milliseconds
    #[arg(long, default_value = "30000", value_parser = millis)]
    drain: Duration,
    /// The size of the desk's file
    #[arg(long, default_value_t = 0)]
    file: usize,
    /// Where the relay goes to
    #[arg(long)]
    far: Option<Address>,
    /// That this is no server with our keys
    #[arg(long)]
    far_plain: bool,
    /// The size of the pieces that the relay carries
    #[arg(long, default_value_t = 1)]
    piece: usize,
    /// Let the wall clock step
    #[arg(long)]
    clock_steps: bool,
    #[command(flatten)]
    limits: Limits,
}

#[derive(Clone, Copy, ValueEnum)]
enum Which {
    Echo,
    Discard,
    Counter,
    Desk,
    Relay,
    Forward,
    /// A desk for datagrams; no connections
    Datagrams,
}

/// The budget, where it is not the default; times in milliseconds.
#[derive(clap::Args)]
struct Limits {
    #[arg(long)]
    connections: Option<usize>,
    #[arg(long)]
    per_address: Option<usize>,
    #[arg(long)]
    buffer_each: Option<usize>,
    #[arg(long)]
    buffer_all: Option<usize>,
    #[arg(long)]
    jobs: Option<usize>,
    #[arg(long)]
    slowest: Option<u64>,
    #[arg(long)]
    rate_all: Option<u64>,
    #[arg(long)]
    rate_each: Option<u64>,
    #[arg(long, value_parser = millis)]
    first_byte: Option<Duration>,
    #[arg(long, value_parser = millis)]
    idle: Option<Duration>,
    #[arg(long, value_parser = millis)]
    connect: Option<Duration>,
    #[arg(long, value_parser = millis)]
    linger: Option<Duration>,
}

impl Limits {
    fn budget(&self) -> Budget {
        let mut budget = Budget::default();
        budget.connections = self.connections.unwrap_or(budget.connections);
        budget.per_address = self.per_address.unwrap_or(budget.per_address);
        budget.buffer_each = self.buffer_each.unwrap_or(budget.buffer_each);
        budget.buffer_all = self.buffer_all.unwrap_or(budget.buffer_all);
        budget.jobs = self.jobs.unwrap_or(budget.jobs);
        budget.slowest = self.slowest.unwrap_or(budget.slowest);
        budget.rate_all = self.rate_all.unwrap_or(budget.rate_all);
        budget.rate_each = self.rate_each.unwrap_or(budget.rate_each);
        budget.first_byte = self.first_byte.unwrap_or(budget.first_byte);
        budget.idle = self.idle.unwrap_or(budget.idle);
        budget.connect = self.connect.unwrap_or(budget.connect);
        budget.linger = self.linger.unwrap_or(budget.linger);
        budget
    }
}

fn millis(text: &str) -> Result<Duration, std::num::ParseIntError> {
    text.parse().map(Duration::from_millis)
}

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

fn main() -> ExitCode {
    let args = Args::parse();
    match log().and_then(|()| run(&args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "conformance: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Logs warnings, and panics, without waiting for whoever reads them.
fn log() -> Result<()> {
    let log = Arc::new(Log::stderr()?);
    let panics = Arc::clone(&log);
    panic::set_hook(Box::new(move |panic| panics.say(None, &panic.to_string())));
    tracing_subscriber::fmt().with_env_filter("warn").with_writer(log).with_ansi(false).init();
    Ok(())
}

fn run(args: &Args) -> Result<()> {
    // A signal that does nothing but interrupt whatever call is under way.
    roadstead_conformance::interrupt::allow()?;
    if args.clock_steps && !clock::let_step() {
        return Err("the wall clock does not step".into());
    }
    match args.service {
        Which::Echo => serve(echo::Echo, args),
        Which::Discard => serve(discard::Discard, args),
        Which::Counter => serve(counter::Counter::default(), args),
        Which::Desk => serve(desk::Desk::new(args.file)?, args),
        Which::Relay => serve(relay(args)?, args),
        Which::Forward => serve(forward::Forwarder(relay(args)?), args),
        Which::Datagrams => {
            let bind = |server: Server<_>, address: &Address| match address {
                Address::Ip(address) => server.bind_datagrams(address, datagrams::DatagramDesk),
                Address::Unix(_) => server,
            };
            run_server(args.bind.iter().fold(server(echo::Echo, args), bind), args)
        }
    }
}

fn relay(args: &Args) -> Result<relay::Relay> {
    let connector = |keys: &Path| -> Result<_> {
        Ok(Connector::new(Some(&Keys::load(keys)?), Expect::Name("server".into()))?)
    };
    let keys = args.keys.as_deref().filter(|_| !args.far_plain);
    let far = args.far.clone().ok_or("it needs --far")?;
    Ok(relay::Relay { far, connector: keys.map(connector).transpose()?, piece: args.piece.max(1) })
}

/// A server as the options say, which listens nowhere yet.
fn server<S: Service>(service: S, args: &Args) -> Server<S> {
    Server::new(service)
        .model(args.model)
        .loops(args.loops)
        .workers(args.workers)
        .queue(args.queue)
        .trigger(if args.level_triggered { Trigger::Level } else { Trigger::Edge })
        .io(if args.io_workers { Io::Workers } else { Io::Loop })
        .budget(args.limits.budget())
        .audit(AUDIT.as_raw(), |held| say::counts("holds", held))
}

fn serve(service: impl Service, args: &Args) -> Result<()> {
    let mut server = server(service, args);
    if let Some(keys) = &args.keys {
        server = server.layer(Acceptor::new(&Keys::load(keys)?, Clients::Known)?);
    }
    for address in &args.bind {
        server = server.bind(address);
    }
    run_server(server, args)
}

fn run_server(server: Server<impl Service>, args: &Args) -> Result<()> {
    let drained = server.run(args.drain, |places| {
        say::listening(places);
        Ok(())
    });
    match drained {
        Ok(stats) => say::counts("stats", &stats),
        Err(RunError::Undrained(left)) => {
            say(&format!(
                "undrained {}{}",
                left.connections,
                if left.datagrams { " and datagrams" } else { "" }
            ));
            if !left.working {
                say::counts("stats", &left.counts);
            }
        }
        Err(RunError::Interrupted) => std::process::exit(130),
        Err(error) => return Err(error.into()),
    }
    Ok(())
}
