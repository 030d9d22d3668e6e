//! How members prove who they are: TLS in both directions, with certificates of one authority.
#![forbid(unsafe_code)]

use super::options::Member;
use crate::{
    layer::Identity,
    tls::{Acceptor, Clients, Connector, Expect, Keys, TlsError},
};

/// What this member shows to its peers, and expects of each.
#[derive(Debug)]
pub(super) struct Trust {
    acceptor: Acceptor,
    /// In the order of the peers.
    peers: Vec<(Connector, Expect)>,
}

impl Trust {
    pub(super) fn new(keys: &Keys, peers: &[Member]) -> Result<Self, TlsError> {
        let expected = peers.iter().map(|peer| {
            let expect = peer.pin.map_or_else(|| Expect::Name(name(peer)), Expect::Pin);
            Ok((Connector::new(Some(keys), expect.clone())?, expect))
        });
        Ok(Self {
            acceptor: Acceptor::new(keys, Clients::Known)?,
            peers: expected.collect::<Result<_, _>>()?,
        })
    }

    /// For connections that peers open.
    pub(super) fn acceptor(&self) -> Acceptor {
        self.acceptor.clone()
    }

    /// For connections to a peer.
    pub(super) fn connector(&self, peer: usize) -> &Connector {
        &self.peers[peer].0
    }

    /// Whether who has proven `identity` may say that it is this peer; if not, why.
    pub(super) fn check(&self, peer: usize, identity: Option<&Identity>) -> Result<(), String> {
        let Some(identity) = identity else {
            return Err("it has proven nothing about itself".into());
        };
        match &self.peers[peer].1 {
            Expect::Pin(pin) if *pin == identity.pin => Ok(()),
            Expect::Name(name) if *name == identity.name => Ok(()),
            Expect::Known => Ok(()),
            Expect::Pin(pin) => Err(format!("its public key is {}, expected is {pin}", identity.pin)),
            Expect::Name(name) => Err(format!("its certificate is for {:?}, not for {name}", identity.name)),
        }
    }
}

/// The name in a member's certificate, where its key is not pinned.
fn name(member: &Member) -> String {
    format!("server-{}", member.id.0)
}
