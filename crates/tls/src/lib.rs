//! TLS 1.3 (RFC 8446) as a layer: [`Acceptor`] for servers, [`Connector`] for clients.
//!
//! The state machine and the cryptography are those of `rustls`, used without buffers of its own: what a connection
//! holds is held, bounded and charged by the engine, and an idle connection holds no bytes, only the state of its
//! session. There is no early data and no resumption: every connection proves its keys.
//!
//! Who the peer has proven to be is in [`Context::identity`](roadstead_proto::Context::identity).
//!
//! A record is read when all of it is there. So a peer that sends one of the largest, 16 KiB, has
//! [`Budget::idle`](roadstead_proto::Budget::idle) to do it, where without TLS every byte would have counted. File
//! ranges are read by a call that blocks: see [`Output::file`](roadstead_proto::Output::file).
#![forbid(unsafe_code)]

mod authority;
mod error;
mod keys;
mod pin;
mod record;
#[cfg(test)]
mod tests;

use std::{
    io,
    sync::{Arc, PoisonError, RwLock},
};

use rustls::{
    ClientConfig, Error, RootCertStore, ServerConfig,
    client::{Resumption, WebPkiServerVerifier},
    crypto::{CryptoProvider, ring::sign::any_supported_type},
    pki_types::ServerName,
    server::{NoServerSessionStorage, WebPkiClientVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
    version::TLS13,
};

use roadstead_proto::layer::{Credentials, Layer, Layers, Unfit};

use authority::AnyName;
pub use error::TlsError;
use keys::Source;
pub use keys::{Keys, read_pin};
use pin::Pinned;
use record::Records;
pub use roadstead_proto::identity::{Expect, NotAPin, Pin};

/// Which clients a server talks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clients {
    /// Whoever comes; nobody is asked for a certificate.
    Anyone,
    /// Those with a certificate of the keys' authority.
    Known,
}

/// Speaks TLS with those who connect to a server.
///
/// Keys that were [loaded](Keys::load) from files are read anew, for the connections that come from then on, when a server in its
/// foreground is sent SIGHUP: see `Server::run`. All clones of an acceptor have the same.
#[derive(Debug, Clone)]
pub struct Acceptor {
    config: Arc<RwLock<Arc<ServerConfig>>>,
    clients: Clients,
    /// Where the keys were read.
    source: Option<Source>,
    /// The only public key that it may have.
    pinned: Option<Pin>,
}

impl Acceptor {
    /// Shows `keys` to clients, and talks to `clients` only.
    ///
    /// # Errors
    /// [`TlsError::Unfit`] if the parts of `keys` do not belong together.
    pub fn new(keys: &Keys, clients: Clients) -> Result<Self, TlsError> {
        let config = Arc::new(RwLock::new(Self::config(keys, clients)?));
        Ok(Self { config, clients, source: keys.source.clone(), pinned: None })
    }

    /// Keeps its public key, by which clients know it: of other keys that are read anew, only those with another
    /// certificate for the same key are taken.
    #[must_use]
    pub fn pinned(mut self, pin: Pin) -> Self {
        self.pinned = Some(pin);
        self
    }

    fn config(keys: &Keys, clients: Clients) -> Result<Arc<ServerConfig>, TlsError> {
        let provider = provider();
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])
            .map_err(unfit)?;
        let builder = match clients {
            Clients::Anyone => builder.with_no_client_auth(),
            Clients::Known => {
                let roots = Arc::new(roots(keys)?);
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(roots, provider).build().map_err(unfit)?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder.with_cert_resolver(certified(keys)?);
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Arc::new(config))
    }

    /// What the keys are now.
    fn read(&self, source: &Source) -> Result<Arc<ServerConfig>, TlsError> {
        let keys = source.read()?;
        match self.pinned {
            Some(pinned) if pinned != keys.pin() => {
                Err(unfit(format!("their pin is {}, and clients expect {pinned}", keys.pin())))
            }
            _ => Self::config(&keys, self.clients),
        }
    }
}

impl Layers for Acceptor {
    fn layer(&self) -> io::Result<Box<dyn Layer>> {
        let config = Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner));
        Ok(Box::new(Records::server(config)?))
    }

    fn reload(&self) -> io::Result<bool> {
        let Some(source) = &self.source else { return Ok(false) };
        let config = self.read(source).map_err(io::Error::other)?;
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(true)
    }
}

/// Speaks TLS with a server that is connected to.
#[derive(Debug, Clone)]
pub struct Connector {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Connector {
    /// Shows `keys` to the server if it asks for them, and talks to the one that is `expect`ed only.
    ///
    /// # Errors
    /// [`TlsError`] if a name is expected and `keys` have no authority, the name is none, or the parts of `keys` do
    /// not belong together.
    pub fn new(keys: Option<&Keys>, expect: Expect) -> Result<Self, TlsError> {
        let provider = provider();
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])
            .map_err(unfit)?;
        let (builder, name) = match expect {
            Expect::Name(name) => {
                let roots = roots(keys.ok_or(TlsError::NoAuthority)?)?;
                let name = ServerName::try_from(name.clone()).map_err(|_| TlsError::Name(name))?;
                (builder.with_root_certificates(roots), name)
            }
            Expect::Known => {
                let roots = Arc::new(roots(keys.ok_or(TlsError::NoAuthority)?)?);
                let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider);
                let verifier = Arc::new(AnyName(verifier.build().map_err(unfit)?));
                (builder.dangerous().with_custom_certificate_verifier(verifier), no_name())
            }
            Expect::Pin(pin) => {
                let verifier = Arc::new(Pinned::new(pin, provider));
                (builder.dangerous().with_custom_certificate_verifier(verifier), no_name())
            }
        };
        let mut config = match keys {
            Some(keys) => builder.with_client_cert_resolver(certified(keys)?),
            None => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::disabled();
        Ok(Self { config: Arc::new(config), name })
    }
}

impl Layers for Connector {
    fn layer(&self) -> io::Result<Box<dyn Layer>> {
        Ok(Box::new(Records::client(Arc::clone(&self.config), self.name.clone())?))
    }
}

impl Credentials for Keys {
    fn acceptor(&self) -> Result<Arc<dyn Layers>, Unfit> {
        Ok(Arc::new(Acceptor::new(self, Clients::Known).map_err(Unfit::new)?))
    }

    fn connector(&self, expect: &Expect) -> Result<Arc<dyn Layers>, Unfit> {
        Ok(Arc::new(Connector::new(Some(self), expect.clone()).map_err(Unfit::new)?))
    }
}

/// An address is not sent to the server, and stands where no name is checked.
fn no_name() -> ServerName<'static> {
    std::net::IpAddr::from([0, 0, 0, 0]).into()
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// What rustls shows and signs with. It reads the private key where that lies: a copy handed over would not be
/// zeroised.
fn certified(keys: &Keys) -> Result<Arc<SingleCertAndKey>, TlsError> {
    let certified = CertifiedKey::new(keys.chain.clone(), any_supported_type(&keys.key).map_err(unfit)?);
    match certified.keys_match() {
        Ok(()) => Ok(Arc::new(certified.into())),
        Err(Error::InconsistentKeys(_)) => {
            Err(unfit("the private key is not the one that the certificate is for"))
        }
        Err(error) => Err(unfit(error)),
    }
}

fn roots(keys: &Keys) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in &keys.authority {
        roots.add(certificate.clone()).map_err(unfit)?;
    }
    if roots.is_empty() { Err(TlsError::NoAuthority) } else { Ok(roots) }
}

fn unfit(why: impl std::fmt::Display) -> TlsError {
    TlsError::Unfit(why.to_string())
}
