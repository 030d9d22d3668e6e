//! What a thread asks of a network that it waits on.
#![forbid(unsafe_code)]

use std::{io, time::Duration};

use bytes::BytesMut;

use roadstead_proto::ticket::WakeQueue;

use crate::net::Net;

/// A network for threads that wait, each for one connection. What it can be asked without waiting does not wait here
/// either.
pub trait WaitingNet:
    Net<ListenSocket: Send + Sync + 'static, Stream: Send + 'static> + Send + Sync + Sized + 'static
{
    /// What ends somebody's wait.
    type Wakeup: Clone + Send + Sync + 'static;
    /// The same network for another thread, which accepts nothing.
    fn another(&self) -> Self;
    /// The same network for another thread, which accepts.
    fn accepting(&self) -> Self;
    /// What ends a wait when `wake_queue` interrupts it.
    fn interrupt(&mut self, wake_queue: &WakeQueue) -> io::Result<Self::Wakeup>;
    /// What ends the wait of everybody who has it, from the moment when it is rung, and for ever.
    fn alarm(&mut self) -> io::Result<Self::Wakeup>;
    /// Rings an alarm.
    fn ring(&self, alarm: &Self::Wakeup);
    /// Receives, and waits for that; if nothing comes for `patience`, it is [`io::ErrorKind::WouldBlock`].
    fn receive_within(
        &mut self,
        stream: &Self::Stream,
        block: &mut BytesMut,
        most: usize,
        patience: Duration,
    ) -> io::Result<usize>;
    /// Waits for what is wanted of `stream`, for `interrupt`, or until the time is over. `None` if the system would not
    /// look: any may have come.
    fn wait(
        &mut self,
        stream: Option<&Self::Stream>,
        wants: Wants,
        interrupt: Option<&Self::Wakeup>,
        timeout: Option<Duration>,
    ) -> io::Result<Option<Found>>;
    /// Waits until somebody has come to one of `listeners`, for `interrupt`, or until the time is over; or less long,
    /// if the system would not look.
    fn wait_for_any<'a>(
        &mut self,
        listeners: impl Iterator<Item = &'a Self::ListenSocket>,
        interrupt: &Self::Wakeup,
        timeout: Option<Duration>,
    ) -> io::Result<()>;
    /// What has broken a stream that was found broken. It is told once: a receive that is still to come would not.
    fn broken_by(&mut self, stream: &Self::Stream) -> io::Error;
}

/// What is waited for.
#[derive(Debug, Clone, Copy)]
pub struct Wants {
    /// Something to receive.
    pub receive: bool,
    /// Room to send, or how a connection that was begun was decided.
    pub send: bool,
}

/// What a wait has found of a stream.
#[derive(Debug, Clone, Copy, Default)]
pub struct Found {
    /// Anything: it is decided, if it was begun.
    pub any: bool,
    /// A receive would not wait.
    pub readable: bool,
    /// It has failed.
    pub broken: bool,
}
