//! Fetches whose results stay shared: right answers from any two servers, nothing to see for one, no wrong row
//! believed.

#![allow(clippy::unwrap_used)]

mod common;

use rand::Rng;

use roadstead_trident::{
    admission::{Admitted, Refused, SharedQuery},
    dpf::KeyError,
    field::{P, add, mul},
    kernels::Kernel,
    party::Party,
    query::{AnswerError, Body, QueryError},
    reshare::{PartError, add_up, message_len, reshare},
    selector::ROWS_PER_RUN,
    share::Options,
    shared::{Odd, SharedFetch, SharedRow},
    wire::{self, BodyError, COUNTER, Kind},
};

use common::{Cluster, Table, byte_rows, chi_square_elements, elements, float_rows, rng};

fn ask(cluster: &mut Cluster, index: usize) -> (SharedFetch, [Vec<u8>; 3]) {
    let counter = cluster.next_counter();
    let (fetch, requests) =
        cluster.client.fetch_shared(index, counter, &cluster.expander, &mut cluster.rng).unwrap();
    let answers = cluster.ask(Kind::FetchShare, &requests).unwrap();
    (fetch, answers)
}

/// All three, and each pair.
fn choices(answers: &[Vec<u8>; 3]) -> [[Option<&[u8]>; 3]; 4] {
    let [a, b, c] = answers.each_ref().map(|answer| Some(answer.as_slice()));
    [[a, b, c], [a, b, None], [a, None, c], [None, b, c]]
}

fn finish(fetch: &SharedFetch, answers: &[Vec<u8>; 3]) -> Result<SharedRow, AnswerError> {
    fetch.finish(choices(answers)[0])
}

fn admit(cluster: &mut Cluster, party: usize, requests: &[Body; 3]) -> SharedQuery {
    let admitted =
        cluster.connections[party].receive(&cluster.stores[party], Kind::FetchShare, &requests[party]);
    let Ok(Admitted::FetchShare(query)) = admitted else { panic!("{admitted:?}") };
    query
}

#[test]
fn every_row_is_read_from_any_two_answers() {
    for (rows, dim) in [(1, 1), (3, 5), (4, 128), (5, 17), (16, 3), (17, 4), (129, 8)] {
        let table = byte_rows(rows, dim, 1);
        let mut cluster = Cluster::new(&table, 2);
        for (index, row) in table.iter().enumerate() {
            let (fetch, answers) = ask(&mut cluster, index);
            for answers in choices(&answers) {
                let found = fetch.finish(answers).unwrap();
                assert_eq!((&found.row.values(), found.odd), (row, None), "row {index} of {rows}");
            }
        }
        let error = cluster.client.fetch_shared(rows, 1, &cluster.expander, &mut cluster.rng).err();
        assert_eq!(error, Some(QueryError::Index { index: rows, last: rows - 1 }));
    }
}

#[test]
fn floats_come_back_as_exact_as_the_quantisation() {
    let mut table = float_rows(20, 9, 3);
    table[7].iter_mut().for_each(|value| *value *= 300.0);
    let mut cluster = Cluster::new(&table, 4);
    for (index, row) in table.iter().enumerate() {
        let (fetch, answers) = ask(&mut cluster, index);
        let values = finish(&fetch, &answers).unwrap().row.values();
        let unit = cluster.client.scales().unwrap().unit(index);
        assert!(values.iter().zip(row).all(|(a, b)| f64::from((a - b).abs()) <= 0.5001 * unit));
    }
}

#[test]
fn every_kernel_computes_the_same_alone_and_together_from_memory_and_from_file() {
    // More rows than a run of the selectors has.
    let mut cluster = Cluster::new(&byte_rows(5_100, 7, 5), 6);
    let mut all = Vec::new();
    for memory in [u64::MAX, 0] {
        for kernel in Kernel::ALL.into_iter().filter(|kernel| kernel.available()) {
            // The same nonces and the same questions each time.
            cluster.rng = rng(7);
            cluster.reopen(kernel, memory);
            let requests: Vec<[Body; 3]> = (0..5)
                .map(|at| {
                    let (counter, index) = (cluster.next_counter(), at * 1_019);
                    let (expander, rng) = (&cluster.expander, &mut cluster.rng);
                    cluster.client.fetch_shared(index, counter, expander, rng).unwrap().1
                })
                .collect();
            let mut together = Vec::new();
            for party in 0..3 {
                let mut admitted =
                    || requests.iter().map(|request| admit(&mut cluster, party, request)).collect();
                let queries: Vec<SharedQuery> = admitted();
                let sums = cluster.stores[party].combine(&queries).unwrap();
                for (query, sums) in queries.into_iter().zip(&sums) {
                    assert_eq!(&cluster.stores[party].combine(&[query]).unwrap()[0], sums, "{kernel}");
                }
                together.push(sums);
            }
            all.push(together);
        }
    }
    assert!(all.iter().all(|sums| *sums == all[0]));
}

