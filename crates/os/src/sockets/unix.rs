//! Unix sockets that listen: their files are made, found to be left behind, and removed.
//!
//! A path outlives the socket that was bound to it. So one that is there already is asked whether anybody is there: if
//! the system says that nobody is, it is removed, under a lock of its directory, so that of two servers that begin at
//! once only one decides. It belongs to its owner alone (mode 0600), from the moment that it is there: whoever wants to
//! let others in changes that, or does not show them the directory. An abstract name has neither file nor mode.
#![forbid(unsafe_code)]

use std::{
    ffi::{OsStr, OsString},
    io::{self, ErrorKind},
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{
        AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, Stat, fchmod, flock, openat, statat, unlinkat,
    },
    io::Errno,
    process::{Pid, getpid},
};
use socket2::{Domain, SockAddr, Socket, Type};

use roadstead_proto::{Address, UnixName};

use super::address::to_system;

/// How long the lock of a directory is waited for. Nobody has reason to keep it.
const PATIENCE: Duration = Duration::from_secs(2);
const MOMENT: Duration = Duration::from_millis(5);

/// A listening socket of that name that does not block, and its file, if it has one.
pub fn listen(name: &UnixName, backlog: i32) -> io::Result<(OwnedFd, Option<SocketFile>)> {
    let address = to_system(&Address::from(name.clone()))?;
    let Some(path) = name.path() else {
        let socket = socket(Type::STREAM)?;
        socket.bind(&address)?;
        socket.listen(backlog)?;
        return Ok((socket.into(), None));
    };
    let place = Place::of(path)?;
    let socket = bind(&place, &address)?;
    socket.listen(backlog)?;
    let is = identity(&place.look()?);
    Ok((socket.into(), Some(SocketFile { place, is, maker: Some(getpid()) })))
}

fn socket(kind: Type) -> io::Result<Socket> {
    Socket::new(Domain::UNIX, kind.nonblocking(), None)
}

/// Binds a socket there, in place of one that nobody listens on.
fn bind(place: &Place, address: &SockAddr) -> io::Result<Socket> {
    let socket = socket(Type::STREAM)?;
    // The file has the mode of the socket, less what umask takes.
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    match socket.bind(address) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            // Anybody who may read the directory can lock it, so whoever finds nothing in the way does not wait for it.
            let locked = place.lock()?;
            let bound = place.clear(address).and_then(|()| socket.bind(address));
            flock(&locked, FlockOperation::Unlock)?;
            bound?;
        }
        bound => bound?,
    }
    Ok(socket)
}

/// Where a file is or will be.
#[derive(Debug)]
struct Place {
    directory: OwnedFd,
    file: OsString,
}

impl Place {
    fn of(path: &[u8]) -> io::Result<Self> {
        let path = Path::new(OsStr::from_bytes(path));
        let file = path.file_name().ok_or_else(|| io::Error::from(ErrorKind::IsADirectory))?.to_owned();
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat(CWD, parent.unwrap_or(Path::new(".")), flags, Mode::empty())?;
        Ok(Self { directory, file })
    }

    fn lock(&self) -> io::Result<OwnedFd> {
        let until = Instant::now() + PATIENCE;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat(&self.directory, ".", flags, Mode::empty())?;
        loop {
            match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) if Instant::now() < until => thread::sleep(MOMENT),
                Err(Errno::WOULDBLOCK) => {
                    let kept = "another process keeps its directory locked (flock)";
                    return Err(io::Error::new(ErrorKind::ResourceBusy, kept));
                }
                locked => return Ok(locked.map(|()| directory)?),
            }
        }
    }

    fn look(&self) -> rustix::io::Result<Stat> {
        statat(self.directory.as_fd(), &self.file, AtFlags::SYMLINK_NOFOLLOW)
    }

    /// Removes the file that is in the way, if it is a socket on which nobody listens.
    fn clear(&self, address: &SockAddr) -> io::Result<()> {
        if FileType::from_raw_mode(self.look()?.st_mode) != FileType::Socket {
            return Err(io::Error::new(ErrorKind::AlreadyExists, "there is a file, and it is no socket"));
        }
        // A socket for datagrams is refused where nobody is, and of another kind where somebody may listen, who then sees
        // nothing of it: unix(7), ECONNREFUSED and EPROTOTYPE.
        match socket(Type::DGRAM)?.connect(address) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(self.remove()?),
            // Whatever else it says, somebody may be there.
            _ => Err(Errno::ADDRINUSE.into()),
        }
    }

    fn remove(&self) -> rustix::io::Result<()> {
        unlinkat(&self.directory, &self.file, AtFlags::empty())
    }
}

