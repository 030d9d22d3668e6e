//! The keys of one server or client: its certificate and private key, and the authority that it trusts.
#![forbid(unsafe_code)]

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rustix::fs::{self, Mode, OFlags};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use zeroize::{Zeroize, Zeroizing};

use roadstead_proto::identity::Pin;

use crate::{error::TlsError, pin::pin_of};

/// No file of keys is larger, in bytes.
pub(crate) const LARGEST: usize = 256 << 10;

/// A certificate chain, its private key, and the certificates of the authority that peers must have theirs from.
///
/// The private key is zeroised when the last of its owners is gone, and never shown.
pub struct Keys {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
    pub(super) authority: Vec<CertificateDer<'static>>,
    /// Where they were read.
    pub(super) source: Option<Source>,
    pin: Pin,
}

/// The files that keys are read from.
#[derive(Debug, Clone)]
pub(super) struct Source {
    cert: PathBuf,
    key: PathBuf,
    ca: Option<PathBuf>,
}

impl Source {
    pub(super) fn read(&self) -> Result<Keys, TlsError> {
        let (cert, key) = (read(&self.cert)?, read_key(&self.key)?);
        let ca = self.ca.as_deref().map(read).transpose()?;
        let chain = certificates("certificate", &cert)?;
        let authority = ca.map_or(Ok(Vec::new()), |ca| certificates("certificate of the authority", &ca))?;
        let mut keys = Keys::of(chain, &key, authority)?;
        keys.source = Some(self.clone());
        Ok(keys)
    }
}

impl Keys {
    /// Reads `cert.pem`, `key.pem` and `ca.pem` of `dir`, as `roadstead keys` writes them.
    ///
    /// # Errors
    /// [`TlsError`] naming the file that cannot be read, or what does not hold what it should;
    /// [`TlsError::Exposed`] if others than its owner may read or write the private key.
    pub fn load(dir: &Path) -> Result<Self, TlsError> {
        let [cert, key, ca] = ["cert.pem", "key.pem", "ca.pem"].map(|name| dir.join(name));
        Source { cert, key, ca: Some(ca) }.read()
    }

    /// Reads a certificate chain and its private key, as other programs and authorities hand them out, and no authority:
    /// with them a server talks to [anyone](crate::Clients::Anyone).
    ///
    /// # Errors
    /// As [`Keys::load`].
    pub fn load_pair(cert: &Path, key: &Path) -> Result<Self, TlsError> {
        Source { cert: cert.into(), key: key.into(), ca: None }.read()
    }

    /// Keys from the texts (PEM, RFC 7468) of a certificate chain, a private key and the authority's certificates.
    ///
    /// # Errors
    /// [`TlsError::Malformed`] naming the text that does not hold what it should.
    pub fn from_pem(cert: &[u8], key: &[u8], ca: &[u8]) -> Result<Self, TlsError> {
        let chain = certificates("certificate", cert)?;
        let authority = certificates("certificate of the authority", ca)?;
        Self::of(chain, key, authority)
    }

    fn of(
        chain: Vec<CertificateDer<'static>>,
        key: &[u8],
        authority: Vec<CertificateDer<'static>>,
    ) -> Result<Self, TlsError> {
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|why| TlsError::Malformed { what: "private key", why: why.to_string() })?;
        let pin = pin_of_owner(&chain)?;
        Ok(Self { chain, key, authority, source: None, pin })
    }

    /// The pin of its own public key, which clients can be told to expect.
    pub fn pin(&self) -> Pin {
        self.pin
    }

    /// Leaves nothing of the private key.
    pub(super) fn wipe(&mut self) {
        self.key.zeroize();
    }
}

/// Reads the pin of the public key in a certificate, such as the `cert.pem` of somebody whose private key is not at
/// hand.
///
/// # Errors
/// [`TlsError`] naming the file that cannot be read, or holds no certificate.
pub fn read_pin(path: &Path) -> Result<Pin, TlsError> {
    let chain = certificates("certificate", &read(path)?);
    let pin = chain.and_then(|chain| pin_of_owner(&chain));
    pin.map_err(|error| match error {
        TlsError::Malformed { what, why } => {
            TlsError::Malformed { what, why: format!("{}: {why}", path.display()) }
        }
        other => other,
    })
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.wipe();
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("pin", &self.pin).finish_non_exhaustive()
    }
}

/// The pin of the first of a chain, which is its owner's.
fn pin_of_owner(chain: &[CertificateDer<'_>]) -> Result<Pin, TlsError> {
    let malformed = || TlsError::Malformed { what: "certificate", why: "it is no X.509 certificate".into() };
    chain.first().and_then(pin_of).ok_or_else(malformed)
}

fn certificates(what: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|why| TlsError::Malformed { what, why: why.to_string() })?;
    if certificates.is_empty() {
        return Err(TlsError::Malformed { what, why: "there is none in the text".into() });
    }
    Ok(certificates)
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    read_file(path, open(path)?)
}

fn read_key(path: &Path) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    let file = open(path)?;
    let found = file.metadata().map_err(|source| TlsError::Read { path: path.into(), source })?;
    match found.mode() & 0o777 {
        mode if mode & 0o077 != 0 => Err(TlsError::Exposed { path: path.into(), mode }),
        _ => read_file(path, file),
    }
}

/// Opens a regular file. A pipe would have whoever starts or reloads a server wait for who writes it.
fn open(path: &Path) -> Result<File, TlsError> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let opened = fs::open(path, flags, Mode::empty()).map(File::from).map_err(io::Error::from);
    let regular = opened.and_then(|file| match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is not a regular file")),
    });
    regular.map_err(|source| TlsError::Read { path: path.into(), source })
}

fn read_file(path: &Path, mut file: File) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    let failed = |source| TlsError::Read { path: path.into(), source };
    // All the room at once: a buffer that grows would leave copies of the key behind.
    let mut bytes = Zeroizing::new(vec![0; LARGEST + 1]);
    let mut len = 0;
    while len < bytes.len() {
        match file.read(&mut bytes[len..]) {
            Ok(0) => break,
            Ok(count) => len += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
    if len > LARGEST {
        return Err(TlsError::TooLarge(path.into()));
    }
    bytes.truncate(len);
    Ok(bytes)
}
