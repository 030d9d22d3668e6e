//! Addresses on the command line: numbers, names that stand for several, and Unix sockets.

use std::{
    fmt,
    io::{self, ErrorKind},
    net::{SocketAddr, TcpStream, ToSocketAddrs},
    time::Duration,
};

use rustix::net::sockopt::set_socket_linger;

use roadstead::{
    Address,
    address::{UnixName, is_unix},
};

use crate::outcome::Result;

/// `HOST:PORT`, `unix:PATH` or `unix:@NAME`, as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place(String);

/// How long one of several addresses is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

impl Place {
    /// All addresses that it stands for, each once, in the order of the system's preference.
    pub(crate) fn all(&self) -> Result<Vec<Address>> {
        match is_unix(&self.0) {
            true => Ok(vec![self.0.parse::<UnixName>()?.into()]),
            false => Ok(self.all_ip()?.into_iter().map(Address::from).collect()),
        }
    }

    fn all_ip(&self) -> Result<Vec<SocketAddr>> {
        if is_unix(&self.0) {
            return Err(format!("{self} is a Unix socket, and an address HOST:PORT is needed here").into());
        }
        let unknown = |error: io::Error| format!("no address is known for {self}: {error}");
        let mut all = Vec::new();
        for address in self.0.to_socket_addrs().map_err(unknown)? {
            if !all.contains(&address) {
                all.push(address);
            }
        }
        if all.is_empty() {
            return Err(format!("no address is known for {self}").into());
        }
        Ok(all)
    }

    /// The first address of IP that it stands for.
    pub(crate) fn first(&self) -> Result<SocketAddr> {
        Ok(self.all_ip()?[0])
    }

    /// The first of its addresses at which somebody listens. One that is alone is not tried: whoever connects to it is
    /// told.
    pub(crate) fn reached(&self) -> Result<Address> {
        let all = self.all()?;
        if let [one] = &all[..] {
            return Ok(one.clone());
        }
        let all: Vec<_> = all.iter().filter_map(Address::socket).collect();
        let reached =
            first_reached(&all, try_one).map_err(|why| format!("cannot connect to {self}: {why}"))?;
        Ok(reached.into())
    }
}

/// All addresses that `places` stand for, each once.
pub(crate) fn all(places: &[Place]) -> Result<Vec<Address>> {
    let mut all = Vec::new();
    for address in places.iter().map(Place::all).collect::<Result<Vec<_>>>()?.concat() {
        if !all.contains(&address) {
            all.push(address);
        }
    }
    Ok(all)
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Tries each in order; if all fail, what came of each.
fn first_reached(
    all: &[SocketAddr],
    try_one: impl Fn(SocketAddr) -> io::Result<()>,
) -> std::result::Result<SocketAddr, String> {
    let mut failed = Vec::new();
    for &address in all {
        match try_one(address) {
            Ok(()) => return Ok(address),
            Err(error) => {
                tracing::info!(%address, %error, "not reached; the name's next address is tried");
                failed.push(format!("{address}: {error}"));
            }
        }
    }
    Err(failed.join("; "))
}

fn try_one(address: SocketAddr) -> io::Result<()> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    if stream.local_addr()? == address {
        // Nobody listens there, and the system has chosen that very port for us.
        return Err(ErrorKind::ConnectionRefused.into());
    }
    // Nobody keeps anything of it.
    Ok(set_socket_linger(&stream, Some(Duration::ZERO))?)
}

/// Reads an address such as `127.0.0.1:7007` or `[::1]:7007`, a name with a port, or `unix:` with a path or `@` and a
/// name. Whether it is known is asked later.
pub(crate) fn place(text: &str) -> std::result::Result<Place, String> {
    if is_unix(text) {
        let name = text.parse::<UnixName>().map_err(|why| format!("`{text}` is no Unix socket: {why}"));
        return name.map(|_| Place(text.to_owned()));
    }
    let is_name = |host: &str| {
        let fits = |letter: char| letter.is_ascii_alphanumeric() || "-._".contains(letter);
        !host.is_empty() && host.chars().all(fits)
    };
    let named =
        text.rsplit_once(':').is_some_and(|(host, port)| is_name(host) && port.parse::<u16>().is_ok());
    if named || text.parse::<SocketAddr>().is_ok() {
        return Ok(Place(text.to_owned()));
    }
    Err(format!(
        "`{text}` is not an address HOST:PORT, such as 127.0.0.1:7007, [::1]:7007 or localhost:7007, nor unix:PATH"
    ))
}

/// Reads three addresses between commas.
pub(crate) fn three(text: &str) -> std::result::Result<[Place; 3], String> {
    let places = text.split(',').map(place).collect::<std::result::Result<Vec<Place>, String>>()?;
    let count = places.len();
    places.try_into().map_err(|_| format!("there are three servers, not {count}"))
}

