//! What is typed, byte by byte: that somebody has seen enough, or that nobody types any more.
//!
//! Crossterm's events would tell of more, but reading them never comes back from a terminal that was closed.

use std::{
    fs::File,
    io::{self, IsTerminal},
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::{Errno, read},
};

const ESCAPE: u8 = 0x1b;
const CONTROL_C: u8 = 0x03;

/// A terminal that shows no keys and edits no lines.
pub(super) struct Keys(OwnedFd);

impl Keys {
    /// Of stdin, or if that is none of the terminal that this process was started from: tty(4).
    pub(super) fn new() -> io::Result<Self> {
        let stdin = io::stdin();
        Ok(Self(match stdin.is_terminal() {
            true => stdin.as_fd().try_clone_to_owned()?,
            false => File::open("/dev/tty")?.into(),
        }))
    }

    /// Waits for so long. Whether it is to end: by `q`, Escape or Ctrl-C, or because the terminal was closed.
    pub(super) fn end(&self, patience: Duration) -> io::Result<bool> {
        let patience = Timespec::try_from(patience).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&patience)) {
            Ok(0) | Err(Errno::INTR) => return Ok(false),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let mut typed = [0; 64];
        match read(&self.0, &mut typed) {
            Ok(0) | Err(Errno::IO) => Ok(true),
            Ok(count) => Ok(ends(&typed[..count])),
            Err(Errno::INTR | Errno::AGAIN) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// Whether one of these ends it. What begins with Escape and goes on is some other key.
fn ends(typed: &[u8]) -> bool {
    match typed {
        [ESCAPE, rest @ ..] => rest.is_empty(),
        _ => typed.iter().any(|key| matches!(*key, b'q' | CONTROL_C)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q_escape_and_control_c_end_it_and_nothing_else_does() {
        for typed in [&b"q"[..], b"xq", b"\x1b", b"\x03"] {
            assert!(ends(typed), "{typed:?}");
        }
        for typed in [&b""[..], b"c", b"Q", b"\r", b"\x1b[A", b"\x1bOq"] {
            assert!(!ends(typed), "{typed:?}");
        }
    }
}
