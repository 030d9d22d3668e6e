//! Fetch and search over three stores: right answers in every shape, and no wrong one believed.

#![allow(clippy::unwrap_used)]

mod common;

use rand::Rng;

use roadstead_trident::{
    admission::Admitted,
    check::Check,
    data::{Generated, Rows, open, siftsmall, true_neighbours},
    field::{P, add},
    kernels::Kernel,
    query::{AnswerError, QueryError, Row, Scores},
    wire::Kind,
};

use common::{Cluster, byte_rows, float_rows, rng, slices};

fn fetch(cluster: &mut Cluster, index: usize) -> Row {
    let counter = cluster.next_counter();
    let (fetch, requests) =
        cluster.client.fetch(index, counter, &cluster.expander, &mut cluster.rng).unwrap();
    let answers = cluster.ask(Kind::Fetch, &requests).unwrap();
    fetch.finish(slices(&answers)).unwrap()
}

fn search(cluster: &mut Cluster, query: &[f32], checked: bool) -> Scores {
    let counter = cluster.next_counter();
    let (search, requests) = cluster.client.search(query, checked, counter, &mut cluster.rng).unwrap();
    let answers = cluster.ask(Kind::Search, &requests).unwrap();
    search.finish(slices(&answers)).unwrap()
}

/// Scores of integers, from the definition.
fn true_scores(rows: &[Vec<f32>], query: &[f32]) -> Vec<i32> {
    let score = |row: &Vec<f32>| row.iter().zip(query).map(|(&x, &q)| (x * x - 2.0 * q * x) as i32).sum();
    rows.iter().map(score).collect()
}

#[test]
fn every_row_is_fetched_as_it_was_shared() {
    for (rows, dim) in
        [(1, 1), (2, 16), (3, 5), (4, 128), (5, 17), (16, 3), (17, 4), (127, 8), (129, 8), (300, 33)]
    {
        for table in [byte_rows(rows, dim, 1), float_rows(rows, dim, 2)] {
            let mut cluster = Cluster::new(&table, 3);
            for (index, row) in table.iter().enumerate() {
                assert_eq!(&fetch(&mut cluster, index).values(), row, "row {index} of {rows}");
            }
            let last = rows - 1;
            let error = cluster.client.fetch(rows, 1, &cluster.expander, &mut cluster.rng).err();
            assert_eq!(error, Some(QueryError::Index { index: rows, last }));
        }
    }
}

#[test]
fn floats_come_back_bit_by_bit() {
    let table = vec![vec![-0.0, f32::MIN_POSITIVE / 2.0, 1.0e-30, 0.1]];
    let values = fetch(&mut Cluster::new(&table, 1), 0).values();
    assert!(values.iter().zip(&table[0]).all(|(a, b)| a.to_bits() == b.to_bits()));
}

#[test]
fn scores_are_exact_with_every_kernel_and_from_memory_or_file() {
    for (rows, dim) in [(1, 1), (15, 7), (16, 128), (17, 2), (1_023, 5), (1_025, 3), (2_500, 20)] {
        let (table, queries) = (byte_rows(rows, dim, 4), byte_rows(3, dim, 5));
        for kernel in Kernel::ALL.into_iter().filter(|kernel| kernel.available()) {
            for memory in [u64::MAX, 0] {
                let mut cluster = Cluster::of(&mut common::Table(table.clone()), 6, memory);
                cluster.stores = cluster.stores.map(|store| store.with_kernel(kernel));
                assert!(cluster.stores.iter().all(|store| store.search_in_memory() == Some(memory != 0)));
                for query in &queries {
                    for checked in [true, false] {
                        let scores = search(&mut cluster, query, checked);
                        assert_eq!(scores.as_slice(), true_scores(&table, query), "{rows} x {dim}, {kernel}");
                    }
                }
            }
        }
    }
}

#[test]
fn the_nearest_rows_come_in_order_and_ties_by_index() {
    let table: Vec<Vec<f32>> = [5, 1, 5, 3, 1, 9].map(|value| vec![value as f32, 0.0]).to_vec();
    let mut cluster = Cluster::new(&table, 7);
    let scores = search(&mut cluster, &[2.0, 1.0], true);
    for k in 0..8 {
        let found: Vec<(usize, f64)> =
            scores.nearest(k).iter().map(|near| (near.index, near.distance)).collect();
        let all = [(1, 2.0), (3, 2.0), (4, 2.0), (0, 10.0), (2, 10.0), (5, 50.0)]
            .map(|(index, squared): (usize, f64)| (index, squared.sqrt()));
        assert_eq!(found, all[..k.min(6)]);
    }
}

