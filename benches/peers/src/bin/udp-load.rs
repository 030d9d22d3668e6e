//! A load for echo servers over UDP: what is answered right, and how long that took.
//!
//! `udp-load IP:PORT --peers N --window W --size BYTES --seconds S [--offload]`. So many sockets send one datagram each
//! in turn, `window` of them before their answers are waited for. With `--offload` each sends `window` at once, which
//! the system cuts (`UDP_SEGMENT`), and takes what it puts together (`UDP_GRO`). Prints a JSON object.

use std::{
    env, io, mem,
    net::UdpSocket,
    os::fd::AsRawFd,
    time::{Duration, Instant},
};

/// What is not answered then is lost.
const LOST: Duration = Duration::from_millis(200);

struct Plan {
    window: usize,
    size: usize,
    seconds: f64,
    offload: bool,
}

fn set(socket: &UdpSocket, option: libc::c_int, to: libc::c_int) -> io::Result<()> {
    let length = mem::size_of_val(&to) as libc::socklen_t;
    // SAFETY: the value is there during the call, and has that length.
    let done = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_UDP, option, (&raw const to).cast(), length)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn peer(server: &str, plan: &Plan) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(LOST))?;
    if plan.offload {
        set(&socket, libc::UDP_SEGMENT, plan.size as libc::c_int)?;
        set(&socket, libc::UDP_GRO, 1)?;
    }
    Ok(socket)
}

/// Sends, and counts the datagrams that come back as they were.
fn turn(peers: &[UdpSocket], plan: &Plan, said: &[u8], heard: &mut [u8]) -> io::Result<usize> {
    let (mut right, mut waits) = (0, plan.window * plan.size);
    let each = if plan.offload { plan.window * plan.size } else { plan.size };
    for peer in peers {
        peer.send(&said[..each])?;
    }
    for peer in peers.iter().cycle() {
        if waits == 0 {
            break;
        }
        match peer.recv(heard) {
            Ok(length) if length % plan.size == 0 && heard[..length] == said[..length] => {
                right += length / plan.size;
                waits = waits.saturating_sub(length);
            }
            Ok(_) => return Err(io::Error::other("a wrong answer")),
            Err(_) => break,
        }
    }
    Ok(right)
}

fn main() -> io::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let option = |name: &str, usual: f64| {
        let at = arguments.iter().position(|argument| argument == name);
        at.and_then(|at| arguments.get(at + 1)?.parse().ok()).unwrap_or(usual)
    };
    let server = arguments.first().ok_or_else(|| io::Error::other("where is the server?"))?;
    let plan = Plan {
        window: option("--window", 32.0) as usize,
        size: option("--size", 1_200.0) as usize,
        seconds: option("--seconds", 2.0),
        offload: arguments.iter().any(|argument| argument == "--offload"),
    };
    let peers = (0..option("--peers", 1_000.0) as usize).map(|_| peer(server, &plan));
    let peers = peers.collect::<io::Result<Vec<_>>>()?;
    let said: Vec<u8> = (0..plan.window * plan.size).map(|at| (at % plan.size) as u8).collect();
    let (mut heard, mut right, mut lost, begun) = (vec![0; 65_535], 0, 0, Instant::now());
    let at_once = if plan.offload { 1 } else { plan.window.min(peers.len()) };
    'all: loop {
        for some in peers.chunks(at_once) {
            if begun.elapsed().as_secs_f64() >= plan.seconds {
                break 'all;
            }
            let asked = if plan.offload { plan.window } else { some.len() };
            let answered = turn(some, &Plan { window: asked, ..plan }, &said, &mut heard)?;
            right += answered;
            lost += asked - answered;
        }
    }
    println!("{{\"right\": {right}, \"lost\": {lost}, \"seconds\": {}}}", begun.elapsed().as_secs_f64());
    Ok(())
}
