//! `Ending`, which all threads behind a server hold, and [`Ended`], which tells when the last of them has ended, and
//! why one did before its time.
#![forbid(unsafe_code)]

use std::{
    io::{self, PipeReader, PipeWriter, Write},
    os::fd::{AsFd, BorrowedFd},
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags};

use roadstead_proto::guard;

use crate::{
    outcome::Broken,
    wait::{FOR_EVER, wait_for},
};

/// Held by every thread behind a server: when the last lets go of it, all have ended.
#[derive(Clone)]
pub(crate) struct Ending {
    broken: Arc<OnceLock<Broken>>,
    pipe: Arc<PipeWriter>,
}

/// Who learns of the end.
#[derive(Debug)]
pub struct Ended {
    broken: Arc<OnceLock<Broken>>,
    /// Readable when a loop has broken, hung up when all threads have ended.
    pipe: PipeReader,
}

impl Ending {
    pub(crate) fn new() -> io::Result<(Self, Ended)> {
        let (reader, writer) = io::pipe()?;
        let broken = Arc::default();
        Ok((Self { broken: Arc::clone(&broken), pipe: Arc::new(writer) }, Ended { broken, pipe: reader }))
    }

    /// Runs a loop on this thread to its end. False if it broke, which is known at once.
    pub(crate) fn follow(&self, run: impl FnOnce() -> io::Result<()>) -> bool {
        let broken = match guard::catch(run) {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => Broken::System(Arc::new(error)),
            Err(said) => Broken::Panicked(said),
        };
        tracing::error!("{broken}");
        if self.broken.set(broken).is_ok() {
            // Fails only when nobody is there to read it.
            let _ = (&*self.pipe).write(&[0]);
        }
        false
    }
}

impl Ended {
    /// What has become of the threads; `None` while all is well.
    pub fn so_far(&self) -> Option<Result<(), Broken>> {
        // In this order: what broke is known before the last thread ends.
        let over = self.are_over(Duration::ZERO);
        match self.broken.get() {
            Some(broken) => Some(Err(broken.clone())),
            None => over.then_some(Ok(())),
        }
    }

    /// Waits until there is something to be learnt, or the time is over.
    pub fn wait(&self, patience: Duration) {
        self.look_for(PollFlags::IN, patience);
    }

    /// Waits until all threads have ended. False if the time was over before.
    pub(crate) fn are_over(&self, patience: Duration) -> bool {
        self.look_for(PollFlags::empty(), patience)
    }

    /// Of a hung up pipe the system tells whether it was asked or not.
    fn look_for(&self, flags: PollFlags, patience: Duration) -> bool {
        let until = Instant::now() + patience.min(FOR_EVER);
        let mut pipe = [PollFd::new(&self.pipe, flags)];
        while wait_for(&mut pipe, Some(until)).is_ok() {
            if !pipe[0].revents().is_empty() {
                return true;
            }
            if Instant::now() >= until {
                break;
            }
        }
        false
    }
}

impl AsFd for Ended {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_comes_when_the_last_has_let_go_and_what_broke_is_known_before() {
        let (ending, ended) = Ending::new().unwrap();
        let other = ending.clone();
        assert!(ending.follow(|| Ok(())) && ended.so_far().is_none());
        drop(ending);
        assert!(ended.so_far().is_none(), "another thread still runs");
        assert!(!other.follow(|| Err(io::ErrorKind::OutOfMemory.into())));
        ended.wait(Duration::MAX);
        assert!(matches!(ended.so_far(), Some(Err(Broken::System(_)))) && !ended.are_over(Duration::ZERO));
        assert!(!other.follow(|| panic!("as well")));
        drop(other);
        assert!(ended.are_over(Duration::MAX));
        assert!(matches!(ended.so_far(), Some(Err(Broken::System(_)))), "the first is the reason");
    }

    #[test]
    fn an_end_in_good_order_is_one() {
        let (ending, ended) = Ending::new().unwrap();
        assert!(ending.follow(|| Ok(())));
        drop(ending);
        ended.wait(Duration::MAX);
        assert!(matches!(ended.so_far(), Some(Ok(()))));
    }
}
