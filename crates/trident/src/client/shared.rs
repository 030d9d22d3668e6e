//! The client's side of a fetch whose result stays shared among the servers: any two of their shares are enough.

use rand::CryptoRng;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::query::{Body, Collection, QueryError, Row, body, payload};
use super::verdict::AnswerError;
use crate::{
    agreed::{manifest::Element, wire},
    arithmetic::{
        check::{self, Check},
        field::{P, add, mul, sub, to_signed, uniform_nonzero},
        party::Party,
        prg::Expander,
        selector::{self, PAYLOAD},
    },
};

pub use super::verdict::Odd;

/// A fetch that waits for two shares of its row. Zeroised when dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SharedFetch {
    counter: u64,
    multipliers: [u32; 2],
    dim: usize,
    #[zeroize(skip)]
    element: Element,
    /// What an element is rounded to.
    unit: f64,
}

/// A row that was put together from shares.
#[derive(Clone, Debug, PartialEq)]
pub struct SharedRow {
    /// The row, which has passed the check.
    pub row: Row,
    /// What is wrong with the one answer of three that does not go with it.
    pub odd: Option<Odd>,
}

impl Collection {
    /// Asks for row `index` so that its result stays shared: what is needed to finish, and the bodies of
    /// [`wire::Kind::FetchShare`] for servers 1, 2, 3.
    ///
    /// `counter` must be above every counter used on the three connections before; `expander` is that of their nonces.
    ///
    /// # Errors
    /// [`QueryError::Index`], or [`QueryError::NoSearch`]: the servers compute with the search shares.
    pub fn fetch_shared(
        &self,
        index: usize,
        counter: u64,
        expander: &Expander,
        rng: &mut impl CryptoRng,
    ) -> Result<(SharedFetch, [Body; 3]), QueryError> {
        let manifest = self.manifest();
        let scales = self.scales()?;
        self.check_index(index)?;
        let multipliers = [uniform_nonzero(rng), uniform_nonzero(rng)];
        let payload = Zeroizing::new([1, multipliers[0], multipliers[1]]);
        let domain = manifest.selector_domain();
        let bodies = selector::share(domain, index, &payload, expander, rng).map(|keys| {
            let mut body = body(counter, wire::fetch_share_len(manifest));
            keys.iter().for_each(|key| body.extend_from_slice(key.as_bytes()));
            body
        });
        let (dim, element) = (manifest.dim, manifest.element);
        let unit = scales.unit(index);
        Ok((SharedFetch { counter, multipliers, dim, element, unit }, bodies))
    }
}

impl SharedFetch {
    /// Answers that [`finish`](Self::finish) needs at least.
    pub const ENOUGH: usize = 2;

    /// Puts the answers of servers 1, 2, 3 together, of which one may be missing, and checks the row. Of three, any two
    /// that pass the check are enough; one server that lies makes two of the three pairs fail, and passes with none but
    /// with a probability below 2^-60.
    ///
    /// A row of bytes is what was shared, byte by byte. Of a row of floats it is what searches compare, rounded to a
    /// power of two, which is coarser for long rows ([`Scales::unit`](crate::agreed::scales::Scales::unit));
    /// [`Collection::fetch`] gives the floats themselves.
    ///
    /// # Errors
    /// Fewer than two answers, or no two that are well formed and belong to one row.
    pub fn finish(&self, answers: [Option<&[u8]>; 3]) -> Result<SharedRow, AnswerError> {
        let mut shares = Vec::with_capacity(3);
        let (mut missing, mut malformed, mut refused) = (None, None, None);
        for (party, answer) in Party::ALL.into_iter().zip(answers) {
            match answer.map(|answer| self.share(party, answer)) {
                Some(Ok(share)) => shares.push((party, share)),
                Some(Err(error)) => malformed = malformed.or(Some(error)),
                None => missing = missing.or(Some(party)),
            }
        }
        for (at, one) in shares.iter().enumerate() {
            for two in &shares[at + 1..] {
                match self.check(one, two) {
                    Ok(row) => {
                        let strays =
                            |(party, share): &&(Party, Vec<u32>)| *share != on_line(*party, one, two);
                        let contradicts =
                            shares.iter().find(strays).map(|(party, _)| Odd::Contradicts(*party));
                        return Ok(SharedRow { row, odd: malformed.map(Odd::Malformed).or(contradicts) });
                    }
                    Err(error) => refused = refused.or(Some(error)),
                }
            }
        }
        Err(malformed.or(refused).unwrap_or(AnswerError::Missing(missing.unwrap_or(Party::ALL[0]))))
    }

    /// The row that two shares give, if they carry its multiples.
    fn check(&self, one: &(Party, Vec<u32>), two: &(Party, Vec<u32>)) -> Result<Row, AnswerError> {
        let sums = at(0, one, two);
        let (row, multiples) = sums.split_at(self.dim);
        let (firsts, seconds) = multiples.split_at(self.dim);
        check::multiples(row, (self.multipliers[0], firsts), (self.multipliers[1], seconds))?;
        self.row(row)
    }

