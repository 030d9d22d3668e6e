//! One changed word of one answer: the client refuses it, says why, and goes on.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use rand::{Rng, RngExt};

use roadstead::{Dialer, frame::HEAD};
use roadstead_trident::{
    check::Check,
    client::{Client, ClientError, Options},
    field::P,
    party::Party,
    query::AnswerError,
    wire::{BodyError, COUNTER, Kind},
};

use super::{
    common::{byte_rows, rng},
    harness::{Shares, WAYS, addresses, guarded, hasty, names, true_scores},
    relay::{Fate, KIND, Relay, To},
};

const TRIALS: usize = 1_000;

/// What a relay does to the next answer that passes it: the word at `at` becomes another.
#[derive(Clone, Copy)]
struct Flip {
    party: Party,
    at: usize,
    mask: u32,
}

/// A relay before each server, any of which changes a word of the next answer when it is told to.
struct Tampering {
    relays: [Relay; 3],
    /// What to do, and afterwards what the word became.
    next: Arc<Mutex<(Option<Flip>, u32)>>,
}

impl Tampering {
    fn new(servers: [SocketAddr; 3]) -> Self {
        let next: Arc<Mutex<(Option<Flip>, u32)>> = Arc::default();
        let relays = servers.map(Relay::new);
        for (party, relay) in Party::ALL.into_iter().zip(&relays) {
            let next = Arc::clone(&next);
            relay.rule(move |to, frame| {
                let mut next = next.lock().unwrap();
                let answer = [Kind::Fetched as u8, Kind::Searched as u8].contains(&frame[KIND]);
                if to == To::Client && answer && next.0.is_some_and(|flip| flip.party == party) {
                    let Flip { at, mask, .. } = next.0.take().unwrap();
                    let word: &mut [u8; 4] = frame[at..].first_chunk_mut().unwrap();
                    next.1 = u32::from_le_bytes(*word) ^ mask;
                    *word = next.1.to_le_bytes();
                }
                Fate::Pass
            });
        }
        Self { relays, next }
    }

    fn arm(&self, flip: Flip) {
        self.next.lock().unwrap().0 = Some(flip);
    }

    /// What comes of a question one of whose answers is changed. A late answer on connections that were given up may be
    /// the one that is changed; then what was answered is `right`, and it is asked again.
    fn changed<T>(
        &self,
        flip: Flip,
        ask: impl Fn() -> Result<T, ClientError>,
        right: impl Fn(T) -> bool,
    ) -> ClientError {
        for _ in 0..10 {
            self.arm(flip);
            match ask() {
                Err(error) => return error,
                Ok(answer) => assert!(right(answer), "a wrong answer was believed"),
            }
        }
        panic!("ten times an answer was changed and nothing was refused")
    }

    /// What the word became, once the flip was done.
    fn became(&self) -> u32 {
        let next = self.next.lock().unwrap();
        assert!(next.0.is_none(), "no answer has passed");
        next.1
    }

    fn addresses(&self) -> [SocketAddr; 3] {
        self.relays.each_ref().map(Relay::address)
    }
}

/// A word anywhere in an answer frame of `length` bytes, of any server, changed to any other.
fn flip(rng: &mut impl Rng, length: usize) -> Flip {
    let mask = match rng.random_range(0..4) {
        0 => u32::MAX,
        1 => rng.random_range(1..=u32::MAX),
        2 => 1 << rng.random_range(0..32),
        _ => rng.random_range(1..=P),
    };
    Flip { party: Party::ALL[rng.random_range(0..3)], at: 4 * rng.random_range(0..length / 4), mask }
}

