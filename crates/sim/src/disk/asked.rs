//! What a process may ask of a simulated disk.

use std::{collections::BTreeSet, io, ops::ControlFlow, sync::Arc};

use roadstead_proto::disk::{Disk, DiskFile, Entry, Kind, Lock, Name, Opening};

use super::{content::Content, file::SimulatedFile, process::Process, state::Fate};

impl Disk for Process {
    fn open(&self, name: &Name, opening: Opening) -> io::Result<Arc<dyn DiskFile>> {
        let (mut state, fate) = self.begin(|state| state.faults.names)?;
        state.expect_dir(name.parent().as_ref())?;
        let number = match (opening, state.names.get(name)) {
            (Opening::New, Some(_)) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Opening::New, None) if state.room() == 0 => return Err(io::ErrorKind::StorageFull.into()),
            (Opening::New, None) => {
                if fate == Fate::Fails {
                    state.end(fate)?;
                }
                let number = state.number();
                state.contents.insert(number, Content::default());
                state.names.make(name, number);
                number
            }
            (_, found) => found.ok_or(io::ErrorKind::NotFound)?,
        };
        state.end(fate)?;
        Ok(Arc::new(SimulatedFile::new(self.clone(), number, opening != Opening::Read)))
    }

    fn rename(&self, from: &Name, to: &Name) -> io::Result<()> {
        let (mut state, fate) = self.begin(|state| state.faults.names)?;
        let number = state.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        state.expect_dir(to.parent().as_ref())?;
        if fate != Fate::Fails {
            state.names.rename(from, to, number);
        }
        state.end(fate)
    }

    fn remove(&self, name: &Name) -> io::Result<()> {
        let (mut state, fate) = self.begin(|state| state.faults.names)?;
        state.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        if fate != Fate::Fails {
            state.names.remove(name);
        }
        state.end(fate)
    }

    fn sync_dir(&self, dir: Option<&Name>) -> io::Result<()> {
        let (mut state, fate) = self.begin(|state| state.faults.names)?;
        state.expect_dir(dir)?;
        if fate != Fate::Fails {
            state.names.sync(dir);
        }
        state.end(fate)
    }

    fn list(&self, dir: Option<&Name>, each: &mut dyn FnMut(Entry) -> ControlFlow<()>) -> io::Result<()> {
        let (state, fate) = self.begin(|state| state.faults.names)?;
        state.expect_dir(dir)?;
        state.end(fate)?;
        let dirs: BTreeSet<Name> = state.dirs.iter().filter_map(|dir| Name::new(dir.as_str()).ok()).collect();
        let dirs = dirs.into_iter().map(|name| (name, Kind::Directory));
        let files = state.names.iter().map(|(name, _)| (name.clone(), Kind::File));
        let mut entries: Vec<_> =
            dirs.chain(files).filter(|(name, _)| name.parent().as_ref() == dir).collect();
        drop(state);
        self.state().dice.shuffle(&mut entries);
        for (name, kind) in entries {
            if each(Entry { name: Name::new(name.last()).ok(), kind }).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn lock(&self, name: &Name) -> io::Result<Lock> {
        let (mut state, fate) = self.begin(|state| state.faults.names)?;
        state.expect_dir(name.parent().as_ref())?;
        state.end(fate)?;
        if !state.locks.insert(name.clone()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if state.names.get(name).is_none() {
            let number = state.number();
            state.contents.insert(number, Content::default());
            state.names.make(name, number);
        }
        Ok(Lock::new(Held { process: self.clone(), name: name.clone() }))
    }
}

/// A lock that a process holds.
struct Held {
    process: Process,
    name: Name,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.process.state();
        if state.generation == self.process.generation {
            state.locks.remove(&self.name);
        }
    }
}
