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

#[cfg(test)]
mod tests {
    use super::*;

    struct Table(Vec<Vec<f32>>);

    impl Rows for Table {
        fn rows(&self) -> usize {
            self.0.len()
        }

        fn dim(&self) -> usize {
            self.0[0].len()
        }

        fn read(&mut self, first: usize, out: &mut [f32]) -> Result<(), DataError> {
            let dim = self.dim();
            out.chunks_exact_mut(dim).zip(&self.0[first..]).for_each(|(out, row)| out.copy_from_slice(row));
            Ok(())
        }
    }

    #[test]
    fn the_nearest_come_first_and_of_rows_at_one_distance_those_with_the_lower_index() {
        let rows = [4.0, 1.0, 3.0, 1.0, 1.0, 2.0].map(|element| vec![element]);
        let nearest = |k| true_neighbours(&mut Table(rows.to_vec()), &[vec![1.0], vec![4.0]], k).unwrap();
        let zero = [(1, 0.0), (3, 0.0), (4, 0.0), (5, 1.0), (2, 4.0), (0, 9.0)];
        let four = [(0, 0.0), (2, 1.0), (5, 4.0), (1, 9.0), (3, 9.0), (4, 9.0)];
        for k in 0..8 {
            assert_eq!(nearest(k), [zero, four].map(|all| all[..k.min(6)].to_vec()), "{k}");
        }
    }

    #[test]
    fn every_element_counts_and_every_row_of_every_run() {
        for dim in [1, 7, 8, 9, 17] {
            for at in 0..dim {
                let mut row = vec![1.0; dim];
                row[at] = 4.0;
                let found = true_neighbours(&mut Table(vec![row]), &[vec![1.0; dim]], 1).unwrap();
                assert_eq!(found, [[(0, 9.0)]], "element {at} of {dim}");
            }
        }
        let rows: Vec<Vec<f32>> = (0..2 * RUN + 1).map(|row| vec![row as f32]).collect();
        let indices = [0, RUN - 1, RUN, 2 * RUN - 1, 2 * RUN];
        let queries = indices.map(|index| vec![index as f32]);
        let found = true_neighbours(&mut Table(rows), &queries, 1).unwrap();
        assert_eq!(found, indices.map(|index| [(index as u32, 0.0)]));
    }
}
