//! The true neighbours, by looking at every row: what searches are measured against.

use super::{DataError, Rows};

/// Rows read at a time.
const RUN: usize = 1024;

/// For each query the `k` nearest rows by squared Euclidean distance, nearest first, the lower index first on a tie,
/// with their distances. Exact for integers, in double precision otherwise.
///
/// # Errors
/// What reading the rows reports.
pub fn true_neighbours(
    rows: &mut dyn Rows,
    queries: &[Vec<f32>],
    k: usize,
) -> Result<Vec<Vec<(u32, f64)>>, DataError> {
    let (count, dim) = (rows.rows(), rows.dim());
    let mut nearest: Vec<Vec<(u32, f64)>> = vec![Vec::new(); queries.len()];
    let mut run = vec![0.0; RUN * dim];
    for first in (0..count).step_by(RUN) {
        let run = &mut run[..RUN.min(count - first) * dim];
        rows.read(first, run)?;
        for (query, nearest) in queries.iter().zip(&mut nearest) {
            for (at, row) in run.chunks_exact(dim).enumerate() {
                insert(nearest, k, ((first + at) as u32, distance(row, query)));
            }
        }
    }
    Ok(nearest)
}

/// Rows come in order of index, so an equal distance goes behind those already there.
fn insert(nearest: &mut Vec<(u32, f64)>, k: usize, new: (u32, f64)) {
    if nearest.len() == k && nearest.last().is_none_or(|last| last.1 <= new.1) {
        return;
    }
    let place = nearest.partition_point(|old| old.1 <= new.1);
    nearest.insert(place, new);
    nearest.truncate(k);
}

fn distance(row: &[f32], query: &[f32]) -> f64 {
    // Partial sums of eight lanes let the compiler use vectors.
    let mut lanes = [0.0f64; 8];
    let (rows, rest) = row.as_chunks::<8>();
    let (queries, query_rest) = query.as_chunks::<8>();
    for (row, query) in rows.iter().zip(queries) {
        for ((lane, a), b) in lanes.iter_mut().zip(row).zip(query) {
            let difference = f64::from(*a) - f64::from(*b);
            *lane += difference * difference;
        }
    }
    let rest = rest.iter().zip(query_rest).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2));
    lanes.iter().sum::<f64>() + rest.sum::<f64>()
}
