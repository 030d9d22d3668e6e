//! What threads take of the messages that came on a link: its peer never waits for room that it is not told of.

#[path = "../../../exchange/src/taken.rs"]
mod taken;

use loom::thread;
use std::sync::Arc;
use taken::Taken;

use crate::{
    play,
    ticket::{Loop, TOKEN, WakeFlag, Waker},
};

/// Tells the peer if that is due, as the link does after whatever happened. Answers of how much it was told.
fn confirm(taken: &Taken, told: u64) -> u64 {
    let (count, due) = taken.count();
    assert!(count >= told, "less than before");
    if due {
        taken.tell(count);
        count
    } else {
        told
    }
}

#[test]
fn a_peer_is_told_before_it_waits_for_what_others_have_taken() {
    play(3, || {
        let (home, wake_flag) = (Loop::new(), Arc::new(WakeFlag::default()));
        wake_flag.attach(&home.wake_queue, TOKEN);
        let taken = Taken::new(2, Waker(Arc::clone(&wake_flag)));
        let threads = [(); 2].map(|()| {
            let taken = taken.clone();
            thread::spawn(move || taken.add(1))
        });
        let mut told = 0;
        while told < 2 {
            if !home.turn().is_empty() {
                assert!(wake_flag.take());
                told = confirm(&taken, told);
            }
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(taken.count(), (2, false));
    });
}

#[test]
fn a_link_that_tells_while_it_is_taken_is_called_again_for_the_rest() {
    play(3, || {
        let (home, wake_flag) = (Loop::new(), Arc::new(WakeFlag::default()));
        wake_flag.attach(&home.wake_queue, TOKEN);
        let taken = Taken::new(2, Waker(Arc::clone(&wake_flag)));
        let taking = taken.clone();
        let thread = thread::spawn(move || (0..2).for_each(|_| taking.add(2)));
        // Something has come, and it tells on that occasion.
        let mut told = confirm(&taken, 0);
        while told < 4 {
            if !home.turn().is_empty() && wake_flag.take() {
                told = confirm(&taken, told);
            }
        }
        thread.join().unwrap();
    });
}
