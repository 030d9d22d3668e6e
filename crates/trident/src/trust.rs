//! Who the servers are: the public keys that a manifest names, and what servers and clients speak because of them.
//!
//! The manifest decides, and leaves no choice to whoever starts a server or a client:
//!
//! | the manifest | servers and clients | addresses |
//! |---|---|---|
//! | names the servers' public keys | must have keys, and speak TLS 1.3 in both directions | any |
//! | does not | must have none, and speak without TLS | loopback |
//!
//! Every claim of this crate assumes the first: who sees two connections of one client can put a query together.
#![forbid(unsafe_code)]

use std::{net::SocketAddr, path::Path};

use roadstead::{
    Identity,
    tls::{Acceptor, Clients, Connector, Expect, Keys, NotAPin, Pin, TlsError},
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{admission::Refused, manifest::Manifest, party::Party, store::Store};

/// The public keys of the three servers, no two of them alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "[String; 3]", into = "[String; 3]")]
pub struct Pins([Pin; 3]);

/// Why the keys of a server or a client do not go with its sharing.
#[derive(Debug, Error)]
pub enum TrustError {
    /// Without TLS nobody else may reach the servers.
    #[error(
        "{0} is not a loopback address, and the sharing is one without TLS, where whoever sees two connections of a \
         client can read its queries; make keys with `roadstead keys --out KEYS`, and share the data with \
         `roadstead trident share --keys KEYS`"
    )]
    Open(SocketAddr),
    /// The manifest asks for keys.
    #[error(
        "the sharing names its servers' public keys, so servers and clients need keys of their own: give those that \
         `roadstead keys` made"
    )]
    NoKeys,
    /// The manifest says nothing about keys.
    #[error(
        "there are keys, but the sharing does not name its servers' public keys; share the data with \
         `roadstead trident share --keys KEYS`"
    )]
    NoPins,
    /// The keys of somebody else.
    #[error(
        "these are not the keys of {party}: their pin is {own}, the sharing's is {pinned}; give {party} the keys that \
         the data was shared for, or share it again"
    )]
    Foreign {
        /// Which server.
        party: Party,
        /// The pin of the keys that were given.
        own: Pin,
        /// What the manifest says.
        pinned: Pin,
    },
    /// One operator in two places.
    #[error("{0} and {1} have the same public key: whoever runs both can read every row; make keys for each")]
    Alike(Party, Party),
    /// A pin that cannot be read.
    #[error(transparent)]
    Pin(#[from] NotAPin),
    /// Keys that cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl Pins {
    /// The pins of the servers, in order of the parties.
    ///
    /// # Errors
    /// [`TrustError::Alike`].
    pub fn new(pins: [Pin; 3]) -> Result<Self, TrustError> {
        for party in Party::ALL {
            if pins[party.index()] == pins[party.next().index()] {
                return Err(TrustError::Alike(party, party.next()));
            }
        }
        Ok(Self(pins))
    }

    /// Reads the certificates `server-1/cert.pem` to `server-3/cert.pem` of `dir`. The private keys need not be there.
    ///
    /// # Errors
    /// [`TrustError`] naming the certificate that cannot be read, or two servers with one key.
    pub fn read(dir: &Path) -> Result<Self, TrustError> {
        let pin = |party: Party| Pin::read(&dir.join(format!("server-{}", party.number())).join("cert.pem"));
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
    type Error = TrustError;

    fn try_from(pins: [String; 3]) -> Result<Self, TrustError> {
        let [first, second, third] = pins.map(|pin| pin.parse());
        Self::new([first?, second?, third?])
    }
}

/// What a server of `store` that has `keys` speaks with its clients on `addresses`: TLS with those who show a
/// certificate of the keys' authority; or `None` without TLS.
///
/// # Errors
/// [`TrustError`] if keys are missing, there should be none, they are another server's, or an address is not on this
/// machine.
pub fn acceptor(
    store: &Store,
    keys: Option<&Keys>,
    addresses: &[SocketAddr],
) -> Result<Option<Acceptor>, TrustError> {
    let Some((pins, keys)) = agreed(store.manifest(), keys, addresses)? else { return Ok(None) };
    let (party, own, pinned) = (store.party(), keys.pin(), pins.of(store.party()));
    if own != pinned {
        return Err(TrustError::Foreign { party, own, pinned });
    }
    Ok(Some(Acceptor::new(keys, Clients::Known)?.pinned(pinned)))
}

/// What a client that has `keys` speaks with each of `servers`: TLS with the one whose public key the manifest names;
/// or `None` without TLS.
///
/// # Errors
/// [`TrustError`] if keys are missing, there should be none, or a server is not on this machine.
pub fn connectors(
    manifest: &Manifest,
    keys: Option<&Keys>,
    servers: &[SocketAddr; 3],
) -> Result<Option<[Connector; 3]>, TrustError> {
    let Some((pins, keys)) = agreed(manifest, keys, servers)? else { return Ok(None) };
    let [first, second, third] =
        Party::ALL.map(|party| Connector::new(Some(keys), Expect::Pin(pins.of(party))));
    Ok(Some([first?, second?, third?]))
}

/// The rule of this file.
fn agreed<'a>(
    manifest: &Manifest,
    keys: Option<&'a Keys>,
    addresses: &[SocketAddr],
) -> Result<Option<(Pins, &'a Keys)>, TrustError> {
    match (manifest.pins, keys) {
        (Some(pins), Some(keys)) => Ok(Some((pins, keys))),
        (Some(_), None) => Err(TrustError::NoKeys),
        (None, Some(_)) => Err(TrustError::NoPins),
        (None, None) => {
            let open = addresses.iter().find(|address| !address.ip().to_canonical().is_loopback());
            open.map_or(Ok(None), |open| Err(TrustError::Open(*open)))
        }
    }
}

