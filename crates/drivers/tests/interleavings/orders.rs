//! What others ask of a loop: it hears of each, however they come together.

#[allow(dead_code, reason = "not all of it is needed here")]
#[path = "../../src/orders.rs"]
mod included;

pub(crate) use included::*;
use loom::thread;
use std::sync::Arc;

use crate::{connection::Endpoint, play, ticket::Loop};

#[derive(Debug)]
struct Nothing;

impl Endpoint for Nothing {}

#[test]
fn a_loop_hears_of_every_newcomer_and_of_the_drain() {
    play(3, || {
        let (home, orders) = (Loop::new(), Arc::new(Orders::default()));
        let (wake_queue, asked) = (Arc::clone(&home.wake_queue), Arc::clone(&orders));
        let outside = thread::spawn(move || {
            asked.attend(Box::new(Nothing), &wake_queue);
            asked.connect(Box::new(Nothing), &wake_queue);
        });
        let (wake_queue, asked) = (Arc::clone(&home.wake_queue), Arc::clone(&orders));
        let owner = thread::spawn(move || asked.drain(&wake_queue));
        let (mut newcomers, mut draining) = (0, false);
        while newcomers < 2 || !draining {
            if home.turn().contains(&ORDERS) {
                newcomers += orders.newcomers().len();
                let order = orders.order();
                draining = order == Order::Drain;
                assert_ne!(order, Order::Stop);
            }
        }
        outside.join().unwrap();
        owner.join().unwrap();
    });
}

#[test]
fn who_is_handed_over_before_the_loop_is_stopped_is_with_it_then() {
    play(3, || {
        let (home, orders) = (Loop::new(), Arc::new(Orders::default()));
        let (wake_queue, asked) = (Arc::clone(&home.wake_queue), Arc::clone(&orders));
        let owner = thread::spawn(move || {
            asked.attend(Box::new(Nothing), &wake_queue);
            asked.stop(&wake_queue);
        });
        let mut newcomers = 0;
        loop {
            if home.turn().contains(&ORDERS) {
                let stopped = orders.order() == Order::Stop;
                newcomers += orders.newcomers().len();
                if stopped {
                    break;
                }
            }
        }
        assert_eq!(newcomers, 1);
        owner.join().unwrap();
    });
}
