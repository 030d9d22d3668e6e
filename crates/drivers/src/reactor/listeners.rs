//! The reactor's listeners: who waits at them, and that they rest when the system has no room for another connection.
#![forbid(unsafe_code)]

use std::{io, sync::Arc, time::Duration};

use roadstead_proto::{budget::Budget, connection::Endpoint, host::Host, stats::Refusal, ticket::Token};

use super::poller::Poller;
use crate::{
    accept::{self, Accepted, Accepts, Listener, Taken},
    handover::Handed,
    net::{Net, REST},
};

pub(super) struct Listeners<L> {
    listeners: Vec<(Listener<L>, Accepts)>,
    resting: Option<Duration>,
}

impl<L> Listeners<L> {
    /// Has `poller` tell of all that wait.
    pub(crate) fn new<N: Net<ListenSocket = L>>(
        listeners: Vec<Listener<L>>,
        budget: &Budget,
        poller: &mut impl Poller<N>,
    ) -> io::Result<Self> {
        let listeners = listeners.into_iter().map(|listener| {
            let mut accepts = Accepts::new(&budget.accepts);
            accepts.fill();
            (listener, accepts)
        });
        let mut listeners = Self { listeners: listeners.collect(), resting: None };
        listeners.listen(poller)?;
        Ok(listeners)
    }

    /// The next connection out of a listener's backlog that is let in, and that `hand` gives back, not having handed it
    /// to another loop; none when the backlog is empty or it is the others' turn.
    pub(crate) fn next<N: Net<ListenSocket = L>>(
        &mut self,
        number: usize,
        net: &mut N,
        poller: &mut impl Poller<N>,
        host: &mut Host,
        mut hand: impl FnMut(Handed<N::Stream>) -> Option<Handed<N::Stream>>,
    ) -> Option<(N::Stream, Box<dyn Endpoint>)> {
        let (listener, accepts) = self.listeners.get_mut(number)?;
        while !accepts.is_empty() {
            match accept::take(net, &listener.socket) {
                Taken::One(stream, peer) => {
                    accepts.complete(net.now());
                    match accept::permit(&peer, host) {
                        None => net.close(stream, true),
                        Some(permit) => {
                            let open = Arc::clone(&listener.open);
                            let kept = hand(Handed { stream, peer, permit, open });
                            if let Some(admitted) = kept.and_then(|kept| kept.begin(net, host)) {
                                return Some(admitted);
                            }
                        }
                    }
                }
                Taken::Shed => {
                    host.count.refuse(Refusal::Descriptors);
                    accepts.complete(net.now());
                }
                Taken::Lost => accepts.complete(net.now()),
                Taken::Empty => break,
                Taken::Exhausted => {
                    accepts.exhausted();
                    self.rest(poller, net.now());
                    return None;
                }
            }
        }
        accepts.fill();
        None
    }

    /// Until when they rest, if they do.
    pub(crate) fn resting(&self) -> Option<Duration> {
        self.resting
    }

    /// Ends a rest that has lasted until `now`. It goes on if the system has no room for what the poller needs either.
    pub(crate) fn wake<N: Net<ListenSocket = L>>(&mut self, poller: &mut impl Poller<N>, now: Duration) {
        if self.resting.is_some_and(|until| until <= now)
            && let Err(error) = self.listen(poller)
        {
            tracing::warn!(%error, "a listener cannot be watched");
            self.rest(poller, now);
        }
    }

    /// Has them rest from `now` on.
    pub(crate) fn rest<N: Net<ListenSocket = L>>(&mut self, poller: &mut impl Poller<N>, now: Duration) {
        self.ignore(poller);
        self.resting = Some(now.saturating_add(REST));
    }

    /// Cedes them to whoever else has them, with those who wait.
    pub(crate) fn cede<N: Net<ListenSocket = L>>(&mut self, poller: &mut impl Poller<N>) {
        self.ignore(poller);
        self.resting = None;
        self.listeners.clear();
    }

    /// Lets in who waits, and nobody after them.
    pub(crate) fn close<N: Net<ListenSocket = L>>(
        &mut self,
        net: &mut N,
        poller: &mut impl Poller<N>,
        host: &mut Host,
    ) -> Vec<(N::Stream, Box<dyn Endpoint>)> {
        self.ignore(poller);
        self.resting = None;
        let mut admitted = Vec::new();
        for (listener, _) in self.listeners.drain(..) {
            for taken in accept::last(net, &listener.socket) {
                if let Accepted::Admitted(stream, endpoint) =
                    accept::decide(taken, net, &*listener.open, host)
                {
                    admitted.push((stream, endpoint));
                }
            }
        }
        admitted
    }

    fn listen<N: Net<ListenSocket = L>>(&mut self, poller: &mut impl Poller<N>) -> io::Result<()> {
        self.resting = None;
        for (number, (listener, _)) in self.listeners.iter().enumerate() {
            poller.listen(&listener.socket, Token::of_listener(number))?;
        }
        Ok(())
    }

    fn ignore<N: Net<ListenSocket = L>>(&self, poller: &mut impl Poller<N>) {
        for (listener, _) in &self.listeners {
            poller.ignore(&listener.socket);
        }
    }
}
