//! `emulated`: a reactor that does the I/O on the loop's behalf and hands over what is done.
//!
//! The reference for the other completion queues: the same promises, made with nothing but readiness. It stands on any
//! network and any poller, so the simulator drives the proactor's loop through it.
#![forbid(unsafe_code)]

use std::{io, time::Duration};

use bytes::BytesMut;

use roadstead_proto::{blob::FileRange, connection::BLOCK, ticket::Token};

use super::{
    blocks::Block,
    readiness::{Finished, Progress, ReadyIo, ReadyQueue, Receive, Send},
};
use crate::net::Net;

/// The completion queue.
pub type Emulated<N, P> = ReadyQueue<N, P, Direct>;

/// Does everything at once.
pub struct Direct;

impl<N: Net> ReadyIo<N> for Direct {
    fn receive(&mut self, net: &mut N, task: Receive<'_, N::Stream>) -> Progress<io::Result<Block>> {
        let Receive { stream, mut block, most, .. } = task;
        Progress::Done(whole(|| net.receive(stream, &mut block, most)).map(|_| block))
    }

    fn send(&mut self, net: &mut N, task: Send<'_, N::Stream>) -> Progress<io::Result<u64>> {
        Progress::Done(whole(|| net.send(task.stream, task.lent)))
    }

    fn read(&mut self, _: Token, range: Box<FileRange>) -> Progress<io::Result<BytesMut>> {
        Progress::Done(range.read(BLOCK))
    }

    fn finished(&mut self) -> Option<Finished> {
        None
    }

    fn patience(&self) -> Option<Duration> {
        None
    }

    fn trim(&mut self) {}
}

/// Makes a call again for as long as a signal interrupts it.
fn whole<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
