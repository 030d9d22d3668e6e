//! An actor's mailbox: nothing that is posted is left behind, nobody has the actor beside another, and who finds no
//! place takes none.

#[allow(dead_code, reason = "not all of it is needed here")]
#[path = "../../../proto/src/actor/mailbox.rs"]
mod mailbox;

use std::sync::Arc;

use loom::{sync::Mutex, thread};
use mailbox::{Comes, Mailbox};

use crate::play;

/// An actor that notes down what it is told.
struct Notes {
    mailbox: Mailbox<u32>,
    state: Mutex<Vec<u32>>,
}

impl Notes {
    fn new(places: usize) -> Arc<Self> {
        Arc::new(Self { mailbox: Mailbox::new(places), state: Mutex::default() })
    }

    /// For whoever has it, until it is let go of.
    fn serve(&self) {
        while let Some(messages) = self.mailbox.take() {
            self.state.try_lock().expect("nobody else has it").extend(messages);
        }
    }

    /// As a session does that asks for something: false if there is no room for that.
    fn ask(&self, message: u32) -> bool {
        if self.mailbox.claim() {
            self.state.try_lock().expect("nobody else has it").push(message);
            self.serve();
            return true;
        }
        let Some(place) = self.mailbox.reserve() else { return false };
        let mut comes = place.post(message);
        while comes == Comes::Perhaps {
            thread::yield_now();
            comes = self.mailbox.look();
        }
        if comes == Comes::Caller {
            self.serve();
        }
        true
    }

    /// As what is dropped does.
    fn leave(&self, message: u32) {
        if self.mailbox.post_last(message) {
            self.serve_in_a_hurry();
        }
    }

    fn serve_in_a_hurry(&self) {
        while let Some(messages) = self.mailbox.take() {
            self.state.try_lock().expect("nobody else has it").extend(messages);
            if self.mailbox.let_go() {
                return;
            }
        }
    }

    /// What was noted down. Nothing waits by then, and the actor is nobody's.
    fn end(&self) -> Vec<u32> {
        assert!(self.mailbox.claim(), "nobody has it");
        assert_eq!(self.mailbox.taken(), 0, "places were not given back");
        assert_eq!(self.mailbox.take(), None);
        self.state.try_lock().unwrap().clone()
    }
}

fn asking(notes: &Arc<Notes>, messages: &'static [u32]) -> thread::JoinHandle<Vec<bool>> {
    let notes = Arc::clone(notes);
    thread::spawn(move || messages.iter().map(|&message| notes.ask(message)).collect())
}

#[test]
fn all_that_is_asked_for_is_done_once_by_one_at_a_time() {
    play(3, || {
        let notes = Notes::new(3);
        let threads = [asking(&notes, &[1]), asking(&notes, &[2])];
        assert!(notes.ask(3));
        threads.into_iter().for_each(|thread| assert_eq!(thread.join().unwrap(), [true]));
        let mut done = notes.end();
        done.sort_unstable();
        assert_eq!(done, [1, 2, 3]);
    });
}

#[test]
fn what_one_thread_asks_for_is_done_in_its_order() {
    play(3, || {
        let notes = Notes::new(3);
        let other = asking(&notes, &[9]);
        let thread = asking(&notes, &[1, 2]);
        let asked = (other.join().unwrap(), thread.join().unwrap());
        assert_eq!(asked, (vec![true], vec![true, true]));
        let done: Vec<_> = notes.end().into_iter().filter(|&message| message != 9).collect();
        assert_eq!(done, [1, 2]);
    });
}

#[test]
fn who_finds_no_place_is_told_and_nothing_else_is_lost() {
    play(3, || {
        let notes = Notes::new(1);
        let threads = [asking(&notes, &[1]), asking(&notes, &[2])];
        let mut asked = vec![(3, notes.ask(3))];
        asked.extend([1, 2].into_iter().zip(threads.into_iter().flat_map(|thread| thread.join().unwrap())));
        let mut expected: Vec<_> =
            asked.iter().filter(|(_, taken)| *taken).map(|(number, _)| *number).collect();
        let mut done = notes.end();
        done.sort_unstable();
        expected.sort_unstable();
        assert_eq!(done, expected);
        assert!(!done.is_empty());
    });
}

#[test]
fn last_words_are_done_once_and_who_asks_meanwhile_is_answered() {
    play(2, || {
        let notes = Notes::new(3);
        let leaving = Arc::clone(&notes);
        let leaves = thread::spawn(move || leaving.leave(9));
        let asks = asking(&notes, &[1]);
        notes.leave(8);
        leaves.join().unwrap();
        assert_eq!(asks.join().unwrap(), [true]);
        let mut done = notes.end();
        done.sort_unstable();
        assert_eq!(done, [1, 8, 9]);
    });
}

#[test]
fn a_last_word_is_done_after_what_was_asked_before_it() {
    play(2, || {
        let notes = Notes::new(3);
        assert!(notes.mailbox.claim());
        // Somebody else has left already, so that last words are taken.
        assert!(!notes.mailbox.post_last(9));
        let leaving = Arc::clone(&notes);
        let leaves = thread::spawn(move || {
            let asked = leaving.ask(1);
            leaving.leave(2);
            asked
        });
        notes.serve();
        assert!(leaves.join().unwrap());
        let done: Vec<_> = notes.end().into_iter().filter(|&message| message != 9).collect();
        assert_eq!(done, [1, 2]);
    });
}

#[test]
fn what_was_left_to_a_job_that_is_dropped_is_done_and_what_comes_meanwhile_too() {
    play(2, || {
        let notes = Notes::new(3);
        assert!(notes.mailbox.claim());
        let asks = asking(&notes, &[1, 2]);
        notes.mailbox.hurry();
        notes.serve_in_a_hurry();
        assert_eq!(asks.join().unwrap(), [true, true]);
        assert_eq!(notes.end(), [1, 2]);
    });
}

#[test]
fn a_place_that_is_not_used_is_given_back() {
    play(3, || {
        let notes = Notes::new(1);
        assert!(notes.mailbox.claim());
        let reserving = Arc::clone(&notes);
        let thread = thread::spawn(move || drop(reserving.mailbox.reserve()));
        let place = notes.mailbox.reserve();
        thread.join().unwrap();
        drop(place);
        let place = notes.mailbox.reserve().expect("the only place is free");
        assert_eq!(place.post(1), Comes::Another, "it was claimed before");
        notes.serve();
        assert_eq!(notes.end(), [1]);
    });
}