#[test]
fn rows_of_every_run_of_the_selectors_are_read() {
    let rows = 2 * ROWS_PER_RUN + 5;
    let table = byte_rows(rows, 2, 18);
    let mut cluster = Cluster::new(&table, 19);
    for index in
        [0, 1_024, ROWS_PER_RUN - 1, ROWS_PER_RUN, ROWS_PER_RUN + 1_023, rows - 6, rows - 5, rows - 1]
    {
        let (fetch, answers) = ask(&mut cluster, index);
        assert_eq!(finish(&fetch, &answers).unwrap().row.values(), table[index], "row {index}");
    }
}

#[test]
fn any_change_of_any_answer_is_refused_by_two_and_found_by_three() {
    let table = byte_rows(70, 6, 7);
    let mut cluster = Cluster::new(&table, 8);
    let (fetch, answers) = ask(&mut cluster, 33);
    let right = |found: SharedRow, odd: Option<Odd>| {
        assert_eq!((&found.row.values(), found.odd), (&table[33], odd));
    };
    let mut rng = rng(9);
    for server in 0..3 {
        let party = Party::ALL[server];
        // By which two answers are not enough when one is changed like this, and with the third they are.
        let judge = |wrong: &[Vec<u8>; 3], odd: Odd, is_error: fn(AnswerError) -> bool| {
            for (choice, answers) in choices(wrong).into_iter().enumerate() {
                match fetch.finish(answers) {
                    Ok(found) if choice == 0 => right(found, Some(odd)),
                    Ok(found) => {
                        assert!(answers[server].is_none());
                        right(found, None);
                    }
                    Err(error) => {
                        assert!(choice > 0 && answers[server].is_some() && is_error(error), "{error}");
                    }
                }
            }
        };
        for word in 0..18 {
            let at = COUNTER + 4 * word;
            let value = u32::from_le_bytes(answers[server][at..at + 4].try_into().unwrap());
            let mut wrong = answers.clone();
            let change = 1 + rng.next_u32() % (P - 1);
            wrong[server][at..at + 4].copy_from_slice(&add(value, change).to_le_bytes());
            judge(&wrong, Odd::Contradicts(party), |error| matches!(error, AnswerError::Refused(_)));
            wrong[server][at..at + 4].copy_from_slice(&P.to_le_bytes());
            let error = AnswerError::Malformed { party, error: BodyError::Element { at: word } };
            judge(&wrong, Odd::Malformed(error), |error| matches!(error, AnswerError::Malformed { .. }));
        }
        for length in [0, 7, 8, answers[server].len() - 1, answers[server].len() + 1] {
            let mut wrong = answers.clone();
            wrong[server].resize(length, 0);
            let found = finish(&fetch, &wrong).unwrap();
            assert_eq!(found.odd.and_then(|odd| odd.party()), Some(party));
            right(found.clone(), found.odd);
        }
        let mut late = answers.clone();
        late[server][0] ^= 1;
        let odd = finish(&fetch, &late).unwrap().odd;
        assert!(matches!(odd, Some(Odd::Malformed(AnswerError::Counter { .. }))));
        let mut alone = [None; 3];
        alone[server] = Some(answers[server].as_slice());
        let missing = Party::ALL[usize::from(server == 0)];
        assert_eq!(fetch.finish(alone), Err(AnswerError::Missing(missing)));
    }
    right(finish(&fetch, &answers).unwrap(), None);
}

#[test]
fn two_answers_that_are_changed_are_refused() {
    let mut cluster = Cluster::new(&byte_rows(70, 6, 7), 8);
    let (fetch, answers) = ask(&mut cluster, 33);
    for honest in 0..3 {
        let mut wrong = answers.clone();
        for (server, answer) in wrong.iter_mut().enumerate().filter(|(server, _)| *server != honest) {
            answer[COUNTER + 4 * server] ^= 1;
        }
        for answers in choices(&wrong) {
            assert!(matches!(fetch.finish(answers), Err(AnswerError::Refused(_))));
        }
    }
}

