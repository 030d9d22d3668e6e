//! The reactor's listeners: who waits at them, and that they rest when the system has no room for another connection.
#![forbid(unsafe_code)]

use std::{io, time::Duration};

use roadstead_proto::{connection::Endpoint, host::Host, ticket::Token};

use super::poller::Poller;
use crate::{
    accept::{self, Accepted, Door, Pool},
    net::{Net, REST},
};

pub(super) struct Doors<L> {
    doors: Vec<(Door<L>, Pool)>,
    resting: Option<Duration>,
}

impl<L> Doors<L> {
    /// Has `poller` tell of all that wait.
    pub(crate) fn new<N: Net<Listener = L>>(
        doors: Vec<Door<L>>,
        poller: &mut impl Poller<N>,
    ) -> io::Result<Self> {
        let doors = doors.into_iter().map(|door| {
            let mut pool = Pool::new();
            pool.fill();
            (door, pool)
        });
        let mut doors = Self { doors: doors.collect(), resting: None };
        doors.listen(poller)?;
        Ok(doors)
    }

    /// Takes one connection out of a listener's backlog; none when it is the others' turn.
    pub(crate) fn next<N: Net<Listener = L>>(
        &mut self,
        number: usize,
        net: &mut N,
        poller: &mut impl Poller<N>,
        host: &mut Host,
    ) -> Accepted<N::Stream> {
        let Some((door, pool)) = self.doors.get_mut(number) else {
            return Accepted::Empty;
        };
        if pool.is_empty() {
            pool.fill();
            return Accepted::Empty;
        }
        let accepted = accept::next(net, door, host);
        match accepted {
            Accepted::Admitted(..) | Accepted::Refused => pool.complete(net.now()),
            Accepted::Empty => {
                pool.fill();
            }
            Accepted::Exhausted => {
                pool.exhausted();
                self.rest(poller, net.now());
            }
        }
        accepted
    }

    /// Until when they rest, if they do.
    pub(crate) fn resting(&self) -> Option<Duration> {
        self.resting
    }

    /// Ends a rest that has lasted until `now`. It goes on if the system has no room for what the poller needs either.
    pub(crate) fn wake<N: Net<Listener = L>>(&mut self, poller: &mut impl Poller<N>, now: Duration) {
        if self.resting.is_some_and(|until| until <= now)
            && let Err(error) = self.listen(poller)
        {
            tracing::warn!(%error, "a listener cannot be watched");
            self.rest(poller, now);
        }
    }

    /// Has them rest from `now` on.
    pub(crate) fn rest<N: Net<Listener = L>>(&mut self, poller: &mut impl Poller<N>, now: Duration) {
        self.ignore(poller);
        self.resting = Some(now.saturating_add(REST));
    }

    /// Lets in who waits, and nobody after them.
    pub(crate) fn close<N: Net<Listener = L>>(
        &mut self,
        net: &mut N,
        poller: &mut impl Poller<N>,
        host: &mut Host,
    ) -> Vec<(N::Stream, Box<dyn Endpoint>)> {
        self.ignore(poller);
        self.resting = None;
        let mut admitted = Vec::new();
        for (door, _) in self.doors.drain(..) {
            for taken in accept::last(net, &door.listener) {
                if let Accepted::Admitted(stream, endpoint) = accept::decide(taken, net, &door, host) {
                    admitted.push((stream, endpoint));
                }
            }
        }
        admitted
    }

    fn listen<N: Net<Listener = L>>(&mut self, poller: &mut impl Poller<N>) -> io::Result<()> {
        self.resting = None;
        for (number, (door, _)) in self.doors.iter().enumerate() {
            poller.listen(&door.listener, Token::of_listener(number))?;
        }
        Ok(())
    }

    fn ignore<N: Net<Listener = L>>(&self, poller: &mut impl Poller<N>) {
        for (door, _) in &self.doors {
            poller.ignore(&door.listener);
        }
    }
}
