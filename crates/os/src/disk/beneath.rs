//! Opening what is below a directory, and nothing else.
#![forbid(unsafe_code)]

use std::{
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{self, Mode, OFlags, ResolveFlags},
    io::{Errno, Result, retry_on_intr},
};

/// How often a name is resolved anew because somebody renames a directory meanwhile.
const ATTEMPTS: usize = 100;

/// A directory that is not left.
#[derive(Debug)]
pub(super) struct Root {
    dir: OwnedFd,
    /// The system resolves names beneath it.
    pub(super) resolves: bool,
}

impl Root {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = retry_on_intr(|| fs::open(path, flags, Mode::empty()))?;
        let mut root = Self { dir, resolves: true };
        // Tried rather than asked for: a container may forbid it, with any error.
        root.resolves = root.resolve(".", OFlags::PATH | OFlags::DIRECTORY).is_ok();
        Ok(root)
    }

    /// Opens what a checked name, or `.`, stands for.
    pub(super) fn open_at(&self, name: &str, flags: OFlags) -> Result<OwnedFd> {
        if self.resolves { self.resolve(name, flags) } else { self.walk(name, flags) }
    }

    fn resolve(&self, name: &str, flags: OFlags) -> Result<OwnedFd> {
        let (flags, mode) = (flags | OFlags::CLOEXEC, own(flags));
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        for _ in 1..ATTEMPTS {
            match fs::openat2(&self.dir, name, flags, mode, how) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                opened => return opened,
            }
        }
        fs::openat2(&self.dir, name, flags, mode, how)
    }

    /// Opens one directory after the other, none of which is a link.
    fn walk(&self, name: &str, flags: OFlags) -> Result<OwnedFd> {
        let Some((dirs, last)) = name.rsplit_once('/') else {
            return step(&self.dir, name, flags);
        };
        let mut dirs = dirs.split('/');
        let through = OFlags::PATH | OFlags::DIRECTORY;
        let first = step(&self.dir, dirs.next().unwrap_or("."), through)?;
        let dir = dirs.try_fold(first, |dir, part| step(&dir, part, through))?;
        step(&dir, last, flags)
    }
}

fn step(dir: impl AsFd, part: &str, flags: OFlags) -> Result<OwnedFd> {
    let (flags, mode) = (flags | OFlags::CLOEXEC | OFlags::NOFOLLOW, own(flags));
    retry_on_intr(|| fs::openat(dir.as_fd(), part, flags, mode))
}

/// What a new file may be used for: by its owner, to be read and written.
fn own(flags: OFlags) -> Mode {
    if flags.contains(OFlags::CREATE) { Mode::RUSR | Mode::WUSR } else { Mode::empty() }
}
