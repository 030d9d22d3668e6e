//! What a loop of many connections has beside its I/O: who calls it, what it was ordered, and when it looks again.
//!
//! The reactor, its dispatcher and the proactor own one each. In a turn they ask it how long to wait, what else to do
//! than I/O, and tell it when the turn has ended.
#![forbid(unsafe_code)]

use std::{io, mem, sync::Arc, time::Duration, vec};

use roadstead_proto::{
    connection::{Endpoint, Event},
    host::Host,
    ticket::Token,
};

use crate::{
    connections::{Connections, Timed},
    orders::{Newcomer, ORDERS, Order, Orders},
};

/// What every loop of many connections has.
pub(crate) struct LoopState<C> {
    pub(crate) host: Host,
    pub(crate) orders: Arc<Orders>,
    pub(crate) connections: Connections<C>,
    /// When the last turn ended.
    pub(crate) ended: Duration,
    /// The last that the loop was called with.
    order: Order,
    /// Who has called, the last one first.
    woken: Vec<Token>,
    newcomers: vec::IntoIter<Newcomer>,
    /// It was told that the listeners are ceded.
    ceded: bool,
    /// The loop was called with orders, and is to look at them once it knows the newcomers.
    ordered: bool,
}

/// What the loop is called for.
pub(crate) enum Call {
    /// A ticket or a waker of this connection, or who else has this token.
    Woken(Token),
    /// An endpoint that has come from outside.
    New(Newcomer),
    /// The listeners are another's, and so is who waits there; comes once, and before a drain or a stop.
    Cede,
    /// Nobody else is let in; comes once.
    Drain,
    /// The loop ends at once; comes again for who has come since.
    Stop,
}

impl<C: Timed> LoopState<C> {
    pub(crate) fn new(host: Host, orders: Arc<Orders>) -> Self {
        Self {
            host,
            orders,
            connections: Connections::default(),
            ended: Duration::ZERO,
            order: Order::Serve,
            ceded: false,
            woken: Vec::new(),
            newcomers: Vec::new().into_iter(),
            ordered: false,
        }
    }

    /// How long the loop may wait from `now` on: not at all if it is `busy`, has jobs or was called, and no longer than
    /// until the next deadline or `rested`. `None`: until something happens.
    pub(crate) fn timeout(
        &mut self,
        now: Duration,
        busy: bool,
        rested: Option<Duration>,
    ) -> Option<Duration> {
        if busy || self.host.jobs.are_ready() || !self.host.wake_queue.begin_sleep() {
            return Some(Duration::ZERO);
        }
        let next = [self.connections.next_deadline(), rested].into_iter().flatten().min()?;
        Some(next.saturating_sub(now))
    }

    /// Has `wait` wait for so long.
    pub(crate) fn wait(
        &mut self,
        timeout: Option<Duration>,
        wait: impl FnOnce(Option<Duration>) -> io::Result<()>,
    ) -> io::Result<()> {
        self.host.count.waits += 1;
        if timeout != Some(Duration::ZERO) {
            self.host.count.sleeps += 1;
            self.host.trim(self.connections.count() == 0);
        }
        let waited = wait(timeout);
        self.host.wake_queue.end_sleep();
        waited
    }

    /// Runs the jobs that are the loop's own. The time when they are done, if there were any.
    pub(crate) fn run_jobs(&mut self, now: Duration, clock: impl FnOnce() -> Duration) -> Option<Duration> {
        let done = self.host.jobs.run_turn().then(clock);
        self.connections.correct(now, done.unwrap_or(now));
        done
    }

    /// Takes who has called by now, for [`LoopState::next_call`]. False if nobody has.
    pub(crate) fn take_calls(&mut self) -> bool {
        self.host.wake_queue.take(&mut self.woken);
        self.woken.reverse();
        !self.woken.is_empty()
    }

