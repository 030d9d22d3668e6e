//! The head of a request: RFC 9112, sections 2 to 5. `httparse` reads the lines; here is what they may say.
//!
//! Whether the bytes came one by one or all at once makes no difference.

use httparse::{EMPTY_HEADER, Error, Header};

use crate::{fields::Fields, framing::Framing, status::Status};

/// The longest head, in bytes.
pub const LONGEST: usize = 8 << 10;
/// The most fields in one.
pub const MOST_FIELDS: usize = 64;

/// What the first unread bytes are.
#[derive(Debug, PartialEq, Eq)]
pub enum Head<'a> {
    /// The beginning of a head.
    Partial,
    /// A head of this length, in bytes.
    Whole(usize, Request<'a>),
    /// No head, or none behind which it is known where the next one begins: the connection is at its end.
    Wrong(Status),
}

/// What a head says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    /// The method, in the case in which it was sent: `get` is not `GET`.
    pub method: &'a str,
    /// The target, as it was sent.
    pub target: &'a str,
    /// All fields.
    pub fields: Fields<'a>,
    /// Where the body ends.
    pub body: Framing,
    /// Another request may follow.
    pub stays: bool,
    /// Whoever asks sends the body when it is told that it is wanted ([`Status::CONTINUE`]), or after a while.
    pub waits: bool,
}

/// Where the fields of a head are kept while it is looked at.
#[derive(Debug)]
pub struct Room<'a>([Header<'a>; MOST_FIELDS]);

impl Room<'_> {
    /// Room for the most fields there may be.
    pub fn new() -> Self {
        Self([EMPTY_HEADER; MOST_FIELDS])
    }
}

impl Default for Room<'_> {
    fn default() -> Self {
        Self::new()
    }
}

/// Reads the first head in `bytes`.
pub fn read<'a>(bytes: &'a [u8], room: &'a mut Room<'a>) -> Head<'a> {
    let bytes = &bytes[..bytes.len().min(LONGEST)];
    let mut request = httparse::Request::new(&mut room.0);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) if has_bare_line_feed(&bytes[..length]) => {
            Head::Wrong(Status::BAD_REQUEST)
        }
        Ok(httparse::Status::Complete(length)) => match understand(request) {
            Ok(request) => Head::Whole(length, request),
            Err(status) => Head::Wrong(status),
        },
        Ok(httparse::Status::Partial) if bytes.len() < LONGEST => Head::Partial,
        Ok(httparse::Status::Partial) if bytes.trim_ascii_start().contains(&b'\n') => {
            Head::Wrong(Status::FIELDS_TOO_LARGE)
        }
        Ok(httparse::Status::Partial) => Head::Wrong(Status::URI_TOO_LONG),
        Err(Error::TooManyHeaders) => Head::Wrong(Status::FIELDS_TOO_LARGE),
        Err(Error::Version) => Head::Wrong(Status::VERSION),
        Err(_) => Head::Wrong(Status::BAD_REQUEST),
    }
}

/// Some take it for the end of a line, and some do not.
fn has_bare_line_feed(head: &[u8]) -> bool {
    let before = std::iter::once(&b' ').chain(head);
    head.iter().zip(before).any(|(&byte, &before)| byte == b'\n' && before != b'\r')
}

fn understand<'a>(request: httparse::Request<'a, 'a>) -> Result<Request<'a>, Status> {
    let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version) else {
        return Err(Status::BAD_REQUEST);
    };
    let (fields, is_1_1) = (Fields(request.headers), version == 1);
    let hosts = fields.all("host").count();
    if hosts > 1 || is_1_1 && hosts == 0 {
        return Err(Status::BAD_REQUEST);
    }
    let body = Framing::of(fields, is_1_1)?;
    let waits = match fields.all("expect").next().filter(|_| is_1_1) {
        None => false,
        Some(_) if fields.only("expect").is_some_and(|it| it.eq_ignore_ascii_case(b"100-continue")) => true,
        Some(_) => return Err(Status::EXPECTATION_FAILED),
    };
    let stays = is_1_1 && !fields.says("connection", "close");
    Ok(Request { method, target, fields, body, stays, waits })
}

