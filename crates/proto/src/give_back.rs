//! One function, `give_back`: how what was counted is given back.
#![forbid(unsafe_code)]

/// Takes `amount` off `count`, of which it is a part. Where it is not, a test fails, and a server counts nothing rather
/// than nearly everything.
pub fn give_back(count: &mut usize, amount: usize) {
    debug_assert!(amount <= *count, "more is given back than was taken");
    *count = count.saturating_sub(amount);
}
