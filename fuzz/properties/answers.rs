//! Whatever three servers answer, a client takes the true row and the true scores or none; unchecked scores may be wrong,
//! but do no harm.
//!
//! The first byte says what was asked; the rest, in three equal parts, is what the servers answer.

use roadstead_trident::{
    prg::Expander,
    query::{Body, Fetch, Search},
    shared::SharedFetch,
};

use crate::sharing::{DIM, NONCES, ROWS, element, rng, sharing};

/// What was asked, as the first byte says it.
pub(crate) const FETCH: u8 = 0;
pub(crate) const SEARCH: u8 = 1;
pub(crate) const UNCHECKED: u8 = 2;
pub(crate) const SHARED: u8 = 3;

/// The row that is fetched, which is also the query.
const ROW: usize = 42;
pub(crate) const COUNTER: u64 = 1;

pub(crate) fn check(data: &[u8]) {
    let Some((&asked, answers)) = data.split_first() else { return };
    let (first, rest) = answers.split_at(answers.len() / 3);
    let (second, third) = rest.split_at(rest.len() / 2);
    let answers = [first, second, third];
    match asked {
        FETCH => {
            if let Ok(row) = fetch().0.finish(answers) {
                assert_eq!(row.bytes, row_bytes(ROW), "a wrong row is taken");
            }
        }
        SEARCH => {
            if let Ok(scores) = search(true).0.finish(answers) {
                assert_eq!(scores.as_slice(), true_scores(), "wrong scores are taken");
                assert_eq!(scores.nearest(1)[0].distance, 0.0);
            }
        }
        UNCHECKED => {
            if let Ok(scores) = search(false).0.finish(answers) {
                assert_eq!(scores.as_slice().len(), ROWS);
                assert_eq!(scores.nearest(10).len(), 10);
            }
        }
        SHARED => {
            let counted = [
                [Some(first), Some(second), Some(third)],
                [None, Some(second), Some(third)],
                [Some(first), None, Some(third)],
                [Some(first), Some(second), None],
            ];
            for answers in counted {
                if let Ok(found) = fetch_shared().0.finish(answers) {
                    assert_eq!(found.row.bytes, row_bytes(ROW), "a wrong row is taken");
                }
            }
        }
        _ => {}
    }
}

/// A fetch, and what it asks each server; the same each time.
pub(crate) fn fetch() -> (Fetch, [Body; 3]) {
    sharing().client.fetch(ROW, COUNTER, &expander(), &mut rng()).expect("the row exists")
}

/// A fetch whose result stays shared, and what it asks each server; the same each time.
pub(crate) fn fetch_shared() -> (SharedFetch, [Body; 3]) {
    sharing().client.fetch_shared(ROW, COUNTER, &expander(), &mut rng()).expect("the row exists")
}

/// A search, and what it asks each server; the same each time.
pub(crate) fn search(checked: bool) -> (Search, [Body; 3]) {
    let query: Vec<f32> = row_bytes(ROW).into_iter().map(f32::from).collect();
    sharing().client.search(&query, checked, COUNTER, &mut rng()).expect("the query is of the collection")
}

fn expander() -> Expander {
    Expander::new(&sharing().client.digest(), &NONCES)
}

fn row_bytes(row: usize) -> Vec<u8> {
    (0..DIM).map(|column| element(row, column)).collect()
}

/// `|x|² - 2<q, x>` for every row x, in plain integers.
fn true_scores() -> Vec<i32> {
    let score = |row| {
        let terms = (0..DIM).map(|column| {
            let (x, q) = (i32::from(element(row, column)), i32::from(element(ROW, column)));
            x * x - 2 * q * x
        });
        terms.sum()
    };
    (0..ROWS).map(score).collect()
}
