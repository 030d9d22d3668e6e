//! What a sharing is: its random id and shapes, its servers' public keys, and the roots of its directories. Servers and
//! clients hold the same manifest but for the holder's name, and compare its digest when they meet.

use std::path::Path;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use roadstead_tls::{NotAPin, Pin, TlsError, read_pin};

use crate::arithmetic::check::SALT;
pub use crate::arithmetic::digest::{Digest, SharingId};
use crate::arithmetic::dpf::Domain;
pub use crate::arithmetic::element::Element;
use crate::arithmetic::{
    lines::{BLOCK, COLUMN, GROUP},
    party::Party,
    selector,
};

/// The version of manifest and files that this program writes and reads.
pub const VERSION: u32 = 2;
/// Longest manifest in bytes that is read.
pub const MAX_BYTES: usize = 4096;
/// Most rows of a collection.
pub const MAX_ROWS: usize = 1 << 28;
/// Most elements of a row.
pub const MAX_DIM: usize = 1 << 14;

/// Name of the manifest in every directory.
pub const FILE: &str = "manifest.json";

/// The description of a sharing, every number of which is in range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Manifest {
    /// Version of the format.
    pub version: u32,
    /// Random name of the sharing.
    pub sharing: SharingId,
    /// Rows of the collection, 1 to [`MAX_ROWS`].
    pub rows: usize,
    /// Elements of a row, 1 to [`MAX_DIM`].
    pub dim: usize,
    /// Type of an element.
    pub element: Element,
    /// Whether the collection can be searched. How rows became integers for that, the clients know alone.
    pub search: bool,
    /// The servers' public keys, when they are reached over TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pins: Option<Pins>,
    /// What shows that the files of all directories are those that the owner wrote.
    pub roots: Roots,
    /// The server whose directory this is; none in the client's. Not part of the digest.
    pub party: Option<Party>,
}

/// The public keys of the three servers, no two of them alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "[String; 3]", into = "[String; 3]")]
pub struct Pins([Pin; 3]);

/// Why public keys are not those of three servers.
#[derive(Debug, Error)]
pub enum PinsError {
    /// One operator in two places.
    #[error("{0} and {1} have the same public key: whoever runs both can read every row; make keys for each")]
    Alike(Party, Party),
    /// A pin that cannot be read.
    #[error(transparent)]
    Pin(#[from] NotAPin),
    /// A certificate that cannot be read.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// The roots of all directories of a sharing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Roots {
    /// Of servers 1, 2, 3.
    pub servers: [Digest; 3],
    /// Of the client's directory.
    pub client: Digest,
}

/// Why bytes are not a manifest that can be used.
#[derive(Debug, Error)]
pub enum ManifestError {
    /// Longer than any manifest.
    #[error("the manifest has {0} bytes, more than {MAX_BYTES}; is it the right file?")]
    TooLong(usize),
    /// Not the JSON of a manifest.
    #[error("the manifest cannot be read: {0}; share the data again")]
    Json(#[from] serde_json::Error),
    /// Written by another version.
    #[error("the manifest has version {0}, this program reads {VERSION}; share the data again")]
    Version(u64),
    /// Not what the owner wrote.
    #[error("the manifest is damaged; {RESTORE}")]
    Damaged,
    /// A number out of range.
    #[error("the manifest says {what} {got}, allowed are {min} to {max}; share the data again")]
    Range {
        /// Which number.
        what: &'static str,
        /// Its value.
        got: i64,
        /// Least value.
        min: i64,
        /// Greatest value.
        max: i64,
    },
}

/// What to do about a file that is not what the owner wrote.
pub(crate) const RESTORE: &str = "put a copy back, or share the data again";

/// A manifest in its file.
#[derive(Serialize)]
struct Written<'a> {
    #[serde(flatten)]
    manifest: &'a Manifest,
    check: Digest,
}

impl Manifest {
    /// A manifest for a client's directory, before there are files that it could have [roots](Self::with_roots) of.
    ///
    /// # Errors
    /// [`ManifestError::Range`] for a shape beyond the limits.
    pub fn new(
        sharing: SharingId,
        rows: usize,
        dim: usize,
        element: Element,
        search: bool,
    ) -> Result<Self, ManifestError> {
        let roots = Roots::default();
        Self { version: VERSION, sharing, rows, dim, element, search, pins: None, roots, party: None }
            .validated()
    }

    /// The same manifest with the public keys of the servers.
    #[must_use]
    pub fn with_pins(&self, pins: Option<Pins>) -> Self {
        Self { pins, ..self.clone() }
    }

