//! Where the models that fork are refused, and what is said of it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use roadstead::{Context, Done, Input, Model, Peer, Scope, Server, Service, Session};

struct Silent<const SHARED: bool>;
struct Nothing;

impl<const SHARED: bool> Service for Silent<SHARED> {
    type Session = Nothing;
    const SCOPE: Scope = if SHARED { Scope::Process } else { Scope::Connection };
    fn open(&self, _: &Peer) -> Nothing {
        Nothing
    }
}

impl Session for Nothing {
    type Reply = ();
    fn receive(&mut self, _: &mut Input<'_>, _: &mut Context<'_, Self>) -> Done {
        Ok(())
    }
}

fn run<const SHARED: bool>(model: Model) -> String {
    let server = Server::new(Silent::<SHARED>).bind("127.0.0.1:0").model(model);
    server.run(Duration::ZERO, |_| panic!("it listens")).unwrap_err().to_string()
}

#[test]
fn they_do_not_start_beside_other_threads() {
    for model in [Model::Process, Model::Prefork] {
        let started = Server::new(Silent::<false>).bind("127.0.0.1:0").model(model).start();
        let error = started.unwrap_err().to_string();
        assert!(error.contains(model.name()) && error.contains("Server::run"), "{error}");
        // The test's own thread, and the one that waits for it.
        let error = run::<false>(model);
        assert!(error.contains("other threads"), "{error}");
    }
}

#[test]
fn they_refuse_what_connections_share() {
    for model in [Model::Process, Model::Prefork] {
        let error = run::<true>(model);
        assert!(error.contains("share state"), "{error}");
    }
}
