//! What outlives the loops of a server: its listening sockets once more, and what is over when the last loop has ended.
#![forbid(unsafe_code)]

use std::{
    collections::HashSet,
    io, mem,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, PoisonError},
};

use rustix::fs::fstat;

use roadstead_drivers::accept::Listener;
use roadstead_proto::{host::Shared, queue::SharedQueue};

use crate::{sockets::unix::SocketFile, threads::jobs::JobThreads};

/// The listening sockets once more, for whoever takes them over, and the files of those that have one. They are closed,
/// and the files removed, when the loops let nobody in any more, or have ended: nobody is to wait there in vain.
#[derive(Debug, Clone)]
pub(super) struct Kept(Arc<Mutex<(Vec<SocketFile>, Vec<OwnedFd>)>>, Arc<Shared>);

impl Kept {
    /// Of a socket that several loops have, one: a successor's loops share it again.
    pub(super) fn of<'a>(
        listeners: impl Iterator<Item = &'a Listener<OwnedFd>>,
        files: Vec<SocketFile>,
        shared: &Arc<Shared>,
    ) -> io::Result<Self> {
        let (mut kept, mut known) = (Vec::new(), HashSet::new());
        for Listener { socket, .. } in listeners {
            if known.insert(fstat(socket)?.st_ino) {
                kept.push(socket.try_clone()?);
            }
        }
        Ok(Self(Arc::new(Mutex::new((files, kept))), Arc::clone(shared)))
    }

    fn take(&self) -> (Vec<SocketFile>, Vec<OwnedFd>) {
        self.1.shut();
        mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Hands the sockets over, and with them their files.
    pub(super) fn hand_over(&self) -> Vec<OwnedFd> {
        let (files, sockets) = self.take();
        files.into_iter().for_each(SocketFile::leave);
        sockets
    }

    /// Removes the files, and then closes the sockets.
    pub(super) fn close(&self) {
        drop(self.take());
    }
}

/// What is over when the last loop has ended: the logic units' work, and the listening sockets.
pub(super) struct AtEnd {
    queue: Option<Arc<SharedQueue>>,
    kept: Kept,
}

impl AtEnd {
    pub(super) fn new(job_threads: Option<&JobThreads>, kept: Kept) -> Self {
        Self { queue: JobThreads::queue(job_threads), kept }
    }
}

impl Drop for AtEnd {
    fn drop(&mut self) {
        self.kept.close();
        self.queue.iter().for_each(|queue| queue.stop());
    }
}