    /// The same manifest with the roots of all directories.
    #[must_use]
    pub fn with_roots(&self, roots: Roots) -> Self {
        Self { roots, ..self.clone() }
    }

    /// The same manifest for the directory of `party`.
    #[must_use]
    pub fn for_party(&self, party: Party) -> Self {
        Self { party: Some(party), ..self.clone() }
    }

    /// Reads and validates a manifest, which has to be the one that was written, byte by byte.
    ///
    /// # Errors
    /// Too long, not a manifest, another version, a number out of range, or damaged.
    pub fn parse(json: &[u8]) -> Result<Self, ManifestError> {
        if json.len() > MAX_BYTES {
            return Err(ManifestError::TooLong(json.len()));
        }
        let mut fields: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(json)?;
        if let Some(version) = fields.get("version").and_then(serde_json::Value::as_u64)
            && version != u64::from(VERSION)
        {
            return Err(ManifestError::Version(version));
        }
        fields.remove("check");
        let manifest = serde_json::from_value::<Self>(fields.into())?.validated()?;
        if manifest.to_json()? == json { Ok(manifest) } else { Err(ManifestError::Damaged) }
    }

    /// The manifest as JSON, with a digest of all it says.
    ///
    /// # Errors
    /// None that a valid manifest could cause.
    pub fn to_json(&self) -> Result<Vec<u8>, ManifestError> {
        let mut json = serde_json::to_vec_pretty(&Written { manifest: self, check: self.check() })?;
        json.push(b'\n');
        Ok(json)
    }

    /// What shows that the file is what was written, its holder included.
    fn check(&self) -> Digest {
        let mut hasher = blake3::Hasher::new_derive_key("roadstead trident manifest file v1");
        hasher.update(&self.digest().0);
        hasher.update(&[self.party.map_or(0, Party::number)]);
        Digest(hasher.finalize().into())
    }

    fn validated(self) -> Result<Self, ManifestError> {
        if self.version != VERSION {
            return Err(ManifestError::Version(self.version.into()));
        }
        let in_range = |what, got: i64, min: i64, max: i64| {
            if (min..=max).contains(&got) {
                Ok(())
            } else {
                Err(ManifestError::Range { what, got, min, max })
            }
        };
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        in_range("rows", count(self.rows), 1, MAX_ROWS as i64)?;
        in_range("dim", count(self.dim), 1, MAX_DIM as i64)?;
        Ok(self)
    }

    /// The digest that servers and clients compare: BLAKE3 over a fixed encoding of everything but the holder. The
    /// pins are its end, where there are any, so the length tells the two apart.
    pub fn digest(&self) -> Digest {
        let mut hasher = blake3::Hasher::new_derive_key("roadstead trident manifest digest v2");
        hasher.update(&self.version.to_le_bytes());
        hasher.update(&self.sharing.0);
        hasher.update(&(self.rows as u64).to_le_bytes());
        hasher.update(&(self.dim as u64).to_le_bytes());
        hasher.update(&[self.element.size() as u8, u8::from(self.search)]);
        for root in self.roots.servers.iter().chain([&self.roots.client]) {
            hasher.update(&root.0);
        }
        if let Some(pins) = self.pins {
            for party in Party::ALL {
                hasher.update(&pins.of(party).0);
            }
        }
        Digest(hasher.finalize().into())
    }

    /// The rows as the domain of selection keys.
    pub fn domain(&self) -> Domain {
        Domain::new(self.rows)
    }

    /// The rows as the domain of selectors, for fetches whose result stays shared.
    pub fn selector_domain(&self) -> selector::Domain {
        selector::Domain::new(self.rows)
    }

    /// Bytes of a row.
    pub fn row_bytes(&self) -> usize {
        self.dim * self.element.size()
    }

    /// Bytes of a record: a row and its salt.
    pub fn record_bytes(&self) -> usize {
        self.row_bytes() + SALT
    }

    /// Lines of a group of four records.
    pub fn record_width(&self) -> usize {
        self.record_bytes().div_ceil(COLUMN)
    }

    /// Lines of a component.
    pub fn component_lines(&self) -> usize {
        self.rows.div_ceil(GROUP) * self.record_width()
    }

    /// Elements of a row's search share: its own and the squared norm.
    pub fn search_width(&self) -> usize {
        self.dim + 1
    }

    /// Lines of the search shares.
    pub fn search_lines(&self) -> usize {
        self.rows.div_ceil(BLOCK) * self.search_width()
    }
}

impl Pins {
    /// The pins of the servers, in order of the parties.
    ///
    /// # Errors
    /// [`PinsError::Alike`].
    pub fn new(pins: [Pin; 3]) -> Result<Self, PinsError> {
        for party in Party::ALL {
            if pins[party.index()] == pins[party.next().index()] {
                return Err(PinsError::Alike(party, party.next()));
            }
        }
        Ok(Self(pins))
    }

