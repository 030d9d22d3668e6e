//! A session that will not be hurried: it waits for one more message although the server drains.

use std::{
    io::{Read, Write},
    thread,
    time::Duration,
};

use roadstead::{Budget, Closed, Context, Done, Input, Peer, Ready, Service, Session};

use crate::{
    client::{End, PATIENCE, end_of, eventually},
    desk::Ends,
    setting::Setting,
};

on_every_model!(one_more_message_is_waited_for_while_the_server_drains);

/// Sends back messages of eight bytes; the one that follows the drain is the last.
struct Eights(Ends);

struct EightsSession {
    ends: Ends,
    draining: bool,
}

impl Service for Eights {
    type Session = EightsSession;
    fn open(&self, _: &Peer) -> EightsSession {
        EightsSession { ends: self.0.clone(), draining: false }
    }
}

impl Session for EightsSession {
    type Reply = ();

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        if let Some(message) = input.bytes().get(..8) {
            cx.output().write(message);
            input.consume(8);
            if self.draining {
                cx.finish();
            }
        } else {
            input.need(8);
        }
        Ok(())
    }

    fn ready(&mut self, why: Ready, _: &mut Context<'_, Self>) -> Done {
        self.draining |= why == Ready::Draining;
        Ok(())
    }

    fn closed(self, why: &Closed) {
        self.ends.push(why);
    }
}

fn one_more_message_is_waited_for_while_the_server_drains(setting: Setting) {
    let ends = Ends::default();
    let server = setting.start(Eights(ends.clone()), Budget::default());
    let address = server.addresses()[0];
    let mut stream = setting.connect(address);
    let mut back = [0; 8];
    stream.write_all(b"a little").unwrap();
    stream.read_exact(&mut back).unwrap();
    let drain = thread::spawn(move || server.drain(PATIENCE));
    eventually("nobody is accepted any more", || std::net::TcpStream::connect(address).is_err());
    for byte in b"and more" {
        stream.write_all(&[*byte]).unwrap();
        thread::sleep(Duration::from_millis(8));
    }
    stream.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"and more");
    assert_eq!(end_of(&mut stream), End::Orderly);
    drop(stream);
    drain.join().unwrap().unwrap();
    assert_eq!(ends.all().last().unwrap(), "finished");
}
