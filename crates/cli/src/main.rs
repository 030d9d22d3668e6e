//! The `roadstead` command: arguments in, text out.
//!
//! stdout carries results, and before them one line per listener; logs and progress go to stderr. Exit codes: 0 done,
//! also after SIGINT or SIGTERM and a drain; 1 something was wrong or failed; 2 bad usage; 130 a second signal, or one
//! before a measurement had measured, or a sharing shared, anything. SIGHUP has a server read its keys again.
#![forbid(unsafe_code)]
// They panic where nobody can be told any more.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod addresses;
mod admin;
mod bench;
mod buffers;
mod demo;
mod echo_server;
mod keys;
mod load;
mod log;
mod memory;
mod models;
mod numbers;
mod outcome;
mod output;
mod parent;
mod progress;
mod proxy;
mod roads;
mod said;
mod serve;
mod signals;
mod states;
mod threads;
mod top;
mod trident;

use std::{
    env,
    io::{self, Write},
    process::ExitCode,
};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use roadstead_load::generator::LoadError;

use outcome::Outcome;
use signals::{END_AT_ONCE, Interrupted};

/// A server engine: one service, written once, on any I/O model; and Trident, private vector search on it.
#[derive(Parser)]
#[command(name = "roadstead", version, after_help = EXAMPLES, max_term_width = WIDEST)]
struct Cli {
    /// Say more on stderr: -v what happens, -vv every connection that was refused or failed
    #[arg(short, long, global = true, action = clap::ArgAction::Count, display_order = 1_000)]
    verbose: u8,
    #[command(subcommand)]
    command: Command,
}

/// Wider lines are hard to read, whatever the terminal.
const WIDEST: usize = 100;

const EXAMPLES: &str = "\
Examples:
  roadstead demo                   three Trident servers and a client, measured
  roadstead serve echo             an echo server, on this machine's best model
  roadstead load 127.0.0.1:7007    how much it can take
  roadstead serve echo --admin 127.0.0.1:9007
  roadstead top 127.0.0.1:9007     what it does, live
  roadstead models                 which I/O models run here, why others do not

Environment:
  ROADSTEAD_LOG    off, error, warn, info, debug or trace, in place of -v; or
                   levels of parts of the program: warn,roadstead::tls=debug

Exit codes:
  0 done, also after Ctrl-C and a drain; 1 something was wrong or failed;
  2 bad usage; 130 a second Ctrl-C, or one before anything was measured";

#[derive(Subcommand)]
enum Command {
    /// Run three Trident servers and a client on this machine: fetch, search, measure, and stop
    Demo(demo::Args),
    /// Run a ready service
    Serve(Box<serve::Args>),
    Keys(keys::Args),
    /// List the I/O models, whether this machine can run each, and why not
    Models(models::Args),
    /// Bring about every state that a TCP connection can be seen in, on this machine, and read it from the system
    States(states::Args),
    /// Measure ways of doing the same thing side by side
    #[command(subcommand)]
    Bench(bench::Command),
    /// Load a server that echoes, ours or not, and measure it
    Load(load::Args),
    /// Watch a server that was started with --admin
    Top(top::Args),
    /// Private vector search on three servers that cannot read the vectors
    #[command(subcommand)]
    Trident(trident::Command),
}

fn main() -> ExitCode {
    // Measurements and their members can be ended too, and wait for what they start, by whomever this was started.
    roadstead::signals::restore();
    let given = with_negative_numbers(Cli::command()).try_get_matches();
    let cli = match given.and_then(|given| Cli::from_arg_matches(&given)) {
        Ok(cli) => cli,
        Err(told) => return tell(&told),
    };
    if let Err(error) = log::begin() {
        let _ = writeln!(io::stderr(), "roadstead: no log can be kept: {error}");
        return ExitCode::FAILURE;
    }
    let code = match chosen(cli.verbose) {
        Ok(filter) => {
            log::follow(filter);
            run(cli.command)
        }
        Err(error) => {
            log::say(&format!("roadstead: {error}"));
            ExitCode::from(2)
        }
    };
    log::end();
    code
}

/// Prints a help text, which was asked for and may find no room or be read in part, or what is wrong with the
/// arguments.
fn tell(told: &clap::Error) -> ExitCode {
    match (told.print(), told.use_stderr()) {
        (Err(error), false) if error.kind() != io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        (_, false) => ExitCode::SUCCESS,
        (_, true) => ExitCode::from(2),
    }
}

