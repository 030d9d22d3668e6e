//! Three connections without a network: what waits on them, what leaves, and how they end.

use std::thread;

use bytes::Bytes;

use roadstead_proto::budget::Meter;

use super::*;

#[test]
fn a_second_welcome_is_refused_and_nobody_is_told_twice() {
    let trio = Trio::new(0, Arc::default(), Digest([1; 32]));
    for party in Party::ALL {
        assert!(trio.welcome(party, [party.number(); 16]));
        assert!(!trio.welcome(party, [9; 16]));
    }
    for party in Party::ALL {
        let nonces = [[1; 16], [2; 16], [3; 16]].concat();
        assert_eq!(trio.take(party, 0).unwrap(), [(Kind::Nonces, Body::new(nonces))]);
    }
}

/// Connections that all three servers have welcomed.
fn welcomed() -> Arc<Trio> {
    let trio = Arc::new(Trio::new(0, Arc::default(), Digest([1; 32])));
    Party::ALL.into_iter().for_each(|party| assert!(trio.welcome(party, [party.number(); 16])));
    trio
}

/// A question of so many bytes that so many answers are enough for.
fn asked(trio: &Arc<Trio>, needed: usize, length: usize) -> Waiting {
    let question = |counter: u64, _: &Expander| {
        let body = || Body::new([&counter.to_le_bytes()[..], &vec![0; length - 8]].concat());
        Ok::<_, std::convert::Infallible>(((), [body(), body(), body()]))
    };
    let Ok(Ok(((), waiting))) = trio.ask((Kind::FetchShare, needed), soon(), question) else {
        panic!("the question was not asked");
    };
    waiting
}

/// The kinds and the lengths of what the session of `party` gets to send.
fn taken(trio: &Trio, party: Party, unsent: usize) -> Vec<(Kind, usize)> {
    trio.take(party, unsent).unwrap().iter().map(|(kind, body)| (*kind, body.len())).collect()
}

#[test]
fn a_server_that_refuses_twice_counts_once() {
    let trio = welcomed();
    let waiting = asked(&trio, 2, 8);
    let [one, two, three] = Party::ALL;
    trio.refuse(one, 1, "busy".into());
    trio.refuse(one, 1, "still busy".into());
    assert!(waiting.landing.try_recv().is_err(), "one server failed the question alone");
    trio.refuse(two, 1, "busy as well".into());
    let Ok(Err(Fault::Refused { party, text })) = waiting.landing.try_recv() else {
        panic!("two servers of three refused a question that needs two");
    };
    assert_eq!((party, text.as_str()), (one, "busy"));
    trio.refuse(three, 1, "too late".into());
    assert!(waiting.landing.try_recv().is_err(), "it has failed once");
}

#[test]
fn who_has_not_been_told_of_a_question_that_others_refuse_is_not_told_of_it() {
    let trio = welcomed();
    let [one, two, three] = Party::ALL;
    let (nonces, question) = ((Kind::Nonces, 48), (Kind::FetchShare, 100));
    let _refused = asked(&trio, 3, 100);
    assert_eq!(taken(&trio, one, 0), [nonces, question]);
    trio.refuse(one, 1, "busy".into());
    let _next = asked(&trio, 3, 101);
    for party in [two, three] {
        assert_eq!(taken(&trio, party, 0), [nonces, (Kind::FetchShare, 101)]);
    }
}

/// It may have died without saying so, while others still wait for their deadlines.
#[test]
fn nobody_asks_on_connections_on_which_a_deadline_has_passed() {
    let trio = welcomed();
    let [hasty, patient] = [asked(&trio, 3, 8), asked(&trio, 3, 8)];
    assert!(!trio.is_over());
    assert!(matches!(hasty.wait(Instant::now()), Err(Fault::Silent(silent)) if silent == Party::ALL));
    assert!(trio.is_over());
    assert!(patient.landing.try_recv().is_err() && trio.take(Party::ALL[0], 0).is_some(), "it goes on");
    assert!(patient.wait(Instant::now()).is_err());
    assert!(trio.take(Party::ALL[0], 0).is_none(), "nobody waits any more");
}

#[test]
fn a_question_of_any_size_leaves_once_nothing_else_is_on_its_way() {
    let trio = welcomed();
    let party = Party::ALL[0];
    assert_eq!(taken(&trio, party, 0), [(Kind::Nonces, 48)]);
    let large = UNSENT + 1;
    let _questions = [asked(&trio, 3, 100), asked(&trio, 3, large), asked(&trio, 3, 100)];
    assert_eq!(taken(&trio, party, 0), [(Kind::FetchShare, 100)]);
    assert_eq!(taken(&trio, party, 1), []);
    assert_eq!(taken(&trio, party, 0), [(Kind::FetchShare, large)]);
    assert_eq!(taken(&trio, party, UNSENT), []);
    assert_eq!(taken(&trio, party, UNSENT - HEAD - 100), [(Kind::FetchShare, 100)]);
}

