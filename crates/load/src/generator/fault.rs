//! What goes wrong while a load runs.

use std::fmt;
use std::io;

use serde::Serialize;

/// What went wrong with a connection or a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// Nobody listens at the target.
    Refused,
    /// No connection, or no answer, within the timeout.
    TimedOut,
    /// The server ended the connection.
    Closed,
    /// The server, or the network, reset the connection.
    Reset,
    /// The server sent more than it was sent.
    Unasked,
    /// The layer, such as TLS, failed: what came could not be opened, or the server refused us.
    Layer,
    /// The message was never sent: no connection was left to send it, or no time.
    Unsent,
    /// Any other error of the system.
    Other,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "refused",
            Self::TimedOut => "not answered in time",
            Self::Closed => "closed by the server",
            Self::Reset => "reset",
            Self::Unasked => "sent more than was asked",
            Self::Layer => "broken off by TLS",
            Self::Unsent => "never sent",
            Self::Other => "another error of the system",
        })
    }
}

impl From<&io::Error> for Fault {
    fn from(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Self::Refused,
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Self::TimedOut,
            io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe => {
                Self::Reset
            }
            io::ErrorKind::InvalidData => Self::Layer,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, InvalidData, NotFound,
        PermissionDenied, TimedOut, WouldBlock,
    };

    use super::*;

    #[test]
    fn every_fault_has_a_name_for_people_and_one_for_programs() {
        for (fault, people, programs) in [
            (Fault::Refused, "refused", "refused"),
            (Fault::TimedOut, "not answered in time", "timed_out"),
            (Fault::Closed, "closed by the server", "closed"),
            (Fault::Reset, "reset", "reset"),
            (Fault::Unasked, "sent more than was asked", "unasked"),
            (Fault::Layer, "broken off by TLS", "layer"),
            (Fault::Unsent, "never sent", "unsent"),
            (Fault::Other, "another error of the system", "other"),
        ] {
            assert_eq!(
                (fault.to_string(), serde_json::to_value(fault).unwrap()),
                (people.into(), programs.into())
            );
        }
    }

    #[test]
    fn an_error_of_the_system_is_called_what_it_is() {
        for (kind, fault, name) in [
            (ConnectionRefused, Fault::Refused, "refused"),
            (NotFound, Fault::Refused, "refused"),
            (TimedOut, Fault::TimedOut, "timed_out"),
            (WouldBlock, Fault::TimedOut, "timed_out"),
            (ConnectionReset, Fault::Reset, "reset"),
            (ConnectionAborted, Fault::Reset, "reset"),
            (BrokenPipe, Fault::Reset, "reset"),
            (InvalidData, Fault::Layer, "layer"),
            (PermissionDenied, Fault::Other, "other"),
        ] {
            let found = Fault::from(&kind.into());
            assert_eq!((found, serde_json::to_value(found).unwrap()), (fault, name.into()), "{kind}");
        }
    }
}
