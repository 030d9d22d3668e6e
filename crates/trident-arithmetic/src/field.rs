//! Arithmetic modulo p = 2^31 - 1.
//!
//! The Mersenne prime makes reduction two shifts and an addition, and leaves the products of two elements below 2^62,
//! so that several of them fit a 64-bit accumulator. Elements are `u32` below [`P`].

use rand::CryptoRng;

/// The modulus, 2^31 - 1.
pub const P: u32 = 0x7fff_ffff;

/// Reduces any 64-bit value.
#[inline]
pub const fn reduce(x: u64) -> u32 {
    let p = P as u64;
    let x = (x & p) + (x >> 31);
    less_p(((x & p) + (x >> 31)) as u32)
}

/// Takes p off a sum that may have reached it.
#[inline]
const fn less_p(sum: u32) -> u32 {
    // Below 2p the subtraction wraps exactly when no reduction is due; taking the smaller value needs no branch.
    let less = sum.wrapping_sub(P);
    if less < sum { less } else { sum }
}

/// `a + b`.
#[inline]
pub const fn add(a: u32, b: u32) -> u32 {
    less_p(a + b)
}

/// `a - b`.
#[inline]
pub const fn sub(a: u32, b: u32) -> u32 {
    add(a, neg(b))
}

/// `-a`.
#[inline]
pub const fn neg(a: u32) -> u32 {
    less_p(P - a)
}

/// `a * b`.
#[inline]
pub const fn mul(a: u32, b: u32) -> u32 {
    reduce(a as u64 * b as u64)
}

/// The element that stands for a signed integer.
#[inline]
pub const fn from_signed(x: i64) -> u32 {
    x.rem_euclid(P as i64) as u32
}

/// The integer of least magnitude that an element stands for, within ±(p-1)/2.
#[inline]
pub const fn to_signed(x: u32) -> i32 {
    if x > P / 2 { (x as i64 - P as i64) as i32 } else { x as i32 }
}

/// A uniform element: 31 random bits, drawn again when they are p itself.
#[inline]
pub fn uniform(rng: &mut impl CryptoRng) -> u32 {
    loop {
        let x = rng.next_u32() >> 1;
        if x != P {
            return x;
        }
    }
}

/// A uniform element other than zero.
pub fn uniform_nonzero(rng: &mut impl CryptoRng) -> u32 {
    loop {
        let x = uniform(rng);
        if x != 0 {
            return x;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_wide_integers(a in 0..P, b in 0..P, x: u64) {
            let p = u128::from(P);
            prop_assert_eq!(u128::from(reduce(x)), u128::from(x) % p);
            prop_assert_eq!(u128::from(mul(a, b)), u128::from(a) * u128::from(b) % p);
            prop_assert_eq!(u128::from(add(a, b)), (u128::from(a) + u128::from(b)) % p);
            prop_assert_eq!(u128::from(sub(a, b)), (p + u128::from(a) - u128::from(b)) % p);
            prop_assert_eq!(from_signed(i64::from(to_signed(a))), a);
        }
    }

    #[test]
    fn edges() {
        let p = u64::from(P);
        for (x, want) in
            [(0, 0), (p - 1, P - 1), (p, 0), (p + 1, 1), (u64::MAX, 3), (p * p, 0), ((p - 1) * (p - 1), 1)]
        {
            assert_eq!(reduce(x), want, "{x}");
        }
        assert_eq!((add(P - 1, P - 1), add(P - 1, 1), neg(0), neg(1)), (P - 2, 0, 0, P - 1));
        assert_eq!((to_signed(P / 2), to_signed(P / 2 + 1)), (i32::MAX / 2, -(i32::MAX / 2)));
    }
}
