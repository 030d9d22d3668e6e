//! What the arithmetic does with draws that a real generator gives once in 2^31 or never: zero, the values at the ends,
//! what has to be drawn again. Every use of randomness has its test:
//!
//! | use | where it is drawn | test |
//! |---|---|---|
//! | elements, check multipliers, slopes of lines | `field.rs`, `shamir.rs`, `reshare.rs` | here |
//! | selection keys, selectors, components, salts, pair keys | `tree.rs`, `share.rs`, `outputs.rs`, `mask.rs` | here, `privacy.rs`, `selector.rs`, `dpf.rs` |
//! | elements of masks that are drawn again | `mask.rs` | there |
//! | the generator of a client's question, of a sharing | `entropy.rs` | there, `client/tests.rs` |
//! | nonces and the lines on which a server shares its sums | `server.rs` | `sim_random.rs` |
//! | what a session draws from its loop | `session.rs` of the engine | there |

#![allow(clippy::unwrap_used)]

mod common;

use std::{
    collections::{HashSet, VecDeque},
    convert::Infallible,
};

use rand::{Rng, TryCryptoRng, TryRng};
use rand_chacha::ChaCha20Rng;

use roadstead_trident::{
    field::{P, add, mul, sub, uniform, uniform_nonzero},
    party::Party,
    query::Body,
    reshare::reshare,
    shamir,
    share::{SEARCH_FILE, component_file, pair_key_file, server_dir, share_with},
    wire::{COUNTER, Kind},
};

use common::{Cluster, SEARCH, Table, byte_rows, elements, rng, share_rows};

/// Gives these words first, in their order, and then goes on like any generator.
struct Script {
    words: VecDeque<u32>,
    rest: ChaCha20Rng,
}

impl Script {
    fn new(words: &[u32]) -> Self {
        Self { words: words.iter().copied().collect(), rest: rng(1) }
    }

    fn is_over(&self) -> bool {
        self.words.is_empty()
    }
}

impl TryRng for Script {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.words.pop_front().unwrap_or_else(|| self.rest.next_u32()))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.rest.next_u64())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.rest.fill_bytes(bytes);
        Ok(())
    }
}

impl TryCryptoRng for Script {}

/// The words that an element is drawn from: the element is the upper 31 bits.
const fn drawn(element: u32) -> u32 {
    element << 1
}

/// Draws of p itself, which is no element.
const NONE: [u32; 2] = [u32::MAX, u32::MAX - 1];

#[test]
fn an_element_is_any_value_below_p_and_p_itself_is_drawn_again() {
    for element in [0, 1, P / 2, P - 2, P - 1] {
        for low_bit in [0, 1] {
            let mut script = Script::new(&[NONE[0], NONE[1], drawn(element) | low_bit, 99]);
            assert_eq!(uniform(&mut script), element);
            assert!(!script.is_over(), "an element is one draw");
        }
    }
}

#[test]
fn an_element_that_may_not_be_zero_is_drawn_again_and_no_other_is_preferred() {
    for element in [1, 2, P - 2, P - 1] {
        let mut script = Script::new(&[0, 1, NONE[0], 0, NONE[1], 1, drawn(element), 99]);
        assert_eq!(uniform_nonzero(&mut script), element);
        assert!(!script.is_over());
    }
}

/// A zero slope is a share like any other: to avoid it would tell who sees a share which secret it is not.
#[test]
fn the_slope_of_a_line_is_the_element_that_was_drawn() {
    for secret in [0, 1, P / 2, P - 1] {
        for slope in [0, 1, P / 2, P - 1] {
            let points = [1, 2, 3].map(|at| add(secret, mul(at, slope)));
            let mut script = Script::new(&[NONE[0], drawn(slope), 99]);
            assert_eq!(shamir::share(secret, &mut script), points);
            assert!(!script.is_over());
            let mut script = Script::new(&[NONE[1], drawn(slope), NONE[0], drawn(5)]);
            let [one, two, three] =
                reshare(Party::ALL[2], &[secret, secret], &mut script).map(|message| elements(&message));
            assert_eq!([one[0], two[0], three[0]], points);
            assert!(script.is_over() && sub(two[1], one[1]) == 5, "every sum has its own line");
        }
    }
}