/// A server whose sum is wrong shifts all shares on a line, so only the multiples can tell; one that sends a wrong part
/// to one peer makes that peer's share stray, and the row is that of the other two.
#[test]
fn a_wrong_sum_is_refused_and_a_wrong_message_leaves_two_that_agree() {
    let rows = byte_rows(40, 4, 10);
    let mut cluster = Cluster::new(&rows, 11);
    for server in 0..3 {
        for lie in 0..2 {
            for element in 0..12 {
                let counter = cluster.next_counter();
                let (fetch, requests) =
                    cluster.client.fetch_shared(7, counter, &cluster.expander, &mut cluster.rng).unwrap();
                let mut sums: [Vec<u32>; 3] = std::array::from_fn(|party| {
                    let query = admit(&mut cluster, party, &requests);
                    cluster.stores[party].combine(&[query]).unwrap().remove(0)
                });
                let answers = if lie == 0 {
                    sums[server][element] = add(sums[server][element], 1);
                    cluster.exchange(&sums, &requests)
                } else {
                    let mut answers = cluster.exchange(&sums, &requests);
                    // To one peer only: its share is off, the others lie on a line still.
                    let at = COUNTER + 4 * element;
                    let answer = &mut answers[(server + 1) % 3];
                    let value = u32::from_le_bytes(answer[at..at + 4].try_into().unwrap());
                    answer[at..at + 4].copy_from_slice(&add(value, 1).to_le_bytes());
                    answers
                };
                match finish(&fetch, &answers) {
                    Ok(found) => {
                        let peer = Party::ALL[(server + 1) % 3];
                        assert_eq!((lie, found.odd), (1, Some(Odd::Contradicts(peer))));
                        assert!(Odd::Contradicts(peer).to_string().contains("no check can tell which"));
                        assert_eq!(found.row.values(), rows[7]);
                    }
                    Err(error) => assert!(lie == 0 && matches!(error, AnswerError::Refused(_)), "{error}"),
                }
            }
        }
    }
}

#[test]
fn parts_of_another_length_or_with_unreduced_elements_are_refused_with_the_name_of_the_server() {
    let cluster = Cluster::new(&byte_rows(5, 4, 12), 13);
    let manifest = cluster.client.manifest();
    let good = vec![0; message_len(manifest)];
    for server in 0..3 {
        for length in [0, 44, 47, 49, 52] {
            let mut parts = [good.as_slice(); 3];
            let wrong = vec![0; length];
            parts[server] = &wrong;
            let error = BodyError::Length { what: "part of a row", got: length, want: 48 };
            assert_eq!(add_up(manifest, 1, parts), Err(PartError { party: Party::ALL[server], error }));
        }
        let mut wrong = good.clone();
        wrong[4..8].copy_from_slice(&P.to_le_bytes());
        let mut parts = [good.as_slice(); 3];
        parts[server] = &wrong;
        let error = BodyError::Element { at: 1 };
        assert_eq!(add_up(manifest, 1, parts), Err(PartError { party: Party::ALL[server], error }));
    }
    let body = add_up(manifest, 9, [&good, &good, &good]).unwrap();
    assert_eq!((body.len(), body[0]), (wire::fetched_share_len(manifest), 9));
}

#[test]
fn malformed_requests_are_refused_and_their_counters_used_up() {
    let mut cluster = Cluster::new(&byte_rows(150, 8, 14), 15);
    let (_, requests) = cluster.client.fetch_shared(3, 1, &cluster.expander, &mut cluster.rng).unwrap();
    let good = &requests[0];
    assert_eq!(good.len(), wire::fetch_share_len(cluster.client.manifest()));
    let refused = |cluster: &mut Cluster, body: &[u8]| {
        cluster.reconnect();
        let refused = cluster.connections[0].receive(&cluster.stores[0], Kind::FetchShare, body).unwrap_err();
        let after = cluster.connections[0].receive(&cluster.stores[0], Kind::FetchShare, good).unwrap_err();
        assert_eq!(after, Refused::Order(Kind::FetchShare));
        refused
    };
    for length in [0, 7, 8, good.len() - 1, good.len() + 1] {
        let mut body = good.clone();
        body.resize(length, 0);
        assert!(matches!(refused(&mut cluster, &body), Refused::Body(BodyError::Length { .. })));
    }
    // 38 leaves are six levels: twelve control bits, so four are stray.
    let key = (good.len() - COUNTER) / 2;
    for at in [COUNTER + key, COUNTER + 2 * key] {
        let mut body = good.clone();
        body[at - 49] |= 0x80;
        assert_eq!(refused(&mut cluster, &body), Refused::Key(KeyError::StrayBits));
        let mut body = good.clone();
        body[at - 4..at].copy_from_slice(&P.to_le_bytes());
        assert_eq!(refused(&mut cluster, &body), Refused::Key(KeyError::Element { at: 11 }));
    }
    cluster.reconnect();
    let first = admit(&mut cluster, 0, &requests);
    assert_eq!(first.counter(), 1);
    let again = cluster.connections[0].receive(&cluster.stores[0], Kind::FetchShare, good).unwrap_err();
    assert_eq!(again, Refused::Counter { got: 1, last: 1 });
}

