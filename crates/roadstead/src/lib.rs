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
//! | test it in a network that fails | [`sim`] |
//!
//! ## The rooms
//!
//! | room | holds |
//! |---|---|
//! | [`service`] | what a service is: [`Service`], [`Session`], how a connection ends |
//! | [`connection`] | one connection without any I/O: told what happened, answers what to do next |
//! | [`input`], [`output`] | the bytes that came, the pieces that go |
//! | [`ticket`], [`queue`] | finishing something later; who runs the jobs, and in which order |
//! | [`budget`] | the hard limits |
//! | [`layer`], [`tls`] | between wire and session: TLS 1.3, or a layer of your own |
//! | [`frame`] | length-prefixed messages |
//! | [`exchange`] | messages between the servers of a cluster |
//! | `blocking`, `reactor`, `proactor` | the loops around a connection |
//! | [`sim`] | a network, a poller and a clock made of one seed, under the real loops |
//! | [`log`] | a log that never waits, whoever reads it |
//! | [`server`], [`dial`] | start a server, or run it in the foreground; hold outgoing connections |
//! | [`signals`] | hear the signals that end a program, whatever it has inherited; pass none on as blocked |

#![forbid(unsafe_code)]
// They panic where nobody can be told any more.
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod dial;
#[cfg(feature = "exchange")]
pub mod exchange;
pub mod model;
pub mod server;
#[cfg(feature = "tls")]
pub mod tls;

mod error;
mod models;
mod run;

pub use roadstead_os::{log, signals};
pub use roadstead_proto::{
    budget, connection, frame, host, input, layer, output, queue, service, stats, ticket, tuning,
};
#[cfg(feature = "sim")]
pub use roadstead_sim as sim;

/// Through which a session answers.
pub mod context {
    pub use roadstead_proto::session::{Busy, Context};
}

pub use dial::Dialer;
pub use model::Model;
pub use roadstead_os::file::File;
pub use roadstead_proto::{
    Blob, Budget, Busy, Chunk, Close, Closed, Context, Done, Frame, Identity, Input, Job, JobId, Layer,
    Layers, Lost, Output, Peer, Queue, Ready, Scope, Service, Session, Step, Ticket, Tuning, Waker,
};
pub use server::{Running, Server};

/// The front page of the project, whose example is to compile as it stands.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct FrontPage;
