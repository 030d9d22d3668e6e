//! A key-value service that speaks RESP2, the protocol of Redis, written as a user of the engine would.
//!
//! ```sh
//! cargo run --release -p roadstead --example resp -- --bind 127.0.0.1:6380 --model epoll
//! redis-benchmark -p 6380 -P 16 -t ping,set,get -q
//! redis-cli -p 6380 set port Reede
//! ```
//!
//! Read in this order: `service.rs` is what the engine sees, `command.rs` what the commands do, `store.rs` what all
//! connections share; `request.rs` and `answer.rs` are the protocol's two directions.

mod answer;
mod command;
mod request;
mod service;
mod store;

use std::{
    error::Error,
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use roadstead::{Model, Server};

use service::Resp;

/// Bytes of keys and values that the service keeps.
const MEMORY: usize = 64 << 20;
/// For clients to take what is owed to them, after a signal.
const PATIENCE: Duration = Duration::from_secs(10);

const HELP: &str = "\
A key-value service that speaks RESP2, the protocol of Redis.

Usage: resp [--bind ADDR] [--model NAME]

  --bind ADDR   where it listens [default: 127.0.0.1:6380]
  --model NAME  the I/O model: see `roadstead models` [default: the best of this machine]
";

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
    let (mut bind, mut model) = (String::from("127.0.0.1:6380"), Model::best());
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        if matches!(name.as_str(), "-h" | "--help") {
            print!("{HELP}");
            return Ok(());
        }
        let value = arguments.next().ok_or_else(|| format!("`{name}` needs a value"))?;
        match name.as_str() {
            "--bind" => bind = value,
            "--model" => model = value.parse()?,
            _ => return Err(format!("there is no `{name}`; there are --bind ADDR and --model NAME").into()),
        }
    }
    let server = Server::new(Resp::new(MEMORY)).bind(bind).model(model);
    let counted = server.run(PATIENCE, |addresses| {
        addresses.iter().try_for_each(|address| writeln!(io::stdout(), "listening on {address}"))
    })?;
    writeln!(io::stdout(), "{} connections served", counted.accepted)?;
    Ok(())
}