#[test]
fn a_question_given_up_at_its_deadline_is_told_to_nobody_any_more() {
    let trio = welcomed();
    let [hasty, _patient] = [asked(&trio, 3, 100), asked(&trio, 3, 101)];
    assert!(hasty.wait(Instant::now()).is_err());
    assert_eq!(taken(&trio, Party::ALL[0], 0), [(Kind::Nonces, 48), (Kind::FetchShare, 101)]);
}

#[test]
fn a_head_counts_for_every_message_that_is_on_its_way() {
    let trio = welcomed();
    let party = Party::ALL[0];
    let rest = UNSENT - (HEAD + 48) - HEAD;
    let _exactly = [asked(&trio, 3, rest), asked(&trio, 3, 8)];
    assert_eq!(taken(&trio, party, 0), [(Kind::Nonces, 48), (Kind::FetchShare, rest)]);
    let trio = welcomed();
    let _more = asked(&trio, 3, rest + 1);
    assert_eq!(taken(&trio, party, 0), [(Kind::Nonces, 48)]);
}

#[test]
fn servers_that_do_not_welcome_in_time_are_named_and_the_first_fault_is_the_one_that_counts() {
    let begun = Instant::now();
    let trio = Arc::new(Trio::new(0, Arc::default(), Digest([1; 32])));
    assert!(trio.welcome(Party::ALL[1], [2; 16]));
    let pause = trio.pause();
    assert!(pause <= PAUSE && pause + begun.elapsed() >= PAUSE, "from attempt to attempt, not from the loss");
    let question = |_: u64, _: &Expander| Ok::<_, std::convert::Infallible>(((), Default::default()));
    let asked = trio.ask((Kind::Fetch, 3), Instant::now(), question);
    let missing = [Party::ALL[0], Party::ALL[2]];
    assert!(matches!(asked, Err(Fault::Silent(silent)) if silent == missing));
    assert!(trio.is_over(), "the next question connects anew");
    trio.fail(Fault::Lost { party: Party::ALL[1], why: "given up".into() });
    assert!(matches!(&trio.state().down, Some(Fault::Silent(silent)) if *silent == missing));
    thread::sleep(PAUSE);
    assert_eq!(trio.pause(), Duration::ZERO, "it was made a while ago");
    assert_eq!(welcomed().pause(), Duration::ZERO, "connections that had come to be are made anew at once");
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

/// An answer to question `counter`.
fn answer(trio: &Trio, party: Party, counter: u64) -> bool {
    let bytes = Bytes::copy_from_slice(&counter.to_le_bytes());
    let chunk = Chunk::new(bytes, Meter::new(8).charge(8).unwrap());
    trio.answer(party, counter, Answer { chunk, body: 0..8 })
}

#[test]
fn nonces_that_begin_like_a_question_that_is_withdrawn_still_leave() {
    let trio = Arc::new(Trio::new(0, Arc::default(), Digest([1; 32])));
    for party in Party::ALL {
        let mut nonce = [0; 16];
        nonce[0] = party.number();
        assert!(trio.welcome(party, nonce));
    }
    let _refused = asked(&trio, 3, 8);
    trio.refuse(Party::ALL[1], 1, "busy".into());
    for party in Party::ALL {
        assert_eq!(taken(&trio, party, 0), [(Kind::Nonces, 48)]);
    }
}

/// What is still awaited when the last of three has refused would be awaited for ever.
#[test]
fn an_answer_that_was_refused_is_not_awaited_whenever_it_was() {
    let thirds: Arc<Thirds> = Arc::default();
    let [one, two, three] = Party::ALL;
    for refused_at in 0..3 {
        let trio = Arc::new(Trio::new(0, Arc::clone(&thirds), Digest([1; 32])));
        Party::ALL.into_iter().for_each(|party| assert!(trio.welcome(party, [party.number(); 16])));
        let waiting = asked(&trio, 2, 8);
        for (at, party) in [one, two, three].into_iter().enumerate() {
            if at == refused_at {
                trio.refuse(three, 1, "busy".into());
            }
            if party != three {
                assert!(answer(&trio, party, 1));
            }
        }
        assert!(waiting.wait(soon()).is_ok(), "two are enough");
        assert!(waiting.release(Some((three, [0; 32]))).is_none());
        assert_eq!(thirds.waiting(), 0, "refused after {refused_at}");
        assert!(trio.state().flying.is_empty());
    }
}

#[test]
fn the_last_question_takes_a_trio_that_was_given_up_with_it_however_it_ends() {
    let thirds: Arc<Thirds> = Arc::default();
    let ends: [fn(&Arc<Trio>, &Waiting); 3] = [
        |trio, _| Party::ALL.into_iter().for_each(|party| assert!(answer(trio, party, 2))),
        |trio, _| [0, 1].into_iter().for_each(|at| trio.refuse(Party::ALL[at], 2, "busy".into())),
        |_, waiting| assert!(waiting.release(None).is_none()),
    ];
    for (at, end) in ends.into_iter().enumerate() {
        let trio = Arc::new(Trio::new(at as u64, Arc::clone(&thirds), Digest([1; 32])));
        Party::ALL.into_iter().for_each(|party| assert!(trio.welcome(party, [party.number(); 16])));
        let [hasty, patient] = [asked(&trio, 3, 8), asked(&trio, 2, 8)];
        thirds.expect((at as u64, 1), Party::ALL[2], [0; 32]);
        assert!(answer(&trio, Party::ALL[0], 1));
        assert!(hasty.wait(Instant::now()).is_err());
        assert!(trio.take(Party::ALL[0], 0).is_some(), "somebody waits");
        end(&trio, &patient);
        assert!(trio.take(Party::ALL[0], 0).is_none(), "nobody waits any more: end {at}");
        assert_eq!(thirds.waiting(), 0, "end {at}");
        let down = trio.state().down.clone();
        assert!(
            matches!(&down, Some(Fault::Silent(silent)) if silent[..] == Party::ALL[1..]),
            "it went with the first deadline: {down:?}"
        );
    }
}

#[test]
fn of_two_deadlines_the_first_is_why_the_three_were_given_up() {
    let trio = welcomed();
    let [first, second] = [asked(&trio, 3, 8), asked(&trio, 3, 8)];
    assert!(answer(&trio, Party::ALL[2], 1));
    assert!(first.wait(Instant::now()).is_err());
    assert!(matches!(second.wait(Instant::now()), Err(Fault::Silent(silent)) if silent == Party::ALL));
    let down = trio.state().down.clone();
    assert!(matches!(&down, Some(Fault::Silent(silent)) if silent[..] == Party::ALL[..2]), "{down:?}");
}

#[test]
fn a_question_that_is_not_asked_after_all_uses_its_number_up() {
    let trio = welcomed();
    let refused = trio.ask((Kind::Fetch, 3), soon(), |counter, _| Err::<((), [Body; 3]), _>(counter));
    assert!(matches!(refused, Ok(Err(1))));
    let _next = asked(&trio, 3, 8);
    assert!(answer(&trio, Party::ALL[0], 2));
    assert_eq!(trio.state().flying.keys().copied().collect::<Vec<_>>(), [2]);
}

#[test]
fn what_has_landed_at_the_last_moment_is_an_answer() {
    let trio = welcomed();
    let waiting = asked(&trio, 2, 8);
    assert!(answer(&trio, Party::ALL[0], 1) && answer(&trio, Party::ALL[1], 1));
    let long_ago = Instant::now();
    assert!(waiting.wait(long_ago).is_ok());
    assert!(!trio.is_over());
}

#[test]
fn every_session_is_woken_by_what_there_is_to_send_and_by_the_end_also_if_it_was_there_before() {
    let trio = welcomed();
    let wakers = Party::ALL.map(|_| Waker(Arc::default()));
    let woken = || wakers.each_ref().map(|waker| waker.0.take());
    for (party, added) in Party::ALL.into_iter().zip([[true, false, false], [false, true, false]]) {
        trio.add(party, wakers[party.index()].clone());
        assert_eq!(woken(), added, "the nonces wait for it");
    }
    let _asked = asked(&trio, 3, 8);
    assert_eq!(woken(), [true, true, false], "a question waits");
    trio.fail(Fault::Lost { party: Party::ALL[0], why: "it was restarted".into() });
    assert_eq!(woken(), [true, true, false], "they are to close");
    trio.add(Party::ALL[2], wakers[2].clone());
    assert_eq!(woken(), [false, false, true], "so is this one");
    trio.fail(Fault::Lost { party: Party::ALL[0], why: "once more".into() });
    assert_eq!(woken(), [false; 3], "it was over already");
}

#[test]
fn who_waits_for_the_three_hears_at_once_that_they_are_there_or_never_will_be() {
    for are_there in [true, false] {
        let trio = Arc::new(Trio::new(0, Arc::default(), Digest([1; 32])));
        let deadline = Instant::now() + Duration::from_secs(20);
        let question = |_: u64, _: &Expander| Ok::<_, std::convert::Infallible>(((), Default::default()));
        thread::scope(|scope| {
            let asking = scope.spawn(|| trio.ask((Kind::Fetch, 3), deadline, question).is_ok());
            // It may wait by then; if it comes later it has nothing to wait for.
            thread::sleep(Duration::from_millis(50));
            match are_there {
                true => Party::ALL.into_iter().for_each(|party| assert!(trio.welcome(party, [2; 16]))),
                false => trio.fail(Fault::Lost { party: Party::ALL[1], why: "lost".into() }),
            }
            assert_eq!(asking.join().unwrap(), are_there);
        });
        assert!(Instant::now() < deadline, "it had to wait for its deadline");
    }
}
