//! The cap on sends in flight: how much of what all connections of a loop send the kernel may hold on to.
//!
//! A send that was submitted pins the pages that it reads until they come home. One that would pin too many waits in line,
//! and its bytes are not lent before its turn. When the system has no room the cap falls to half of what is pinned, and
//! every send that goes well raises it by a page: as TCP treats congestion (RFC 5681, section 3.1).
//!
//! What layers read of files, to be sent next, is capped in the same way and in a line of its own: a slow disk is to keep
//! nobody from sending. The cap on sends is the budget's; that on reads is as large as a usual one.
//!
//! What is lent comes home in a box that is used for the next send.
#![forbid(unsafe_code)]

use std::{collections::BTreeMap, mem};

use roadstead_proto::{
    blob::FileRange,
    budget::give_back,
    connection::{BLOCK, Driven},
    output::{Lent, Output},
    ticket::Token,
};

use crate::free::FreeList;

/// What is read at most at once, in bytes.
const READS: usize = 8 << 20;
/// What can be pinned at least, in bytes.
const PAGE: usize = 4 << 10;
/// Boxes that are kept for the next sends.
const FREE: usize = 64;

/// How many bytes of an output a send may have to be in memory: all that are, and of a file that comes first a part.
pub(super) fn weight(output: &Output) -> usize {
    output.buffered() + output.front_file().map_or(0, part)
}

/// How many bytes of a file are read at once.
pub(super) fn part(range: &FileRange) -> usize {
    range.len.min(BLOCK as u64) as usize
}

/// How many pages a send of so many bytes pins.
pub(super) fn pages(bytes: usize) -> usize {
    bytes.div_ceil(PAGE).max(1)
}

/// A place in line. Whoever leaves it needs it: among thousands it would take too long to look for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place(u64);

/// The sends of all connections of a loop.
#[derive(Debug)]
pub(super) struct Sends {
    /// Pages that may be pinned at most, that may be now, and that are.
    most: usize,
    limit: usize,
    pinned: usize,
    /// Who waits, in order of arrival.
    line: BTreeMap<Place, Token>,
    next: Place,
    free: FreeList<Box<Lent>>,
}

impl Sends {
    /// At most so many bytes, in whole pages, and one page at least.
    pub(crate) fn new(bytes: usize) -> Self {
        let most = (bytes / PAGE).max(1);
        let (line, free) = (BTreeMap::new(), FreeList::new(FREE));
        Self { most, limit: most, pinned: 0, line, next: Place(0), free }
    }

    /// What `endpoint` sends next, for a send that begins and has taken so many pages.
    pub(crate) fn lend(&mut self, endpoint: &mut Driven, taken: usize) -> Box<Lent> {
        let mut lent = self.free.take().unwrap_or_else(Lent::new);
        endpoint.lend(&mut lent);
        // No more is lent at once than an operation takes.
        lent.weight = pages(weight(&lent)).min(taken);
        self.give_back(taken - lent.weight);
        lent
    }

    /// What was lent to a send has come home, and pins nothing any more.
    pub(crate) fn take_back(&mut self, mut lent: Box<Lent>) {
        self.give_back(mem::take(&mut lent.weight));
        lent.clear();
        self.free.put(lent);
    }

    /// So many pages are pinned no more.
    pub(super) fn give_back(&mut self, pages: usize) {
        give_back(&mut self.pinned, pages);
    }

    /// Nothing is to be done for a while.
    pub(crate) fn trim(&mut self) {
        self.free.trim();
    }

    /// Whether a send of so many pages may begin.
    ///
    /// # Errors
    /// The place in line of a connection that has to wait.
    pub(crate) fn begin(&mut self, token: Token, pages: usize) -> Result<(), Place> {
        if self.line.is_empty() && self.take(pages) {
            return Ok(());
        }
        let place = self.next;
        self.next.0 += 1;
        self.line.insert(place, token);
        Err(place)
    }

    /// Who has waited longest.
    pub(crate) fn first(&self) -> Option<Token> {
        self.line.first_key_value().map(|(_, &token)| token)
    }

    /// Whether the send of who has waited longest, of so many pages, may begin now.
    pub(super) fn begin_first(&mut self, pages: usize) -> bool {
        let begins = self.take(pages);
        if begins {
            self.line.pop_first();
        }
        begins
    }

    /// A connection waits no longer.
    pub(crate) fn leave(&mut self, place: Place) {
        self.line.remove(&place);
    }

    /// A send went well.
    pub(crate) fn went_well(&mut self) {
        self.limit = (self.limit + 1).min(self.most);
    }

    /// The system had no room for an operation.
    pub(crate) fn exhausted(&mut self) {
        self.limit = (self.limit.min(self.pinned) / 2).max(1);
    }

    /// One send may always be in flight, however large it is.
    fn take(&mut self, pages: usize) -> bool {
        let fits = self.pinned == 0 || pages <= self.limit.saturating_sub(self.pinned);
        self.pinned += if fits { pages } else { 0 };
        fits
    }
}

/// The lines of a loop: of what is sent, and of what is read to be sent next.
#[derive(Debug)]
pub(super) struct Lines {
    pub(super) sends: Sends,
    pub(super) reads: Sends,
}

impl Lines {
    /// With at most so many bytes of sends.
    pub(super) fn new(sends: usize) -> Self {
        Self { sends: Sends::new(sends), reads: Sends::new(READS) }
    }

