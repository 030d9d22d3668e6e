//! One connection's TLS: the records that rustls reads and writes, in buffers that belong to the engine.
#![forbid(unsafe_code)]

use std::{fmt, io, sync::Arc};

use bytes::{Buf, BytesMut};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, Error, ServerConfig,
    client::UnbufferedClientConnection,
    pki_types::{CertificateDer, ServerName},
    server::UnbufferedServerConnection,
    unbuffered::{ConnectionState, EncodeError, EncryptError, ReadTraffic, UnbufferedStatus, WriteTraffic},
};
use webpki::EndEntityCert;

use roadstead_proto::{identity::Identity, layer::Layer};

use crate::pin::{WrongKey, pin_of};

/// What a record adds to its plaintext (RFC 8446, section 5.2): head, content type and tag, with room to spare.
const RECORD_EXTRA: usize = 64;
/// The most plaintext in a record.
const RECORD: usize = 16 << 10;

pub(super) struct Records {
    side: Side,
    ended: bool,
}

enum Side {
    Client(Box<UnbufferedClientConnection>),
    Server(Box<UnbufferedServerConnection>),
}

/// What one step through the records has led to.
enum Step {
    Go,
    /// Application data were the last of what has come. What came before has been answered, so there is nothing to do.
    Opened,
    /// What was to be written is.
    Written,
    Wait,
    Ended,
    Failed(Error),
}

/// Asks the side's connection to go one step on, and hands what it answers to a function of any side.
macro_rules! process {
    ($side:expr, $wire:expr, $handle:expr) => {
        match $side {
            Side::Client(connection) => $handle(connection.process_tls_records($wire)),
            Side::Server(connection) => $handle(connection.process_tls_records($wire)),
        }
    };
}

impl Records {
    pub(crate) fn client(config: Arc<ClientConfig>, name: ServerName<'static>) -> io::Result<Self> {
        let connection = UnbufferedClientConnection::new(config, name).map_err(io::Error::other)?;
        Ok(Self { side: Side::Client(Box::new(connection)), ended: false })
    }

    pub(crate) fn server(config: Arc<ServerConfig>) -> io::Result<Self> {
        let connection = UnbufferedServerConnection::new(config).map_err(io::Error::other)?;
        Ok(Self { side: Side::Server(Box::new(connection)), ended: false })
    }

    /// The alert that a failure has left behind. Asked for once: what comes next is in line before new bytes are looked
    /// at, and rustls panics if it fails twice.
    fn say_why(&mut self, wire: &mut [u8], reply: &mut BytesMut) {
        let mut nothing = BytesMut::new();
        let _ = process!(&mut self.side, wire, |status| step(status, usize::MAX, &mut nothing, reply));
    }

    /// Lets `write` write as soon as records may be written.
    fn write(
        &mut self,
        held: &mut [u8],
        wire: &mut BytesMut,
        room: usize,
        mut write: impl FnMut(&mut dyn Seal, &mut [u8]) -> Result<usize, EncryptError>,
    ) -> io::Result<()> {
        let mut nothing = BytesMut::new();
        loop {
            let step = process!(&mut self.side, &mut *held, |status| {
                step_or_write(status, &mut nothing, wire, room, &mut write)
            });
            match step {
                Step::Go | Step::Opened => {}
                Step::Written => return Ok(()),
                Step::Wait | Step::Ended => return Err(io::ErrorKind::NotConnected.into()),
                Step::Failed(error) => return Err(in_words(error)),
            }
        }
    }
}

impl Layer for Records {
    fn open(&mut self, wire: &mut BytesMut, plain: &mut BytesMut, reply: &mut BytesMut) -> io::Result<()> {
        loop {
            let whole = wire.len();
            let (step, used) = process!(&mut self.side, wire, |status| step(status, whole, plain, reply));
            wire.advance(used.min(wire.len()));
            match step {
                Step::Go => {}
                Step::Ended => self.ended = true,
                Step::Wait | Step::Written | Step::Opened => break,
                Step::Failed(error) => {
                    self.say_why(wire, reply);
                    return Err(in_words(error));
                }
            }
        }
        if self.ended {
            // Nothing that follows the peer's end means anything: RFC 8446, section 6.1.
            wire.clear();
        }
        Ok(())
    }

