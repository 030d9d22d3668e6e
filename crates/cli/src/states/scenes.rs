//! The scenes: what is done to bring each state about.
//!
//! A state that passes in no time is held by what keeps it in practice: a full backlog, or bytes that a client does not
//! take, behind which the end of the server's side has to wait.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpListener, TcpStream},
    os::fd::OwnedFd,
    thread,
    time::Duration,
};

use rustix::{
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, bind, connect, listen, socket, socket_with},
};

use super::{
    moment::{Moment, Witness},
    sockets::{
        End::{Client, Server},
        Sockets,
        State::{CloseWait, Established, FinWait1, FinWait2, LastAck, Listen, SynSent, TimeWait},
    },
};
use crate::{echo_server::EchoServer, outcome::Result};

/// What a scene comes to.
type Played = Result<Vec<Moment>>;

/// A title, and what is done.
type Scene = (&'static str, fn() -> Played);

/// All scenes.
pub(super) const SCENES: [Scene; 5] = [
    ("A backlog of one, and five who connect", backlog),
    ("The client ends first, and the server has more to say", client_first),
    ("The server ends first, and the client does not listen", server_first),
    ("A server is killed beside twenty clients", killed),
    ("A client ends behind a busy server that serves one at a time", behind_a_busy_one),
];

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The clients of the server that is killed.
const CLIENTS: usize = 20;

fn backlog() -> Played {
    let (_listener, server) = listener(1)?;
    let mut play = Witness::at(server);
    play.see("a program listens", Some(0), &[(Server, Listen, 1, "nobody has come")])?;
    let _waiting = [TcpStream::connect(server)?, TcpStream::connect(server)?];
    let (made, believe) = (
        "made by the system alone: the program has not heard of them",
        "connected, as far as they know; they may send",
    );
    play.see(
        "two clients connect, and the program accepts nobody",
        Some(2),
        &[
            (Server, Listen, 1, "the backlog, and one more"),
            (Server, Established, 2, made),
            (Client, Established, 2, believe),
        ],
    )?;
    let _turned_away = [begin(server)?, begin(server)?, begin(server)?];
    play.see(
        "three more connect",
        Some(2),
        &[
            (Server, Listen, 1, "it is full"),
            (Server, Established, 2, made),
            (Client, Established, 2, believe),
            (Client, SynSent, 3, "not answered: the system asks again for them, after a second at first"),
        ],
    )?;
    Ok(play.saw)
}

fn client_first() -> Played {
    let (listener, server) = listener(5)?;
    let mut client = TcpStream::connect(server)?;
    let mut served = listener.accept()?.0;
    let mut play = Witness::at(server);
    play.see(
        "a client connects, and the program accepts",
        Some(0),
        &[
            (Server, Listen, 1, "it has a descriptor of its own"),
            (Server, Established, 1, "what accept has answered"),
            (Client, Established, 1, "what connect has made"),
        ],
    )?;
    client.shutdown(Shutdown::Write)?;
    let still = (Server, Listen, 1, "");
    play.see(
        "the client ends its side",
        Some(0),
        &[
            still,
            (Server, CloseWait, 1, "recv answers 0; the program has not closed, and may go on sending"),
            (Client, FinWait2, 1, "its end was acknowledged, and the server's is waited for"),
        ],
    )?;
    fill(&mut served)?;
    drop(served);
    play.see(
        "the server sends more than the client takes, and closes",
        Some(0),
        &[
            still,
            (Server, LastAck, 1, "no program has it any more: its end waits behind what was sent"),
            (Client, FinWait2, 1, "it has read nothing yet"),
        ],
    )?;
    read_all(&mut client)?;
    drop(client);
    play.see(
        "the client reads to the end",
        Some(0),
        &[still, (Client, TimeWait, 1, "with who ended first, for a minute; the server has nothing left")],
    )?;
    Ok(play.saw)
}

fn server_first() -> Played {
    let (listener, server) = listener(5)?;
    let mut client = TcpStream::connect(server)?;
    let mut served = listener.accept()?.0;
    fill(&mut served)?;
    drop(served);
    let still = (Server, Listen, 1, "");
    let mut play = Witness::at(server);
    play.see(
        "the server sends more than the client takes, and closes",
        Some(0),
        &[
            still,
            (Server, FinWait1, 1, "its end is not acknowledged: it waits behind what was sent"),
            (Client, Established, 1, "it knows nothing of an end"),
        ],
    )?;
    read_all(&mut client)?;
    play.see(
        "the client reads to the end, and has not closed",
        Some(0),
        &[
            still,
            (Server, FinWait2, 1, "acknowledged; no program has it, so the system waits a minute at most"),
            (Client, CloseWait, 1, "it was told, and does not close"),
        ],
    )?;
    drop(client);
    play.see(
        "the client closes",
        Some(0),
        &[
            still,
            (Server, TimeWait, 1, "with who ended first: a server that closes keeps one for each client"),
        ],
    )?;
    Ok(play.saw)
}

fn killed() -> Played {
    let (mut process, server) = echo_server(&[])?;
    let clients = (0..CLIENTS).map(|_| served(server)).collect::<Result<Vec<_>>>()?;
    let mut play = Witness::at(server);
    play.see(
        "twenty clients are served",
        Some(0),
        &[
            (Server, Listen, 1, ""),
            (Server, Established, CLIENTS, "each has a descriptor of the process"),
            (Client, Established, CLIENTS, ""),
        ],
    )?;
    process.kill()?;
    process.wait()?;
    play.see(
        "kill -9: the system closes all descriptors of the process",
        None,
        &[
            (Server, FinWait2, CLIENTS, "ended first, by nobody's decision"),
            (Client, CloseWait, CLIENTS, "recv answers 0, as after any end"),
        ],
    )?;
    drop(clients);
    play.see(
        "the clients close",
        None,
        &[(Server, TimeWait, CLIENTS, "at the port of a server that is gone")],
    )?;
    // With SO_REUSEADDR, which the standard library sets here as Roadstead does.
    let _again = TcpListener::bind(server)?;
    play.see(
        "another server listens there, with SO_REUSEADDR; without it bind would fail",
        Some(0),
        &[(Server, Listen, 1, ""), (Server, TimeWait, CLIENTS, "they hold up nobody")],
    )?;
    Ok(play.saw)
}

fn behind_a_busy_one() -> Played {
    let (_process, server) =
        echo_server(&["--model", "iterative", "--first-byte", "3600", "--idle", "3600"])?;
    let first = served(server)?;
    drop(TcpStream::connect(server)?);
    let mut third = TcpStream::connect(server)?;
    third.write_all(b"!")?;
    let mut play = Witness::at(server);
    play.see(
        "one is served; a second one comes and goes; a third one comes and asks",
        Some(2),
        &[
            (Server, Listen, 1, ""),
            (Server, Established, 2, "the one that is served, and the third, which is not"),
            (Server, CloseWait, 1, "the second: who would close it has not accepted it"),
            (Client, Established, 2, "the first and the third"),
            (Client, FinWait2, 1, "the second's: its process may be gone by now"),
        ],
    )?;
    drop(first);
    third.set_read_timeout(Some(PATIENCE))?;
    third.read_exact(&mut [0])?;
    play.see(
        "the first ends: the second is accepted and closed, the third is answered",
        Some(0),
        &[
            (Server, Listen, 1, ""),
            (Server, Established, 1, "the third; none is left in CLOSE_WAIT"),
            (Client, Established, 1, ""),
            (Client, TimeWait, 2, "the first and the second, which ended first"),
        ],
    )?;
    Ok(play.saw)
}

/// A listener with this backlog, at a port where nothing is left of others: the system may give one again.
fn listener(backlog: i32) -> Result<(TcpListener, SocketAddrV4)> {
    unused(|| {
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
        bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))?;
        listen(&socket, backlog)?;
        let listener = TcpListener::from(socket);
        let address = listener.local_addr()?;
        Ok((listener, address))
    })
}

