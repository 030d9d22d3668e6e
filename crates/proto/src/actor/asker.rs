//! Who asks for shared state: the context of a session, be it of a connection or of a datagram socket.
#![forbid(unsafe_code)]

use crate::{queue::Job, session::Busy, ticket::Ticket};

/// A context through which an [`Actor`](crate::Actor) can be asked.
pub trait Asker: Sealed {
    /// What comes back to the session.
    type Reply: Send + 'static;

    #[doc(hidden)]
    fn new_ticket(&mut self) -> Result<Ticket<Self::Reply>, Busy>;
    #[doc(hidden)]
    fn queue(&mut self, job: impl Job<Reply = ()>);
    /// Whether another thread is to have been faster.
    #[doc(hidden)]
    fn is_overtaken(&mut self) -> bool;
}

/// What nobody else can implement.
pub trait Sealed {}
