//! Three connections without a network: what waits on them, what leaves, and how they end.

use std::thread;

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
    let trio = Arc::new(Trio::new(0, Arc::default(), Digest([1; 32])));
    assert!(trio.welcome(Party::ALL[1], [2; 16]));
    assert!((Duration::ZERO..=PAUSE).contains(&trio.pause()));
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
