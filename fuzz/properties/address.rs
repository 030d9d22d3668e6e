//! Any text is an address or none, and one that is read is shown as it can be read again; any name that a peer may have
//! is shown in one line without a comma, as itself.

use roadstead::{Address, UnixName};

pub(crate) fn check(data: &[u8]) {
    if let Ok(text) = str::from_utf8(data)
        && let Ok(address) = text.parse::<Address>()
    {
        assert_eq!(address.to_string().parse(), Ok(address));
    }
    for name in [UnixName::abstract_name(data), UnixName::of_path(data)].into_iter().flatten() {
        let shown = name.to_string();
        assert!(shown.chars().all(|letter| !letter.is_control() && letter != ','), "{shown}");
        assert_eq!(shown.parse(), Ok(name));
    }
}
