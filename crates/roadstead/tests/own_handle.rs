//! A service may hold the handle of the server it runs on, and let go of it in a call: the server then stops, and
//! nobody waits for the call to return that waits for the server to stop.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use roadstead::{
    Close, Context, Done, Input, Model, Peer, Running, Scope, Server, Service, Session, server::Io,
};

#[derive(Clone)]
struct Handle {
    server: Arc<Mutex<Option<Running>>>,
    /// Hears of it when whoever has let go goes on.
    goes_on: mpsc::Sender<()>,
}

impl Handle {
    fn let_go(&self) {
        let server = self.server.lock().unwrap().take();
        drop(server);
        let _ = self.goes_on.send(());
    }
}

impl Service for Handle {
    type Session = Handle;
    const SCOPE: Scope = Scope::Process;
    fn open(&self, _: &Peer) -> Handle {
        self.clone()
    }
}

impl Session for Handle {
    type Reply = ();

    /// Lets go itself, or has a job do so.
    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        let in_job = input.bytes()[0] == b'j';
        input.consume(usize::MAX);
        if in_job {
            let handle = self.clone();
            cx.run(0, move || handle.let_go()).map_err(|_| Close::abort("no room for a job"))?;
        } else {
            self.let_go();
        }
        Ok(())
    }
}

fn connect(server: &Running) -> TcpStream {
    let stream = TcpStream::connect(server.addresses()[0]).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

#[test]
fn a_session_or_a_job_may_let_go_of_its_own_server() {
    let models = [Model::Threads, Model::Pool, Model::Poll, Model::Epoll, Model::Emulated];
    let loops = models.into_iter().flat_map(|model| [(model, Io::Loop, 0), (model, Io::Loop, 2)]);
    for (model, io, workers) in loops.chain([(Model::Epoll, Io::Workers, 2)]) {
        for who in [b"s", b"j"] {
            let (goes_on, went_on) = mpsc::channel();
            let handle = Handle { server: Arc::default(), goes_on };
            let server = Server::new(handle.clone()).model(model).io(io).workers(workers);
            let server = server.bind("127.0.0.1:0").start().unwrap();
            let streams = [connect(&server), connect(&server)];
            *handle.server.lock().unwrap() = Some(server);
            (&streams[0]).write_all(who).unwrap();
            let went_on = went_on.recv_timeout(Duration::from_secs(30));
            assert!(went_on.is_ok(), "{model}, {io:?}, {workers} workers: the call does not return");
            for mut stream in streams {
                match stream.read_to_end(&mut Vec::new()) {
                    Ok(0) => {}
                    Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
                    other => panic!("{model}, {io:?}, {workers} workers: it is not closed but {other:?}"),
                }
            }
        }
    }
}
