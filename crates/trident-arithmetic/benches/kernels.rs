//! Micro-benchmarks of the inner loops at the size of siftsmall: 10,000 rows, records of 144 bytes, 129 elements.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use roadstead_trident_arithmetic::{
    digest::Digest,
    dpf::{Domain, Evaluator, Role, generate},
    field::uniform,
    kernels::{Kernel, combine, scan, select, spread},
    lines::{BLOCK, COLUMN, GROUP, Line},
    party::Party,
    prg::Expander,
    selector::{self, Expansion, PAYLOAD, Walks},
};

const ROWS: usize = 10_000;
const COLUMNS: usize = 9;
const ELEMENTS: usize = 129;

fn available() -> impl Iterator<Item = Kernel> {
    Kernel::ALL.into_iter().filter(|kernel| kernel.available())
}

fn lines(count: usize) -> Vec<Line> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    (0..count).map(|_| Line(std::array::from_fn(|_| uniform(&mut rng)))).collect()
}

fn expander() -> Expander {
    Expander::new(&Digest([6; 32]), &[[7; 16]; 3])
}

fn bench_dpf(c: &mut Criterion) {
    let (mut rng, expander) = (ChaCha8Rng::seed_from_u64(2), expander());
    let mut group = c.benchmark_group("dpf");
    for rows in [ROWS, 1_000_000] {
        let domain = Domain::new(rows);
        let [key, _] = generate(domain, rows / 3, &expander, &mut rng);
        let (mut evaluator, mut bits) = (Evaluator::default(), Vec::new());
        group.bench_function(BenchmarkId::new("generate", rows), |b| {
            b.iter(|| generate(domain, black_box(rows / 3), &expander, &mut rng))
        });
        group.bench_function(BenchmarkId::new("expand", rows), |b| {
            b.iter(|| evaluator.expand(&expander, domain, Role::First, black_box(&key), &mut bits));
        });
    }
}

/// Both components of a server, as one fetch needs them.
fn bench_select(c: &mut Criterion) {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let components = [lines(ROWS / GROUP * COLUMNS), lines(ROWS / GROUP * COLUMNS)];
    let mut group = c.benchmark_group("select");
    for kernel in available() {
        for queries in [1usize, 2, 4, 8, 16] {
            let masks: Vec<Vec<u8>> = (0..queries)
                .map(|_| {
                    let mut bits = vec![0; ROWS / 8];
                    rng.fill_bytes(&mut bits);
                    let mut masks = Vec::new();
                    spread(&bits, ROWS / GROUP, &mut masks);
                    masks
                })
                .collect();
            let masks: Vec<&[u8]> = masks.iter().map(Vec::as_slice).collect();
            let mut sums = vec![vec![[0; COLUMN]; COLUMNS]; queries];
            group.throughput(Throughput::Elements(queries as u64));
            group.bench_function(BenchmarkId::new(kernel.name(), queries), |b| {
                b.iter(|| {
                    let mut places: Vec<&mut [[u8; COLUMN]]> =
                        sums.iter_mut().map(Vec::as_mut_slice).collect();
                    for component in &components {
                        select(kernel, black_box(component), COLUMNS, &masks, &mut places);
                    }
                });
            });
        }
    }
}

/// One vector is an unchecked search, three are a checked one, six are two checked ones in a pass.
fn bench_scan(c: &mut Criterion) {
    let blocks = lines(ROWS / BLOCK * ELEMENTS);
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let mut group = c.benchmark_group("scan");
    for kernel in available() {
        for vectors in [1usize, 3, 6, 12] {
            let queries: Vec<Vec<u32>> =
                (0..vectors).map(|_| (0..ELEMENTS).map(|_| uniform(&mut rng)).collect()).collect();
            let queries: Vec<&[u32]> = queries.iter().map(Vec::as_slice).collect();
            let mut products = vec![vec![0; ROWS]; vectors];
            group.throughput(Throughput::Elements(vectors as u64));
            group.bench_function(BenchmarkId::new(kernel.name(), vectors), |b| {
                b.iter(|| {
                    let mut places: Vec<&mut [u32]> = products.iter_mut().map(Vec::as_mut_slice).collect();
                    scan(kernel, black_box(&blocks), ELEMENTS, &queries, &mut places);
                });
            });
        }
    }
}

/// What a fetch whose result stays shared costs one server: the selector, then the rows.
fn bench_shared(c: &mut Criterion) {
    let (mut rng, expander) = (ChaCha8Rng::seed_from_u64(5), expander());
    let domain = selector::Domain::new(ROWS);
    let [_, keys, _] = selector::share(domain, ROWS / 3, &[1, 2, 3], &expander, &mut rng);
    let (mut walks, mut run, mut weights) = (Walks::default(), Vec::new(), Vec::new());
    let mut expand = |keys| {
        let mut expansion = Expansion::new(&expander, domain, Party::ALL[1], keys, &mut walks);
        weights.clear();
        while weights.len() < domain.lines() {
            expansion.next_run(&mut run);
            weights.extend_from_slice(&run);
        }
    };
    let mut group = c.benchmark_group("shared");
    group.bench_function("generate", |b| {
        b.iter(|| selector::share(domain, black_box(ROWS / 3), &[1, 2, 3], &expander, &mut rng))
    });
    group.bench_function("expand", |b| {
        b.iter(|| expand(black_box(&keys)));
    });
    let blocks = lines(ROWS / BLOCK * ELEMENTS);
    for kernel in available() {
        for queries in [1usize, 2, 4, 8, 16] {
            let weights: Vec<Vec<Line>> = (0..queries).map(|_| weights.clone()).collect();
            let weights: Vec<&[Line]> = weights.iter().map(Vec::as_slice).collect();
            let mut sums = vec![vec![0; PAYLOAD * (ELEMENTS - 1)]; queries];
            group.throughput(Throughput::Elements(queries as u64));
            group.bench_function(BenchmarkId::new(kernel.name(), queries), |b| {
                b.iter(|| {
                    let mut places: Vec<&mut [u32]> = sums.iter_mut().map(Vec::as_mut_slice).collect();
                    combine(kernel, black_box(&blocks), ELEMENTS, ELEMENTS - 1, &weights, &mut places);
                });
            });
        }
    }
}

criterion_group!(benches, bench_dpf, bench_select, bench_scan, bench_shared);
criterion_main!(benches);
