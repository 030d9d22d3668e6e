//! `roadstead trident serve`.

use std::{
    fs,
    io::{BufRead, Write},
    net::SocketAddr,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use roadstead::{
    exchange::{self, Exchange, Member, MemberId, Options, Strategy},
    layer::Credentials,
    tls::Keys,
};
use roadstead_trident::{
    kernels::Kernel, party::Party, server::Trident, share::SEARCH_FILE, store::Store, trust,
};

use crate::{
    addresses::{Place, find_three, place, three},
    buffers::{self, Buffers},
    memory,
    numbers::{length, within},
    outcome::{Outcome, Result},
    parent::end_with,
    progress,
    serve::{Limits, Listen, run_service},
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Which of the three servers: 1, 2 or 3
    #[arg(long, value_name = "N", value_parser = party)]
    party: Party,
    /// Its directory, as `share` made it
    #[arg(long, value_name = "DIR")]
    shares: PathBuf,
    /// Its keys, as `roadstead keys` made them, if its shares were made with `--keys`: it then speaks TLS, on any
    /// addresses, with clients and servers that show a certificate of the same authority. Without keys it listens on
    /// loopback addresses only. On SIGHUP it reads them again for clients, if its public key is still the same; its
    /// links to the other servers keep theirs until it is started again
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,
    #[command(flatten)]
    listen: Listen,
    #[command(flatten)]
    limits: Limits,
    /// Search shares larger than this (MiB) stay on disk, and are read and verified during each search [default: by the
    /// memory of the machine and of its control group: they stay on disk if the directory of shares has more than a
    /// quarter of what is available, so that three servers have room on one machine]
    #[arg(long, value_name = "MIB", value_parser = within(0..=1_u64 << 30))]
    search_memory: Option<u64>,
    /// Version of the inner loops: portable, avx2, avx512
    #[arg(long, value_parser = kernel)]
    kernel: Option<Kernel>,
    /// Where the three servers reach each other, in the order of their parties: rows can then be read with the protocol
    /// `exchange`, in which the servers share the result. Of a name it is the first address
    #[arg(long, value_name = "A,B,C", value_parser = three)]
    peers: Option<[Place; 3]>,
    /// Address to listen on for the other servers, if it is not this server's own among the peers
    #[arg(long, value_name = "ADDR", requires = "peers", value_parser = place)]
    peer_bind: Option<Place>,
    /// How messages between servers travel: shared, per-query, pool:N, multiplexed. With `--loops N` the links that carry
    /// them are spread over so many loops of their own, else they are on one
    #[arg(long, value_name = "STRATEGY", default_value = "multiplexed", requires = "peers")]
    exchange: Strategy,
    /// How long a server waits for the others' parts of a row; then it refuses the fetch, with the names of who is missing
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = length(0.001..=3600.0), requires = "peers")]
    exchange_timeout: Duration,
    /// Bytes that the kernel may hold of each link between servers, for sending and for receiving, such as 16MiB; said
    /// if it gives less [default: it sizes them to the road]
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true, value_parser = buffers::size(), requires = "peers")]
    socket_buffer: Option<usize>,
    /// End when the process of this number, which started this one, ends
    #[arg(long, value_name = "PID", hide = true)]
    with_parent: Option<i32>,
}

/// Bytes of search shares that are kept in memory where the system does not say how much it has.
const UNKNOWN: u64 = 256 << 20;

pub(crate) fn party(text: &str) -> Result<Party, String> {
    text.parse()
        .ok()
        .and_then(Party::new)
        .ok_or_else(|| format!("`{text}` is not a party; there are 1, 2 and 3"))
}

/// Reads the name of a version of the inner loops that this machine can run.
pub(crate) fn kernel(name: &str) -> Result<Kernel, String> {
    let kernel = Kernel::ALL.into_iter().find(|kernel| kernel.name() == name);
    match kernel {
        Some(kernel) if kernel.available() => Ok(kernel),
        Some(_) => Err(format!("this machine has no {name}")),
        None => Err(format!("there is no `{name}`; there are {}", Kernel::ALL.map(Kernel::name).join(", "))),
    }
}

/// Bytes that search shares may have of memory, if they are to be there at all.
fn search_memory(args: &Args) -> Result<u64> {
    let mut shares = 0;
    // What is wrong with the directory is said better by whoever loads it.
    for entry in fs::read_dir(&args.shares).into_iter().flatten().flatten() {
        shares += entry.metadata()?.len();
    }
    let available = memory::available();
    let bytes = choose(args.search_memory, available, shares);
    if let (None, Some(available), 0, true) =
        (args.search_memory, available, bytes, args.shares.join(SEARCH_FILE).exists())
    {
        let mib = |bytes: u64| bytes >> 20;
        tracing::warn!(
            "search shares stay on disk and are read in every search: there are {} MiB of shares, and {} MiB of memory \
             are available; --search-memory decides otherwise",
            mib(shares),
            mib(available)
        );
    }
    Ok(bytes)
}

/// What was asked for; else everything or nothing, by what the directory has and what is available, if that is known.
fn choose(asked_mib: Option<u64>, available: Option<u64>, shares: u64) -> u64 {
    match (asked_mib, available) {
        (Some(mib), _) => mib << 20,
        (None, None) => UNKNOWN,
        (None, Some(available)) if shares <= available / 4 => u64::MAX,
        (None, Some(_)) => 0,
    }
}

