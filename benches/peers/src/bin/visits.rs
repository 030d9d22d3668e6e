//! A load of short visits: connect, send a message, read it back, close, and again.
//!
//! `visits IP:PORT [--connections C] [--size BYTES] [--seconds T]`: so many visits at once, by default 32 with 128
//! bytes for 3 seconds. Each comes from another pair of address and port, since who closes first keeps it in TIME_WAIT.
//! Prints a report as JSON whose names are those of Roadstead's load generator.

use std::error::Error;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};

/// Events taken from the system at once.
const EVENTS: usize = 256;

/// Addresses that visits come from, and the ports of each: those that Linux gives to who asks for none.
const ADDRESSES: u64 = 250;
const PORTS: std::ops::Range<u64> = 32_768..61_000;

/// The longest that anything is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

struct Options {
    target: SocketAddr,
    connections: usize,
    size: usize,
    seconds: f64,
}

/// One connection on its way.
struct Visit {
    socket: OwnedFd,
    begun: Instant,
    sent: usize,
    received: usize,
}

/// What all visits have come to.
#[derive(Default)]
struct Tally {
    right: u64,
    wrong: u64,
    failed: u64,
    microseconds: Vec<u32>,
}

fn options() -> Result<Options, Box<dyn Error>> {
    const USAGE: &str = "usage: visits IP:PORT [--connections C] [--size BYTES] [--seconds T]";
    let mut arguments = std::env::args().skip(1);
    let target = arguments.next().ok_or(USAGE)?.parse()?;
    let mut options = Options { target, connections: 32, size: 128, seconds: 3.0 };
    while let Some(flag) = arguments.next() {
        let value = arguments.next().ok_or(USAGE)?;
        match flag.as_str() {
            "--connections" => options.connections = value.parse()?,
            "--size" => options.size = value.parse()?,
            "--seconds" => options.seconds = value.parse()?,
            _ => return Err(USAGE.into()),
        }
    }
    Ok(options)
}

/// Where the visit of this number comes from.
fn source(number: u64) -> SocketAddrV4 {
    let port = PORTS.start + number / ADDRESSES % (PORTS.end - PORTS.start);
    SocketAddrV4::new(Ipv4Addr::new(127, 0, 1, 1 + (number % ADDRESSES) as u8), port as u16)
}

/// Begins the next visit, in this place.
fn begin(epoll: &OwnedFd, target: SocketAddr, number: &mut u64, place: usize) -> io::Result<Visit> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    while let Err(error) = net::bind(&socket, &source(*number)) {
        if error != Errno::ADDRINUSE {
            return Err(error.into());
        }
        *number += 1;
    }
    *number += 1;
    let begun = Instant::now();
    match net::connect(&socket, &target) {
        Ok(()) | Err(Errno::INPROGRESS) => {}
        Err(error) => return Err(error.into()),
    }
    let edges = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
    epoll::add(epoll, &socket, EventData::new_u64(place as u64), edges)?;
    Ok(Visit { socket, begun, sent: 0, received: 0 })
}

impl Visit {
    /// Does all that can be done without waiting. `Ok(Some(_))` when it is over: whether what came back is right.
    fn go_on(&mut self, message: &[u8], buffer: &mut [u8]) -> io::Result<Option<bool>> {
        while self.sent < message.len() {
            match net::send(&self.socket, &message[self.sent..], SendFlags::NOSIGNAL) {
                Ok(count) => self.sent += count,
                Err(Errno::AGAIN) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
        loop {
            let rest = message.len() - self.received;
            match net::recv(&self.socket, &mut buffer[..rest], RecvFlags::empty()) {
                Ok((0, _)) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok((count, _)) if buffer[..count] != message[self.received..][..count] => {
                    return Ok(Some(false));
                }
                Ok((count, _)) if count == rest => return Ok(Some(true)),
                Ok((count, _)) => self.received += count,
                Err(Errno::AGAIN) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn run(options: &Options) -> io::Result<(Tally, f64)> {
    let message: Vec<u8> = (0..options.size).map(|at| (at * 31) as u8).collect();
    let mut buffer = vec![0; options.size];
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let (mut tally, mut number) = (Tally::default(), 0);
    let mut visits: Vec<Option<Visit>> = Vec::new();
    let start = Instant::now();
    let end = start + Duration::from_secs_f64(options.seconds);
    for place in 0..options.connections {
        visits.push(Some(begin(&epoll, options.target, &mut number, place)?));
    }
    let mut events = Vec::with_capacity(EVENTS);
    let mut open = options.connections;
    while open > 0 {
        let patience = rustix::event::Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
        if epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), Some(&patience))? == 0 {
            tally.failed += open as u64;
            break;
        }
        for event in events.drain(..) {
            let place = event.data.u64() as usize;
            let Some(visit) = &mut visits[place] else { continue };
            match visit.go_on(&message, &mut buffer) {
                Ok(None) => continue,
                Ok(Some(true)) => {
                    tally.right += 1;
                    tally.microseconds.push(visit.begun.elapsed().as_micros() as u32);
                }
                Ok(Some(false)) => tally.wrong += 1,
                Err(_) => tally.failed += 1,
            }
            visits[place] = None;
            if Instant::now() < end {
                visits[place] = Some(begin(&epoll, options.target, &mut number, place)?);
            } else {
                open -= 1;
            }
        }
    }
    Ok((tally, start.elapsed().as_secs_f64()))
}

/// The time in milliseconds within which this part of the visits was over.
fn percentile(sorted: &[u32], part: f64) -> f64 {
    let place = ((sorted.len() as f64 * part) as usize).min(sorted.len().saturating_sub(1));
    sorted.get(place).map_or(0.0, |&microseconds| f64::from(microseconds) / 1e3)
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = options()?;
    let (mut tally, seconds) = run(&options)?;
    tally.microseconds.sort_unstable();
    let [p50, p99] = [0.5, 0.99].map(|part| percentile(&tally.microseconds, part));
    println!(
        "{{\"target\": \"{}\", \"connections\": {}, \"size\": {}, \"seconds\": {seconds}, \"right\": {}, \"wrong\": {}, \
         \"failed\": {}, \"lost\": {{}}, \"connect_errors\": {{}}, \"messages_per_second\": {}, \"p50_ms\": {p50}, \
         \"p99_ms\": {p99}, \"client_is_limit\": false}}",
        options.target,
        options.connections,
        options.size,
        tally.right,
        tally.wrong,
        tally.failed,
        tally.right as f64 / seconds,
    );
    Ok(())
}
