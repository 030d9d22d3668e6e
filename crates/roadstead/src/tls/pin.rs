//! A pin names one public key, as in RFC 7469: SHA-256 of the SubjectPublicKeyInfo of its certificate.
#![forbid(unsafe_code)]

use std::{fmt, str::FromStr, sync::Arc};

use ring::digest::{SHA256, digest};
use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use webpki::EndEntityCert;

/// The SHA-256 digest of a public key. Written as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pin(pub [u8; 32]);

impl Pin {
    /// The pin of a certificate's key; `None` if it is no certificate.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let info = EndEntityCert::try_from(certificate).ok()?.subject_public_key_info();
        let mut pin = [0; 32];
        pin.copy_from_slice(digest(&SHA256, &info).as_ref());
        Some(Self(pin))
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pin({self})")
    }
}

/// The text is no pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a pin is written as 64 hexadecimal digits")]
pub struct NotAPin;

impl FromStr for Pin {
    type Err = NotAPin;

    fn from_str(text: &str) -> Result<Self, NotAPin> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return Err(NotAPin);
        }
        let mut pin = [0; 32];
        for (byte, pair) in pin.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = (digit(pair[0])? << 4) | digit(pair[1])?;
        }
        Ok(Self(pin))
    }
}

fn digit(ascii: u8) -> Result<u8, NotAPin> {
    (ascii as char).to_digit(16).map(|digit| digit as u8).ok_or(NotAPin)
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
    pub(super) fn new(pin: Pin, provider: Arc<CryptoProvider>) -> Self {
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
        match Pin::of(certificate) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_read_as_it_is_written_and_nothing_else_is_one() {
        let pin = Pin(std::array::from_fn(|byte| byte as u8 * 7));
        assert_eq!(pin.to_string().parse(), Ok(pin));
        let text = pin.to_string();
        for wrong in [&text[1..], &format!("{text}0"), &text.replace('e', "g"), "", &"é".repeat(32)] {
            assert_eq!(wrong.parse::<Pin>(), Err(NotAPin), "{wrong}");
        }
    }
}
