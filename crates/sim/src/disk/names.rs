//! The names of files: as they are found, and as they are durable.

use std::collections::BTreeMap;

use roadstead_proto::disk::Name;

use crate::dice::Dice;

/// Which file has which name.
#[derive(Debug, Default)]
pub(super) struct Names {
    current: BTreeMap<Name, u64>,
    durable: BTreeMap<Name, u64>,
    /// What has changed and may not be durable, in its order.
    pending: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Change {
    Made(Name, u64),
    Removed(Name),
    Renamed(Name, Name, u64),
}

impl Change {
    /// The directory whose sync makes it durable.
    fn dir(&self) -> Option<Name> {
        match self {
            Self::Made(name, _) | Self::Removed(name) | Self::Renamed(_, name, _) => name.parent(),
        }
    }

    fn apply(&self, names: &mut BTreeMap<Name, u64>) {
        match self {
            Self::Made(name, file) => drop(names.insert(name.clone(), *file)),
            Self::Removed(name) => drop(names.remove(name)),
            Self::Renamed(from, to, file) => {
                if names.get(from) == Some(file) {
                    names.remove(from);
                }
                names.insert(to.clone(), *file);
            }
        }
    }
}

impl Names {
    pub(super) fn get(&self, name: &Name) -> Option<u64> {
        self.current.get(name).copied()
    }

    /// All that are found.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Name, u64)> {
        self.current.iter().map(|(name, file)| (name, *file))
    }

    /// Durable at once.
    pub(super) fn put(&mut self, name: &Name, file: u64) {
        self.current.insert(name.clone(), file);
        self.durable.insert(name.clone(), file);
    }

    pub(super) fn make(&mut self, name: &Name, file: u64) {
        self.change(Change::Made(name.clone(), file));
    }

    pub(super) fn remove(&mut self, name: &Name) {
        self.change(Change::Removed(name.clone()));
    }

    pub(super) fn rename(&mut self, from: &Name, to: &Name, file: u64) {
        self.change(Change::Renamed(from.clone(), to.clone(), file));
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.current);
        self.pending.push(change);
    }

    pub(super) fn sync(&mut self, dir: Option<&Name>) {
        let durable = &mut self.durable;
        self.pending.retain(|change| {
            let synced = change.dir().as_ref() == dir;
            if synced {
                change.apply(durable);
            }
            !synced
        });
    }

    /// Each change that was not synced has come to pass, or not.
    pub(super) fn lose_power(&mut self, dice: &mut Dice) {
        let (all, none) = (dice.below(4) == 0, dice.below(4) == 0);
        for change in std::mem::take(&mut self.pending) {
            if all || !none && dice.below(2) == 0 {
                change.apply(&mut self.durable);
            }
        }
        self.current.clone_from(&self.durable);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    /// What names there may be after the power has failed, over many seeds.
    fn outcomes(make: impl Fn(&mut Names)) -> BTreeSet<String> {
        let play = |seed| {
            let mut names = Names::default();
            names.put(&name("old"), 1);
            make(&mut names);
            names.lose_power(&mut Dice::new(seed));
            names.iter().map(|(name, file)| format!("{name}={file} ")).collect()
        };
        (0..1_000).map(play).collect()
    }

    fn set(texts: &[&str]) -> BTreeSet<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn a_name_is_durable_when_its_directory_was_synced() {
        let replace = |names: &mut Names| {
            names.make(&name("new"), 2);
            names.rename(&name("new"), &name("old"), 2);
        };
        assert_eq!(outcomes(replace), set(&["old=1 ", "old=2 ", "new=2 old=1 "]));
        let elsewhere = |names: &mut Names| {
            replace(names);
            names.sync(Some(&name("dir")));
        };
        assert_eq!(outcomes(elsewhere), outcomes(replace));
        let synced = |names: &mut Names| {
            replace(names);
            names.sync(None);
        };
        assert_eq!(outcomes(synced), set(&["old=2 "]));
        assert_eq!(outcomes(|names| names.remove(&name("old"))), set(&["", "old=1 "]));
    }
}
