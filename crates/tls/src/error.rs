//! Why keys cannot be used.
#![forbid(unsafe_code)]

use std::{io, path::PathBuf};

/// Why keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is larger than any key or chain of certificates.
    #[error("{} is larger than the 256 KiB that keys may take", .0.display())]
    TooLarge(PathBuf),
    /// Others than the owner may read the private key.
    #[error("{} may be read by others (its mode is {mode:o}): chmod 600 it", .path.display())]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The text holds no such thing.
    #[error("the {what} cannot be read: {why}")]
    Malformed {
        /// What should be there.
        what: &'static str,
        /// What is wrong.
        why: String,
    },
    /// The parts do not fit together, or use algorithms that are not spoken here.
    #[error("the keys cannot be used: {0}")]
    Unfit(String),
    /// A name is to be checked, and there is nobody to vouch for it.
    #[error(
        "to check a server's name the keys must hold the certificate of its authority: give keys, or a pin"
    )]
    NoAuthority,
    /// It is no DNS name.
    #[error("`{0}` is no DNS name")]
    Name(String),
}
