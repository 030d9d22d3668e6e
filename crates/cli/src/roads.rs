//! How three servers on this machine reach each other: on ports chosen before they start, if need be the long way.

use std::{
    net::{Ipv4Addr, SocketAddr},
    os::fd::OwnedFd,
    time::Duration,
};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, socket_with, sockopt};

use roadstead_load::relay::Relay;

use crate::outcome::Result;

/// The addresses of three servers, and the relays between them.
pub(crate) struct Roads {
    /// Where each listens.
    own: [SocketAddr; 3],
    /// Where each finds the three.
    seen: [[SocketAddr; 3]; 3],
    _relays: Vec<Relay>,
    _held: [OwnedFd; 3],
}

impl Roads {
    /// Ports held for servers that must know each other's before they start. With a delay every server reaches every
    /// other through a relay of its own that takes so long, one way.
    pub(crate) fn new(delay: Duration) -> Result<Self> {
        let [(a, one), (b, two), (c, three)] = [hold()?, hold()?, hold()?];
        let own = [a, b, c];
        let mut roads = Self { own, seen: [own; 3], _relays: Vec::new(), _held: [one, two, three] };
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

/// A port of this machine that the system gives to nobody who does not ask for it by number. A server that reuses
/// addresses can still listen there, as this socket never does.
fn hold() -> Result<(SocketAddr, OwnedFd)> {
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    Ok((getsockname(&socket)?.try_into()?, socket))
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        thread,
        time::Instant,
    };

    use roadstead::exchange;
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn a_server_is_told_where_it_listens_and_where_it_finds_the_three() {
        let roads = Roads::new(Duration::ZERO).unwrap();
        let all = roads.own.map(|address| address.to_string()).join(",");
        for index in 0..3 {
            let own = roads.own[index].to_string();
            assert_eq!(roads.arguments(index), ["--peers", &all, "--peer-bind", &own].map(str::to_owned));
        }
    }

    #[test]
    fn with_a_delay_each_finds_itself_at_once_and_the_others_behind_roads_of_their_own() {
        let roads = Roads::new(Duration::from_millis(1)).unwrap();
        let listeners = roads.own.map(|address| TcpListener::bind(address).unwrap());
        listeners.iter().for_each(|listener| listener.set_nonblocking(true).unwrap());
        let mut places: Vec<SocketAddr> = roads.seen.iter().flatten().copied().collect();
        for (from, to) in (0..3).flat_map(|from| (0..3).map(move |to| (from, to))) {
            let place = roads.seen[from][to];
            assert_eq!(place == roads.own[to], from == to);
            let _came = TcpStream::connect(place).unwrap();
            let start = Instant::now();
            let leads_to = loop {
                if let Some(at) = listeners.iter().position(|listener| listener.accept().is_ok()) {
                    break at;
                }
                assert!(start.elapsed() < Duration::from_secs(30), "nowhere");
                thread::yield_now();
            };
            assert_eq!(leads_to, to, "from {from}");
        }
        places.sort();
        places.dedup();
        assert_eq!(places.len(), 9, "{:?}", roads.seen);
    }

    #[test]
    fn a_server_can_listen_on_a_port_that_nobody_else_is_given() {
        let roads = Roads::new(Duration::ZERO).unwrap();
        for address in roads.own {
            let other =
                socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
            assert_eq!(bind(&other, &address), Err(Errno::ADDRINUSE));
            // Twice, as a server that was killed comes back.
            drop(exchange::listen(address).unwrap());
            drop(exchange::listen(address).unwrap());
        }
    }
}
