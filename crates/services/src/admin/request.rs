//! What is asked for: the head of one request of HTTP/1.0 or 1.1 (RFC 9112), which has no body.
//!
//! `httparse` reads the lines. Here is what they may say: how long they may be, which methods there are, and whether
//! the connection lives on. Whether the bytes came one by one or all at once makes no difference.
#![forbid(unsafe_code)]

use httparse::{EMPTY_HEADER, Error, Header};

use super::status::Status;

/// The longest head, in bytes.
pub(super) const LONGEST: usize = 8 << 10;
/// The most fields in one.
const FIELDS: usize = 64;

/// What the first unread bytes are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Head<'a> {
    /// The beginning of a head.
    Partial,
    /// A head of this length.
    Whole(usize, Request<'a>),
    /// Nothing that another request could follow.
    Wrong(Status),
}

/// One request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request<'a> {
    /// What is to be shown; or why nothing is, whatever the path.
    pub(super) path: Result<&'a str, Status>,
    /// Only the head of the answer is asked for.
    pub(super) head_only: bool,
    /// Another request may follow.
    pub(super) stays: bool,
    /// OpenMetrics is understood.
    pub(super) openmetrics: bool,
}

/// Reads the first head in `bytes`.
pub(super) fn read(bytes: &[u8]) -> Head<'_> {
    let bytes = &bytes[..bytes.len().min(LONGEST)];
    let mut fields = [EMPTY_HEADER; FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => match understand(&request) {
            Ok(request) => Head::Whole(length, request),
            Err(status) => Head::Wrong(status),
        },
        Ok(httparse::Status::Partial) if bytes.len() < LONGEST => Head::Partial,
        Ok(httparse::Status::Partial) if bytes.trim_ascii_start().contains(&b'\n') => {
            Head::Wrong(Status::FieldsTooLarge)
        }
        Ok(httparse::Status::Partial) => Head::Wrong(Status::TargetTooLong),
        Err(Error::TooManyHeaders) => Head::Wrong(Status::FieldsTooLarge),
        Err(Error::Version) => Head::Wrong(Status::Version),
        Err(_) => Head::Wrong(Status::Malformed),
    }
}

fn understand<'a>(request: &httparse::Request<'_, 'a>) -> Result<Request<'a>, Status> {
    let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version) else {
        return Err(Status::Malformed);
    };
    let fields = &*request.headers;
    let hosts = values(fields, "host").count();
    if hosts > 1 || version == 1 && hosts == 0 {
        return Err(Status::Malformed);
    }
    // Where a body would end is no more looked for than what is in it.
    if values(fields, "transfer-encoding").next().is_some() {
        return Err(Status::Unknown);
    }
    let has_body = values(fields, "content-length").any(|length| length.trim_ascii() != b"0");
    let method = match method {
        "GET" | "HEAD" if has_body => return Err(Status::Body),
        "GET" | "HEAD" => Ok(()),
        "POST" | "PUT" | "DELETE" | "CONNECT" | "OPTIONS" | "TRACE" | "PATCH" => Err(Status::Method),
        _ => Err(Status::Unknown),
    };
    let closes = values(fields, "connection").flat_map(|value| value.split(|&byte| byte == b','));
    let closes = closes.map(<[u8]>::trim_ascii).any(|word| word.eq_ignore_ascii_case(b"close"));
    Ok(Request {
        path: method.and_then(|()| path(target).ok_or(Status::Malformed)),
        head_only: request.method == Some("HEAD"),
        stays: version == 1 && !closes && !has_body,
        openmetrics: values(fields, "accept").any(takes_openmetrics),
    })
}

/// The values of the fields of this name, which is lower case.
fn values<'a>(fields: &[Header<'a>], name: &'static str) -> impl Iterator<Item = &'a [u8]> {
    fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
}

/// Of a target in origin-form or in absolute-form, without the query.
fn path(target: &str) -> Option<&str> {
    let scheme = "http://";
    let path = match target.get(..scheme.len()) {
        Some(begin) if begin.eq_ignore_ascii_case(scheme) => {
            let rest = &target[scheme.len()..];
            rest.find(['/', '?']).map_or("/", |at| &rest[at..])
        }
        _ => target,
    };
    let path = path.split('?').next().unwrap_or_default();
    match path {
        "" => Some("/"),
        _ => path.starts_with('/').then_some(path),
    }
}