/// Which file it is.
fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

/// The file of a listening socket, which goes when this is dropped: by the process that has made it, and only if it is
/// still the same. Whoever drops it has the socket still, so that no other file can have its number.
#[derive(Debug)]
pub struct SocketFile {
    place: Place,
    is: (u64, u64),
    /// None: it is somebody else's now.
    maker: Option<Pid>,
}

impl SocketFile {
    /// Leaves the file to whoever has the socket from now on.
    pub fn leave(mut self) {
        self.maker = None;
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_there = || self.place.look().is_ok_and(|stat| identity(&stat) == self.is);
        if self.maker == Some(getpid()) && is_there() {
            // What cannot be removed is found to be left behind by whoever comes next.
            let _ = self.place.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::net::{UnixListener, UnixStream},
        sync::Barrier,
    };

    use super::*;

    fn at(path: &Path) -> io::Result<(OwnedFd, Option<SocketFile>)> {
        listen(&UnixName::at(path).unwrap(), 16)
    }

    #[test]
    fn of_those_who_come_at_once_to_a_file_that_was_left_behind_one_listens() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        for _ in 0..50 {
            drop(UnixListener::bind(&path).unwrap());
            let together = Barrier::new(4);
            let came = thread::scope(|scope| {
                let come = || {
                    together.wait();
                    at(&path)
                };
                let all = [(); 4].map(|()| scope.spawn(come));
                all.map(|one| one.join().unwrap())
            });
            let refused = came.iter().filter_map(|listening| listening.as_ref().err());
            assert!(refused.clone().all(|error| error.kind() == ErrorKind::AddrInUse));
            assert_eq!(refused.count(), 3);
            UnixStream::connect(&path).unwrap();
            drop(came);
            assert!(!path.exists());
        }
    }

    #[test]
    fn a_file_goes_with_its_maker_unless_it_was_left_to_another_or_is_another() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let (socket, file) = at(&path).unwrap();
        file.unwrap().leave();
        assert!(UnixStream::connect(&path).is_ok(), "the taker's");
        drop(socket);
        let (_socket, file) = at(&path).unwrap();
        let mut file = file.unwrap();
        // As in a child of its maker.
        file.maker = Pid::from_raw(1);
        drop(file);
        assert!(path.exists());
        fs::remove_file(&path).unwrap();
        let (_socket, file) = at(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "letters").unwrap();
        drop(file);
        assert_eq!(fs::read(&path).unwrap(), b"letters");
    }

    #[test]
    fn a_directory_that_somebody_keeps_locked_is_said_to_be_where_something_is_in_the_way() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let locked = fs::File::open(dir.path()).unwrap();
        flock(&locked, FlockOperation::LockExclusive).unwrap();
        drop(at(&path).unwrap());
        drop(UnixListener::bind(&path).unwrap());
        assert_eq!(at(&path).unwrap_err().kind(), ErrorKind::ResourceBusy);
        drop(locked);
        let (_socket, file) = at(&path).unwrap();
        let locked = fs::File::open(dir.path()).unwrap();
        flock(&locked, FlockOperation::NonBlockingLockExclusive).unwrap();
        drop(file);
        assert!(!path.exists(), "an end waits for nobody");
    }

    #[test]
    fn who_lives_at_a_path_is_not_disturbed_whatever_lives_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        for kind in [Type::STREAM, Type::SEQPACKET, Type::DGRAM] {
            let other = socket(kind).unwrap();
            other.bind(&SockAddr::unix(&path).unwrap()).unwrap();
            assert_eq!(at(&path).unwrap_err().kind(), ErrorKind::AddrInUse, "it may be about to listen");
            drop(other);
            drop(at(&path).unwrap());
        }
        let target = dir.path().join("target");
        fs::write(&target, "").unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&target, &link).unwrap();
        for other in [&target, &link, &dir.path().to_path_buf()] {
            assert_eq!(at(other).unwrap_err().kind(), ErrorKind::AlreadyExists, "{other:?}");
        }
        assert!(target.exists() && link.exists());
        assert_eq!(at(Path::new("/")).unwrap_err().kind(), ErrorKind::IsADirectory);
    }
}
