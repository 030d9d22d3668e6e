//! Members of an exchange as nodes: the hub, the links and the keepers that run in a server, on simulated loops.
#![forbid(unsafe_code)]

use std::{io, sync::Arc, time::Duration};

use roadstead_sim::{Resident, Sim, Tenant};

use crate::{
    error::ExchangeError,
    handle::Exchange,
    options::{Member, MemberId, Options},
    unit::Unit,
};

/// A simulated world in which members of an exchange live.
pub trait Simulated {
    /// Another node, that holds the links of member `me` to the other `members`, without keys. As outside of the
    /// simulator it stops when the last handle is dropped, so keep one until the run is over.
    ///
    /// The limits of the node are those of the exchange; the seed says how many loops it has. The run goes on until nothing waits in it: gathers are
    /// answered, messages are sent or given up, and what was gathered is dropped.
    ///
    /// ```
    /// # mod roadstead { pub use roadstead_exchange as exchange; pub use roadstead_sim as sim; }
    /// use std::{sync::mpsc, time::Duration};
    /// use roadstead::{exchange::{Key, Member, MemberId, Options, Simulated}, sim::{self, Sim}};
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
    ///         Err(missing) => assert!(report.connections.iter().any(|link| link.cut.is_some()), "{missing}"),
    ///     }
    ///     Ok(())
    /// });
    /// ```
    ///
    /// # Errors
    /// [`ExchangeError::Members`] if `me` is not a member or a number stands twice.
    fn exchange(
        &mut self,
        me: MemberId,
        members: &[Member],
        options: Options,
    ) -> Result<Exchange, ExchangeError>;

    /// Stops the node of `exchange` at a time, and starts the member anew after it was down for a while: it remembers
    /// nothing. Answers the handle of its second life; what is sent with it before it starts waits.
    ///
    /// # Errors
    /// None that did not come up when the member was made.
    fn restart(
        &mut self,
        exchange: &Exchange,
        at: Duration,
        down: Duration,
    ) -> Result<Exchange, ExchangeError>;
}

impl Simulated for Sim {
    fn exchange(
        &mut self,
        me: MemberId,
        members: &[Member],
        options: Options,
    ) -> Result<Exchange, ExchangeError> {
        let address = members.iter().find(|member| member.id == me).map(|member| member.address);
        let unknown = || ExchangeError::Members(format!("{me} is not in the list of members"));
        let options = Options { loops: self.loops(), ..options };
        let unit = Unit::new(me, members, address.ok_or_else(unknown)?, None, options)?;
        settle(self, unit, Duration::ZERO)
    }

    fn restart(
        &mut self,
        exchange: &Exchange,
        at: Duration,
        down: Duration,
    ) -> Result<Exchange, ExchangeError> {
        let unit = exchange.unit();
        self.stop(&unit.shared, at);
        settle(self, unit.again(self.loops()), at + down)
    }
}

fn settle(sim: &mut Sim, unit: Unit, from: Duration) -> Result<Exchange, ExchangeError> {
    let tenant = Tenant {
        resident: Box::new(unit.clone()),
        shared: Arc::clone(&unit.shared),
        attended: unit.keepers().map_err(io::Error::other)?,
        from,
    };
    let tenancy = sim.settle(unit.address, unit.open(), tenant);
    Ok(Exchange::driven(unit, tenancy))
}

impl Resident for Unit {
    fn held(&self) -> Vec<(&'static str, usize)> {
        let Accounts { gathers, held, unsent } = self.accounts();
        vec![
            ("keys of messages", gathers),
            ("bytes of received messages", held),
            ("bytes of messages to be sent", unsent),
        ]
    }

    /// A message that outlives the query that gathered it keeps its sender's memory for ever.
    fn stranded(&self) -> Option<(&'static str, usize)> {
        let Accounts { gathers, held, .. } = self.accounts();
        (gathers == 0).then_some(("bytes of gathered messages", held))
    }
}

/// What is still going on in a member.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Accounts {
    /// Gathers that are not complete, and messages' keys for which no gather has come.
    gathers: usize,
    /// Bytes that messages are charged with that were received and not yet dropped.
    held: usize,
    /// Bytes that messages are charged with that wait to be sent.
    unsent: usize,
}

impl Unit {
    /// The same member without keys, that remembers nothing, on so many loops.
    fn again(&self, loops: usize) -> Self {
        let peers = self.hub.peers.clone();
        let options = Options { loops, ..self.hub.options.clone() }.among(peers.len());
        Self::assemble(self.hub.me, peers, self.address, None, options)
    }

    /// What its services have asked for and not got, and not yet given back.
    fn accounts(&self) -> Accounts {
        let stats = self.hub.stats();
        let unsent = stats.peers.iter().map(|(_, peer)| peer.queued).sum();
        Accounts { gathers: stats.waiting, held: stats.held, unsent }
    }
}
