//! A completion queue that is contrary, as its contract allows: what comes it brings in parts, and what it was lent it
//! keeps for longer than it needs it. Under it is the emulated one, which does neither.

use std::{io, mem, time::Duration};

use roadstead_drivers::{
    net::Failure,
    proactor::{
        Completion, CompletionQueue,
        emulated::{Direct, Emulated},
    },
};
use roadstead_proto::{Address, blob::FileRange, output::Lent, ticket::Token};

use crate::{
    dice::Dice,
    fate::End,
    sockets::{ListenSocket, Sockets, Watcher},
};

/// The completion queue of one node.
pub(crate) struct Contrary {
    queue: Emulated<Sockets, Watcher>,
    dice: Dice,
    /// How likely it is to be contrary.
    chance: f64,
    /// What is told by the next wait.
    late: Vec<Completion<End>>,
}

impl Contrary {
    pub(crate) fn new(
        sockets: Sockets,
        watcher: Watcher,
        listeners: Vec<ListenSocket>,
        dice: Dice,
        chance: f64,
    ) -> Self {
        let queue = Emulated::new(sockets, watcher, Direct, listeners);
        Self { queue, dice, chance, late: Vec::new() }
    }

    /// Tells of `completion` now, later, or of a part now and of the rest later.
    fn tell(&mut self, completion: Completion<End>, done: &mut Vec<Completion<End>>) {
        match completion {
            Completion::Released(..) if self.dice.chance(self.chance) => self.late.push(completion),
            // What was tried has not been told whole.
            Completion::Looked(token) if self.owes(token) => self.late.push(completion),
            Completion::Received { token, result: Ok(mut block), more } if block.len() > 1 => {
                if self.dice.chance(self.chance) {
                    let rest = block.split_off(1 + self.dice.below(block.len() - 1));
                    done.push(Completion::Received { token, result: Ok(block), more: true });
                    self.late.push(Completion::Received { token, result: Ok(rest), more });
                } else {
                    done.push(Completion::Received { token, result: Ok(block), more });
                }
            }
            completion => done.push(completion),
        }
    }
}

impl Contrary {
    /// Whether a part of what has come is still to be told.
    fn owes(&self, token: Token) -> bool {
        let is_rest = |late: &_| matches!(late, Completion::Received { token: of, .. } if *of == token);
        self.late.iter().any(is_rest)
    }
}

impl CompletionQueue for Contrary {
    type Stream = End;

    fn classify(error: &io::Error) -> Failure {
        Emulated::<Sockets, Watcher>::classify(error)
    }
    fn now(&self) -> Duration {
        self.queue.now()
    }
    fn accept(&mut self, listener: usize) {
        self.queue.accept(listener);
    }
    fn deafen(&mut self, accepts: bool) {
        self.queue.deafen(accepts);
    }
    fn adopt(&mut self, stream: End, token: Token) -> io::Result<()> {
        self.queue.adopt(stream, token)
    }
    fn connect(&mut self, address: Address, token: Token) {
        self.queue.connect(address, token);
    }
    fn receive(&mut self, token: Token, credit: usize) {
        self.queue.receive(token, credit);
    }
    fn send(&mut self, token: Token, lent: Box<Lent>) {
        self.queue.send(token, lent);
    }
    fn read(&mut self, token: Token, range: Box<FileRange>) {
        self.queue.read(token, range);
    }
    fn shutdown(&mut self, token: Token) {
        self.queue.shutdown(token);
    }
    fn look(&mut self, token: Token) {
        self.queue.look(token);
    }
    fn cancel(&mut self, token: Token) {
        self.queue.cancel(token);
    }
    fn close(&mut self, token: Token, reset: bool) {
        self.queue.close(token, reset);
    }
    fn refuse(&mut self, stream: End) {
        self.queue.refuse(stream);
    }
    fn has_done(&self) -> bool {
        !self.late.is_empty() || self.queue.has_done()
    }

    fn wait(&mut self, done: &mut Vec<Completion<End>>, timeout: Option<Duration>) -> io::Result<()> {
        let timeout = if self.late.is_empty() { timeout } else { Some(Duration::ZERO) };
        let mut told = mem::take(&mut self.late);
        self.queue.wait(&mut told, timeout)?;
        told.into_iter().for_each(|completion| self.tell(completion, done));
        Ok(())
    }
}
