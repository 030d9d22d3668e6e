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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_addresses_keep_their_order_and_any_other_number_is_told() {
        let [a, b, c] = ["127.0.0.1:3", "[::1]:1", "127.0.0.1:2"];
        assert_eq!(three(&[a, b, c].join(",")), Ok([a, b, c].map(|text| text.parse().unwrap())));
        assert_eq!(three(&[a, b].join(",")).unwrap_err(), "there are three servers, not 2");
        assert_eq!(three(&[a, b, c, a].join(",")).unwrap_err(), "there are three servers, not 4");
        assert!(three(&format!("{a},{b},")).unwrap_err().starts_with("`` is not an address"));
        assert!(
            three(&format!("{a},localhost:1,{b}"))
                .unwrap_err()
                .starts_with("`localhost:1` is not an address")
        );
    }
}
