//! The bodies of Trident's messages. Integers are little-endian, every length is exact, and a field element that is not
//! below p is refused.
//!
//! | kind | from | body |
//! |---|---|---|
//! | hello | client | version u16, party u8, manifest digest 32 |
//! | welcome | server | version u16, party u8, manifest digest 32, nonce 16 |
//! | nonces | client | the nonces of servers 1, 2, 3: 48 |
//! | fetch | client | counter u64, one key for each of the server's two components |
//! | search | client | counter u64, checked u8, 1 or 3 vectors of dim + 1 elements |
//! | fetched | server | counter u64, one masked record |
//! | searched | server | counter u64, 1 or 3 vectors of one masked element a row |
//! | fetch share | client | counter u64, the server's two keys of the selector |
//! | fetched share | server | counter u64, the server's share of the row and of its two multiples: 3 dim elements |
//! | refusal | server | counter u64 (0: the connection), code u16, text |

use thiserror::Error;

use roadstead_proto::{Close, clean::clean};

use super::manifest::{Digest, Manifest};
use crate::arithmetic::{field::P, mask::Nonce, party::Party, selector::PAYLOAD};

/// Version of the protocol.
pub const VERSION: u16 = 2;
/// Longest text of a refusal in bytes.
pub const MAX_TEXT: usize = 512;
/// Bytes of a counter.
pub const COUNTER: usize = 8;

/// What a message is; travels in the header of its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// [`Hello`].
    Hello = 1,
    /// [`Welcome`].
    Welcome = 2,
    /// [`encode_nonces`].
    Nonces = 3,
    /// A request to read a row.
    Fetch = 4,
    /// A request for scores.
    Search = 5,
    /// The answer to a fetch.
    Fetched = 6,
    /// The answer to a search.
    Searched = 7,
    /// [`Refusal`].
    Refusal = 8,
    /// A request to read a row whose result stays shared.
    FetchShare = 9,
    /// The answer to it: one server's share of the result.
    FetchedShare = 10,
}

impl TryFrom<u8> for Kind {
    type Error = BodyError;

    fn try_from(kind: u8) -> Result<Self, BodyError> {
        use Kind::*;
        [Hello, Welcome, Nonces, Fetch, Search, Fetched, Searched, Refusal, FetchShare, FetchedShare]
            .into_iter()
            .find(|known| *known as u8 == kind)
            .ok_or(BodyError::Kind(kind))
    }
}

/// Why a body is not what its kind says.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum BodyError {
    /// No message has this kind.
    #[error("there is no message of kind {0}")]
    Kind(u8),
    /// Bodies have exact lengths.
    #[error("the {what} has {got} bytes instead of {want}")]
    Length {
        /// Which message.
        what: &'static str,
        /// Length received.
        got: usize,
        /// Length required.
        want: usize,
    },
    /// A number that stands for nothing.
    #[error("the {what} is {got}, which means nothing")]
    Value {
        /// Which number.
        what: &'static str,
        /// Its value.
        got: u64,
    },
    /// An element that is not reduced.
    #[error("element {at} is not below p")]
    Element {
        /// Position among the elements.
        at: usize,
    },
    /// A text that is not one line of UTF-8.
    #[error("the text of a refusal is not one line of UTF-8")]
    Text,
}

impl From<BodyError> for Close {
    fn from(error: BodyError) -> Self {
        Close::violation(error.to_string())
    }
}

/// Checks a body's length.
pub(crate) fn exactly<'a>(what: &'static str, body: &'a [u8], want: usize) -> Result<&'a [u8], BodyError> {
    if body.len() == want { Ok(body) } else { Err(BodyError::Length { what, got: body.len(), want }) }
}

/// Takes a fixed number of bytes off a body whose length was checked or is checked by this.
fn take<'a, const N: usize>(what: &'static str, body: &mut &'a [u8]) -> Result<&'a [u8; N], BodyError> {
    let (head, tail) =
        body.split_first_chunk().ok_or(BodyError::Length { what, got: body.len(), want: N })?;
    *body = tail;
    Ok(head)
}

fn take_party(what: &'static str, body: &mut &[u8]) -> Result<Party, BodyError> {
    let [number] = *take(what, body)?;
    Party::new(number).ok_or(BodyError::Value { what: "party", got: number.into() })
}

/// The counter of a request or an answer, and the rest of its body.
///
/// # Errors
/// Fewer than eight bytes.
pub fn counter<'a>(what: &'static str, body: &'a [u8]) -> Result<(u64, &'a [u8]), BodyError> {
    let mut rest = body;
    Ok((u64::from_le_bytes(*take(what, &mut rest)?), rest))
}

/// A client's first message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Version of the protocol.
    pub version: u16,
    /// Which server the client takes this one for.
    pub party: Party,
    /// Digest of the client's manifest.
    pub digest: Digest,
}

impl Hello {
    /// Bytes of the body.
    pub const LEN: usize = 35;

    /// The body.
    pub fn encode(&self) -> Vec<u8> {
        [&self.version.to_le_bytes()[..], &[self.party.number()], &self.digest.0].concat()
    }

