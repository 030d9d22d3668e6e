//! Crowds that only want to be in the way: others are served all along, and the budget ends every one of them.

use std::{
    fs::OpenOptions,
    io::{self, Read, Write},
    net::TcpStream,
    process::Stdio,
    sync::{Arc, Mutex},
    thread,
};

use roadstead_conformance::{
    asks::{ANSWER, ECHO, FILE, JOB, PANIC},
    child::Child,
    client::{eventually, frame, read_frame, try_read_frame},
    setting::Setting,
};

scenarios! {
    a_crowd_that_says_nothing (Models): "300 connect and are silent: others are served, and they are ended for it",
    a_crowd_that_sends_slowly (Models): "300 send a long message byte by byte: others are served, and they are ended for it",
    a_crowd_that_takes_slowly (Models): "100 take a long answer little by little: others are served, and they are ended for it",
    a_crowd_that_takes_nothing (Models): "60 ask for long answers and take none: others are served beside them",
    a_log_that_nobody_reads_stops_nobody (Wires): "strangers cause lines and no more fit: others are served, a signal is heard, and the loss is told",
    a_log_that_cannot_be_written_stops_nobody (Wires): "its reader is gone, or the disk is full: others are served beside strangers who cause lines",
    who_waits_behind_the_silent_is_served (Models): "where workers serve one client at a time, the deadline makes room",
}

/// A server with room for a crowd and a few others, also where a worker serves one at a time.
fn start(setting: &Setting, crowd: usize, options: &str) -> Child {
    Child::start(setting, &format!("desk {options} {}", setting.room_for(crowd + 4)))
}

const SILENT: &str = "the peer connected and sent nothing in time";
const SLOW: &str = "the peer moved fewer than 1000000000 bytes per second";
/// What a slow one is called too, where the machine let it rest for that long.
const IDLE: &str = "the peer neither sent nor took a byte in time";

/// Lets the crowd go on until all of it are ended for one of the reasons, and nobody else is. Somebody else comes in
/// every round and is answered.
#[track_caller]
fn beside_others(child: &Child, crowd: usize, reasons: &[&str], mut go_on: impl FnMut()) {
    let is_of_crowd = |why: &&String| reasons.contains(&why.as_str());
    eventually("the whole crowd is ended", || {
        go_on();
        serves_another(child);
        child.closed().iter().filter(is_of_crowd).count() == crowd
    });
    let others: Vec<_> = child.closed().into_iter().filter(|why| !is_of_crowd(&why)).collect();
    assert!(others.iter().all(|why| why == "finished"), "{others:?}");
}

#[track_caller]
fn serves_another(child: &Child) {
    let mut quick = child.connect();
    quick.write_all(&[frame(ECHO, 0, b"quick"), frame(JOB, 1, b"")].concat()).unwrap();
    assert_eq!(read_frame(&mut quick), (ECHO, b"quick".to_vec()));
    assert_eq!(read_frame(&mut quick).0, JOB);
}

fn a_crowd_that_says_nothing(setting: &Setting) {
    let child = start(setting, 300, "--first-byte 3000");
    let _crowd = child.connect_many(300);
    beside_others(&child, 300, &[SILENT], || {});
}

fn a_crowd_that_sends_slowly(setting: &Setting) {
    let child = start(setting, 300, "--idle 3000 --slowest 1000000000");
    let mut crowd = child.connect_many(300);
    let message = frame(ECHO, 0, &[b's'; 100_000]);
    let mut bytes = message.chunks(1);
    beside_others(&child, 300, &[SLOW, IDLE], || {
        let byte = bytes.next().expect("nobody gets to the end of the message");
        // Who is ended already hears of it.
        crowd.iter_mut().for_each(|stream| _ = stream.write_all(byte));
    });
}

fn a_crowd_that_takes_slowly(setting: &Setting) {
    let child = start(setting, 100, "--idle 3000 --slowest 1000000000 --file 20000000");
    let mut crowd = child.connect_many(100);
    for stream in &mut crowd {
        stream.set_nonblocking();
        stream.write_all(&frame(FILE, 20_000_000, b"")).unwrap();
    }
    let mut some = vec![0; 4 << 10];
    beside_others(&child, 100, &[SLOW, IDLE], || {
        crowd.iter_mut().for_each(|stream| _ = stream.read(&mut some));
    });
}

fn a_crowd_that_takes_nothing(setting: &Setting) {
    // With more patience than the others have.
    let child = start(setting, 60, "--idle 120000");
    let mut crowd = child.connect_many(60);
    // More than the system takes for them.
    let asks: Vec<_> = (0..12).flat_map(|_| frame(ANSWER, 800_000, b"")).collect();
    crowd.iter_mut().for_each(|stream| stream.write_all(&asks).unwrap());
    for _ in 0..1000 {
        serves_another(&child);
    }
}

fn who_waits_behind_the_silent_is_served(setting: &Setting) {
    let child = Child::start(setting, &format!("desk --first-byte 300 {}", setting.room_for(2)));
    let silent: Vec<_> = (0..6).map(|_| TcpStream::connect(child.address()).unwrap()).collect();
    // Whoever is too slow to speak, on a busy machine, is taken for silent too.
    eventually("somebody is served", || {
        let mut stream = child.connect();
        let asked = stream.write_all(&frame(ECHO, 0, b"patient"));
        let answer = asked.and_then(|()| try_read_frame(&mut stream));
        answer.is_ok_and(|answer| answer == (ECHO, b"patient".to_vec()))
    });
    drop(silent);
}

/// Causes a line of the log with every connection, and sees it end.
#[track_caller]
fn cause_lines(setting: &Setting, child: &Child, count: usize) {
    for _ in 0..count {
        let mut stranger = TcpStream::connect(child.address()).unwrap();
        if setting.tls {
            stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        } else {
            stranger.write_all(&frame(PANIC, 0, b"")).unwrap();
        }
        // However it is ended.
        let _ = stranger.read_to_end(&mut Vec::new());
    }
}

fn a_log_that_nobody_reads_stops_nobody(setting: &Setting) {
    let (mut reader, mut writer) = io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    while writer.write(&[b'.'; 512]).is_ok() {}
    // The flag is the pipe's end's, and so would be the program's too.
    rustix::io::ioctl_fionbio(&writer, false).unwrap();
    let child = Child::start_logging_to(writer, setting, "desk");
    cause_lines(setting, &child, 30);
    serves_another(&child);
    let heard = Arc::<Mutex<Vec<u8>>>::default();
    let hears = Arc::clone(&heard);
    let listener = thread::spawn(move || {
        let mut some = [0; 4096];
        while let Ok(count @ 1..) = reader.read(&mut some) {
            hears.lock().unwrap().extend_from_slice(&some[..count]);
        }
    });
    eventually("the loss is told", || {
        cause_lines(setting, &child, 1);
        String::from_utf8_lossy(&heard.lock().unwrap()).contains("lines before this one could not be written")
    });
    child.drain();
    listener.join().unwrap();
}

fn a_log_that_cannot_be_written_stops_nobody(setting: &Setting) {
    let (_, nobody) = io::pipe().unwrap();
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    for log in [Stdio::from(nobody), Stdio::from(full)] {
        let child = Child::start_logging_to(log, setting, "desk");
        cause_lines(setting, &child, 5);
        serves_another(&child);
        child.drain();
    }
}
