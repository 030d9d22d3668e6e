//! A thread of a connection that something else than bytes may move waits where it can be called, and looks no oftener.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::mpsc,
    thread,
    time::Duration,
};

use roadstead::{
    Close, Context, Done, Input, JobId, Lost, Model, Peer, Scope, Server, Service, Session, Ticket,
};

/// Has another thread answer each byte.
#[derive(Clone)]
struct Elsewhere(mpsc::Sender<(Ticket<u8>, u8)>);

impl Service for Elsewhere {
    type Session = Elsewhere;
    const SCOPE: Scope = Scope::Process;
    fn open(&self, _: &Peer) -> Elsewhere {
        self.clone()
    }
}

impl Session for Elsewhere {
    type Reply = u8;

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        let byte = input.bytes()[0];
        input.consume(1);
        let ticket = cx.ticket().map_err(|_| Close::abort("busy"))?;
        self.0.send((ticket, byte)).map_err(|_| Close::abort("nobody finishes tickets"))
    }

    fn reply(&mut self, _: JobId, reply: Result<u8, Lost>, cx: &mut Context<'_, Self>) -> Done {
        cx.output().write(&[reply.map_err(|_| Close::abort("lost"))?]);
        Ok(())
    }
}

#[test]
fn a_thread_that_waits_for_a_ticket_is_called_and_does_not_look_for_bytes_meanwhile() {
    const ASKED: u64 = 50;
    for model in [Model::Threads, Model::Pool] {
        let (later, tickets) = mpsc::channel::<(Ticket<u8>, u8)>();
        thread::spawn(move || {
            for (ticket, byte) in tickets {
                // Time for the thread of the connection to wait.
                thread::sleep(Duration::from_millis(2));
                ticket.finish(byte);
            }
        });
        let server = Server::new(Elsewhere(later)).bind("127.0.0.1:0").model(model).start().unwrap();
        let mut stream = TcpStream::connect(server.addresses()[0]).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        for byte in 0..ASKED as u8 {
            let mut answer = [!byte];
            stream.write_all(&[byte]).unwrap();
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(answer, [byte]);
        }
        drop(stream);
        // One for each byte, and one for the end; more only where the client was slow to ask.
        let receives = server.drain(Duration::from_secs(30)).unwrap().receives;
        assert!((ASKED..ASKED * 3 / 2).contains(&receives), "{model}: {receives}");
    }
}