    /// What the loop is called for next: newcomers come before the order that was given with them.
    pub(crate) fn next_call(&mut self) -> Option<Call> {
        loop {
            if let Some(newcomer) = self.newcomers.next() {
                return Some(Call::New(newcomer));
            }
            if self.ordered {
                let order = self.orders.order();
                if self.orders.has_ceded() && !mem::replace(&mut self.ceded, true) {
                    // Before a drain or a stop, which would take those who wait at the listeners.
                    return Some(Call::Cede);
                }
                self.ordered = false;
                let before = mem::replace(&mut self.order, order);
                match order {
                    Order::Stop => return Some(Call::Stop),
                    Order::Drain if before < Order::Drain => return Some(Call::Drain),
                    _ => {}
                }
            }
            match self.woken.pop()? {
                ORDERS => (self.newcomers, self.ordered) = (self.orders.newcomers().into_iter(), true),
                token => return Some(Call::Woken(token)),
            }
        }
    }

    /// Counts a connection that a session opens. In a drain it is told at once that there will be none.
    pub(crate) fn dials(
        &mut self,
        mut endpoint: Box<dyn Endpoint>,
        now: Duration,
    ) -> Option<Box<dyn Endpoint>> {
        self.host.count.connected += 1;
        if self.is_draining() {
            endpoint.handle(now, Event::Stop, &mut self.host);
            return None;
        }
        Some(endpoint)
    }

    /// Ends a turn that told its connections that it was `now`, and took until `ended`.
    pub(crate) fn end_turn(&mut self, now: Duration, ended: Duration) {
        self.host.report();
        self.connections.correct(now, ended);
        self.ended = ended;
    }

    /// Whether those who come are let in.
    pub(crate) fn lets_in(&self) -> bool {
        self.order == Order::Serve
    }

    /// Whether those who are in are to finish.
    pub(crate) fn is_draining(&self) -> bool {
        self.order >= Order::Drain
    }

    /// Whether nobody is left after a drain, and no job: connections of other loops may wait for what it answers.
    pub(crate) fn has_drained(&self) -> bool {
        self.is_draining() && self.connections.is_empty() && !self.host.jobs.are_waiting()
    }

    /// Whether the loop ends whoever is left.
    pub(crate) fn is_stopped(&self) -> bool {
        self.order == Order::Stop
    }
}

#[cfg(test)]
mod tests {
    use roadstead_proto::{budget::Budget, connection::dialling::outgoing, host::Shared, ticket::WakeQueue};

    use super::*;
    use crate::reactor::tests::Waits;

    struct Never;

    impl Timed for Never {
        fn deadline(&self) -> Option<Duration> {
            None
        }
    }

    /// What it is called for, a letter each.
    fn calls(state: &mut LoopState<Never>) -> String {
        state.take_calls();
        let name = |call| match call {
            Call::Woken(token) => char::from_digit(token.0 as u32, 10).unwrap(),
            Call::New(_) => 'n',
            Call::Cede => 'c',
            Call::Drain => 'd',
            Call::Stop => 's',
        };
        std::iter::from_fn(|| state.next_call()).map(name).collect()
    }

    #[test]
    fn calls_come_in_order_newcomers_before_the_order_given_with_them_and_a_drain_once() {
        let (shared, orders) = (Shared::new(Budget::default()), Arc::<Orders>::default());
        let host = Host::alone(Arc::clone(&shared), 1);
        let wake_queue = Arc::clone(&host.wake_queue);
        let mut state = LoopState::<Never>::new(host, Arc::clone(&orders));
        let attend = || {
            let (address, waits) = (([192, 0, 2, 1], 7).into(), Waits(Arc::default()));
            orders.attend(outgoing(&shared, address, None, waits).unwrap().0, &wake_queue);
        };
        wake_queue.wake(Token(1));
        orders.drain(&wake_queue);
        wake_queue.wake(Token(2));
        attend();
        assert!(!state.is_draining());
        assert_eq!(calls(&mut state), "1nd2");
        assert!(state.is_draining() && state.has_drained() && !state.is_stopped());
        attend();
        orders.drain(&wake_queue);
        assert_eq!((calls(&mut state), calls(&mut state)), ("n".into(), String::new()));
        orders.stop(&wake_queue);
        assert_eq!(calls(&mut state), "s");
        assert!(state.is_draining() && state.is_stopped());
    }