/// What the shares of two servers are of.
fn secret([first, second]: [u32; 2]) -> u32 {
    sub(add(first, first), second)
}

/// The multipliers of a search: the last element of a query is one, so its multiples are they.
fn multipliers(requests: &[Body; 3], width: usize) -> [u32; 2] {
    let [first, second] = [0, 1].map(|at| elements(&requests[at][COUNTER + 1..]));
    [2, 3].map(|vector| vector * width - 1).map(|at| secret([first[at], second[at]]))
}

/// Draws for two multipliers, and what they have to be.
fn draws() -> [(Vec<u32>, [u32; 2]); 5] {
    [
        (vec![0, drawn(7), drawn(9)], [7, 9]),
        (vec![drawn(7), 1, drawn(9)], [7, 9]),
        (vec![0, 1, NONE[0], 0, drawn(1), NONE[1], 1, drawn(P - 1)], [1, P - 1]),
        (vec![drawn(P - 1), drawn(1)], [P - 1, 1]),
        // Two that are alike are as good as any: each was drawn without regard to the other.
        (vec![drawn(5), drawn(5)], [5, 5]),
    ]
}

#[test]
fn a_multiplier_of_zero_is_drawn_again_in_searches() {
    let table = byte_rows(30, 6, 2);
    let mut cluster = Cluster::new(&table, 3);
    for (words, expected) in draws() {
        let (mut script, counter) = (Script::new(&words), cluster.next_counter());
        let (search, requests) = cluster.client.search(&table[4], true, counter, &mut script).unwrap();
        assert!(script.is_over());
        assert_eq!(multipliers(&requests, 7), expected);
        let mut answers = cluster.ask(Kind::Search, &requests).unwrap();
        assert_eq!(search.finish(common::slices(&answers)).unwrap().nearest(1)[0].index, 4);
        // With a multiplier of zero any multiple of zero would do.
        answers.iter_mut().for_each(|answer| answer[COUNTER..].fill(0));
        let shifted = 77u32.to_le_bytes();
        answers[0][COUNTER..COUNTER + 4].copy_from_slice(&shifted);
        assert!(search.finish(common::slices(&answers)).is_err());
    }
}

#[test]
fn a_multiplier_of_zero_is_drawn_again_in_fetches_that_stay_shared() {
    let mut table = byte_rows(30, 6, 4);
    table[8][0] = 1.0;
    let mut cluster = Cluster::new(&table, 5);
    for (words, expected) in draws() {
        let (mut script, counter) = (Script::new(&words), cluster.next_counter());
        let (fetch, requests) =
            cluster.client.fetch_shared(8, counter, &cluster.expander, &mut script).unwrap();
        assert!(script.is_over());
        let answers = cluster.ask(Kind::FetchShare, &requests).unwrap();
        let shares = [0, 1].map(|at| elements(&answers[at][COUNTER..]));
        // The first element of the row is one, so its multiples are the multipliers.
        let sums = [0, 6, 12].map(|at| secret([shares[0][at], shares[1][at]]));
        assert_eq!(sums, [1, expected[0], expected[1]]);
        let found = fetch.finish(answers.each_ref().map(|answer| Some(answer.as_slice()))).unwrap();
        assert_eq!(found.row.values(), table[8]);
    }
}

/// How many of the chunks of `size` bytes of two requests are the same in the same place.
fn alike(one: &[u8], two: &[u8], size: usize) -> usize {
    one.chunks(size).zip(two.chunks(size)).filter(|(one, two)| one == two).count()
}

