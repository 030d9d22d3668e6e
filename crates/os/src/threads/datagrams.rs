//! The loops of datagram sockets, beside those of connections: each on a thread of its own.
#![forbid(unsafe_code)]

use std::{io, rc::Rc, sync::Arc};

use roadstead_drivers::{datagrams::DatagramLoop, reactor::Poller};
use roadstead_proto::{datagrams::DatagramEndpoint, ticket::WakeQueue};

use crate::{
    sockets::{
        Os,
        datagrams::{DatagramSocket, DatagramSockets},
    },
    threads::loops::{LoopParts, Make, Makes, Run},
};

/// A socket, and who speaks on it.
pub type Spoken = (DatagramSocket, Box<dyn DatagramEndpoint>);

/// A loop for each of `loops`, which has these sockets, around what `poller` makes. Each holds `living` until it ends.
pub(super) fn makes<P: Poller<Os> + 'static>(
    loops: Vec<Vec<Spoken>>,
    living: &Arc<()>,
    poller: impl FnOnce(&WakeQueue) -> io::Result<P> + Clone + Send + 'static,
) -> Makes {
    let make = |sockets: Vec<Spoken>| -> Make {
        let (poller, living) = (poller.clone(), Arc::clone(living));
        Box::new(move |parts| {
            let LoopParts { net, host, orders, .. } = parts;
            let net = DatagramSockets::new(net, poller(&host.wake_queue)?);
            let sockets = sockets.into_iter().map(|(socket, endpoint)| (Rc::new(socket), endpoint)).collect();
            let mut turns = DatagramLoop::new(net, host, orders, sockets)?;
            Ok(Box::new(move || {
                let _ = &living;
                turns.run()
            }) as Run)
        })
    };
    loops.into_iter().map(|sockets| ("datagrams", make(sockets))).collect()
}
