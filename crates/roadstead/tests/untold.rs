//! The model `aio` where no thread can be had that tells of a completion: what is done is found all the same.
//!
//! Alone in its process, because the size of new threads' stacks is for all of it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::{Read, Write},
    mem,
    net::TcpStream,
    sync::Arc,
    time::Duration,
};

use roadstead::{Blob, Context, Done, File, Input, Model, Peer, Scope, Server, Service, Session};

const PATIENCE: Duration = Duration::from_secs(30);

/// Answers each byte with itself and the file.
struct Reader(Arc<dyn Blob>, u64);

impl Service for Reader {
    type Session = Self;
    const SCOPE: Scope = Scope::Process;
    fn open(&self, _: &Peer) -> Self {
        Self(Arc::clone(&self.0), self.1)
    }
}

impl Session for Reader {
    type Reply = ();
    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        for _ in 0..input.len() {
            input.forward(1, cx.output());
            cx.output().file(Arc::clone(&self.0), 0, self.1);
        }
        Ok(())
    }
}

// SAFETY: as pthread_setattr_default_np(3) declares it.
unsafe extern "C" {
    fn pthread_setattr_default_np(attributes: *const libc::pthread_attr_t) -> libc::c_int;
}

/// From now on no thread begins but those that say how large their stack is: glibc's AIO threads do, and those that
/// tell of what is done do not.
fn let_nobody_tell() {
    const STACK: usize = 1 << 47;
    // SAFETY: the attributes are initialised before they are used, and outlive the calls.
    let status = unsafe {
        let mut attributes = mem::zeroed();
        libc::pthread_attr_init(&mut attributes);
        libc::pthread_attr_setstacksize(&mut attributes, STACK);
        pthread_setattr_default_np(&attributes)
    };
    assert_eq!(status, 0);
}

#[test]
fn a_completion_that_nobody_tells_of_is_found() {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b" and a file").unwrap();
    let server = Server::new(Reader(Arc::new(File::from(file)), 11)).bind("127.0.0.1:0").model(Model::Aio);
    let server = server.start().unwrap();
    let_nobody_tell();
    let connect = |_| {
        let stream = TcpStream::connect(server.addresses()[0]).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    };
    let mut clients: Vec<TcpStream> = (0..50).map(connect).collect();
    for _ in 0..3 {
        for client in &mut clients {
            client.write_all(b"!").unwrap();
        }
        for client in &mut clients {
            let mut answer = [0; 12];
            client.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"! and a file");
        }
    }
    drop(clients);
    server.drain(PATIENCE).unwrap();
}