#[test]
fn the_same_question_asked_twice_has_nothing_in_common_for_any_server() {
    let table = byte_rows(300, 12, 6);
    let Cluster { client, expander, mut rng, .. } = Cluster::new(&table, 7);
    // The very same counter and connections, so that whatever differs was drawn.
    for index in [0, 150, 299] {
        let ask = |rng: &mut ChaCha20Rng| {
            let fetch = client.fetch(index, 1, &expander, rng).unwrap().1;
            let search = client.search(&table[index], true, 1, rng).unwrap().1;
            (fetch, search, client.fetch_shared(index, 1, &expander, rng).unwrap().1)
        };
        let (one, two) = (ask(&mut rng), ask(&mut rng));
        for party in 0..3 {
            // Keys: a root, a seed of every level and the final word, and no more than two bytes of packed bits.
            let (one_key, two_key) = (&one.0[party][COUNTER..], &two.0[party][COUNTER..]);
            for key in [0, one_key.len() / 2] {
                assert_eq!(alike(&one_key[key..key + 32], &two_key[key..key + 32], 16), 0);
            }
            assert_eq!(alike(&one.1[party][COUNTER + 1..], &two.1[party][COUNTER + 1..], 4), 0);
            let (one_key, two_key) = (&one.2[party][COUNTER..], &two.2[party][COUNTER..]);
            for key in [0, one_key.len() / 2] {
                assert_eq!(alike(&one_key[key..key + 64], &two_key[key..key + 64], 16), 0);
                let last = key + one_key.len() / 2 - 48;
                assert_eq!(alike(&one_key[last..last + 48], &two_key[last..last + 48], 4), 0);
            }
        }
    }
}

/// Neither the keys of two components nor those of two servers begin alike; what follows a root is the same for a pair.
#[test]
fn no_root_of_a_key_is_given_out_twice() {
    let Cluster { client, expander, mut rng, .. } = Cluster::new(&byte_rows(300, 2, 8), 9);
    let mut roots = HashSet::new();
    for counter in 1..200 {
        let (_, requests) = client.fetch(7, counter, &expander, &mut rng).unwrap();
        let length = (requests[0].len() - COUNTER) / 2;
        for request in &requests {
            for key in request[COUNTER..].chunks(length) {
                assert!(roots.insert(key[..16].to_vec()), "a root was given out twice");
            }
        }
    }
}

#[test]
fn what_two_sharings_of_one_table_draw_differs_everywhere() {
    let table = byte_rows(64, 16, 10);
    let dirs = [11, 12].map(|seed| {
        let dir = tempfile::tempdir().unwrap();
        let manifest = share_rows(&table, dir.path(), SEARCH, seed);
        (dir, manifest)
    });
    let [(one, first), (two, second)] = &dirs;
    assert_eq!(alike(&first.sharing.0, &second.sharing.0, 4), 0);
    for party in Party::ALL {
        let names = party.components().map(|(number, _)| component_file(number));
        let keys = [party, party.previous()].map(pair_key_file);
        for name in names.into_iter().chain(keys).chain([SEARCH_FILE.into()]) {
            let [one, two] =
                [one, two].map(|dir| std::fs::read(server_dir(dir.path(), party).join(&name)).unwrap());
            // A component ends each group of records with a padding that nobody reads, and that is drawn too.
            assert!(one.len() == two.len() && alike(&one, &two, 4) <= 1, "{name} of {party}");
        }
    }
}

/// With slopes of zero each server holds the rows themselves: what hides them is what was drawn, one slope an element.
#[test]
fn search_shares_are_what_was_drawn_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let table = byte_rows(16, 3, 13);
    // Rows of three elements and the norm: 64 lines, the first 32 of which are flat.
    let mut script = Script::new(&[0; 32]);
    share_with(&mut Table(table.clone()), dir.path(), SEARCH, &mut script, |_, _| {}).unwrap();
    assert!(script.is_over());
    for party in Party::ALL {
        let shares = elements(&std::fs::read(server_dir(dir.path(), party).join(SEARCH_FILE)).unwrap());
        // Sixteen rows of a column lie side by side.
        for (row, values) in table.iter().enumerate() {
            let plain =
                values.iter().enumerate().filter(|(at, value)| shares[16 * at + row] == **value as u32);
            assert_eq!(plain.count(), if row < 8 { 3 } else { 0 }, "row {row} of {party}");
        }
    }
}
