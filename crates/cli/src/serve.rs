//! `roadstead serve`: run a ready service until a signal ends it.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    ops::RangeInclusive,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::ValueEnum;
use rustix::net::getsockname;

use roadstead::{
    Address, Budget, DatagramService, Model, Observer, Queue, Server, Service, UnixName, activation,
    server::Snapshot,
    server::{Io, RunError, Spread, Trigger},
    tls::{Acceptor, Clients, Keys},
};
use roadstead_services::{discard::Discard, echo::Echo};

use crate::{
    addresses::{self, Place, place},
    admin,
    numbers::{BYTES, MANY, bytes, range, seconds, within},
    outcome::{Outcome, Result},
    parent::end_with,
    proxy::{self, Targets},
    said::{announce, close, close_datagrams},
    signals::END_AT_ONCE,
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Which service
    service: Ready,
    #[command(flatten)]
    listen: Listen,
    #[command(flatten)]
    limits: Limits,
    /// Answer datagrams (UDP) at these addresses, instead of connections. For echo and discard
    #[arg(long, conflicts_with_all = OF_CONNECTIONS)]
    udp: bool,
    /// Speak TLS 1.3 with the keys in this directory: see `roadstead keys`. SIGHUP has them read again
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,
    /// Speak TLS 1.3 with anyone, with this certificate (PEM, with those between it and its authority) and --key.
    /// SIGHUP has both read again
    #[arg(long, value_name = "FILE", requires = "key", conflicts_with = "keys")]
    cert: Option<PathBuf>,
    /// The private key (PEM) of --cert
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    #[command(flatten)]
    targets: Targets,
    /// Which clients to talk to: those with a certificate of the keys' authority, or anyone
    #[arg(long, value_name = "WHO", default_value = "known", requires = "keys")]
    clients: Who,
    /// End when the process of this number, which started this one, ends
    #[arg(long, value_name = "PID", hide = true)]
    with_parent: Option<i32>,
}

/// What datagrams have nothing of.
const OF_CONNECTIONS: [&str; 9] =
    ["keys", "cert", "spread", "io", "backlog", "first_byte", "slowest", "accepts", "in_flight"];

#[derive(Clone, Copy, ValueEnum)]
enum Who {
    Known,
    Anyone,
}

#[derive(Clone, Copy, ValueEnum)]
enum Ready {
    /// RFC 862: what comes in goes out
    Echo,
    /// RFC 863: what comes in is thrown away
    Discard,
    /// What comes in goes on to one of several targets, and back
    Proxy,
}

#[derive(Clone, Copy, ValueEnum)]
enum Units {
    Loop,
    Workers,
}

/// Where and how a server listens.
#[derive(clap::Args)]
pub(crate) struct Listen {
    /// Address to listen on, or a name, of which all addresses are; port 0 lets the system choose. For connections also a
    /// Unix socket: unix:PATH, a file of this user alone, or unix:@NAME, an abstract name. May be given more than once,
    /// and, for connections, beside sockets that it is started with (LISTEN_FDS, as by systemd) [default:
    /// 127.0.0.1:7007 if there are none]
    #[arg(long, value_name = "ADDR", value_parser = place)]
    bind: Vec<Place>,
    /// I/O model: see `roadstead models`, or `best`
    #[arg(long, value_name = "M", default_value = "best")]
    pub(crate) model: Model,
    /// Loops that drive connections, each on a thread of its own, where the model has loops: a number, or `auto`, one for
    /// each processor
    #[arg(long, value_name = "N", default_value = "auto", value_parser = loops)]
    pub(crate) loops: Loops,
    /// How connections are spread over the loops: fewest (one loop listens and hands each to the loop that has fewest),
    /// kernel (each loop listens, and the system chooses by a hash)
    #[arg(long, value_name = "HOW", default_value_t)]
    spread: Spread,
    /// Keep each loop on one processor
    #[arg(long)]
    pin: bool,
    /// Threads that run deferred jobs [default: 0, the loops run them]. For `pool`: its threads [default: 64];
    /// for `prefork`: its processes [default: 16]; with `--io workers`: threads that do it all [default: one for each
    /// processor]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true, value_parser = within(0..=1024_u16))]
    pub(crate) workers: u16,
    /// Which of the deferred jobs that wait is next: fcfs (as they came), sjf (the shortest), rr (connections
    /// take turns), mlfq (who has had least)
    #[arg(long, value_name = "D", default_value_t)]
    pub(crate) queue: Queue,
    /// Have epoll tell of a connection for as long as it is ready, instead of once: to compare
    #[arg(long)]
    level_triggered: bool,
    /// Who receives and sends, on `epoll`: the I/O thread, or the workers, which then run the sessions and their jobs
    #[arg(long, value_name = "WHO", default_value = "loop", conflicts_with = "level_triggered")]
    io: Units,
    /// Connections that may wait in the system to be accepted
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = within(1..=i32::MAX))]
    pub(crate) backlog: i32,
    /// Longest time to finish what was begun, after a signal
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub(crate) drain: Duration,
    #[command(flatten)]
    admin: admin::Options,
}

