//! One member of an exchange before loops drive it: the hub, what lets peers in, the keepers, and the loops' limits.
#![forbid(unsafe_code)]

use std::{net::SocketAddr, sync::Arc};

use roadstead_drivers::accept::{Open, opener};
use roadstead_proto::{
    budget::Budget,
    connection::{Endpoint, dialling::outgoing},
    host::Shared,
    layer::Credentials,
    session::Busy,
};

use crate::{
    error::ExchangeError,
    hub::Hub,
    keeper::Keeper,
    link::Links,
    options::{Member, MemberId, Options},
    trust::Trust,
};

/// What the handles of a member and its loops share.
#[derive(Clone)]
pub struct Unit {
    pub(super) hub: Arc<Hub>,
    /// The limits and the accounts of its loops.
    pub shared: Arc<Shared>,
    pub(crate) address: SocketAddr,
}

impl Unit {
    /// Member `me`, whom peers reach at `address`.
    ///
    /// # Errors
    /// If `me` is not a member, a number stands twice, or the keys cannot be used.
    pub fn new(
        me: MemberId,
        members: &[Member],
        address: SocketAddr,
        keys: Option<&dyn Credentials>,
        options: Options,
    ) -> Result<Self, ExchangeError> {
        check(me, members)?;
        let peers = members.iter().filter(|member| member.id != me).copied();
        let mut peers: Vec<Member> = peers.collect();
        peers.sort_by_key(|member| member.id);
        let options = options.among(peers.len());
        let trust = keys.map(|keys| Trust::new(keys, &peers)).transpose()?;
        Ok(Self::assemble(me, peers, address, trust, options))
    }

    pub(crate) fn assemble(
        me: MemberId,
        peers: Vec<Member>,
        address: SocketAddr,
        trust: Option<Trust>,
        options: Options,
    ) -> Self {
        let shared = Shared::tuned(budget(&options, peers.len()), options.tuning);
        Self { hub: Hub::new(me, peers, trust, options), shared, address }
    }

    /// What becomes of peers that come in.
    pub fn open(&self) -> Arc<Open> {
        let acceptor = self.hub.trust.as_ref().map(Trust::acceptor);
        opener(Arc::new(Links(Arc::clone(&self.hub))), Arc::clone(&self.shared), acceptor)
    }

    /// How many loops it has.
    pub fn loops(&self) -> usize {
        self.hub.options.loops
    }

    /// What dials peers, one for each of its loops, which attends to it: of the first also what looks at the time.
    ///
    /// # Errors
    /// [`Busy`] if the budget has no room for them.
    pub fn keepers(&self) -> Result<Vec<Box<dyn Endpoint>>, Busy> {
        let keeper = |on| {
            let keeper = Keeper::new(Arc::clone(&self.hub), on);
            outgoing(&self.shared, self.address.into(), None, keeper).map(|(keeper, _)| keeper)
        };
        (0..self.loops()).map(keeper).collect()
    }
}

fn check(me: MemberId, members: &[Member]) -> Result<(), ExchangeError> {
    let mut ids: Vec<MemberId> = members.iter().map(|member| member.id).collect();
    ids.sort_unstable();
    if let Some(twice) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(ExchangeError::Members(format!("{} is listed twice", twice[0])));
    }
    if !ids.contains(&me) {
        return Err(ExchangeError::Members(format!("{me} is not in the list of members")));
    }
    Ok(())
}

/// A link's output never passes the high-water mark, a quarter of what it may buffer: two members that both stopped
/// reading because the other does not take their messages would wait for each other.
fn budget(options: &Options, peers: usize) -> Budget {
    let each = 16 * options.under_way() as usize;
    Budget::default()
        .connections(options.loops + peers * 512)
        .per_address(peers * 256)
        .buffer_each(each)
        .buffer_all(each.saturating_mul(8 * peers.max(1)))
        .first_byte(options.silence)
        .idle(options.silence.saturating_mul(2))
        .connect(options.connect)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Strategy;

    fn unit(me: u8, ids: &[u8]) -> Result<Unit, String> {
        let address = ([127, 0, 0, 1], 9).into();
        let members: Vec<_> = ids.iter().map(|id| Member::new(*id, address)).collect();
        Unit::new(MemberId(me), &members, address, None, Options::default())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_member_is_one_of_those_that_are_listed_once_each() {
        let peers = unit(2, &[3, 2, 1]).unwrap().hub.peers.clone();
        assert_eq!(
            peers.iter().map(|peer| peer.id.0).collect::<Vec<_>>(),
            [1, 3],
            "the others in their order"
        );
        for ids in [&[7, 2, 7][..], &[2, 7, 7], &[7, 7, 2]] {
            assert!(unit(2, ids).err().unwrap().contains("server 7 is listed twice"));
        }
        assert!(unit(2, &[2, 2]).err().unwrap().contains("server 2 is listed twice"));
        assert!(unit(4, &[1, 2, 3]).err().unwrap().contains("server 4 is not in the list of members"));
    }

    #[test]
    fn the_budget_of_a_member_has_room_for_its_links_and_is_patient_enough_for_them() {
        for strategy in [Strategy::Multiplexed, Strategy::Pool(64), Strategy::PerQuery] {
            let options = Options { loops: 3, ..Options::with(strategy) };
            for peers in [1, 2, 100] {
                let budget = budget(&options, peers);
                // All that each may have open, in both directions, with links that are being replaced; and the keepers.
                assert!(budget.connections >= 3 + peers * 2 * 128 && budget.per_address >= peers * 128);
                assert!(budget.high_water() as u64 >= 4 * options.under_way(), "a link stops reading");
                assert!(budget.buffer_all / peers >= 8 * budget.buffer_each);
                assert!(budget.idle > options.silence && budget.connect == options.connect);
                assert_eq!(budget.first_byte, options.silence);
            }
        }
    }
}