#[test]
fn without_search_shares_there_is_nothing_to_compute_with() {
    let mut rng = rng(16);
    let dir = tempfile::tempdir().unwrap();
    let options = Options::default();
    let manifest = common::share_rows(&byte_rows(5, 4, 16), dir.path(), options, 17);
    assert_eq!(wire::max_request(&manifest), wire::fetch_len(&manifest));
    let client = dir.path().join(roadstead_trident::share::CLIENT_DIR);
    let client = roadstead_trident::query::Collection::open(&client).unwrap();
    assert_eq!(client.fetch_shared(1, 1, &common::expander(), &mut rng).err(), Some(QueryError::NoSearch));
}

/// The name of a query is one for all three servers, and new with every counter and every connection.
#[test]
fn names_of_queries_agree_and_never_repeat() {
    let mut cluster = Cluster::new(&byte_rows(20, 2, 18), 19);
    let mut seen = std::collections::HashSet::new();
    for _ in 0..20 {
        cluster.reconnect();
        // The very same row every time: nothing of it is in the name.
        for counter in 1..10 {
            let (_, requests) =
                cluster.client.fetch_shared(5, counter, &cluster.expander, &mut cluster.rng).unwrap();
            let ids: [u128; 3] = std::array::from_fn(|party| admit(&mut cluster, party, &requests).id());
            assert!(ids[0] == ids[1] && ids[1] == ids[2]);
            // All of its bits are, so that nobody guesses one.
            assert!(seen.insert(ids[0] as u64) && seen.insert((ids[0] >> 64) as u64));
        }
    }
}

/// What one server sees of a fetch: its keys, its sums' shares from the others, and its share of the result.
#[test]
fn the_view_of_one_server_is_uniform_whatever_the_row() {
    for fill in [0.0, 255.0] {
        let mut rows = vec![vec![fill; 16]; 64];
        rows[9] = vec![255.0 - fill; 16];
        let mut cluster = Cluster::of(&mut Table(rows), 20, u64::MAX);
        for index in [9, 40] {
            let (mut parts, mut shares): ([Vec<u32>; 3], [Vec<u32>; 3]) = Default::default();
            for _ in 0..150 {
                let counter = cluster.next_counter();
                let (_, requests) =
                    cluster.client.fetch_shared(index, counter, &cluster.expander, &mut cluster.rng).unwrap();
                let sums: [Vec<u32>; 3] = std::array::from_fn(|party| {
                    let query = admit(&mut cluster, party, &requests);
                    cluster.stores[party].combine(&[query]).unwrap().remove(0)
                });
                for from in Party::ALL {
                    let messages = reshare(from, &sums[from.index()], &mut cluster.rng);
                    for to in Party::ALL.into_iter().filter(|to| *to != from) {
                        parts[to.index()].extend(elements(&messages[to.index()]));
                    }
                }
                for (shares, answer) in shares.iter_mut().zip(cluster.exchange(&sums, &requests)) {
                    shares.extend(elements(&answer[COUNTER..]));
                }
            }
            parts.iter().chain(&shares).for_each(|elements| chi_square_elements(elements));
        }
    }
}

/// The three messages of a server lie on a line that meets zero in its term.
#[test]
fn messages_share_the_term_of_their_server() {
    for party in Party::ALL {
        let messages = reshare(party, &[5, P - 1], &mut rng(21)).map(|message| elements(&message));
        for (at, sum) in [5, P - 1].into_iter().enumerate() {
            let term = mul(party.coefficient(), sum);
            let [one, two, three] = messages.each_ref().map(|message| message[at]);
            assert_eq!((add(one, one), add(one, three)), (add(term, two), add(two, two)));
        }
    }
}
