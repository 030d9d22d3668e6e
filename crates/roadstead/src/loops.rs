//! Several loops of one server: how many, and how connections are spread over them.
#![forbid(unsafe_code)]

use std::{fmt, str::FromStr};

use roadstead_drivers::reactor::workers::Io;
use roadstead_os::processors;

use crate::{model::Model, models::Core};

/// How connections are spread over the loops of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Spread {
    /// One loop listens, and hands each connection to the loop that has fewest. However few and however long they are,
    /// every loop has its share. This costs a wake of another thread for each connection that is handed over.
    #[default]
    Fewest,
    /// Every loop listens by itself, and the system chooses by a hash of the addresses (`SO_REUSEPORT`, socket(7)).
    /// That suits many short connections: of few long ones one loop may have twice as many as another.
    Kernel,
}

impl Spread {
    /// Each of them.
    pub const ALL: [Self; 2] = [Self::Fewest, Self::Kernel];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fewest => "fewest",
            Self::Kernel => "kernel",
        }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// There is no such way to spread connections.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("connections are not spread by `{0}` but by: {list}", list = Spread::ALL.map(Spread::name).join(", "))]
pub struct UnknownSpread(String);

impl FromStr for Spread {
    type Err = UnknownSpread;

    fn from_str(name: &str) -> Result<Self, UnknownSpread> {
        Self::ALL.into_iter().find(|spread| spread.name() == name).ok_or_else(|| UnknownSpread(name.into()))
    }
}

/// How many loops, and what they do: as a server was asked for it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Loops {
    /// None: one for each processor, where there can be several.
    pub(crate) count: Option<usize>,
    pub(crate) spread: Spread,
    pub(crate) pin: bool,
}

impl Loops {
    /// Why there can be only one loop on `model`, or none; `None` if there can be several.
    fn single(model: Model, io: Io) -> Option<&'static str> {
        match (model.core(), io) {
            (Core::Blocking, _) => {
                Some("it has no loops: its threads or processes run on all processors as they are")
            }
            (_, Io::Workers) => Some(
                "workers that do the I/O have one loop before them, and run on all processors themselves",
            ),
            _ => None,
        }
    }

    /// Why what was asked for cannot be had on `model`.
    pub(crate) fn obstacle(&self, model: Model, io: Io) -> Option<&'static str> {
        let several = self.count.is_some_and(|count| count > 1) || self.pin || self.spread == Spread::Kernel;
        Self::single(model, io).filter(|_| several)
    }

    /// How many there are on `model`.
    pub(crate) fn on(&self, model: Model, io: Io) -> usize {
        match Self::single(model, io) {
            Some(_) => 1,
            None => self.count.unwrap_or_else(processors::count).max(1),
        }
    }

    /// How many descriptors so many loops need beside those of their connections, where they listen on so many
    /// addresses, and have datagrams at so many: for waiting, for what interrupts that, and in reserve.
    pub(crate) fn descriptors(&self, loops: usize, addresses: usize, udp: usize) -> usize {
        let of_datagrams = if udp > 0 { loops * (3 + udp) } else { 0 };
        loops * 3 + self.listening(loops) * (addresses + 2) + of_datagrams
    }

    /// How many of so many loops listen.
    pub(crate) fn listening(&self, loops: usize) -> usize {
        match self.spread {
            Spread::Fewest => 1,
            Spread::Kernel => loops,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_spread_has_a_name() {
        for spread in Spread::ALL {
            assert_eq!(spread.name().parse(), Ok(spread));
        }
        let unknown = "evenly".parse::<Spread>().unwrap_err();
        assert_eq!(unknown.to_string(), "connections are not spread by `evenly` but by: fewest, kernel");
    }

    #[test]
    fn several_loops_are_refused_where_there_are_none_and_are_one_where_nobody_asked() {
        let (auto, three) = (Loops::default(), Loops { count: Some(3), ..Loops::default() });
        let pinned = Loops { pin: true, ..Loops::default() };
        let spread = Loops { spread: Spread::Kernel, ..Loops::default() };
        for model in Model::ALL {
            let has = model.core() != Core::Blocking;
            for loops in [three, pinned, spread] {
                assert_eq!(loops.obstacle(model, Io::Loop).is_none(), has, "{model}");
            }
            assert_eq!(auto.obstacle(model, Io::Loop), None, "{model}");
            assert_eq!(auto.on(model, Io::Loop), if has { processors::count() } else { 1 }, "{model}");
            let one = Loops { count: Some(1), ..Loops::default() };
            assert_eq!((one.obstacle(model, Io::Loop), one.on(model, Io::Loop)), (None, 1), "{model}");
        }
        let workers = three.obstacle(Model::Epoll, Io::Workers).unwrap();
        assert!(workers.starts_with("workers that do the I/O have one loop"), "{workers}");
        assert_eq!((auto.on(Model::Epoll, Io::Workers), three.on(Model::Epoll, Io::Loop)), (1, 3));
        let kernel = Loops { spread: Spread::Kernel, ..three };
        assert_eq!((three.listening(3), kernel.listening(3)), (1, 3));
        assert_eq!((three.descriptors(3, 2, 0), kernel.descriptors(3, 2, 0)), (13, 21));
        assert_eq!(three.descriptors(3, 2, 4), 13 + 21, "loops of datagrams are beside the others");
    }
}