/// Loads the shares, and says what was found and decided.
fn load(args: &Args) -> Result<Store> {
    let (begun, memory) = (Instant::now(), search_memory(args)?);
    let bar = progress::bytes(format!("loading, verifying {}", args.party));
    let store = Store::open_with(&args.shares, args.party, memory, &mut progress::on(&bar))?;
    bar.finish_and_clear();
    tracing::info!(
        party = %args.party, rows = store.manifest().rows, manifest = %store.digest(),
        search_shares = searches(&store), seconds = begun.elapsed().as_secs_f64(),
        "loaded, every byte as it was shared"
    );
    Ok(match args.kernel {
        Some(kernel) => store.with_kernel(kernel),
        None => store,
    })
}

/// Where search shares are, for people.
fn searches(store: &Store) -> &'static str {
    match store.search_in_memory() {
        None => "none",
        Some(true) => "in memory",
        Some(false) => "on disk",
    }
}

pub(crate) fn run(args: Args) -> Result<Outcome> {
    args.with_parent.map(end_with).transpose()?;
    let keys = args.keys.as_deref().map(Keys::load).transpose()?;
    let store = load(&args)?;
    let places = args.listen.places()?;
    let tls = trust::acceptor(store.manifest(), store.party(), keys.as_ref(), &places.addresses()?)?;
    let search_shares = searches(&store);
    tracing::info!(kernel = %store.kernel(), search_shares, tls = tls.is_some(), "ready");
    let exchange = args.peers.as_ref().map(|peers| join(&args, peers, keys.as_ref(), &store)).transpose()?;
    let peers = exchange.as_ref().map(Exchange::address);
    let trident = match exchange {
        Some(exchange) => {
            if args.with_parent.is_some() {
                let exchange = exchange.clone();
                thread::Builder::new().name("figures".into()).spawn(move || report_when_asked(&exchange))?;
            }
            Trident::with_peers(store, exchange, args.exchange_timeout)
        }
        None => Trident::new(store),
    };
    let budget = args.limits.apply(trident.budget());
    let outcome = run_service(trident, "trident", tls, &args.listen, places, budget, peers);
    tracing::info!(search_shares, "ended");
    outcome
}

/// Joins the exchange between the three servers, who know each other by the public keys in the manifest.
fn join(args: &Args, peers: &[Place; 3], keys: Option<&Keys>, store: &Store) -> Result<Exchange> {
    let peers = find_three(peers, Place::first)?;
    let bind = args.peer_bind.as_ref().map(Place::first).transpose()?;
    let bind = bind.unwrap_or(peers[args.party.index()]);
    let listener =
        exchange::listen(bind).map_err(|error| format!("cannot listen on {bind} for servers: {error}"))?;
    let pins = store.manifest().pins;
    let member = |(party, address): (Party, SocketAddr)| Member {
        id: MemberId(party.number()),
        address,
        pin: pins.map(|pins| pins.of(party)),
    };
    let members: Vec<Member> = Party::ALL.into_iter().zip(peers).map(member).collect();
    let mut options = Options::with(args.exchange);
    options.loops = args.listen.loops.count().unwrap_or(options.loops);
    // A part that comes before it is asked for is kept for as long as one is waited for.
    options.patience = options.patience.max(args.exchange_timeout);
    if let Some(buffers) = Buffers::ask(args.socket_buffer, &mut options, &listener)? {
        if buffers.are_cut() {
            tracing::warn!("{buffers}");
        } else {
            tracing::info!("{buffers}");
        }
    }
    Ok(exchange::start(
        MemberId(args.party.number()),
        &members,
        listener,
        keys.map(|keys| keys as &dyn Credentials),
        options,
    )?)
}

/// Answers every line from the process that measures: bytes exchanged and links opened so far, bytes held, queries that
/// wait.
fn report_when_asked(exchange: &Exchange) {
    for line in std::io::stdin().lock().lines() {
        if line.is_err() {
            return;
        }
        let stats = exchange.stats();
        let bytes: u64 = stats.peers.iter().map(|(_, peer)| peer.bytes_out).sum();
        let opened: u64 = stats.peers.iter().map(|(_, peer)| peer.connections_opened).sum();
        let mut out = std::io::stdout().lock();
        // Nobody listens any more when the measurement is over.
        let said = writeln!(out, "{bytes} {opened} {} {}", stats.held, stats.waiting);
        let _ = said.and_then(|()| out.flush());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_names_no_party_or_version_is_told_which_there_are() {
        for (text, number) in
            [("1", Some(1)), ("2", Some(2)), ("3", Some(3)), ("0", None), ("4", None), ("", None)]
        {
            let wrong = format!("`{text}` is not a party; there are 1, 2 and 3");
            assert_eq!(party(text).map(Party::number), number.ok_or(wrong));
        }
        assert_eq!(kernel("portable").ok(), Some(Kernel::ALL[0]));
        assert_eq!(kernel("sse").unwrap_err(), "there is no `sse`; there are portable, avx2, avx512");
        for it in Kernel::ALL {
            let missing = format!("this machine has no {}", it.name());
            assert_eq!(
                kernel(it.name()).map(Kernel::name),
                it.available().then_some(it.name()).ok_or(missing)
            );
        }
    }

    #[test]
    fn search_shares_are_in_memory_where_a_quarter_of_it_is_enough() {
        for (available, shares, chosen) in [
            (None, 1 << 40, UNKNOWN),
            (Some(4000), 1000, u64::MAX),
            (Some(4000), 1001, 0),
            (Some(0), 1, 0),
            (Some(u64::MAX), u64::MAX, 0),
        ] {
            assert_eq!(choose(None, available, shares), chosen);
            assert_eq!(
                (choose(Some(0), available, shares), choose(Some(3), available, shares)),
                (0, 3 << 20)
            );
        }
    }
}