    /// Reads a body.
    ///
    /// # Errors
    /// Another length, or no such party.
    pub fn parse(body: &[u8]) -> Result<Self, BodyError> {
        let mut body = exactly("hello", body, Self::LEN)?;
        let version = u16::from_le_bytes(*take("hello", &mut body)?);
        Ok(Self {
            version,
            party: take_party("hello", &mut body)?,
            digest: Digest(*take("hello", &mut body)?),
        })
    }
}

/// A server's answer to [`Hello`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// Version of the protocol.
    pub version: u16,
    /// Which server this is.
    pub party: Party,
    /// Digest of the server's manifest.
    pub digest: Digest,
    /// Fresh for this connection.
    pub nonce: Nonce,
}

impl Welcome {
    /// Bytes of the body.
    pub const LEN: usize = 51;

    /// The body.
    pub fn encode(&self) -> Vec<u8> {
        [&self.version.to_le_bytes()[..], &[self.party.number()], &self.digest.0, &self.nonce].concat()
    }

    /// Reads a body.
    ///
    /// # Errors
    /// Another length, or no such party.
    pub fn parse(body: &[u8]) -> Result<Self, BodyError> {
        let mut body = exactly("welcome", body, Self::LEN)?;
        let version = u16::from_le_bytes(*take("welcome", &mut body)?);
        let party = take_party("welcome", &mut body)?;
        Ok(Self {
            version,
            party,
            digest: Digest(*take("welcome", &mut body)?),
            nonce: *take("welcome", &mut body)?,
        })
    }
}

/// The body of the message that tells a server all three nonces.
pub fn encode_nonces(nonces: &[Nonce; 3]) -> Vec<u8> {
    nonces.concat()
}

/// Reads the three nonces.
///
/// # Errors
/// Another length.
pub fn parse_nonces(body: &[u8]) -> Result<[Nonce; 3], BodyError> {
    let mut body = exactly("message of nonces", body, 48)?;
    Ok([*take("nonce", &mut body)?, *take("nonce", &mut body)?, *take("nonce", &mut body)?])
}

/// Why a server does not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The request that is refused; 0 when it is the connection.
    pub counter: u64,
    /// What programs look at; see [`Refused::code`](crate::agreed::refusal::Refused::code).
    pub code: u16,
    /// One line for people, at most [`MAX_TEXT`] bytes.
    pub text: String,
}

impl Refusal {
    /// The body. A text that is too long is cut.
    pub fn encode(&self) -> Vec<u8> {
        let text = &self.text[..self.text.floor_char_boundary(MAX_TEXT)];
        [&self.counter.to_le_bytes()[..], &self.code.to_le_bytes(), text.as_bytes()].concat()
    }

    /// Reads a body.
    ///
    /// # Errors
    /// Too short, too long, not UTF-8, or with characters that could forge a line of a log, steer a terminal or turn
    /// text around.
    pub fn parse(body: &[u8]) -> Result<Self, BodyError> {
        let (counter, mut rest) = counter("refusal", body)?;
        let code = u16::from_le_bytes(*take("refusal", &mut rest)?);
        if rest.len() > MAX_TEXT {
            return Err(BodyError::Length { what: "text of a refusal", got: rest.len(), want: MAX_TEXT });
        }
        let text = std::str::from_utf8(rest).map_err(|_| BodyError::Text)?;
        if clean(text) != text {
            return Err(BodyError::Text);
        }
        Ok(Self { counter, code, text: text.to_owned() })
    }
}

/// Vectors of a search: one, or three when it is checked.
pub const fn vectors(checked: bool) -> usize {
    if checked { 3 } else { 1 }
}

/// The exact length of a [`Kind::Fetch`] body.
pub fn fetch_len(manifest: &Manifest) -> usize {
    COUNTER + 2 * manifest.domain().key_len()
}

/// The exact length of a [`Kind::Fetched`] body.
pub fn fetched_len(manifest: &Manifest) -> usize {
    COUNTER + manifest.record_bytes()
}

/// The exact length of a [`Kind::Search`] body.
pub fn search_len(manifest: &Manifest, checked: bool) -> usize {
    COUNTER + 1 + 4 * vectors(checked) * manifest.search_width()
}

/// The exact length of a [`Kind::Searched`] body.
pub fn searched_len(manifest: &Manifest, checked: bool) -> usize {
    COUNTER + 4 * vectors(checked) * manifest.rows
}

/// The exact length of a [`Kind::FetchShare`] body.
pub fn fetch_share_len(manifest: &Manifest) -> usize {
    COUNTER + 2 * manifest.selector_domain().key_len()
}

/// The exact length of a [`Kind::FetchedShare`] body.
pub fn fetched_share_len(manifest: &Manifest) -> usize {
    COUNTER + message_len(manifest)
}

/// The exact length in bytes of a message between servers.
pub fn message_len(manifest: &Manifest) -> usize {
    4 * PAYLOAD * manifest.dim
}

