//! How exact searches of floats are: recall against the truth in double precision, and distances within the bound that
//! the collection states, whatever else is in it.

#![allow(clippy::unwrap_used)]

mod common;

use rand::Rng;

use roadstead_trident::{
    check::Check,
    data::true_neighbours,
    field::{P, add, from_signed},
    query::{AnswerError, Neighbour, QueryError},
    wire::{COUNTER, Kind},
};

use common::{Cluster, Table, rng, slices};

const K: usize = 10;

/// Nearly normal.
fn wake_queue(rng: &mut impl Rng) -> f64 {
    (0..12).map(|_| f64::from(rng.next_u32()) / f64::from(u32::MAX)).sum::<f64>() - 6.0
}

fn scaled(vector: &[f64], length: f64) -> Vec<f32> {
    let norm = vector.iter().map(|value| value * value).sum::<f64>().sqrt();
    vector.iter().map(|value| (value / norm * length) as f32).collect()
}

/// Vectors of length 1 in random directions.
fn unit_vectors(count: usize, dim: usize, seed: u64) -> Vec<Vec<f32>> {
    let mut rng = rng(seed);
    let direction = |rng: &mut _| (0..dim).map(|_| wake_queue(rng)).collect::<Vec<f64>>();
    (0..count).map(|_| scaled(&direction(&mut rng), 1.0)).collect()
}

/// Vectors as models of text make them: around topics, with some elements that are always large, of length about 1.
fn text_like(count: usize, dim: usize, seed: u64) -> Vec<Vec<f32>> {
    let mut topics = rng(1);
    let topics: Vec<Vec<f64>> =
        (0..60).map(|_| (0..dim).map(|_| wake_queue(&mut topics)).collect()).collect();
    let mut rng = rng(seed);
    let vector = |_| {
        let topic = &topics[rng.next_u32() as usize % topics.len()];
        let near = |(at, middle): (usize, &f64)| {
            middle + 0.9 * wake_queue(&mut rng) + if at % 97 == 0 { 8.0 } else { 0.0 }
        };
        let vector: Vec<f64> = topic.iter().enumerate().map(near).collect();
        scaled(&vector, 1.0 + 0.1 * wake_queue(&mut rng))
    };
    (0..count).map(vector).collect()
}

fn nearest(cluster: &mut Cluster, query: &[f32], checked: bool) -> Vec<Neighbour> {
    let counter = cluster.next_counter();
    let (search, requests) = cluster.client.search(query, checked, counter, &mut cluster.rng).unwrap();
    let answers = cluster.ask(Kind::Search, &requests).unwrap();
    search.finish(slices(&answers)).unwrap().nearest(K)
}

/// Recall@10; every distance that is found is within the bound.
fn recall(table: &[Vec<f32>], queries: &[Vec<f32>]) -> f64 {
    let truth = true_neighbours(&mut Table(table.to_vec()), queries, K).unwrap();
    let mut cluster = Cluster::new(table, 1);
    let mut hits = 0;
    for (at, (query, truth)) in queries.iter().zip(&truth).enumerate() {
        for near in nearest(&mut cluster, query, at % 8 == 0) {
            let difference = |(a, b): (&f32, &f32)| (f64::from(*a) - f64::from(*b)).powi(2);
            let distance = table[near.index].iter().zip(query).map(difference).sum::<f64>().sqrt();
            let bound = cluster.client.distance_error(query, near.index).unwrap();
            assert!((near.distance - distance).abs() <= bound, "{} for {distance}, ± {bound}", near.distance);
            hits += usize::from(truth.iter().any(|(index, _)| *index as usize == near.index));
        }
    }
    hits as f64 / (K * queries.len()) as f64
}

#[test]
fn one_long_row_costs_the_others_no_precision() {
    let queries = unit_vectors(50, 384, 3);
    for factor in [1.0, 30.0, 1_000.0] {
        let mut table = unit_vectors(5_000, 384, 2);
        table[1_234].iter_mut().for_each(|value| *value *= factor);
        let recall = recall(&table, &queries);
        println!("one row of {factor} times the length: recall {recall}");
        assert!(recall >= 0.99, "one row of {factor} times the length: recall {recall}");
    }
}