    fn seal(&mut self, plain: &[u8], held: &mut [u8], wire: &mut BytesMut) -> io::Result<()> {
        let room = plain.len() + (plain.len() / RECORD + 1) * RECORD_EXTRA;
        self.write(held, wire, room, |traffic, out| traffic.seal(plain, out))
    }

    fn finish(&mut self, held: &mut [u8], wire: &mut BytesMut) {
        // Who cannot say it is not connected, and then nobody listens.
        let _ = self.write(held, wire, RECORD_EXTRA, |traffic, out| traffic.end(out));
    }

    fn is_open(&self) -> bool {
        match &self.side {
            Side::Client(connection) => !connection.is_handshaking(),
            Side::Server(connection) => !connection.is_handshaking(),
        }
    }

    fn has_ended(&self) -> bool {
        self.ended
    }

    fn identity(&self) -> Option<Identity> {
        let chain = match &self.side {
            Side::Client(connection) => connection.peer_certificates(),
            Side::Server(connection) => connection.peer_certificates(),
        };
        identity(chain?.first()?)
    }
}

fn identity(certificate: &CertificateDer<'_>) -> Option<Identity> {
    let name =
        EndEntityCert::try_from(certificate).ok()?.valid_dns_names().next().unwrap_or_default().to_owned();
    Some(Identity { name, pin: pin_of(certificate)? })
}

/// Does what one state asks for, of the `whole` bytes of the wire; answers also how many at its front are used up.
fn step<D>(
    status: UnbufferedStatus<'_, '_, D>,
    whole: usize,
    plain: &mut BytesMut,
    reply: &mut BytesMut,
) -> (Step, usize) {
    let UnbufferedStatus { mut discard, state } = status;
    let step = match state {
        Err(error) => Step::Failed(error),
        Ok(ConnectionState::ReadTraffic(traffic)) => match read(traffic, plain) {
            Ok(used) => {
                discard += used;
                if discard == whole { Step::Opened } else { Step::Go }
            }
            Err(error) => Step::Failed(error),
        },
        Ok(ConnectionState::EncodeTlsData(mut data)) => {
            let needed = match data.encode(&mut []) {
                Err(EncodeError::InsufficientSize(size)) => size.required_size,
                _ => 0,
            };
            let start = reply.len();
            reply.resize(start + needed, 0);
            let written = data.encode(&mut reply[start..]).unwrap_or(0);
            reply.truncate(start + written);
            Step::Go
        }
        Ok(ConnectionState::TransmitTlsData(data)) => {
            data.done();
            Step::Go
        }
        Ok(ConnectionState::PeerClosed) => Step::Ended,
        Ok(ConnectionState::ReadEarlyData(_)) => {
            Step::Failed(Error::General("early data was not offered".into()))
        }
        Ok(_) => Step::Wait,
    };
    (step, discard)
}

/// Takes the application data that there are; answers how many bytes of the wire they were, beyond those of the status.
fn read<D>(mut traffic: ReadTraffic<'_, '_, D>, plain: &mut BytesMut) -> Result<usize, Error> {
    let mut used = 0;
    while let Some(record) = traffic.next_record() {
        let record = record?;
        used += record.discard;
        plain.extend_from_slice(record.payload);
    }
    Ok(used)
}

/// What can be written, whichever side we are.
trait Seal {
    fn seal(&mut self, plain: &[u8], out: &mut [u8]) -> Result<usize, EncryptError>;
    fn end(&mut self, out: &mut [u8]) -> Result<usize, EncryptError>;
}

impl<D> Seal for WriteTraffic<'_, D> {
    fn seal(&mut self, plain: &[u8], out: &mut [u8]) -> Result<usize, EncryptError> {
        self.encrypt(plain, out)
    }

    fn end(&mut self, out: &mut [u8]) -> Result<usize, EncryptError> {
        self.queue_close_notify(out)
    }
}

