//! The `roadstead` command: arguments in, text out.
//!
//! stdout carries results, and before them one line per listener; logs and progress go to stderr. Exit codes: 0 done,
//! also after SIGINT or SIGTERM and a drain; 1 something was wrong or failed; 2 bad usage; 130 a second signal, or one before
//! a measurement had measured, or a sharing shared, anything. SIGHUP has a server read its keys again.
#![forbid(unsafe_code)]
// They panic where nobody can be told any more.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod addresses;
mod bench;
mod demo;
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
mod roads;
mod serve;
mod signals;
mod threads;
mod trident;

use std::{
    env,
    io::{self, Write},
    process::ExitCode,
};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use outcome::Outcome;
use roadstead_load::generator::LoadError;
use signals::{END_AT_ONCE, Interrupted};
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

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
    Serve(serve::Args),
    Keys(keys::Args),
    /// List the I/O models, whether this machine can run each, and why not
    Models(models::Args),
    /// Measure ways of doing the same thing side by side
    #[command(subcommand)]
    Bench(bench::Command),
    /// Load a TCP server that echoes, ours or not, and measure it
    Load(load::Args),
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

/// Prints a help text, which was asked for and may find no room or be read in part, or what is wrong with the arguments.
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
        Command::Serve(args) => serve::run(args),
        Command::Keys(args) => keys::run(&args),
        Command::Models(args) => models::run(&args),
        Command::Bench(command) => bench::run(command),
        Command::Load(args) => load::run(&args),
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
    match text.split(',').map(str::trim).find(|part| !is_known(part)) {
        Some(part) => Err(format!(
            "{LOG} holds `{part}`, which is neither a level (off, error, warn, info, debug, trace) nor the level of a part \
             of the program, such as roadstead=debug"
        )),
        None => text.parse().map_err(|error| format!("{LOG} is `{text}`: {error}")),
    }
}