/// Who may ask a server of this sharing. Not another of its servers: its keys are of the same authority as the clients',
/// and with the answers of the two others it could read rows alone.
pub(crate) fn may_ask(manifest: &Manifest, identity: Option<&Identity>) -> Result<(), Refused> {
    let Some(pins) = manifest.pins else { return Ok(()) };
    let identity = identity.ok_or(Refused::Unproven)?;
    match Party::ALL.into_iter().find(|party| pins.of(*party) == identity.pin) {
        Some(party) => Err(Refused::Server(party)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{Element, SharingId};

    fn flipped(pin: Pin, at: usize) -> Pin {
        let mut pin = pin;
        pin.0[at] ^= 1 << (at % 8);
        pin
    }

    #[test]
    fn no_server_may_ask_and_every_byte_tells_another_from_it() {
        let pins = Pins::new([1, 2, 3].map(|byte| Pin([byte; 32]))).unwrap();
        let manifest = Manifest::new(SharingId([0; 16]), 1, 1, Element::U8, false).unwrap();
        let manifest = manifest.with_pins(Some(pins));
        let ask = |pin| may_ask(&manifest, Some(&Identity { name: "client".into(), pin }));
        assert_eq!(may_ask(&manifest, None), Err(Refused::Unproven));
        for party in Party::ALL {
            assert_eq!(ask(pins.of(party)), Err(Refused::Server(party)));
            (0..32).for_each(|at| assert_eq!(ask(flipped(pins.of(party), at)), Ok(()), "byte {at}"));
        }
    }

    #[test]
    fn keys_are_alike_if_all_their_bytes_are() {
        let pin = Pin([7; 32]);
        for [first, second, third] in [[0, 0, 1], [0, 1, 0], [1, 0, 0], [0, 0, 0]] {
            let pins = [first, second, third].map(|other| if other == 0 { pin } else { flipped(pin, 5) });
            assert!(matches!(Pins::new(pins), Err(TrustError::Alike(..))));
        }
        for at in 0..32 {
            assert!(Pins::new([pin, flipped(pin, at), flipped(pin, (at + 1) % 32)]).is_ok(), "byte {at}");
        }
    }
}