#[test]
fn float_searches_find_the_true_neighbours() {
    for scale in [1.0e-6f32, 1.0, 1.0e6] {
        let scaled = |rows: Vec<Vec<f32>>| -> Vec<Vec<f32>> {
            rows.iter().map(|row| row.iter().map(|x| x * scale).collect()).collect()
        };
        let (table, queries) = (scaled(float_rows(500, 64, 8)), scaled(float_rows(20, 64, 9)));
        let truth = true_neighbours(&mut common::Table(table.clone()), &queries, 10).unwrap();
        let mut cluster = Cluster::new(&table, 10);
        let mut hits = 0;
        for (query, truth) in queries.iter().zip(&truth) {
            let near = search(&mut cluster, query, true).nearest(10);
            hits += near
                .iter()
                .filter(|near| truth.iter().any(|(index, _)| *index as usize == near.index))
                .count();
            assert!((near[0].distance / truth[0].1.sqrt() - 1.0).abs() < 0.01);
        }
        assert!(hits >= 195, "{hits} of 200");
    }
}

/// All that the demonstration does, on the real set where it is at hand and on a made-up one elsewhere.
#[test]
fn ten_thousand_rows_have_recall_one() {
    let (mut rows, queries): (Box<dyn Rows>, _) = match siftsmall() {
        Some(dir) => {
            let queries = open(&dir.join("siftsmall_query.fvecs"), None).unwrap().read_all().unwrap();
            (open(&dir.join("siftsmall_base.fvecs"), None).unwrap(), queries)
        }
        None => {
            let set = Generated::new(10_000, 1);
            let queries = set.queries(100);
            (Box::new(set), queries)
        }
    };
    let queries = &queries[..20];
    let truth = true_neighbours(rows.as_mut(), queries, 10).unwrap();
    let mut cluster = Cluster::of(rows.as_mut(), 11, u64::MAX);
    for (query, truth) in queries.iter().zip(truth) {
        // Equal distances may come in any order, so distances are compared.
        let found: Vec<f64> =
            search(&mut cluster, query, true).nearest(10).iter().map(|near| near.distance).collect();
        assert_eq!(found, truth.iter().map(|(_, squared)| squared.sqrt()).collect::<Vec<_>>());
    }
    let mut values = vec![0.0; 128];
    for index in [0, 1, 4_999, 9_998, 9_999] {
        rows.read(index, &mut values).unwrap();
        assert_eq!(fetch(&mut cluster, index).values(), values);
    }
}

#[test]
fn requests_answered_in_one_pass_are_as_right_as_alone() {
    let table = byte_rows(700, 24, 12);
    let mut cluster = Cluster::new(&table, 13);
    for batch in [1, 2, 3, 7, 8, 21] {
        let mut waiting = Vec::new();
        let mut fetches: [Vec<_>; 3] = Default::default();
        let mut searches: [Vec<_>; 3] = Default::default();
        for at in 0..batch {
            let index = at * 31;
            let (counter, next) = (cluster.next_counter(), cluster.next_counter());
            let (fetch, fetch_requests) =
                cluster.client.fetch(index, counter, &cluster.expander, &mut cluster.rng).unwrap();
            let (search, search_requests) =
                cluster.client.search(&table[index], at % 2 == 0, next, &mut cluster.rng).unwrap();
            for server in 0..3 {
                let store = &cluster.stores[server];
                let connection = &mut cluster.connections[server];
                let Ok(Admitted::Fetch(query)) =
                    connection.receive(store, Kind::Fetch, &fetch_requests[server])
                else {
                    panic!()
                };
                fetches[server].push(query);
                let Ok(Admitted::Search(query)) =
                    connection.receive(store, Kind::Search, &search_requests[server])
                else {
                    panic!()
                };
                searches[server].push(query);
            }
            waiting.push((index, fetch, search));
        }
        let rows: Vec<_> =
            cluster.stores.iter().zip(&fetches).map(|(store, queries)| store.fetch(queries)).collect();
        let scores: Vec<_> = cluster
            .stores
            .iter()
            .zip(&searches)
            .map(|(store, queries)| store.search(queries).unwrap())
            .collect();
        for (at, (index, fetch, search)) in waiting.iter().enumerate() {
            let row = fetch.finish([&rows[0][at], &rows[1][at], &rows[2][at]]).unwrap();
            assert_eq!(row.values(), table[*index]);
            let scores = search.finish([&scores[0][at], &scores[1][at], &scores[2][at]]).unwrap();
            assert_eq!(scores.as_slice(), true_scores(&table, &table[*index]));
        }
    }
}

#[test]
fn several_threads_share_a_store() {
    let table = byte_rows(1_000, 16, 14);
    let cluster = Cluster::new(&table, 15);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (cluster, table) = (&cluster, &table);
            scope.spawn(move || {
                let mut rng = rng(thread);
                let (mut connections, expander) = common::connect(&cluster.client, &cluster.stores, &mut rng);
                for counter in 1..50 {
                    let index = rng.next_u32() as usize % table.len();
                    let (fetch, requests) =
                        cluster.client.fetch(index, counter, &expander, &mut rng).unwrap();
                    let answers: [Vec<u8>; 3] = std::array::from_fn(|at| {
                        match connections[at].receive(&cluster.stores[at], Kind::Fetch, &requests[at]) {
                            Ok(Admitted::Fetch(query)) => cluster.stores[at].fetch(&[query]).remove(0),
                            other => panic!("{other:?}"),
                        }
                    });
                    assert_eq!(fetch.finish(slices(&answers)).unwrap().values(), table[index]);
                }
            });
        }
    });
}