    /// What the third answer has to be, of which two are given: whose, and a digest of its body. `None` if there are
    /// not two.
    pub(crate) fn third(&self, answers: [Option<&[u8]>; 3]) -> Option<(Party, [u8; 32])> {
        let share = |party: Party| Some((party, self.share(party, answers[party.index()]?).ok()?));
        let shares: Vec<(Party, Vec<u32>)> = Party::ALL.into_iter().filter_map(share).collect();
        let [one, two] = shares.as_slice() else { return None };
        let third = Party::ALL.into_iter().find(|party| answers[party.index()].is_none())?;
        let mut digest = blake3::Hasher::new();
        digest.update(&self.counter.to_le_bytes());
        on_line(third, one, two).iter().for_each(|element| _ = digest.update(&element.to_le_bytes()));
        Some((third, *digest.finalize().as_bytes()))
    }

    fn share(&self, party: Party, answer: &[u8]) -> Result<Vec<u32>, AnswerError> {
        let payload = payload(party, answer, self.counter, 4 * PAYLOAD * self.dim)?;
        wire::parse_elements(payload).map_err(|error| AnswerError::Malformed { party, error })
    }

    /// The integers back to elements.
    fn row(&self, sums: &[u32]) -> Result<Row, AnswerError> {
        let value = |&sum: &u32| (f64::from(to_signed(sum)) * self.unit) as f32;
        let values: Vec<f32> = sums.iter().map(value).collect();
        if self.element == Element::U8
            && sums.iter().fold(false, |any, &sum| any | (sum > u32::from(u8::MAX)))
        {
            return Err(Check::Byte.into());
        }
        let mut bytes = Vec::with_capacity(self.dim * self.element.size());
        self.element.encode(&values, &mut bytes);
        Ok(Row { bytes, element: self.element })
    }
}

/// The share that `party` has when two servers have these.
fn on_line(party: Party, one: &(Party, Vec<u32>), two: &(Party, Vec<u32>)) -> Vec<u32> {
    at(party.number().into(), one, two)
}

/// Where the lines through two servers' points, of which the second is the higher, meet `x`.
fn at(x: u32, (a, one): &(Party, Vec<u32>), (b, two): &(Party, Vec<u32>)) -> Vec<u32> {
    let [a, b] = [a, b].map(|party| u32::from(party.number()));
    // They are one or two apart.
    let inverse = if b - a == 2 { P.div_ceil(2) } else { 1 };
    let (of_one, of_two) = (mul(sub(b, x), inverse), mul(sub(x, a), inverse));
    one.iter().zip(two).map(|(&one, &two)| add(mul(of_one, one), mul(of_two, two))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_is_zeroised_the_secrets_are_not_left_out() {
        let mut fetch =
            SharedFetch { counter: 1, multipliers: [2, 3], dim: 4, element: Element::F32, unit: 5.0 };
        fetch.zeroize();
        assert_eq!((fetch.multipliers, fetch.unit), ([0; 2], 0.0));
    }

    fn fetch(element: Element, unit: f64) -> SharedFetch {
        SharedFetch { counter: 1, multipliers: [2, 3], dim: 1, element, unit }
    }

    #[test]
    fn an_element_of_a_row_of_bytes_is_a_byte_and_one_of_floats_has_a_sign() {
        for (sum, taken) in [(0, true), (255, true), (256, false), (P - 1, false)] {
            let row = fetch(Element::U8, 1.0).row(&[sum]);
            assert_eq!(row.ok().map(|row| row.bytes), taken.then(|| vec![sum as u8]), "{sum}");
        }
        for (sum, value) in [(3, 1.5), (P - 3, -1.5), (P / 2, f64::from(P / 2) as f32 / 2.0)] {
            assert_eq!(fetch(Element::F32, 0.5).row(&[sum]).unwrap().values(), [value]);
        }
    }

    #[test]
    fn the_third_answer_is_known_by_two_and_by_no_more_and_no_fewer() {
        let fetch = fetch(Element::U8, 1.0);
        let body = [&1_u64.to_le_bytes()[..], &[0; 4 * PAYLOAD]].concat();
        for party in Party::ALL {
            let mut answers = [Some(&body[..]); 3];
            assert_eq!(fetch.third(answers), None);
            answers[party.index()] = None;
            assert_eq!(fetch.third(answers), Some((party, *blake3::hash(&body).as_bytes())));
            answers[party.next().index()] = None;
            assert_eq!(fetch.third(answers), None);
        }
    }

    #[test]
    fn with_too_few_answers_a_malformed_one_is_told_before_the_first_that_is_missing() {
        let fetch = fetch(Element::U8, 1.0);
        let body = [&1_u64.to_le_bytes()[..], &[0; 4 * PAYLOAD]].concat();
        let [one, two, three] = Party::ALL;
        let said = |answers| fetch.finish(answers).unwrap_err();
        assert_eq!(said([None; 3]), AnswerError::Missing(one));
        assert_eq!(said([Some(&body), None, None]), AnswerError::Missing(two));
        for (answers, odd) in
            [([Some(&body[..]), None, Some(&body[1..])], three), ([None, Some(&body[1..]), Some(&[])], two)]
        {
            assert!(matches!(said(answers), AnswerError::Malformed { party, .. } if party == odd));
        }
        let found = fetch.finish([Some(&body), Some(&body), Some(&body[1..])]).unwrap();
        assert_eq!(found.row.bytes, [0]);
        assert_eq!(found.odd.and_then(|odd| odd.party()), Some(three));
    }
}
