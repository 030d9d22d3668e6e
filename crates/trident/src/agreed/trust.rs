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

use std::net::SocketAddr;

use thiserror::Error;

use roadstead_proto::{Address, Identity};
use roadstead_tls::{Acceptor, Clients, Connector, Expect, Keys, Pin, TlsError};

pub use super::manifest::{Pins, PinsError};
use super::{manifest::Manifest, refusal::Refused};
use crate::arithmetic::party::Party;

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
    /// Keys that cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// What the server `party` that has `keys` speaks with its clients on `addresses`: TLS with those who show a
/// certificate of the keys' authority; or `None` without TLS.
///
/// # Errors
/// [`TrustError`] if keys are missing, there should be none, they are another server's, or an address is not on this
/// machine.
pub fn acceptor(
    manifest: &Manifest,
    party: Party,
    keys: Option<&Keys>,
    addresses: &[Address],
) -> Result<Option<Acceptor>, TrustError> {
    let Some((pins, keys)) = agreed(manifest, keys, addresses)? else { return Ok(None) };
    let (own, pinned) = (keys.pin(), pins.of(party));
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
    servers: &[Address; 3],
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
    addresses: &[Address],
) -> Result<Option<(Pins, &'a Keys)>, TrustError> {
    match (manifest.pins, keys) {
        (Some(pins), Some(keys)) => Ok(Some((pins, keys))),
        (Some(_), None) => Err(TrustError::NoKeys),
        (None, Some(_)) => Err(TrustError::NoPins),
        (None, None) => {
            // A Unix socket is on this machine.
            let mut reachable = addresses.iter().filter_map(Address::socket);
            let open = reachable.find(|address| !address.ip().to_canonical().is_loopback());
            open.map_or(Ok(None), |open| Err(TrustError::Open(open)))
        }
    }
}

/// Who may ask a server of this sharing. Not another of its servers: its keys are of the same authority as the
/// clients', and with the answers of the two others it could read rows alone.
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
    use crate::agreed::manifest::{Element, SharingId, tests::flipped};

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
}
