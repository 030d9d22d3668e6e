//! Receiving: as many datagrams as there are places for, in one call. recvmmsg(2).
//!
//! Of datagrams of one length that came from one peer one behind the other the system may make one (`UDP_GRO`, udp(7)).
//! They stay where they are, and the batch is told where each begins.

use std::io;

use roadstead_proto::datagrams::{Arrival, Batch};

use super::{
    control::Told,
    slots::{Slice, Slots},
    socket::DatagramSocket,
};

/// Receives into the empty `batch` what is there and fits.
pub(super) fn receive(slots: &mut Slots, socket: &DatagramSocket, batch: &mut Batch) -> io::Result<()> {
    slots.reserve(batch.places().len());
    let places = batch.places().map(|place| -> Slice { (place.as_mut_ptr(), place.len()) });
    // SAFETY: each is a place of the batch, which is borrowed until the call is over; no place is part of another.
    let count = unsafe { slots.receive(socket, places) }?;
    for number in 0..count {
        let came = slots.came(number);
        let Some(from) = slots.names[number].address(came.name) else { continue };
        let Told { to, local, at, ecn, hops, segment } = slots.controls[number].told(came.control);
        let to = to.or(socket.only());
        let arrival = Arrival { from, to, local, at, ecn, hops, truncated: came.truncated };
        batch.came(number, came.length, segment, arrival);
    }
    Ok(())
}