    /// The line for reads, or for sends.
    pub(super) fn of(&mut self, reads: bool) -> &mut Sends {
        if reads { &mut self.reads } else { &mut self.sends }
    }

    /// Nothing is to be done for a while.
    pub(super) fn trim(&mut self) {
        self.sends.trim();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        time::{Duration, Instant},
    };

    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// In pages.
    const MOST: usize = READS / PAGE;

    fn sends() -> Sends {
        Sends::new(READS)
    }

    /// A send of so many pages is done, well or not.
    fn end(sends: &mut Sends, pages: usize, well: bool) {
        if well {
            sends.went_well();
        }
        let mut lent = Lent::new();
        lent.weight = pages;
        sends.take_back(lent);
    }

    #[test]
    fn the_cap_holds_at_its_edge() {
        for (last, begins) in [(1, true), (2, true), (3, false)] {
            let mut sends = sends();
            assert!(sends.begin(Token(0), MOST - 2).is_ok());
            assert_eq!(sends.begin(Token(1), last).is_ok(), begins, "{last} more pages where two are left");
        }
        assert!(sends().begin(Token(0), MOST + 1).is_ok(), "alone, a send may be of any size");
        assert_eq!([0, 1, PAGE, PAGE + 1].map(pages), [1, 1, 1, 2]);
    }

    #[test]
    fn the_cap_is_the_budgets_in_whole_pages_and_one_page_at_least() {
        for (bytes, most) in [(0, 1), (1, 1), (PAGE, 1), (2 * PAGE - 1, 1), (2 * PAGE, 2), (9 * PAGE, 9)] {
            let mut sends = Sends::new(bytes);
            let begun = (0..20).map_while(|number| sends.begin(Token(number), 1).ok()).count();
            assert_eq!(begun, most, "{bytes} bytes");
            sends.went_well();
            assert_eq!(sends.limit, most);
        }
        let mut huge = Sends::new(usize::MAX);
        assert!(huge.begin(Token(0), usize::MAX / PAGE).is_ok() && huge.begin(Token(1), 1).is_err());
    }

    #[test]
    fn who_fits_does_not_overtake_who_does_not() {
        let mut sends = sends();
        assert!(sends.begin(Token(0), MOST).is_ok() && sends.begin(Token(1), MOST).is_err());
        let second = sends.begin(Token(2), 1).unwrap_err();
        end(&mut sends, MOST, true);
        assert!(sends.begin(Token(3), 1).is_err(), "there is room, and there are others");
        assert_eq!(sends.first(), Some(Token(1)));
        assert!(sends.begin_first(MOST) && !sends.begin_first(1));
        sends.leave(second);
        assert_eq!(sends.first(), Some(Token(3)));
    }

    #[test]
    fn a_system_without_room_gets_half_and_one_page_more_for_every_send_that_goes_well() {
        let mut sends = sends();
        assert!(sends.begin(Token(0), 100).is_ok() && sends.begin(Token(1), 100).is_ok());
        sends.exhausted();
        end(&mut sends, 100, false);
        assert_eq!(sends.limit, 100);
        assert!(sends.begin(Token(2), 1).is_err());
        for _ in 0..10 {
            sends.exhausted();
        }
        assert_eq!(sends.limit, 1, "never nothing");
        end(&mut sends, 100, true);
        assert_eq!(sends.limit, 2);
    }

    #[test]
    fn a_million_who_leave_at_once_do_not_look_for_their_places() {
        let mut sends = sends();
        assert!(sends.begin(Token(0), MOST).is_ok());
        let places: Vec<_> =
            (1..=1_000_000).map(|number| sends.begin(Token(number), 1).unwrap_err()).collect();
        let begun = Instant::now();
        for place in places.into_iter().rev() {
            sends.leave(place);
            assert!(begun.elapsed() < Duration::from_secs(60), "a search of the line for each takes minutes");
        }
        assert_eq!(sends.first(), None);
    }

    proptest! {
        #[test]
        fn nobody_waits_while_nothing_is_in_flight(steps in vec((0..5u8, 1..2 * MOST), 0..300)) {
            let (mut sends, mut line, mut in_flight) = (sends(), VecDeque::new(), VecDeque::new());
            for (number, (what, pages)) in steps.into_iter().enumerate() {
                let token = Token(number as u64);
                match what {
                    0 | 1 => match sends.begin(token, pages) {
                        Ok(()) => in_flight.push_back(pages),
                        Err(place) => line.push_back((place, token, pages)),
                    },
                    2 => if let Some((place, ..)) = line.remove(pages % line.len().max(1)) { sends.leave(place) },
                    3 => sends.exhausted(),
                    _ => {
                        if let Some(pages) = in_flight.pop_front() { end(&mut sends, pages, pages % 3 > 0) }
                        while let Some(&(_, token, pages)) = line.front() {
                            prop_assert_eq!(sends.first(), Some(token), "in order of arrival");
                            if !sends.begin_first(pages) { break }
                            line.pop_front();
                            in_flight.push_back(pages);
                        }
                    }
                }
                prop_assert!(line.is_empty() || !in_flight.is_empty(), "they would wait for ever");
                prop_assert!(in_flight.len() <= 1 || sends.pinned <= MOST);
                prop_assert_eq!(sends.pinned, in_flight.iter().sum::<usize>());
                prop_assert!((1..=MOST).contains(&sends.limit));
            }
        }
    }
}
