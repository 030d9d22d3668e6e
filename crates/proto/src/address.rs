//! Where a connection comes from, or goes to: an address of IP, or the name of a Unix socket.
//!
//! A name is bytes. As text it is `unix:PATH` or `unix:@NAME`, with `\xHH` for what cannot be printed and `\\` for a
//! backslash, so that every name can be written, and what is written can be read again.
#![forbid(unsafe_code)]

use std::{
    fmt::{self, Write},
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    option,
    path::Path,
    str::FromStr,
    sync::Arc,
};

/// Where one end of a connection is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// TCP.
    Ip(SocketAddr),
    /// A Unix socket on this machine.
    Unix(UnixName),
}

impl Address {
    /// The IP address; a Unix socket has none.
    pub fn ip(&self) -> Option<IpAddr> {
        self.socket().map(|address| address.ip())
    }

    /// The address of TCP; `None` for a Unix socket.
    pub fn socket(&self) -> Option<SocketAddr> {
        match self {
            Self::Ip(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }
}

impl<A: Into<SocketAddr>> From<A> for Address {
    fn from(address: A) -> Self {
        Self::Ip(address.into())
    }
}

impl From<&Address> for Address {
    fn from(address: &Address) -> Self {
        address.clone()
    }
}

impl From<UnixName> for Address {
    fn from(name: UnixName) -> Self {
        Self::Unix(name)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix(name) => name.fmt(f),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadAddress {
    /// Neither a Unix socket nor IP:PORT.
    #[error("an address is IP:PORT, such as 127.0.0.1:7007 or [::1]:7007, or that of a Unix socket")]
    Ip,
    /// It begins as the address of a Unix socket.
    #[error(transparent)]
    Unix(#[from] BadUnixName),
}

impl FromStr for Address {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        match is_unix(text) {
            true => Ok(text.parse::<UnixName>()?.into()),
            false => Ok(text.parse::<SocketAddr>().map_err(|_| BadAddress::Ip)?.into()),
        }
    }
}

/// So that whatever takes an address of TCP takes this as well. Of a Unix socket, there is none.
impl ToSocketAddrs for Address {
    type Iter = option::IntoIter<SocketAddr>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        let no_ip = || io::Error::new(io::ErrorKind::Unsupported, "a Unix socket has no address of TCP");
        Ok(Some(self.socket().ok_or_else(no_ip)?).into_iter())
    }
}

/// Bytes that a name may have, of the 108 that the system keeps for it: a path ends with a zero there, and an abstract
/// name begins with one (unix(7)).
pub const LONGEST: usize = 107;

/// What begins the text of a name.
const SCHEME: &str = "unix:";

/// Whether a text is meant to be the address of a Unix socket. It may be wrong all the same.
pub fn is_unix(text: &str) -> bool {
    text.starts_with(SCHEME)
}

/// The name of a Unix socket. Most clients have none, and are shown as `unix`.
///
/// As the system has it: a path, or a zero byte and an abstract name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixName(Option<Arc<[u8]>>);

/// Why there is no Unix socket of that name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadUnixName {
    /// It does not begin with `unix:`.
    #[error("the address of a Unix socket is unix:PATH or unix:@NAME")]
    Scheme,
    /// Nothing follows.
    #[error("a Unix socket is named by a path or @NAME, and this is empty")]
    Empty,
    /// More than [`LONGEST`] bytes.
    #[error("a Unix socket's name has at most {LONGEST} bytes, and this has {0}: choose a shorter one")]
    TooLong(usize),
    /// A path ends there.
    #[error("a path has no zero byte; only an abstract name, unix:@NAME, may have one")]
    Zero,
    /// A backslash that stands for nothing.
    #[error("a backslash begins \\xHH, a byte as two hexadecimal digits, or is written twice")]
    Escape,
}

impl UnixName {
    /// Of a socket that has no name, as a client's.
    pub fn none() -> Self {
        Self(None)
    }

    /// A socket in the file system.
    ///
    /// # Errors
    /// [`BadUnixName`]
    pub fn at(path: impl AsRef<Path>) -> Result<Self, BadUnixName> {
        Self::of_path(path.as_ref().as_os_str().as_encoded_bytes())
    }

    /// The same, of the bytes of a path.
    ///
    /// # Errors
    /// [`BadUnixName`]
    pub fn of_path(path: &[u8]) -> Result<Self, BadUnixName> {
        if path.contains(&0) {
            return Err(BadUnixName::Zero);
        }
        Ok(Self(Some(fitting(path)?.into())))
    }

    /// A socket with a name of any bytes that is in no file system (Linux). There is nobody to say who may connect: all
    /// processes of the network namespace may.
    ///
    /// # Errors
    /// [`BadUnixName`]
    pub fn abstract_name(name: &[u8]) -> Result<Self, BadUnixName> {
        Ok(Self(Some([&[0], fitting(name)?].concat().into())))
    }

    /// Its path, if it is in the file system.
    pub fn path(&self) -> Option<&[u8]> {
        self.sun_path().filter(|path| path[0] != 0)
    }

    /// Its name, if that is an abstract one.
    pub fn as_abstract(&self) -> Option<&[u8]> {
        self.sun_path()?.strip_prefix(&[0])
    }

    /// Either, as the system is told it in `sun_path`: unix(7).
    pub fn sun_path(&self) -> Option<&[u8]> {
        self.0.as_deref()
    }
}

fn fitting(name: &[u8]) -> Result<&[u8], BadUnixName> {
    match name.len() {
        0 => Err(BadUnixName::Empty),
        1..=LONGEST => Ok(name),
        length => Err(BadUnixName::TooLong(length)),
    }
}

impl FromStr for UnixName {
    type Err = BadUnixName;

    fn from_str(text: &str) -> Result<Self, BadUnixName> {
        let name = text.strip_prefix(SCHEME).ok_or(BadUnixName::Scheme)?;
        match name.strip_prefix('@') {
            Some(name) => Self::abstract_name(&unescaped(name)?),
            None => Self::of_path(&unescaped(name)?),
        }
    }
}

fn unescaped(text: &str) -> Result<Vec<u8>, BadUnixName> {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        bytes.push(match (first, after) {
            (b'\\', [b'\\', after @ ..]) => {
                rest = after;
                b'\\'
            }
            (b'\\', [b'x', high, low, after @ ..]) => {
                rest = after;
                digit(*high)? << 4 | digit(*low)?
            }
            (b'\\', _) => return Err(BadUnixName::Escape),
            _ => first,
        });
    }
    Ok(bytes)
}

fn digit(letter: u8) -> Result<u8, BadUnixName> {
    let digit = char::from(letter).to_digit(16).ok_or(BadUnixName::Escape)?;
    u8::try_from(digit).map_err(|_| BadUnixName::Escape)
}

impl fmt::Display for UnixName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.sun_path() {
            None => return f.pad("unix"),
            Some([0, name @ ..]) => {
                write!(f, "{SCHEME}@")?;
                name
            }
            // No abstract name: a path that begins like one.
            Some([b'@', path @ ..]) => {
                f.write_str(SCHEME)?;
                f.write_str(r"\x40")?;
                path
            }
            Some(path) => {
                f.write_str(SCHEME)?;
                path
            }
        };
        for part in name.utf8_chunks() {
            part.valid().chars().try_for_each(|letter| escaped(f, letter))?;
            part.invalid().iter().try_for_each(|byte| write!(f, "\\x{byte:02x}"))?;
        }
        Ok(())
    }
}

