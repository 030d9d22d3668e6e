//! State that the connections of several loops share: a loop that stands still in the midst of an operation keeps no
//! other from its connections, and what these ask for meanwhile is done by the one that stands, when it goes on.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::{
        Arc, Mutex,
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::Duration,
};

use roadstead::{
    Actor, Asked, Close, Context, Done, Input, JobId, Lost, Model, Peer, Scope, Server, Service, Session,
};

/// Bytes of an answer.
const ANSWER: usize = 32;
/// So long, and nobody comes any more.
const TOO_LONG: Duration = Duration::from_secs(60);

/// What a byte asks for: the name of its thread; an operation that stands still until it is released; one that does not.
const THREAD: u8 = b't';
const STAND: u8 = b's';
const ADD: u8 = b'a';

type Stand = Arc<Mutex<(Sender<()>, Receiver<()>)>>;

struct Sums {
    sum: Actor<u64>,
    stand: Stand,
}

struct Sum {
    sum: Actor<u64>,
    stand: Stand,
}

impl Service for Sums {
    type Session = Sum;
    const SCOPE: Scope = Scope::Process;
    fn open(&self, _: &Peer) -> Sum {
        Sum { sum: self.sum.clone(), stand: Arc::clone(&self.stand) }
    }
}

impl Sum {
    fn say(text: &str, cx: &mut Context<'_, Self>) {
        cx.output().write(format!("{text:ANSWER$}").as_bytes());
    }

    fn ask(
        &self,
        operation: impl FnOnce(&mut u64) -> String + Send + 'static,
        cx: &mut Context<'_, Self>,
    ) -> Done {
        match self.sum.ask(cx, 0, operation) {
            Ok(Asked::Done(said)) => Self::say(&said.unwrap(), cx),
            Ok(Asked::Later(_)) => Self::say("later", cx),
            Err(busy) => return Err(Close::abort(busy.to_string())),
        }
        Ok(())
    }
}

/// Who does an operation, and what the sum was.
fn add(sum: &mut u64) -> String {
    *sum += 1;
    format!("{sum} {:?}", thread::current().id())
}

impl Session for Sum {
    type Reply = String;

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        let asked = input.bytes()[0];
        input.consume(1);
        match asked {
            THREAD => Self::say(&format!("{:?}", thread::current().id()), cx),
            ADD => self.ask(add, cx)?,
            _ => {
                let stand = Arc::clone(&self.stand);
                let operation = move |sum: &mut u64| {
                    let stand = stand.lock().unwrap();
                    stand.0.send(()).unwrap();
                    stand.1.recv_timeout(TOO_LONG).unwrap();
                    add(sum)
                };
                self.ask(operation, cx)?;
            }
        }
        Ok(())
    }

    fn reply(&mut self, _: JobId, said: Result<String, Lost>, cx: &mut Context<'_, Self>) -> Done {
        Self::say(&said.unwrap(), cx);
        Ok(())
    }
}

fn hear(stream: &mut TcpStream) -> String {
    let mut answer = [0; ANSWER];
    stream.read_exact(&mut answer).unwrap();
    String::from_utf8(answer.to_vec()).unwrap().trim_end().to_owned()
}

fn ask(stream: &mut TcpStream, what: u8) -> String {
    stream.write_all(&[what]).unwrap();
    hear(stream)
}

#[test]
fn a_loop_that_stands_still_in_an_operation_keeps_no_other_from_its_connections() {
    for model in [Model::Epoll, Model::Emulated] {
        let ((begin, begun), (go_on, goes_on)) = (mpsc::channel(), mpsc::channel());
        let service = Sums { sum: Actor::default(), stand: Arc::new(Mutex::new((begin, goes_on))) };
        let server = Server::new(service).model(model).loops(2).bind("127.0.0.1:0").start().unwrap();
        let address = server.addresses()[0];
        let mut streams: Vec<_> = (0..4).map(|_| TcpStream::connect(address).unwrap()).collect();
        streams.iter().for_each(|stream| stream.set_read_timeout(Some(TOO_LONG)).unwrap());
        let mut stands = streams.remove(0);
        let its = ask(&mut stands, THREAD);
        let theirs: Vec<_> = streams.iter_mut().map(|stream| ask(stream, THREAD)).collect();
        stands.write_all(&[STAND]).unwrap();
        begun.recv_timeout(TOO_LONG).unwrap();
        let mut others: Vec<_> =
            streams.into_iter().zip(theirs).filter(|(_, thread)| *thread != its).collect();
        assert_eq!(others.len(), 2, "{model}: one is on the loop that stands");
        for (stream, thread) in &mut others {
            // The loop goes on, and so does the session itself.
            assert_eq!(ask(stream, ADD), "later", "{model}");
            assert_eq!(ask(stream, THREAD), *thread, "{model}");
        }
        go_on.send(()).unwrap();
        assert_eq!(hear(&mut stands), format!("1 {its}"), "{model}");
        for (number, (stream, thread)) in (2..).zip(&mut others) {
            assert_eq!(hear(stream), format!("{number} {its}"), "{model}: done by the one that stood");
            assert_eq!(ask(stream, THREAD), *thread, "{model}");
        }
        drop((stands, others));
        server.drain(TOO_LONG).unwrap();
    }
}
