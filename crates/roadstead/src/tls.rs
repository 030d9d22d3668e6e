//! TLS 1.3 as a layer: [`Acceptor`] for servers, [`Connector`] for clients.
//!
//! ```no_run
//! # use roadstead::{Context, Done, Input, Peer, Scope, Server, Service, Session};
//! # struct Shout;
//! # struct Line;
//! # impl Service for Shout {
//! #     type Session = Line;
//! #     const SCOPE: Scope = Scope::Connection;
//! #     fn open(&self, _: &Peer) -> Line { Line }
//! # }
//! # impl Session for Line {
//! #     type Reply = ();
//! #     fn receive(&mut self, _: &mut Input<'_>, _: &mut Context<'_, Self>) -> Done { Ok(()) }
//! # }
//! use roadstead::tls::{Acceptor, Clients, Keys};
//!
//! let keys = Keys::load("keys/server-1".as_ref())?; // Made by `roadstead keys --out keys`.
//! let server = Server::new(Shout).bind("127.0.0.1:7007").layer(Acceptor::new(&keys, Clients::Known)?).start()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What stands behind it, and what it costs, is said in `roadstead-tls`.
#![forbid(unsafe_code)]

pub use roadstead_tls::{Acceptor, Clients, Connector, Expect, Keys, NotAPin, Pin, TlsError, read_pin};
