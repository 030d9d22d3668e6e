//! The bytes of one file: as they are read, and as they are durable.

use std::collections::BTreeSet;

use crate::dice::Dice;

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// The bytes of one file.
#[derive(Debug, Default)]
pub(super) struct Content {
    current: Vec<u8>,
    durable: Vec<u8>,
    /// Sectors in which the two may differ and which a sync would carry over.
    dirty: BTreeSet<usize>,
    /// The shortest and the longest that it has been since it was synced.
    sizes: Option<(usize, usize)>,
}

impl Content {
    pub(super) fn durable(bytes: &[u8]) -> Self {
        Self { current: bytes.to_vec(), durable: bytes.to_vec(), ..Self::default() }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.current
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: usize) {
        let end = offset + bytes.len();
        if end > self.current.len() {
            self.set_size(end);
        }
        self.current[offset..end].copy_from_slice(bytes);
        self.touch(offset, end);
    }

    pub(super) fn set_size(&mut self, size: usize) {
        let before = self.current.len();
        self.current.resize(size, 0);
        // What was cut off is not to come back as soon as it is longer again.
        self.touch(size.min(before), size.max(before).max(self.durable.len()));
        let (least, most) = self.sizes.unwrap_or((before, before));
        self.sizes = Some((least.min(size), most.max(size)));
    }

    fn touch(&mut self, from: usize, to: usize) {
        self.dirty.extend(from / SECTOR..to.div_ceil(SECTOR));
    }

    pub(super) fn sync(&mut self) {
        self.durable.resize(self.current.len(), 0);
        for sector in std::mem::take(&mut self.dirty) {
            copy(&self.current, &mut self.durable, sector);
        }
        self.sizes = None;
    }

    /// Some of it reaches the disk before anybody asks for that.
    pub(super) fn write_back(&mut self, dice: &mut Dice) {
        if dice.below(2) == 0 {
            self.durable.resize(self.current.len(), 0);
        }
        for sector in &self.dirty {
            if dice.below(2) == 0 {
                copy(&self.current, &mut self.durable, *sector);
            }
        }
    }

    /// Some of it reaches the disk, and nothing of the rest will, though it can be read for as long as it is in memory.
    pub(super) fn fail_sync(&mut self, dice: &mut Dice) {
        if dice.below(2) == 0 {
            self.durable.resize(self.current.len(), 0);
        }
        let stays = dice.below(2) == 0;
        for sector in std::mem::take(&mut self.dirty) {
            match dice.below(2) {
                0 => copy(&self.current, &mut self.durable, sector),
                _ if stays => {}
                _ => lose(&mut self.current, &self.durable, sector),
            }
        }
        self.sizes = Some((self.current.len().min(self.durable.len()), self.current.len()));
    }

    /// Only what is durable is left, and of the rest whatever the seed says.
    pub(super) fn lose_power(&mut self, dice: &mut Dice) {
        let old = self.durable.len();
        let size = match self.sizes.take() {
            None => old,
            Some((least, most)) => match dice.below(3) {
                0 => old,
                1 => self.current.len(),
                _ => {
                    let (least, most) = (least.min(old), most.max(old));
                    least + dice.below(most - least + 1)
                }
            },
        };
        self.durable.resize(size, 0);
        let (all, none) = (dice.below(4) == 0, dice.below(4) == 0);
        for sector in std::mem::take(&mut self.dirty) {
            if all || !none && dice.below(2) == 0 {
                copy(&self.current, &mut self.durable, sector);
            } else if dice.below(4) == 0 {
                // It was never synced there: what is found may be anything.
                let end = size.min((sector + 1) * SECTOR);
                let begin = end.min(old.max(sector * SECTOR));
                self.durable[begin..end].iter_mut().for_each(|byte| *byte = dice.below(256) as u8);
            }
        }
        self.current.clone_from(&self.durable);
    }
}

/// The sector `number` of `from`, as far as both have it, becomes that of `to`.
fn copy(from: &[u8], to: &mut [u8], number: usize) {
    let end = ((number + 1) * SECTOR).min(from.len()).min(to.len());
    let begin = (number * SECTOR).min(end);
    to[begin..end].copy_from_slice(&from[begin..end]);
}

/// The sector `number` of `current` is what the disk has, or nothing.
fn lose(current: &mut [u8], durable: &[u8], number: usize) {
    let end = ((number + 1) * SECTOR).min(current.len());
    let begin = (number * SECTOR).min(end);
    current[begin..end].fill(0);
    copy(durable, current, number);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a file may be after the power has failed, over many seeds.
    fn outcomes(make: impl Fn(&mut Content, &mut Dice)) -> BTreeSet<Vec<u8>> {
        let play = |seed| {
            let (mut content, mut dice) = (Content::durable(b"old"), Dice::new(seed));
            make(&mut content, &mut dice);
            content.lose_power(&mut dice);
            assert_eq!(content.bytes(), content.durable);
            content.current
        };
        (0..3_000).map(play).collect()
    }

    #[test]
    fn what_was_synced_is_left_and_nothing_else_is_sure() {
        let kept = outcomes(|content, _| {
            content.write(b"new and longer", 0);
            content.sync();
        });
        assert_eq!(kept, BTreeSet::from([b"new and longer".to_vec()]));

        let torn = outcomes(|content, _| content.write(b"new", 0));
        assert_eq!(torn, BTreeSet::from([b"old".to_vec(), b"new".to_vec()]));

        let grown = outcomes(|content, _| content.write(b"er", 3));
        for expected in [&b"old"[..], b"older", b"olde", b"old\0\0", b"old\0"] {
            assert!(grown.contains(expected), "{expected:?} never comes to pass");
        }
        assert!(grown.iter().all(|left| left.starts_with(b"old") && left.len() <= 5));

        let cut = outcomes(|content, _| {
            content.set_size(1);
            content.write(b"!", 1);
        });
        for expected in [&b"old"[..], b"ol", b"o!", b"o"] {
            assert!(cut.contains(expected), "{expected:?} never comes to pass");
        }
    }

    #[test]
    fn sectors_are_written_each_for_itself() {
        let two = outcomes(|content, _| {
            content.write(&[1; 2 * SECTOR], 0);
            content.sync();
            content.write(&[2; 2 * SECTOR], 0);
        });
        let half = |first, second| [[first; SECTOR], [second; SECTOR]].concat();
        assert_eq!(two, BTreeSet::from([half(1, 1), half(1, 2), half(2, 1), half(2, 2)]));
    }

    #[test]
    fn what_was_taken_back_may_have_reached_the_disk() {
        let back = outcomes(|content, dice| {
            content.write(b"er", 3);
            content.write_back(dice);
            content.set_size(3);
        });
        assert!([&b"old"[..], b"older"].iter().all(|expected| back.contains(*expected)), "{back:?}");
        let synced = outcomes(|content, dice| {
            content.write(b"er", 3);
            content.write_back(dice);
            content.set_size(3);
            content.sync();
        });
        assert_eq!(synced, BTreeSet::from([b"old".to_vec()]));
    }

    #[test]
    fn after_a_failed_sync_another_one_syncs_nothing_of_it() {
        let lost = outcomes(|content, dice| {
            content.write(b"new", 0);
            content.fail_sync(dice);
            content.sync();
        });
        assert_eq!(lost, BTreeSet::from([b"old".to_vec(), b"new".to_vec()]));
        let again = outcomes(|content, dice| {
            content.write(b"new", 0);
            content.fail_sync(dice);
            content.write(b"new", 0);
            content.sync();
        });
        assert_eq!(again, BTreeSet::from([b"new".to_vec()]));
    }
}
