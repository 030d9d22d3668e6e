//! A server that is known by its public key, whoever has signed its certificate.
#![forbid(unsafe_code)]

use std::sync::Arc;

use ring::digest::{SHA256, digest};
use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use webpki::EndEntityCert;

use roadstead_proto::identity::Pin;

/// The pin of a certificate's key; `None` if it is no certificate.
pub(super) fn pin_of(certificate: &CertificateDer<'_>) -> Option<Pin> {
    let info = EndEntityCert::try_from(certificate).ok()?.subject_public_key_info();
    let mut pin = [0; 32];
    pin.copy_from_slice(digest(&SHA256, &info).as_ref());
    Some(Pin(pin))
}

/// The peer has another key than the one that was expected.
#[derive(Debug, thiserror::Error)]
#[error("the peer's public key is not the pinned one: it has the pin {found}, expected is {expected}")]
pub(super) struct WrongKey {
    found: Pin,
    expected: Pin,
}

/// Accepts the one key it was told of. That the server holds it is proven by the signature over the handshake.
#[derive(Debug)]
pub(super) struct Pinned {
    pin: Pin,
    provider: Arc<CryptoProvider>,
}

impl Pinned {
    pub(crate) fn new(pin: Pin, provider: Arc<CryptoProvider>) -> Self {
        Self { pin, provider }
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match pin_of(certificate) {
            Some(pin) if pin == self.pin => Ok(ServerCertVerified::assertion()),
            Some(found) => {
                let wrong = WrongKey { found, expected: self.pin };
                Err(CertificateError::Other(OtherError(Arc::new(wrong))).into())
            }
            None => Err(CertificateError::BadEncoding.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("only TLS 1.3 is spoken here".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