/// The longest body that a server has to take from a client.
pub fn max_request(manifest: &Manifest) -> usize {
    let search = if manifest.search { search_len(manifest, true).max(fetch_share_len(manifest)) } else { 0 };
    search.max(fetch_len(manifest)).max(Hello::LEN).max(48)
}

/// The longest body that a client has to take from a server.
pub fn max_answer(manifest: &Manifest) -> usize {
    let search =
        if manifest.search { searched_len(manifest, true).max(fetched_share_len(manifest)) } else { 0 };
    search.max(fetched_len(manifest)).max(Welcome::LEN).max(COUNTER + 2 + MAX_TEXT)
}

/// Reads field elements; bytes beyond the last whole one are ignored, their number being checked before.
///
/// # Errors
/// An element that is not below p.
pub fn parse_elements(bytes: &[u8]) -> Result<Vec<u32>, BodyError> {
    let elements: Vec<u32> = bytes.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect();
    // All are looked at before any is named: without a branch for each this is a loop of vectors.
    if elements.iter().fold(false, |any, &element| any | (element >= P)) {
        let at = elements.iter().position(|&element| element >= P).unwrap_or_default();
        return Err(BodyError::Element { at });
    }
    Ok(elements)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agreed::manifest::{Element, SharingId};

    #[test]
    fn the_longest_request_and_answer_are_as_long_as_the_longest_of_each_kind() {
        for (rows, dim) in [(1, 1), (1, 5_000), (100_000, 1), (100_000, 500)] {
            for (element, search) in [(Element::U8, false), (Element::U8, true), (Element::F32, true)] {
                let it = &Manifest::new(SharingId([0; 16]), rows, dim, element, search).unwrap();
                let mut requests = vec![Hello::LEN, 48, fetch_len(it)];
                let mut answers = vec![Welcome::LEN, COUNTER + 2 + MAX_TEXT, fetched_len(it)];
                if search {
                    requests.extend([search_len(it, true), search_len(it, false), fetch_share_len(it)]);
                    answers.extend([searched_len(it, true), searched_len(it, false), fetched_share_len(it)]);
                }
                assert_eq!(Some(max_request(it)), requests.into_iter().max(), "{rows} x {dim}");
                assert_eq!(Some(max_answer(it)), answers.into_iter().max(), "{rows} x {dim}");
            }
        }
    }

    #[test]
    fn what_is_wrong_with_a_greeting_is_said_with_what_was_found() {
        let hello = Hello { version: VERSION, party: Party::ALL[1], digest: Digest([7; 32]) };
        let Hello { version, party, digest } = hello;
        let welcome = Welcome { version, party, digest, nonce: [9; 16] };
        let (hello, welcome) = (hello.encode(), welcome.encode());
        for number in [0, 4, u8::MAX] {
            let wrong = |body: &[u8]| [&body[..2], &[number], &body[3..]].concat();
            let (what, got) = ("party", number.into());
            let error = BodyError::Value { what, got };
            assert_eq!(Hello::parse(&wrong(&hello)), Err(error));
            assert_eq!(Welcome::parse(&wrong(&welcome)), Err(error));
            assert_eq!(error.to_string(), format!("the party is {number}, which means nothing"));
        }
        for (what, body, want) in [("hello", &hello, Hello::LEN), ("welcome", &welcome, Welcome::LEN)] {
            for got in [want - 1, want + 1] {
                let body = [&body[..], &[0]].concat();
                let error = match what {
                    "hello" => Hello::parse(&body[..got]).err(),
                    _ => Welcome::parse(&body[..got]).err(),
                };
                assert_eq!(error, Some(BodyError::Length { what, got, want }));
            }
        }
        assert_eq!(
            parse_nonces(&[0; 47]),
            Err(BodyError::Length { what: "message of nonces", got: 47, want: 48 })
        );
        assert_eq!(counter("fetch", &[0; 7]), Err(BodyError::Length { what: "fetch", got: 7, want: 8 }));
    }

    #[test]
    fn every_kind_has_its_number_and_no_other_number_is_one() {
        use Kind::*;
        let kinds =
            [Hello, Welcome, Nonces, Fetch, Search, Fetched, Searched, Refusal, FetchShare, FetchedShare];
        for number in 0..=u8::MAX {
            let kind = usize::from(number).checked_sub(1).and_then(|at| kinds.get(at).copied());
            assert_eq!(Kind::try_from(number), kind.ok_or(BodyError::Kind(number)));
        }
    }

    #[test]
    fn the_first_element_that_is_none_is_named() {
        let bytes = |elements: [u32; 3]| elements.map(u32::to_le_bytes).concat();
        assert_eq!(parse_elements(&bytes([0, P - 1, 7])), Ok(vec![0, P - 1, 7]));
        for (elements, at) in [([P, 0, 0], 0), ([0, P, u32::MAX], 1), ([1, 2, P + 1], 2)] {
            assert_eq!(parse_elements(&bytes(elements)), Err(BodyError::Element { at }));
        }
    }
}
