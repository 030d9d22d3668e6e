//! The certificates of a cluster: an authority of its own, and what it issues to servers and clients.
//!
//! Keys are ECDSA P-256 with SHA-256: every TLS 1.3 implementation must support them (RFC 8446, section 9.1), which
//! cannot be said of Ed25519. The authority and what it issues are valid for ten years.
#![forbid(unsafe_code)]

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use zeroize::Zeroizing;

/// For how many days certificates are valid: ten years.
pub const DAYS: i64 = 3653;
/// No file of an authority is larger, in bytes.
const LARGEST: u64 = 64 << 10;

/// Why keys could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The system failed to read or write a file.
    #[error("cannot read or write {}: {source}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// The name cannot stand in a certificate.
    #[error("`{0}` cannot be a name: use 1 to 63 letters, digits and hyphens, with no hyphen at either end")]
    Name(String),
    /// The files of an authority do not hold one.
    #[error("{} holds no authority: {why}", .dir.display())]
    Authority {
        /// Where.
        dir: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A key or certificate could not be made.
    #[error("a certificate could not be made: {0}")]
    Made(#[from] rcgen::Error),
}

/// What a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Serves, and connects to other servers.
    Server,
    /// Connects to servers.
    Client,
}

/// The texts (PEM, RFC 7468) of one server or client.
pub struct Issued {
    /// Its certificate.
    pub cert: String,
    /// Its private key.
    pub key: Zeroizing<String>,
    /// The authority's certificate.
    pub ca: String,
}

impl Issued {
    /// Writes `cert.pem`, `key.pem` and `ca.pem` into the new directory `dir`, readable by the owner only.
    ///
    /// # Errors
    /// [`KeysError::File`] if `dir` exists already, or the system fails.
    pub fn write(&self, dir: &Path) -> Result<(), KeysError> {
        make_dir(dir)?;
        write(&dir.join("cert.pem"), &self.cert)?;
        write(&dir.join("key.pem"), &self.key)?;
        write(&dir.join("ca.pem"), &self.ca)
    }
}

/// Who issues a cluster's certificates. Its private key is never shown.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    cert: String,
}

impl Authority {
    /// Makes the authority of the cluster `name`.
    ///
    /// # Errors
    /// [`KeysError::Name`] if `name` cannot stand in a certificate.
    pub fn new(name: &str) -> Result<Self, KeysError> {
        let mut params = params(name)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let cert = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), cert })
    }

    /// Reads an authority that was [written](Authority::write) to `dir`.
    ///
    /// # Errors
    /// [`KeysError`] naming the file that cannot be read, or why it holds no authority.
    pub fn load(dir: &Path) -> Result<Self, KeysError> {
        let no_authority = |why: rcgen::Error| KeysError::Authority { dir: dir.into(), why: why.to_string() };
        let cert = read(&dir.join("cert.pem"))?;
        let key = read(&dir.join("key.pem"))?;
        let key = KeyPair::from_pem(&key).map_err(no_authority)?;
        let issuer = Issuer::from_ca_cert_pem(&cert, key).map_err(no_authority)?;
        Ok(Self { issuer, cert: cert.to_string() })
    }

    /// Writes `cert.pem` and `key.pem` into the new directory `dir`, readable by the owner only.
    ///
    /// # Errors
    /// [`KeysError::File`] if `dir` exists already, or the system fails.
    pub fn write(&self, dir: &Path) -> Result<(), KeysError> {
        make_dir(dir)?;
        write(&dir.join("cert.pem"), &self.cert)?;
        write(&dir.join("key.pem"), &Zeroizing::new(self.issuer.key().serialize_pem()))
    }

    /// Makes the keys of `name`, which is also the DNS name that peers may check.
    ///
    /// # Errors
    /// [`KeysError::Name`] if `name` cannot stand in a certificate.
    pub fn issue(&self, name: &str, role: Role) -> Result<Issued, KeysError> {
        let mut params = params(name)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = match role {
            Role::Server => vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
            Role::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
        };
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let cert = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Issued { cert, key: Zeroizing::new(key.serialize_pem()), ca: self.cert.clone() })
    }
}

/// What every certificate for `name` says.
fn params(name: &str) -> Result<CertificateParams, KeysError> {
    let fits = !name.is_empty()
        && name.len() <= 63
        && !name.starts_with('-')
        && !name.ends_with('-')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if !fits {
        return Err(KeysError::Name(name.into()));
    }
    let mut params = CertificateParams::new(vec![name.to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, name);
    // A peer's clock may be a little behind.
    params.not_before = time::OffsetDateTime::now_utc() - time::Duration::days(1);
    params.not_after = params.not_before + time::Duration::days(DAYS);
    Ok(params)
}

fn make_dir(dir: &Path) -> Result<(), KeysError> {
    if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(parent);
        made.map_err(|source| KeysError::File { path: parent.into(), source })?;
    }
    DirBuilder::new().mode(0o700).create(dir).map_err(|source| KeysError::File { path: dir.into(), source })
}

fn write(path: &Path, text: &str) -> Result<(), KeysError> {
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
    written.map_err(|source| KeysError::File { path: path.into(), source })
}

fn read(path: &Path) -> Result<Zeroizing<String>, KeysError> {
    let failed = |source| KeysError::File { path: path.into(), source };
    let len = fs::metadata(path).map_err(failed)?.len();
    if len > LARGEST {
        return Err(failed(io::Error::other("larger than any key or certificate")));
    }
    // All the room at once: a text that grows would leave copies of the key behind.
    let mut text = Zeroizing::new(String::with_capacity(len as usize + 1));
    File::open(path).and_then(|file| file.take(len).read_to_string(&mut text)).map_err(failed)?;
    Ok(text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_loaded_authority_issues_as_before_and_files_are_the_owners_only() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("authority");
        let authority = Authority::new("cluster").unwrap();
        authority.write(&place).unwrap();
        let again = Authority::load(&place).unwrap();
        assert_eq!(again.cert, authority.cert);
        let server = dir.path().join("server-1");
        again.issue("server-1", Role::Server).unwrap().write(&server).unwrap();
        for (path, mode) in
            [(server.clone(), 0o700), (server.join("key.pem"), 0o600), (place.join("key.pem"), 0o600)]
        {
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, mode);
        }
    }

    #[test]
    fn nothing_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new("cluster").unwrap();
        let place = dir.path().join("one");
        authority.issue("one", Role::Client).unwrap().write(&place).unwrap();
        let key = fs::read(place.join("key.pem")).unwrap();
        assert!(authority.issue("one", Role::Client).unwrap().write(&place).is_err());
        assert_eq!(fs::read(place.join("key.pem")).unwrap(), key);
    }

    #[test]
    fn what_is_no_name_or_no_authority_is_refused() {
        let long = "x".repeat(64);
        for name in ["", "-a", "a-", "a b", "a/b", "é", &long] {
            assert!(matches!(Authority::new(name), Err(KeysError::Name(_))), "{name}");
        }
        assert!(Authority::new(&long[1..]).is_ok());
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(Authority::load(dir.path()), Err(KeysError::File { .. })));
        fs::write(dir.path().join("cert.pem"), "nothing").unwrap();
        fs::write(dir.path().join("key.pem"), "nothing").unwrap();
        assert!(matches!(Authority::load(dir.path()), Err(KeysError::Authority { .. })));
    }
}