    #[test]
    fn a_loop_is_told_once_to_cede_its_listeners_and_serves_until_it_is_told_to_drain() {
        let (shared, orders) = (Shared::new(Budget::default()), Arc::<Orders>::default());
        let host = Host::alone(shared, 1);
        let wake_queue = Arc::clone(&host.wake_queue);
        let mut state = LoopState::<Never>::new(host, Arc::clone(&orders));
        assert!(state.lets_in());
        (0..2).for_each(|_| orders.cede(&wake_queue));
        assert_eq!((calls(&mut state), state.lets_in(), state.is_draining()), ("c".into(), false, false));
        orders.cede(&wake_queue);
        assert_eq!(calls(&mut state), "");
        orders.drain(&wake_queue);
        orders.cede(&wake_queue);
        assert_eq!((calls(&mut state), state.lets_in(), state.is_draining()), ("d".into(), false, true));
    }

    #[test]
    fn a_loop_that_hears_late_cedes_its_listeners_before_it_drains_or_stops() {
        type Give = fn(&Orders, &WakeQueue);
        for (end, told) in [(Orders::drain as Give, "cd"), (Orders::stop, "css")] {
            for (first, second, told) in [(Orders::cede as Give, end, told), (end, Orders::cede, &told[1..])]
            {
                let orders = Arc::<Orders>::default();
                let host = Host::alone(Shared::new(Budget::default()), 1);
                let wake_queue = Arc::clone(&host.wake_queue);
                let mut state = LoopState::<Never>::new(host, Arc::clone(&orders));
                first(&orders, &wake_queue);
                second(&orders, &wake_queue);
                assert_eq!(calls(&mut state), told);
            }
        }
    }

    /// Wants to be asked then.
    struct At(Duration);

    impl Timed for At {
        fn deadline(&self) -> Option<Duration> {
            Some(self.0)
        }
    }

    #[test]
    fn a_loop_waits_for_whatever_comes_first_and_not_at_all_with_something_to_do() {
        let second = Duration::from_secs(1);
        let host = Host::alone(Shared::new(Budget::default()), 1);
        let wake_queue = Arc::clone(&host.wake_queue);
        let mut state = LoopState::new(host, Arc::default());
        let wait = |state: &mut LoopState<At>, now, busy, rested| {
            let timeout = state.timeout(now, busy, rested);
            state.wait(timeout, |_| Ok(())).unwrap();
            timeout
        };
        assert_eq!(wait(&mut state, second, false, None), None);
        assert_eq!(wait(&mut state, second, false, Some(3 * second)), Some(2 * second));
        let token = state.connections.insert(At(5 * second));
        state.connections.schedule(token);
        for (now, rested, timeout) in
            [(1, None, 4), (1, Some(9), 4), (1, Some(3), 2), (7, None, 0), (7, Some(9), 0)]
        {
            let rested = rested.map(|rested| rested * second);
            assert_eq!(wait(&mut state, now * second, false, rested), Some(timeout * second));
        }
        assert_eq!(wait(&mut state, second, true, None), Some(Duration::ZERO));
        wake_queue.wake(Token(1));
        assert_eq!(wait(&mut state, second, false, None), Some(Duration::ZERO));
        assert_eq!((state.host.count.waits, state.host.count.sleeps), (9, 5), "a look is no sleep");
    }

    #[test]
    fn who_is_dialled_in_a_drain_is_counted_and_told_at_once_that_there_will_be_no_connection() {
        let (shared, orders) = (Shared::new(Budget::default()), Arc::<Orders>::default());
        let host = Host::alone(Arc::clone(&shared), 1);
        let wake_queue = Arc::clone(&host.wake_queue);
        let mut state = LoopState::<Never>::new(host, Arc::clone(&orders));
        let endpoint =
            || outgoing(&shared, ([192, 0, 2, 1], 7).into(), None, Waits(Arc::default())).unwrap().0;
        let lives = state.dials(endpoint(), Duration::ZERO);
        assert!(lives.is_some());
        orders.drain(&wake_queue);
        assert_eq!(calls(&mut state), "d");
        assert!(state.dials(endpoint(), Duration::ZERO).is_none());
        state.end_turn(Duration::ZERO, Duration::from_secs(3));
        let counted = shared.snapshot();
        assert_eq!((counted.connected, counted.closed, shared.gate.open()), (2, 1, 1));
        assert_eq!((state.ended, state.host.count.connected), (Duration::from_secs(3), 0));
    }
}
