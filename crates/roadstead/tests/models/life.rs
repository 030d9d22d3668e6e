//! A server's life: start, drain, stop, start again.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    thread,
    time::Duration,
};

use roadstead::Budget;

use crate::{
    client::{End, PATIENCE, ask, echo, end_of, eventually, frame, read_frame},
    desk::{Desk, ECHO, Echo, HOLD, JOB},
    setting::Setting,
};

on_every_model!(
    a_drain_lets_work_in_flight_finish,
    a_drain_that_runs_out_of_patience_resets,
    a_server_starts_again_on_its_port_at_once,
    a_port_in_use_is_named,
    a_server_listens_on_several_addresses,
    version_six_addresses;
    several:
    a_drain_ends_idle_connections,
    a_stop_under_load_ends_everybody,
);

fn a_drain_lets_work_in_flight_finish(setting: Setting) {
    for workers in [0, 2] {
        let desk = Desk::default();
        let server = Setting { workers, ..setting }.start(desk.clone(), Budget::default());
        let address = server.addresses()[0];
        let mut stream = setting.connect(address);
        stream.write_all(&[frame(HOLD, 0, b""), frame(JOB, 4, b"")].concat()).unwrap();
        assert_eq!(read_frame(&mut stream).0, JOB);
        let ticket = desk.tickets(1).remove(0);
        let drain = thread::spawn(move || server.drain(PATIENCE));
        eventually("nobody is accepted any more", || std::net::TcpStream::connect(address).is_err());
        assert!(!drain.is_finished());
        ticket.finish(8);
        assert_eq!(read_frame(&mut stream), (HOLD, 8u64.to_le_bytes().to_vec()));
        assert_eq!(end_of(&mut stream), End::Orderly);
        drop(stream);
        let counted = drain.join().unwrap().unwrap();
        assert!(counted.closed > counted.failed);
        // Who only looked whether anybody accepts ended before.
        assert_eq!(desk.ends.all().last().unwrap(), "finished");
    }
}

fn a_drain_ends_idle_connections(setting: Setting) {
    let server = setting.start(Echo::default(), Budget::default().linger(Duration::from_millis(200)));
    let mut streams = (0..5).map(|_| setting.connect(server.addresses()[0])).collect::<Vec<_>>();
    streams.iter_mut().for_each(|stream| echo(stream, b"once"));
    // They do not answer the server's end with their own.
    assert_eq!(server.drain(PATIENCE).unwrap().failed, 0);
    streams.iter_mut().for_each(|stream| assert_eq!(end_of(stream), End::Orderly));
}

fn a_drain_that_runs_out_of_patience_resets(setting: Setting) {
    let desk = Desk::default();
    let server = setting.start(desk.clone(), Budget::default());
    let mut stream = setting.connect(server.addresses()[0]);
    stream.write_all(&frame(HOLD, 0, b"")).unwrap();
    let ticket = desk.tickets(1).remove(0);
    let undrained = server.drain(Duration::from_millis(200)).unwrap_err();
    assert_eq!(undrained, roadstead::server::Undrained(1));
    assert_eq!(end_of(&mut stream), End::Reset);
    assert!(ticket.is_cancelled());
    assert_eq!(desk.ends.first(), "the server stopped");
}

fn a_stop_under_load_ends_everybody(setting: Setting) {
    let server = Setting { workers: 2, ..setting }.start(Desk::default(), Budget::default());
    let (address, answered) = (server.addresses()[0], AtomicUsize::new(0));
    thread::scope(|scope| {
        // Connected before anybody can be told to stop.
        let sockets: Vec<_> = (0..8).map(|_| TcpStream::connect(address).unwrap()).collect();
        for (client, socket) in sockets.into_iter().enumerate() {
            let answered = &answered;
            scope.spawn(move || {
                let mut stream = setting.speak(socket);
                let wire = frame(if client % 2 == 0 { JOB } else { ECHO }, 1, &[0; 1000]).repeat(8);
                let mut block = vec![0; 1 << 16];
                while stream.write_all(&wire).is_ok() {
                    match stream.read(&mut block) {
                        Ok(0) => return,
                        Ok(_) => _ = answered.fetch_add(1, SeqCst),
                        Err(error) => {
                            return assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "forgotten");
                        }
                    }
                }
            });
        }
        eventually("they are at it", || answered.load(SeqCst) > 100);
        drop(server);
    });
}

fn a_server_starts_again_on_its_port_at_once(setting: Setting) {
    let mut server = setting.start(Echo::default(), Budget::default());
    let address = server.addresses()[0];
    for _ in 0..3 {
        let mut stream = setting.connect(address);
        echo(&mut stream, b"before");
        drop(server);
        server = setting.server(Echo::default()).bind(address).start().unwrap();
        echo(&mut setting.connect(address), b"after");
    }
}

fn a_port_in_use_is_named(setting: Setting) {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let _held = TcpListener::bind(taken).unwrap();
    let error = setting.server(Echo::default()).bind(taken).start().unwrap_err();
    assert_eq!(error.to_string(), format!("address {taken} is in use"));
}

fn a_server_listens_on_several_addresses(setting: Setting) {
    let server = setting.server(Echo::default()).bind("127.0.0.1:0").bind("127.0.0.2:0").start().unwrap();
    let addresses = server.addresses().to_vec();
    assert_eq!(addresses.len(), 2);
    for address in addresses {
        echo(&mut setting.connect(address), b"here too");
    }
}

fn version_six_addresses(setting: Setting) {
    if TcpListener::bind("[::1]:0").is_err() {
        eprintln!("skipped: this machine has no [::1]");
        return;
    }
    let server = setting.server(Desk::default()).bind("[::1]:0").start().unwrap();
    assert!(matches!(server.addresses()[0], SocketAddr::V6(_)));
    assert_eq!(ask(&mut setting.connect(server.addresses()[0]), ECHO, 0, b"six").0, ECHO);
}
