//! A keeper: a session without a connection, one on each loop, that dials the links of its loop. The first also deals
//! them out, with back-off, and gives up what has waited too long.
#![forbid(unsafe_code)]

use std::{sync::Arc, time::Duration};

use roadstead_proto::{
    input::Input,
    service::{Done, Ready, Session},
    session::Context,
};

use crate::{
    hub::{Hub, Left},
    link::Link,
    spread::Dialled,
};

/// The wait after a first failure; it doubles with every further one.
const FIRST: Duration = Duration::from_millis(50);
/// Doublings at most.
const DOUBLINGS: u32 = 4;

pub(super) struct Keeper {
    hub: Arc<Hub>,
    /// The number of its loop.
    on: usize,
}

impl Keeper {
    pub(super) fn new(hub: Arc<Hub>, on: usize) -> Self {
        Self { hub, on }
    }

    fn look(&self, cx: &mut Context<'_, Self>) {
        if self.on == 0 {
            let next = self.deal(cx);
            cx.wake_at(next);
        }
        self.hub.dealt(self.on).into_iter().for_each(|link| self.dial(link, cx));
    }

    /// Looks at the time for all loops. Answers when to look again.
    fn deal(&self, cx: &mut Context<'_, Self>) -> Option<Duration> {
        let now = cx.now();
        let mut next = self.hub.expire(now);
        for peer in 0..self.hub.peers.len() {
            let retry = self.hub.deal(peer, now, |failures| back_off(failures, cx));
            next = [next, retry].into_iter().flatten().min();
        }
        next
    }

    fn dial(&self, link: Dialled, cx: &mut Context<'_, Self>) {
        let (peer, dialled) = (link.to, Some(link.on));
        let address = self.hub.peers[peer].address;
        let link = Link::new(Arc::clone(&self.hub), address.into(), Some(link));
        let connected = match &self.hub.trust {
            Some(trust) => cx.connect_through(address, trust.connector(peer), link),
            None => cx.connect(address, link),
        };
        if let Err(busy) = connected {
            let trouble = Some(busy.to_string());
            self.hub.leave(peer, u64::MAX, Left { dialled, joined: false, trouble, parcels: Vec::new() });
            tracing::warn!(%busy, %address, "no connection could be had for a link between members");
        }
    }
}

/// How long to wait after so many failures.
fn back_off(failures: u32, cx: &mut Context<'_, Keeper>) -> Duration {
    let mut random = [0; 2];
    // Without any the wait is the shortest, which is what members that lose each other singly need.
    let _ = cx.random(&mut random);
    spread(failures, u16::from_le_bytes(random))
}

/// Between half and one and a half times the doubled wait, so that members who lost the same peer do not come back to
/// it in step.
fn spread(failures: u32, random: u16) -> Duration {
    let wait = FIRST * (1 << failures.saturating_sub(1).min(DOUBLINGS));
    wait / 2 + wait * u32::from(random) / u32::from(u16::MAX)
}

impl Session for Keeper {
    type Reply = ();

    fn ready(&mut self, why: Ready, cx: &mut Context<'_, Self>) -> Done {
        match why {
            Ready::Draining => cx.finish(),
            Ready::Opened => {
                self.hub.keep(self.on, cx.waker());
                self.look(cx);
            }
            _ => self.look(cx),
        }
        Ok(())
    }

    fn receive(&mut self, _: &mut Input<'_>, _: &mut Context<'_, Self>) -> Done {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_with_every_failure_up_to_its_longest_and_is_spread_around_that() {
        for (failures, millis) in
            [(0, 50), (1, 50), (2, 100), (3, 200), (4, 400), (5, 800), (6, 800), (u32::MAX, 800)]
        {
            let wait = Duration::from_millis(millis);
            assert_eq!([0, u16::MAX].map(|random| spread(failures, random)), [wait / 2, wait * 3 / 2]);
        }
    }
}
