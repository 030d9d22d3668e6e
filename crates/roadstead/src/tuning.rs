//! How the system's sockets are set up.
#![forbid(unsafe_code)]

use std::os::fd::AsFd;

use rustix::{io::Result, net::sockopt};

/// What is asked of the system for every connection, accepted and outgoing: socket(7), tcp(7).
///
/// ```
/// use roadstead::Tuning;
/// let mut tuning = Tuning::default();
/// tuning.send_buffer = Some(64 << 10);
/// assert!(tuning.nodelay && tuning.receive_buffer.is_none());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tuning {
    /// What is sent leaves at once instead of waiting for a segment to fill (`TCP_NODELAY`). Default true: the engine
    /// sends whole answers.
    pub nodelay: bool,
    /// Bytes that the system may hold of what was sent and not acknowledged (`SO_SNDBUF`; Linux doubles it). Default
    /// none: the system sizes it to the road, up to `net.ipv4.tcp_wmem`.
    pub send_buffer: Option<usize>,
    /// The same for what was received and not read (`SO_RCVBUF`). Default none.
    pub receive_buffer: Option<usize>,
}

impl Default for Tuning {
    fn default() -> Self {
        Self { nodelay: true, send_buffer: None, receive_buffer: None }
    }
}

impl Tuning {
    /// Sizes the buffers of a socket. Before it listens or connects, as the window's scale is agreed on then; what a
    /// listening socket accepts has the same.
    pub(crate) fn size(&self, socket: impl AsFd) -> Result<()> {
        if let Some(size) = self.send_buffer {
            sockopt::set_socket_send_buffer_size(&socket, size)?;
        }
        if let Some(size) = self.receive_buffer {
            sockopt::set_socket_recv_buffer_size(&socket, size)?;
        }
        Ok(())
    }

    /// Sets up what does not follow from the listening socket.
    pub(crate) fn apply(&self, stream: impl AsFd) -> Result<()> {
        sockopt::set_tcp_nodelay(stream, self.nodelay)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::{
        net::Net,
        os::{self, Os},
    };

    #[test]
    fn both_ends_of_a_connection_are_set_up_as_asked() {
        let small = Tuning { nodelay: false, send_buffer: Some(20_000), receive_buffer: Some(30_000) };
        for (tuning, sizes) in [(small, Some([40_000, 60_000])), (Tuning::default(), None)] {
            let listener = os::listen("127.0.0.1:0".parse().unwrap(), 1, tuning).unwrap();
            let stream = os::connect(os::local_address(&listener).unwrap(), tuning).unwrap();
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
