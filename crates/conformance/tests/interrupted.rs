//! The clients of the suite under signals, which come whenever a debugger, a job control or a child wants it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process,
    sync::mpsc,
    thread,
    time::Duration,
};

use roadstead_conformance::{
    client::{End, end_of},
    interrupt::{allow, interrupt, own_thread},
    wire::Wire,
};

#[test]
fn a_client_that_waits_reads_on_after_a_signal() {
    allow().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = Wire::new(TcpStream::connect(listener.local_addr().unwrap()).unwrap(), None);
    let (mut server, _) = listener.accept().unwrap();
    let (tells, told) = mpsc::channel();
    let reader = thread::spawn(move || {
        tells.send(own_thread()).unwrap();
        let mut byte = [0];
        // One call, which must be the one that is interrupted.
        let heard = client.read(&mut byte).map(|count| (count, byte[0]));
        (heard, end_of(&mut client))
    });
    let reading = told.recv().unwrap();
    let interrupts = || {
        for _ in 0..50 {
            interrupt(process::id().cast_signed(), reading);
            thread::sleep(Duration::from_millis(1));
        }
    };
    interrupts();
    server.write_all(b"!").unwrap();
    interrupts();
    drop(server);
    let (heard, end) = reader.join().unwrap();
    assert_eq!((heard.unwrap(), end), ((1, b'!'), End::Orderly));
}
