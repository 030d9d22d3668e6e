//! What a range of rows gives for many requests in one go over it, and how the parts of all ranges become answers.

use std::ops::Range;

use super::questions::{FetchQuery, SearchQuery, SharedQuery};
use super::store::{Scratch, Store, StoreError};
use crate::{
    agreed::{
        integrity,
        wire::{self, COUNTER},
    },
    arithmetic::{
        field::{add, mul},
        kernels,
        lines::{BLOCK, COLUMN, GROUP, Line},
        selector::{Expansion, PAYLOAD, ROWS_PER_RUN},
    },
};

/// Blocks of search shares that a pass takes at a time: what one digest covers, and few enough for their products to
/// stay in the second-level cache until they are masked and written.
const BLOCKS: usize = integrity::ROWS / BLOCK;
/// Blocks of search shares in a run of a selector.
const BLOCKS_PER_RUN: usize = ROWS_PER_RUN / BLOCK;
const _: () = assert!(BLOCKS_PER_RUN.is_multiple_of(BLOCKS));

/// All rows in one range, for whoever has no workers.
impl Store {
    /// Answers fetches in one pass over the components: for each the body of a [`wire::Kind::Fetched`].
    pub fn fetch(&self, queries: &[FetchQuery]) -> Vec<Vec<u8>> {
        self.fetched(queries, vec![self.fetch_rows(queries, 0..self.manifest().rows)])
    }

    /// Answers searches in one pass over the search shares: for each the body of a [`wire::Kind::Searched`], which has
    /// 4 bytes a row and vector.
    ///
    /// # Errors
    /// When the shares are in a file that can no longer be read. A store without search shares admits no search.
    pub fn search(&self, queries: &[SearchQuery]) -> Result<Vec<Vec<u8>>, StoreError> {
        self.search_rows(queries, 0..self.manifest().rows)
    }

    /// The sums of fetches whose results stay shared, in one pass over the search shares: for each the sums of the rows
    /// with the first, second and third element of this server's share of the selector, `dim` elements each. They are
    /// for [`reshare`](crate::agreed::reshare::reshare) and must not leave the server otherwise.
    ///
    /// # Errors
    /// As [`Store::search`].
    pub fn combine<'a>(
        &self,
        queries: impl IntoIterator<Item = &'a SharedQuery>,
    ) -> Result<Vec<Vec<u32>>, StoreError> {
        self.combine_rows(queries, 0..self.manifest().rows)
    }
}

/// One range, which begins where a digest of the search shares does.
impl Store {
    /// For each fetch the XOR of the records of `rows` that it selects, of both components.
    pub(crate) fn fetch_rows(&self, queries: &[FetchQuery], rows: Range<usize>) -> Vec<Vec<[u8; COLUMN]>> {
        let mut scratch = self.scratch();
        let Scratch { evaluator, bits, masks, .. } = &mut scratch;
        let (width, domain) = (self.manifest().record_width(), self.manifest().domain());
        let groups = rows.start / GROUP..rows.end.div_ceil(GROUP);
        masks.resize_with(masks.len().max(queries.len()), Vec::new);
        let mut sums = vec![vec![[0; COLUMN]; width]; queries.len()];
        for (at, (component, role)) in self.components.iter().enumerate() {
            for (query, masks) in queries.iter().zip(masks.iter_mut()) {
                evaluator.expand_rows(&query.expander, domain, *role, &query.keys[at], rows.clone(), bits);
                kernels::spread(bits, groups.len(), masks);
            }
            let lines = &component[groups.start * width..groups.end * width];
            let masks: Vec<&[u8]> = masks[..queries.len()].iter().map(Vec::as_slice).collect();
            let mut sums: Vec<&mut [[u8; COLUMN]]> = sums.iter_mut().map(Vec::as_mut_slice).collect();
            kernels::select(self.kernel(), lines, width, &masks, &mut sums);
        }
        self.give_back(scratch);
        sums
    }

    /// The bodies of answers to fetches, from what all ranges gave for them.
    pub(crate) fn fetched(&self, queries: &[FetchQuery], parts: Vec<Vec<Vec<[u8; COLUMN]>>>) -> Vec<Vec<u8>> {
        let length = self.manifest().record_bytes();
        let mut bodies: Vec<Vec<u8>> = queries
            .iter()
            .map(|query| {
                let mut body = Vec::with_capacity(wire::fetched_len(self.manifest()));
                body.extend_from_slice(&query.counter.to_le_bytes());
                body.resize(COUNTER + length, 0);
                body
            })
            .collect();
        for part in parts {
            for (body, sum) in bodies.iter_mut().zip(&part) {
                body[COUNTER..].iter_mut().zip(sum.as_flattened()).for_each(|(byte, more)| *byte ^= more);
            }
        }
        for (query, body) in queries.iter().zip(&mut bodies) {
            query.masks.xor(query.counter, &mut body[COUNTER..]);
        }
        bodies
    }