#[test]
fn a_thousand_changed_fetch_answers_are_refused() {
    guarded(|| {
        let rows = byte_rows(150, 24, 1);
        let shares = Shares::of(&rows, 2);
        let servers = shares.serve(WAYS[0]);
        let tampering = Tampering::new(addresses(&servers));
        // A changed counter may name an earlier question: nothing answers this one then.
        let client = hasty(&shares, tampering.addresses(), Duration::from_secs(8));
        let mut rng = rng(3);
        let length = HEAD + COUNTER + shares.manifest().record_bytes();
        assert_eq!(length % 4, 0);
        let (mut refused, mut checks) = (0, 0);
        for trial in 0..TRIALS {
            let index = trial % rows.len();
            let flip = flip(&mut rng, length);
            let error = tampering.changed(flip, || client.fetch(index), |row| row.values() == rows[index]);
            tampering.became();
            if flip.at >= HEAD + COUNTER {
                let check = matches!(error, ClientError::Answer(AnswerError::Refused(Check::RowDigest)));
                assert!(check && error.to_string().contains("row digest"), "byte {}: {error}", flip.at);
                checks += 1;
            } else {
                names(&error, flip.party, tampering.addresses()[flip.party.index()]);
            }
            refused += 1;
            assert_eq!(client.fetch(index).unwrap().values(), rows[index], "the client goes on");
        }
        assert_eq!(refused, TRIALS);
        assert!((TRIALS / 2..TRIALS * 4 / 5).contains(&checks), "{checks} by the row digest");
    });
}

#[test]
fn a_thousand_changed_search_answers_are_refused() {
    guarded(|| {
        let rows = byte_rows(40, 8, 4);
        let shares = Shares::of(&rows, 5);
        let servers = shares.serve(WAYS[0]);
        let tampering = Tampering::new(addresses(&servers));
        // A changed counter may name an earlier question: nothing answers this one then.
        let client = hasty(&shares, tampering.addresses(), Duration::from_secs(8));
        let mut rng = rng(6);
        let length = HEAD + COUNTER + 3 * 4 * rows.len();
        let (mut refused, mut firsts, mut seconds, mut elements) = (0, 0, 0, 0);
        for trial in 0..TRIALS {
            let query = &rows[trial % rows.len()];
            let flip = flip(&mut rng, length);
            let right = true_scores(&rows, query);
            let error =
                tampering.changed(flip, || client.scores(query), |scores| *scores.as_slice() == *right);
            let became = tampering.became();
            match (flip.at.checked_sub(HEAD + COUNTER).map(|at| at / 4), &error) {
                (None, error) => names(error, flip.party, tampering.addresses()[flip.party.index()]),
                (Some(word), ClientError::Answer(AnswerError::Malformed { party, error })) => {
                    assert!(became >= P);
                    assert_eq!((*party, *error), (flip.party, BodyError::Element { at: word }));
                    elements += 1;
                }
                (Some(word), ClientError::Answer(AnswerError::Refused(check))) => {
                    assert!(became < P);
                    // Scores, their first multiples, their second.
                    let (which, expected, said) = match word / rows.len() {
                        0 | 1 => (&mut firsts, Check::FirstMultiple, "D1"),
                        _ => (&mut seconds, Check::SecondMultiple, "D2"),
                    };
                    assert_eq!(*check, expected);
                    assert!(error.to_string().contains(said), "{error}");
                    *which += 1;
                }
                (_, error) => panic!("byte {}: {error}", flip.at),
            }
            refused += 1;
            assert_eq!(client.scores(query).unwrap().as_slice(), true_scores(&rows, query));
        }
        assert_eq!(refused, TRIALS);
        assert!(
            firsts > 300 && seconds > 150 && elements > 200,
            "{firsts} D1, {seconds} D2, {elements} >= p"
        );
    });
}

/// Without the check a changed score is believed, but never one that is no field element, and never a changed frame.
#[test]
fn an_unchecked_search_still_refuses_what_is_no_answer() {
    guarded(|| {
        let rows = byte_rows(40, 8, 7);
        let shares = Shares::of(&rows, 8);
        let servers = shares.serve(WAYS[0]);
        let tampering = Tampering::new(addresses(&servers));
        let options = Options { checked: false, ..Default::default() };
        let client =
            Client::new(shares.collection(), tampering.addresses(), None, options, Dialer::start).unwrap();
        let party = Party::ALL[1];
        for at in (0..HEAD + COUNTER).step_by(4) {
            tampering.arm(Flip { party, at, mask: u32::MAX });
            names(&client.scores(&rows[0]).unwrap_err(), party, tampering.addresses()[1]);
        }
        tampering.arm(Flip { party, at: HEAD + COUNTER + 8, mask: 1 << 31 });
        let error = client.scores(&rows[0]).unwrap_err();
        let element = AnswerError::Malformed { party, error: BodyError::Element { at: 2 } };
        assert!(matches!(error, ClientError::Answer(error) if error == element), "{error}");
        assert_eq!(client.scores(&rows[0]).unwrap().as_slice(), true_scores(&rows, &rows[0]));
    });
}
