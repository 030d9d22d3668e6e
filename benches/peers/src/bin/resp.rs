//! The RESP example of Roadstead as it is, and with its store behind a mutex.
//!
//! `resp ADDR LOOPS STORE`: the store is that of the example (`actor`); or behind a mutex which is held for each command,
//! as whoever guards a map would (`each`), or for all that a client has sent together (`batch`).
#![allow(dead_code, reason = "what is included is used by the example")]

#[path = "../../../../crates/roadstead/examples/resp/answer.rs"]
mod answer;
#[path = "../../../../crates/roadstead/examples/resp/batch.rs"]
mod batch;
#[path = "../../../../crates/roadstead/examples/resp/command.rs"]
mod command;
#[path = "../../../../crates/roadstead/examples/resp/request.rs"]
mod request;
#[path = "../../../../crates/roadstead/examples/resp/service.rs"]
mod service;
#[path = "../../../../crates/roadstead/examples/resp/store.rs"]
mod store;

use std::{
    env,
    error::Error,
    sync::{Arc, Mutex},
    time::Duration,
};

use roadstead::{Close, Context, Done, Input, Model, Peer, Scope, Server, Service, Session};

use batch::Batch;
use service::Resp;
use store::Store;

const MEMORY: usize = 64 << 20;

#[derive(Clone)]
struct Locked {
    store: Arc<Mutex<Store>>,
    each: bool,
}

impl Service for Locked {
    type Session = Self;
    const SCOPE: Scope = Scope::Process;

    fn open(&self, _: &Peer) -> Self {
        self.clone()
    }
}

impl Session for Locked {
    type Reply = ();

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        let batch = match Batch::read(input.bytes()) {
            Ok(Ok(batch)) => batch,
            Ok(Err(count)) => {
                input.need(count);
                return Ok(());
            }
            Err(error) => return Err(Close::violation(error.to_string())),
        };
        let answers = if self.each {
            batch.run_each(|command| command.run(&mut self.store.lock().unwrap()))
        } else {
            batch.run(&mut self.store.lock().unwrap())
        };
        answers.answers.into_iter().for_each(|answer| answer.write(cx.output()));
        input.consume(answers.used);
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [address, loops, store] = &arguments[..] else { return Err("ADDR LOOPS actor|batch|each".into()) };
    if store == "actor" {
        return serve(Resp::new(MEMORY), address, loops);
    }
    let service = Locked { store: Arc::new(Mutex::new(Store::new(MEMORY))), each: store == "each" };
    serve(service, address, loops)
}

fn serve(service: impl Service, address: &str, loops: &str) -> Result<(), Box<dyn Error>> {
    let server = Server::new(service).bind(address).model(Model::Epoll).loops(loops.parse()?);
    server.run(Duration::from_secs(1), |addresses| {
        addresses.iter().for_each(|address| println!("listening on {address}"));
        Ok(())
    })?;
    Ok(())
}
