//! How three servers on this machine reach each other: on ports chosen before they start, if need be the long way.

use std::{
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use roadstead_load::relay::Relay;

use crate::Result;

/// The addresses of three servers, and the relays between them.
pub(crate) struct Roads {
    /// Where each listens.
    own: [SocketAddr; 3],
    /// Where each finds the three.
    seen: [[SocketAddr; 3]; 3],
    _relays: Vec<Relay>,
}

impl Roads {
    /// Ports that were free a moment ago, as servers must know each other's before they start. With a delay every server
    /// reaches every other through a relay of its own that takes so long, one way.
    pub(crate) fn new(delay: Duration) -> Result<Self> {
        let held = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0"));
        let own: Vec<SocketAddr> =
            held.into_iter().map(|listener| listener?.local_addr()).collect::<Result<_, _>>()?;
        let own = <[SocketAddr; 3]>::try_from(own.as_slice())?;
        let mut roads = Self { own, seen: [own; 3], _relays: Vec::new() };
        if !delay.is_zero() {
            for (from, to) in (0..3).flat_map(|from| (0..3).map(move |to| (from, to))) {
                if from != to {
                    let relay = Relay::start(own[to], delay)?;
                    roads.seen[from][to] = relay.address();
                    roads._relays.push(relay);
                }
            }
        }
        Ok(roads)
    }

    /// The arguments that tell server `index` where it listens and where it finds the three.
    pub(crate) fn arguments(&self, index: usize) -> [String; 4] {
        let seen = self.seen[index].map(|address| address.to_string()).join(",");
        ["--peers".into(), seen, "--peer-bind".into(), self.own[index].to_string()]
    }
}
