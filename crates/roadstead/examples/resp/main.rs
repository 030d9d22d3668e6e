//! A key-value service that speaks RESP2, the protocol of Redis, written as a user of the engine would.
//!
//! ```sh
//! cargo run --release -p roadstead --example resp -- --bind 127.0.0.1:6380 --model epoll
//! redis-benchmark -p 6380 -P 16 -t ping,set,get -q
//! redis-cli -p 6380 set port Reede
//! ```
//!
//! Read in this order: `service.rs` is what the engine sees, `batch.rs` what it takes together, `command.rs` what the
//! commands do, `store.rs` what all connections share; `request.rs` and `answer.rs` are the protocol's two directions,
//! and `options.rs` reads the command line.

mod answer;
mod batch;
mod command;
mod options;
mod request;
mod service;
mod store;

use std::{
    error::Error,
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use roadstead::Server;

use options::{Asked, HELP};
use service::Resp;

/// Bytes of keys and values that the service keeps.
const MEMORY: usize = 64 << 20;
/// For clients to take what is owed to them, after a signal.
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "resp: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let (bind, model) = match Asked::read(std::env::args().skip(1))? {
        Asked::Serve { bind, model } => (bind, model),
        Asked::Help => return Ok(io::stdout().write_all(HELP.as_bytes())?),
    };
    let server = Server::new(Resp::new(MEMORY)).bind(bind).model(model);
    let counted = server.run(PATIENCE, |addresses| {
        addresses.iter().try_for_each(|address| writeln!(io::stdout(), "listening on {address}"))
    })?;
    writeln!(io::stdout(), "{} connections served", counted.accepted)?;
    Ok(())
}
