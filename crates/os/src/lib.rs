//! All that calls the system, by concern: sockets, pollers, completions, signals, processes, threads, the log.
//! Implements what `roadstead-drivers` asks for.
//!
//! | module | holds |
//! |---|---|
//! | [`sockets`], [`file`](mod@file), [`disk`] | what a socket, a file and a directory of files are here |
//! | [`pollers`] | who is ready: spin, select, poll, epoll, signals |
//! | [`completions`] | what is done: POSIX AIO, io_uring |
//! | [`threads`], [`processes`] | who serves |
//! | [`ending`], [`outcome`] | when all threads of a server have ended; what did not end well |
//! | [`activation`] | listening sockets that a process begins with |
//! | [`host`] | the system's clock and randomness, for a loop |
//! | [`descriptors`], [`processors`] | how many descriptors and processors a process may have |
//! | `scheduling` | whether a loop that is woken takes the processor from who runs there |
//! | [`audit`] | asking a server by a signal what it holds |
//! | [`signals`], [`wait`], [`wake_fd`] | what ends a program; waiting for descriptors, and ending that from another thread |
//! | [`log`] | a log that never waits, whoever reads it |

// They panic where nobody can be told any more.
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod activation;
pub mod audit;
pub mod completions;
pub mod descriptors;
pub mod disk;
pub mod ending;
pub mod file;
pub mod host;
pub mod log;
pub mod outcome;
pub mod pollers;
pub mod processes;
pub mod processors;
mod scheduling;
pub mod signals;
pub mod sockets;
pub mod threads;
pub mod wait;
pub mod wake_fd;
