//! What a frame can ask of the program's `desk`, by its kind. `n` is the frame's first field, 0 if it has none.
//!
//! An answer has the kind of what was asked, unless said otherwise.

/// The same body.
pub const ECHO: u8 = 1;
/// A job that answers `n`.
pub const JOB: u8 = 2;
/// A job in `n` slices.
pub const SLICES: u8 = 3;
/// A ticket is put aside; the first of a connection has the number 0.
pub const HOLD: u8 = 4;
/// The ticket of number `n` is finished; the answer is one to [`HOLD`], with that number.
pub const FINISH: u8 = 5;
/// The ticket of number `n` is dropped.
pub const DROP: u8 = 6;
/// Another thread finishes a ticket after `n` milliseconds.
pub const LATER: u8 = 7;
/// A job that panics.
pub const PANIC_JOB: u8 = 8;
/// The session itself panics.
pub const PANIC: u8 = 9;
/// A body of `n` bytes.
pub const ANSWER: u8 = 10;
/// The first `n` bytes of the desk's file, which holds a [pattern](crate::client::pattern).
pub const FILE: u8 = 11;
/// The desk says `go away`, and calls the frame a violation.
pub const REFUSE: u8 = 12;
/// The same body; and the connection will wait for one more message when the server drains.
pub const STAY: u8 = 13;
/// A job that says `toils`, and takes `n` milliseconds.
pub const TOIL: u8 = 14;
/// The same without a ticket, so that nobody is answered; `rests` is the last that it says.
pub const DRUDGE: u8 = 15;
/// Programs are started, by the session and by a job; the answer has a bit for each signal that one of them has
/// inherited as blocked or ignored. With `n` they are to inherit none as blocked: `signals::unblocked`.
pub const PROGRAM: u8 = 16;
/// A job that answers `n`, and panics when it is dropped.
pub const BOMB: u8 = 17;
/// The session itself takes `n` milliseconds before it answers.
pub const SLEEP: u8 = 18;
/// The same bytes as for [`FILE`], of a file of the desk's own, which are made up when they are read.
pub const MADE_UP: u8 = 19;
/// The desk finishes sending, reads nothing for `n` milliseconds, and from then on takes what comes for a
/// [pattern](crate::client::pattern). At the peer's end it says `heard` and how many bytes of one have come.
pub const HUSH: u8 = 20;

/// Of the program's `counter`, which gives each byte a number: one that makes the operation panic.
pub const COUNTS_NOTHING: u8 = b'!';
/// One that takes its time.
pub const COUNTS_SLOWLY: u8 = b'~';

/// An answer: the budget has no room; its body is `n`.
pub const BUSY: u8 = 100;
/// An answer: the ticket was lost; its body is the kind of what was asked.
pub const LOST: u8 = 101;
