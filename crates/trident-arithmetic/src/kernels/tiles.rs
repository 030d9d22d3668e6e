//! Tiles: so many queries and columns at once that their sums stay in registers.

/// Groups that are worked on together: they stay in the first-level cache while several tiles pass over them.
pub(super) fn groups_in_cache(width: usize) -> usize {
    (256 / width).max(1)
}

/// Calls `tile` with a constant number of queries, largest tiles first: `$size` is the constant inside the call.
macro_rules! in_tiles {
    ($range:expr, [$($size:literal),+], |$at:ident, $constant:ident| $call:expr) => {{
        let mut $at = $range.start;
        $(
            while $range.end - $at >= $size {
                const $constant: usize = $size;
                $call;
                $at += $size;
            }
        )+
    }};
}
pub(super) use in_tiles;
