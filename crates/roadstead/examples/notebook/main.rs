//! A notebook that forgets nothing: each line that comes is answered with its number, once it is durable.
//!
//! ```sh
//! mkdir -p notes
//! cargo run --release -p roadstead --example notebook -- notes 127.0.0.1:7070
//! printf 'the Reede took berth 4\n' | nc -N 127.0.0.1 7070
//! ```
//!
//! Kill it as you like (`kill -9`): every line whose number was told is in `notes/lines.log` when it runs again.

mod service;

use std::{
    env,
    error::Error,
    io::{self, Write},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use rand::random;
use roadstead::{Directory, Server, server::RunError};

use service::Notebook;

fn main() -> ExitCode {
    let Err(error) = serve() else { return ExitCode::SUCCESS };
    let _ = writeln!(io::stderr(), "notebook: {error}");
    ExitCode::FAILURE
}

fn serve() -> Result<(), Box<dyn Error>> {
    let usage = "usage: notebook DIRECTORY ADDR";
    let mut arguments = env::args().skip(1);
    let (home, address) = (arguments.next().ok_or(usage)?, arguments.next().ok_or(usage)?);
    let directory =
        Directory::open(&home).map_err(|error| format!("cannot open directory {home}: {error}"))?;
    let (notebook, replayed) = Notebook::open(Arc::new(directory), random())?;
    writeln!(io::stderr(), "{} lines, {} torn bytes cut off", replayed.records, replayed.cut)?;
    // The worker waits for the disk, and nobody else does.
    let server = Server::new(notebook).bind(address).workers(1);
    match server.run(Duration::from_secs(10), |_| Ok(())) {
        Ok(_) | Err(RunError::Undrained(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