#[test]
fn a_fetch_refuses_every_flipped_word_of_every_answer() {
    let mut cluster = Cluster::new(&byte_rows(200, 128, 16), 17);
    let counter = cluster.next_counter();
    let (fetch, requests) = cluster.client.fetch(77, counter, &cluster.expander, &mut cluster.rng).unwrap();
    let answers = cluster.ask(Kind::Fetch, &requests).unwrap();
    for server in 0..3 {
        for word in 2..answers[server].len() / 4 {
            let mut wrong = answers.clone();
            wrong[server][4 * word + word % 4] ^= 1 << (word % 8);
            assert_eq!(
                fetch.finish(slices(&wrong)),
                Err(AnswerError::Refused(Check::RowDigest)),
                "word {word}"
            );
        }
        for counter_byte in 0..8 {
            let mut wrong = answers.clone();
            wrong[server][counter_byte] ^= 4;
            assert!(matches!(fetch.finish(slices(&wrong)), Err(AnswerError::Counter { .. })));
        }
        for length in [0, 7, 8, answers[server].len() - 1, answers[server].len() + 1] {
            let mut wrong = answers.clone();
            wrong[server].resize(length, 0);
            assert!(matches!(fetch.finish(slices(&wrong)), Err(AnswerError::Malformed { .. })));
        }
    }
    assert!(fetch.finish(slices(&answers)).is_ok());
}

#[test]
fn a_right_row_under_another_index_is_refused() {
    let mut cluster = Cluster::new(&byte_rows(200, 16, 18), 19);
    let counter = cluster.next_counter();
    let (fetch, _) = cluster.client.fetch(5, counter, &cluster.expander, &mut cluster.rng).unwrap();
    let (_, other) = cluster.client.fetch(6, counter, &cluster.expander, &mut cluster.rng).unwrap();
    let answers = cluster.ask(Kind::Fetch, &other).unwrap();
    assert_eq!(fetch.finish(slices(&answers)), Err(AnswerError::Refused(Check::RowDigest)));
}

#[test]
fn a_checked_search_refuses_every_changed_word_of_every_answer() {
    let table = byte_rows(70, 12, 20);
    let mut cluster = Cluster::new(&table, 21);
    let counter = cluster.next_counter();
    let (search, requests) = cluster.client.search(&table[3], true, counter, &mut cluster.rng).unwrap();
    let answers = cluster.ask(Kind::Search, &requests).unwrap();
    let mut rng = rng(22);
    for server in 0..3 {
        for word in 0..answers[server].len() / 4 - 2 {
            let at = 8 + 4 * word;
            let value = u32::from_le_bytes(answers[server][at..at + 4].try_into().unwrap());
            let error = 1 + rng.next_u32() % (P - 1);
            let mut wrong = answers.clone();
            wrong[server][at..at + 4].copy_from_slice(&add(value, error).to_le_bytes());
            let check = if word / 70 == 2 { Check::SecondMultiple } else { Check::FirstMultiple };
            assert_eq!(search.finish(slices(&wrong)), Err(AnswerError::Refused(check)), "word {word}");
            wrong[server][at..at + 4].copy_from_slice(&P.to_le_bytes());
            assert!(matches!(search.finish(slices(&wrong)), Err(AnswerError::Malformed { .. })));
            wrong[server].copy_from_slice(&answers[server]);
            wrong[server][at + 3] ^= 0x80;
            assert!(search.finish(slices(&wrong)).is_err());
        }
    }
    assert_eq!(search.finish(slices(&answers)).unwrap().as_slice(), true_scores(&table, &table[3]));
}

#[test]
fn queries_that_cannot_be_compared_are_refused() {
    let mut cluster = Cluster::new(&byte_rows(3, 2, 23), 24);
    for query in [&[1.0][..], &[1.0, 2.0, 3.0], &[f32::NAN, 0.0], &[f32::INFINITY, 0.0], &[400.0, 400.0]] {
        assert!(cluster.client.search(query, true, 1, &mut cluster.rng).is_err(), "{query:?}");
    }
    assert!(cluster.client.search(&[255.0, -255.0], true, 1, &mut cluster.rng).is_ok());
    for query in [&[][..], &[1.0], &[1.0, 2.0, 3.0]] {
        let error = Some(QueryError::Dimension { got: query.len(), want: 2 });
        assert_eq!(cluster.client.search(query, true, 1, &mut cluster.rng).err(), error);
        assert_eq!(cluster.client.distance_error(query, 0).err(), error);
    }
}

#[test]
fn there_is_a_row_for_every_index_below_their_number_and_for_no_other() {
    let Cluster { client, expander, mut rng, .. } = Cluster::new(&byte_rows(3, 2, 23), 25);
    for index in [0, 2, 3, 4, 128, usize::MAX] {
        let error = (index > 2).then_some(QueryError::Index { index, last: 2 });
        assert_eq!(client.fetch(index, 1, &expander, &mut rng).err(), error);
        assert_eq!(client.fetch_shared(index, 1, &expander, &mut rng).err(), error);
        assert_eq!(client.distance_error(&[1.0, 2.0], index).err(), error);
    }
}