/// Three addresses, each found as `find` does it.
pub(crate) fn find_three<A>(places: &[Place; 3], find: impl Fn(&Place) -> Result<A>) -> Result<[A; 3]> {
    let [a, b, c] = places;
    Ok([find(a)?, find(b)?, find(c)?])
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn an_address_is_a_number_or_a_name_with_a_port() {
        for right in [
            "127.0.0.1:0",
            "[::1]:7",
            "localhost:65535",
            "a-b.example.org:80",
            "x_y:1",
            "unix:/run/x",
            "unix:x",
            "unix:@x",
        ] {
            assert_eq!(place(right).unwrap().to_string(), right);
        }
        for wrong in [
            "",
            ":7",
            "localhost",
            "localhost:",
            "localhost:x",
            "localhost:65536",
            "::1:7",
            "a b:7",
            "[::1]",
            "a/b:7",
        ] {
            let said = place(wrong).unwrap_err();
            assert!(said.starts_with(&format!("`{wrong}` is not an address HOST:PORT")), "{said}");
        }
    }

    #[test]
    fn a_name_stands_for_its_addresses_and_one_that_nobody_knows_is_told() {
        let number = place("127.0.0.1:7").unwrap();
        let expected: SocketAddr = "127.0.0.1:7".parse().unwrap();
        assert_eq!((number.all().unwrap(), number.first().unwrap()), (vec![expected.into()], expected));
        assert_eq!(
            number.reached().unwrap(),
            expected.into(),
            "whoever connects is told that nobody listens"
        );
        let local = place("localhost:7").unwrap().all_ip().unwrap();
        assert!(local.iter().all(|address| address.ip().is_loopback() && address.port() == 7), "{local:?}");
        let said = place("not..known:7").unwrap().all().unwrap_err().to_string();
        assert!(said.starts_with("no address is known for not..known:7: ") && !said.contains('\n'), "{said}");
    }

    #[test]
    fn a_unix_socket_stands_for_itself_and_is_no_address_of_ip() {
        for (text, name) in [
            ("unix:/run/x,y", UnixName::at("/run/x,y").unwrap()),
            ("unix:@x", UnixName::abstract_name(b"x").unwrap()),
        ] {
            let place = place(text).unwrap();
            let name = Address::from(name);
            assert_eq!((place.all().unwrap(), place.reached().unwrap()), (vec![name.clone()], name));
            let said = place.first().unwrap_err().to_string();
            assert_eq!(said, format!("{text} is a Unix socket, and an address HOST:PORT is needed here"));
        }
        let long = format!("unix:/{}", "x".repeat(107));
        for (wrong, why) in [
            ("unix:", "a Unix socket is named by a path or @NAME, and this is empty"),
            ("unix:a\\z", "a backslash begins \\xHH, a byte as two hexadecimal digits, or is written twice"),
            (&long, "a Unix socket's name has at most 107 bytes, and this has 108: choose a shorter one"),
        ] {
            assert_eq!(place(wrong).unwrap_err(), format!("`{wrong}` is no Unix socket: {why}"));
        }
    }

    #[test]
    fn the_first_that_is_reached_is_taken_and_else_each_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let there = listener.local_addr().unwrap();
        let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert_eq!(first_reached(&[gone, there], try_one), Ok(there));
        assert_eq!(first_reached(&[there, gone], try_one), Ok(there));
        let said = first_reached(&[gone, gone], try_one).unwrap_err();
        let each = format!("{gone}: Connection refused (os error 111)");
        assert_eq!(said, format!("{each}; {each}"));
    }

    #[test]
    fn three_addresses_keep_their_order_and_any_other_number_is_told() {
        let [a, b, c] = ["127.0.0.1:3", "[::1]:1", "localhost:2"];
        assert_eq!(three(&[a, b, c].join(",")), Ok([a, b, c].map(|text| place(text).unwrap())));
        assert_eq!(three(&[a, b].join(",")).unwrap_err(), "there are three servers, not 2");
        assert_eq!(three(&[a, b, c, a].join(",")).unwrap_err(), "there are three servers, not 4");
        assert!(three(&format!("{a},{b},")).unwrap_err().starts_with("`` is not an address"));
        assert!(
            three(&format!("{a},localhost,{b}")).unwrap_err().starts_with("`localhost` is not an address")
        );
        let found = find_three(&three("127.0.0.1:1,127.0.0.1:2,127.0.0.1:3").unwrap(), Place::first).unwrap();
        assert_eq!(found.map(|address| address.port()), [1, 2, 3]);
    }
}
