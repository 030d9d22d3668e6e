//! The certificates of a cluster: an authority of its own, and what it issues to servers and clients.
//!
//! Keys are ECDSA P-256 with SHA-256: every TLS 1.3 implementation must support them (RFC 8446, section 9.1), which
//! cannot be said of Ed25519. The authority and what it issues are valid for ten years.
#![forbid(unsafe_code)]

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;

use std::{
    fs::{self, DirBuilder, File, Permissions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData,
};
use tempfile::NamedTempFile;
use x509_parser::pem::parse_x509_pem;
use zeroize::Zeroizing;

/// The names of the files.
const CERT: &str = "cert.pem";
const KEY: &str = "key.pem";
const CA: &str = "ca.pem";
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
    /// Others than the owner may read a private key.
    #[error("{} may be read by others (its mode is {mode:o}): chmod 600 it", .path.display())]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// What is there was issued by another authority: nobody of this one would know it.
    #[error("{} is of another authority: put that one back, or delete this directory, and it is made again", .0.display())]
    Foreign(PathBuf),
    /// The certificate that is there is of another private key: nobody could prove that it is theirs.
    #[error("{CERT} in {} is not of the private key in {KEY}: put back the one that was, or delete it, and it is made again", .0.display())]
    Strange(PathBuf),
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
    /// Writes `cert.pem`, `key.pem` and `ca.pem` into the new directory `dir`, readable by the owner only. It has all
    /// three, or is not there.
    ///
    /// # Errors
    /// [`KeysError::File`] if `dir` exists already, or the system fails.
    pub fn write(&self, dir: &Path) -> Result<(), KeysError> {
        write_all(dir, &[(CERT, &self.cert), (KEY, &self.key), (CA, &self.ca)])
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
        let no_authority = |why: String| KeysError::Authority { dir: dir.into(), why };
        let cert = read(&dir.join(CERT))?;
        let key = read_key(&dir.join(KEY))?;
        let key = KeyPair::from_pem(&key).map_err(|why| no_authority(why.to_string()))?;
        let is_of_key = is_of(&cert, &key);
        let issuer = Issuer::from_ca_cert_pem(&cert, key).map_err(|why| no_authority(why.to_string()))?;
        if !is_of_key {
            return Err(no_authority(format!(
                "{CERT} is not of the private key in {KEY}; put back the one that was"
            )));
        }
        Ok(Self { issuer, cert: cert.to_string() })
    }

    /// Writes `cert.pem` and `key.pem` into the new directory `dir`, readable by the owner only. It has both, or is not
    /// there.
    ///
    /// # Errors
    /// [`KeysError::File`] if `dir` exists already, or the system fails.
    pub fn write(&self, dir: &Path) -> Result<(), KeysError> {
        write_all(dir, &[(CERT, &self.cert), (KEY, &Zeroizing::new(self.issuer.key().serialize_pem()))])
    }

    /// Makes the keys of `name`, which is also the DNS name that peers may check.
    ///
    /// # Errors
    /// [`KeysError::Name`] if `name` cannot stand in a certificate.
    pub fn issue(&self, name: &str, role: Role) -> Result<Issued, KeysError> {
        self.certify(KeyPair::generate()?, name, role)
    }

    /// Makes what is missing in `dir` of the files of `name`, and changes nothing that is there and of use: a
    /// certificate is made anew with its private key. Answers the names of what was made, none if all was there.
    ///
    /// # Errors
    /// [`KeysError`] if a file cannot be read or written, others may read the private key, the files are of another
    /// authority, or the certificate is of another key.
    pub fn complete(&self, dir: &Path, name: &str, role: Role) -> Result<Vec<&'static str>, KeysError> {
        if !dir.exists() {
            self.issue(name, role)?.write(dir)?;
            return Ok(vec![CERT, KEY, CA]);
        }
        let is_missing = |file: &str| !dir.join(file).exists();
        if !is_missing(CA) && *read(&dir.join(CA))? != self.cert {
            return Err(KeysError::Foreign(dir.into()));
        }
        if !is_missing(CERT) && !is_missing(KEY) && are_strangers(dir)? {
            return Err(KeysError::Strange(dir.into()));
        }
        let mut made = Vec::new();
        if is_missing(KEY) {
            if !is_missing(CERT) {
                // Whoever stops here finds a certificate missing, and never one of another key.
                let path = dir.join(CERT);
                fs::remove_file(&path).map_err(|source| KeysError::File { path, source })?;
            }
            write(&dir.join(KEY), &Zeroizing::new(KeyPair::generate()?.serialize_pem()))?;
            made.push(KEY);
        }
        if is_missing(CERT) {
            let key = KeyPair::from_pem(&read_key(&dir.join(KEY))?)?;
            write(&dir.join(CERT), &self.certify(key, name, role)?.cert)?;
            made.push(CERT);
        }
        if is_missing(CA) {
            write(&dir.join(CA), &self.cert)?;
            made.push(CA);
        }
        Ok(made)
    }

    fn certify(&self, key: KeyPair, name: &str, role: Role) -> Result<Issued, KeysError> {
        let mut params = params(name)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = match role {
            Role::Server => vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
            Role::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
        };
        params.use_authority_key_identifier_extension = true;
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

/// Whether a certificate is of this private key. Nobody would take what is issued by two that do not belong together.
fn is_of(cert: &str, key: &KeyPair) -> bool {
    let Ok((_, cert)) = parse_x509_pem(cert.as_bytes()) else { return false };
    cert.parse_x509().is_ok_and(|cert| cert.public_key().raw == key.subject_public_key_info())
}

/// Whether the certificate in `dir` is of another key than the one beside it, which can be read.
fn are_strangers(dir: &Path) -> Result<bool, KeysError> {
    let (cert, key) = (read(&dir.join(CERT))?, read_key(&dir.join(KEY))?);
    Ok(KeyPair::from_pem(&key).is_ok_and(|key| !is_of(&cert, &key)))
}

/// Makes the directory with all files in it, or nothing.
fn write_all(dir: &Path, files: &[(&str, &str)]) -> Result<(), KeysError> {
    let failed = |source| KeysError::File { path: dir.into(), source };
    let parent = parent(dir);
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(parent)
        .map_err(|source| KeysError::File { path: parent.into(), source })?;
    if dir.exists() {
        return Err(failed(io::ErrorKind::AlreadyExists.into()));
    }
    let aside = tempfile::Builder::new()
        .prefix(".unfinished-")
        .permissions(Permissions::from_mode(0o700))
        .tempdir_in(parent)
        .map_err(failed)?;
    for (name, text) in files {
        put(&aside.path().join(name), text)
            .map_err(|source| KeysError::File { path: dir.join(name), source })?;
    }
    fs::rename(aside.path(), dir).map_err(failed)?;
    // It is elsewhere now.
    let _ = aside.keep();
    sync(parent).map_err(failed)
}

/// Writes a file that is not there yet, all of it or nothing.
fn write(path: &Path, text: &str) -> Result<(), KeysError> {
    put(path, text).map_err(|source| KeysError::File { path: path.into(), source })
}

fn put(path: &Path, text: &str) -> io::Result<()> {
    // Readable by the owner only, as all temporary files are.
    let mut file = NamedTempFile::new_in(parent(path))?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path).map_err(|error| error.error)?;
    sync(parent(path))
}

/// Has the names in a directory on the disk.
fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Reads a private key that only its owner may read.
fn read_key(path: &Path) -> Result<Zeroizing<String>, KeysError> {
    let found = fs::metadata(path).map_err(|source| KeysError::File { path: path.into(), source })?;
    match found.mode() & 0o777 {
        mode if found.is_file() && mode & 0o077 != 0 => Err(KeysError::Exposed { path: path.into(), mode }),
        _ => read(path),
    }
}

fn read(path: &Path) -> Result<Zeroizing<String>, KeysError> {
    let failed = |source| KeysError::File { path: path.into(), source };
    let found = fs::metadata(path).map_err(failed)?;
    let len = found.len();
    if !found.is_file() {
        // A pipe would be waited for.
        return Err(failed(io::Error::other("it is not a regular file")));
    }
    if len > LARGEST {
        return Err(failed(io::Error::other("larger than any key or certificate")));
    }
    // All the room at once: a text that grows would leave copies of the key behind.
    let mut text = Zeroizing::new(String::with_capacity(len as usize + 1));
    File::open(path).and_then(|file| file.take(len).read_to_string(&mut text)).map_err(failed)?;
    Ok(text)
}