    /// Reads the certificates `server-1/cert.pem` to `server-3/cert.pem` of `dir`. The private keys need not be there.
    ///
    /// # Errors
    /// [`PinsError`] naming the certificate that cannot be read, or two servers with one key.
    pub fn read(dir: &Path) -> Result<Self, PinsError> {
        let pin = |party: Party| read_pin(&dir.join(format!("server-{}", party.number())).join("cert.pem"));
        let [first, second, third] = Party::ALL.map(pin);
        Self::new([first?, second?, third?])
    }

    /// The pin of `party`.
    pub fn of(&self, party: Party) -> Pin {
        self.0[party.index()]
    }
}

impl From<Pins> for [String; 3] {
    fn from(pins: Pins) -> Self {
        pins.0.map(|pin| pin.to_string())
    }
}

impl TryFrom<[String; 3]> for Pins {
    type Error = PinsError;

    fn try_from(pins: [String; 3]) -> Result<Self, PinsError> {
        let [first, second, third] = pins.map(|pin| pin.parse());
        Self::new([first?, second?, third?])
    }
}

impl Roots {
    /// The root of `holder`'s directory; of the client's without one.
    pub fn of(&self, holder: Option<Party>) -> Digest {
        holder.map_or(self.client, |party| self.servers[party.index()])
    }

    pub(crate) fn of_mut(&mut self, holder: Option<Party>) -> &mut Digest {
        match holder {
            Some(party) => &mut self.servers[party.index()],
            None => &mut self.client,
        }
    }

    /// The root of a directory whose list of block digests has these bytes.
    pub(crate) fn root(blocks: &[u8]) -> Digest {
        let mut hasher = blake3::Hasher::new_derive_key("roadstead trident directory root v1");
        hasher.update(blocks);
        Digest(hasher.finalize().into())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Another pin, by one bit of byte `at`.
    pub(crate) fn flipped(pin: Pin, at: usize) -> Pin {
        let mut pin = pin;
        pin.0[at] ^= 1 << (at % 8);
        pin
    }

    #[test]
    fn keys_are_alike_if_all_their_bytes_are() {
        let pin = Pin([7; 32]);
        let [one, two, three] = Party::ALL;
        for (others, alike) in [
            ([0, 0, 1], [one, two]),
            ([0, 1, 0], [three, one]),
            ([1, 0, 0], [two, three]),
            ([0; 3], [one, two]),
        ] {
            let pins = others.map(|other| if other == 0 { pin } else { flipped(pin, 5) });
            assert!(matches!(Pins::new(pins), Err(PinsError::Alike(a, b)) if [a, b] == alike), "{others:?}");
        }
        for at in 0..32 {
            assert!(Pins::new([pin, flipped(pin, at), flipped(pin, (at + 1) % 32)]).is_ok(), "byte {at}");
        }
    }

    #[test]
    fn a_file_that_was_given_to_another_holder_is_damaged() {
        let manifest = Manifest::new(SharingId([5; 16]), 10, 20, Element::U8, true).unwrap();
        let first = manifest.for_party(Party::ALL[0]).to_json().unwrap();
        let first = String::from_utf8(first).unwrap();
        assert!(Manifest::parse(first.as_bytes()).is_ok());
        for holder in ["2", "3", "null"] {
            let other = first.replacen("\"party\": 1", &format!("\"party\": {holder}"), 1);
            assert!(
                other != first && matches!(Manifest::parse(other.as_bytes()), Err(ManifestError::Damaged))
            );
        }
    }

    #[test]
    fn every_bit_of_a_shape_is_in_the_digest() {
        let digest =
            |rows, dim| Manifest::new(SharingId([5; 16]), rows, dim, Element::U8, true).unwrap().digest().0;
        let mut seen = vec![digest(1, 1)];
        seen.extend((1..=28).map(|bit| digest(1 << bit, 1)));
        seen.extend((1..=14).map(|bit| digest(1, 1 << bit)));
        let count = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), count);
    }

    #[test]
    fn a_shape_beyond_the_limits_is_said_with_both_of_them() {
        let said = |rows, dim| {
            Manifest::new(SharingId([5; 16]), rows, dim, Element::U8, true).unwrap_err().to_string()
        };
        assert!(said(0, 1).starts_with("the manifest says rows 0, allowed are 1 to 268435456"));
        assert!(said(1, MAX_DIM + 1).starts_with("the manifest says dim 16385, allowed are 1 to 16384"));
    }
}