impl fmt::Debug for UnixName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Fit for one line of a log, and for one of several between commas.
fn escaped(f: &mut fmt::Formatter<'_>, letter: char) -> fmt::Result {
    match letter {
        '\\' => f.write_str("\\\\"),
        ',' | ' ' => write!(f, "\\x{:02x}", letter as u32),
        _ if letter.is_alphanumeric() || letter.is_ascii_graphic() => f.write_char(letter),
        _ => letter.encode_utf8(&mut [0; 4]).bytes().try_for_each(|byte| write!(f, "\\x{byte:02x}")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[test]
    fn a_name_fits_below_and_at_the_limit_and_not_above() {
        for length in [1, LONGEST - 1, LONGEST] {
            let letters = "n".repeat(length);
            let path = UnixName::at(&letters).unwrap();
            assert_eq!((path.path(), path.as_abstract()), (Some(letters.as_bytes()), None));
            let name = UnixName::abstract_name(letters.as_bytes()).unwrap();
            assert_eq!((name.path(), name.as_abstract()), (None, Some(letters.as_bytes())));
        }
        let long = "n".repeat(LONGEST + 1);
        let said = UnixName::at(&long).unwrap_err().to_string();
        assert!(said.starts_with("a Unix socket's name has at most 107 bytes, and this has 108"), "{said}");
        assert_eq!(UnixName::abstract_name(long.as_bytes()), Err(BadUnixName::TooLong(108)));
    }

    #[test]
    fn what_names_nothing_is_refused_with_the_reason() {
        for (text, why) in [
            ("unix", BadUnixName::Scheme),
            ("/run/x", BadUnixName::Scheme),
            ("unix:", BadUnixName::Empty),
            ("unix:@", BadUnixName::Empty),
            ("unix:a\\x00b", BadUnixName::Zero),
            ("unix:a\\", BadUnixName::Escape),
            ("unix:a\\n", BadUnixName::Escape),
            ("unix:@a\\x4", BadUnixName::Escape),
            ("unix:@a\\xg0", BadUnixName::Escape),
        ] {
            assert_eq!(text.parse::<UnixName>(), Err(why), "{text}");
        }
    }

    #[test]
    fn a_name_is_shown_as_it_is_written() {
        let name = |bytes: &[u8]| UnixName::abstract_name(bytes).unwrap().to_string();
        assert_eq!(UnixName::none().to_string(), "unix");
        assert_eq!(UnixName::at("/run/x.sock").unwrap().to_string(), "unix:/run/x.sock");
        assert_eq!(UnixName::at("@x").unwrap().to_string(), r"unix:\x40x");
        assert_eq!(name(b"a\0\\,\n\xff"), r"unix:@a\x00\\\x2c\x0a\xff");
        assert_eq!(name("ä\u{202e}".as_bytes()), r"unix:@ä\xe2\x80\xae");
        assert_eq!(Address::from(UnixName::none()).ip(), None);
    }

    proptest! {
        #[test]
        fn every_name_can_be_written_and_read_again(bytes in vec(any::<u8>(), 1..=LONGEST)) {
            let name = UnixName::abstract_name(&bytes).unwrap();
            let text = name.to_string();
            prop_assert!(text.chars().all(|letter| !letter.is_control() && letter != ','));
            prop_assert_eq!(text.parse(), Ok(name));
            if let Ok(path) = UnixName::of_path(&bytes) {
                prop_assert_eq!(path.to_string().parse(), Ok(path));
            }
        }

        #[test]
        fn any_text_is_read_or_refused_and_what_is_read_is_shown_as_itself(text in "unix:@?(\\PC|\\\\x[0-9a-f]{2}){0,120}") {
            if let Ok(name) = text.parse::<UnixName>() {
                prop_assert_eq!(name.to_string().parse(), Ok(name));
            }
        }
    }
}