/// Like [`step`], but calls `write` when it may be called.
fn step_or_write<D>(
    status: UnbufferedStatus<'_, '_, D>,
    plain: &mut BytesMut,
    wire: &mut BytesMut,
    room: usize,
    write: &mut impl FnMut(&mut dyn Seal, &mut [u8]) -> Result<usize, EncryptError>,
) -> Step {
    let mut traffic = match status {
        UnbufferedStatus { state: Ok(ConnectionState::WriteTraffic(traffic)), .. } => traffic,
        other => return step(other, usize::MAX, plain, wire).0,
    };
    let start = wire.len();
    wire.resize(start + room, 0);
    let mut written = write(&mut traffic, &mut wire[start..]);
    if let Err(EncryptError::InsufficientSize(size)) = &written {
        wire.resize(start + size.required_size, 0);
        written = write(&mut traffic, &mut wire[start..]);
    }
    wire.truncate(start + *written.as_ref().unwrap_or(&0));
    match written {
        Ok(_) => Step::Written,
        Err(error) => Step::Failed(Error::General(error.to_string())),
    }
}

/// What a failure means, for whoever has to do something about it.
fn in_words(error: Error) -> io::Error {
    let words = match &error {
        // Our own, and already in words.
        Error::InvalidCertificate(CertificateError::Other(why)) if why.0.is::<WrongKey>() => {
            return io::Error::new(io::ErrorKind::InvalidData, why.to_string());
        }
        Error::NoCertificatesPresented => {
            "the peer shows no certificate: it needs one of this cluster's authority"
        }
        Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            "the peer's certificate is not of the expected authority"
        }
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "the peer's certificate is for another name",
        Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "the peer's certificate has expired"
        }
        Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => "the peer's certificate is not valid yet: do the clocks agree?",
        Error::InvalidCertificate(_) => "the peer's certificate cannot be accepted",
        Error::DecryptError => "what the peer sent was changed on its way",
        Error::PeerMisbehaved(_) => "the peer breaks the rules of TLS",
        Error::InvalidMessage(_) => "the peer does not speak TLS",
        Error::PeerIncompatible(_) => "the peer does not speak TLS 1.3 as it is spoken here",
        Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "the peer refuses us: it wants a certificate and was shown none"
        }
        Error::AlertReceived(_) => "the peer refuses the connection",
        _ => "TLS fails",
    };
    io::Error::new(io::ErrorKind::InvalidData, format!("{words} ({error})"))
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("open", &self.is_open())
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use rustls::{InvalidMessage, PeerIncompatible, PeerMisbehaved};

    use super::*;

    #[test]
    fn every_failure_is_said_in_words_of_its_own_and_then_in_those_of_tls() {
        use CertificateError as Certificate;
        let certificate = Error::InvalidCertificate;
        for (error, words) in [
            (Error::NoCertificatesPresented, "the peer shows no certificate"),
            (
                certificate(Certificate::UnknownIssuer),
                "the peer's certificate is not of the expected authority (",
            ),
            (
                certificate(Certificate::BadSignature),
                "the peer's certificate is not of the expected authority (",
            ),
            (certificate(Certificate::NotValidForName), "the peer's certificate is for another name ("),
            (certificate(Certificate::Expired), "the peer's certificate has expired ("),
            (certificate(Certificate::NotValidYet), "the peer's certificate is not valid yet"),
            (certificate(Certificate::Revoked), "the peer's certificate cannot be accepted ("),
            (Error::DecryptError, "what the peer sent was changed on its way ("),
            (
                Error::PeerMisbehaved(PeerMisbehaved::TooMuchEarlyDataReceived),
                "the peer breaks the rules of TLS (",
            ),
            (Error::InvalidMessage(InvalidMessage::InvalidContentType), "the peer does not speak TLS ("),
            (
                Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon),
                "the peer does not speak TLS 1.3 as it is spoken here (",
            ),
            (
                Error::AlertReceived(AlertDescription::CertificateRequired),
                "the peer refuses us: it wants a certificate and was shown none (",
            ),
            (Error::AlertReceived(AlertDescription::HandshakeFailure), "the peer refuses the connection ("),
            (Error::General("odd".into()), "TLS fails ("),
        ] {
            let said = in_words(error.clone());
            assert_eq!(said.kind(), io::ErrorKind::InvalidData);
            let said = said.to_string();
            assert!(said.starts_with(words) && said.ends_with(&format!(" ({error})")), "{said}");
        }
    }
}
