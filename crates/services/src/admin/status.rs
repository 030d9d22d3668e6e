//! What an answer begins with.
#![forbid(unsafe_code)]

/// How a request went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Ok,
    /// It lets nobody in.
    NotReady,
    NotFound,
    /// One that is known, and not for what is here.
    Method,
    /// A method or a coding that is not known.
    Unknown,
    Malformed,
    /// No request here has a body.
    Body,
    TargetTooLong,
    FieldsTooLarge,
    Version,
}

impl Status {
    /// Its number and what that is called: RFC 9110, section 15; RFC 6585, section 5.
    pub(super) fn line(self) -> &'static str {
        match self {
            Status::Ok => "200 OK",
            Status::NotReady => "503 Service Unavailable",
            Status::NotFound => "404 Not Found",
            Status::Method => "405 Method Not Allowed",
            Status::Unknown => "501 Not Implemented",
            Status::Malformed => "400 Bad Request",
            Status::Body => "413 Content Too Large",
            Status::TargetTooLong => "414 URI Too Long",
            Status::FieldsTooLarge => "431 Request Header Fields Too Large",
            Status::Version => "505 HTTP Version Not Supported",
        }
    }
}