/// As many loops as were asked for; `auto` if none was.
#[derive(Clone, Copy)]
pub(crate) struct Loops(Option<u16>);

impl Loops {
    /// None: one for each processor.
    pub(crate) fn count(self) -> Option<usize> {
        self.0.map(usize::from)
    }
}

fn loops(text: &str) -> std::result::Result<Loops, String> {
    match text {
        "auto" => Ok(Loops(None)),
        _ => within(1..=1024_u16)(text).map(|loops| Loops(Some(loops))),
    }
}

/// Where nobody has said where to listen.
const USUAL: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 7007));

impl Listen {
    /// Where to listen: on the sockets that this process was started with, and at the addresses of its options.
    pub(crate) fn places(&self) -> Result<Places> {
        let sockets = activation::sockets()?;
        let mut addresses = addresses::all(&self.bind)?;
        if sockets.is_empty() && addresses.is_empty() {
            addresses.push(USUAL.into());
        }
        Ok(Places { sockets, addresses })
    }
}

/// Where a server is to listen.
pub(crate) struct Places {
    sockets: Vec<OwnedFd>,
    addresses: Vec<Address>,
}

impl Places {
    /// All of them as addresses; of a Unix socket that is given, without its name.
    pub(crate) fn addresses(&self) -> io::Result<Vec<Address>> {
        let of_socket = |socket: &OwnedFd| {
            let tcp = SocketAddr::try_from(getsockname(socket)?);
            Ok(tcp.map_or_else(|_| UnixName::none().into(), Address::from))
        };
        self.sockets.iter().map(of_socket).chain(self.addresses.iter().cloned().map(Ok)).collect()
    }

    /// Has `service` answer datagrams at all of them.
    fn of_datagrams<S: Service>(
        self,
        server: Server<S>,
        service: impl DatagramService + Clone,
    ) -> Result<Server<S>> {
        if !self.sockets.is_empty() {
            return Err(
                "with --udp no sockets are taken that it was started with: say where with --bind".into()
            );
        }
        self.addresses.into_iter().try_fold(server, |server, address| match address {
            Address::Ip(address) => Ok(server.bind_datagrams(address, service.clone())),
            Address::Unix(name) => Err(format!("{name} is a Unix socket, and --udp needs HOST:PORT").into()),
        })
    }

    fn of<S: Service>(self, mut server: Server<S>) -> Server<S> {
        server = self.sockets.into_iter().fold(server, Server::listener);
        self.addresses.into_iter().fold(server, Server::bind)
    }
}

