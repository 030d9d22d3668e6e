//! How members prove who they are, and whether one is who it says.
#![forbid(unsafe_code)]

use std::sync::Arc;

use roadstead_proto::{
    identity::{Expect, Identity},
    layer::{Credentials, Layers, Unfit},
};

use crate::options::Member;

/// What this member shows to its peers, and expects of each.
#[derive(Debug)]
pub(super) struct Trust {
    acceptor: Arc<dyn Layers>,
    /// In the order of the peers.
    peers: Vec<(Arc<dyn Layers>, Expect)>,
}

impl Trust {
    pub(crate) fn new(keys: &dyn Credentials, peers: &[Member]) -> Result<Self, Unfit> {
        let expected = peers.iter().map(|peer| {
            let expect = peer.pin.map_or_else(|| Expect::Name(name(peer)), Expect::Pin);
            Ok((keys.connector(&expect)?, expect))
        });
        Ok(Self { acceptor: keys.acceptor()?, peers: expected.collect::<Result<_, _>>()? })
    }

    /// For connections that peers open.
    pub(crate) fn acceptor(&self) -> Arc<dyn Layers> {
        Arc::clone(&self.acceptor)
    }

    /// For connections to a peer.
    pub(crate) fn connector(&self, peer: usize) -> &dyn Layers {
        &*self.peers[peer].0
    }

    /// Whether who has proven `identity` may say that it is this peer; if not, why.
    pub(crate) fn check(&self, peer: usize, identity: Option<&Identity>) -> Result<(), String> {
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

#[cfg(test)]
mod tests {
    use roadstead_keys::{Authority, Role};
    use roadstead_proto::identity::Pin;
    use roadstead_tls::Keys;

    use super::*;

    fn trust(pin: Option<Pin>) -> Trust {
        let issued = Authority::new("cluster").unwrap().issue("server-1", Role::Server).unwrap();
        let [cert, key, ca] = [issued.cert.as_bytes(), issued.key.as_bytes(), issued.ca.as_bytes()];
        let peer = Member { pin, ..Member::new(2, ([127, 0, 0, 1], 9).into()) };
        Trust::new(&Keys::from_pem(cert, key, ca).unwrap(), &[peer]).unwrap()
    }

    #[test]
    fn every_byte_of_a_pin_counts_and_then_no_name_does() {
        let pin = Pin(std::array::from_fn(|at| at as u8));
        let trust = trust(Some(pin));
        let check = |pin| trust.check(0, Some(&Identity { name: "server-2".into(), pin }));
        assert_eq!(check(pin), Ok(()));
        for at in 0..32 {
            let mut other = pin;
            other.0[at] ^= 1 << (at % 8);
            assert!(check(other).unwrap_err().contains(&pin.to_string()), "byte {at}");
        }
        assert!(trust.check(0, None).is_err());
    }

    #[test]
    fn every_byte_of_a_name_counts_and_so_does_its_length() {
        let trust = trust(None);
        let check = |name: &[u8]| {
            let name = String::from_utf8(name.to_vec()).unwrap();
            trust.check(0, Some(&Identity { name, pin: Pin([0; 32]) }))
        };
        let name = b"server-2";
        assert_eq!(check(name), Ok(()));
        for at in 0..name.len() {
            let mut other = *name;
            other[at] ^= 1;
            assert!(check(&other).is_err() && check(&name[..at]).is_err(), "byte {at}");
        }
        assert!(check(b"server-22").is_err());
    }
}
