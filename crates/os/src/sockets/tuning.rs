//! Sets sockets up as a [`Tuning`] says.
#![forbid(unsafe_code)]

use std::os::fd::AsFd;

use rustix::{io::Result, net::sockopt};

use roadstead_proto::tuning::Tuning;

/// Sets up a socket before it listens or connects, as the window's scale is agreed on then. What a listening socket
/// accepts has the same: Linux copies all of it when the connection is made, and nothing need be set of each.
pub fn apply(tuning: Tuning, socket: impl AsFd) -> Result<()> {
    sockopt::set_tcp_nodelay(&socket, tuning.nodelay)?;
    apply_sizes(tuning, socket)
}

/// Sets the sizes of its buffers, which sockets of UDP have as well.
pub(crate) fn apply_sizes(tuning: Tuning, socket: impl AsFd) -> Result<()> {
    if let Some(size) = tuning.send_buffer {
        sockopt::set_socket_send_buffer_size(&socket, size)?;
    }
    if let Some(size) = tuning.receive_buffer {
        sockopt::set_socket_recv_buffer_size(&socket, size)?;
    }
    Ok(())
}

/// The sizes of a socket's buffers, for sending and for receiving, in the bytes that would be asked for: Linux doubles
/// these for its own accounts, and cuts them to `net.core.wmem_max` and `net.core.rmem_max` without a word.
pub fn sizes(socket: impl AsFd) -> Result<[usize; 2]> {
    let found = [sockopt::socket_send_buffer_size(&socket)?, sockopt::socket_recv_buffer_size(&socket)?];
    Ok(found.map(|size| size / 2))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use roadstead_drivers::net::Net;

    use super::*;
    use crate::sockets::{self, Os};

    #[test]
    fn sizes_are_told_as_they_were_asked_for_and_as_the_kernel_cut_them() {
        let mut tuning = Tuning::default();
        (tuning.send_buffer, tuning.receive_buffer) = (Some(20_000), Some(30_000));
        let listener = sockets::listen("127.0.0.1:0".parse().unwrap(), 1, tuning).unwrap();
        assert_eq!(sizes(&listener).unwrap(), [20_000, 30_000]);
        let most = ["wmem_max", "rmem_max"].map(|name| {
            let most = std::fs::read_to_string(format!("/proc/sys/net/core/{name}")).unwrap();
            most.trim().parse::<usize>().unwrap()
        });
        let asked = 1 << 30;
        (tuning.send_buffer, tuning.receive_buffer) = (Some(asked), Some(asked));
        apply_sizes(tuning, &listener).unwrap();
        assert_eq!(sizes(&listener).unwrap(), most.map(|most| most.min(asked)));
    }

    #[test]
    fn both_ends_of_a_connection_are_set_up_as_asked() {
        let mut small = Tuning::default();
        (small.nodelay, small.send_buffer, small.receive_buffer) = (false, Some(20_000), Some(30_000));
        for (tuning, sizes) in [(small, Some([40_000, 60_000])), (Tuning::default(), None)] {
            let listener = sockets::listen("127.0.0.1:0".parse().unwrap(), 1, tuning).unwrap();
            let stream = sockets::connect(&sockets::local_address(&listener).unwrap(), tuning).unwrap();
            let accepted = loop {
                match Os::non_blocking(Instant::now(), tuning).accept(&listener) {
                    Ok((accepted, _)) => break accepted,
                    Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
                }
            };
            for socket in [&stream, &accepted] {
                assert_eq!(sockopt::tcp_nodelay(socket).unwrap(), tuning.nodelay);
                let found =
                    [sockopt::socket_send_buffer_size(socket), sockopt::socket_recv_buffer_size(socket)];
                let found = found.map(|size| size.unwrap());
                assert!(sizes.is_none_or(|sizes| sizes == found), "{found:?}");
                assert!(sizes.is_some() || found[0] > 40_000 && found[1] > 60_000, "{found:?}");
            }
        }
    }
}
