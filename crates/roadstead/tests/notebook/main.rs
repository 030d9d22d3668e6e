//! The example that keeps a log: what it has answered for is on the disk, on every model and in the simulator.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../examples/notebook/service.rs"]
mod service;

mod simulated;

use std::{
    io::{BufRead, BufReader, Write},
    net::{Shutdown, TcpStream},
    path::Path,
    sync::Arc,
    thread,
    time::Duration,
};

use roadstead::{
    Directory, Model, Server,
    disk::{Disk, Name},
    journal::{Journal, Limits},
    server::Io,
};

use service::Notebook;

const CLIENTS: usize = 4;
const LINES: usize = 50;

/// What is in the notebook.
fn lines(disk: Arc<dyn Disk>) -> Vec<String> {
    let mut lines = Vec::new();
    let take = |line: &[u8]| {
        lines.push(String::from_utf8(line.to_vec()).map_err(|error| error.to_string())?);
        Ok(())
    };
    let (_, replayed) =
        Journal::open(disk, Name::new("lines.log").unwrap(), Limits::default(), 0, take).unwrap();
    assert_eq!((replayed.records, replayed.cut), (lines.len() as u64, 0));
    lines
}

/// Says all lines at once, and answers which numbers it was told.
fn talk(address: std::net::SocketAddr, client: usize) -> Vec<usize> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let lines: String = (0..LINES).map(|line| format!("client {client}, line {line}\n")).collect();
    stream.write_all(lines.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    BufReader::new(stream).lines().map(|line| line.unwrap().parse().unwrap()).collect()
}

fn serve(model: Model, io: Io, workers: usize, home: &Path) {
    let (notebook, replayed) = Notebook::open(Arc::new(Directory::open(home).unwrap()), 7).unwrap();
    let before = replayed.records as usize;
    let server = Server::new(notebook).bind("127.0.0.1:0").model(model).io(io).workers(workers);
    let server = server.start().unwrap();
    let address = server.addresses()[0];
    let clients: Vec<_> = (0..CLIENTS).map(|client| thread::spawn(move || talk(address, client))).collect();
    let told: Vec<_> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    server.drain(Duration::from_secs(60)).unwrap();

    let lines = lines(Arc::new(Directory::open(home).unwrap()));
    assert_eq!(lines.len(), before + CLIENTS * LINES);
    for (client, numbers) in told.iter().enumerate() {
        let said = numbers.iter().map(|number| lines[number - 1].clone());
        assert!(
            said.eq((0..LINES).map(|line| format!("client {client}, line {line}"))),
            "{} of {io:?} with {workers} workers",
            model.name()
        );
    }
}

#[test]
fn a_line_has_its_number_on_every_model() {
    let here = Model::ALL.into_iter().filter(|model| model.obstacle().is_none() && !model.forks());
    let loops = here.flat_map(|model| [(model, Io::Loop, 0), (model, Io::Loop, 2)]);
    for (model, io, workers) in loops.chain([(Model::Epoll, Io::Workers, 2)]) {
        let home = tempfile::tempdir().unwrap();
        // The second time there is something to read.
        serve(model, io, workers, home.path());
        serve(model, io, workers, home.path());
    }
}

#[test]
fn a_model_that_forks_has_no_log_for_its_children() {
    let home = tempfile::tempdir().unwrap();
    let (notebook, _) = Notebook::open(Arc::new(Directory::open(home.path()).unwrap()), 7).unwrap();
    assert!(Server::new(notebook).bind("127.0.0.1:0").model(Model::Process).start().is_err());
}
