//! What an expanded selector takes. Alone in its process, whose every allocation is counted.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use roadstead_trident::{
    manifest::Digest,
    party::Party,
    prg::Expander,
    selector::{Domain, Expansion, Walks, share},
};

/// Bytes allocated now, and the most there were.
static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: everything is the system allocator's; the counts touch no memory but their own.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Relaxed) + layout.size();
        MOST.fetch_max(now, Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_selector_of_ten_million_rows_takes_less_than_a_mebibyte() {
    let (domain, expander) = (Domain::new(10_000_000), Expander::new(&Digest([1; 32]), &[[2; 16]; 3]));
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let [keys, ..] = share(domain, 7_654_321, &[1, 2, 3], &expander, &mut rng);
    let before = NOW.load(Relaxed);
    MOST.store(before, Relaxed);
    let mut walks = Walks::default();
    let mut expansion = Expansion::new(&expander, domain, Party::ALL[0], &keys, &mut walks);
    let (mut run, mut lines) = (Vec::new(), 0);
    while lines < domain.lines() {
        expansion.next_run(&mut run);
        assert!(!run.is_empty(), "{lines} lines of {}", domain.lines());
        lines += run.len();
    }
    let taken = MOST.load(Relaxed) - before;
    assert!(taken < 1 << 20, "{taken} bytes");
}