impl<'a> Request<'a> {
    /// The path of the target and what stands behind its question mark, of a target in origin-form or in absolute-form
    /// (RFC 9112, section 3.2). None of any other: it names nothing that is here.
    pub fn path(&self) -> Option<(&'a str, Option<&'a str>)> {
        let scheme = "http://";
        let target = match self.target.get(..scheme.len()) {
            Some(begin) if begin.eq_ignore_ascii_case(scheme) => {
                let rest = &self.target[scheme.len()..];
                rest.find(['/', '?']).map_or("/", |at| &rest[at..])
            }
            _ => self.target,
        };
        let (path, query) =
            target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        match path {
            "" => Some(("/", query)),
            _ => path.starts_with('/').then_some((path, query)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `bytes` are, if that is no whole head; and else what `look` sees in it.
    fn look<T>(bytes: impl AsRef<[u8]>, look: impl FnOnce(Request<'_>) -> T) -> Result<T, Option<Status>> {
        match read(bytes.as_ref(), &mut Room::new()) {
            Head::Whole(length, request) => {
                assert_eq!(length, bytes.as_ref().len());
                Ok(look(request))
            }
            Head::Partial => Err(None),
            Head::Wrong(status) => Err(Some(status)),
        }
    }

    /// A request of HTTP/1.1 for `/`, with these fields.
    fn with(fields: &str) -> String {
        format!("GET / HTTP/1.1\r\nHost: x\r\n{fields}\r\n")
    }

    #[test]
    fn a_target_is_a_path_in_two_forms() {
        for (target, path) in [
            ("/metrics", Some(("/metrics", None))),
            ("/a?name[]=x?y", Some(("/a", Some("name[]=x?y")))),
            ("/a?", Some(("/a", Some("")))),
            ("http://x/readyz", Some(("/readyz", None))),
            ("HTTP://[::1]:9/a?b", Some(("/a", Some("b")))),
            ("http://x", Some(("/", None))),
            ("http://x?a", Some(("/", Some("a")))),
            ("/http://x", Some(("/http://x", None))),
            ("*", None),
            ("x:80", None),
        ] {
            let said = look(format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n"), |request| {
                request.path().map(|(path, query)| (path.to_owned(), query.map(str::to_owned)))
            });
            assert_eq!(
                said,
                Ok(path.map(|(path, query): (&str, Option<&str>)| (path.into(), query.map(Into::into)))),
                "{target}"
            );
        }
    }

    #[test]
    fn who_says_close_or_speaks_the_older_version_is_answered_once() {
        let stays = |head: &str| look(head, |request| request.stays);
        assert_eq!(stays(&with("")), Ok(true));
        assert_eq!(stays(&with("Connection: keep-alive, x\r\n")), Ok(true));
        assert_eq!(stays(&with("Connection: x,\t CLOSE \r\n")), Ok(false));
        assert_eq!(stays(&with("Connection: x\r\nConnection: close\r\n")), Ok(false));
        assert_eq!(stays("GET / HTTP/1.0\r\n\r\n"), Ok(false));
        assert_eq!(stays("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"), Ok(false));
    }

    #[test]
    fn a_host_is_named_once_and_by_the_older_version_perhaps() {
        let wrong = |head| look(head, |_| ()) == Err(Some(Status::BAD_REQUEST));
        assert!(wrong("GET / HTTP/1.1\r\n\r\n") && wrong("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"));
        assert!(!wrong("GET / HTTP/1.0\r\n\r\n") && !wrong("GET / HTTP/1.0\r\nHost: a\r\n\r\n"));
    }

    #[test]
    fn who_waits_to_be_told_says_so_in_one_way() {
        let waits = |fields| look(with(fields), |request| request.waits);
        assert_eq!((waits(""), waits("Expect: 100-Continue\r\n")), (Ok(false), Ok(true)));
        for fields in ["Expect: x\r\n", "Expect: \r\n", "Expect: 100-continue\r\nExpect: 100-continue\r\n"] {
            assert_eq!(waits(fields), Err(Some(Status::EXPECTATION_FAILED)), "{fields}");
        }
        let older = look("GET / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n", |request| request.waits);
        assert_eq!(older, Ok(false));
    }

    #[test]
    fn what_is_no_request_and_other_versions_are_told_apart() {
        for (head, status) in [
            ("\0", Status::BAD_REQUEST),
            ("GET  / HTTP/1.1\r\n", Status::BAD_REQUEST),
            ("GET / HTTP/2.0\r\n", Status::VERSION),
            ("GET / HTTP/1.1\r\nHost : x\r\n\r\n", Status::BAD_REQUEST),
            ("GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n", Status::BAD_REQUEST),
            ("GET / HTTP/1.1\r\nHost: x\r\na: b\rc\r\n\r\n", Status::BAD_REQUEST),
            ("GET / HTTP/1.1\r\nHost: x\r\na: b\0\r\n\r\n", Status::BAD_REQUEST),
            ("\u{16}\u{3}\u{1}", Status::BAD_REQUEST),
        ] {
            assert_eq!(look(head, |_| ()), Err(Some(status)), "{head:?}");
        }
    }

    #[test]
    fn a_line_ends_in_both_bytes_wherever_it_is() {
        let lines = ["GET / HTTP/1.1", "Host: x", "a: b", ""];
        for bare in 0..lines.len() {
            let end = |number| if number == bare { "\n" } else { "\r\n" };
            let head: String =
                lines.iter().enumerate().flat_map(|(number, line)| [*line, end(number)]).collect();
            assert_eq!(look(&head, |_| ()), Err(Some(Status::BAD_REQUEST)), "{head:?}");
        }
        assert_eq!(look(lines.join("\r\n") + "\r\n", |_| ()), Ok(()));
        assert_eq!(
            look("\r\n".to_owned() + &lines.join("\r\n") + "\r\n", |_| ()),
            Ok(()),
            "a line before it"
        );
    }

    #[test]
    fn a_head_is_as_long_as_it_may_be_and_no_longer() {
        let padded = |length: usize| with(&format!("x: {}\r\n", "y".repeat(length - with("x: \r\n").len())));
        let said = |head: &str| look(head, |_| ());
        assert_eq!(said(&padded(LONGEST)), Ok(()));
        let long = padded(LONGEST + 1);
        assert_eq!(said(&long), Err(Some(Status::FIELDS_TOO_LARGE)));
        assert_eq!(said(&long[..LONGEST]), Err(Some(Status::FIELDS_TOO_LARGE)));
        assert_eq!(said(&long[..LONGEST - 1]), Err(None));
        assert_eq!(said(&format!("GET /{}", "x".repeat(LONGEST))), Err(Some(Status::URI_TOO_LONG)));
        assert_eq!(said(&with(&"a: b\r\n".repeat(MOST_FIELDS - 1))), Ok(()));
        assert_eq!(said(&with(&"a: b\r\n".repeat(MOST_FIELDS))), Err(Some(Status::FIELDS_TOO_LARGE)));
    }
}