    /// For each search the part of its answer that is about `rows`: for each of its vectors 4 bytes a row. The counter
    /// is before the first row of all.
    pub(crate) fn search_rows(
        &self,
        queries: &[SearchQuery],
        rows: Range<usize>,
    ) -> Result<Vec<Vec<u8>>, StoreError> {
        let mut bodies: Vec<Vec<u8>> = queries.iter().map(|query| empty_part(query, &rows)).collect();
        let Some(shares) = &self.shares else { return Ok(bodies) };
        // The server's coefficient goes into the vectors once instead of into every product.
        let coefficient = self.party().coefficient();
        let scaled = |vector: &Vec<u32>| vector.iter().map(|&element| mul(coefficient, element)).collect();
        let vectors: Vec<Vec<u32>> = queries.iter().flat_map(|query| &query.vectors).map(scaled).collect();
        let vectors: Vec<&[u32]> = vectors.iter().map(Vec::as_slice).collect();

        let mut scratch = self.scratch();
        let Scratch { lines, bytes, products, .. } = &mut scratch;
        products.resize_with(products.len().max(vectors.len()), Vec::new);
        let width = self.manifest().search_width();
        let end = rows.end.div_ceil(BLOCK);
        for first in (rows.start / BLOCK..end).step_by(BLOCKS) {
            let count = BLOCKS.min(end - first);
            let lines = shares.run(first * width, count * width, lines, bytes)?;
            products.iter_mut().for_each(|products| products.resize(count * BLOCK, 0));
            let mut places: Vec<&mut [u32]> =
                products[..vectors.len()].iter_mut().map(Vec::as_mut_slice).collect();
            kernels::scan(self.kernel(), lines, width, &vectors, &mut places);
            self.write_products(&rows, first * BLOCK, queries, &mut places, &mut bodies);
        }
        self.give_back(scratch);
        Ok(bodies)
    }

    /// For each fetch whose result stays shared the sums over `rows` that [`Store::combine`] tells of.
    pub(crate) fn combine_rows<'a>(
        &self,
        queries: impl IntoIterator<Item = &'a SharedQuery>,
        rows: Range<usize>,
    ) -> Result<Vec<Vec<u32>>, StoreError> {
        let (dim, domain) = (self.manifest().dim, self.manifest().selector_domain());
        let queries: Vec<&SharedQuery> = queries.into_iter().collect();
        let mut sums = vec![vec![0; PAYLOAD * dim]; queries.len()];
        let Some(shares) = &self.shares else { return Ok(sums) };
        let mut scratch = self.scratch();
        let Scratch { walks, weights, lines, bytes, .. } = &mut scratch;
        walks.resize_with(walks.len().max(queries.len()), Default::default);
        weights.resize_with(weights.len().max(queries.len()), Vec::new);
        let selector = |(query, walks): (&'a SharedQuery, _)| {
            Expansion::of_rows(&query.expander, domain, self.party(), &query.keys, rows.clone(), walks)
                .with_kernel(self.kernel())
        };
        let mut selectors: Vec<Expansion<'_>> = queries.into_iter().zip(walks).map(selector).collect();
        let mut places: Vec<&mut [u32]> = sums.iter_mut().map(Vec::as_mut_slice).collect();
        let width = self.manifest().search_width();
        let (start, end) = (rows.start / BLOCK, rows.end.div_ceil(BLOCK));
        for first in (start..end).step_by(BLOCKS) {
            // The first run may begin in the middle of what is one otherwise.
            let run = (first / BLOCKS_PER_RUN * BLOCKS_PER_RUN).max(start);
            if first == run {
                let weights = weights.iter_mut();
                selectors.iter_mut().zip(weights).for_each(|(selector, weights)| selector.next_run(weights));
            }
            let count = BLOCKS.min(end - first);
            let lines = shares.run(first * width, count * width, lines, bytes)?;
            let in_run = PAYLOAD * (first - run)..PAYLOAD * (first - run + count);
            let weights: Vec<&[Line]> =
                weights[..selectors.len()].iter().map(|weights| &weights[in_run.clone()]).collect();
            kernels::combine(self.kernel(), lines, width, dim, &weights, &mut places);
        }
        self.give_back(scratch);
        Ok(sums)
    }

    /// Masks the products of rows `first..` and puts them where they belong in the answers of a range.
    fn write_products(
        &self,
        range: &Range<usize>,
        first: usize,
        queries: &[SearchQuery],
        products: &mut [&mut [u32]],
        bodies: &mut [Vec<u8>],
    ) {
        let rows = self.manifest().rows;
        let head = head(range);
        let mut products = products.iter_mut();
        for (query, body) in queries.iter().zip(bodies) {
            for (vector, products) in (0..query.vectors.len()).zip(&mut products) {
                // The last block is filled up with rows that do not exist.
                let count = products.len().min(rows - first);
                let products = &mut products[..count];
                query.masks.add(query.counter, (vector * rows + first) as u64, products);
                let place = vector * range.len() + first - range.start;
                let bytes = body[head + 4 * place..][..4 * count].as_chunks_mut().0;
                for (bytes, product) in bytes.iter_mut().zip(products.iter()) {
                    *bytes = product.to_le_bytes();
                }
            }
        }
    }
}

/// Bytes before the products of a range.
fn head(rows: &Range<usize>) -> usize {
    if rows.start == 0 { COUNTER } else { 0 }
}

fn empty_part(query: &SearchQuery, rows: &Range<usize>) -> Vec<u8> {
    let head = head(rows);
    let mut body = vec![0; head + 4 * query.vectors.len() * rows.len()];
    body[..head].copy_from_slice(&query.counter.to_le_bytes()[..head]);
    body
}

/// The sums of all rows, from those of all ranges.
pub(crate) fn added(parts: Vec<Vec<Vec<u32>>>) -> Vec<Vec<u32>> {
    let mut parts = parts.into_iter();
    let mut all = parts.next().unwrap_or_default();
    for part in parts {
        for (sums, more) in all.iter_mut().zip(part) {
            sums.iter_mut().zip(more).for_each(|(sum, more)| *sum = add(*sum, more));
        }
    }
    all
}

#[cfg(test)]
mod tests;
