//! Private vector search on three servers, none of which can read the vectors, the queries or the results. Stands on
//! `roadstead-proto`, `roadstead-exchange`, `roadstead-tls` and `roadstead-trident-arithmetic`.
//!
//! An owner [shares](share::share) a set of vectors into three directories, one for each server, and one for clients. A
//! client reads a row by its index (`fetch`) or asks for nearest neighbours (`search`). One corrupt server of three
//! learns nothing of rows, indices, queries and results, and cannot make a client accept a wrong row or, in a checked
//! search, a wrong score. An unchecked search is private only against servers that follow the protocol. Two servers
//! that collude learn everything, and whoever may search can read every row: `docs/trident-security.md` has the bounds.
//!
//! | directory | what is in it | starts with |
//! |---|---|---|
//! | [`arithmetic`] | computing with shares and secrets | [`field`], the integers modulo p |
//! | [`agreed`] | files, messages, and who is who | [`Manifest`](agreed::manifest::Manifest) |
//! | [`owner`] | vectors in, shares out | [`share`](owner::share::share) over [`Rows`](owner::data::Rows) |
//! | [`server`] | admits questions and answers them | [`Store`](server::store::Store), and an [`Admission`](server::admission::Admission) for every connection |
//! | [`client`] | asks, and checks what it is told | [`Collection`](client::query::Collection) |
//!
//! What they start with needs no network. [`server::Trident`] and [`client::Client`] are the two ends as sessions of
//! the engine, over TLS as [`trust`] says.
//!
//! ```
//! use rand::SeedableRng;
//! use roadstead_trident::{admission::*, data::Generated, party::Party, prg::Expander, query::Collection, share::*, store::Store, wire::*};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let dir = tempfile::tempdir()?;
//! share(&mut Generated::new(500, 1), dir.path(), Options { search: true, ..Options::default() }, |_done, _of| {})?;
//! let client = Collection::open(&dir.path().join(CLIENT_DIR))?;
//!
//! let nonces = [[1; 16], [2; 16], [3; 16]]; // Fresh and random in earnest.
//! let mut rng = rand_chacha::ChaCha20Rng::from_seed([4; 32]); // Seeded by the system in earnest, for every question.
//! let expander = Expander::new(&client.digest(), &nonces);
//! let (fetch, requests) = client.fetch(123, 1, &expander, &mut rng)?;
//! let mut answers = Vec::new();
//! for (party, request) in Party::ALL.into_iter().zip(&requests) {
//!     let store = Store::open(&server_dir(dir.path(), party), party, 1 << 30)?;
//!     let mut connection = Admission::new(nonces[party.index()]);
//!     let hello = Hello { version: VERSION, party, digest: client.digest() };
//!     connection.receive(&store, Kind::Hello, &hello.encode())?;
//!     connection.receive(&store, Kind::Nonces, &encode_nonces(&nonces))?;
//!     if let Admitted::Fetch(query) = connection.receive(&store, Kind::Fetch, request)? {
//!         answers.extend(store.fetch(&[query]));
//!     }
//! }
//! let row = fetch.finish([&answers[0], &answers[1], &answers[2]])?;
//! assert_eq!(row.bytes.len(), 128);
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]
// They panic where nobody can be told any more.
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod agreed;
pub mod client;
mod entropy;
#[doc(hidden)]
pub mod fuzz;
pub mod owner;
pub mod server;

pub use roadstead_trident_arithmetic as arithmetic;
// The names by which programs, tests and fuzz targets know the files of the directories.
pub use agreed::{files, integrity, manifest, reshare, scales, trust, wire};
pub use arithmetic::{check, dpf, field, kernels, lines, mask, party, prg, quantise, selector, shamir};
pub use client::{query, shared};
pub use owner::{data, share};
pub use server::{admission, peers, store};
