//! Members of an exchange as nodes: the hub, the links and the keeper that run in a server, on a simulated loop.

use std::{sync::Arc, time::Duration};

use super::{
    Sim,
    plan::{Seat, Server, Stop},
};
use crate::{
    exchange::{Exchange, ExchangeError, Member, MemberId, Options, Unit},
    orders::Orders,
    ticket::Bell,
};

/// Stops a member's loop when the last handle is gone.
struct Ending {
    orders: Arc<Orders>,
    bell: Arc<Bell>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.orders.stop(&self.bell);
    }
}

impl Sim {
    /// Another node, that holds the links of member `me` to the other `members`, without keys. As outside of the
    /// simulator it stops when the last handle is dropped, so keep one until the run is over.
    ///
    /// The limits of the node are those of the exchange. The run goes on until nothing waits in it: gathers are
    /// answered, messages are sent or given up, and what was gathered is dropped.
    ///
    /// ```
    /// use std::{sync::mpsc, time::Duration};
    /// use roadstead::{exchange::{Key, Member, MemberId, Options}, sim::{self, Sim}};
    ///
    /// let members = [1, 2].map(|id| Member::new(id, ([10, 0, 0, id], 7100).into()));
    /// let (key, patience) = (Key { query: 42, round: 0 }, Duration::from_secs(60));
    /// Sim::check(sim::seeds(20), |mut sim| {
    ///     let first = sim.exchange(MemberId(1), &members, Options::default()).unwrap();
    ///     let second = sim.exchange(MemberId(2), &members, Options::default()).unwrap();
    ///     let (tell, told) = mpsc::channel();
    ///     first.send(MemberId(2), key, "ahoy").unwrap();
    ///     second.gather(key, patience, move |result| tell.send(result.map(|all| all[0].1.to_vec())).unwrap());
    ///     let report = sim.run(Duration::from_secs(120))?;
    ///     match told.recv().unwrap() {
    ///         Ok(message) => assert_eq!(message, b"ahoy"),
    ///         Err(missing) => assert!(report.links.iter().any(|link| link.cut.is_some()), "{missing}"),
    ///     }
    ///     Ok(())
    /// });
    /// ```
    ///
    /// # Errors
    /// [`ExchangeError::Members`] if `me` is not a member or a number stands twice.
    pub fn exchange(
        &mut self,
        me: MemberId,
        members: &[Member],
        options: Options,
    ) -> Result<Exchange, ExchangeError> {
        let address = members.iter().find(|member| member.id == me).map(|member| member.address);
        let unknown = || ExchangeError::Members(format!("{me} is not in the list of members"));
        let unit = Unit::new(me, members, address.ok_or_else(unknown)?, None, options)?;
        self.seat(unit, Duration::ZERO)
    }

    /// Stops the node of `exchange` at a time, and starts the member anew after it was down for a while: it remembers
    /// nothing. Answers the handle of its second life; what is sent with it before it starts waits.
    ///
    /// # Errors
    /// None that did not come up when the member was made.
    pub fn restart(
        &mut self,
        exchange: &Exchange,
        at: Duration,
        down: Duration,
    ) -> Result<Exchange, ExchangeError> {
        let unit = exchange.unit();
        let is_its = |server: &Server| server.seat.as_ref().is_some_and(|seat| seat.unit.is(unit));
        let its = self.0.servers.iter().position(is_its);
        self.0.stops.extend(its.map(|node| Stop { node, at }));
        self.seat(unit.again(), at + down)
    }

    fn seat(&mut self, unit: Unit, from: Duration) -> Result<Exchange, ExchangeError> {
        let keeper = unit.keeper().map_err(std::io::Error::other)?;
        let (orders, bell) = (Arc::new(Orders::default()), Bell::new());
        let ending = Ending { orders: Arc::clone(&orders), bell: Arc::clone(&bell) };
        let door = unit.clone();
        let door = Box::new(move |ear, _, _| door.door(ear));
        let seat = Seat { unit: unit.clone(), keeper, orders, bell, from };
        self.0.servers.push(Server { address: unit.address, door, seat: Some(seat) });
        Ok(Exchange::driven(unit, ending))
    }
}
