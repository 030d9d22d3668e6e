//! HTTP/1.1 over bytes (RFC 9110, RFC 9112): what a request's head says, where its body ends, and what an answer begins
//! with. No I/O, no connections: a session reads its input with this.
//!
//! | file | holds |
//! |---|---|
//! | `head` | the head of a request, whole or not; what is refused at once |
//! | `fields` | the fields of a head, looked for by name |
//! | `framing` | where the body behind a head ends |
//! | `body` | the bytes of a body, out of its frame |
//! | `answer` | the head of an answer |
//! | `status` | how a request went |
//!
//! # What is refused
//!
//! Two readers of the same bytes that disagree where a request ends can be played against each other (RFC 9112, section
//! 11.2). So whatever can be understood in two ways ends the connection: a length said twice, also if it is the same
//! twice; a length and a coding; a coding other than `chunked`; a folded line; a space before a colon; a host that is
//! missing or said twice; in a chunked body any line that does not end in CR LF. All that a stranger chooses the length of
//! has a limit: the head, its fields, and in a chunked body the lines between the chunks.
//!
//! ```
//! use roadstead_http::{Body, Framing, Head, Room, Status, Taken, read};
//!
//! let bytes = b"PUT /name HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
//! let mut room = Room::new();
//! let Head::Whole(length, request) = read(bytes, &mut room) else { panic!() };
//! assert_eq!((request.method, request.target, request.body), ("PUT", "/name", Framing::Chunked));
//!
//! let (mut body, mut rest, mut whole) = (Body::new(request.body), &bytes[length..], Vec::new());
//! while !body.is_over() {
//!     let Taken { used, data } = body.take(rest)?;
//!     whole.extend_from_slice(data);
//!     rest = &rest[used..];
//! }
//! assert_eq!((&whole[..], rest), (&b"abc"[..], &b""[..]));
//! # Ok::<(), Status>(())
//! ```
#![forbid(unsafe_code)]

mod answer;
mod body;
mod fields;
mod framing;
mod head;
mod status;

pub use answer::{AnswerHead, date};
pub use body::{Body, LONGEST_LINE, LONGEST_TRAILER, Taken};
pub use fields::Fields;
pub use framing::Framing;
pub use head::{Head, LONGEST, MOST_FIELDS, Request, Room, read};
pub use status::Status;