#[test]
fn a_tenth_of_long_rows_costs_the_others_no_precision() {
    let mut table = unit_vectors(2_000, 96, 4);
    table.iter_mut().step_by(10).for_each(|row| row.iter_mut().for_each(|value| *value *= 200.0));
    let recall = recall(&table, &unit_vectors(50, 96, 5));
    assert!(recall >= 0.99, "recall {recall}");
}

#[test]
fn embeddings_as_of_text_are_found_as_by_floats() {
    let recall = recall(&text_like(5_000, 384, 6), &text_like(100, 384, 7));
    println!("recall {recall}");
    assert!(recall >= 0.995, "recall {recall}");
}

#[test]
fn a_long_row_is_found_where_it_is() {
    let mut table = unit_vectors(20, 8, 8);
    for (row, length) in table.iter_mut().zip([3.0, 6.0, 20.0, 400.0, 1.0e6]) {
        row.iter_mut().for_each(|value| *value *= length);
    }
    assert!(recall(&table, &unit_vectors(10, 8, 9)) > 0.98);
    // All of them, so that the longest are there too.
    let mut cluster = Cluster::new(&table, 1);
    let query = vec![0.1; 8];
    let counter = cluster.next_counter();
    let (search, requests) = cluster.client.search(&query, true, counter, &mut cluster.rng).unwrap();
    let answers = cluster.ask(Kind::Search, &requests).unwrap();
    let found = search.finish(slices(&answers)).unwrap().nearest(table.len());
    for (near, index) in found.iter().rev().zip([4, 3, 2]) {
        let squares = |(a, b): (&f32, &f32)| (f64::from(*a) - f64::from(*b)).powi(2);
        let distance = table[index].iter().zip(&query).map(squares).sum::<f64>().sqrt();
        assert_eq!(near.index, index);
        assert!((near.distance / distance - 1.0).abs() < 0.001, "{} for {distance}", near.distance);
    }
    let error = cluster.client.search(&table[3], true, 1, &mut cluster.rng).err().unwrap();
    assert!(matches!(error, QueryError::Quantise(_)));
    assert!(error.to_string().contains("is 400, searches of this collection take up to 5.3"), "{error}");
}

#[test]
fn a_score_that_no_row_can_have_is_refused_in_an_unchecked_search_too() {
    let table = unit_vectors(100, 16, 10);
    let mut cluster = Cluster::new(&table, 11);
    let counter = cluster.next_counter();
    let (search, requests) = cluster.client.search(&table[3], false, counter, &mut cluster.rng).unwrap();
    let answers = cluster.ask(Kind::Search, &requests).unwrap();
    let right = search.finish(slices(&answers)).unwrap();
    let quantisation = cluster.client.scales().unwrap().quantisation();
    let query = quantisation.query(&table[3], &mut Vec::new()).unwrap();
    for row in [0, 3, 99] {
        let (range, score) = (quantisation.scores(query.squared, 0), right.as_slice()[row]);
        let half = (P / 2) as i32;
        for (wanted, possible) in [
            (*range.start(), true),
            (*range.start() - 1, false),
            (-half, false),
            (*range.end(), true),
            (*range.end() + 1, false),
            (half, false),
        ] {
            let mut wrong = answers.clone();
            let place = &mut wrong[1][COUNTER + 4 * row..][..4];
            let part = u32::from_le_bytes(place.try_into().unwrap());
            let shifted = add(part, from_signed(i64::from(wanted) - i64::from(score)));
            place.copy_from_slice(&shifted.to_le_bytes());
            match search.finish(slices(&wrong)) {
                Ok(scores) => assert!(possible && scores.as_slice()[row] == wanted),
                Err(error) => assert_eq!((error, possible), (AnswerError::Refused(Check::Distance), false)),
            }
        }
    }
}
