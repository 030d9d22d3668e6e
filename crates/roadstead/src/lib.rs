//! # Roadstead: a server engine
//!
//! A network service is written once, as a state machine over bytes, and runs unchanged on any I/O model.
//!
//! ```
//! use roadstead::{Context, Done, Input, Peer, Scope, Server, Service, Session};
//!
//! struct Shout;
//! struct Line;
//!
//! impl Service for Shout {
//!     type Session = Line;
//!     const SCOPE: Scope = Scope::Connection;
//!     fn open(&self, _: &Peer) -> Line { Line }
//! }
//!
//! impl Session for Line {
//!     type Reply = ();
//!     fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
//!         let upper = input.bytes().to_ascii_uppercase();
//!         input.consume(upper.len());
//!         cx.output().write(&upper);
//!         Ok(())
//!     }
//! }
//!
//! let server = Server::new(Shout).bind("127.0.0.1:0").start()?;
//! # use std::{io::{Read, Write}, net::{Shutdown, TcpStream}};
//! let mut client = TcpStream::connect(server.addresses()[0])?;
//! client.write_all(b"ahoy")?;
//! client.shutdown(Shutdown::Write)?;
//! let mut answer = String::new();
//! client.read_to_string(&mut answer)?;
//! assert_eq!(answer, "AHOY");
//! # drop(client);
//! server.drain(std::time::Duration::from_secs(1))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! ## From here
//!
//! | to | see |
//! |---|---|
//! | serve until Ctrl-C | [`Server::run`] |
//! | bound what it may use | [`Server::budget`], [`Budget`] |
//! | choose who waits for the network, and how | [`Server::model`], [`Model`] |
//! | compute for long, or elsewhere | [`Context::run`], [`Context::defer`], [`Server::workers`] |
//! | speak TLS | [`Server::layer`], [`tls`] |
//! | connect to others | [`Context::connect`], [`Dialer`] |
//! | have state that many connections use | [`Actor`] |
//! | pass on what comes to somebody else | [`Forward`] |
//! | answer datagrams | [`Server::bind_datagrams`], [`datagrams`] |
//! | keep files, or a log that loses nothing | [`disk`], [`Directory`], [`journal`] |
//! | begin processes, wait for them and end them | [`process`] |
//! | test it in a network that fails | [`sim`] |
//!
//! ## What there is
//!
//! A service needs a dozen of these types: [`Service`], [`Session`], [`Context`], [`Input`], [`Output`], [`Done`] with
//! [`Close`] and [`Closed`], [`Ready`], [`Peer`]; and whoever starts it [`Server`], [`Running`], [`Budget`] and
//! [`Model`]. The next ten are for long work ([`Ticket`], [`Job`], [`Step`], [`JobId`], [`Lost`], [`Queue`]), for being
//! called ([`Waker`]), for connections of your own ([`Dialer`], [`Forward`], [`Reading`]), for what connections share
//! ([`Actor`], [`Asked`]), and for what stands before a session ([`Layers`],
//! [`Frame`]).
//!
//! | module | holds |
//! |---|---|
//! | [`server`], [`model`] | how a server starts and ends, and why it does not; what can be said of a model |
//! | [`layer`], [`tls`] | between wire and session: a layer of your own, or TLS 1.3 |
//! | [`datagrams`] | services over UDP: see [`Server::bind_datagrams`] |
//! | [`frame`] | length-prefixed messages |
//! | [`actor`] | state that many connections use, without a lock that any of them waits for |
//! | [`disk`], [`journal`] | files, asked for in jobs; an append-only log that loses nothing it has acknowledged |
//! | [`exchange`] | messages between the servers of a cluster |
//! | [`sim`] | a network, a poller and a clock made of one seed, under the real loops |
//! | [`log`] | a log that never waits, whoever reads it |
//! | [`process`] | a process of its own for a function, or for what a type carries along |
//! | [`signals`] | hear the signals that end a program, whatever it has inherited; pass none on as blocked |
//!
//! [`tls`], [`exchange`] and [`sim`] are features of this crate, and none of them is compiled for whoever does not ask.
//! What loops and connections are made of is in crates of its own, of which `roadstead-proto` is all that a service
//! needs.

#![forbid(unsafe_code)]
// They panic where nobody can be told any more.
#![deny(clippy::print_stdout, clippy::print_stderr)]

#[cfg(feature = "exchange")]
pub mod exchange;
pub mod model;
pub mod server;
#[cfg(feature = "tls")]
pub mod tls;

mod dial;
mod error;
mod loops;
mod models;
mod place;
mod run;
mod running;
mod udp;

pub use dial::Dialer;
pub use model::Model;
pub use roadstead_os::{disk::Directory, file::File};
pub use roadstead_proto::{
    Actor, Address, Asked, AtEnd, Blob, Budget, Busy, Chunk, Close, Closed, Context, DatagramContext,
    DatagramService, DatagramSession, Done, Forward, Frame, Identity, Input, Job, JobId, Layer, Layers, Lost,
    Observer, Output, Peer, Queue, Reading, Ready, Scope, Service, Session, Step, Ticket, Tuning, UnixName,
    Waker, actor, datagrams, disk, frame, journal,
};
#[cfg(feature = "sim")]
pub use roadstead_sim as sim;
pub use server::{Running, Server};

/// Where one end of a connection is: TCP, or a Unix socket.
pub mod address {
    pub use roadstead_proto::address::{Address, BadAddress, BadUnixName, LONGEST, UnixName, is_unix};
}

/// Listening sockets that a process is started with, by systemd for one: sd_listen_fds(3).
pub mod activation {
    pub use roadstead_os::activation::{ActivationError, sockets};
}

/// Between the wire and a session.
pub mod layer {
    pub use roadstead_proto::layer::{Credentials, End, Identity, Layer, Layers, Unfit};
}

/// A log on stderr that costs a server nothing: see [`Log`](log::Log).
pub mod log {
    pub use roadstead_os::log::{Dropped, Log, clean};
}

/// A process of its own for a function, or for what a type carries along: see [`Child`](process::Child).
///
/// A process that begins others by fork(2) has one thread, and it is looked at each time whether that is so: a lock that
/// another thread held would stay locked in the copy. So children come before a [`Server`] on threads, or in a program
/// that has none; and beside the models that fork, whose own children are made in the same way.
pub mod process {
    pub use roadstead_os::processes::child::{Child, Exit, Run, Unstarted};
}

/// The signals that end a program, heard whatever it has inherited, and passed on as blocked to none.
pub mod signals {
    pub use roadstead_os::signals::{restore, unblocked};
}

/// The front page of the project, whose example is to compile as it stands.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct FrontPage;

/// The chapter whose examples are processes.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/processes.md")]
struct Processes;
