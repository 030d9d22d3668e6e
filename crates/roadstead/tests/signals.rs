//! Signals rain on every thread, and no call that they interrupt is taken for a failure.
//!
//! Alone in its process, because the handler and the rain are for all of it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    process,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use roadstead::{Budget, Close, Context, Done, Input, JobId, Lost, Model, Peer, Server, Service, Session};

const SIGUSR1: i32 = 10;

// SAFETY: the C library has this function with this signature, and it takes nothing but numbers.
unsafe extern "C" {
    safe fn tgkill(process: i32, thread: i32, signal: i32) -> i32;
}

struct Late;
struct LateSession;

impl Service for Late {
    type Session = LateSession;
    fn open(&self, _: &Peer) -> LateSession {
        LateSession
    }
}

impl Session for LateSession {
    type Reply = Vec<u8>;

    /// Small input is echoed at once, large input by a job: both ways of waiting are interrupted.
    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        let bytes = input.bytes().to_vec();
        input.consume(usize::MAX);
        if bytes.len() < 100 {
            cx.output().write(&bytes);
        } else {
            cx.run(0, move || bytes).map_err(|_| Close::abort("busy"))?;
        }
        Ok(())
    }

    fn reply(&mut self, _: JobId, reply: Result<Vec<u8>, Lost>, cx: &mut Context<'_, Self>) -> Done {
        cx.output().write(&reply.map_err(|_| Close::abort("lost"))?);
        Ok(())
    }
}

/// Reads all of `bytes`; this thread is rained on as well.
fn read(stream: &mut TcpStream, bytes: &mut [u8]) {
    stream.read_exact(bytes).unwrap();
}

#[test]
fn interrupted_calls_are_made_again() {
    // Counts as handling; that it interrupts is all it is for.
    let _handler = signal_hook::flag::register(SIGUSR1, Arc::default()).unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let rain = thread::spawn({
        let over = Arc::clone(&over);
        move || {
            while !over.load(SeqCst) {
                for task in fs::read_dir("/proc/self/task").unwrap().flatten() {
                    let thread = task.file_name().into_string().unwrap().parse().unwrap();
                    tgkill(process::id() as i32, thread, SIGUSR1);
                }
                thread::sleep(Duration::from_micros(300));
            }
        }
    });
    for (model, workers) in [(Model::Threads, 0), (Model::Threads, 2), (Model::Epoll, 0), (Model::Epoll, 2)] {
        let server = Server::new(Late)
            .bind("127.0.0.1:0")
            .model(model)
            .workers(workers)
            .budget(Budget::default())
            .start()
            .unwrap();
        for _ in 0..20 {
            let mut stream = TcpStream::connect(server.addresses()[0]).unwrap();
            for len in [1, 50, 500, 20_000, 10] {
                let (sent, mut back) = (vec![len as u8; len], vec![0; len]);
                stream.write_all(&sent).unwrap();
                // Long enough that every wait is interrupted several times.
                thread::sleep(Duration::from_millis(1));
                read(&mut stream, &mut back);
                assert!(back == sent, "{model}");
            }
        }
        let counted = server.drain(Duration::from_secs(30)).unwrap();
        assert_eq!((counted.accepted, counted.failed), (20, 0), "{model}");
    }
    over.store(true, SeqCst);
    rain.join().unwrap();
}
