//! A proxy on one page: whoever comes is connected with somebody else.
//!
//! ```sh
//! cargo run --release -p roadstead --example proxy -- 127.0.0.1:8080 127.0.0.1:80
//! ```
//!
//! Each connection has two sessions, joined by a `Forward`, which does the rest: bytes both ways without a copy where
//! they are many, a half-close of either side, and that a side which takes nothing holds back the other. What
//! `roadstead serve proxy` has beside that is in `crates/services/src/proxy/`: several targets, and what to do when one
//! cannot be reached.

use std::{env, error::Error, net::SocketAddr, time::Duration};

use roadstead::{
    Close, Context, Done, Forward, Input, Peer, Ready, Scope, Server, Service, Session, server::RunError,
};

/// Connects whoever comes with this address.
struct Proxy(SocketAddr);

/// The side of whoever came. That of the other is a `Forward` as it is.
struct Near {
    to: SocketAddr,
    forward: Forward,
    /// The other side, until it is opened.
    far: Option<Forward>,
}

impl Service for Proxy {
    type Session = Near;
    const SCOPE: Scope = Scope::Connection;

    fn open(&self, _: &Peer) -> Near {
        let (forward, far) = Forward::pair();
        Near { to: self.0, forward, far: Some(far) }
    }
}

impl Session for Near {
    type Reply = ();

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        self.forward.received(input, cx)
    }

    fn ready(&mut self, _: Ready, cx: &mut Context<'_, Self>) -> Done {
        if let Some(far) = self.far.take() {
            cx.connect(self.to, far).map_err(|busy| Close::abort(busy.to_string()))?;
        }
        self.forward.called(cx)
    }

    fn end(&mut self, _: &mut Context<'_, Self>) -> Done {
        self.forward.ended();
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let usage = "usage: proxy LISTEN-ADDR TARGET-ADDR";
    let mut addresses = env::args().skip(1).map(|text| text.parse::<SocketAddr>());
    let (from, to) = (addresses.next().ok_or(usage)??, addresses.next().ok_or(usage)??);
    match Server::new(Proxy(to)).bind(from).run(Duration::from_secs(10), |_| Ok(())) {
        Ok(_) | Err(RunError::Undrained(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
