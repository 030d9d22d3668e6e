//! Connections that are their own peer.

use std::net::TcpStream;

/// Whether nobody listens where `socket` goes to, and the port that it was given is that very one: then it is connected
/// with itself (RFC 9293, section 3.5).
pub(crate) fn is_its_own_peer(socket: &TcpStream) -> bool {
    socket.peer_addr().is_ok_and(|peer| socket.local_addr().is_ok_and(|own| own == peer))
}