/// The hard limits, as options.
#[derive(clap::Args)]
pub(crate) struct Limits {
    /// Connections open at once [default: 10000; Trident: 1000]
    #[arg(long, value_name = "N", value_parser = within(1..=MANY))]
    connections: Option<usize>,
    /// Connections open at once from one address (Unix sockets have none), or one /64 of IPv6 [default: 10000]
    #[arg(long, value_name = "N", value_parser = within(1..=MANY))]
    per_address: Option<usize>,
    /// Time for a client to send its first byte [default: 10]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    first_byte: Option<Duration>,
    /// Time without a byte in either direction [default: 60]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    idle: Option<Duration>,
    /// Bytes per second that a connection has to move while a message or an answer is half through; 0: any [default:
    /// 64]
    #[arg(long, value_name = "BYTES", value_parser = within(0..=BYTES as u64))]
    slowest: Option<u64>,
    /// Bytes per second that all together may be sent, such as 500, 64KiB or 10MiB; 0: any. What is over it waits
    /// [default: 0]
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true, value_parser = bytes(0..=BYTES as u64))]
    rate_all: Option<u64>,
    /// Bytes per second that one connection, or one peer of datagrams, may be sent; 0: any [default: 0]
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true, value_parser = bytes(0..=BYTES as u64))]
    rate_each: Option<u64>,
    /// Bytes that one connection may buffer [default: 1 MiB; Trident: by the collection]
    #[arg(long, value_name = "BYTES", value_parser = within(1..=BYTES))]
    buffer_each: Option<usize>,
    /// Bytes that all connections may buffer [default: 256 MiB]
    #[arg(long, value_name = "BYTES", value_parser = within(1..=BYTES))]
    buffer_all: Option<usize>,
    /// Jobs in flight [default: 10000]
    #[arg(long, value_name = "N", value_parser = within(0..=MANY))]
    jobs: Option<usize>,
    /// Accepts that each listener has outstanding: how many at least, and at most while clients have to wait for one.
    /// Not for blocking models [default: 4..64]
    #[arg(long, value_name = "MIN..MAX", value_parser = range(1..=ACCEPTS))]
    accepts: Option<RangeInclusive<usize>>,
    /// Bytes that are in flight to the system at once, of all sends of a loop. For proactors [default: 8 MiB]
    #[arg(long, value_name = "BYTES", value_parser = within(1..=BYTES))]
    in_flight: Option<usize>,
}

/// More than a backlog holds.
const ACCEPTS: usize = 65_536;

impl Limits {
    pub(crate) fn apply(&self, mut budget: Budget) -> Budget {
        let set = |limit: &mut usize, option: Option<usize>| *limit = option.unwrap_or(*limit);
        set(&mut budget.connections, self.connections);
        set(&mut budget.per_address, self.per_address);
        set(&mut budget.buffer_each, self.buffer_each);
        set(&mut budget.buffer_all, self.buffer_all);
        set(&mut budget.jobs, self.jobs);
        set(&mut budget.in_flight, self.in_flight);
        budget.accepts = self.accepts.clone().unwrap_or(budget.accepts);
        budget.first_byte = self.first_byte.unwrap_or(budget.first_byte);
        budget.idle = self.idle.unwrap_or(budget.idle);
        budget.slowest = self.slowest.unwrap_or(budget.slowest);
        budget.rate_all = self.rate_all.unwrap_or(budget.rate_all);
        budget.rate_each = self.rate_each.unwrap_or(budget.rate_each);
        budget
    }
}

