//! The certificates of a cluster: an authority of its own, and what it issues to servers and clients.
//!
//! Keys are ECDSA P-256 with SHA-256: every TLS 1.3 implementation must support them (RFC 8446, section 9.1), which
//! cannot be said of Ed25519. The authority and what it issues are valid for ten years.
#![forbid(unsafe_code)]

use std::{
    fs::{self, DirBuilder, File, Permissions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use tempfile::NamedTempFile;
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
        let no_authority = |why: rcgen::Error| KeysError::Authority { dir: dir.into(), why: why.to_string() };
        let cert = read(&dir.join(CERT))?;
        let key = read_key(&dir.join(KEY))?;
        let key = KeyPair::from_pem(&key).map_err(no_authority)?;
        let issuer = Issuer::from_ca_cert_pem(&cert, key).map_err(no_authority)?;
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

    /// Makes what is missing in `dir` of the files of `name`, and changes nothing that is there and of use: a certificate
    /// is made anew with its private key. Answers the names of what was made, none if all was there.
    ///
    /// # Errors
    /// [`KeysError`] if a file cannot be read or written, others may read the private key, or the files are of another
    /// authority.
    pub fn complete(&self, dir: &Path, name: &str, role: Role) -> Result<Vec<&'static str>, KeysError> {
        if !dir.exists() {
            self.issue(name, role)?.write(dir)?;
            return Ok(vec![CERT, KEY, CA]);
        }
        let is_missing = |file: &str| !dir.join(file).exists();
        if !is_missing(CA) && *read(&dir.join(CA))? != self.cert {
            return Err(KeysError::Foreign(dir.into()));
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::process::Command;

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
    fn of_two_who_write_a_file_at_once_the_second_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(KEY);
        write(&path, "one").unwrap();
        assert!(matches!(write(&path, "another"), Err(KeysError::File { path: at, .. }) if at == path));
        assert_eq!(fs::read_to_string(&path).unwrap(), "one");
    }

    /// As a program judges that we did not write.
    #[test]
    fn a_certificate_is_good_for_its_role_and_an_authority_for_no_other_below_it() {
        let authority = Authority::new("cluster").unwrap();
        let mut params = params("between").unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &authority.issuer).unwrap().pem();
        let between = Authority { issuer: Issuer::new(params, key), cert };
        for (issuer, role, purpose, good) in [
            (&authority, Role::Server, "sslserver", true),
            (&authority, Role::Server, "sslclient", true),
            (&authority, Role::Client, "sslclient", true),
            (&authority, Role::Client, "sslserver", false),
            (&between, Role::Server, "sslserver", false),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let issued = issuer.issue("server-1", role).unwrap();
            for (name, text) in [(CERT, &issued.cert), (CA, &authority.cert), ("between.pem", &between.cert)]
            {
                write(&dir.path().join(name), text).unwrap();
            }
            let mut openssl = Command::new("openssl");
            openssl.args(["verify", "-purpose", purpose, "-CAfile", CA, "-untrusted", "between.pem", CERT]);
            let Ok(judged) = openssl.current_dir(dir.path()).output() else {
                assert!(std::env::var_os("CI").is_none(), "openssl is missing");
                return;
            };
            let said = String::from_utf8_lossy(&judged.stderr);
            assert_eq!(judged.status.success(), good, "{role:?}, {purpose}: {said}");
        }
    }

    /// As a program judges that we did not write.
    #[test]
    fn a_certificate_names_its_holder_and_is_valid_from_a_day_before_for_ten_years() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new("cluster").unwrap();
        let issued = authority.issue("server-1", Role::Server).unwrap();
        write(&dir.path().join(CERT), &issued.cert).unwrap();
        write(&dir.path().join(CA), &issued.ca).unwrap();
        let openssl = |arguments: &[&str]| {
            let told = Command::new("openssl").args(arguments).current_dir(dir.path()).output();
            told.map(|told| (told.status.success(), String::from_utf8(told.stdout).unwrap()))
        };
        let Ok((_, text)) = openssl(&["x509", "-in", CERT, "-noout", "-text"]) else {
            assert!(std::env::var_os("CI").is_none(), "openssl is missing");
            return;
        };
        for part in ["DNS:server-1", "CN = server-1", "Digital Signature", "Authority Key Identifier"] {
            assert!(text.replace("CN=", "CN = ").contains(part), "{part}: {text}");
        }
        const DAY: i64 = 24 * 3_600;
        let now = time::OffsetDateTime::now_utc().unix_timestamp();
        for (at, valid) in [
            (-DAY - 60, false),
            (60 - DAY, true),
            ((DAYS - 1) * DAY - 60, true),
            ((DAYS - 1) * DAY + 60, false),
        ] {
            let at = (now + at).to_string();
            let (judged, _) = openssl(&["verify", "-attime", &at, "-CAfile", CA, CERT]).unwrap();
            assert_eq!(judged, valid, "at {at}");
        }
    }

    #[test]
    fn directories_are_made_for_the_owner_only_and_one_that_is_there_is_refused_even_empty() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("cluster").join("authority");
        let authority = Authority::new("cluster").unwrap();
        authority.write(&place).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!([place.as_path(), parent(&place)].map(mode), [0o700, 0o700]);
        let empty = dir.path().join("empty");
        fs::create_dir(&empty).unwrap();
        assert!(matches!(authority.write(&empty), Err(KeysError::File { path, .. }) if path == empty));
        assert_eq!(fs::read_dir(&empty).unwrap().count(), 0);
    }

    #[test]
    fn a_file_is_read_whole_up_to_the_largest_and_what_is_none_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(CERT);
        for length in [0, 1, LARGEST, LARGEST + 1] {
            fs::write(&path, vec![b'x'; length as usize]).unwrap();
            let read = read(&path).ok().map(|text| text.len() as u64);
            assert_eq!(read, (length <= LARGEST).then_some(length));
        }
        let Err(error) = read(dir.path()) else { panic!("a directory was read") };
        assert!(error.to_string().ends_with("it is not a regular file"), "{error}");
    }

    #[test]
    fn no_certificate_is_made_for_a_private_key_that_others_may_read() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("server-1");
        let authority = Authority::new("cluster").unwrap();
        authority.issue("server-1", Role::Server).unwrap().write(&place).unwrap();
        fs::remove_file(place.join(CERT)).unwrap();
        fs::set_permissions(place.join(KEY), Permissions::from_mode(0o640)).unwrap();
        let outcome = authority.complete(&place, "server-1", Role::Server);
        assert!(matches!(outcome, Err(KeysError::Exposed { mode: 0o640, .. })));
        assert!(!place.join(CERT).exists());
    }

    #[test]
    fn what_is_missing_is_made_again_and_nothing_else_is_touched() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new("cluster").unwrap();
        let place = dir.path().join("server-1");
        let complete = || authority.complete(&place, "server-1", Role::Server).unwrap();
        let read = || [CERT, KEY, CA].map(|name| fs::read(place.join(name)).unwrap());
        assert_eq!(complete(), [CERT, KEY, CA]);
        let [cert, key, ca] = read();
        assert!(complete().is_empty());
        for (missing, made) in [(CA, vec![CA]), (CERT, vec![CERT]), (KEY, vec![KEY, CERT])] {
            fs::remove_file(place.join(missing)).unwrap();
            assert_eq!(complete(), made);
            let again = read();
            assert_eq!(again[0] == cert, missing == CA, "{missing}");
            assert_eq!(again[1] == key, missing != KEY, "{missing}");
            assert_eq!(again[2], ca);
            let mode = fs::metadata(place.join(missing)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        assert_eq!(fs::read_dir(&place).unwrap().count(), 3);
    }

    #[test]
    fn what_another_authority_issued_is_refused_and_left_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("server-1");
        Authority::new("one").unwrap().issue("server-1", Role::Server).unwrap().write(&place).unwrap();
        fs::remove_file(place.join(KEY)).unwrap();
        let outcome = Authority::new("another").unwrap().complete(&place, "server-1", Role::Server);
        assert!(matches!(outcome, Err(KeysError::Foreign(at)) if at == place));
        assert!(place.join(CERT).exists() && !place.join(KEY).exists());
    }

    #[test]
    fn a_private_key_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("authority");
        Authority::new("cluster").unwrap().write(&place).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o777] {
            fs::set_permissions(place.join(KEY), Permissions::from_mode(mode)).unwrap();
            assert!(matches!(Authority::load(&place), Err(KeysError::Exposed { .. })), "{mode:o}");
        }
        fs::set_permissions(place.join(KEY), Permissions::from_mode(0o400)).unwrap();
        assert!(Authority::load(&place).is_ok());
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
        write(&dir.path().join(KEY), "nothing").unwrap();
        assert!(matches!(Authority::load(dir.path()), Err(KeysError::Authority { .. })));
    }
}