fn run(command: Command) -> ExitCode {
    let outcome = match command {
        Command::Demo(args) => demo::run(args),
        Command::Serve(args) => serve::run(*args),
        Command::Keys(args) => keys::run(&args),
        Command::Models(args) => models::run(&args),
        Command::States(args) => states::run(&args),
        Command::Bench(command) => bench::run(command),
        Command::Load(args) => load::run(&args),
        Command::Top(args) => top::run(&args),
        Command::Trident(command) => trident::run(command),
    };
    signals::give_way();
    match outcome {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Wrong) => ExitCode::FAILURE,
        Err(error) => {
            log::say(&format!("roadstead: {error}"));
            if error.is::<Interrupted>() {
                ExitCode::from(END_AT_ONCE)
            } else if matches!(error.downcast_ref(), Some(LoadError::Invalid { .. })) {
                ExitCode::from(2)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

/// Has every option read a negative number as a value, which it may refuse: `-5` is no option that anybody means.
fn with_negative_numbers(command: clap::Command) -> clap::Command {
    let read = |argument: clap::Arg| {
        let takes = argument.get_action().takes_values();
        if takes { argument.allow_negative_numbers(true) } else { argument }
    };
    command.mut_args(read).mut_subcommands(with_negative_numbers)
}

/// Where the environment says what is logged.
const LOG: &str = "ROADSTEAD_LOG";

/// Warnings and errors by default; more with -v, or as `ROADSTEAD_LOG` says (`debug`, `roadstead=trace`).
fn chosen(verbose: u8) -> Result<EnvFilter, String> {
    let level = match verbose {
        0 => "warn,roadstead::closing=info",
        1 => "info",
        _ => "debug",
    };
    let asked = env::var_os(LOG).map(|asked| asked.to_string_lossy().into_owned());
    asked.filter(|asked| !asked.is_empty()).map_or_else(|| filter(level), |asked| filter(&asked))
}

/// Reads levels, and levels of parts of the program, between commas. A word that is neither would silence everything.
fn filter(text: &str) -> Result<EnvFilter, String> {
    let is_known = |part: &str| {
        let (target, level) = part.rsplit_once('=').unwrap_or(("roadstead", part));
        !target.is_empty() && !level.is_empty() && level.parse::<LevelFilter>().is_ok()
    };
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    match parts.iter().find(|part| !is_known(part)) {
        Some(part) => Err(format!(
            "{LOG} holds `{part}`, which is neither a level (off, error, warn, info, debug, trace) nor the level of a part \
             of the program, such as roadstead=debug"
        )),
        None => parts.join(",").parse().map_err(|error| format!("{LOG} is `{text}`: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use roadstead::Budget;

    use super::*;

    #[test]
    fn levels_may_have_spaces_between_them_and_have_to_be_levels() {
        assert!(filter("warn, roadstead_tls=debug ,cli=off").is_ok());
        assert!(filter("warn, loud").unwrap_err().contains("holds `loud`"));
    }

    /// Options that are numbers: what is below the least, the least, the most, and above it.
    type Ends = &'static [(&'static str, [&'static str; 4])];

    /// All of them, with what stands before them.
    const BOUNDS: &[(&str, Ends)] = &[
        (
            "serve echo",
            &[
                ("--workers", ["-1", "0", "1024", "1025"]),
                ("--backlog", ["0", "1", "2147483647", "2147483648"]),
                ("--drain", ["-0.1", "0", "1e9", "1000000001"]),
                ("--connections", ["0", "1", "1000000000", "1000000001"]),
                ("--per-address", ["0", "1", "1000000000", "1000000001"]),
                ("--first-byte", ["-0.1", "0", "1e9", "1000000001"]),
                ("--idle", ["-0.1", "0", "1e9", "1000000001"]),
                ("--slowest", ["-1", "0", "1125899906842624", "1125899906842625"]),
                ("--rate-all", ["-1", "0", "1125899906842624", "1125899906842625"]),
                ("--rate-each", ["-1KiB", "0B", "1048576GiB", "1048577GiB"]),
                ("--buffer-each", ["0", "1", "1125899906842624", "1125899906842625"]),
                ("--buffer-all", ["0", "1", "1125899906842624", "1125899906842625"]),
                ("--jobs", ["-1", "0", "1000000000", "1000000001"]),
                ("--accepts", ["0..4", "1..4", "4..65536", "4..65537"]),
                ("--in-flight", ["0", "1", "1125899906842624", "1125899906842625"]),
            ],
        ),
        (
            "load 127.0.0.1:9",
            &[
                ("--connections", ["0", "1", "28000", "28001"]),
                ("--idle", ["-1", "0", "28000", "28001"]),
                ("--depth", ["0", "1", "16777216", "16777217"]),
                ("--size", ["0", "1", "4294967295", "4294967296"]),
                ("--seconds", ["0.0009", "0.001", "1e9", "1000000001"]),
                ("--timeout", ["0.0009", "0.001", "1e9", "1000000001"]),
                ("--messages", ["0", "1", "18446744073709551615", "18446744073709551616"]),
                ("--rate", ["0.0009", "0.001", "1e9", "1000000001"]),
                ("--core", ["-1", "0", "1023", "1024"]),
            ],
        ),
        ("top 127.0.0.1:9", &[("--every", ["-0.1", "0", "1e9", "1000000001"])]),
        ("keys --out keys", &[("--servers", ["-1", "0", "999", "1000"])]),
        (
            "bench idle",
            &[
                ("--idle", ["0", "1", "25000", "25001"]),
                ("--active", ["0", "1", "1000", "1001"]),
                ("--seconds", ["0.9", "1", "600", "600.1"]),
            ],
        ),
        (
            "bench kills",
            &[
                ("--seconds", ["0.0009", "0.001", "3600", "3600.1"]),
                ("--level", ["0", "1", "250", "251"]),
                ("--seed", ["-1", "0", "18446744073709551615", "18446744073709551616"]),
            ],
        ),
        ("bench loss", &[("--times", ["0", "1", "100", "101"]), ("--level", ["0", "1", "256", "257"])]),
        (
            "bench queue",
            &[
                ("--workers", ["0", "1", "64", "65"]),
                ("--load", ["0.009", "0.01", "0.99", "0.991"]),
                ("--seconds", ["0.0009", "0.001", "3600", "3600.1"]),
            ],
        ),
        (
            "bench exchange",
            &[
                ("--payload", ["63", "64", "64MiB", "67108865"]),
                ("--window", ["63", "64", "64MiB", "67108865"]),
                ("--levels", ["0", "1", "256", "257"]),
                ("--peer-delay", ["-1ms", "0ms", "10000ms", "10001ms"]),
                ("--seconds", ["-0.1", "0", "1e9", "1000000001"]),
            ],
        ),
        ("trident share --out shares", &[("--made", ["0", "1", "268435456", "268435457"])]),
        ("trident share rows --out shares", &[("--dim", ["0", "1", "16384", "16385"])]),
        ("trident serve --shares shares", &[("--party", ["0", "1", "3", "4"])]),
        (
            "trident serve --shares shares --party 1",
            &[("--search-memory", ["-1", "0", "1073741824", "1073741825"])],
        ),
        (
            "trident bench",
            &[
                ("--rows", ["0", "1", "1000000000", "1000000001"]),
                ("--levels", ["0", "1", "1000", "1001"]),
                ("--queries", ["0", "1", "1000000", "1000001"]),
                ("--peer-delay", ["-1ms", "0ms", "10000ms", "10001ms"]),
            ],
        ),
        (
            "trident search --client c --servers 127.0.0.1:1,127.0.0.1:2,127.0.0.1:3 --query rows",
            &[
                ("-k", ["0", "1", "1000000000", "1000000001"]),
                ("--nth", ["-1", "0", "1000000000", "1000000001"]),
            ],
        ),
        (
            "trident fetch --client c --servers 127.0.0.1:1,127.0.0.1:2,127.0.0.1:3",
            &[("", ["-1", "0", "1000000000", "1000000001"])],
        ),
    ];

    #[test]
    fn every_number_is_taken_from_its_least_to_its_most_and_none_beyond() {
        let command = with_negative_numbers(Cli::command());
        for (line, options) in BOUNDS {
            for (option, values) in *options {
                for (value, taken) in values.iter().zip([false, true, true, false]) {
                    let line = format!("roadstead {line} {option} {value}");
                    let given = command.clone().try_get_matches_from(line.split_whitespace());
                    let given = given.and_then(|given| Cli::from_arg_matches(&given));
                    assert_eq!(given.is_ok(), taken, "{line}");
                }
            }
        }
    }

    #[test]
    fn what_only_connections_have_is_refused_where_there_are_datagrams() {
        for option in [
            "--spread kernel",
            "--io workers",
            "--backlog 5",
            "--first-byte 1",
            "--slowest 1",
            "--accepts 4",
            "--in-flight 1",
            "--keys keys",
        ] {
            for (udp, taken) in [("", true), ("--udp", false)] {
                let line = format!("roadstead serve echo {option} {udp}");
                assert_eq!(Cli::try_parse_from(line.split_whitespace()).is_ok(), taken, "{line}");
            }
        }
    }

    #[test]
    fn the_help_of_a_server_says_which_limits_it_has_if_none_is_given() {
        let mut command = Cli::command();
        let serve = command.find_subcommand_mut("serve").unwrap();
        let help = serve.render_long_help().to_string();
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        let usual = Budget::default();
        for said in [
            format!("Connections open at once [default: {}; Trident: 1000]", usual.connections),
            format!("or one /64 of IPv6 [default: {}]", usual.per_address),
            format!("send its first byte [default: {}]", usual.first_byte.as_secs()),
            format!("without a byte in either direction [default: {}]", usual.idle.as_secs()),
            format!("0: any [default: {}]", usual.slowest),
            format!("0: any. What is over it waits [default: {}]", usual.rate_all),
            format!(
                "one connection, or one peer of datagrams, may be sent; 0: any [default: {}]",
                usual.rate_each
            ),
            format!("one connection may buffer [default: {} MiB;", usual.buffer_each >> 20),
            format!("all connections may buffer [default: {} MiB]", usual.buffer_all >> 20),
            format!("Jobs in flight [default: {}]", usual.jobs),
        ] {
            assert!(help.contains(&said), "{said}: {help}");
        }
    }
}
