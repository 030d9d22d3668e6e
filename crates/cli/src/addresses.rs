//! Addresses on the command line.

use std::net::SocketAddr;

/// Reads an address such as `127.0.0.1:7007` or `[::1]:7007`.
pub(crate) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| format!("`{text}` is not an address IP:PORT, such as 127.0.0.1:7007 or [::1]:7007"))
}

/// Reads three addresses between commas.
pub(crate) fn three(text: &str) -> Result<[SocketAddr; 3], String> {
    let addresses = text.split(',').map(address).collect::<Result<Vec<SocketAddr>, String>>()?;
    let count = addresses.len();
    addresses.try_into().map_err(|_| format!("there are three servers, not {count}"))
}
