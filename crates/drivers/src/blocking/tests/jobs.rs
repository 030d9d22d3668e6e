//! What a connection's thread does with the jobs that wait on it: while it serves, and when the connection has ended.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use roadstead_proto::queue::{Jobs, Task, Work};

use super::{connection::play, *};
use crate::orders::Order;

/// A job of so many slices, each of which does something.
struct Slices<F>(usize, F);

impl<F: FnMut() + Send> Work for Slices<F> {
    fn run(&mut self, _: Duration) -> bool {
        self.0 -= 1;
        self.1();
        self.0 == 0
    }
}

fn submit(host: &mut Host, slices: usize, work: impl FnMut() + Send + 'static) {
    let Jobs::Inline(queue) = &mut host.jobs else { unreachable!() };
    queue.push(Task::new(Token(0), 0, Box::new(Slices(slices, work))));
}

#[test]
fn what_a_connection_has_submitted_is_done_after_its_end_unless_everything_stops() {
    for (order, done) in [(Order::Serve, 5), (Order::Drain, 5), (Order::Stop, 0)] {
        let play = play();
        let (net, server) = (play.net.clone(), Arc::clone(&play.server));
        let (ran, shared) = (Arc::new(AtomicUsize::new(0)), Arc::clone(&play.host.shared));
        let counted = Arc::clone(&ran);
        play.accepted(move |heard, wishes, host| {
            if heard != "opened" {
                return;
            }
            server.raise(order);
            host.count.receives += 7;
            for slices in [1, 3, 1] {
                let (net, ran, shared) = (net.clone(), Arc::clone(&counted), Arc::clone(&shared));
                submit(host, slices, move || {
                    assert_eq!(net.world().closed, [false], "the peer does not wait for it");
                    assert_eq!(shared.snapshot().receives, 7, "what was counted is known before");
                    ran.fetch_add(1, SeqCst);
                });
            }
            wishes.close();
        });
        assert_eq!(ran.load(SeqCst), done, "{order:?}");
    }
}

#[test]
fn between_the_slices_of_a_job_a_connection_receives_and_sends() {
    let play = play();
    let net = play.net.clone();
    let heard = play.accepted(move |heard, wishes, host| match heard {
        "opened" => {
            wishes.ask(Op::Send);
            wishes.receive();
            let net = net.clone();
            let mut slice = 0;
            submit(host, 4, move || {
                slice += 1;
                if slice == 2 {
                    net.come(Ok(b"x"));
                    net.world().sends.push_back(Ok(1));
                }
                assert!(slice < 3 || net.world().came.is_empty() && net.world().sends.is_empty());
            });
        }
        "settle" => wishes.close(),
        _ => {}
    });
    assert_eq!(heard, ["opened", "received x", "sent(1)"]);
}
