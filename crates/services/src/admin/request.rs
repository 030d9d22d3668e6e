//! What is asked for: one request of HTTP, which has no body.
#![forbid(unsafe_code)]

use roadstead_http::{Framing, Request, Status};

/// One request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked<'a> {
    /// What is to be shown; or why nothing is, whatever the path.
    pub(super) path: Result<&'a str, Status>,
    /// Only the head of the answer is asked for.
    pub(super) head_only: bool,
    /// Another request may follow.
    pub(super) stays: bool,
    /// OpenMetrics is understood.
    pub(super) openmetrics: bool,
}

impl<'a> Asked<'a> {
    /// What a request asks for.
    ///
    /// # Errors
    /// [`Status`] where nothing is to follow it.
    pub(super) fn by(request: &Request<'a>) -> Result<Self, Status> {
        let has_body = request.body != Framing::Length(0);
        let method = match request.method {
            "GET" | "HEAD" if has_body => return Err(Status::CONTENT_TOO_LARGE),
            "GET" | "HEAD" => Ok(()),
            "POST" | "PUT" | "DELETE" | "CONNECT" | "OPTIONS" | "TRACE" | "PATCH" => {
                Err(Status::METHOD_NOT_ALLOWED)
            }
            _ => Err(Status::NOT_IMPLEMENTED),
        };
        let path = request.path().map(|(path, _)| path).ok_or(Status::BAD_REQUEST);
        Ok(Self {
            path: method.and(path),
            head_only: request.method == "HEAD",
            stays: request.stays && !has_body,
            openmetrics: request.fields.list("accept").any(is_openmetrics),
        })
    }
}

/// Whether a range of media types is that of OpenMetrics, and does not rule it out.
fn is_openmetrics(range: &[u8]) -> bool {
    let mut parts = range.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
    let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(b"application/openmetrics-text"));
    let never = |part: &[u8]| {
        let weight = part.strip_prefix(b"q=").or_else(|| part.strip_prefix(b"Q="));
        weight.is_some_and(|weight| weight.iter().all(|byte| b"0.".contains(byte)))
    };
    named && !parts.any(never)
}

#[cfg(test)]
mod tests {
    use roadstead_http::{Head, Room, read};

    use super::*;

    /// What is asked for by a request of HTTP/1.1 with these fields, as `look` sees it.
    fn asked<T>(
        method: &str,
        target: &str,
        fields: &str,
        look: impl FnOnce(Asked<'_>) -> T,
    ) -> Result<T, Status> {
        let text = format!("{method} {target} HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
        match read(text.as_bytes(), &mut Room::new()) {
            Head::Whole(_, request) => Asked::by(&request).map(look),
            other => panic!("{text:?}: {other:?}"),
        }
    }

    #[test]
    fn a_method_is_known_allowed_or_neither() {
        let said = |method| asked(method, "/", "", |asked| (asked.path.err(), asked.head_only)).unwrap();
        assert_eq!((said("GET"), said("HEAD")), ((None, false), (None, true)));
        for method in ["POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"] {
            assert_eq!(said(method).0, Some(Status::METHOD_NOT_ALLOWED), "{method}");
        }
        for method in ["get", "BREW", "GETT"] {
            assert_eq!(said(method).0, Some(Status::NOT_IMPLEMENTED), "{method}");
        }
    }

    #[test]
    fn a_query_is_nothing_and_what_is_no_path_is_no_request() {
        let path = |target| asked("GET", target, "", |asked| asked.path.map(str::to_owned)).unwrap();
        assert_eq!(path("/metrics?name[]=x"), Ok("/metrics".to_owned()));
        assert_eq!(path("*"), Err(Status::BAD_REQUEST));
    }

    #[test]
    fn a_body_is_refused_and_nothing_follows_one() {
        let get = |fields| asked("GET", "/", fields, |asked| asked.stays);
        assert_eq!((get(""), get("Content-Length: 0\r\n")), (Ok(true), Ok(true)));
        for fields in ["Content-Length: 1\r\n", "Transfer-Encoding: chunked\r\n"] {
            assert_eq!(get(fields), Err(Status::CONTENT_TOO_LARGE), "{fields}");
        }
        assert_eq!(asked("POST", "/", "Content-Length: 5\r\n", |asked| asked.stays), Ok(false));
    }

    #[test]
    fn openmetrics_is_for_who_names_it_and_does_not_rule_it_out() {
        let takes = |accept: &str| {
            asked("GET", "/", &format!("Accept: {accept}\r\n"), |asked| asked.openmetrics).unwrap()
        };
        let prometheus =
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1";
        for (accept, taken) in [
            (prometheus, true),
            ("Application/OpenMetrics-Text", true),
            ("text/plain, application/openmetrics-text ; q=0.001", true),
            ("a/b\r\nAccept: application/openmetrics-text", true),
            ("application/openmetrics-text;q=0", false),
            ("application/openmetrics-text;q=0.0", false),
            ("*/*", false),
            ("text/plain", false),
        ] {
            assert_eq!(takes(accept), taken, "{accept}");
        }
        assert_eq!(asked("GET", "/", "", |asked| asked.openmetrics), Ok(false));
    }
}
