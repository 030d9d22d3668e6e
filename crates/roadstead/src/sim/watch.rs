//! What a node's poller says: of changes, as an edge-triggered one does, or of states, as a level-triggered one; and now
//! and then of something that is not so.

use super::{link::End, world::World};
use crate::{reactor::Readiness, ticket::Token};

/// What one node's poller knows.
pub(super) struct Watch {
    /// Tells of changes, as an edge-triggered poller does, rather than of states.
    edges: bool,
    changed: Vec<End>,
    watched: Vec<End>,
}

impl Watch {
    pub(super) fn new(edges: bool) -> Self {
        Self { edges, changed: Vec::new(), watched: Vec::new() }
    }
}

impl World {
    /// Something has changed at `end` that its poller may tell of.
    pub(super) fn change(&mut self, end: End) {
        let side = &mut self.links[end.link].sides[end.side];
        let watch = &mut self.watches[side.node];
        if watch.edges && side.token.is_some() && !side.changed {
            side.changed = true;
            watch.changed.push(end);
        }
    }

    pub(super) fn watch_listener(&mut self, listener: usize, token: Option<Token>) {
        self.listeners[listener].token = token;
    }

    pub(super) fn watch(&mut self, end: End, token: Token) {
        let side = &mut self.links[end.link].sides[end.side];
        side.token = Some(token);
        self.watches[side.node].watched.push(end);
        self.change(end);
    }

    pub(super) fn unwatch(&mut self, end: End) {
        let side = &mut self.links[end.link].sides[end.side];
        side.token = None;
        self.watches[side.node].watched.retain(|&watched| watched != end);
    }

    pub(super) fn want(&mut self, end: End, receive: bool, send: bool) {
        self.links[end.link].sides[end.side].interest = (receive, send);
    }

    /// Whether a wait of this node would return at once.
    pub(super) fn has_ready(&self, node: usize) -> bool {
        let watch = &self.watches[node];
        self.knocking(node).next().is_some()
            || if watch.edges {
                watch.changed.iter().any(|end| self.links[end.link].readiness(end.side).is_some())
            } else {
                watch.watched.iter().any(|&end| self.state(end).is_some())
            }
    }

    /// What a wait of this node says now.
    pub(super) fn wait(&mut self, node: usize, ready: &mut Vec<Readiness>) {
        let knocking: Vec<_> = self.knocking(node).collect();
        ready.extend(knocking);
        if self.watches[node].edges {
            let mut changed = std::mem::take(&mut self.watches[node].changed);
            self.dice.shuffle(&mut changed);
            let later =
                if self.dice.chance(self.faults.spurious) { self.dice.below(changed.len() + 1) } else { 0 };
            for &end in &changed[later..] {
                self.links[end.link].sides[end.side].changed = false;
                ready.extend(self.links[end.link].readiness(end.side));
            }
            changed.truncate(later);
            self.watches[node].changed.append(&mut changed);
        } else {
            ready.extend(self.watches[node].watched.iter().filter_map(|&end| self.state(end)));
        }
        if self.dice.chance(self.faults.spurious) {
            ready.extend(self.false_readiness(node));
        }
        self.dice.shuffle(ready);
    }

    /// Listeners of this node whose backlog is not empty.
    fn knocking(&self, node: usize) -> impl Iterator<Item = Readiness> {
        let waiting = self.listeners.iter().filter(move |one| one.node == node && !one.backlog.is_empty());
        waiting.filter_map(|one| {
            Some(Readiness { token: one.token?, readable: true, writable: false, more: false })
        })
    }

    /// What a level-triggered poller says of `end`: of that which the loop wants to hear.
    fn state(&self, end: End) -> Option<Readiness> {
        let link = &self.links[end.link];
        let (receive, send) = link.sides[end.side].interest;
        let mut readiness = link.readiness(end.side)?;
        readiness.readable &= receive;
        readiness.writable &= send;
        (readiness.readable || readiness.writable).then_some(readiness)
    }

    /// Says of some connection that it is ready, which it need not be. Not of one whose fate is not decided yet: that
    /// one would take it for the decision.
    fn false_readiness(&mut self, node: usize) -> Option<Readiness> {
        let watched = &self.watches[node].watched;
        let end = *watched.get(self.dice.below(watched.len().max(1)))?;
        let side = &self.links[end.link].sides[end.side];
        let token = side.token.filter(|_| side.decided)?;
        let which = self.dice.below(3);
        Some(Readiness { token, readable: which != 0, writable: which != 1, more: false })
    }
}
