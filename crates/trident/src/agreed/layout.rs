//! Where a sharing lies: the names of its directories, and of the files in them whose blocks have digests.

use std::path::{Path, PathBuf};

use crate::arithmetic::party::Party;

/// Name of the search shares in a server's directory.
pub const SEARCH_FILE: &str = "search.bin";
/// Name of the row digests in the client's directory.
pub const DIGESTS_FILE: &str = "digests.bin";
/// Name of the scales in the client's directory.
pub const SCALES_FILE: &str = "scales.bin";
/// Bytes of the scales before the shifts of the rows.
pub(crate) const SCALES_HEADER: usize = 20;
/// Name of the client's directory.
pub const CLIENT_DIR: &str = "client";

/// Name of component 1, 2 or 3 in a server's directory.
pub fn component_file(component: u8) -> String {
    format!("component-{component}.bin")
}

/// Name of the key that `party` and the next one share.
pub fn pair_key_file(party: Party) -> String {
    format!("pair-{}{}.key", party.number(), party.next().number())
}

/// The directory of a server below the directory of a sharing.
pub fn server_dir(out: &Path, party: Party) -> PathBuf {
    out.join(format!("server-{}", party.number()))
}