pub(crate) fn run(args: Args) -> Result<Outcome> {
    args.with_parent.map(end_with).transpose()?;
    let budget = args.limits.apply(Budget::default());
    let tls = match (&args.keys, &args.cert, &args.key) {
        (Some(dir), ..) => Some(acceptor(dir, args.clients)?),
        (None, Some(cert), Some(key)) => Some(Acceptor::new(&Keys::load_pair(cert, key)?, Clients::Anyone)?),
        _ => None,
    };
    if !matches!(args.service, Ready::Proxy) {
        args.targets.refuse();
    }
    let places = args.listen.places()?;
    if args.udp {
        return match args.service {
            Ready::Echo => run_datagrams(Echo, "echo", &args.listen, places, budget),
            Ready::Discard => run_datagrams(Discard, "discard", &args.listen, places, budget),
            Ready::Proxy => Err("the proxy has no datagrams: --udp is for echo and discard".into()),
        };
    }
    match args.service {
        Ready::Echo => run_service(Echo, "echo", tls, &args.listen, places, budget, None),
        Ready::Discard => run_service(Discard, "discard", tls, &args.listen, places, budget, None),
        Ready::Proxy => {
            let proxy = args.targets.proxy()?;
            let budget = args.targets.apply(budget);
            let ended = run_service(proxy.clone(), "proxy", tls, &args.listen, places, budget, None)?;
            proxy::close(&proxy.counts());
            Ok(ended)
        }
    }
}

fn acceptor(dir: &Path, clients: Who) -> Result<Acceptor> {
    let clients = match clients {
        Who::Known => Clients::Known,
        Who::Anyone => Clients::Anyone,
    };
    Ok(Acceptor::new(&Keys::load(dir)?, clients)?)
}

/// A server that listens as it was told to.
fn server<S: Service>(service: S, tls: Option<Acceptor>, listen: &Listen, budget: Budget) -> Server<S> {
    let mut server = Server::new(service)
        .model(listen.model)
        .budget(budget)
        .workers(listen.workers.into())
        .queue(listen.queue)
        .trigger(if listen.level_triggered { Trigger::Level } else { Trigger::Edge })
        .io(match listen.io {
            Units::Loop => Io::Loop,
            Units::Workers => Io::Workers,
        })
        .backlog(listen.backlog)
        .spread(listen.spread)
        .pin(listen.pin);
    if let Some(loops) = listen.loops.count() {
        server = server.loops(loops);
    }
    if let Some(tls) = tls {
        server = server.layer(tls);
    }
    server
}

/// Serves until SIGINT or SIGTERM, then drains. `peers` is where other servers of its cluster reach it, if it has any.
pub(crate) fn run_service(
    service: impl Service,
    name: &str,
    tls: Option<Acceptor>,
    listen: &Listen,
    places: Places,
    budget: Budget,
    peers: Option<SocketAddr>,
) -> Result<Outcome> {
    let server = places.of(server(service, tls, listen, budget));
    run_server(server, name, listen, |places, admin| announce("on", places, peers, admin), close)
}

/// Answers datagrams, and has no connections.
fn run_datagrams<S: Service + DatagramService + Copy>(
    service: S,
    name: &str,
    listen: &Listen,
    places: Places,
    budget: Budget,
) -> Result<Outcome> {
    let server = places.of_datagrams(server(service, None, listen, budget), service)?;
    let announce = |places: &[Address], admin: &[Address]| announce("for datagrams on", places, None, admin);
    run_server(server, name, listen, announce, close_datagrams)
}

