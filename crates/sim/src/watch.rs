//! What a loop's poller says: of changes, as an edge-triggered one does, or of states, as a level-triggered one; and now
//! and then of something that is not so.

use roadstead_drivers::reactor::Readiness;
use roadstead_proto::ticket::Token;

use crate::{fate::End, told::Tells, world::World};

impl World {
    /// Something has changed at `end` that its poller may tell of.
    pub(crate) fn change(&mut self, end: End) {
        let side = &mut self.wires[end.wire].sides[end.side];
        let watch = &mut self.watches[side.poller];
        if watch.tells == Tells::Changes && side.token.is_some() && !side.changed {
            side.changed = true;
            watch.changed.push(end);
        }
    }

    pub(super) fn watch_listener(&mut self, listener: usize, poller: usize, token: Option<Token>) {
        let listener = &mut self.listeners[listener];
        (listener.poller, listener.token) = (poller, token);
    }

    pub(crate) fn watch(&mut self, end: End, poller: usize, token: Token) {
        let side = &mut self.wires[end.wire].sides[end.side];
        (side.poller, side.token) = (poller, Some(token));
        self.watches[poller].watched.push(end);
        self.change(end);
    }

    pub(super) fn unwatch(&mut self, end: End) {
        let side = &mut self.wires[end.wire].sides[end.side];
        side.token = None;
        self.watches[side.poller].watched.retain(|&watched| watched != end);
    }

    pub(crate) fn want(&mut self, end: End, receive: bool, send: bool) {
        self.wires[end.wire].sides[end.side].interest = (receive, send);
    }

    /// Whether a wait of this poller would return at once.
    pub(super) fn has_ready(&self, poller: usize) -> bool {
        let watch = &self.watches[poller];
        self.knocking(poller).next().is_some()
            || match watch.tells {
                Tells::Changes => {
                    watch.changed.iter().any(|end| self.wires[end.wire].readiness(end.side).is_some())
                }
                Tells::States => watch.watched.iter().any(|&end| self.state(end).is_some()),
            }
    }

    /// What a wait of this poller says now.
    pub(crate) fn wait(&mut self, poller: usize, ready: &mut Vec<Readiness>) {
        let knocking: Vec<_> = self.knocking(poller).collect();
        ready.extend(knocking);
        match self.watches[poller].tells {
            Tells::Changes => {
                let mut changed = std::mem::take(&mut self.watches[poller].changed);
                let later = self.put_off(&mut changed);
                for &end in &changed[later..] {
                    self.wires[end.wire].sides[end.side].changed = false;
                    ready.extend(self.wires[end.wire].readiness(end.side));
                }
                changed.truncate(later);
                self.watches[poller].changed.append(&mut changed);
            }
            Tells::States => ready.extend(self.states(poller)),
        }
        if self.dice.chance(self.faults.spurious) {
            ready.extend(self.false_readiness(poller));
        }
        self.dice.shuffle(ready);
    }

    /// How many of those that could be told of are not told of before the next wait.
    fn put_off<T>(&mut self, told: &mut [T]) -> usize {
        self.dice.shuffle(told);
        if self.dice.chance(self.faults.spurious) { self.dice.below(told.len() + 1) } else { 0 }
    }

    /// Listeners that it watches whose backlog is not empty.
    fn knocking(&self, poller: usize) -> impl Iterator<Item = Readiness> {
        let waiting =
            self.listeners.iter().filter(move |one| one.poller == poller && !one.backlog.is_empty());
        waiting.filter_map(|one| {
            Some(Readiness { token: one.token?, readable: true, writable: false, more: false })
        })
    }

    /// What a level-triggered poller says of its connections.
    fn states(&self, poller: usize) -> impl Iterator<Item = Readiness> {
        self.watches[poller].watched.iter().filter_map(|&end| self.state(end))
    }

    /// What it says of `end`: of that which the loop wants to hear.
    fn state(&self, end: End) -> Option<Readiness> {
        let wire = &self.wires[end.wire];
        let side = &wire.sides[end.side];
        let mut readiness = wire.readiness(end.side)?;
        let (receive, send) = side.interest;
        readiness.readable &= receive;
        readiness.more &= receive;
        readiness.writable &= send;
        (readiness.readable || readiness.writable).then_some(readiness)
    }

    /// Says of some connection that it is ready, which it need not be. Not of one whose fate is not decided yet: that
    /// one would take it for the decision.
    fn false_readiness(&mut self, poller: usize) -> Option<Readiness> {
        let watched = &self.watches[poller].watched;
        let end = *watched.get(self.dice.below(watched.len().max(1)))?;
        let side = &self.wires[end.wire].sides[end.side];
        let token = side.token.filter(|_| side.decided)?;
        let which = self.dice.below(3);
        Some(Readiness { token, readable: which != 0, writable: which != 1, more: false })
    }
}
