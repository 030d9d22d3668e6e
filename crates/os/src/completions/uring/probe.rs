//! Whether this system has an io_uring that is enough, and how it is set up: found out by doing it, once.
#![forbid(unsafe_code)]

use std::{io, sync::OnceLock};

use io_uring::{IoUring, Probe, opcode};

/// Places for submissions. When all are taken they are submitted, so this bounds a batch and nothing else.
pub(super) const SUBMISSIONS: u32 = 256;

/// Places for completions. What does not fit is kept by the kernel.
const COMPLETIONS: u32 = 4096;

/// A way to set a ring up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Setup {
    /// One thread submits, and completions come while it waits for them: Linux 6.1.
    Deferred,
    /// Completions come when that thread is in the kernel anyway: Linux 5.19.
    Cooperative,
    /// Completions interrupt.
    Plain,
}

/// From the best down.
const LADDER: [Setup; 3] = [Setup::Deferred, Setup::Cooperative, Setup::Plain];

/// The operations that are asked for, and what is said where one is missing.
const NEEDED: [(u8, &str); 6] = [
    (opcode::Accept::CODE, "this kernel's io_uring cannot accept"),
    (opcode::AsyncCancel::CODE, "this kernel's io_uring cannot cancel"),
    (opcode::Connect::CODE, "this kernel's io_uring cannot connect"),
    (opcode::PollAdd::CODE, "this kernel's io_uring cannot poll"),
    (opcode::Recv::CODE, "this kernel's io_uring cannot receive"),
    (opcode::SendMsg::CODE, "this kernel's io_uring cannot send"),
];

/// Why this machine cannot run the model; `None` if it can.
pub fn obstacle() -> Option<&'static str> {
    found().err()
}

/// A ring for the thread that calls.
pub(super) fn ring() -> io::Result<IoUring> {
    let setup = found().map_err(|why| io::Error::new(io::ErrorKind::Unsupported, why))?;
    make(setup)
}

fn found() -> Result<Setup, &'static str> {
    static FOUND: OnceLock<Result<Setup, &'static str>> = OnceLock::new();
    if let Some(found) = FOUND.get() {
        return *found;
    }
    let found = match descend(make) {
        Ok((setup, ring)) => check(&ring).map(|()| setup),
        // That descriptors or memory are short may pass.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM)) => {
            return Err(why(&error));
        }
        Err(error) => Err(why(&error)),
    };
    *FOUND.get_or_init(|| found)
}

fn make(setup: Setup) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder.setup_clamp().setup_cqsize(COMPLETIONS);
    match setup {
        Setup::Deferred => builder.setup_single_issuer().setup_defer_taskrun(),
        Setup::Cooperative => builder.setup_coop_taskrun(),
        Setup::Plain => &mut builder,
    };
    builder.build(SUBMISSIONS)
}

/// Makes the first that the system knows.
fn descend<R>(mut make: impl FnMut(Setup) -> io::Result<R>) -> io::Result<(Setup, R)> {
    let mut unknown = io::ErrorKind::InvalidInput.into();
    for setup in LADDER {
        match make(setup) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => unknown = error,
            made => return made.map(|ring| (setup, ring)),
        }
    }
    Err(unknown)
}

/// Whether a ring can do all that is asked of it.
fn check(ring: &IoUring) -> Result<(), &'static str> {
    if !ring.params().is_feature_ext_arg() {
        return Err("this kernel's io_uring cannot wait for a time: it is older than Linux 5.11");
    }
    if !ring.params().is_feature_nodrop() {
        return Err("this kernel's io_uring may lose completions: it is older than Linux 5.5");
    }
    let mut probe = Probe::new();
    if ring.submitter().register_probe(&mut probe).is_err() {
        return Err("this kernel's io_uring does not say what it can do: it is older than Linux 5.6");
    }
    missing(|code| probe.is_supported(code)).map_or(Ok(()), Err)
}

/// The first operation that is missing, in words.
fn missing(has: impl Fn(u8) -> bool) -> Option<&'static str> {
    NEEDED.iter().find(|(code, _)| !has(*code)).map(|(_, why)| *why)
}

/// Why a ring was refused, in words.
fn why(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            "io_uring is switched off here: sysctl kernel.io_uring_disabled, or a container's seccomp filter"
        }
        Some(libc::ENOSYS) => "this kernel has no io_uring, or a container's seccomp filter hides it",
        Some(libc::ENOMEM) => "there is no memory for an io_uring: raise RLIMIT_MEMLOCK (`ulimit -l`)",
        Some(libc::EMFILE | libc::ENFILE) => "no descriptors are left for an io_uring",
        Some(libc::EINVAL) => "this kernel's io_uring knows none of our ways to set it up",
        _ => "io_uring could not be set up",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setup_that_is_unknown_is_followed_by_the_next_and_one_that_is_refused_by_none() {
        let of = |error: i32, knows: &[Setup]| {
            let mut tried = Vec::new();
            let found = descend(|setup| {
                tried.push(setup);
                if knows.contains(&setup) { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
            });
            (found.map(|(setup, ())| setup).map_err(|error| error.raw_os_error()), tried.len())
        };
        assert_eq!(of(libc::EINVAL, &LADDER), (Ok(Setup::Deferred), 1));
        assert_eq!(of(libc::EINVAL, &LADDER[1..]), (Ok(Setup::Cooperative), 2));
        assert_eq!(of(libc::EINVAL, &LADDER[2..]), (Ok(Setup::Plain), 3));
        assert_eq!(of(libc::EINVAL, &[]), (Err(Some(libc::EINVAL)), 3));
        assert_eq!(of(libc::EPERM, &LADDER[1..]), (Err(Some(libc::EPERM)), 1), "it is switched off");
    }

    #[test]
    fn what_stands_in_the_way_is_said_in_words() {
        let said = |error| why(&io::Error::from_raw_os_error(error));
        assert!(said(libc::EPERM).contains("kernel.io_uring_disabled"));
        assert!(said(libc::ENOSYS).contains("no io_uring"));
        assert!(said(libc::ENOMEM).contains("RLIMIT_MEMLOCK"));
        assert_eq!(missing(|_| true), None);
        assert_eq!(missing(|code| code != opcode::Recv::CODE), Some("this kernel's io_uring cannot receive"));
    }
}
