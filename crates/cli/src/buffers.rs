//! The buffers that the kernel keeps for the links of an exchange: asked for, read back, and told.

use std::{fmt, io};

use roadstead::exchange::{Listener, Options};
use roadstead_load::report::bytes;
use serde::Serialize;

use crate::numbers;

/// What was asked for, and what the kernel gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Buffers {
    pub(crate) asked_bytes: usize,
    pub(crate) send_bytes: usize,
    pub(crate) receive_bytes: usize,
}

/// Reads how large they are to be.
pub(crate) fn size() -> impl Fn(&str) -> Result<usize, String> + Clone + Send + Sync + 'static {
    numbers::bytes(4 << 10..=1 << 30)
}

impl Buffers {
    /// Has all links of an exchange that listens there have buffers of so many bytes, if that was asked for.
    pub(crate) fn ask(
        asked: Option<usize>,
        options: &mut Options,
        listener: &Listener,
    ) -> io::Result<Option<Self>> {
        (options.tuning.send_buffer, options.tuning.receive_buffer) = (asked, asked);
        let [send, receive] = listener.tune(options.tuning)?;
        Ok(asked.map(|asked_bytes| Self { asked_bytes, send_bytes: send, receive_bytes: receive }))
    }

    /// Whether the kernel gave less.
    pub(crate) fn are_cut(self) -> bool {
        self.send_bytes.min(self.receive_bytes) < self.asked_bytes
    }
}

impl fmt::Display for Buffers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [asked, send, receive] =
            [self.asked_bytes, self.send_bytes, self.receive_bytes].map(|size| bytes(size as u64));
        if self.are_cut() {
            write!(
                f,
                "socket buffers: of {asked} the kernel gave {send} for sending and {receive} for receiving; "
            )?;
            f.write_str("net.core.wmem_max and net.core.rmem_max are its limits")
        } else {
            write!(f, "socket buffers: {asked}, as asked for")
        }
    }
}

#[cfg(test)]
mod tests {
    use roadstead::exchange;

    use super::*;

    #[test]
    fn buffers_are_those_that_were_asked_for_and_what_was_cut_is_told() {
        let listener = exchange::listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let mut options = Options::default();
        assert_eq!(Buffers::ask(None, &mut options, &listener).unwrap(), None);
        assert_eq!(options, Options::default(), "the kernel sizes them");
        let given = Buffers::ask(Some(20_000), &mut options, &listener).unwrap().unwrap();
        let tuning = options.tuning;
        assert_eq!((tuning.send_buffer, tuning.receive_buffer), (Some(20_000), Some(20_000)));
        assert_eq!(given, Buffers { asked_bytes: 20_000, send_bytes: 20_000, receive_bytes: 20_000 });
        assert_eq!(given.to_string(), "socket buffers: 19.5 KiB, as asked for");
        for (send_bytes, receive_bytes) in [(19_999, 20_000), (20_000, 10_240)] {
            let cut = Buffers { send_bytes, receive_bytes, ..given };
            assert!(cut.are_cut() && cut.to_string().contains("of 19.5 KiB the kernel gave"), "{cut}");
        }
        assert_eq!([size()("16MiB").ok(), size()("4095").ok()], [Some(16 << 20), None]);
    }
}
