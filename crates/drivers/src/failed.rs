//! One function, `failed`: what a connection hears of an operation that failed.
#![forbid(unsafe_code)]

use std::io;

use roadstead_proto::connection::{Event, Operation};

use crate::net::Failure;

/// What a connection hears of an operation that failed with `error`: that it comes to nothing for now, or the end.
pub(crate) fn failed(
    operation: Operation,
    error: io::Error,
    classify: impl FnOnce(&io::Error) -> Failure,
) -> Event<'static> {
    match classify(&error) {
        Failure::NoRoom => Event::Exhausted(operation),
        _ => Event::Failed(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_system_has_no_room_for_is_tried_again() {
        let told = |failure| failed(Operation::Send, io::Error::other(failure), Failure::inside);
        assert!(matches!(told(Failure::NoRoom), Event::Exhausted(Operation::Send)));
        let others = [Failure::Empty, Failure::Passing, Failure::NoDescriptors, Failure::Other];
        for failure in others {
            assert!(matches!(told(failure), Event::Failed(_)), "{failure}");
        }
    }
}
