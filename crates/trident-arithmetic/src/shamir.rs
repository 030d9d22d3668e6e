//! Shares on lines: (2,3)-Shamir of degree one over the integers modulo p.
//!
//! Server b holds `secret + b * slope` with a fresh uniform slope, which by itself is uniform. The product of two
//! shares lies on a parabola, so three local products determine the product of the secrets: `3 m1 - 3 m2 + m3`.

use rand::CryptoRng;

use super::field::{add, uniform};

/// The shares of servers 1, 2 and 3.
#[inline]
pub fn share(secret: u32, rng: &mut impl CryptoRng) -> [u32; 3] {
    let slope = uniform(rng);
    let first = add(secret, slope);
    let second = add(first, slope);
    [first, second, add(second, slope)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        field::{P, mul, sub},
        party::Party,
    };
    use proptest::prelude::*;
    use rand::SeedableRng;

    proptest! {
        #[test]
        fn three_products_give_the_product_and_any_two_shares_the_secret(a in 0..P, b in 0..P, seed: u64) {
            let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
            let [x, y] = [a, b].map(|secret| share(secret, &mut rng));
            let product = Party::ALL.iter().fold(0, |sum, party| {
                add(sum, mul(party.coefficient(), mul(x[party.index()], y[party.index()])))
            });
            prop_assert_eq!(product, mul(a, b));
            prop_assert_eq!(sub(add(x[0], x[0]), x[1]), a);
            prop_assert_eq!(sub(add(x[1], add(x[1], x[1])), add(x[2], x[2])), a);
        }
    }
}
