//! A part that one of the others cannot be sent.

use std::{
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;

use roadstead::exchange::{self, Exchange, Key, Member, MemberId, Options};
use roadstead_trident::{
    party::Party,
    peers::{Done, Peers},
};

const PATIENCE: Duration = Duration::from_secs(5);

/// Three servers that send each other messages of up to so many bytes.
fn cluster(largest: usize) -> [Exchange; 3] {
    let mut options = Options::default();
    options.largest = largest;
    let listeners = [(); 3].map(|()| exchange::listen("127.0.0.1:0".parse().unwrap()).unwrap());
    let member = |(party, address): (Party, _)| Member::new(party.number(), address);
    let addresses = listeners.each_ref().map(|listener| listener.address());
    let members: Vec<Member> = Party::ALL.into_iter().zip(addresses).map(member).collect();
    let mut parties = Party::ALL.into_iter();
    listeners.map(|listener| {
        let me = MemberId(parties.next().unwrap().number());
        exchange::start(me, &members, listener, None, options.clone()).unwrap()
    })
}

fn until(what: &str, is: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is() {
        assert!(begun.elapsed() < Duration::from_secs(60), "never: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_query_of_which_one_part_cannot_be_sent_is_given_up_whole() {
    let [first, second, third] = cluster(10);
    let [query, next] = [1, 2].map(|query| Key { query, round: 0 });
    third.send(first.me(), query, "early").unwrap();
    until("a part for it has come", || first.stats().held > 0);
    let (tell, told) = mpsc::channel();
    let parts = [(Party::ALL[1], Bytes::from(vec![0; 11])), (Party::ALL[2], Bytes::from("late"))];
    let done: Done = Box::new(move |result| tell.send(result.map(drop)).unwrap());
    first.exchange(query.query, parts, PATIENCE, done);
    let absent = told.try_recv().unwrap().unwrap_err();
    assert_eq!(absent.missing, [Party::ALL[1]]);
    assert!(absent.why.contains("a message of 11 bytes"), "{absent}");
    let stats = first.stats();
    assert_eq!((stats.waiting, stats.held), (0, 0), "nobody will gather what has come");
    // What has been sent to the third since then is all that has come there.
    first.send(third.me(), next, "next").unwrap();
    second.send(third.me(), next, "next").unwrap();
    let (tell, told) = mpsc::channel();
    third.gather(next, 12 * PATIENCE, move |result| tell.send(result.map(drop)).unwrap());
    told.recv_timeout(12 * PATIENCE).unwrap().unwrap();
    assert_eq!(third.stats().peers[0].1.messages_in, 1);
}
