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

// They panic where nobody can be told any more.
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod budget;
pub mod connection;
pub mod dial;
pub mod exchange;
pub mod frame;
pub mod host;
pub mod input;
pub mod layer;
pub mod log;
pub mod model;
pub mod output;
pub mod queue;
pub mod server;
pub mod service;
pub mod signals;
pub mod sim;
pub mod stats;
pub mod ticket;
pub mod tls;
pub mod tuning;

mod accept;
mod audit;
mod blob;
mod blocking;
mod chunk;
mod clean;
mod close;
mod descriptors;
mod ending;
mod endpoint;
mod error;
mod failed;
mod file;
mod flight;
mod free;
mod guard;
mod identity;
mod interrupt;
mod lives;
mod models;
mod net;
mod orders;
mod os;
mod outcome;
mod peer;
mod proactor;
mod reactor;
mod run;
mod session;
mod slots;
mod sync;
mod threads;
mod unread;
mod wait;

/// Through which a session answers.
pub mod context {
    pub use crate::session::{Busy, Context};
}

pub use blob::Blob;
pub use budget::Budget;
pub use dial::Dialer;
pub use file::File;
pub use frame::Frame;
pub use input::{Chunk, Input};
pub use layer::{Identity, Layer, Layers};
pub use model::Model;
pub use output::Output;
pub use queue::{Job, Queue, Step};
pub use server::{Running, Server};
pub use service::{Close, Closed, Done, JobId, Lost, Peer, Ready, Scope, Service, Session};
pub use session::{Busy, Context};
pub use ticket::{Ticket, Waker};
pub use tuning::Tuning;

/// The front page of the project, whose example is to compile as it stands.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct FrontPage;
