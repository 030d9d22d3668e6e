//! Every answer is the truth: all kinds of collections, both models, many questions at once.

use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    thread,
};

use roadstead::{Dialer, Model};
use roadstead_trident::{
    client::{Client, ClientError, Options},
    data::{Generated, Rows, open, siftsmall, true_neighbours},
    query::QueryError,
    share,
};

use super::{
    common::{Table, byte_rows, float_rows},
    harness::{Shares, WAYS, Way, addresses, client, guarded, true_scores},
};

/// Questions at once.
const THREADS: usize = 16;

/// Asks `count` questions from [`THREADS`] threads.
fn at_once(count: usize, ask: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Relaxed);
                    if number >= count {
                        break;
                    }
                    ask(number);
                }
            });
        }
    });
}

#[test]
fn what_several_workers_have_a_part_in_is_right() {
    guarded(|| {
        let (rows, query) = (byte_rows(4_500, 8, 1), &byte_rows(1, 8, 2)[0]);
        let (shares, truth) = (Shares::of(&rows, 3), true_scores(&rows, query));
        for workers in [1, 2, 3, 5] {
            let servers = shares.serve(Way { model: Model::Epoll, workers });
            let client = client(&shares, addresses(&servers));
            at_once(120, |number| {
                if number % 6 > 0 {
                    let index = number * 37;
                    assert_eq!(client.fetch(index).unwrap().values(), rows[index], "{workers} workers");
                } else {
                    assert_eq!(client.scores(query).unwrap().as_slice(), truth, "{workers} workers");
                }
            });
        }
    });
}

#[test]
fn fetches_and_searches_at_once_are_all_right_on_every_model() {
    guarded(|| {
        let (rows, queries) = (byte_rows(300, 24, 1), byte_rows(7, 24, 2));
        let truth: Vec<Vec<i32>> = queries.iter().map(|query| true_scores(&rows, query)).collect();
        let (plain, secured) = (Shares::of(&rows, 3), Shares::over_tls(&rows, 3));
        for (shares, way) in [&plain, &secured].into_iter().flat_map(|shares| WAYS.map(|way| (shares, way))) {
            let servers = shares.serve(way);
            let client = client(shares, addresses(&servers));
            at_once(2 * rows.len(), |number| {
                let index = number / 2;
                if number % 2 == 0 {
                    assert_eq!(client.fetch(index).unwrap().values(), rows[index], "{way:?}");
                } else {
                    let query = index % queries.len();
                    let scores = client.scores(&queries[query]).unwrap();
                    assert_eq!(scores.as_slice(), truth[query], "{way:?}");
                }
            });
        }
    });
}

#[test]
fn unchecked_searches_and_several_clients_share_the_servers() {
    guarded(|| {
        let rows = byte_rows(130, 9, 4);
        let shares = Shares::of(&rows, 5);
        for way in WAYS {
            let servers = shares.serve(way);
            let clients: Vec<Client> = (0..6)
                .map(|number| {
                    let options = Options { checked: number % 2 == 0, ..Options::default() };
                    Client::new(shares.collection(), addresses(&servers), None, options, Dialer::start)
                        .unwrap()
                })
                .collect();
            at_once(240, |number| {
                let client = &clients[number % clients.len()];
                let index = number % rows.len();
                let scores = client.scores(&rows[index]).unwrap();
                assert_eq!(scores.as_slice(), true_scores(&rows, &rows[index]), "{way:?}");
                assert_eq!(client.fetch(index).unwrap().values(), rows[index], "{way:?}");
            });
        }
    });
}

#[test]
fn collections_of_every_size_are_fetched_and_searched() {
    guarded(|| {
        for (rows, dim) in [(1, 1), (2, 3), (127, 5), (128, 16), (129, 17), (3, 4_096)] {
            let rows = byte_rows(rows, dim, 6);
            let shares = Shares::of(&rows, 7);
            let servers = shares.serve(WAYS[0]);
            let client = client(&shares, addresses(&servers));
            for (index, row) in rows.iter().enumerate() {
                assert_eq!(&client.fetch(index).unwrap().values(), row);
            }
            assert_eq!(client.scores(&rows[0]).unwrap().as_slice(), true_scores(&rows, &rows[0]));
            let last = rows.len() - 1;
            let beyond = client.fetch(rows.len()).unwrap_err();
            let error = QueryError::Index { index: rows.len(), last };
            assert!(matches!(beyond, ClientError::Query(found) if found == error), "{beyond}");
        }
    });
}

#[test]
fn floats_come_back_bit_by_bit_and_are_found() {
    guarded(|| {
        let rows = float_rows(200, 32, 8);
        let shares = Shares::of(&rows, 9);
        for way in WAYS {
            let servers = shares.serve(way);
            let client = client(&shares, addresses(&servers));
            at_once(rows.len(), |index| {
                let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(&client.fetch(index).unwrap().values()), bits(&rows[index]));
                let nearest = client.search(&rows[index], 3).unwrap();
                assert_eq!((nearest[0].index, nearest.len()), (index, 3));
                assert!(nearest[0].distance < 1.0e-2 && nearest[1].distance > 1.0);
            });
        }
    });
}

#[test]
fn a_collection_for_fetching_only_refuses_searches_and_goes_on_fetching() {
    guarded(|| {
        let rows = float_rows(50, 6, 10);
        let options = share::Options::default();
        let shares = Shares::with(&mut Table(rows.clone()), options, 11);
        let servers = shares.serve(WAYS[0]);
        let client = client(&shares, addresses(&servers));
        for (index, row) in rows.iter().enumerate() {
            let error = client.search(row, 1).unwrap_err();
            assert!(matches!(error, ClientError::Query(QueryError::NoSearch)));
            assert_eq!(error.to_string(), "this collection was shared for fetching only");
            assert_eq!(&client.fetch(index).unwrap().values(), row);
        }
    });
}

#[test]
fn ten_thousand_rows_are_fetched_and_searched_with_recall_one() {
    guarded(|| {
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
        let truth = true_neighbours(rows.as_mut(), &queries, 10).unwrap();
        let all = rows.read_all().unwrap();
        let shares = Shares::with(rows.as_mut(), super::common::SEARCH, 12);
        let servers = shares.serve(WAYS[0]);
        let client = client(&shares, addresses(&servers));
        at_once(queries.len(), |number| {
            // Equal distances may come in any order, so distances are compared.
            let found = client.search(&queries[number], 10).unwrap();
            let found: Vec<f64> = found.iter().map(|near| near.distance).collect();
            assert_eq!(found, truth[number].iter().map(|(_, squared)| squared.sqrt()).collect::<Vec<_>>());
        });
        at_once(1_000, |number| {
            let index = number * 9_973 % all.len();
            assert_eq!(client.fetch(index).unwrap().values(), all[index]);
        });
    });
}