/// Serves until SIGINT or SIGTERM, then drains, and says with `close` what it has come to.
fn run_server<S: Service>(
    server: Server<S>,
    name: &str,
    listen: &Listen,
    announce: impl FnOnce(&[Address], &[Address]) -> io::Result<()>,
    close: fn(Model, &str, &Snapshot),
) -> Result<Outcome> {
    let model = listen.model;
    let mut watch = listen.admin.watch(model)?;
    let listening = |addresses: &[Address], observer: Option<Observer>| {
        watch.begin(observer, model, name)?;
        announce(addresses, watch.places())?;
        tracing::info!(%model, "serving; Ctrl-C drains, twice ends at once");
        Ok(())
    };
    let ended = server.run_watched(listen.drain, listening);
    watch.end()?;
    match ended {
        Ok(counts) => close(model, "drained", &counts),
        Err(RunError::Undrained(left)) => {
            tracing::warn!("{left}");
            close(model, "not drained", &left.counts);
        }
        Err(RunError::Interrupted) => std::process::exit(END_AT_ONCE.into()),
        Err(error) => return Err(error.into()),
    }
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Given {
        #[command(flatten)]
        limits: Limits,
        #[command(flatten)]
        listen: Listen,
    }

    fn given(options: &str) -> Given {
        Given::try_parse_from(["serve"].into_iter().chain(options.split_whitespace())).unwrap()
    }

    #[test]
    fn each_option_sets_up_what_it_is_called_and_nothing_else() {
        let shown = |options: &str| {
            let listen = given(options).listen;
            let server = server(Echo, None, &listen, Budget::default().jobs(77));
            format!("{:?}", listen.places().unwrap().of(server))
        };
        let usual = shown("--model epoll");
        for part in [
            "addresses: [\"127.0.0.1:7007\"], model: Some(Epoll)",
            "jobs: 77",
            "loops: Loops { count: None, spread: Fewest, pin: false }, workers: 0, queue: Fcfs, trigger: Edge, io: Loop, backlog: 1024",
            "layered: false",
        ] {
            assert!(usual.contains(part), "{part}: {usual}");
        }
        for (options, was, becomes) in [
            ("--loops 3", "count: None", "count: Some(3)"),
            ("--loops auto", "", ""),
            ("--spread kernel", "spread: Fewest", "spread: Kernel"),
            ("--pin", "pin: false", "pin: true"),
            ("--workers 3", "workers: 0", "workers: 3"),
            ("--queue sjf", "queue: Fcfs", "queue: Sjf"),
            ("--queue rr", "queue: Fcfs", "queue: Rr"),
            ("--queue mlfq", "queue: Fcfs", "queue: Mlfq"),
            ("--level-triggered", "trigger: Edge", "trigger: Level"),
            ("--io workers", "io: Loop", "io: Workers"),
            ("--backlog 5", "backlog: 1024", "backlog: 5"),
            ("--bind 127.0.0.1:1 --bind [::1]:2", "[\"127.0.0.1:7007\"]", "[\"127.0.0.1:1\", \"[::1]:2\"]"),
            ("--drain 3", "", ""),
        ] {
            assert_eq!(
                shown(&format!("--model epoll {options}")),
                usual.replacen(was, becomes, 1),
                "{options}"
            );
        }
        assert!(shown("--model poll").contains("model: Some(Poll)"));
    }

    #[test]
    fn a_drain_lasts_ten_seconds_or_as_long_as_it_is_told_to() {
        assert_eq!(
            [given("").listen.drain, given("--drain 0.25").listen.drain].map(|it| it.as_millis()),
            [10_000, 250]
        );
    }

    #[test]
    fn a_limit_that_is_given_holds_and_no_other_is_touched() {
        let given = |options: &str| given(options).limits.apply(Budget::default());
        let (usual, second) = (Budget::default(), Duration::from_secs(1));
        assert_eq!(given(""), usual);
        for (option, limited) in [
            ("--connections 1", usual.clone().connections(1)),
            ("--per-address 1", usual.clone().per_address(1)),
            ("--first-byte 1", usual.clone().first_byte(second)),
            ("--idle 1", usual.clone().idle(second)),
            ("--slowest 1", usual.clone().slowest(1)),
            ("--rate-all 2MiB", usual.clone().rate_all(2 << 20)),
            ("--rate-each 64KiB", usual.clone().rate_each(64 << 10)),
            ("--buffer-each 1", usual.clone().buffer_each(1)),
            ("--buffer-all 1", usual.clone().buffer_all(1)),
            ("--jobs 1", usual.clone().jobs(1)),
            ("--accepts 1..65536", usual.clone().accepts(1..=65_536)),
            ("--accepts 7..7", usual.clone().accepts(7..=7)),
            ("--in-flight 1", usual.clone().in_flight(1)),
        ] {
            assert_eq!(given(option), limited, "{option}");
        }
    }
}