/// An echo server in a process of its own.
fn echo_server(options: &[&str]) -> Result<(EchoServer, SocketAddrV4)> {
    let options: Vec<String> = options.iter().map(|&option| option.into()).collect();
    unused(|| {
        let server = EchoServer::start(&options)?;
        let address = server.address();
        Ok((server, address))
    })
}

fn unused<T>(mut make: impl FnMut() -> Result<(T, SocketAddr)>) -> Result<(T, SocketAddrV4)> {
    for _ in 0..100 {
        if let (made, SocketAddr::V4(address)) = make()?
            && Sockets::of(address)?.ends == [((Server, Listen), 1)].into()
        {
            return Ok((made, address));
        }
    }
    Err("every port that the system gave had connections of others; wait a minute".into())
}

/// A client that is being connected, and not waited for.
fn begin(server: SocketAddrV4) -> Result<TcpStream> {
    let socket: OwnedFd = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::NONBLOCK, None)?;
    match connect(&socket, &server) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket.into()),
        Err(error) => Err(error.into()),
    }
}

/// A client that has had a byte echoed.
fn served(server: SocketAddrV4) -> Result<TcpStream> {
    let mut client = TcpStream::connect(server)?;
    client.set_read_timeout(Some(PATIENCE))?;
    client.write_all(b"!")?;
    client.read_exact(&mut [0])?;
    Ok(client)
}

/// Sends to who does not read, until nothing more is taken: neither by the system there nor by the one here.
fn fill(stream: &mut TcpStream) -> Result<()> {
    stream.set_nonblocking(true)?;
    let mut refused = 0;
    while refused < 5 {
        match stream.write(&[0; 1 << 16]) {
            Ok(_) => refused = 0,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                refused += 1;
                thread::sleep(Duration::from_millis(5));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn read_all(stream: &mut TcpStream) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    io::copy(stream, &mut io::sink())?;
    Ok(())
}
