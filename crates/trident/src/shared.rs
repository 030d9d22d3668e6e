//! The client's side of a fetch whose result stays shared among the servers: any two of their shares are enough.

use rand::CryptoRng;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::check::{self, Check};
use crate::field::{P, add, mul, sub, to_signed, uniform_nonzero};
use crate::manifest::Element;
use crate::party::Party;
use crate::prg::Expander;
use crate::query::{AnswerError, Body, Collection, QueryError, Row, body, payload};
use crate::selector::{self, PAYLOAD};
use crate::wire;

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

    /// Puts the answers of servers 1, 2, 3 together, of which one may be missing, and checks the row.
    ///
    /// A row of bytes is what was shared, byte by byte. Of a row of floats it is what searches compare, rounded to
    /// a power of two, which is coarser for long rows ([`Scales::unit`](crate::scales::Scales::unit)); [`Collection::fetch`] gives the floats themselves.
    ///
    /// # Errors
    /// Fewer than two answers, a malformed one, or answers that do not belong to one row.
    pub fn finish(&self, answers: [Option<&[u8]>; 3]) -> Result<Row, AnswerError> {
        let mut shares = Vec::with_capacity(3);
        let mut missing = None;
        for (party, answer) in Party::ALL.into_iter().zip(answers) {
            match answer {
                Some(answer) => shares.push((party, self.share(party, answer)?)),
                None => missing = missing.or(Some(party)),
            }
        }
        let [(first, one), (second, two), rest @ ..] = shares.as_slice() else {
            return Err(AnswerError::Missing(missing.unwrap_or(Party::ALL[0])));
        };
        if let [(_, three)] = rest {
            self.collinear(one, two, three)?;
        }
        let sums = at_zero((*first, one), (*second, two));
        let (row, multiples) = sums.split_at(self.dim);
        let (firsts, seconds) = multiples.split_at(self.dim);
        check::multiples(row, (self.multipliers[0], firsts), (self.multipliers[1], seconds))?;
        self.row(row)
    }

    /// What the third answer has to be, of which two are given: a digest of its body. `None` if there are not two.
    pub(crate) fn third(&self, answers: [Option<&[u8]>; 3]) -> Option<[u8; 32]> {
        let [one, two, three] =
            Party::ALL.map(|party| answers[party.index()].and_then(|answer| self.share(party, answer).ok()));
        let third: Vec<u32> = match (&one, &two, &three) {
            (Some(one), Some(two), None) => {
                one.iter().zip(two).map(|(&one, &two)| sub(add(two, two), one)).collect()
            }
            (None, Some(two), Some(three)) => {
                two.iter().zip(three).map(|(&two, &three)| sub(add(two, two), three)).collect()
            }
            (Some(one), None, Some(three)) => {
                one.iter().zip(three).map(|(&one, &three)| mul(add(one, three), P.div_ceil(2))).collect()
            }
            _ => return None,
        };
        let mut digest = blake3::Hasher::new();
        digest.update(&self.counter.to_le_bytes());
        third.iter().for_each(|element| _ = digest.update(&element.to_le_bytes()));
        Some(*digest.finalize().as_bytes())
    }

    fn share(&self, party: Party, answer: &[u8]) -> Result<Vec<u32>, AnswerError> {
        let payload = payload(party, answer, self.counter, 4 * PAYLOAD * self.dim)?;
        wire::parse_elements(payload).map_err(|error| AnswerError::Malformed { party, error })
    }

    /// The points at 1, 2 and 3 lie on a line when the outer two add up to twice the middle one.
    fn collinear(&self, one: &[u32], two: &[u32], three: &[u32]) -> Result<(), Check> {
        let lies = |((&one, &two), &three): ((&u32, &u32), &u32)| add(one, three) == add(two, two);
        let all = one.iter().zip(two).zip(three).fold(true, |all, points| all & lies(points));
        if all { Ok(()) } else { Err(Check::Line) }
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

/// Where the lines through two servers' points meet zero.
fn at_zero((a, one): (Party, &[u32]), (b, two): (Party, &[u32])) -> Vec<u32> {
    let [at, bt] = [a, b].map(|party| u32::from(party.number()));
    // b is above a, by one or by two.
    let inverse = if bt - at == 2 { P.div_ceil(2) } else { 1 };
    let (x, y) = (mul(bt, inverse), mul(at, inverse));
    one.iter().zip(two).map(|(&one, &two)| sub(mul(x, one), mul(y, two))).collect()
}