/// Whether a list of media types has that of OpenMetrics, and does not rule it out.
fn takes_openmetrics(accept: &[u8]) -> bool {
    accept.split(|&byte| byte == b',').any(|range| {
        let mut parts = range.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
        let named =
            parts.next().is_some_and(|name| name.eq_ignore_ascii_case(b"application/openmetrics-text"));
        let never = |part: &[u8]| {
            let weight = part.strip_prefix(b"q=").or_else(|| part.strip_prefix(b"Q="));
            weight.is_some_and(|weight| weight.iter().all(|byte| b"0.".contains(byte)))
        };
        named && !parts.any(never)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str) -> Request<'_> {
        match read(text.as_bytes()) {
            Head::Whole(length, request) if length == text.len() => request,
            other => panic!("{text:?}: {other:?}"),
        }
    }

    /// A request of HTTP/1.1 for `/`, with these fields.
    fn with(method: &str, fields: &str) -> String {
        format!("{method} / HTTP/1.1\r\nHost: x\r\n{fields}\r\n")
    }

    #[test]
    fn a_target_is_a_path_in_any_form_and_its_query_is_nothing() {
        for (target, path) in [
            ("/metrics", Ok("/metrics")),
            ("/metrics?name[]=x?y", Ok("/metrics")),
            ("http://x/readyz", Ok("/readyz")),
            ("HTTP://[::1]:9/a?b", Ok("/a")),
            ("http://x", Ok("/")),
            ("http://x?a", Ok("/")),
            ("/http://x", Ok("/http://x")),
            ("*", Err(Status::Malformed)),
            ("x:80", Err(Status::Malformed)),
        ] {
            assert_eq!(whole(&format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n")).path, path, "{target}");
        }
    }

    #[test]
    fn a_method_is_known_allowed_or_neither() {
        assert!(whole(&with("GET", "")).path.is_ok() && !whole(&with("GET", "")).head_only);
        assert!(whole(&with("HEAD", "")).path.is_ok() && whole(&with("HEAD", "")).head_only);
        for method in ["POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"] {
            assert_eq!(whole(&with(method, "")).path, Err(Status::Method), "{method}");
        }
        for method in ["get", "BREW", "GETT"] {
            assert_eq!(whole(&with(method, "")).path, Err(Status::Unknown), "{method}");
        }
    }

    #[test]
    fn who_says_close_or_speaks_the_older_version_is_answered_once() {
        let stays = |text: &str| whole(text).stays;
        assert!(stays(&with("GET", "")) && stays(&with("GET", "Connection: keep-alive, x\r\n")));
        assert!(!stays(&with("GET", "Connection: x,\t CLOSE \r\n")));
        assert!(!stays(&with("GET", "Connection: x\r\nConnection: close\r\n")));
        assert!(
            !stays("GET / HTTP/1.0\r\n\r\n") && !stays("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        );
    }

    #[test]
    fn a_body_is_refused_in_whatever_way_its_length_is_said_and_nothing_follows_it() {
        let wrong = |text: String| match read(text.as_bytes()) {
            Head::Wrong(status) => Some(status),
            _ => None,
        };
        assert_eq!(wrong(with("GET", "Content-Length: 0\r\n")), None);
        for length in ["1", "00", "x", "-1", "0, 0", ""] {
            assert_eq!(wrong(with("GET", &format!("Content-Length: {length}\r\n"))), Some(Status::Body));
        }
        assert_eq!(wrong(with("GET", "Content-Length: 0\r\nContent-Length: 5\r\n")), Some(Status::Body));
        assert_eq!(wrong(with("GET", "Transfer-Encoding: chunked\r\n")), Some(Status::Unknown));
        assert!(!whole(&with("POST", "Content-Length: 5\r\n")).stays);
    }

    #[test]
    fn a_host_is_named_once_and_by_the_older_version_perhaps() {
        let wrong = |text: &str| read(text.as_bytes()) == Head::Wrong(Status::Malformed);
        assert!(wrong("GET / HTTP/1.1\r\n\r\n") && wrong("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"));
        assert!(!wrong("GET / HTTP/1.0\r\n\r\n") && !wrong("GET / HTTP/1.0\r\nHost: a\r\n\r\n"));
    }

    #[test]
    fn what_is_no_request_and_other_versions_are_told_apart() {
        for (text, status) in [
            ("\0", Status::Malformed),
            ("GET  / HTTP/1.1\r\n", Status::Malformed),
            ("GET / HTTP/2.0\r\n", Status::Version),
            ("GET / HTTP/1.1\r\nHost : x\r\n\r\n", Status::Malformed),
            ("GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n", Status::Malformed),
            ("\u{16}\u{3}\u{1}", Status::Malformed),
        ] {
            assert_eq!(read(text.as_bytes()), Head::Wrong(status), "{text:?}");
        }
    }

    #[test]
    fn a_head_is_as_long_as_it_may_be_and_no_longer() {
        let padded = |length: usize| {
            let bare = with("GET", "x: \r\n").len();
            with("GET", &format!("x: {}\r\n", "y".repeat(length - bare)))
        };
        assert!(matches!(read(padded(LONGEST).as_bytes()), Head::Whole(LONGEST, _)));
        let long = padded(LONGEST + 1);
        assert_eq!(read(long.as_bytes()), Head::Wrong(Status::FieldsTooLarge));
        assert_eq!(read(&long.as_bytes()[..LONGEST]), Head::Wrong(Status::FieldsTooLarge));
        assert_eq!(read(&long.as_bytes()[..LONGEST - 1]), Head::Partial);
        let target = format!("GET /{}", "x".repeat(LONGEST));
        assert_eq!(read(target.as_bytes()), Head::Wrong(Status::TargetTooLong));
        let many = with("GET", &"a: b\r\n".repeat(FIELDS - 1));
        assert!(matches!(read(many.as_bytes()), Head::Whole(..)));
        let more = with("GET", &"a: b\r\n".repeat(FIELDS));
        assert_eq!(read(more.as_bytes()), Head::Wrong(Status::FieldsTooLarge));
    }

    #[test]
    fn openmetrics_is_for_who_names_it_and_does_not_rule_it_out() {
        let takes = |accept: &str| whole(&with("GET", &format!("Accept: {accept}\r\n"))).openmetrics;
        let prometheus =
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1";
        for (accept, taken) in [
            (prometheus, true),
            ("Application/OpenMetrics-Text", true),
            ("text/plain, application/openmetrics-text ; q=0.001", true),
            ("application/openmetrics-text;q=0", false),
            ("application/openmetrics-text;q=0.0", false),
            ("*/*", false),
            ("text/plain", false),
        ] {
            assert_eq!(takes(accept), taken, "{accept}");
        }
        assert!(!whole(&with("GET", "")).openmetrics);
        assert!(whole(&with("GET", "Accept: a/b\r\nAccept: application/openmetrics-text\r\n")).openmetrics);
    }
}
