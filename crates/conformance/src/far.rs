//! Far sides that a connection cannot be had with.

use std::{net::SocketAddr, thread, time::Duration};

use socket2::{Domain, Socket, Type};

/// An address at which nobody listens, and what keeps others from it.
pub fn nobody() -> (SocketAddr, impl Sized) {
    let socket = bound();
    (socket.local_addr().unwrap().as_socket().unwrap(), socket)
}

/// A socket with a port of its own that does not listen.
fn bound() -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    socket
}

/// A listener that answers no more connections, and those that fill its backlog.
pub fn deaf() -> (SocketAddr, impl Sized) {
    let listener = bound();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let filling = (0..8)
        .map(|_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            let _ = socket.connect(&address);
            socket
        })
        .collect::<Vec<_>>();
    thread::sleep(Duration::from_millis(50));
    (address.as_socket().unwrap(), (listener, filling))
}
